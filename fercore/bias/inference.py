"""Are groups treated alike? Permutation tests by duplicate group, contrasts of two groups, parity and odds per class, and several tests at once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from fercore.bias.report import Grouped
from fercore.bias.slices import CROSS, Slice, said
from fercore.errors import BadInput
from fercore.evaluation.compare import holm
from fercore.evaluation.estimate import Estimate, Floats, Ints, Masks, design_effect, difference, masked, proportion
from fercore.evaluation.metrics import bootstrapped

PERMUTATIONS = 9999


@dataclass(frozen=True)
class GroupTest:
    """"No difference of accuracy between the groups" of one attribute. p_holm, p_bh: over all attributes of the report; None with a note."""

    attribute: str
    groups: int
    n: int
    p_value: float | None
    p_holm: float | None = None
    p_bh: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Contrast:
    """Accuracy of one group minus that of another of its attribute, with a 95 % Newcombe interval. p_holm, p_bh: over all contrasts of the report;
    a contrast that was declared before looking stands alone and equals its p_value."""

    attribute: str
    first: str
    second: str
    difference: Estimate
    p_value: float | None
    p_holm: float | None = None
    p_bh: float | None = None
    declared: bool = False


@dataclass(frozen=True)
class Parity:
    """Largest differences between the groups of an attribute, one class against the rest; class_id "" is the largest over classes.

    Attributes:
        parity: demographic parity: share of faces predicted to be of the class. odds: equalised odds, the larger of the differences in true and in
            false positive rate. n of each is that of the faces behind it; all with intervals of `_largest`.
    """

    attribute: str
    class_id: str
    parity: Estimate
    true_positive: Estimate
    false_positive: Estimate
    odds: Estimate


def permutation(hits: Masks, unit: Ints, group: Ints, draws: int = PERMUTATIONS) -> float:
    """p of "the share of hits is the same in every group", by which units (duplicate groups) are dealt to the groups anew.

    The statistic is the variance of the shares between groups, weighted by rows; for two groups that is the absolute gap. Units with the same
    rows and hits are exchangeable, so a deal is a random table with the margins of groups and kinds of unit (Patefield 1981), and without
    duplicates a draw from the hypergeometric distribution. A unit belongs to the group of its first row. p counts the deal that was seen.

    Args:
        hits: bool [n]. unit: int [n], 0, 1, ... group: int [n].
    """
    from scipy.stats import random_table

    _, first, unit = np.unique(unit, return_index=True, return_inverse=True)
    rows, good = np.bincount(unit), np.bincount(unit[hits], minlength=len(first))
    kinds, kind = np.unique(rows * (len(unit) + 1) + good, return_inverse=True)
    size, right = kinds // (len(unit) + 1), kinds % (len(unit) + 1)
    names, place = np.unique(group[first], return_inverse=True)
    seen = np.bincount(place * len(kinds) + kind, minlength=len(names) * len(kinds)).reshape(len(names), -1)
    if min(seen.shape) < 2:
        return 1.0

    def statistic(tables: npt.NDArray[Any]) -> Floats:
        n = tables @ size
        return np.asarray((n * (tables @ right / n - hits.mean()) ** 2).sum(axis=-1), dtype=np.float64)

    drawn = random_table(seen.sum(axis=1), seen.sum(axis=0)).rvs(draws, random_state=np.random.default_rng(0))
    return float((1 + (statistic(drawn) >= statistic(seen) * (1 - 1e-9)).sum()) / (draws + 1))


def adjusted(p_values: Sequence[float | None]) -> tuple[list[float | None], list[float | None]]:
    """(Holm, Benjamini-Hochberg) over those that are not None."""
    from scipy.stats import false_discovery_control

    known, out = [p for p in p_values if p is not None], []
    for correct in (holm, false_discovery_control):
        corrected = iter(correct(known) if known else ())
        out.append([None if p is None else float(next(corrected)) for p in p_values])
    return out[0], out[1]


def parse_contrast(text: str) -> tuple[str, str, str]:
    """(attribute, group, group) of "age:young,senior"; the attribute may be a filter, which has a colon too. Raises: BadInput."""
    attribute, _, groups = text.rpartition(":")
    parts = [attribute.strip(), *(g.strip() for g in groups.split(","))]
    if len(parts) != 3 or not all(parts) or parts[1] == parts[2]:
        raise BadInput("A contrast names two groups of an attribute", repr(text), "Write it as age:young,senior")
    return parts[0], parts[1], parts[2]


def group_tests(found: Grouped) -> list[GroupTest]:
    """One an attribute, in the order of the table."""
    out = []
    for attribute in dict.fromkeys(s.attribute for s in found.groups):
        members = [found.shown[i] for i in found.of(attribute)]
        n = sum(s.n for s in members)
        note = "" if len(members) > 1 else "fewer than two groups to compare"
        out.append(GroupTest(attribute, len(members), n, None if note else _permuted(found, members), note=note))
    holm, bh = adjusted([t.p_value for t in out])
    return [replace(t, p_holm=a, p_bh=b) for t, a, b in zip(out, holm, bh, strict=True)]


def contrasts(found: Grouped, declared: tuple[str, str, str] | None = None) -> list[Contrast]:
    """Every pair of groups of every attribute that is not crossed, whose pairs are too many; with `declared` (attribute, first, second) that alone.
    Groups are declared by value or by the name that is shown.

    Raises:
        BadInput: the declared groups are not in the report, the same, or too small.
    """
    if declared:
        attribute, *values = declared
        pair = [next((s for s in found.groups if s.attribute == attribute and v.casefold() in (s.value.casefold(), s.name.casefold())), None)
                for v in values]
        for value, s in zip(values, pair, strict=True):
            if s is None or s.listed_only or s.n < max(1, found.minimum) or pair[0] is pair[1]:
                raise BadInput("This contrast cannot be tested", f"{value!r} of {said(attribute)} " + (
                    "is no group of this report" if s is None else "is not compared" if s.listed_only else
                    "is named twice" if pair[0] is pair[1] else masked(s.n, found.minimum).note),
                    f"Choose two of {', '.join(found.shown[i].name for i in found.of(attribute)) or 'another attribute'}")
        made = _contrast(found, *(s for s in pair if s))
        return [replace(made, p_holm=made.p_value, p_bh=made.p_value, declared=True)]
    out = []
    for attribute in dict.fromkeys(s.attribute for s in found.shown if CROSS not in s.attribute):
        members = [found.shown[i] for i in found.of(attribute)]
        out += [_contrast(found, a, b) for a, b in combinations(members, 2)]
    holm, bh = adjusted([c.p_value for c in out])
    return [replace(c, p_holm=a, p_bh=b) for c, a, b in zip(out, holm, bh, strict=True)]


def _contrast(found: Grouped, first: Slice, second: Slice) -> Contrast:
    hits, unit = found.frame["correct"].to_numpy(dtype=bool), found.frame["duplicate_group"].to_numpy(np.int64)
    shares = [proportion(hits[s.mask], np.unique(unit[s.mask], return_inverse=True)[1]) for s in (first, second)]
    return Contrast(first.attribute, first.value, second.value, difference(*shares), _permuted(found, [first, second]))


def _permuted(found: Grouped, members: Sequence[Slice]) -> float:
    masks = np.stack([s.mask for s in members])
    inside = masks.any(axis=0)
    return permutation(found.frame["correct"].to_numpy(dtype=bool)[inside], found.frame["duplicate_group"].to_numpy(np.int64)[inside],
                       masks.argmax(axis=0)[inside])


def parity(found: Grouped) -> list[Parity]:
    """For each attribute that has two groups to compare, and no class in it: the largest over classes, then each class.

    Where one of the groups has fewer than `minimum` faces of a class the true positive rate is masked; of other classes, the false positive rate;
    of either, equalised odds.
    """
    out = []
    for attribute in dict.fromkeys(s.attribute for s in found.groups if "label" not in s.attribute.split(CROSS)):
        at = found.of(attribute)
        if len(at) < 2:
            continue
        counts, drawn = found.counts[at], found.drawn[:, at]
        point, spread = _rates(counts), _rates(drawn)
        size, faces = counts.sum(axis=(1, 2)), int(counts.sum())
        of_class = counts.sum(axis=2)
        support = {"true": of_class, "false": size[:, None] - of_class, "odds": np.minimum(of_class, size[:, None] - of_class)}  # [groups, classes]
        able = {rate: n.min(axis=0) >= max(1, found.minimum) for rate, n in support.items()}
        equal = _equal(found, at)
        rows = [Parity(attribute, c, _largest(float(point["parity"][j]), spread["parity"][:, j], equal["parity"][:, j], faces), *(
            _largest(float(point[r][j]), spread[r][:, j], equal[r][:, j], n) if able[r][j] else _thin(found, at, support[r][:, j], n)
            for r, n in (("true", int(counts[:, j].sum())), ("false", faces - int(counts[:, j].sum())), ("odds", faces))))
            for j, c in enumerate(found.classes)]
        # The largest over classes is drawn as such, so that its interval knows that it was picked.
        largest = [_largest(float(point[r][which].max()), spread[r][:, which].max(axis=1), equal[r][:, which].max(axis=1), faces) if which.any()
                   else Estimate(None, None, None, faces, f"no class with n >= {found.minimum} in each group")
                   for r, which in (("parity", np.ones(len(found.classes), bool)), *able.items())]
        out += [Parity(attribute, "", *largest), *rows]
    return out


def _thin(found: Grouped, at: list[int], support: Floats, n: int) -> Estimate:
    least = int(support.argmin())
    note = f"{found.shown[at[least]].name}: {masked(int(support[least]), found.minimum).note}"
    return Estimate(None, None, None, n, note)


def _largest(value: float, drawn: Floats, equal: Floats, n: int) -> Estimate:
    """The bootstrap interval of a largest difference, which is too high by chance: it begins lower by as much as the draws are higher than the value,
    and at 0 where the value is within those of `equal` groups (97.5 %)."""
    found = bootstrapped(value, drawn, n)
    low = 0.0 if value <= np.quantile(equal, 0.975) else max(0.0, float(found.low or 0) - max(0.0, float(drawn.mean()) - value))
    return replace(found, low=low)


def _equal(found: Grouped, at: Sequence[int]) -> dict[str, Floats]:
    """Draws of what `_rates` gives for groups at `at` that all have the rates of all their faces together, [draws, classes]."""
    masks = np.stack([found.shown[i].mask for i in at])
    inside, rng = masks.any(axis=0), np.random.default_rng(0)
    frame, group = found.frame[inside], masks.argmax(axis=0)[inside]
    unit = frame["duplicate_group"].to_numpy(np.int64)

    def spread(hits: Masks, rows: Masks) -> Floats:
        if not rows.any():
            return np.zeros(len(found.drawn))
        effect = design_effect(hits[rows], np.unique(unit[rows], return_inverse=True)[1])
        size = np.maximum(1, np.bincount(group[rows], minlength=len(at)) / effect).astype(np.int64)
        return np.asarray(np.ptp(rng.binomial(size, hits[rows].mean(), (len(found.drawn), len(at))) / size, axis=1), dtype=np.float64)

    drawn: dict[str, list[Floats]] = {"parity": [], "true": [], "false": []}
    for c in found.classes:
        true, made = (frame[column].to_numpy() == c for column in ("label", "predicted"))
        for rate, rows in (("parity", np.ones(len(frame), dtype=bool)), ("true", true), ("false", ~true)):
            drawn[rate].append(spread(made, rows))
    rates = {rate: np.stack(each, axis=1) for rate, each in drawn.items()}
    return rates | {"odds": np.maximum(rates["true"], rates["false"])}


def _rates(counts: npt.NDArray[Any]) -> dict[str, Floats]:
    """Largest difference between groups of counts [..., groups, true, predicted] in each class, [..., classes]."""
    hit, true, predicted = counts.diagonal(axis1=-2, axis2=-1), counts.sum(axis=-1), counts.sum(axis=-2)
    size = true.sum(axis=-1, keepdims=True)

    def spread(above: npt.NDArray[Any], below: npt.NDArray[Any]) -> Floats:
        rate = np.divide(above, below, out=np.zeros(np.broadcast_shapes(above.shape, below.shape)), where=below > 0)
        return np.asarray(np.ptp(rate, axis=-2), dtype=np.float64)

    rates = {"parity": spread(predicted, size), "true": spread(hit, true), "false": spread(predicted - hit, size - true)}
    return rates | {"odds": np.maximum(rates["true"], rates["false"])}
