"""How likely people call a picture a non-face, artificial, or an extreme pose: learned from their answers, out of fold. Without enough answers,
a rank of candidates by a rule. The scores bring candidates before people and decide nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.svm import SVC

from fercore.audit.checks import MEASURE_BLOCK
from fercore.domain import SIDE, Pixels

METHOD = "ranks@1"
LEAST = 20  # pictures to which people said yes, below which nothing is learned
OTHERS = 6000  # pictures that a fold is trained on beside those
FOLDS = 5
FIT = 8000  # pictures that components are found on
FRONTAL, PROFILE = ("frontalface_default", "frontalface_alt2"), "profileface"  # cascades that come with OpenCV
SEEN = 0.1  # share of the pictures, those ranked first, on which cascades look
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """score [n], 0-1: where learned from answers the probability that people say yes, else the share of the pictures that are less marked."""

    score: Doubles
    learned: bool


def scores(kind: str, pixels: Pixels, answers: Doubles, groups: npt.NDArray[np.int64], x: Callable[[], Floats]) -> Scores:
    """Scores pictures for one of `RULES`.

    With at least `LEAST` pictures to which half of the answers or more say yes: a support vector machine, each picture scored by the model of a fold
    that has seen neither it nor a near duplicate of it. Two numbers, fitted on these scores (Platt), make them probabilities. Where few were asked
    and said no, pictures that nobody was asked about stand for them.

    Args:
        pixels: uint8 [n, 48, 48]. answers: [n], the share that says yes, 0-1; NaN where nobody was asked. groups: int [n], of near duplicates.
        x: gives `features` of the pixels.
    """
    yes, no = answers >= 0.5, answers == 0
    if no.sum() < LEAST:
        no |= np.isnan(answers)
    if yes.sum() < LEAST or no.sum() < LEAST:
        return Scores(_shares(RULES[kind](pixels)), False)
    points, rng, margin = x(), np.random.default_rng(0), np.zeros(len(pixels))
    for train, test in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(points, yes, groups):
        taught = np.concatenate([train[yes[train]], rng.permutation(train[no[train]])[:OTHERS]])
        margin[test] = SVC(C=5.0, class_weight="balanced").fit(points[taught], yes[taught]).decision_function(points[test])
    known = no | ~np.isnan(answers)
    platt = LogisticRegression(C=1e6).fit(margin[known, None], yes[known])
    return Scores(platt.predict_proba(margin[:, None])[:, 1], True)


def features(pixels: Pixels) -> Floats:
    """[n, d]: principal components of gradients (HOG) and of the thumbnail, and statistics of the pixel values.

    The components are those of the same pictures; no answer is in them.
    """
    some = pixels[np.random.default_rng(0).permutation(len(pixels))[:FIT]]
    gradients, thumbs = _gradients(some), _thumbs(some)
    few = min(len(some), 120)
    wide, usual, low = (PCA(min(few, n), random_state=0).fit(v) for n, v in ((120, gradients), (60, gradients), (40, thumbs)))

    def of(part: Pixels) -> tuple[Floats, Floats, Floats]:
        g, t = _gradients(part), _thumbs(part)
        return wide.transform(g), low.transform(t), np.column_stack([_statistics(part), np.log1p(_left(low, t)), _left(usual, g)])

    hog, points, plain = (np.concatenate(p) for p in zip(*map(of, _blocks(pixels)), strict=True))
    return np.hstack([hog / hog.std(), 0.3 * _standard(points), 0.5 * _standard(plain)]).astype(np.float32)


def _unlike_others(pixels: Pixels) -> Doubles:
    """What the components of all pictures leave of its gradients; of those with most left, the ones in which cascades see a face come last.
    The set must hold mostly faces."""
    some = _gradients(pixels[np.random.default_rng(0).permutation(len(pixels))[:FIT]])
    usual = PCA(min(len(some), 60), random_state=0).fit(some)
    left = np.concatenate([_left(usual, _gradients(part)) for part in _blocks(pixels)])
    return _first(np.log1p(left), pixels, lambda odd: -_seen(odd, *FRONTAL, PROFILE))


def _turned_away(pixels: Pixels) -> Doubles:
    """How much the picture differs from its mirror image; of those that differ most, the ones in which a cascade for profiles sees a face and those
    for fronts see none come first."""
    details = np.stack([cv2.resize(f - cv2.GaussianBlur(f, (0, 0), 4.0), (12, 12), interpolation=cv2.INTER_AREA)
                        for f in (p.astype(np.float32) for p in pixels)])
    spread = np.maximum(np.square(details).mean(axis=(1, 2)), 1)
    return _first(-(details * details[:, :, ::-1]).mean(axis=(1, 2)) / spread, pixels,
                  lambda odd: 2 * _seen(odd, PROFILE) - _seen(odd, *FRONTAL))


def _drawn(pixels: Pixels) -> Doubles:
    """Plain areas, few grey values and hard edges in the middle of the picture."""
    middle = np.ascontiguousarray(pixels[:, 8:40, 8:40])
    values = middle.astype(np.int16)
    plain = (np.abs(np.diff(values, axis=1))[:, :, 1:] <= 1) & (np.abs(np.diff(values, axis=2))[:, 1:] <= 1)
    edges = np.sort(np.stack([np.abs(cv2.Laplacian(m, cv2.CV_32F)).ravel() for m in middle]), axis=1)
    hard = edges[:, round(0.95 * edges.shape[1])] / (edges[:, edges.shape[1] // 2] + 2)
    commonest = np.sort([np.bincount(m.ravel(), minlength=256) for m in middle], axis=1)[:, -8:].sum(axis=1)
    found = _standard(np.column_stack([plain.mean(axis=(1, 2)), np.log(hard + 0.1), commonest]))
    return np.asarray(found.sum(axis=1), np.float64)


RULES: dict[str, Callable[[Pixels], Doubles]] = {"non_face": _unlike_others, "artificial": _drawn, "extreme_pose": _turned_away}


def _first(values: Doubles, pixels: Pixels, look: Callable[[Pixels], Doubles]) -> Doubles:
    """Values in standard deviations; to those of the pictures ranked first, what a closer look says is added, and they stay first."""
    values = _standard(values[:, None])[:, 0].astype(np.float64)
    first = np.flatnonzero(values >= np.quantile(values, 1 - SEEN))
    more = look(pixels[first])
    values[first] += more - more.min()
    return values


def _blocks(pixels: Pixels) -> list[Pixels]:
    return [pixels[s:s + MEASURE_BLOCK] for s in range(0, len(pixels), MEASURE_BLOCK)]


def _shares(values: Doubles) -> Doubles:
    """The share of values that are less, [n]."""
    return np.asarray(np.searchsorted(np.sort(values), values) / max(len(values), 1))


def _seen(pixels: Pixels, *cascades: str) -> Doubles:
    """How many of the cascades see a face, [n]; profiles both ways."""
    seen = np.zeros(len(pixels))
    for cascade in cascades:
        find = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / f"haarcascade_{cascade}.xml"))
        for i, face in enumerate(pixels):
            wide = cv2.copyMakeBorder(face, 8, 8, 8, 8, cv2.BORDER_REPLICATE)
            seen[i] += any(len(find.detectMultiScale(w, 1.1, 1, minSize=(SIDE // 2, SIDE // 2)))
                           for w in ((wide, wide[:, ::-1].copy()) if cascade == PROFILE else (wide,)))
    return seen


def _left(usual: PCA, values: Floats) -> Doubles:
    """What the components leave of the values, [n]."""
    return np.asarray(((values - usual.inverse_transform(usual.transform(values))) ** 2).sum(axis=1), np.float64)


def _gradients(pixels: Pixels) -> Floats:
    hog = cv2.HOGDescriptor((SIDE, SIDE), (16, 16), (8, 8), (8, 8), 9)
    return np.stack([np.asarray(hog.compute(p)).ravel() for p in pixels]).astype(np.float32)


def _thumbs(pixels: Pixels) -> Floats:
    """[n, 144]: thumbnails of mean 0 and deviation 1."""
    small = np.stack([cv2.resize(p, (12, 12), interpolation=cv2.INTER_AREA) for p in pixels]).reshape(len(pixels), -1).astype(np.float32)
    return np.asarray((small - small.mean(axis=1, keepdims=True)) / np.maximum(small.std(axis=1, keepdims=True), 5), np.float32)


def _statistics(pixels: Pixels) -> Floats:
    """Mean, deviation, sharpness, five percentiles, symmetry, number of distinct values, count of the commonest: [n, 11]."""
    flat, thumbs = pixels.reshape(len(pixels), -1), _thumbs(pixels)
    ordered = np.sort(flat, axis=1)
    turned = thumbs.reshape(-1, 12, 12)[:, :, ::-1].reshape(len(flat), -1)
    counts = np.stack([np.bincount(f, minlength=256) for f in flat])
    edges = np.array([cv2.Laplacian(p, cv2.CV_32F).var() for p in pixels])
    return np.column_stack([flat.mean(axis=1), flat.std(axis=1), np.log1p(edges), *(ordered[:, i] for i in (23, 115, 1152, 2188, 2280)),
                            (thumbs * turned).mean(axis=1), (counts > 0).sum(axis=1), counts.max(axis=1)]).astype(np.float32)


def _standard(values: npt.NDArray[np.floating]) -> Floats:
    return np.asarray((values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-6), np.float32)
