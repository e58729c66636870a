"""What a recipe makes of samples: the rows of a manifest, and a funnel that says which step took or added which faces. Pure; no database."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fercore.curation.rules import COLUMNS, Ballots, Decisions, Votes
from fercore.errors import BadInput
from fercore.schemes import CANNOT_TELL, EXCLUSIONS, SCHEMES, Scheme
from fercore.versions import files
from fercore.versions.document import Exclude, Labels, Recipe, as_yaml, parse_recipe, read_recipe, restated, stated
from fercore.versions.expression import Condition

__all__ = ["Facts", "Made", "Recipe", "Step", "apply", "as_yaml", "make", "parse_recipe", "read_recipe", "restated", "stated"]
_RANK = {"test": 0, "val": 1, "train": 2}  # a duplicate stays where it does least harm: evaluation keeps its faces
_SPARE = "candidate that no target needs"
Mask = npt.NDArray[np.bool_]
_MADE = tuple(c for c in files.COLUMNS if c != "pixel_id")


def _absent(*_: Any) -> Any:
    raise BadInput("The recipe needs the workspace", "It asks for votes, findings or measures", "Build it in a workspace")


@dataclass(frozen=True)
class Facts:
    """What the recipes of a workspace read.

    Attributes:
        samples: by sample_id, columns as of store.samples.table.
        ballots: votes of every sample, in the order of `samples`. found: kind and sample_id of every finding.
        measure: image_id -> value. decided: image_id -> what people decided on a field. near: image_id -> group of near duplicates.
        schemes: by id.
    """

    samples: pd.DataFrame
    ballots: Callable[[Votes], Ballots] = _absent
    found: Callable[[], pd.DataFrame] = _absent
    measure: Callable[[str], "pd.Series[float]"] = _absent
    decided: Callable[[str], "pd.Series[str]"] = _absent
    near: Callable[[], "pd.Series[str]"] = _absent
    schemes: Mapping[str, Scheme] = field(default_factory=lambda: SCHEMES)


@dataclass(frozen=True)
class Step:
    """One step of the funnel: how many rows came in and went out, and the sample ids that it took away, or added or changed."""

    name: str
    before: int
    after: int
    samples: npt.NDArray[np.object_]


@dataclass(frozen=True)
class Made:
    """Attributes:
        rows: as `make` says. funnel: steps in order. missing: per target and class what is not there: target, wanted, here, missing.
    """

    rows: pd.DataFrame
    funnel: tuple[Step, ...]
    missing: tuple[dict[str, Any], ...]

    def counted(self) -> list[dict[str, Any]]:
        """The funnel without its samples, as it stands in version.json."""
        return [{"step": s.name, "before": s.before, "after": s.after} for s in self.funnel]


class _Rows:
    """The rows while steps go over them; a row with a reason is out, a spare one is out until a target needs it."""

    def __init__(self, rows: pd.DataFrame, spare: Mask) -> None:
        self.rows, self.spare, self.funnel = rows, spare, list[Step]()
        self.ids, self.images = rows["sample_id"].to_numpy(object), rows["image_id"].to_numpy(object)
        self.reason = np.full(len(rows), None, object)

    @property
    def left(self) -> Mask:
        """Rows that are in."""
        return self.sound & ~self.spare

    @property
    def sound(self) -> Mask:
        """Rows that no step took, spare ones too."""
        return pd.isna(self.reason)

    def take(self, name: str, which: npt.ArrayLike, reason: str | npt.NDArray[np.object_] | None = None) -> None:
        taken, before = self.sound & np.asarray(which, bool), int(self.left.sum())
        gone = taken & ~self.spare
        said = name if reason is None else reason
        self.reason[taken] = said if isinstance(said, str) else said[taken]
        self.funnel.append(Step(name, before, before - int(gone.sum()), self.ids[gone]))

    def mark(self, name: str, which: Mask, *, added: bool = False) -> None:
        after = int(self.left.sum())
        self.funnel.append(Step(name, after - int(which.sum()) * added, after, self.ids[which]))


def make(recipe: Recipe, facts: Facts) -> Made:
    """The manifest rows of a version, and how they came about.

    Returns:
        rows: one row a sample of the chosen sources and candidates, sorted by sample_id: the columns of a manifest but pixel_id, weight where a
        target weighs, and mean. Missing values are None. exclusion is the first reason that applies (None = included); label, split, fold,
        transform and weight of what is excluded may be None. votes are counts in class order, comma-separated.

    Raises:
        BadInput: no row is left, a source or sample is unknown, or a class of the scheme or a split would be empty.
    """
    at = _sources(recipe, facts)
    rows, scheme = at.rows, _scheme(recipe, facts)
    for rule in recipe.exclude:
        which, reason = _excluded(rule, at, facts)
        at.take(rule.said, which, reason)
    label = _labels(recipe.labels, scheme, at, facts)
    rows["label"] = label
    near = facts.near() if recipe.near_duplicates else None
    group = at.images if near is None else pd.Series(at.images).map(near).fillna(pd.Series(at.images)).to_numpy(object)
    if recipe.drop_conflicting:
        kinds = pd.Series(pd.factorize(label[at.left])[0]).groupby(at.images[at.left], sort=False).nunique()
        at.take("identical faces with different labels", _among(at.images, kinds.index[kinds > 1]))
    split = np.full(len(rows), None, object)
    if recipe.split.by == "source":
        split = rows["source_split"].map(recipe.split.source_splits).to_numpy(object)
        split[pd.isna(split)] = None
        at.take("source split not used", pd.isna(split) & ~at.spare)
    rank = pd.Series(split).map(_RANK).fillna(0).to_numpy(np.int64)
    if recipe.duplicates == "keep_one":
        here = np.flatnonzero(at.left)
        order = here[np.lexsort((rows["source_row"].to_numpy(np.int64)[here], rows["source_id"].to_numpy(str)[here], rank[here]))]
        again = np.zeros(len(rows), bool)
        again[order[pd.Series(at.images[order]).duplicated().to_numpy()]] = True
        at.take("duplicate of a kept face", again)
    if recipe.split.by == "source":
        best = pd.Series(rank[at.left]).groupby(group[at.left], sort=False).min()
        at.take("also in a split that is evaluated", at.left & (rank != pd.Series(group).map(best).fillna(-1).to_numpy()))
        if "val" not in set(split[at.left]):
            train = at.left & (split == "train")
            split[train] = _draw(group[train], label[train], (1 - recipe.split.validation_share, recipe.split.validation_share, 0.0), recipe.seed)
    elif recipe.split.by == "ratios":
        split[at.left] = _draw(group[at.left], label[at.left], recipe.split.ratios, recipe.seed)
    else:
        split[at.left] = "train"
    at.rows["duplicate_group"] = group
    weight, missing = _targets(recipe, scheme, at, label, split, group)
    split[~at.left] = None
    rows["fold"] = _folds(recipe, at, group, label, split, scheme)
    rows["split"], rows["exclusion"] = split, np.where(at.sound & at.spare, _SPARE, at.reason)
    rows["transform"] = _transforms(recipe, at, facts)
    rows["votes"] = _counts(facts, rows, scheme) if recipe.votes else None
    if weight is not None:
        rows["weight"] = weight
    at.mark("included", np.zeros(len(rows), bool))
    _complete(recipe, rows[at.left], scheme.ids)
    out = rows[[*_MADE, *(["weight"] if weight is not None else []), "mean"]]
    return Made(out.astype(object).where(out.notna(), None), tuple(at.funnel), tuple(missing))


def apply(recipe: Recipe, samples: pd.DataFrame) -> pd.DataFrame:
    """The rows alone, of a recipe that asks for neither votes, findings nor measures. Raises: as `make`."""
    return make(recipe, Facts(samples.sort_values("sample_id", ignore_index=True))).rows


def _scheme(recipe: Recipe, facts: Facts) -> Scheme:
    if recipe.scheme not in facts.schemes:
        raise BadInput("Unknown scheme", f"The recipe names {recipe.scheme!r}", f"Choose from {', '.join(facts.schemes)}")
    return facts.schemes[recipe.scheme]


def _sources(recipe: Recipe, facts: Facts) -> _Rows:
    """The rows of the chosen sources, and the candidates."""
    samples = facts.samples
    sources, ids = samples["source_id"].to_numpy(object), samples["sample_id"].to_numpy(object)
    known, candidates = set(sources), {s for t in recipe.targets for s in t.candidates.sources}
    for name in (*recipe.sources, *sorted(candidates)):
        if name not in known:
            raise BadInput("Unknown source", f"The recipe names {name!r}",
                           f"Choose from {', '.join(sorted(known)) or 'nothing: import something first'}")
    pool = {s for t in recipe.targets for s in t.candidates.samples}
    picked = {s for e in recipe.exclude for s in e.samples or ()} | pool
    if lost := picked - set(ids):
        raise BadInput("Unknown sample", f"The recipe names {min(lost)!r}, which is not in this workspace", "Take it out of the recipe")
    pooled = _among(ids, pool)
    chosen = _among(sources, recipe.sources) if recipe.sources else np.ones(len(samples), bool)
    spare = _among(sources, candidates) | pooled
    rows = samples[chosen | spare].reset_index(drop=True)
    if any(e.gone for e in recipe.exclude):
        left = rows.groupby("source_id")["gone"].all()
        if vanished := [s for s in (*recipe.sources, *sorted(candidates)) if left[s]]:
            raise BadInput("A source has vanished", f"No file of {vanished[0]!r} is in its source any more",
                           "Import it again, or take it out of the recipe")
    at = _Rows(rows, (spare & (pooled | ~chosen))[chosen | spare])
    at.funnel.append(Step("all rows of the workspace", len(samples), len(samples), np.empty(0, object)))
    at.funnel.append(Step(f"rows of {', '.join(recipe.sources)}" if recipe.sources else "rows of all sources", len(samples), int(at.left.sum()),
                          ids[~chosen | pooled]))
    return at


def _excluded(rule: Exclude, at: _Rows, facts: Facts) -> tuple[npt.ArrayLike, npt.NDArray[np.object_] | None]:
    """Which rows a rule is on, and the reason of each where it is not the same for all."""
    rows = at.rows
    match rule.kind:
        case "gone":
            return rows["gone"], None
        case "marked":
            told = rows["exclude"].notna()
            said = "excluded: " + rows["exclude"].map(lambda r: EXCLUSIONS.get(r, "several reasons").lower()).astype(object)
            return told, None if rule.reason else said.to_numpy(object)
        case "flag":
            return _flagged(rows, str(rule.flag)), None
        case "finding":
            return _found(at, facts, str(rule.finding)), None
        case "votes":
            return Condition(str(rule.votes)).holds(_tally(facts, rows, rule.of)), None
        case "tag":
            return np.logical_and.reduce([rows[name].to_numpy(object) == group for name, group in (rule.tag or {}).items()]), None
        case "samples":
            return _among(at.ids, rule.samples or ()), None
        case _:
            quality = rule.quality
            assert quality is not None
            measured = rows[quality.measure] if quality.measure in ("mean", "sd") and quality.measure in rows else pd.Series(at.images).map(
                facts.measure(quality.measure))
            values = measured.to_numpy(np.float64)
            if len(values) and np.isnan(values).all():
                raise BadInput("No such measure", f"No face has the measure {quality.measure!r}", "Run the audit first, or choose mean or sd")
            below = values < quality.below if quality.below is not None else np.zeros(len(values), bool)
            return below | (values > quality.above) if quality.above is not None else below, None


def _flagged(rows: pd.DataFrame, flag: str) -> Mask:
    flags = rows["flags"].fillna("")
    have = [f for f in flags.unique() if flag in f.split(",")]
    found: Mask = flags.isin(have).to_numpy(bool)
    return found


def _found(at: _Rows, facts: Facts, kind: str) -> Mask:
    found = facts.found()
    return _among(at.ids, found.loc[found["kind"] == kind, "sample_id"])


def _held(facts: Facts, rows: pd.DataFrame, votes: Votes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(counts [n, 10], adjudications [n]) of these rows."""
    held = facts.ballots(votes)
    place = pd.Index(held.rows["sample_id"]).get_indexer(rows["sample_id"])
    return held.counts[place], held.settled[place]


def _tally(facts: Facts, rows: pd.DataFrame, votes: Votes) -> dict[str, npt.NDArray[np.int64]]:
    counts, _ = _held(facts, rows, votes)
    return {**dict(zip(COLUMNS, counts.T, strict=True)), "total": counts.sum(axis=1), "top": counts.max(axis=1, initial=0)}


def _counts(facts: Facts, rows: pd.DataFrame, scheme: Scheme) -> list[str]:
    """Counts in class order; 0 for classes that FER+ does not ask for."""
    counts, _ = _held(facts, rows, "both")
    place = {name: i for i, name in enumerate(COLUMNS)}
    chosen = np.column_stack([counts[:, place[c]] if c in place else np.zeros(len(counts), np.int64) for c in scheme.ids])
    return [",".join(map(str, row)) for row in chosen.tolist()]


def _labels(how: Labels, scheme: Scheme, at: _Rows, facts: Facts) -> npt.NDArray[np.object_]:
    """A class id or None for each row; rows without one of the scheme are taken out."""
    rows = at.rows
    if how.take == "votes":
        made: Decisions = how.decision().apply(*_held(facts, rows, how.votes))
        label, status = made.outcomes.astype(object), made.status
        label[made.hard < 0] = None
        at.take(f"no label by {how.decision().rule_id}", pd.isna(label),
                np.array([f"no label by {how.decision().rule_id}: {s}".replace("_", " ") for s in status], object))
    else:
        label = rows["given_label" if how.take == "given" else "current_label"].to_numpy(object).copy()
        label[pd.isna(label)] = None
    if strange := {new for new in how.map.values() if new} - set(scheme.ids):
        raise BadInput("Unknown class", f"The map makes {min(strange)!r} of a class", f"Choose from {', '.join(scheme.ids)}, or null to leave it out")
    if how.map:
        label = np.array([how.map.get(x, x) if x is not None else None for x in label], object)
    if how.take == "current" and scheme.field != "expression":  # what people answered to the scheme's own question
        own = pd.Series(at.images).map(facts.decided(scheme.field)).to_numpy(object)
        told = ~pd.isna(own) & (own != CANNOT_TELL)
        label[told] = own[told]
    if how.take != "votes":
        given = rows["given_label"].isna() & rows["current_label"].isna()
        at.take("no label", pd.isna(label) & given.to_numpy(bool))
    at.take("label outside the scheme", ~_among(label, scheme.ids))
    return label


def _among(values: npt.NDArray[np.object_], wanted: Iterable[Any]) -> Mask:
    found: Mask = pd.Series(values, dtype=object).isin(list(wanted)).to_numpy(bool)
    return found


def _key(seed: int, text: str) -> str:
    """A draw that depends on the seed and this one face only, so that no other row changes it."""
    return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()


def _ordered(group: npt.NDArray[np.object_], label: npt.NDArray[np.object_], seed: int) -> dict[str, list[str]]:
    """Duplicate groups of each class (the least label of a group is its class), in the order of the draw."""
    codes, names = pd.factorize(label, sort=True)
    first = pd.Series(codes).groupby(group, sort=False).min()
    drawn = sorted((code, _key(seed, g), g) for code, g in zip(first.tolist(), first.index.to_numpy(object).tolist(), strict=True))
    out: dict[str, list[str]] = {}
    for code, _, g in drawn:
        out.setdefault(names[code], []).append(g)
    return out


def _draw(group: npt.NDArray[np.object_], label: npt.NDArray[np.object_], shares: tuple[float, float, float], seed: int) -> npt.NDArray[np.object_]:
    """A split for each row: whole duplicate groups, stratified by label, in an order that depends on seed and group only.

    A class of three groups or more has at least one in every split with a share.
    """
    split: dict[str, str] = {}
    for members in _ordered(group, label, seed).values():
        n = len(members)
        val, test = (max(round(n * share), 1 if share and n >= 3 else 0) for share in shares[1:])
        while val + test >= n > 1:  # a class is trained on before it is tested
            val, test = (val - 1, test) if val > test else (val, test - 1)
        split |= dict(zip(members, ["train"] * (n - val - test) + ["val"] * val + ["test"] * test, strict=True))
    return np.array([split[g] for g in group], object)


def _folds(recipe: Recipe, at: _Rows, group: npt.NDArray[np.object_], label: npt.NDArray[np.object_], split: npt.NDArray[np.object_],
           scheme: Scheme) -> npt.NDArray[np.object_]:
    """0 .. folds - 1 for the rows of train and val, whole duplicate groups dealt out class by class; None elsewhere."""
    out, k = np.full(len(split), None, object), recipe.split.folds
    if not k:
        return out
    here = at.left & ((split == "train") | (split == "val"))
    dealt, start = dict[str, int](), 0
    ordered = _ordered(group[here], label[here], recipe.seed)
    for name in scheme.ids:
        if len(members := ordered.get(name, [])) < k:
            raise BadInput("Too many folds", f"{name} has {len(members):,} distinct faces to train on, which cannot be in {k} folds",
                           f"Choose at most {len(members)} folds, or another scheme" if len(members) > 1 else "Loosen the exclusions")
        dealt |= {g: (start + i) % k for i, g in enumerate(members)}
        start += len(members)  # the next class begins where this one ended, so that folds are of one size
    out[here] = [dealt[g] for g in group[here]]
    return out


def _targets(recipe: Recipe, scheme: Scheme, at: _Rows, label: npt.NDArray[np.object_], split: npt.NDArray[np.object_],
             group: npt.NDArray[np.object_]) -> tuple[npt.NDArray[np.float64] | None, list[dict[str, Any]]]:
    """Adds and takes rows until the targets are met; returns weights, None where no target weighs, and what is missing."""
    missing = list[dict[str, Any]]()
    weight = np.ones(len(label)) if any(t.by == "weight" for t in recipe.targets) else None
    tie = np.array([_key(recipe.seed, i) for i in at.ids]) if recipe.targets else np.empty(0, str)
    for target in recipe.targets:
        inside = np.logical_and.reduce([np.ones(len(label), bool), *(at.rows[n].to_numpy(object) == v for n, v in target.where.items())])
        able = at.spare & inside & (_among(at.rows["source_id"].to_numpy(object), target.candidates.sources)
                                    | _among(at.ids, target.candidates.samples))
        if unknown := set(target.classes) - set(scheme.ids):
            raise BadInput("Unknown class", f"A target names {min(unknown)!r}", f"Choose from {', '.join(scheme.ids)}")
        for name in target.classes or scheme.ids:
            cell = inside & (label == name)
            here = at.left & cell & (split == "train")
            n, bound = int(here.sum()), max(target.at_least or 0, min(int(here.sum()), target.at_most or int(here.sum())))
            if weight is not None and target.by == "weight" and n:
                weight[here] = round(bound / n, 6)
            elif target.by == "rows" and n > bound:
                drop = np.flatnonzero(here)[np.argsort(tie[here])][bound:]
                at.take(f"more than {bound:,} of {target.named(name)}", np.isin(np.arange(len(label)), drop))
            elif n < bound and target.by == "rows":
                n += _add(at, able & cell & at.sound, group, split, tie, bound - n, recipe.duplicates == "keep_one", target.named(name))
            if n < bound and (target.by == "rows" or not n):
                missing.append({"target": target.named(name), "wanted": bound, "here": n, "missing": bound - n})
    if weight is not None:
        weight[~at.left] = np.nan
    return weight, missing


def _add(at: _Rows, able: Mask, group: npt.NDArray[np.object_], split: npt.NDArray[np.object_], tie: npt.NDArray[Any], wanted: int, distinct: bool,
         name: str) -> int:
    """Puts up to `wanted` of the rows that are `able` into training, but no face that is evaluated, nor one twice; returns how many."""
    evaluated = at.left & (split != "train")
    able = able & ~_among(group, group[evaluated])
    if distinct:
        able &= ~_among(at.images, at.images[at.left])
    order = np.flatnonzero(able)[np.argsort(tie[able])]
    if distinct:
        order = order[~pd.Series(at.images[order]).duplicated().to_numpy()]
    chosen = np.isin(np.arange(len(able)), order[:wanted])
    at.spare &= ~chosen
    split[chosen] = "train"
    at.mark(f"added to {name}", chosen, added=True)
    return int(chosen.sum())


def _transforms(recipe: Recipe, at: _Rows, facts: Facts) -> npt.NDArray[np.object_]:
    """The edits of each included row, joined by "+"; None without one."""
    out = np.full(len(at.ids), None, object)
    for edit in recipe.transforms:
        names = np.full(len(out), edit.do, object)
        if edit.do == "marked":
            names, which = at.rows["transform"].to_numpy(object), at.rows["transform"].notna().to_numpy(bool)
        else:
            which = np.ones(len(out), bool)
            if edit.flag:
                which &= _flagged(at.rows, edit.flag)
            if edit.finding:
                which &= _found(at, facts, edit.finding)
        which = which & at.left
        out[which] = [n if o is None else f"{o}+{n}" for o, n in zip(out[which], names[which], strict=True)]
        at.mark("edited as marked" if edit.do == "marked" else f"edited: {edit.do}", which)
    return out


def _complete(recipe: Recipe, rows: pd.DataFrame, classes: tuple[str, ...]) -> None:
    if rows.empty:
        raise BadInput("The version would be empty", "Every row is excluded by the recipe", "Loosen the exclusions")
    counts = pd.crosstab(rows["split"], rows["label"]).reindex(index=list(_RANK), columns=list(classes), fill_value=0)
    for split in ("train",) if recipe.split.by == "folds" else ("train", "val", "test"):
        if not counts.loc[split].sum():
            raise BadInput(f"The {split} split would be empty", "No row is mapped to it", "Change split, source_splits or ratios")
    for name in classes:
        if not counts.loc["train", name]:
            raise BadInput("A class would be empty", f"{name} has no training row", "Loosen the exclusions or choose another scheme")
