"""How a run's accuracy differs between perceived groups, in the form of the reproduced systems plus intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
import pandas as pd

from fercore.bias.slices import CROSS, SAVED, SCHEMES, SINGLE, Slice, slices
from fercore.evaluation.calibration import calibration_error
from fercore.evaluation.estimate import Estimate, Floats, codes, difference, masked, mid_p_limits, proportion, to_json
from fercore.evaluation.metrics import DRAWS, bootstrapped, over_classes, per_class, resample, scores
from fercore.evaluation.read import require_unseen

MINIMUM = 20
AVERAGE, OVERALL = "Average", "Overall System Average"
METRICS = ("accuracy", "macro_precision", "macro_recall", "macro_f1")
FIGURES = (*METRICS, "ece")


@dataclass(frozen=True)
class BiasRow:
    """One row of the table. kind: "group", "listed" (cannot tell, not tagged: in no average), "average" or "overall". ece: expected calibration
    error, of groups only."""

    attribute: str
    value: str
    group: str
    kind: str
    n: int
    accuracy: Estimate
    macro_precision: Estimate
    macro_recall: Estimate
    macro_f1: Estimate
    ece: Estimate


@dataclass(frozen=True)
class Gap:
    """The largest difference of accuracy between two groups of one attribute; no value when fewer than two can be compared."""

    attribute: str
    highest: str
    lowest: str
    difference: Estimate


@dataclass(frozen=True)
class BiasTable:
    """Rows in the order shown, and one gap an attribute. Micro P, R and F1 equal accuracy (why: see evaluation.metrics)."""

    rows: list[BiasRow]
    gaps: list[Gap]
    minimum: int

    def records(self) -> dict[str, Any]:
        """As JSON values without NaN."""
        return dict(to_json(self))

    def frame(self) -> pd.DataFrame:
        """A row per group with <metric>, <metric>_low, <metric>_high (Float64, 0-1, NA when masked), micro P, R and F1, and note (why it is
        masked, or over how many classes the macro figures run)."""
        table = pd.DataFrame([{"attribute": r.attribute, "group": r.group, "kind": r.kind, "n": r.n, "note": r.accuracy.note or r.macro_f1.note}
                              | {m + end: getattr(getattr(r, m), part) for m in FIGURES
                                 for end, part in (("", "value"), ("_low", "low"), ("_high", "high"))} for r in self.rows])
        table = table.astype({m + end: "Float64" for m in FIGURES for end in ("", "_low", "_high")})
        return table.assign(micro_precision=table["accuracy"], micro_recall=table["accuracy"], micro_f1=table["accuracy"])


@dataclass(frozen=True, eq=False)
class Grouped:
    """Predictions, their groups, and the bootstrap that every figure of a report shares.

    Attributes:
        frame: with whole numbers as duplicate_group. groups: all; shown: those of `minimum` faces or more.
        counts, drawn: confusion of `shown`, [slices, true, predicted] and [draws, slices, true, predicted] (see `metrics.resample`).
    """

    frame: pd.DataFrame
    classes: list[str]
    minimum: int
    groups: list[Slice]
    shown: list[Slice]
    counts: Floats
    drawn: Floats

    def of(self, attribute: str) -> list[int]:
        """Positions in `shown` of the groups of an attribute that are compared: no "cannot tell", no "not tagged"."""
        return [i for i, s in enumerate(self.shown) if s.attribute == attribute and not s.listed_only]


def grouped(frame: pd.DataFrame, classes: Sequence[str], by: Sequence[str] = ("age_band", "gender"), minimum: int = MINIMUM,
            draws: int = DRAWS) -> Grouped:
    """Raises: as `bias_table`."""
    require_unseen(frame)
    frame = frame.assign(duplicate_group=codes(frame["duplicate_group"]))
    groups = slices(frame, by)
    shown = [s for s in groups if s.n >= max(1, minimum)]
    counts, drawn = resample(frame, classes, np.stack([s.mask for s in shown]), draws) if shown else (np.zeros((0, 1, 1)),) * 2
    return Grouped(frame, list(classes), minimum, groups, shown, counts, drawn)


def bias_table(frame: pd.DataFrame, classes: Sequence[str], by: Sequence[str] = ("age_band", "gender"),
               minimum: int = MINIMUM) -> BiasTable:
    """Accuracy and macro P, R, F1 of each group, of each attribute on average, and overall (see `averages`).

    A group's accuracy has a Wilson interval, an average of accuracies a bootstrap by duplicate group, jointly over the groups, and macro figures
    run over the classes that have faces in the group (see `metrics.over_classes`). Groups with
    fewer than `minimum` faces are masked and enter no average, and one group alone has none. n of an average counts each face once.

    Raises:
        FerError: predictions on faces that were trained on; they flatter every group.
        BadInput: unknown attribute or tag.
    """
    return table_of(grouped(frame, classes, by, minimum))


def table_of(found: Grouped) -> BiasTable:
    """See `bias_table`."""
    frame, groups, shown, minimum = found.frame, found.groups, found.shown, found.minimum
    place = {id(s): i for i, s in enumerate(shown)}
    point, spread = scores(found.counts), scores(found.drawn)
    reports = [per_class(frame[s.mask], found.classes, mid_p_limits) for s in shown]

    def estimate(attribute: str, metric: str, at: list[int], n: int, averaged: bool = False) -> Estimate:
        if not at:
            return Estimate(None, None, None, n, f"no group with n >= {minimum}")
        if averaged and len(at) == len({shown[i].attribute for i in at}):
            return Estimate(None, None, None, n, "only one group" + " of each attribute" * (attribute == OVERALL))
        if metric != "accuracy" and "label" in attribute.split(CROSS):
            return Estimate(None, None, None, n, "one class")  # a mean over classes says nothing here
        if metric != "accuracy":
            return over_classes([reports[i] for i in at], found.drawn[:, at], metric, n)
        units = frame.loc[np.any([shown[i].mask for i in at], axis=0), "duplicate_group"].nunique()
        return bootstrapped(float(point[metric][at].mean()), spread[metric][:, at].mean(axis=1), n, units)

    def group(s: Slice) -> BiasRow:
        cells: list[Estimate] = [masked(s.n, minimum)] * 5
        if id(s) in place:
            cells = [_accuracy(frame, s), *(estimate(s.attribute, m, [place[id(s)]], s.n) for m in METRICS[1:]), calibration_error(frame[s.mask])[0]]
        return BiasRow(s.attribute, s.value, s.name, "listed" if s.listed_only else "group", s.n, *cells)

    def average(attribute: str, members: list[Slice]) -> BiasRow:
        n = int(np.any([s.mask for s in members], axis=0).sum()) if members else 0
        head = ("", "", OVERALL, "overall") if attribute == OVERALL else (attribute, "", AVERAGE, "average")
        cells = [estimate(attribute, m, [place[id(s)] for s in members], n, averaged=True) for m in METRICS]
        return BiasRow(*head, n, *[*cells, Estimate(None, None, None, n, "not averaged")])

    rows = []
    for name, at in averages([s.attribute for s in groups], [not s.listed_only for s in groups]).items():
        rows += [*(group(s) for s in groups if s.attribute == name), average(name, [groups[i] for i in at if id(groups[i]) in place])]
    names = dict.fromkeys(s.attribute for s in groups)
    return BiasTable(rows, [largest_gap(frame, name, [s for s in shown if s.attribute == name]) for name in names], minimum)


def averages(attributes: Sequence[str], averaged: Sequence[bool]) -> dict[str, list[int]]:
    """Which groups (positions) enter which unweighted average: each attribute's own, and the overall one.

    The published overall average is the mean over all groups of all attributes (S0: 3 ages and 2 genders, all five with equal
    weight), not the mean of the attribute averages. What is no perceived attribute of a face, and what is crossed, stays out of
    it; it is left out when it would repeat the one attribute asked for.
    """
    means = {name: [i for i, a in enumerate(attributes) if a == name and averaged[i]] for name in dict.fromkeys(attributes)}
    single = [name for name in means if CROSS not in name and not name.startswith(SAVED) and (name in SCHEMES or name not in SINGLE)]
    return means | ({OVERALL: [i for name in single for i in means[name]]} if len(single) > 1 else {})


def largest_gap(frame: pd.DataFrame, attribute: str, groups: Sequence[Slice]) -> Gap:
    """The gap between the best and the worst of `groups`, "cannot tell" and "not tagged" aside.

    The pair is picked because it differs most, so the Newcombe interval takes the level 1 - 0.05 / (number of pairs)
    (Bonferroni): it is right for every pair at once, and plain 95 % when there are only two groups.
    """
    compared = [s for s in groups if not s.listed_only]
    if len(compared) < 2:
        return Gap(attribute, "", "", Estimate(None, None, None, sum(s.n for s in compared), "fewer than two groups to compare"))
    level = 1 - 0.05 / comb(len(compared), 2)
    ranked = sorted(((_accuracy(frame, s, level), s) for s in compared), key=lambda pair: pair[0].value or 0.0)
    (lowest, worst), (highest, best) = ranked[0], ranked[-1]
    return Gap(attribute, best.value, worst.value, difference(highest, lowest))


def _accuracy(frame: pd.DataFrame, group: Slice, level: float = 0.95) -> Estimate:
    part = frame[group.mask]
    return proportion(part["correct"].to_numpy(dtype=bool), codes(part["duplicate_group"]), level)
