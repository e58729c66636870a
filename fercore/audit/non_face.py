"""How little a picture looks like a face: learned from the votes at hand, scored out of fold; without votes, from what is usual in the set."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.svm import SVC

from fercore.domain import SIDE, Pixels

METHOD = "svm@1"
LEAST = 20  # pictures voted non-face, below which nothing is learned
FACES = 6000  # faces that a fold is trained on beside all non-faces
FOLDS = 5
_CASCADES = ("haarcascade_frontalface_default.xml", "haarcascade_frontalface_alt2.xml", "haarcascade_profileface.xml")
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scores:
    """share [n]: the share of all pictures that look more like a face, 0-1. learned: whether votes taught it."""

    share: npt.NDArray[np.float64]
    learned: bool


def scores(pixels: Pixels, votes: npt.NDArray[np.float64], groups: npt.NDArray[np.int64]) -> Scores:
    """Ranks pictures by how little they look like a face.

    With at least `LEAST` pictures that half of the votes or more call non-face: a support vector machine, each picture scored by the model of a
    fold that has not seen it, nor a near duplicate of it. Without: see `usual`.

    Args:
        pixels: uint8 [n, 48, 48]. votes: [n], the share of votes that say non-face, 0-1; NaN where nobody was asked.
        groups: int [n], of near duplicates.
    """
    known = ~np.isnan(votes)
    yes, no = known & (votes >= 0.5), known & (votes == 0)
    if yes.sum() < LEAST or no.sum() < LEAST:
        return Scores(_shares(usual(pixels)), False)
    x, rng, total = features(pixels), np.random.default_rng(0), np.zeros(len(pixels))
    for train, test in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(x, yes, groups):
        some = rng.permutation(train[no[train]])[:FACES]
        taught = np.concatenate([train[yes[train]], some])
        total[test] = SVC(C=5.0, class_weight="balanced").fit(x[taught], yes[taught]).decision_function(x[test])
    return Scores(_shares(total), True)


def _shares(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The share of values that are less, [n]."""
    return np.asarray(np.searchsorted(np.sort(values), values) / max(len(values), 1))


def features(pixels: Pixels) -> Floats:
    """[n, d]: principal components of gradients (HOG) and of the thumbnail, and statistics of the pixel values.

    The components are those of the same pictures; no vote is in them.
    """
    gradients, thumbs, plain = _gradients(pixels), _thumbs(pixels), _statistics(pixels)
    few = min(len(pixels), 120)
    hog = PCA(few, random_state=0).fit_transform(gradients)
    low = PCA(min(few, 40), random_state=0).fit(thumbs)
    points = low.transform(thumbs)
    left = np.log1p(((thumbs - low.inverse_transform(points)) ** 2).sum(axis=1))
    odd = ((gradients - (p := PCA(min(few, 60), random_state=0).fit(gradients)).inverse_transform(p.transform(gradients))) ** 2).sum(axis=1)
    return np.hstack([hog / hog.std(), 0.3 * _standard(points), 0.5 * _standard(np.column_stack([plain, left, odd]))]).astype(np.float32)


def usual(pixels: Pixels) -> npt.NDArray[np.float64]:
    """[n], greater where a picture is less like the others: what the components of all pictures leave of its gradients; of the tenth with most
    left, those in which cascades of OpenCV see a face come last. Teaches itself from the set, which must hold mostly faces."""
    gradients = _gradients(pixels)
    pca = PCA(min(len(pixels), 60), random_state=0).fit(gradients)
    left = _standard(np.log1p(((gradients - pca.inverse_transform(pca.transform(gradients))) ** 2).sum(axis=1))[:, None])[:, 0].astype(np.float64)
    odd = np.flatnonzero(left >= np.quantile(left, 0.9))
    unseen = len(_CASCADES) - _seen(pixels[odd])
    left[odd] += unseen + 1
    return left


def _seen(pixels: Pixels) -> npt.NDArray[np.float64]:
    """How many of the cascades see a face, [n]; profiles both ways."""
    hits = np.zeros(len(pixels))
    for name in _CASCADES:
        cascade = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / name))
        for i, face in enumerate(pixels):
            wide = cv2.copyMakeBorder(face, 8, 8, 8, 8, cv2.BORDER_REPLICATE)
            turned = (wide, wide[:, ::-1].copy()) if "profile" in name else (wide,)
            hits[i] += any(len(cascade.detectMultiScale(w, 1.1, 1, minSize=(SIDE // 2, SIDE // 2))) for w in turned)
    return hits


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
