"""A number with its uncertainty, and the closed-form intervals behind it.

Faces in one duplicate group are near copies and tend to be right or wrong together, so an interval that counts rows is too
narrow. Every interval here shrinks n by the measured design effect; with no duplicates it is the textbook interval exactly.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Masks = npt.NDArray[np.bool_]
Limits = Callable[[float, float, float], tuple[float, float]]  # (proportion, trials, level) -> (low, high)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A value, its 95 % interval and the number of rows n behind it; all None with a `note` when nothing may be shown. Beside a value, the note
    says what it leaves out."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    note: str = ""

    def percent(self) -> str:
        """A proportion, e.g. `63.4 % [61.8, 65.0], n = 3,589`; the note, e.g. `n = 6 < 20`, when there is no value."""
        return self._text(100, ".1f", " %")

    def points(self) -> str:
        """A difference of proportions, signed, e.g. `+18.3 points [+12.1, +24.5], n = 1,204`."""
        return self._text(100, "+z.1f", " points")

    def number(self) -> str:
        """Any other number, e.g. `1.012 [0.961, 1.063], n = 3,589`."""
        return self._text(1, ".3f", "")

    def _text(self, factor: int, spec: str, unit: str) -> str:
        if self.value is None or self.low is None or self.high is None:
            return self.note or f"n = {self.n:,}"
        value, low, high = (format(factor * x, spec) for x in (self.value, self.low, self.high))
        return f"{value}{unit} [{low}, {high}], n = {self.n:,}" + (self.note and f", {self.note}")


def masked(n: int, minimum: int) -> Estimate:
    """A cell too small to show: no value, and the reason as its note, e.g. `n = 6 < 20`."""
    return Estimate(None, None, None, n, f"n = {n:,} < {minimum:,}")


def to_json(thing: Any) -> Any:
    """`thing` as JSON values: dataclasses to objects, tables to lists of objects, every missing number to null."""
    if isinstance(thing, pd.DataFrame):
        return [to_json(row) for row in thing.to_dict("records")]
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        return {f.name: to_json(getattr(thing, f.name)) for f in dataclasses.fields(thing)}
    if isinstance(thing, Mapping):
        return {str(key): to_json(value) for key, value in thing.items()}
    if isinstance(thing, (list, tuple, np.ndarray)):
        return [to_json(item) for item in thing]
    if thing is pd.NA or (isinstance(thing, (float, np.floating)) and math.isnan(thing)):
        return None
    return thing.item() if isinstance(thing, np.generic) else thing


def codes(groups: "pd.Series[str]") -> Ints:
    """Duplicate groups as integers 0, 1, ... in order of appearance, int64 [n]."""
    return np.asarray(pd.factorize(groups)[0], dtype=np.int64)


def design_effect(values: npt.NDArray[Any], group: Ints) -> float:
    """How many rows count as one (>= 1, and 1 without duplicates): the variance of the mean of `values` [n] when whole groups
    are drawn, over that when rows are drawn (Kish 1965). Equal values show no correlation to measure: then full correlation
    is assumed, sum(group size ^ 2) / n."""
    n, sizes = len(values), np.bincount(group)
    if len(sizes) == n:
        return 1.0
    residual = np.asarray(values, dtype=float) - np.mean(values)
    total = float((residual**2).sum())
    if total == 0 or len(sizes) == 1:
        return float((sizes**2).sum() / n)
    between = float((np.bincount(group, weights=residual) ** 2).sum())
    return max(1.0, between * len(sizes) / (len(sizes) - 1) / (total * n / (n - 1)))


def wilson(p: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion p in 0-1 seen on n > 0 (effective) trials (Wilson 1927)."""
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    centre, half = p + z2 / (2 * n), math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n)))
    low, high = (centre - half) / (1 + z2 / n), (centre + half) / (1 + z2 / n)
    return (0.0 if p == 0 else low), (1.0 if p == 1 else high)


def mid_p_limits(p: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Mid-P interval of a proportion p in 0-1 seen on n > 0 (effective) trials (Berry & Armitage 1995, The Statistician 44:417)."""
    from scipy.optimize import brentq  # most figures do without
    from scipy.special import betainc

    x, tail = p * n, (1 - level) / 2

    def reached(q: float) -> float:
        """P(X > x) + P(X = x) / 2 at a true proportion q."""
        return float((1.0 if x <= 0 else betainc(x, n - x + 1, q)) + (0.0 if p >= 1 else betainc(x + 1, n - x, q))) / 2

    return (0.0 if p <= 0 else float(brentq(lambda q: reached(q) - tail, 0, 1)),
            1.0 if p >= 1 else float(brentq(lambda q: reached(q) - 1 + tail, 0, 1)))


def proportion(hits: Masks | Floats, group: Ints, level: float = 0.95, limits: Limits = wilson) -> Estimate:
    """The share of true `hits` [n], or the mean of values in 0-1 (whose variance p (1 - p) bounds), with the Wilson interval (or other `limits`) on
    n / design effect trials; n stays the number of rows."""
    if not len(hits):
        return Estimate(None, None, None, 0)
    p = float(np.mean(hits))
    return Estimate(p, *limits(p, len(hits) / design_effect(hits, group), level), len(hits))


def average(values: Floats, group: Ints) -> Estimate:
    """The mean of `values` [n], none below 0, with a normal interval on n / design effect rows; masked below two rows."""
    n = len(values)
    if n < 2:
        return masked(n, 2)
    mean, half = float(values.mean()), 1.959964 * float(values.std()) * (design_effect(values, group) / n) ** 0.5
    return Estimate(mean, max(0.0, mean - half), mean + half, n)


def combined(parts: Sequence[Estimate], weights: Floats, draws: Floats, kind: Ints) -> Estimate:
    """The sum of weights [parts] x figures, its limits recovered from theirs (MOVER; Zou & Donner 2008, Stat. Med. 27:1693): the distances to
    them add up like standard deviations, with the correlation of the figures in `draws` [draws, parts]; n is 0.

    What a bootstrap of the sum itself cannot say, how uncertain a figure of few faces is, the limits of the parts do. Figures that differ in no
    draw show no correlation: those of one `kind` [parts] may then be the same faces twice, and sum up in full.
    """
    values, lows, highs = np.array([(part.value, part.low, part.high) for part in parts], dtype=float).T
    spread = draws - draws.mean(axis=0)
    size = np.sqrt((spread**2).sum(axis=0))
    spread = np.divide(spread, size, out=np.zeros_like(spread), where=size > 0)
    still = (size == 0)[:, None] | (size == 0)
    correlation = np.where(still & (kind[:, None] == kind) & (np.outer(weights, weights) > 0), 1.0, spread.T @ spread)
    np.fill_diagonal(correlation, 1.0)
    down, up = weights * np.where(weights > 0, values - lows, highs - values), weights * np.where(weights > 0, highs - values, values - lows)
    value = float(weights @ values)
    return Estimate(value, value - float(np.sqrt(max(0.0, down @ correlation @ down))), value + float(np.sqrt(max(0.0, up @ correlation @ up))), 0)


def difference(first: Estimate, second: Estimate) -> Estimate:
    """first - second of two proportions on different faces (Newcombe 1998, Stat. Med. 17:873, method 10); n is of both."""
    (p1, l1, u1), (p2, l2, u2) = _limits(first), _limits(second)
    return Estimate(p1 - p2, p1 - p2 - math.hypot(p1 - l1, u2 - p2), p1 - p2 + math.hypot(u1 - p1, p2 - l2), first.n + second.n)


def paired_difference(before: Masks, after: Masks, group: Ints) -> Estimate:
    """after - before of two proportions on the same n >= 1 faces (Newcombe 1998, Stat. Med. 17:2635, method 10).

    The design effect is that of the per-face change, the quantity being averaged.
    """
    n = len(before)
    size = n / design_effect(after.astype(int) - before.astype(int), group)
    p1, p2 = float(after.mean()), float(before.mean())
    (l1, u1), (l2, u2) = wilson(p1, size), wilson(p2, size)
    covariance = (float((after & before).mean()) - p1 * p2) * size  # (ad - bc) / size, with cells counted in effective faces
    if covariance > 0:
        covariance = max(0.0, covariance - 0.5)  # Newcombe's correction: ad - bc - n / 2, not below zero
    scale = size * math.sqrt(p1 * (1 - p1) * p2 * (1 - p2))
    phi = covariance / scale if scale else 0.0
    low = math.sqrt((p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2)
    high = math.sqrt((u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2)
    return Estimate(p1 - p2, p1 - p2 - low, p1 - p2 + high, n)


def _limits(estimate: Estimate) -> tuple[float, float, float]:
    assert estimate.value is not None and estimate.low is not None and estimate.high is not None
    return estimate.value, estimate.low, estimate.high
