"""How far annotators agree with each other, with known answers, and with themselves.

Votes are frames of image_id, person_id and value: one independent vote of a person on an image. Intervals are 95 % percentile intervals of
a bootstrap over images (Efron & Tibshirani 1993). Images with the same votes weigh the same, so whole patterns of votes are drawn
with multinomial counts: the same bootstrap at a fraction of the work. What cannot be computed is None and says why.
"""

from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

from fercore.errors import BadInput
from fercore.evaluation.estimate import Estimate, proportion

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
RESAMPLES = 1000
LATEST = 10_000  # answers that serial dependence is measured on
ONE_ANSWER, NO_PAIR = "only one answer was given", "no face has two votes"


@dataclass(frozen=True)
class Agreement:
    """Agreement of one field; n counts the faces behind a number.

    Args:
        alpha: Krippendorff's alpha over all faces with two or more votes.
        fleiss: Fleiss' kappa over the faces with exactly `fleiss_votes` votes, the commonest number from two up.
        classes: alpha of each answer against all others; n counts the faces on which somebody gave it.
        fleiss_classes: Fleiss' kappa likewise.
        pairs: Cohen's kappa by two person ids; n counts the faces that both answered.
        weeks: alpha by ISO week ("2026-W07"); a face belongs to the week of its last vote. Empty for votes without weeks.
    """

    alpha: Estimate
    fleiss: Estimate
    fleiss_votes: int | None
    classes: dict[str, Estimate]
    fleiss_classes: dict[str, Estimate]
    pairs: dict[tuple[str, str], Estimate]
    weeks: dict[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class Serial:
    """Share of answers that equal the answer before (0-1; None with a note in `chance`), and what chance gives: the same answers in
    random order, with the range of 95 % of all orders."""

    observed: float | None
    chance: Estimate


@dataclass(frozen=True)
class _Coded:
    """Votes as integers: indices int64 [votes], counts int64 [images, values], and the value each person gave each image, -1 for none,
    int64 [images, people]."""

    people: list[str]
    values: list[str]
    image: Ints
    person: Ints
    value: Ints
    counts: Ints
    given: Ints


def _coded(votes: pd.DataFrame) -> _Coded:
    image, images = pd.factorize(votes["image_id"])
    person, people = pd.factorize(votes["person_id"], sort=True)
    value, values = pd.factorize(votes["value"], sort=True)
    given = np.full((len(images) + 1, len(people) + 1), -1, dtype=np.int64)
    given[image, person] = value  # what is missing is -1 and lands in the last row or column
    given = given[:-1, :-1]
    if np.count_nonzero(given >= 0) < len(votes):
        raise BadInput("Votes not usable", "A vote lacks an image, person or value, or a person has two votes on one image",
                       "Pass each person's standing vote on an image once")
    counts = np.bincount(image * len(values) + value, minlength=len(images) * len(values)).reshape(len(images), len(values))
    return _Coded([str(p) for p in people], [str(v) for v in values], image, person, value, counts, given)


# ---- between annotators ---------------------------------------------------------------------------------------------------------


def agreement(votes: pd.DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> Agreement:
    """All measures at once.

    Args:
        votes: image_id, person_id, value, and for `weeks` also week (a Monday).

    Raises:
        BadInput: a missing value, or two votes of a person on one image.
    """
    held, rng = _coded(votes), np.random.default_rng(seed)
    alpha, classes = _measured(held.counts, held.values, True, resamples, rng)
    used, number = _same_number(held.counts)
    fleiss_, fleiss_classes = _measured(used, held.values, False, resamples, rng)
    pairs = {(held.people[a], held.people[b]): _cohen(held.given[:, a], held.given[:, b], len(held.values), resamples, rng)
             for a, b in combinations(range(len(held.people)), 2)}
    weeks = {}
    if "week" in votes and len(votes):
        stamps = votes["week"].to_numpy("datetime64[s]").astype(np.int64)
        last = np.full(len(held.counts), np.iinfo(np.int64).min)
        np.maximum.at(last, held.image, stamps)
        for week in np.unique(last):
            weeks[pd.Timestamp(week, unit="s").strftime("%G-W%V")] = _measured(held.counts[last == week], held.values, True, resamples, rng)[0]
    return Agreement(alpha, fleiss_, number, classes, fleiss_classes, pairs, weeks)


def krippendorff(votes: pd.DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Krippendorff's alpha for nominal values, for any number of votes: 1 - observed / expected disagreement, over the faces with two
    or more votes (Krippendorff 2011, "Computing Krippendorff's alpha-reliability", section C).

    Raises:
        BadInput: see `agreement`.
    """
    held = _coded(votes)
    return _measured(held.counts, held.values, True, resamples, np.random.default_rng(seed))[0]


def fleiss(votes: pd.DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> tuple[Estimate, int | None]:
    """Fleiss' kappa (Fleiss 1971, Psychol. Bull. 76:378) and the number of votes of the faces that it stands on: the commonest from
    two up, the smaller of two equally common. Faces with another number of votes are left out.

    Raises:
        BadInput: see `agreement`.
    """
    held = _coded(votes)
    used, number = _same_number(held.counts)
    return _measured(used, held.values, False, resamples, np.random.default_rng(seed))[0], number


def cohen(votes: pd.DataFrame, first: str, second: str, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Cohen's kappa of two people on the faces that both answered (Cohen 1960, Educ. Psychol. Meas. 20:37).

    Raises:
        BadInput: see `agreement`.
    """
    pair = agreement(votes[votes["person_id"].isin([first, second])].drop(columns="week", errors="ignore"), resamples=resamples, seed=seed).pairs
    return pair.get((min(first, second), max(first, second)), Estimate(None, None, None, 0, NO_PAIR))


def _same_number(counts: Ints) -> tuple[Ints, int | None]:
    """The images with the commonest number of votes from two up, and that number."""
    votes = counts.sum(axis=1)
    several = np.bincount(votes, minlength=2)[2:] if len(votes) else np.zeros(0, dtype=np.int64)
    if not several.any():
        return counts[:0], None
    number = int(several.argmax()) + 2
    return counts[votes == number], number


def _measured(counts: Ints, values: list[str], finite: bool, resamples: int, rng: np.random.Generator) -> tuple[Estimate, dict[str, Estimate]]:
    """Alpha (`finite`) or Fleiss' kappa over counts [images, values], and each value against the rest."""
    votes = counts.sum(axis=1)
    paired, votes = counts[votes >= 2], votes[votes >= 2]
    n, used = len(paired), (paired > 0).sum(axis=0)
    if not n:
        return Estimate(None, None, None, 0, NO_PAIR), {v: Estimate(None, None, None, 0, NO_PAIR) for v in values}
    # As raw bytes, which sort several times faster than rows do.
    _, first, times = np.unique(paired.view(f"V{paired.itemsize * paired.shape[1]}").ravel(), return_index=True, return_counts=True)
    patterns, size = paired[first], votes[first, None]
    totals = np.hstack([patterns, patterns * (size - patterns) / (size - 1)])  # per value: votes, and votes that meet a different one
    draws, point = _corrected(_resampled(times, totals, resamples, rng), finite), _corrected(times @ totals, finite)
    several = {v: _estimate(point[i + 1], draws[:, i + 1], int(used[i]), ONE_ANSWER if used[i] else "no face with two votes has it")
               for i, v in enumerate(values)}
    return _estimate(point[0], draws[:, 0], n, ONE_ANSWER), several


def _resampled(times: Ints, totals: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Sums [resamples, columns] of `totals` [patterns, columns] over as many images as there are, drawn with replacement; `times` [patterns]
    says how many images show a pattern."""
    n, size = int(times.sum()), len(times)
    if n > 5 * size:
        return np.asarray(rng.multinomial(n, times / n, resamples) @ totals)
    pattern = np.repeat(np.arange(size), times)  # with few images a pattern, drawing the images is faster than drawing the counts
    out, most = [], max(1, 50_000 // n)  # few enough to stay in the processor's cache
    for start in range(0, resamples, most):
        some = min(most, resamples - start)
        drawn = pattern[rng.integers(0, n, (some, n))] + size * np.arange(some)[:, None]
        out.append(np.bincount(drawn.ravel(), minlength=some * size).reshape(some, size) @ totals)
    return np.concatenate(out)


def _corrected(totals: npt.NDArray[np.float64], finite: bool) -> Floats:
    """1 - observed / expected disagreement from totals [..., 2 values]: of all values, then of each against the rest; nan where nothing
    can disagree. `finite` expects pairs drawn without replacement (Krippendorff), else with (Fleiss)."""
    votes, mixed = np.split(totals, 2, axis=-1)
    n = votes.sum(axis=-1, keepdims=True)
    observed, expected = mixed / n, votes * (n - votes) / (n * (n - 1 if finite else n))
    observed, expected = (np.concatenate([x.sum(axis=-1, keepdims=True), x], axis=-1) for x in (observed, expected))
    ratio: Floats = np.divide(observed, expected, out=np.full_like(expected, np.nan), where=expected > 0)
    return 1 - ratio


def _cohen(a: Ints, b: Ints, size: int, resamples: int, rng: np.random.Generator) -> Estimate:
    both = (a >= 0) & (b >= 0)
    n = int(both.sum())
    if not n:
        return Estimate(None, None, None, 0, "no face was answered by both")
    cells = np.bincount(a[both] * size + b[both], minlength=size * size)

    def kappa(drawn: Ints) -> Floats:
        table = drawn.reshape(-1, size, size) / n
        chance = (table.sum(axis=1) * table.sum(axis=2)).sum(axis=1)
        observed = np.trace(table, axis1=1, axis2=2)
        found: Floats = np.divide(observed - chance, 1 - chance, out=np.full(len(table), np.nan), where=chance < 1 - 1e-12)
        return found

    return _estimate(kappa(cells)[0], kappa(rng.multinomial(n, cells / n, resamples)), n, ONE_ANSWER)


def _estimate(point: float, draws: Floats, n: int, undefined: str) -> Estimate:
    if np.isnan(point):
        return Estimate(None, None, None, n, undefined)
    known = draws[~np.isnan(draws)]
    if len(known) < 0.9 * len(draws):  # a resample often holds one answer only: such an interval would mean nothing
        return Estimate(None, None, None, n, f"n = {n:,}: too few different answers for an interval")
    low, high = np.quantile(known, [0.025, 0.975])
    return Estimate(float(point), float(low), float(high), n)


# ---- of one person --------------------------------------------------------------------------------------------------------------


def shares(people: "pd.Series[str]", hits: "pd.Series[bool]") -> dict[str, Estimate]:
    """Share of `hits` by person, with the Wilson interval: gold accuracy, or repeats that equal the first answer."""
    return {str(p): proportion(part.to_numpy(bool), np.arange(len(part))) for p, part in hits.groupby(people, sort=True)}


def others_choice(votes: pd.DataFrame, person_id: str) -> "pd.Series[str]":
    """What most other people chose for each image this person answered, by image_id; images without one such answer are not in it.

    Raises:
        BadInput: see `agreement`.
    """
    held = _coded(votes)
    if person_id not in held.people:
        return pd.Series(dtype=str)
    own = held.person == held.people.index(person_id)
    counts = held.counts[held.image[own]]  # a copy, image by image of this person
    counts[np.arange(len(counts)), held.value[own]] -= 1
    top = counts.max(axis=1, initial=0)
    clear = (counts == top[:, None]).sum(axis=1) == 1
    return pd.Series(np.array(held.values, dtype=object)[counts[clear].argmax(axis=1)], index=votes.loc[own, "image_id"].to_numpy()[clear], dtype=str)


def confusion(votes: pd.DataFrame, person_id: str, reference: "pd.Series[str]") -> pd.DataFrame:
    """Counts of a person's answers (columns) by `reference` (rows), square, int64; images without a reference left out.

    Args:
        reference: image_id -> value, such as `others_choice` or an imported majority.
    """
    own = votes[votes["person_id"] == person_id]
    met = own["image_id"].map(reference)
    counts = pd.crosstab(met[met.notna()], own.loc[met.notna(), "value"])
    both = sorted({*counts.index, *counts.columns})
    return counts.reindex(index=both, columns=both, fill_value=0).astype("int64")


def serial_dependence(values: "pd.Series[str]", *, shuffles: int = RESAMPLES, seed: int = 0) -> Serial:
    """Whether a person's answers lean on the answer before. Chance is exact: the sum of n_c (n_c - 1) / (n (n - 1)) over the answers c.

    Args:
        values: answers in the order they were given; the last 10,000 count.
    """
    codes = np.asarray(pd.factorize(values.iloc[-LATEST:])[0], dtype=np.int16)
    counts, n = np.bincount(codes), len(codes)
    if n < 2 or len(counts) < 2:
        return Serial(None, Estimate(None, None, None, n, ONE_ANSWER if n > 1 else "no answer follows another"))
    rng, drawn = np.random.default_rng(seed), np.empty(shuffles)
    for start in range(0, shuffles, 100):  # a hundred orders at a time keep the memory small
        stop = min(start + 100, shuffles)
        orders = rng.permuted(np.tile(codes, (stop - start, 1)), axis=1)
        drawn[start:stop] = (orders[:, 1:] == orders[:, :-1]).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Serial(float((codes[1:] == codes[:-1]).mean()), Estimate(float((counts * (counts - 1)).sum() / (n * (n - 1))), float(low), float(high), n))
