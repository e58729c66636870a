"""The recipe document: what a dataset version is made of, in the order in which it is done. YAML or JSON, every mistake named with its line."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from itertools import combinations, permutations
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fercore.audit.checks import KINDS
from fercore.curation.rules import FOCUS4, RULES, DecisionRule, Votes, focus4
from fercore.errors import BadInput
from fercore.ingest.files import Marked, read_marked, read_text
from fercore.schemes import AGE_BANDS, CANNOT_TELL, FLAGS, GENDERS, SCHEMES, TRANSFORMS
from fercore.versions.expression import Condition

_GROUPS = {"age_band": (*AGE_BANDS.ids, CANNOT_TELL), "gender": (*GENDERS.ids, CANNOT_TELL)}
_SAID = {"gone": "no longer in its source", "marked": "left out by people"}


def _known(kind: str, value: str, allowed: Iterable[str]) -> str:
    if value not in allowed:
        raise ValueError(f"unknown {kind} {value!r}: choose from {', '.join(allowed)}")
    return value


class _Contradiction(ValueError):
    """Two parts of a recipe exclude each other; `keys` lead to the second."""

    def __init__(self, keys: tuple[str | int, ...], why: str) -> None:
        super().__init__(why)
        self.keys = keys


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Quality(_Part):
    """Faces whose measure is below or above a bound; the measure is mean, sd, or another one of the audit."""

    measure: str = Field(min_length=1)
    below: float | None = Field(default=None, allow_inf_nan=False)
    above: float | None = Field(default=None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _bounded(self) -> "Quality":
        if self.below is None and self.above is None:
            raise ValueError("give a bound: below, above, or both")
        if self.below is not None and self.above is not None and self.below > self.above:
            raise ValueError(f"contradictory: nothing is neither below {self.below:g} nor above {self.above:g}")
        return self


class Exclude(_Part):
    """Leaves faces out: one condition, and the reason as it is shown (by default made from the condition).

    Attributes:
        gone: its file is no longer in its source. marked: people left it out, with a reason. flag: people flagged it.
        finding: the audit found it. votes: a condition on its votes, such as "unknown >= 5", among the votes `of`.
        tag: perceived age band or gender. quality: a measure outside bounds. samples: these sample ids.
    """

    gone: Literal[True] | None = None
    marked: Literal[True] | None = None
    flag: str | None = None
    finding: str | None = None
    votes: str | None = None
    of: Votes = "imported"
    tag: dict[Literal["age_band", "gender"], str] | None = Field(default=None, min_length=1)
    quality: Quality | None = None
    samples: tuple[str, ...] | None = Field(default=None, min_length=1)
    reason: str = Field(default="", max_length=100)

    @field_validator("flag")
    @classmethod
    def _flag(cls, value: str | None) -> str | None:
        return value and _known("flag", value, FLAGS)

    @field_validator("finding")
    @classmethod
    def _finding(cls, value: str | None) -> str | None:
        return value and _known("finding", value, KINDS)

    @field_validator("votes")
    @classmethod
    def _votes(cls, value: str | None) -> str | None:
        return value and Condition(value).text

    @field_validator("tag")
    @classmethod
    def _tag(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        for name, group in (value or {}).items():
            _known(name, group, _GROUPS[name])
        return value

    @model_validator(mode="after")
    def _one(self) -> "Exclude":
        if len(found := self._conditions()) != 1:
            raise ValueError(f"give one condition, not {' and '.join(found) or 'none'}: choose from {', '.join(CONDITIONS)}")
        return self

    def _conditions(self) -> list[str]:
        return [c for c in CONDITIONS if getattr(self, c) is not None]

    @property
    def kind(self) -> str:
        return self._conditions()[0]

    @property
    def said(self) -> str:
        """The reason as it stands in the manifest."""
        if self.reason or self.kind in _SAID:
            return self.reason or _SAID[self.kind]
        if self.quality:
            bounds = [f"{word} {bound:g}" for word, bound in (("below", self.quality.below), ("above", self.quality.above)) if bound is not None]
            return f"{self.quality.measure} {' or '.join(bounds)}"
        if self.tag:
            return "tagged " + ", ".join(self.tag.values()).replace("_", " ")
        return {"flag": f"flagged {self.flag}", "finding": f"audit: {KINDS.get(str(self.finding), '')}", "votes": f"votes: {self.votes}",
                "samples": "picked by hand"}[self.kind].replace("_", " " if self.kind == "flag" else "_")


CONDITIONS = tuple(n for n in Exclude.model_fields if n not in ("of", "reason"))


class Labels(_Part):
    """Where labels come from, and what they are called in the scheme.

    Attributes:
        take: `given` by the source; `current`: what people decided, else given; `votes`: by a rule.
        rule: named rule of fercore.curation.rules over `votes`. order, anger_over: of focus4@1 (see there).
        map: class to class of the scheme; null leaves it out. What is not named stays what it is.
    """

    take: Literal["given", "current", "votes"] = "current"
    rule: str | None = None
    votes: Votes = "imported"
    order: tuple[str, ...] = FOCUS4
    anger_over: int = 2
    map: dict[str, str | None] = {}

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        if isinstance(data, dict) and "rule" in data:
            return {"take": "votes", **data}
        return {"take": data} if isinstance(data, str) else data

    @field_validator("rule")
    @classmethod
    def _rule(cls, value: str | None) -> str | None:
        return value and _known("rule", value, RULES)

    @field_validator("map")
    @classmethod
    def _straight(cls, value: dict[str, str | None]) -> dict[str, str | None]:
        for first, second in value.items():
            chain = [first]
            while (last := value.get(chain[-1], chain[-1])) is not None and last not in chain:
                chain.append(last)
            if last in chain[:-1]:
                raise ValueError(f"circular: {' to '.join([*chain, str(last)])}")
            if second is not None and value.get(second, second) != second:
                raise ValueError(f"contradictory: {first} becomes {second}, and {second} becomes {value[second]}")
        return value

    @model_validator(mode="after")
    def _complete(self) -> "Labels":
        if (self.take == "votes") != (self.rule is not None):
            raise ValueError("labels from votes need a rule, and only they: choose from " + ", ".join(RULES))
        if self.rule != "focus4@1" and (self.order, self.anger_over) != (FOCUS4, 2):
            raise ValueError("order and anger_over belong to the rule focus4@1")
        if sorted(self.order) != sorted(FOCUS4) or self.anger_over < 0:
            raise ValueError(f"order must name each of {', '.join(FOCUS4)} once")
        return self

    def decision(self) -> DecisionRule:
        return focus4(self.order, self.anger_over) if self.rule == "focus4@1" else RULES[str(self.rule)]


class Transform(_Part):
    """An edit of the pixels in the version; the store keeps the face as it came.

    Attributes:
        do: `marked` makes the edits that people asked for, `standardise` gives every face the same mean and spread, the rest are edits by name.
        flag, finding: only of these faces.
    """

    do: str
    flag: str | None = None
    finding: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        return {"do": "marked" if data == "brighten" else data} if isinstance(data, str) else data  # "brighten": what recipes before called it

    @model_validator(mode="after")
    def _named(self) -> "Transform":
        _known("edit", self.do, ("marked", "standardise", *TRANSFORMS))
        if self.flag:
            _known("flag", self.flag, FLAGS)
        if self.finding:
            _known("finding", self.finding, KINDS)
        if self.do == "marked" and (self.flag or self.finding):
            raise ValueError("marked is of the faces that people marked: give it no flag or finding")
        return self


class Split(_Part):
    """Who is trained on and who evaluated; identical faces are never parted.

    Attributes:
        by: `source` maps the source's own splits by `source_splits`; `ratios` draws stratified groups; `folds` trains on all, in `folds` parts.
        validation_share: of the training groups that becomes val where no source split maps to it.
        folds: parts of the rows of train and val, each stratified; 0 makes none.
    """

    by: Literal["source", "ratios", "folds"] = "source"
    source_splits: dict[str, Literal["train", "val", "test"]] = {
        "Training": "train", "PublicTest": "test", "PrivateTest": "test", "train": "train", "val": "val", "valid": "val", "validation": "val",
        "test": "test"}
    ratios: tuple[float, float, float] = (0.7, 0.15, 0.15)
    validation_share: float = Field(default=0.1, gt=0, lt=0.5)
    folds: int = Field(default=0, ge=0, le=50)

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        return {"by": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _consistent(self) -> "Split":
        if not all(r > 0 for r in self.ratios):
            raise ValueError("ratios must be numbers above 0")
        if abs(sum(self.ratios) - 1) > 1e-9:
            raise ValueError(f"ratios must sum to 1, not {sum(self.ratios):g}")
        if self.folds == 1 or (self.by == "folds" and not self.folds):
            raise ValueError("folds must be 2 or more")
        return self


class Candidates(_Part):
    """Faces that are in the version only where a target needs them: of these sources, and these sample ids."""

    sources: tuple[str, ...] = ()
    samples: tuple[str, ...] = ()


class Target(_Part):
    """How many training faces a class, or a group in a class, has. Evaluation keeps its faces.

    Attributes:
        where: the group: age_band, gender or source_id. classes: of these; empty means of each class.
        at_least: the fewest, made up from `candidates`; at_most: the most, chosen by the seed.
        by: `rows` adds and leaves out faces; `weight` lets those that are there count more or less. Where several weigh a face, the last does.
        candidates: sources, and sample ids (a pool), that are in the version only where a target needs them.
    """

    where: dict[Literal["age_band", "gender", "source_id"], str] = {}
    classes: tuple[str, ...] = ()
    at_least: int | None = Field(default=None, ge=1)
    at_most: int | None = Field(default=None, ge=1)
    by: Literal["rows", "weight"] = "rows"
    candidates: Candidates = Candidates()

    @model_validator(mode="after")
    def _possible(self) -> "Target":
        if self.at_least is None and self.at_most is None:
            raise ValueError("give at_least, at_most, or both")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"contradictory: at least {self.at_least} and at most {self.at_most}")
        for name, group in self.where.items():
            if name != "source_id":
                _known(name, group, _GROUPS[name])
        if self.by == "weight" and (self.candidates.sources or self.candidates.samples):
            raise ValueError("a target by weight adds no faces: leave candidates out")
        return self

    def named(self, class_id: str) -> str:
        return " ".join([*self.where.values(), class_id]).replace("_", " ")


class Published(_Part):
    """How many faces a publication says are left after a step; -1 = after the last one."""

    after: str
    faces: int
    note: str = ""


class Recipe(_Part):
    """How a version is made: the keys are done in this order. Unknown keys are refused.

    Attributes:
        sources: source ids; empty means all.
        exclude: which faces are left out and why; the first reason that applies stands.
        labels: where labels come from (see Labels), also short: given, current.
        scheme: id of the scheme that labels must belong to; faces with another label are left out.
        drop_conflicting: identical faces with different labels are all left out.
        duplicates: `keep_one` of each group of identical faces, or `keep_all` in one split.
        near_duplicates: faces that the audit found to be the same photograph again stay in one split, too.
        transforms: edits of pixels, in this order.
        split: see Split, also short: source, ratios.
        targets: how many faces a class or group has in training.
        votes: the version carries how many people chose each class of the scheme, for training on soft labels.
        seed: of every draw.
        title, about, published: for people; no part of the version.
        format: of the manifest.
    """

    sources: tuple[str, ...] = ()
    exclude: tuple[Exclude, ...] = (Exclude(gone=True), Exclude(flag="non_face"), Exclude(marked=True))
    labels: Labels = Labels()
    scheme: str = "fer7@1"
    drop_conflicting: bool = True
    duplicates: Literal["keep_one", "keep_all"] = "keep_one"
    near_duplicates: bool = False
    transforms: tuple[Transform, ...] = ()
    split: Split = Split()
    targets: tuple[Target, ...] = ()
    votes: bool = False
    seed: int = 0
    title: str = Field(default="", exclude=True)
    about: str = Field(default="", exclude=True)
    published: tuple[Published, ...] = Field(default=(), exclude=True)
    format: Literal[2] = 2

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, data: Any) -> Any:
        """Keys of recipes of before, put where they are now."""
        if not isinstance(data, dict) or not data.keys() & _FLAT:
            return data
        data = dict(data)
        split = {"by": data["split"]} if isinstance(data.get("split"), str) else data.get("split", {})
        inside = {k: data.pop(k) for k in ("source_splits", "ratios", "validation_share") if k in data}
        if inside and isinstance(split, dict):
            data["split"] = {**split, **inside}
        if data.keys() & _FLAT:
            flags, more = data.pop("exclude_flags", ("non_face",)), data.get("exclude", ())
            if not (isinstance(flags, list | tuple) and isinstance(more, list | tuple)):
                raise ValueError("exclude_flags and exclude must be lists")
            first, last = ([{word: True}] if data.pop(key, True) else [] for key, word in (("drop_gone", "gone"), ("drop_excluded", "marked")))
            data["exclude"] = [*first, *({"flag": f} for f in flags), *last, *more]
        return data

    @field_validator("scheme")
    @classmethod
    def _scheme(cls, value: str) -> str:
        if value in (s.scheme_id for s in (AGE_BANDS, GENDERS)) or not re.fullmatch(r"[\w-]+@[1-9]\d*", value):
            raise ValueError(f"scheme must be a scheme of expressions, name@N: {', '.join(SCHEME_IDS)}, or one of the workspace")
        return value

    @model_validator(mode="after")
    def _no_contradiction(self) -> "Recipe":
        rules = [e.model_dump(exclude={"reason"}) for e in self.exclude]
        for first, second in combinations(range(len(rules)), 2):
            if rules[first] == rules[second]:
                raise _Contradiction(("exclude", second), f"repeats exclude {first + 1}")
        for place, edit in enumerate(self.transforms):
            if any((edit.flag and e.flag == edit.flag) or (edit.finding and e.finding == edit.finding) for e in self.exclude):
                raise _Contradiction(("transforms", place), f"contradictory: {edit.do} edits what {edit.flag or edit.finding} excludes")
        picked = {i for e in self.exclude for i in e.samples or ()}
        for place, target in enumerate(self.targets):
            if both := picked & set(target.candidates.samples):
                raise _Contradiction(("targets", place), f"contradictory: {min(both)} is picked to be excluded, and a candidate")
            if target.candidates.sources and (not self.sources or set(self.sources) & set(target.candidates.sources)):
                raise _Contradiction(("targets", place), "candidates come from a source that the recipe takes whole: name the others under sources")
            if target.at_least and any(e.tag and e.tag.items() <= target.where.items() for e in self.exclude):
                raise _Contradiction(("targets", place), f"contradictory: asks for {' '.join(target.where.values())}, whom an exclusion leaves out")
        for fewest, most in permutations(self.targets, 2):
            inside = most.where.items() <= fewest.where.items() and (
                not most.classes or (fewest.classes and set(fewest.classes) <= set(most.classes)) or set(fewest.classes) & set(most.classes))
            if inside and fewest.by == most.by == "rows" and (fewest.at_least or 0) > (most.at_most or math.inf):
                raise _Contradiction(("targets", self.targets.index(most)), f"contradictory: at most {most.at_most}, where at least "
                                     f"{fewest.at_least} are asked for {' '.join(fewest.where.values()) or 'a class'}")
        return self


_FLAT = {"exclude_flags", "drop_gone", "drop_excluded", "source_splits", "ratios", "validation_share"}
SCHEME_IDS = tuple(s for s in SCHEMES if s not in (AGE_BANDS.scheme_id, GENDERS.scheme_id))


def read_recipe(path: Path, schemes: Iterable[str] | None = SCHEME_IDS) -> Recipe:
    """As `parse_recipe`, of a file."""
    return parse_recipe(read_text(path), str(path), schemes)


def parse_recipe(text: str, name: str = "recipe", schemes: Iterable[str] | None = SCHEME_IDS) -> Recipe:
    """A recipe from YAML or JSON. `schemes`: ids that it may name; None leaves that open.

    Raises:
        BadInput: what is wrong, in which line of `name`, and what is allowed.
    """
    marked = read_marked(text, name)
    _refuse_repeated(marked)
    try:
        recipe = Recipe.model_validate(marked.data)
        if schemes is not None and recipe.scheme not in schemes:
            raise _bad(marked, ("scheme",), f"unknown scheme {recipe.scheme!r}: scheme must be one of {', '.join(schemes)}")
    except ValidationError as error:
        first = error.errors()[0]
        keys = getattr(first.get("ctx", {}).get("error"), "keys", first["loc"])
        what = "unknown key" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        raise _bad(marked, keys, what, f"Allowed keys: {', '.join(_keys_at(keys[:-1]))}" if what == "unknown key" else "") from error
    return recipe


def _bad(marked: Marked, keys: Sequence[str | int], why: str, remedy: str = "") -> BadInput:
    where = ".".join(str(k + 1) if isinstance(k, int) else k for k in keys) or "recipe"
    line = marked.line(keys) if not keys or keys[0] in marked.data else marked.line(keys[-1:])
    return BadInput("The recipe cannot be used", f"{marked.name}, line {line}, {where}: {why}", remedy)


def _keys_at(keys: Sequence[str | int]) -> list[str]:
    """The keys that may stand where `keys` lead to."""
    model: type[BaseModel] = Recipe
    for key in keys:
        if isinstance(key, str):
            found: list[Any] = [model.model_fields[key].annotation]
            while found and not (isinstance(found[0], type) and issubclass(found[0], BaseModel)):
                found = [a for f in found for a in get_args(f)]
            model = found[0] if found else model
    return [k for k in model.model_fields if k != "format"]


def _refuse_repeated(marked: Marked) -> None:
    """YAML lets the last of two equal keys win in silence."""
    nodes = [marked.root] if marked.root else []
    while nodes:
        node = nodes.pop()
        if isinstance(node, yaml.MappingNode):
            seen = dict[str, int]()
            for key, value in node.value:
                line = key.start_mark.line + 1
                if key.value in seen:
                    raise BadInput("The recipe cannot be used", f"{marked.name}, line {line}: {key.value} stands in line {seen[key.value]} already")
                seen[key.value] = line
                nodes.append(value)
        elif isinstance(node, yaml.SequenceNode):
            nodes += node.value


def as_yaml(recipe: Recipe) -> str:
    """The recipe as a person reads it: what differs from the defaults, and always sources, labels, exclude, scheme and split."""
    shown = recipe.model_dump(mode="json", exclude_defaults=True)
    whole = recipe.model_dump(mode="json")
    for key in ("sources", "scheme", "seed"):
        shown[key] = whole[key]
    shown["exclude"] = [e.model_dump(mode="json", exclude_defaults=True) for e in recipe.exclude]
    shown |= {"labels": shown.get("labels", {"take": recipe.labels.take}), "split": shown.get("split", {"by": recipe.split.by})}
    texts = {k: v for k, v in (("title", recipe.title), ("about", recipe.about)) if v}
    ordered = {k: shown[k] for k in Recipe.model_fields if k in shown}
    told = {"published": [p.model_dump(exclude_defaults=True) for p in recipe.published]} if recipe.published else {}
    return str(yaml.safe_dump(texts | ordered | told, sort_keys=False, allow_unicode=True, width=120))


def stated(recipe: Recipe) -> dict[str, Any]:
    """The recipe as it stands in version.json and under the manifest hash: JSON of every key, defaults too."""
    return dict(json.loads(recipe.model_dump_json()))


def restated(said: dict[str, Any]) -> Recipe:
    """The recipe of a version.json, also of one that earlier code made. Raises: BadInput."""
    return parse_recipe(json.dumps(said), "the recipe of the version", None)
