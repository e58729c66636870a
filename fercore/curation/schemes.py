"""Label schemes of a workspace: built-in ones and those made here, their guidelines, example faces and maps.

A version "name@N" never changes: every act makes version N+1, and nothing here touches a vote.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fercore import schemes
from fercore.domain import Permission, Person, slug
from fercore.errors import BadInput, Conflict, NotFound
from fercore.schemes import CANNOT_TELL, CLASSES, FER8, FLAGS, RESERVED_KEYS, SCHEMES, LabelClass, Scheme
from fercore.store import Store
from fercore.store import schemes as table

FLAG_GUIDELINES = "flags"  # stands for a scheme where the guidelines of the flags are meant
EXAMPLES = 8  # example faces a class
KEYS = tuple(k for k in (*(f"Key{c}" for c in "QWERTYUIOPASDFGHJKLZXCVBNM"), *(f"Digit{n}" for n in range(1, 10)), "Semicolon", "Quote", "Comma",
                         "Period", "BracketLeft", "BracketRight") if k not in {*RESERVED_KEYS, *(key for _, key in FLAGS.values())})
COLOURS = tuple(dict.fromkeys(c.colour for c in CLASSES.values()))
_NOT_A_CLASS = {CANNOT_TELL, "unknown", "non_face", "yes", "no"}  # values that votes take beside class ids


# ---- reading --------------------------------------------------------------------------------------------------------------------


def known(store: Store) -> dict[str, Scheme]:
    """Every version of every scheme, built-in and custom, by id."""
    return {**SCHEMES, **{s.scheme_id: s for s in _custom(store, store.revision("schemes"))}}


@lru_cache(maxsize=8)  # asked for with every answer; the revision rises with every change
def _custom(store: Store, revision: int) -> list[Scheme]:
    return table.custom(store)


def latest(store: Store) -> list[Scheme]:
    """The newest version of each scheme, built-in ones first."""
    return list({s.slug: s for s in known(store).values()}.values())


def find(store: Store, scheme_id: str) -> Scheme:
    """A version by its id, or the newest one by the name alone. Raises: NotFound."""
    found = {**{s.slug: s for s in latest(store)}, **known(store)}
    if scheme_id not in found:
        raise NotFound("Unknown scheme", f"{scheme_id!r} is not in this workspace", f"Choose one of {', '.join(known(store))}")
    return found[scheme_id]


def values_of(store: Store, field: str) -> frozenset[str]:
    """As `fercore.schemes.values_of`, with the custom schemes: every class ever asked for on `field`. Raises: NotFound."""
    return schemes.values_of(field, _custom(store, store.revision("schemes")))


def history(store: Store, scheme_id: str) -> pd.DataFrame:
    """Who made which version when, newest first: scheme_id, recorded_at (UTC), person, role, authentication, act; empty for a built-in scheme."""
    return table.history(store, find(store, scheme_id).slug)


# ---- making versions ------------------------------------------------------------------------------------------------------------


def create(store: Store, actor: Person, name: str, classes: Sequence[LabelClass | str]) -> Scheme:
    """Makes a scheme with a field of its own. A class given by name takes a free key and colour, or those of the built-in class of that name.

    Raises:
        NotAllowed: the actor may not change schemes. BadInput: the name is taken, or what is wrong with which class.
    """
    actor.require(Permission.SCHEMES)
    short = _free(store, name)
    made: list[LabelClass] = []
    for given in classes:
        made.append(given if isinstance(given, LabelClass) else _class(given, made))
    return _append(store, actor, Scheme(f"{short}@1", short, " ".join(name.split()), tuple(made)), f"created with {', '.join(c.name for c in made)}")


def copy(store: Store, actor: Person, scheme_id: str, name: str, *, keep_field: bool = False, only: Sequence[str] = ()) -> Scheme:
    """Copies a scheme with its guidelines, or the classes `only` of it. With `keep_field` its answers are answers to the same question.

    Raises:
        NotAllowed; NotFound: the scheme or a class of `only`. BadInput: as `create`.
    """
    actor.require(Permission.SCHEMES)
    base, short = find(store, scheme_id), _free(store, name)
    classes = tuple(base[i] for i in only) or base.classes
    made = Scheme(f"{short}@1", base.field if keep_field else short, " ".join(name.split()), classes)
    return _append(store, actor, made, f"copied from {base.scheme_id}", guidelines_of=base.slug)


def add_class(store: Store, actor: Person, scheme_id: str, name: str, *, class_id: str | None = None, colour: str | None = None,
              keys: Sequence[str] = ()) -> Scheme:
    """Adds a class at the end. Raises: as `create`; Conflict: `scheme_id` is built in or no longer the newest version."""
    base = _base(store, actor, scheme_id)
    new = _class(name, base.classes)
    new = dataclasses.replace(new, class_id=class_id or new.class_id, colour=colour or new.colour, keys=tuple(keys) or new.keys)
    return _append(store, actor, _next(base, (*base.classes, new)), f"added {new.name} ({new.class_id})")


def rename_class(store: Store, actor: Person, scheme_id: str, class_id: str, name: str) -> Scheme:
    """Shows a class under another name; its id, and so its votes, stay. Raises: as `add_class`; NotFound: the class."""
    base = _base(store, actor, scheme_id)
    old, name = base[class_id], " ".join(name.split())
    return _append(store, actor, _next(base, tuple(dataclasses.replace(c, name=name) if c is old else c for c in base.classes)),
                   f"renamed {old.name} to {name} ({class_id})")


def retire_class(store: Store, actor: Person, scheme_id: str, class_id: str, *, retired: bool = True) -> Scheme:
    """Offers a class no more, or again; its votes stay and stay readable. Raises: as `rename_class`."""
    base = _base(store, actor, scheme_id)
    old = base[class_id]
    if old.retired == retired:
        raise BadInput("Nothing would change", f"{class_id} is {'retired' if retired else 'offered'} already")
    return _append(store, actor, _next(base, tuple(dataclasses.replace(c, retired=retired) if c is old else c for c in base.classes)),
                   f"{'retired' if retired else 'offers again'} {old.name} ({class_id})")


def reorder(store: Store, actor: Person, scheme_id: str, class_ids: Sequence[str]) -> Scheme:
    """Puts the offered classes in another order. Raises: as `add_class`; BadInput: not exactly the offered classes."""
    base = _base(store, actor, scheme_id)
    if sorted(class_ids) != sorted(base.ids):
        raise BadInput("Not an order of the classes", f"{', '.join(class_ids)} is not each of {', '.join(base.ids)} once")
    retired = tuple(c for c in base.classes if c.retired)
    return _append(store, actor, _next(base, (*(base[i] for i in class_ids), *retired)), f"ordered {', '.join(class_ids)}")


def _free(store: Store, name: str) -> str:
    short = slug(name)
    if len(short) > 40:
        raise BadInput("The name is too long", f"{name[:40]!r}... has {len(short)} characters", "Use at most 40")
    taken = {part for s in known(store).values() for part in (s.slug, s.field)} | {FLAG_GUIDELINES}
    if short in taken or short.replace("-", "_") in taken:
        raise BadInput("The name is taken", f"{short!r} is a scheme or a field of this workspace", "Choose another name")
    return short


def _base(store: Store, actor: Person, scheme_id: str) -> Scheme:
    actor.require(Permission.SCHEMES)
    base = find(store, scheme_id)
    if base.scheme_id in SCHEMES:
        raise Conflict("A built-in scheme does not change", f"{base.scheme_id} is the same in every workspace", "Copy it and change the copy")
    if base != (newest := find(store, base.slug)):
        raise Conflict("There is a newer version", f"{base.scheme_id} was followed by {newest.scheme_id}", "Look at it and repeat")
    return base


def _next(base: Scheme, classes: tuple[LabelClass, ...]) -> Scheme:
    return dataclasses.replace(base, scheme_id=f"{base.slug}@{base.number + 1}", classes=classes)


def _class(name: str, beside: Sequence[LabelClass]) -> LabelClass:
    """A class by its name, with a key and a colour that none of `beside` has."""
    name = " ".join(name.split())
    class_id = re.sub(r"[^a-z0-9]+", "_", slug(name)).strip("_")
    usual = CLASSES.get(class_id, LabelClass(class_id, name, ""))
    keys, colours = {k for c in beside for k in c.keys}, {c.colour for c in beside}
    initial = f"Key{name[:1].upper()}"
    free = [*(k for k in usual.keys if k not in keys), *(k for k in (initial, *KEYS) if k in KEYS and k not in keys)]
    palette = [c for c in (usual.colour, *reversed(COLOURS)) if c and c not in colours]
    if not free or not palette:
        raise BadInput("No key or colour is free", f"{name} would need one of its own", "Retire a class, or give key and colour")
    return dataclasses.replace(usual, name=name, colour=palette[0], keys=tuple(k for k in usual.keys if k not in keys) or (free[0],))


def _append(store: Store, actor: Person, scheme: Scheme, act: str, guidelines_of: str | None = None) -> Scheme:
    _check(scheme)
    _check_field(scheme, known(store).values())
    if not table.append(store, actor, scheme, act, guidelines_of):
        raise Conflict("Somebody was faster", f"{scheme.scheme_id} exists by now", "Look at it and repeat")
    return scheme


def _check(scheme: Scheme) -> None:
    """Raises: BadInput, naming the class at fault."""

    def refuse(what: str, detail: str, remedy: str) -> None:
        raise BadInput(what, detail, remedy)

    if len(scheme.offered) < 2:
        refuse("Too few classes", f"{scheme.scheme_id} would offer {len(scheme.offered)}", "Give at least two")
    for c in scheme.classes:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", c.class_id) or c.class_id in _NOT_A_CLASS:
            refuse("The class id cannot be used", f"{c.class_id!r} of {c.name!r}", "Use letters, digits and _, and no reserved word")
        if not 1 <= len(c.name) <= 40:
            refuse("The class name cannot be used", f"{c.name[:40]!r} has {len(c.name)} characters", "Give 1 to 40")
        if not re.fullmatch(r"#[0-9A-Fa-f]{6}", c.colour):
            refuse("The colour cannot be used", f"{c.colour[:20]!r} of {c.name}", "Write it as #rrggbb")
        if not c.keys or not set(c.keys) <= set(KEYS):
            refuse("The key cannot be used", f"{', '.join(c.keys) or 'none'} of {c.name}", f"Choose from {', '.join(KEYS)}")
    for what, seen in (("id", [c.class_id for c in scheme.classes]), ("name", [c.name.casefold() for c in scheme.offered]),
                       ("colour", [c.colour.upper() for c in scheme.offered]), ("key", [k for c in scheme.offered for k in c.keys])):
        if twice := [value for value, n in Counter(seen).items() if n > 1]:
            refuse(f"The same {what} twice", twice[0], f"Every class needs its own {what}")


def _check_field(scheme: Scheme, others: Any) -> None:
    """Raises: BadInput: a scheme on the same field holds other classes without holding all of these, or being held by them."""
    mine = {c.class_id for c in scheme.classes}
    for other in others:
        theirs = {c.class_id for c in other.classes}
        if other.field == scheme.field and other.slug != scheme.slug and not (mine <= theirs or theirs <= mine):
            raise BadInput("The classes do not fit the field", f"{scheme.scheme_id} and {other.scheme_id} both ask for {scheme.field!r}, and each "
                           f"has classes that the other lacks: {', '.join(sorted(mine ^ theirs))}", "Copy the scheme with a field of its own")


# ---- maps -----------------------------------------------------------------------------------------------------------------------


class Step(BaseModel):
    """Where a class goes: to `target`, or nowhere when None. `split`: its faces must be looked at again, and `target` is only a default."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    source: str = Field(alias="from", max_length=40)
    target: str | None = Field(default=None, alias="to", max_length=40)
    split: bool = False


class _MapFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = ""
    classes: tuple[Step, ...]


@dataclasses.dataclass(frozen=True)
class SchemeMap:
    """A saved map from scheme version `source` to `target`; `mapping` gives the class, None where a face leaves or must be looked at again."""

    name: str
    source: str
    target: str
    steps: tuple[Step, ...]
    person_id: str
    recorded_at: datetime

    @property
    def mapping(self) -> dict[str, str | None]:
        return {s.source: None if s.split else s.target for s in self.steps}


def read_map(data: dict[str, Any]) -> tuple[str, tuple[Step, ...]]:
    """(name, steps) of the mapping {name, classes: [{from, to, split}, ...]} of a file. Raises: BadInput, naming the key at fault."""
    try:
        read = _MapFile.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput("The map cannot be used", f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
                       "Write classes: as a list of {from: sad, to: bored, split: true}; to: null drops a class") from error
    return read.name, read.classes


def kinds(steps: Sequence[Step]) -> list[str]:
    """same, rename, merge, split or drop, for each step."""
    shared = Counter(s.target for s in steps if not s.split)
    return ["split" if s.split else "drop" if s.target is None else "merge" if shared[s.target] > 1 else "same" if s.target == s.source else "rename"
            for s in steps]


def map_preview(store: Store, actor: Person, source: str, target: str, steps: Sequence[Step]) -> pd.DataFrame:
    """What a map would mean for the faces of this workspace. Nothing is changed.

    Returns:
        A row for each class of `source`, retired ones too: class, to, kind ("unmapped" without a step), needs_relabel, and distinct faces:
        decided (by annotators), given (by a source), faces (of that class now: decided, else given), moved, relabel, dropped, unmapped, the
        last four adding up to `faces`. A face whose copies carry different given labels counts with each.

    Raises:
        NotAllowed; NotFound: a scheme. BadInput: an unknown class, or a class mapped twice.
    """
    actor.require(Permission.READ_RESULTS)
    a, b = _mapped(store, source, target, steps)
    found = table.counts(store, a.field, [c.class_id for c in a.classes], _given(a))
    by_class = {s.source: (s, kind) for s, kind in zip(steps, kinds(steps), strict=True)}
    rows = []
    for c in a.classes:
        step, kind = by_class.get(c.class_id, (None, "unmapped"))
        decided, given, faces = found[c.class_id]
        end = {"split": "relabel", "drop": "dropped", "unmapped": "unmapped"}.get(kind, "moved")
        rows.append({"class": c.class_id, "to": b[step.target].class_id if step and step.target else None, "kind": kind,
                     "needs_relabel": kind == "split", "decided": decided, "given": given, "faces": faces,
                     **{column: faces if column == end else 0 for column in ("moved", "relabel", "dropped", "unmapped")}})
    return pd.DataFrame(rows)


def cell(store: Store, actor: Person, scheme_id: str, class_id: str, limit: int = 60) -> list[str]:
    """Sample ids of faces whose class is `class_id` now, as `map_preview` counts them. Raises: NotAllowed, NotFound."""
    actor.require(Permission.READ_RESULTS)
    scheme = find(store, scheme_id)
    return table.cell(store, scheme.field, scheme[class_id].class_id, _given(scheme), limit)


def save_map(store: Store, actor: Person, name: str, source: str, target: str, steps: Sequence[Step]) -> SchemeMap:
    """Saves a map under a name that is never used again. Votes are not touched.

    Raises:
        NotAllowed; NotFound; BadInput: as `map_preview`, no name, or no step. Conflict: the name is taken.
    """
    actor.require(Permission.SCHEMES)
    a, b = _mapped(store, source, target, steps)
    if not steps:
        raise BadInput("The map is empty", f"No class of {a.scheme_id} goes anywhere", "Map at least one")
    short = slug(name)
    if not table.append_map(store, actor, short, a.scheme_id, b.scheme_id, [s.model_dump() for s in steps]):
        raise Conflict("The name is taken", f"{short!r} is a map of this workspace", "Choose another name")
    return next(m for m in maps(store) if m.name == short)


def maps(store: Store) -> list[SchemeMap]:
    """Saved maps, newest first."""
    return [SchemeMap(name, a, b, tuple(Step(**s) for s in steps), who, at) for name, a, b, steps, who, at in table.maps(store)]


def _mapped(store: Store, source: str, target: str, steps: Sequence[Step]) -> tuple[Scheme, Scheme]:
    a, b = find(store, source), find(store, target)
    for scheme, ids, which in ((a, [c.class_id for c in a.classes], [s.source for s in steps]),
                               (b, list(b.ids), [s.target for s in steps if s.target is not None])):
        if unknown := [i for i in which if i not in ids]:
            raise BadInput("Unknown class", f"{unknown[0]!r} is not offered by {scheme.scheme_id}", f"Choose one of {', '.join(ids)}")
    if twice := [i for i, n in Counter(s.source for s in steps).items() if n > 1]:
        raise BadInput("A class is mapped twice", f"{twice[0]} of {a.scheme_id}", "Give it one target, or mark it as split")
    return a, b


def _given(scheme: Scheme) -> list[str]:
    """The classes a source's label can stand for: sources answer "expression", so that their "happy" is no answer to another question."""
    return [c.class_id for c in scheme.classes if scheme.field == "expression" or c.class_id not in FER8.ids]


# ---- guidelines and examples ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Guideline:
    """What to look for. `number` counts the versions written in this workspace; 0 is the built-in text, by nobody."""

    text: str
    number: int = 0
    person: str = ""


def guidelines(store: Store, scheme_id: str) -> dict[str, Guideline]:
    """The guideline of every class, and of "cannot_tell"; of the flags when `scheme_id` is "flags". Raises: NotFound."""
    short, ids = _guided(store, scheme_id)
    written = table.guidelines(store, short)
    return {i: Guideline(*written[i]) if i in written else Guideline(schemes.guideline_of(short, i)) for i in ids}


def write_guideline(store: Store, actor: Person, scheme_id: str, class_id: str, text: str) -> None:
    """Replaces the guideline of a class in all versions of a scheme; earlier texts are kept.

    Raises:
        NotAllowed; NotFound: scheme or class. BadInput: empty, or longer than 1,000 characters.
    """
    actor.require(Permission.SCHEMES)
    short, ids = _guided(store, scheme_id)
    if class_id not in ids:
        raise NotFound("Unknown class", f"{class_id!r} is not in {scheme_id}", f"Choose one of {', '.join(ids)}")
    if not 1 <= len(text.strip()) <= 1000:
        raise BadInput("The guideline cannot be used", f"It has {len(text.strip()):,} characters", "Write 1 to 1,000")
    table.append_guideline(store, actor, short, class_id, text.strip())


def _guided(store: Store, scheme_id: str) -> tuple[str, list[str]]:
    if scheme_id == FLAG_GUIDELINES:
        return FLAG_GUIDELINES, list(FLAGS)
    scheme = find(store, scheme_id)
    return scheme.slug, [*(c.class_id for c in scheme.classes), CANNOT_TELL]


def choose_examples(store: Store, actor: Person, scheme_id: str) -> dict[str, int]:
    """Chooses up to 8 example faces a class, by agreement: >= 9 of 10 imported votes, then two or more annotators with one answer, then gold.

    All versions of the scheme share them; choosing anew puts the earlier ones aside.

    Returns:
        Faces chosen for each offered class, 0 where nobody agrees on one yet.

    Raises:
        NotAllowed: the actor may not plan. NotFound. BadInput: there is no agreed face at all.
    """
    actor.require(Permission.PLAN)
    scheme = find(store, scheme_id)
    chosen = table.agreed(store, scheme.field, scheme.ids, EXAMPLES)
    if chosen.empty:
        raise BadInput("No face is agreed on yet", f"Nothing in this workspace shows a class of {scheme.scheme_id} beyond doubt",
                       "Mark gold faces, import votes (FER+), or let two annotators label the same faces; then choose again")
    table.choose_examples(store, actor, scheme, chosen)
    return {i: int((chosen["value"] == i).sum()) for i in scheme.ids}


def examples(store: Store, actor: Person, scheme_id: str) -> pd.DataFrame:
    """The example faces (image_id, value, sample_id, gray48); nothing else of them is told. Raises: NotAllowed, NotFound."""
    actor.require(Permission.LABEL)
    return table.examples(store, find(store, scheme_id).slug)


def example_images(store: Store, scheme_id: str) -> list[str]:
    """Images that must not be handed out for a first vote on this scheme's field: all that ever were examples of a scheme on it.

    Raises:
        NotFound: the scheme.
    """
    field = find(store, scheme_id).field
    return table.shown_examples(store, sorted({s.slug for s in known(store).values() if s.field == field}))


def practice_set(store: Store, person: Person, scheme_id: str, n: int = 20) -> pd.DataFrame:
    """Up to `n` example faces to practise on, balanced over the offered classes: image_id, gray48, accept (list of right values).

    The draw depends on the person and on the rounds of `n` practice answers they have given, so a reload brings the same faces.

    Raises:
        NotAllowed: the person may not label. NotFound: the scheme. BadInput: `n` is less than 1.
    """
    person.require(Permission.LABEL)
    if n < 1:
        raise BadInput("Nothing to practise", f"{n} faces were asked for", "Ask for one or more")
    scheme = find(store, scheme_id)
    rounds = table.practiced(store, person, scheme.field) // n
    return table.practice(store, scheme, scheme.ids, f"{person.person_id}/{scheme.slug}/{rounds}", n)
