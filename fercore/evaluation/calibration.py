"""Whether a run is right as often as it is sure: expected calibration error and the reliability diagram."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fercore.evaluation.estimate import Estimate, Floats, Ints, codes, masked, proportion

BINS, DRAWS = 15, 1000
EXACT = 500  # faces up to which answers are drawn one by one: the sum of few is far from normal


@dataclass(frozen=True)
class Calibration:
    """`ece` and `floor`: see `calibration_error`. `bins`: one row an equally wide bin of confidence: low, high, n, confidence (mean; NA in an empty
    bin), accuracy (Estimate)."""

    ece: Estimate
    floor: float | None
    bins: pd.DataFrame


def calibration(frame: pd.DataFrame, bins: int = BINS) -> Calibration:
    """The reliability diagram of a run, and how far it is from the diagonal on average."""
    hits, confidence = frame["correct"].to_numpy(dtype=bool), frame["confidence"].to_numpy(dtype=float)
    place, unit = _bin(confidence, bins), codes(frame["duplicate_group"])
    rows = []
    for i in range(bins):
        inside = place == i
        mean = confidence[inside].mean() if inside.any() else None
        rows.append({"low": i / bins, "high": (i + 1) / bins, "n": int(inside.sum()), "confidence": mean,
                     "accuracy": proportion(hits[inside], np.unique(unit[inside], return_inverse=True)[1])})
    return Calibration(*calibration_error(frame, bins), pd.DataFrame(rows).astype({"confidence": "Float64"}))


def calibration_error(frame: pd.DataFrame, bins: int = BINS) -> tuple[Estimate, float | None]:
    """ECE = sum over `bins` equally wide bins of (n of the bin / n) * |accuracy - mean confidence| (Guo et al. 2017), 0-1; and its floor.

    The interval is the value +- 1.96 standard deviations of bootstrap draws by duplicate group. What is drawn is the sum of (correct -
    confidence) in each bin, by its normal approximation: `bins` numbers a draw in place of n faces. Seed fixed. Absolute values are too
    high by chance: the interval begins lower by as much as the draws are higher than the value. The floor is what a perfectly calibrated
    run would show on so many faces: it is right with the probability that it states, in all faces of a duplicate group together. Where the value
    is within its draws (97.5 %), the interval starts at 0. Masked below two groups.
    """
    n = len(frame)
    units = frame["duplicate_group"].nunique()
    if units < 2:
        return masked(units, 2), None
    hits, confidence = frame["correct"].to_numpy(dtype=float), frame["confidence"].to_numpy(dtype=float)
    place, unit = _bin(confidence, bins), codes(frame["duplicate_group"])
    gaps = np.bincount(unit * bins + place, weights=hits - confidence, minlength=units * bins).reshape(units, bins)
    sums = gaps.sum(axis=0)
    scatter = np.random.default_rng(0).multivariate_normal(np.zeros(bins), units * np.cov(gaps, rowvar=False, bias=True), size=DRAWS)
    value, perfect = float(np.abs(sums).sum()) / n, _perfect(confidence, place, unit, bins)
    drawn = np.abs(sums + scatter).sum(axis=1) / n
    half, excess = 1.959964 * float(drawn.std()), max(0.0, float(drawn.mean()) - value)
    low = 0.0 if value <= float(np.quantile(perfect, 0.975)) else max(0.0, value - excess - half)
    return Estimate(value, low, min(1.0, value + half), n), float(perfect.mean())


def _perfect(confidence: Floats, place: Ints, unit: Ints, bins: int) -> Floats:
    """The error of perfectly calibrated runs with these confidences [n], float64 [DRAWS]: one uniform number decides a whole duplicate group."""
    rng = np.random.default_rng(1)
    units = int(unit.max()) + 1
    if len(confidence) <= EXACT:
        right = rng.random((DRAWS, units))[:, unit] < confidence
        sums = (right - confidence) @ (place[:, None] == np.arange(bins))
    else:  # the normal approximation is good by now
        sd = np.bincount(unit * bins + place, weights=np.sqrt(confidence * (1 - confidence)), minlength=units * bins).reshape(units, bins)
        sums = rng.multivariate_normal(np.zeros(bins), sd.T @ sd, size=DRAWS)
    return np.asarray(np.abs(sums).sum(axis=1) / len(confidence))


def _bin(confidence: Floats, bins: int) -> Ints:
    return np.clip((confidence * bins).astype(np.int64), 0, bins - 1)
