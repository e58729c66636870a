"""Metrics over predictions as read by `fercore.evaluation.predictions`: each with n and a 95 % interval.

Micro precision, recall and F1 have no functions: with one label and one prediction a face, every false positive of one class
is the false negative of another, so all three equal accuracy.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fercore.errors import BadInput
from fercore.evaluation.calibration import calibration
from fercore.evaluation.estimate import Estimate, Floats, Ints, Limits, Masks, average, codes, combined, mid_p_limits, proportion, wilson

DRAWS = 1000
_AT_ONCE = 100  # draws: the kinds of group are as many as the faces where many runs are drawn jointly
MEANS = ("balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "weighted_precision", "weighted_f1")
# Each of these is the same number as accuracy: see above; weighted recall, as its weights are the divisors of the recalls.
BY_CLASS = {"balanced_accuracy": "recall", "macro_precision": "precision", "macro_recall": "recall", "macro_f1": "f1"}
SAME_AS_ACCURACY = ("micro_precision", "micro_recall", "micro_f1", "weighted_recall")


@dataclass(frozen=True)
class ClassReport:
    """One row of the classification report; `support` faces are labelled `class_id`."""

    class_id: str
    support: int
    precision: Estimate
    recall: Estimate
    f1: Estimate


def accuracy(frame: pd.DataFrame) -> Estimate:
    """Share of correct faces; Wilson interval on the rows that duplicates leave effective (see `estimate`)."""
    return proportion(frame["correct"].to_numpy(dtype=bool), codes(frame["duplicate_group"]))


def top_k_accuracy(frame: pd.DataFrame, classes: Sequence[str], k: int = 2) -> Estimate:
    """Share of faces whose label is among the k most probable classes; ties go to the class with the lower index."""
    p, label = _probabilities(frame, classes), _index(frame["label"], classes)[:, None]
    own = np.take_along_axis(p, label, axis=1)
    ahead = (p > own) | ((p == own) & (np.arange(len(classes)) < label))
    return proportion(ahead.sum(axis=1) < k, codes(frame["duplicate_group"]))


def log_loss(frame: pd.DataFrame, classes: Sequence[str]) -> Estimate:
    """Mean of -ln(probability of the label), clipped at float32's resolution; normal interval on effective rows."""
    n = len(frame)
    p = _probabilities(frame, classes)[np.arange(n), _index(frame["label"], classes)]
    return average(-np.log(np.clip(p, np.finfo(np.float32).eps, 1)), codes(frame["duplicate_group"]))


def macro(frame: pd.DataFrame, classes: Sequence[str], draws: int = DRAWS) -> dict[str, Estimate]:
    """The figures of MEANS: intervals of weighted ones by bootstrap (see `resample`), of macro ones see `over_classes`."""
    if not len(frame):
        return {name: Estimate(None, None, None, 0) for name in MEANS}
    counts, drawn = resample(frame, classes, np.ones((1, len(frame)), dtype=bool), draws)
    point, spread, report, n = scores(counts), scores(drawn), per_class(frame, classes, mid_p_limits), len(frame)
    return {name: over_classes([report], drawn, name, n) if name in BY_CLASS
            else bootstrapped(float(point[name][0]), spread[name][:, 0], n, frame["duplicate_group"].nunique()) for name in MEANS}


def over_classes(reports: Sequence[Sequence[ClassReport]], drawn: Floats, name: str, n: int, weights: Sequence[float] = ()) -> Estimate:
    """A macro figure of one or more sets of faces: the mean over the classes that have faces in a set, and over the sets the sum by `weights`
    (default: their mean). `drawn`: [draws, sets, true, predicted]; its limits: see `combined`, from mid-P limits of the classes: Wilson's are
    too narrow for a few faces that are nearly all right.

    Precision of a class that is never predicted is 0, and may be anything. A note says how many classes have faces where that is not all.
    """
    figures, parts, shares, draws, kind = by_class(drawn)[BY_CLASS[name]], list[Estimate](), list[float](), [], list[int]()
    for i, report in enumerate(reports):
        has = [place for place, row in enumerate(report) if row.support]
        cells = [getattr(report[place], BY_CLASS[name]) for place in has]
        parts += [Estimate(0.0, 0.0, 1.0, 0) if cell.value is None else cell for cell in cells]
        shares += [(weights[i] if weights else 1 / len(reports)) / len(has)] * len(has)
        draws.append(figures[:, i, has])
        kind += has
    many = sorted({sum(row.support > 0 for row in report) for report in reports})
    note = "" if many[0] == len(reports[0]) else f"over {many[0]} of {len(reports[0])} classes" + " or more" * (len(many) > 1)
    return replace(combined(parts, np.array(shares), np.concatenate(draws, axis=1), np.array(kind)), n=n, note=note)


def summary(frame: pd.DataFrame, classes: Sequence[str]) -> dict[str, Estimate]:
    """Every headline metric by name: accuracy, MEANS, SAME_AS_ACCURACY, top-2 and top-3 accuracy, log loss, ece (see `calibration`)."""
    share = accuracy(frame)
    return {"accuracy": share, **macro(frame, classes), **dict.fromkeys(SAME_AS_ACCURACY, share),
            "top_2_accuracy": top_k_accuracy(frame, classes), "top_3_accuracy": top_k_accuracy(frame, classes, 3),
            "log_loss": log_loss(frame, classes), "ece": calibration(frame).ece}


def per_class(frame: pd.DataFrame, classes: Sequence[str], limits: Limits = wilson) -> list[ClassReport]:
    """The classification report in class order; a metric of no faces has no value but says which are missing.

    F1 = 2 J / (1 + J) rises with J = TP / (TP + FP + FN), the share of right faces among those given or predicted this class,
    so J's interval, mapped, is F1's.
    """
    true, predicted = _index(frame["label"], classes), _index(frame["predicted"], classes)
    group = codes(frame["duplicate_group"])

    def share(mask: Masks, what: str) -> Estimate:
        found = proportion((true == predicted)[mask], np.asarray(pd.factorize(group[mask])[0], dtype=np.int64), limits=limits)
        return found if found.n else replace(found, note=f"no face {what} so")

    def f1(jaccard: Estimate) -> Estimate:
        value, low, high = (None if x is None else 2 * x / (1 + x) for x in (jaccard.value, jaccard.low, jaccard.high))
        return replace(jaccard, value=value, low=low, high=high)

    return [ClassReport(c, int((true == i).sum()), share(predicted == i, "predicted"), share(true == i, "labelled"),
                        f1(share((true == i) | (predicted == i), "labelled or predicted"))) for i, c in enumerate(classes)]


def confusion(frame: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Counts, int64 [true x predicted], both in class order and named."""
    cells = np.bincount(_cells(frame, classes), minlength=len(classes) ** 2).reshape(len(classes), -1)
    return pd.DataFrame(cells, index=pd.Index(classes, name="true"), columns=pd.Index(classes, name="predicted"))


def normalise(counts: pd.DataFrame, by: str = "row") -> pd.DataFrame:
    """Shares 0-1, Float64: each true class ("row") or each predicted class ("column") sums to 1; NA where there is no face.

    Raises:
        BadInput: `by` is neither.
    """
    if by not in ("row", "column"):
        raise BadInput("Unknown normalisation", f"by = {by!r}", "Choose row or column")
    cells = counts.astype("Float64")
    totals = cells.sum(axis=1 if by == "row" else 0)
    return cells.div(totals.mask(totals == 0), axis=0 if by == "row" else 1)


def scores(counts: npt.NDArray[Any]) -> dict[str, Floats]:
    """Accuracy, balanced accuracy, and macro and weighted P, R, F1 of confusion counts [..., true, predicted], each [...].

    Weighted means weigh classes by their faces; weighted recall is accuracy and left out. Macro means run over the classes that have
    faces, so that a class that a group lacks is no zero in its mean, and take the precision of what is never predicted as 0. Where
    every class has faces, that is scikit-learn's default and so what the reproduced systems did. Macro recall is balanced accuracy.
    """
    true, parts = counts.sum(axis=-1), by_class(counts)
    has, n = (true > 0).sum(axis=-1), true.sum(axis=-1)
    return ({"accuracy": _ratio(counts.trace(axis1=-2, axis2=-1), n)}
            | {name: _ratio(np.where(true > 0, parts[part], 0).sum(axis=-1), has) for name, part in BY_CLASS.items()}
            | {f"weighted_{part}": _ratio((true * parts[part]).sum(axis=-1), n) for part in ("precision", "f1")})


def by_class(counts: npt.NDArray[Any]) -> dict[str, Floats]:
    """Recall, precision and F1 of each class, [..., classes], of confusion counts [..., true, predicted]; 0 / 0 is 0."""
    hit, true, predicted = counts.diagonal(axis1=-2, axis2=-1), counts.sum(axis=-1), counts.sum(axis=-2)
    return {"recall": _ratio(hit, true), "precision": _ratio(hit, predicted), "f1": _ratio(2 * hit, true + predicted)}


def resample(frame: pd.DataFrame, classes: Sequence[str], masks: Masks, draws: int = DRAWS) -> tuple[Floats, Floats]:
    """Confusion counts of each slice [slices, true, predicted] and of `draws` bootstrap samples of it [draws, slices, true,
    predicted], seed fixed.

    Whole duplicate groups are drawn with replacement (masks: bool [slices, n], which may overlap and are drawn jointly).
    Groups that put the same counts into the same cells are exchangeable, so one multinomial over the distinct kinds of group
    replaces the drawing of rows; without duplicates that is the multinomial bootstrap of the confusion matrix.
    """
    unit, cell, size = codes(frame["duplicate_group"]), _cells(frame, classes), len(classes) ** 2
    kind = _kinds(unit, cell, masks)
    _, first, repeats = np.unique(kind, return_index=True, return_counts=True)
    table = np.zeros((len(first), len(masks) * size))
    place = pd.Series(np.arange(len(first)), index=first).reindex(unit).to_numpy()  # of a row whose unit stands for its kind
    for i, mask in enumerate(masks):
        rows = mask & ~np.isnan(place)
        np.add.at(table, (place[rows].astype(np.int64), i * size + cell[rows]), 1)
    units, rng = len(kind), np.random.default_rng(0)
    drawn = np.concatenate([rng.multinomial(units, repeats / units, size=min(_AT_ONCE, draws - done)).astype(float) @ table
                            for done in range(0, draws, _AT_ONCE)])
    shape = (len(masks), len(classes), len(classes))
    return (repeats @ table).reshape(shape), drawn.reshape(draws, *shape)


def _kinds(unit: Ints, cell: Ints, masks: Masks) -> Ints:
    """A number for each unit, int64 [units]; equal where the rows of two units lie in the same cells and slices."""
    code = cell
    for part in np.packbits(masks, axis=0).astype(np.int64):
        code = np.asarray(pd.factorize(code * 256 + part)[0], dtype=np.int64)
    sizes, order = np.bincount(unit), np.lexsort((code, unit))
    start, kind, many = np.cumsum(sizes) - sizes, np.zeros(len(sizes), dtype=np.int64), int(code.max(initial=0)) + 1
    for j in range(int(sizes.max(initial=0))):  # the rows of a unit in order of their code, so that equal units go the same way
        here = sizes > j
        kind[here] = pd.factorize(kind[here] * many + code[order[start[here] + j]])[0]
    return np.asarray(pd.factorize(kind * (int(sizes.max(initial=0)) + 1) + sizes)[0], dtype=np.int64)


def bootstrapped(value: float, drawn: Floats, n: int, units: int | None = None) -> Estimate:
    """The 95 % percentile interval of `drawn` [draws], stretched to hold the value (Efron & Tibshirani 1993, 13.3).

    Quantiles are taken at k / (draws + 1), as interpolating inside the draws is too narrow. A sample without any error resamples
    to itself only; then the Wilson interval on `units` (duplicate groups, or effective rows; default n) says what the bootstrap cannot.
    """
    low, high = (float(x) for x in np.quantile(drawn, (0.025, 0.975), method="weibull"))
    if low == high:
        low, high = wilson(value, n if units is None else units)
    return Estimate(value, min(low, value), max(high, value), n)


def _ratio(above: npt.NDArray[Any], below: npt.NDArray[Any]) -> Floats:
    return np.asarray(np.divide(above, below, out=np.zeros(np.shape(above)), where=below > 0), dtype=np.float64)


def _index(labels: "pd.Series[str]", classes: Sequence[str]) -> Ints:
    index = pd.Index(classes).get_indexer(pd.Index(labels))
    if (index < 0).any():
        raise BadInput("Unknown class", f"{labels[index < 0].iloc[0]!r} is not one of {', '.join(classes)}",
                       "Use the classes of the run's version")
    return np.asarray(index, dtype=np.int64)


def _cells(frame: pd.DataFrame, classes: Sequence[str]) -> Ints:
    return _index(frame["label"], classes) * len(classes) + _index(frame["predicted"], classes)


def _probabilities(frame: pd.DataFrame, classes: Sequence[str]) -> Floats:
    return frame[[f"p_{c}" for c in classes]].to_numpy(dtype=np.float64)
