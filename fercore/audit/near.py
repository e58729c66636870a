"""Near duplicates: the same photograph cropped, shifted, mirrored, brightened, blurred or compressed.

Three stages, each on what the one before leaves. A linear space is learned from edits of the very faces at hand, so that it spans what tells faces
apart and not what edits change. All pairs are compared in its first axes; what is alike there is compared in all axes at 27 shifts and scales; and
what is still alike is laid over each other pixel by pixel. The best correlation of the details is the similarity.
"""

import os
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
from threadpoolctl import threadpool_limits

from fercore.domain import SIDE, Pixels

METHOD = "overlay@2"
FLOOR = 0.80  # pairs from this similarity on are kept, for the slider
THUMB, FIRST, DIMENSIONS = 16, 32, 96  # side of the thumbnail; axes of the space in which all pairs are compared, and in which some are
ALIKE, CLOSE = 0.65, 0.82  # the least cosine in the first axes, and in all of them
MANY = 0.1  # of all pairs, how many are looked at beyond the first stage at most
MOST = 50  # candidates of one image at most; the least alike are dropped beyond that
WINDOW, ENLARGED = 36, 54  # pixels of the part laid over the other face; 48 * 1.125, undoing a crop of 10 %
FEW = 150  # below this many images every pair is a candidate
LEAST_SD, LEAST_DETAIL = 4.0, 1.5  # of pixel values, as they are and without light; what is flatter correlates with anything flat
TILE = 512  # images compared at a time; the products of two tiles stay in the cache of a processor
FIT = 1500  # faces that the space is learned from
_SHIFTS, _SCALES = (-2 / 3, 0, 2 / 3), (1, 1.12, 1 / 1.12)  # of a thumbnail; a third is one pixel of the face
Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Progress = Callable[[float], None]


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows of the pixels, first < second, with similarity 0-1."""

    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    similarity: Floats
    mirrored: npt.NDArray[np.bool_]


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
    rows, columns = np.flatnonzero(fresh & textured), np.flatnonzero(textured)
    with threadpool_limits(1):  # one thread a tile is faster than many threads a product
        if len(columns) < FEW:
            first, second = (side.ravel() for side in np.meshgrid(rows, np.concatenate([columns, columns + len(pixels)]), indexing="ij"))
            wanted = ~fresh[second % len(pixels)] | (first < second % len(pixels))
            first, second = first[wanted], second[wanted]
        else:
            first, second = _candidates(pixels, rows, columns, fresh, lambda share: progress(0.6 * share))
        found = _overlaid(pixels, first, second, lambda share: progress(0.6 + 0.4 * share))
    order = np.argsort(-found, kind="stable")[:int((found >= FLOOR).sum())]  # of a pair seen both ways round, the better comes first
    pair = np.sort(np.stack([first[order], second[order] % len(pixels)]), axis=0)
    once = order[np.unique(pair, axis=1, return_index=True)[1]]
    low, high = np.sort(np.stack([first[once], second[once] % len(pixels)]), axis=0)
    return Pairs(low, high, found[once], second[once] >= len(pixels))


def calibration(faces: Pixels, bounds: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(recall, precision) at each bound of one edited copy of each face, every other pair being wrong; precision is NaN where nothing is found."""
    rng, n = np.random.default_rng(0), len(faces)
    found = pairs(np.concatenate([faces, np.stack([EDITS[i % len(EDITS)](face, rng) for i, face in enumerate(faces)])]))
    alike = found.similarity[:, None] >= bounds
    hits = (alike & (found.second - found.first == n)[:, None]).sum(axis=0)
    return hits / n, hits / np.where(alike.any(axis=0), alike.sum(axis=0), np.nan)


def groups(first: npt.ArrayLike, second: npt.ArrayLike, n: int) -> npt.NDArray[np.int64]:
    """int [n]: which group each of n images is in, when the pairs (first[i], second[i]) belong together."""
    links = np.asarray(first), np.asarray(second)
    return np.asarray(connected_components(coo_matrix((np.ones(len(links[0]), bool), links), shape=(n, n)), directed=False)[1], np.int64)


def _candidates(pixels: Pixels, rows: Rows, columns: Rows, fresh: npt.NDArray[np.bool_], progress: Progress) -> tuple[Rows, Rows]:
    """(first, second) of the pairs worth laying over each other; second + n stands for the mirrored image."""
    n, thumbs = len(pixels), _thumbs(pixels)
    axes, centre = _space(pixels[columns])
    warped = np.hstack(list(_warps() @ axes))  # a warp of thumbnails is linear: [256, 27 * 96]
    both = np.concatenate([thumbs, thumbs.reshape(-1, THUMB, THUMB)[:, :, ::-1].reshape(n, -1)]) @ axes - centre
    wide, narrow = _unit(both), _unit(both[:, :FIRST])

    def block(part: slice) -> Rows:
        mine = rows[part]
        others = columns[~fresh[columns] | (columns >= mine[0])]  # new ones before this block were compared with it already
        near = []
        for some in np.array_split(np.concatenate([others, others + n]), 1 + 2 * len(others) // TILE):
            cosine = narrow[mine] @ narrow[some].T
            hits, most = np.flatnonzero(cosine > ALIKE), int(MANY * cosine.size)
            if len(hits) > most:
                hits = hits[np.argpartition(cosine.ravel()[hits], -most)[-most:]]
            near.append(np.stack([hits // len(some), some[hits % len(some)]]))
        r, c = np.concatenate(near, axis=1)
        other = c % n
        wanted = ~fresh[other] | (other > mine[r])
        r, c = r[wanted], c[wanted]
        order = np.argsort(r, kind="stable")
        moved = _unit((thumbs[mine] @ warped).reshape(len(mine), -1, DIMENSIONS) - centre)
        kept = []
        for row, at, its in zip(mine, moved, np.split(c[order], np.searchsorted(r[order], np.arange(1, len(mine)))), strict=True):
            cosine = (wide[its] @ at.T).max(axis=1)
            best = its[np.argsort(-cosine)[:int((cosine > CLOSE).sum())]]
            best = np.append(best[:MOST - 1], best[MOST - 1:].min()) if len(best) > MOST else best  # the next one, so that a crowd hangs together
            kept.append(np.stack([np.full(len(best), row), best]))
        return np.concatenate(kept, axis=1)

    found = _threaded(block, [slice(s, s + TILE) for s in range(0, len(rows), TILE)], progress)
    first, second = np.concatenate([np.zeros((2, 0), np.int64), *found], axis=1)
    return first, second


def _threaded(act: Callable[[slice], npt.NDArray[Any]], parts: list[slice], progress: Progress) -> Iterator[npt.NDArray[Any]]:
    """The outcome of `act` on each part, in order; without Python's lock for the most part. What has not begun is dropped if `progress`
    raises."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(act, part) for part in parts]
        try:
            for done, job in enumerate(jobs, 1):
                yield job.result()
                progress(done / len(jobs))
        finally:
            pool.shutdown(cancel_futures=True)


def _space(faces: Pixels) -> tuple[Floats, Floats]:
    """The axes [256, 96], what tells faces apart best first, and the centre [96] of the space learned from `faces`."""
    rng = np.random.default_rng(0)
    some = faces[rng.permutation(len(faces))[:FIT]]
    thumbs = _thumbs(some)
    within = sum(np.cov((_thumbs(np.stack([edit(f, rng) for f in some])) - thumbs).T) for edit in (crop, shift, crop, shift, brightness, blur, jpeg))
    last = THUMB * THUMB
    _, vectors = eigh(np.cov(thumbs.T), within / 7 + 1e-4 * np.eye(last), subset_by_index=(last - DIMENSIONS, last - 1))
    axes = vectors[:, ::-1].astype(np.float32)
    return axes, thumbs.mean(axis=0) @ axes


def _unit(points: Floats) -> Floats:
    return np.asarray(points / np.maximum(np.sqrt(np.einsum("...i,...i->...", points, points)), 1e-6)[..., None], np.float32)


def _warps() -> Floats:
    """[27, 256, 256]: thumbnail @ warp is the thumbnail moved and enlarged."""
    units = np.eye(THUMB * THUMB, dtype=np.float32).reshape(-1, THUMB, THUMB)
    middle = (THUMB - 1) / 2
    matrices = [np.array([[z, 0, middle * (1 - z) + x], [0, z, middle * (1 - z) + y]], np.float32)
                for z in _SCALES for x in _SHIFTS for y in _SHIFTS]
    return np.stack([[cv2.warpAffine(u, m, (THUMB, THUMB), borderMode=cv2.BORDER_REPLICATE).ravel() for u in units] for m in matrices])


def _thumbs(images: Pixels) -> Floats:
    """[n, 256]: thumbnails without mean, of length 1."""
    small = np.stack([cv2.resize(np.ascontiguousarray(i), (THUMB, THUMB), interpolation=cv2.INTER_AREA) for i in images])
    flat = small.reshape(len(small), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-3), np.float32)


def _moved(face: Pixels, right: int, down: int) -> Pixels:
    matrix = np.array([[1, 0, right], [0, 1, down]], np.float32)
    return np.asarray(cv2.warpAffine(face, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _overlaid(pixels: Pixels, first: Rows, second: Rows, progress: Progress) -> Floats:
    """The best correlation of each pair over all shifts up to 6 pixels at three scales, 0-1; second + n stands for the mirrored image."""
    n = len(pixels)
    faces: dict[int, Floats] = {}
    middle: dict[int, Floats] = {}
    large: dict[int, Floats] = {}
    for i in np.unique(np.concatenate([first, second])).tolist():
        faces[i] = _details(pixels[i % n] if i < n else pixels[i % n][:, ::-1])
        middle[i], large[i] = _window(faces[i]), _window(np.asarray(cv2.resize(faces[i], (ENLARGED, ENLARGED)), np.float32))
    plain = {i for part in (middle, large) for i, window in part.items() if window.std() < LEAST_DETAIL}

    def some(part: slice) -> Floats:
        return np.array([0 if i in plain or j in plain else max(
            float(cv2.matchTemplate(on, window, cv2.TM_CCOEFF_NORMED).max())
            for on, window in ((faces[i], middle[j]), (faces[i], large[j]), (faces[j], large[i])))
            for i, j in zip(first[part].tolist(), second[part].tolist(), strict=True)], np.float32)

    found = _threaded(some, [slice(s, s + 1000) for s in range(0, len(first), 1000)], progress)
    return np.asarray(np.clip(np.nan_to_num(np.concatenate([np.zeros(0, np.float32), *found])), 0, 1), np.float32)


def _details(face: Pixels) -> Floats:
    """Without noise, and without the light that falls on it: two faces lit from the same side are not alike."""
    smooth = cv2.GaussianBlur(face.astype(np.float32), (0, 0), 1.0)
    return np.asarray(smooth - cv2.GaussianBlur(smooth, (0, 0), 4.0), np.float32)


def _window(face: Floats) -> Floats:
    start = (len(face) - WINDOW) // 2
    window: Floats = face[start:start + WINDOW, start:start + WINDOW].copy()
    return window
