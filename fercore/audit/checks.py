"""What an audit looks for: one entry a kind of finding, with its meaning and its bound; and what is measured on the pixels of an image."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from fercore.domain import Pixels

METHOD = "pixels@1"  # of `measure`; another one makes every image be measured anew
MEASURE_BLOCK = 8192  # images measured at a time
PERCENTILES = (5, 95)


@dataclass(frozen=True)
class Check:
    """One kind of finding.

    Attributes:
        kind, name, meaning: id, title and one sentence.
        measure: what the bound is on; None where there is no bound.
        below: found where the measure is below the bound; else above it.
        bound: the default, fitted as `fitted` says. slider: lowest, highest and step to choose from.
        deep: needs all pairs of faces or a trained model, and so half a minute rather than seconds.
        from_votes: tells what others answered, or what a model suggests: hidden until a person has answered (honesty rule 5).
        grouped: its faces come in groups that belong together.
        elsewhere: is found on another page; an audit leaves it as it is.
    """

    kind: str
    name: str
    meaning: str
    measure: str | None = None
    below: bool = True
    bound: float | None = None
    slider: tuple[float, float, float] = (0.0, 255.0, 1.0)
    fitted: str = ""
    deep: bool = False
    from_votes: bool = False
    grouped: bool = False
    elsewhere: bool = False


RANK_BOUND = 0.99  # of a score that is a rank, until somebody sets another
_SCORE = ("A ranking of candidates, no verdict. Learned from 20 answers or more, the score is the probability that people agree: 0.5 is as likely as "
          "not. Before that it is the share of pictures that look less so: 0.99 takes the first 1 %.")
_RANKED: dict[str, Any] = {"below": False, "bound": 0.5, "slider": (0.0, 1.0, 0.005), "fitted": _SCORE, "deep": True, "from_votes": True}

CHECKS = {c.kind: c for c in (
    Check("exact_duplicate", "Exact duplicates", "Rows whose decoded pixels are identical.", grouped=True),
    Check("conflicting_duplicate", "Duplicates with different labels", "Identical faces to which the source gives different labels.", grouped=True),
    Check("cross_split_duplicate", "Duplicates across splits", "Identical faces in more than one split: tested after training on them.",
          grouped=True),
    Check("near_duplicate", "Near duplicates", "The same photograph again: cropped, shifted, mirrored, brighter, blurred or compressed.",
          "similarity", below=False, bound=0.90, slider=(0.80, 1.0, 0.005), deep=True, grouped=True,
          fitted="98.8 % of edited copies of faces of FER-2013 are more alike; of 64 pairs just above it that nobody had planted, none was wrong."),
    Check("near_cross_split", "Near duplicates across splits", "Near duplicates of which one is trained on and another tested.",
          deep=True, grouped=True),
    Check("dark", "Dark", "Mean pixel value below the bound.", "mean", bound=40.0, fitted="0.3 % of the images of FER-2013 are darker."),
    Check("bright", "Bright outliers", "Mean pixel value above the bound.", "mean", below=False, bound=230.0,
          fitted="The published rule for outliers: 28 faces of the whole FER-2013 file."),
    Check("mean_outlier", "Outliers of brightness", "Mean pixel value outside Tukey's fences: 1.5 interquartile ranges beyond the quartiles."),
    Check("flat", "Flat", "Standard deviation of pixel values below the bound: next to nothing is in the picture.", "sd", bound=10.0,
          slider=(0.0, 60.0, 0.5), fitted="Blank pictures have 0; 99.9 % of the images of FER-2013 have more than 17."),
    Check("low_contrast", "Low contrast", "The middle 90 % of pixel values span less than the bound.", "contrast", bound=60.0,
          fitted="0.2 % of the images of FER-2013 span less."),
    Check("blurred", "Blurred", "Variance of the Laplacian, relative to the variance of the picture, below the bound.", "sharpness", bound=0.15,
          slider=(0.0, 1.0, 0.01), fitted="Finds 97 % of faces of FER-2013 after a Gaussian blur of 1 pixel, and 0.3 % of those as they are."),
    Check("non_face", "Non-face", "Looks unlike a face.", "non_face", **_RANKED),
    Check("artificial", "Artificial", "May be drawn or filtered: candidates for people to decide on.", "artificial", **_RANKED),
    Check("extreme_pose", "Extreme pose", "May be turned away by more than 75 degrees: candidates for people to decide on.", "extreme_pose",
          **_RANKED),
    Check("disputed", "Divided votes", "Entropy of the imported votes on the expression, in bits, above the bound.", "entropy", below=False,
          bound=2.0, slider=(0.0, 3.4, 0.1), from_votes=True, fitted="2 bits are four answers with equal shares."),
    Check("votes_against_label", "Votes against the given label", "The one answer that most imported votes name is not the given label.",
          from_votes=True),
    Check("suspect", "Suspect labels", "Labels that out-of-fold predictions speak against, as last sent to review from the page Suspect labels.",
          from_votes=True, elsewhere=True),
    Check("class_imbalance", "Class imbalance", "A class with less than half of an equal share of the labelled rows, or more than twice."),
    Check("undecodable", "Undecodable", "Rows of a source that could not be read; the Import page lists them with their reasons."),
)}
KINDS = {c.kind: c.name for c in CHECKS.values()}
RANKED = ("non_face", "artificial", "extreme_pose")  # kinds whose measure is a score of `ranks`
FROM_VOTES = frozenset(k for k, c in CHECKS.items() if c.from_votes)


def measure(pixels: Pixels) -> dict[str, npt.NDArray[np.float64]]:
    """What each image looks like.

    Args:
        pixels: uint8 [n, 48, 48].

    Returns:
        contrast: distance of the 5th and 95th percentile of pixel values, 0-255. sharpness: variance of the Laplacian over the variance of
        the picture (0 where it is blank), so that neither light nor contrast counts as sharp. Both [n].
    """
    if not len(pixels):
        return {"contrast": np.zeros(0), "sharpness": np.zeros(0)}
    ordered = np.sort(pixels.reshape(len(pixels), -1), axis=1)
    low, high = (ordered[:, round(p / 100 * (ordered.shape[1] - 1))].astype(np.float64) for p in PERCENTILES)
    edges = np.array([cv2.Laplacian(p, cv2.CV_32F).var() for p in pixels], np.float64)
    spread = pixels.reshape(len(pixels), -1).var(axis=1)
    return {"contrast": high - low, "sharpness": np.divide(edges, spread, out=np.zeros(len(pixels)), where=spread > 1)}


def fences(values: npt.NDArray[np.float64]) -> dict[str, float]:
    """The five numbers (least, q1, median, q3, greatest) and Tukey's fences (lower, upper) of `values` [n >= 1]."""
    least, q1, median, q3, greatest = (float(v) for v in np.quantile(values, [0, 0.25, 0.5, 0.75, 1]))
    return {"least": least, "q1": q1, "median": median, "q3": q3, "greatest": greatest,
            "lower": q1 - 1.5 * (q3 - q1), "upper": q3 + 1.5 * (q3 - q1)}
