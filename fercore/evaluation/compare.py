"""Runs on exactly the same faces: which differences are more than noise, and what a change of the labels alone does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd

from fercore.errors import BadInput, FerError
from fercore.evaluation.estimate import Estimate, Floats, Ints, Masks, codes, mid_p_limits, paired_difference
from fercore.evaluation.metrics import DRAWS, accuracy, bootstrapped, confusion, over_classes, per_class, resample, scores
from fercore.evaluation.read import classes_of, require_unseen
from fercore.training.folds import INNER_PARTS

LEVEL = 0.05


@dataclass(frozen=True)
class Pair:
    """Two runs on n common faces; every difference is second - first.

    Attributes:
        gained, lost: faces that only the second, or only the first, gets right.
        difference: of accuracy, Newcombe's paired interval. bootstrap: of the same, by paired bootstrap.
        macro_f1: its difference (see `bootstrap`).
        p_value: McNemar mid-p (see `mcnemar`). p_holm: the same after Holm over all pairs compared.
        corrected_t: difference of the mean over folds, with interval and p, when both have the same folds (see `corrected_t`), else a note.
        p_folds: its p-value, or None.
    """

    first: str
    second: str
    n: int
    gained: int
    lost: int
    difference: Estimate
    bootstrap: Estimate
    macro_f1: Estimate
    p_value: float
    p_holm: float
    corrected_t: Estimate
    p_folds: float | None


@dataclass(frozen=True)
class Comparison:
    """Runs on the n faces that all of them predict with the same label in all; `left_out`: the other faces of each run. `frames` hold the common
    faces, ordered by sample_id, with the duplicate groups of the first run."""

    n: int
    left_out: dict[str, int]
    accuracy: dict[str, Estimate]
    pairs: list[Pair]
    frames: dict[str, pd.DataFrame]


def common(frames: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The faces that all runs predict with the same label, ordered by sample_id, with the duplicate groups of the first.

    Raises:
        BadInput: fewer than two runs, or runs with other classes.
        FerError: no common face, or predictions on faces that were trained on.
    """
    if len(frames) < 2:
        raise BadInput("One run cannot be compared", f"{len(frames)} given", "Name two different runs or more")
    names = list(frames)
    classes = {name: classes_of(frame) for name, frame in frames.items()}
    for name in names[1:]:
        if set(classes[name]) != set(classes[names[0]]):
            raise BadInput("Runs of different schemes", f"{names[0]} tells {', '.join(classes[names[0]])}; {name} {', '.join(classes[name])}",
                           "Compare runs with the same classes")
    for frame in frames.values():
        require_unseen(frame)
    keys = ["sample_id", "label"]
    shared = frames[names[0]][keys]
    for name in names[1:]:
        shared = shared.merge(frames[name][keys], on=keys)
    if shared.empty:
        raise FerError("No common images", "The runs predict no image with the same true label in all", "Compare runs evaluated on the same faces, "
                       "e.g. on one version's test split")
    ids = shared[["sample_id"]].sort_values("sample_id")
    kept = {name: ids.merge(frame, on="sample_id", how="left") for name, frame in frames.items()}
    return {name: frame.assign(duplicate_group=kept[names[0]]["duplicate_group"]) for name, frame in kept.items()}


def compare(frames: Mapping[str, pd.DataFrame]) -> Comparison:
    """All pairs of these runs (run id -> predictions). Raises: see `common`."""
    kept = common(frames)
    classes = classes_of(next(iter(kept.values())))
    drawn = bootstrap(list(kept.values()), classes)
    pairs = [_pair(a, b, kept[a], kept[b], changes) for (a, b), changes in zip(combinations(kept, 2), drawn, strict=True)]
    pairs = [replace(pair, p_holm=p) for pair, p in zip(pairs, holm([pair.p_value for pair in pairs]), strict=True)]
    n = len(next(iter(kept.values())))
    return Comparison(n, {name: len(frame) - n for name, frame in frames.items()}, {name: accuracy(f) for name, f in kept.items()}, pairs, kept)


def _pair(a: str, b: str, first: pd.DataFrame, second: pd.DataFrame, drawn: Mapping[str, Estimate]) -> Pair:
    before, after = _hits(first, second)
    group, p = codes(first["duplicate_group"]), mcnemar(before, after, codes(first["duplicate_group"]))
    folds, p_folds = corrected_t(first, second)
    return Pair(a, b, len(first), int((after & ~before).sum()), int((before & ~after).sum()), paired_difference(before, after, group),
                drawn["accuracy"], drawn["macro_f1"], p, p, folds, p_folds)


def _hits(first: pd.DataFrame, second: pd.DataFrame) -> tuple[Masks, Masks]:
    return first["correct"].to_numpy(dtype=bool), second["correct"].to_numpy(dtype=bool)


def mcnemar(before: Masks, after: Masks, group: Ints) -> float:
    """Two-sided McNemar mid-p (Fagerland, Lydersen & Laake 2013) on duplicate groups: a group counts once, as better or worse by
    the sign of its summed change (a sign test on independent units); without duplicates that is McNemar's test on faces."""
    change = np.bincount(group, weights=after.astype(float) - before.astype(float))
    return float(mid_p(np.array([(change > 0).sum()]), np.array([(change < 0).sum()]))[0])


def mid_p(better: Ints, worse: Ints) -> Floats:
    """Two-sided mid-p of the sign test, for each of many pairs."""
    from scipy.stats import binom  # half a second, like the others below: commands that compare nothing start without

    n, fewer = better + worse, np.minimum(better, worse)
    return np.asarray(np.minimum(1.0, 2 * binom.cdf(fewer, n, 0.5) - binom.pmf(fewer, n, 0.5)), dtype=np.float64)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values after Holm's step-down adjustment (Holm 1979), in the same order; empty for none. Own, as statsmodels' collects garbage at each
    call, which stops a server with all its modules for a tenth to a quarter of a second."""
    order, p = np.argsort(p_values), np.asarray(p_values, dtype=np.float64)
    stepped = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return [float(x) for x in stepped[np.argsort(order)]]


def bootstrap(frames: Sequence[pd.DataFrame], classes: Sequence[str], draws: int = DRAWS) -> list[dict[str, Estimate]]:
    """Differences second - first of `accuracy` and `macro_f1` of every pair of these runs, in the order of `combinations`.

    The frames hold the same faces in the same order: whole duplicate groups are drawn, jointly for all runs, so the work grows with
    the runs and not with their pairs. Accuracy: percentiles of the draws, or Newcombe's interval where none differs. Macro F1: the
    limits of both runs' classes, with their correlation in the draws (see `metrics.over_classes`).
    """
    n, k = len(frames[0]), len(frames)
    rows = pd.concat([frame[["label", "predicted", "duplicate_group"]] for frame in frames], ignore_index=True)
    counts, drawn = resample(rows, classes, np.arange(k * n) // n == np.arange(k)[:, None], draws)
    point, spread, reports, found = scores(counts)["accuracy"], scores(drawn)["accuracy"], [per_class(f, classes, mid_p_limits) for f in frames], []
    for i, j in combinations(range(k), 2):
        change = spread[:, j] - spread[:, i]
        found.append({"accuracy": bootstrapped(float(point[j] - point[i]), change, n) if np.ptp(change)
                      else paired_difference(*_hits(frames[i], frames[j]), codes(frames[i]["duplicate_group"])),
                      "macro_f1": over_classes([reports[i], reports[j]], drawn[:, [i, j]], "macro_f1", n, (-1, 1))})
    return found


def corrected_t(first: pd.DataFrame, second: pd.DataFrame) -> tuple[Estimate, float | None]:
    """Mean over folds of the difference of accuracy, with the corrected resampled t-test of Nadeau & Bengio (2003): the variance over k folds
    counts 1 / k + n_held_out / n_training times, as folds share training faces (all others, less the part that stops training); k - 1 degrees of
    freedom. Unlike McNemar's test it asks about the way of training, not these trained models. Both must hold the same faces; else, without p,
    a note that says why not.
    """
    folds, n = first["fold"].to_numpy(), len(first)
    k = len(np.unique(folds))
    if k < 2 or second["fold"].nunique() < 2:
        return Estimate(None, None, None, n, "not two k-fold runs"), None
    if not np.array_equal(folds, second["fold"].to_numpy()):
        return Estimate(None, None, None, n, "the folds are not the same"), None
    change = second["correct"].astype(float) - first["correct"].astype(float)
    return t_of(np.asarray(change.groupby(folds).mean(), dtype=np.float64), n)


def t_of(by_fold: Floats, n: int) -> tuple[Estimate, float | None]:
    """The corrected t-test on the difference in each of k folds of equal size, on n faces in all."""
    from scipy.stats import t

    k, mean, sd = len(by_fold), float(by_fold.mean()), float(by_fold.std(ddof=1))
    if sd == 0:
        return Estimate(None, None, None, n, "the same difference in every fold"), None
    error = sd * (1 / k + 1 / ((1 - 1 / INNER_PARTS) * (k - 1))) ** 0.5
    half = float(t.ppf(0.975, k - 1)) * error
    return Estimate(mean, mean - half, mean + half, n), float(2 * t.sf(abs(mean) / error, k - 1))


def disagreement(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Counts [class by the first run x class by the second], of frames as `common` gives them."""
    return confusion(first.assign(label=first["predicted"], predicted=second["predicted"]), classes_of(first))


def confusion_difference(first: pd.DataFrame, second: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(second - first, faces in the cell for exactly one of them), counts [true x predicted], of frames as `common` gives them."""
    classes = classes_of(first)
    moved = (first["predicted"] != second["predicted"]).to_numpy()
    return (confusion(second, classes) - confusion(first, classes), confusion(first[moved], classes) + confusion(second[moved], classes))


@dataclass(frozen=True)
class LabelEffect:
    """Two label versions x two models on n common faces. Attributes:

        relabelled: faces whose label differs between the two.
        cells: accuracy of (model, labels), each 0 or 1: the first or the second.
        by_labels: change of each model's accuracy when only the labels change, second - first. p_labels: McNemar mid-p.
        by_model: change under each labels when only the model changes. p_model: McNemar mid-p.
    """

    n: int
    relabelled: int
    cells: dict[tuple[int, int], Estimate]
    by_labels: tuple[Estimate, Estimate]
    by_model: tuple[Estimate, Estimate]
    p_labels: tuple[float, float]
    p_model: tuple[float, float]


def label_effect(first: pd.DataFrame, second: pd.DataFrame, labels: Sequence["pd.Series[str]"]) -> LabelEffect:
    """What of a gain is the model's and what comes from relabelling the faces it is judged by.

    Args:
        first, second: predictions of two runs. labels: label by sample_id, of two versions.

    Raises:
        BadInput: runs or labels of different schemes.
        FerError: no face that both runs predict and both versions label, or predictions on faces that were trained on.
    """
    faces = first[["sample_id"]].merge(second[["sample_id"]], on="sample_id")["sample_id"]
    faces = faces[faces.isin(labels[0].index) & faces.isin(labels[1].index)]
    told = [series.loc[faces].to_numpy() for series in labels]
    if strange := set(np.concatenate(told)) - set(classes_of(first)):
        raise BadInput("Labels of another scheme", f"{', '.join(sorted(strange))} is none of {', '.join(classes_of(first))}",
                       "Name versions with the classes of the runs")
    kept = common({name: f.set_index("sample_id").loc[faces].reset_index().assign(label=told[0]) for name, f in (("a", first), ("b", second))})
    by_id = [series.loc[kept["a"]["sample_id"]].to_numpy() for series in labels]
    group = codes(kept["a"]["duplicate_group"])
    right = {(m, v): kept[name]["predicted"].to_numpy() == by_id[v] for m, name in enumerate("ab") for v in (0, 1)}
    changes = {"labels": [(right[m, 0], right[m, 1]) for m in (0, 1)], "model": [(right[0, v], right[1, v]) for v in (0, 1)]}
    found = {of: tuple(paired_difference(*pair, group) for pair in pairs) for of, pairs in changes.items()}
    p = {of: tuple(mcnemar(*pair, group) for pair in pairs) for of, pairs in changes.items()}
    cells = {key: accuracy(kept["a"].assign(correct=hits)) for key, hits in right.items()}
    return LabelEffect(len(group), int((by_id[0] != by_id[1]).sum()), cells, found["labels"], found["model"], p["labels"], p["model"])  # type: ignore[arg-type]
