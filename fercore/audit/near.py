"""Near duplicates: the same photograph cropped, shifted, mirrored, brightened, blurred or compressed.

Two stages. A linear space, learned from edits of the very faces at hand so that it spans what tells faces apart and not what edits change,
gives candidates by one matrix product over all pairs. Each candidate is then laid over the other at every shift and three scales; the best
correlation of the pixels is the similarity.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from fercore.domain import SIDE, Pixels

METHOD = "overlay@1"
FLOOR = 0.90  # pairs from this similarity on are kept, for the slider
THUMB, DIMENSIONS, CANDIDATE = 16, 64, 0.75  # side of the thumbnail, of the space; the least cosine of a candidate
MOST = 20  # candidates an image, on average; the least alike are dropped beyond that
WINDOW, ENLARGED = 36, 54  # pixels of the part laid over the other face; 48 * 1.125, undoing a crop of 10 %
FEW = 150  # below this many images every pair is a candidate
LEAST_SD = 4.0  # of pixel values; what is flatter correlates with anything flat
FIT = 2000  # faces that the space is learned from
_STEPS = ((0, 0), (2, 2), (2, -2), (-2, 2), (-2, -2))  # pixels a query is moved by
Floats = npt.NDArray[np.float32]
Progress = Callable[[float], None]


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows of the pixels, first < second, with similarity 0-1; `cut` where candidates were too many to look at all."""

    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    similarity: Floats
    mirrored: npt.NDArray[np.bool_]
    cut: bool = False


def crop(face: Pixels, rng: np.random.Generator) -> Pixels:
    """A window of 43 x 43 somewhere, enlarged to 48: 10 % of each side are gone."""
    top, left = rng.integers(0, SIDE - 43 + 1, 2)
    return np.asarray(cv2.resize(face[top:top + 43, left:left + 43], (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), np.uint8)


def shift(face: Pixels, rng: np.random.Generator) -> Pixels:
    """Moved by 3 pixels along one axis or both; the edge is repeated."""
    by = rng.choice([-3, 3], 2) * np.array([(1, 0), (0, 1), (1, 1)][rng.integers(3)])
    return _moved(face, int(by[0]), int(by[1]))


def brightness(face: Pixels, rng: np.random.Generator) -> Pixels:
    """Times 0.6-1.6, clipped."""
    return np.asarray(np.clip(np.rint(face * rng.uniform(0.6, 1.6)), 0, 255), np.uint8)


def blur(face: Pixels, rng: np.random.Generator) -> Pixels:
    """Gaussian of 1 pixel."""
    return np.asarray(cv2.GaussianBlur(face, (0, 0), 1.0), np.uint8)


def jpeg(face: Pixels, rng: np.random.Generator) -> Pixels:
    """Written as JPEG of quality 30 and read again."""
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_GRAYSCALE), np.uint8)


def mirror(face: Pixels, rng: np.random.Generator) -> Pixels:
    return np.ascontiguousarray(face[:, ::-1])


EDITS = (crop, shift, brightness, blur, jpeg, mirror)


def pairs(pixels: Pixels, new: npt.NDArray[np.bool_] | None = None, progress: Progress = lambda share: None) -> Pairs:
    """Every pair of images that look alike from `FLOOR` on, of which at least one is new.

    Args:
        pixels: uint8 [n, 48, 48], distinct images.
        new: bool [n]; None means all. Pairs of images that are not new are left out.
        progress: is told the share that is done, 0-1.
    """
    fresh = np.ones(len(pixels), bool) if new is None else new
    textured = pixels.reshape(len(pixels), -1).std(axis=1) >= LEAST_SD
    first, second, _, flipped, cut = _candidates(pixels, fresh & textured, textured, lambda share: progress(0.7 * share))
    found = _overlaid(pixels, first, second, flipped, lambda share: progress(0.7 + 0.3 * share))
    keep = found >= FLOOR
    return Pairs(first[keep], second[keep], found[keep], flipped[keep], cut)


def groups(first: npt.ArrayLike, second: npt.ArrayLike, n: int) -> npt.NDArray[np.int64]:
    """int [n]: which group each of n images is in, when the pairs (first[i], second[i]) belong together."""
    links = np.asarray(first), np.asarray(second)
    return np.asarray(connected_components(coo_matrix((np.ones(len(links[0]), bool), links), shape=(n, n)), directed=False)[1], np.int64)


def _candidates(pixels: Pixels, fresh: npt.NDArray[np.bool_], usable: npt.NDArray[np.bool_], progress: Progress) -> tuple[
        npt.NDArray[np.int64], npt.NDArray[np.int64], Floats, npt.NDArray[np.bool_], bool]:
    """(first, second, cosine, mirrored, cut); every usable pair both ways round when there are few."""
    rows, columns = np.flatnonzero(fresh), np.flatnonzero(usable)
    if len(columns) < FEW:
        a, b = (side.ravel() for side in np.meshgrid(rows, columns, indexing="ij"))
        wanted = (a < b) | ~fresh[b] & (a != b)
        a, b = np.minimum(a, b)[wanted], np.maximum(a, b)[wanted]
        return np.tile(a, 2), np.tile(b, 2), np.zeros(2 * len(a), np.float32), np.repeat([False, True], len(a)), False
    embed = _space(pixels[columns])
    plain, flipped = embed(pixels), embed(pixels[:, :, ::-1])
    found: list[tuple[npt.NDArray[Any], ...]] = []
    threshold, most, kept, cut = CANDIDATE, MOST * len(columns), 0, False
    if not len(rows):
        return rows, rows, np.zeros(0, np.float32), np.zeros(0, bool), False
    for start in range(0, len(rows), 1024):
        part = rows[start:start + 1024]
        queries = [embed(np.stack([_moved(pixels[r], *step) for r in part])) if any(step) else plain[part] for step in _STEPS]
        # Columns that are new and come before this block were compared with it already.
        against = columns[~fresh[columns] | (columns >= part[0])]
        for at in range(0, len(against), 8192):
            block = against[at:at + 8192]
            straight, turned = (_best(queries, side[block]) for side in (plain, flipped))
            best = np.maximum(straight, turned)
            best[(block[None, :] <= part[:, None]) & fresh[block][None, :]] = -1
            r, c = np.nonzero(best > threshold)
            found.append((part[r], block[c], best[r, c], turned[r, c] > straight[r, c]))
            kept += len(r)
        if kept > 2 * most:
            found, kept, cut = [_top(found, most)], most, True
            threshold = float(found[0][2].min())
        progress((start + len(part)) / len(rows))
    a, b, cosine, turn = (np.concatenate(part) for part in zip(*found, strict=True))
    return np.minimum(a, b), np.maximum(a, b), cosine, turn, cut


def _top(found: list[tuple[npt.NDArray[Any], ...]], most: int) -> tuple[npt.NDArray[Any], ...]:
    """The `most` candidates that are most alike."""
    columns = [np.concatenate(part) for part in zip(*found, strict=True)]
    order = np.argsort(-columns[2])[:most]
    return tuple(c[order] for c in columns)


def _best(queries: list[Floats], index: Floats) -> Floats:
    """The greatest cosine over the moved queries: [rows, columns]."""
    best = queries[0] @ index.T
    for query in queries[1:]:
        np.maximum(best, query @ index.T, out=best)
    return best


def _space(faces: Pixels) -> Callable[[Pixels], Floats]:
    """Images [n, 48, 48] -> unit vectors [n, 64] of the space learned from `faces`."""
    rng = np.random.default_rng(0)
    some = faces[rng.permutation(len(faces))[:FIT]]
    thumbs = _thumbs(some)
    within = sum(np.cov((_thumbs(np.stack([edit(f, rng) for f in some])) - thumbs).T) for edit in (crop, shift, crop, shift, brightness, blur, jpeg))
    _, vectors = eigh(np.cov(thumbs.T), within / 7 + 1e-4 * np.eye(THUMB * THUMB))
    axes = vectors[:, ::-1][:, :DIMENSIONS].astype(np.float32)
    centre = thumbs.mean(axis=0) @ axes

    def embed(images: Pixels) -> Floats:
        points = _thumbs(images) @ axes - centre
        return np.asarray(points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-6), np.float32)

    return embed


def _thumbs(images: Pixels) -> Floats:
    """[n, 256]: thumbnails without mean, of length 1."""
    small = np.stack([cv2.resize(np.ascontiguousarray(i), (THUMB, THUMB), interpolation=cv2.INTER_AREA) for i in images])
    flat = small.reshape(len(small), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-3), np.float32)


def _moved(face: Pixels, right: int, down: int) -> Pixels:
    matrix = np.array([[1, 0, right], [0, 1, down]], np.float32)
    return np.asarray(cv2.warpAffine(face, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _overlaid(pixels: Pixels, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], mirrored: npt.NDArray[np.bool_],
              progress: Progress) -> Floats:
    """The best correlation of each pair over all shifts up to 6 pixels at three scales, 0-1."""
    wanted = np.unique(np.concatenate([first, second]))
    smooth = {i: cv2.GaussianBlur(pixels[i], (0, 0), 1.0) for i in wanted}
    middle = {i: _window(face) for i, face in smooth.items()}
    large = {i: _window(cv2.resize(face, (ENLARGED, ENLARGED), interpolation=cv2.INTER_LINEAR)) for i, face in smooth.items()}

    def one(i: int, j: int, turned: bool) -> float:
        face, near = (smooth[i][:, ::-1].copy(), large[i][:, ::-1].copy()) if turned else (smooth[i], large[i])
        return max((float(cv2.matchTemplate(on, part, cv2.TM_CCOEFF_NORMED).max())
                    for on, part in ((face, middle[j]), (face, large[j]), (smooth[j], near)) if part.std() >= LEAST_SD), default=0.0)

    def some(part: slice) -> Floats:
        sides = (side[part].tolist() for side in (first, second, mirrored))
        return np.array([one(*pair) for pair in zip(*sides, strict=True)], np.float32)

    found: list[Floats] = [np.zeros(0, np.float32)]
    with ThreadPoolExecutor(2) as pool:  # OpenCV works without Python's lock
        slices = list(_slices(len(first), 2000))
        for done, part in enumerate(pool.map(some, slices), 1):
            found.append(part)
            progress(done / len(slices))
    return np.clip(np.nan_to_num(np.concatenate(found)), 0, 1)


def _window(face: Pixels) -> Pixels:
    start = (len(face) - WINDOW) // 2
    return np.ascontiguousarray(face[start:start + WINDOW, start:start + WINDOW])


def _slices(n: int, step: int) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, n, step))
