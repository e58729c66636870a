"""Class balancing of training rows, after the split, and the guard that nothing evaluated is trained on.

imbalanced-learn and scikit-learn are loaded only by the methods that need them: the training benchmark runs on machines without the one, and a worker
starts faster without the other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt
import torch

from fercore.domain import Pixels
from fercore.errors import BadInput, TrainingError
from fercore.training.config import Balance
from fercore.training.data import Rows, VersionData

BALANCES: tuple[Balance, ...] = get_args(Balance)
SMOTE_NEIGHBOURS, ENN_NEIGHBOURS = 5, 3  # as in imbalanced-learn and the papers
BLOCK = 128  # faces compared with all others at once: 70 MB for 50,000 faces

Labels = npt.NDArray[np.int64]
Masks = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TrainingRows:
    """What one training is fed with.

    Attributes:
        rows: int64 [m], positions in a VersionData; a position may repeat (ros).
        made: uint8 [k, 48, 48], 0-255, faces that smote made; k = 0 for the other methods.
        made_y: int64 [k], their classes.
        class_weights: float32 [classes], factor of a row's loss; None unless the method is class_weights.
        draw_weights: float64 [m], sums to 1: how likely each of `rows` is at each draw with replacement, so that the classes are
            equally likely; None unless the method is weighted_sampler.
    """

    rows: Rows
    made: Pixels
    made_y: Labels
    class_weights: npt.NDArray[np.float32] | None = None
    draw_weights: npt.NDArray[np.float64] | None = None


def balanced(data: VersionData, rows: Rows, method: str, seed: int) -> TrainingRows:
    """`rows` balanced by `method`; no other row of `data` is looked at. Deterministic by `seed`.

    none: as they are. class_weights: n / (classes * n_c), scikit-learn's "balanced" (King & Zeng 2001). weighted_sampler: draws by
    1 / (classes * n_c). ros / rus: repeat / leave out rows at random until all classes are as large as the largest / smallest.
    smote: faces between a face and one of its 5 nearest of the class (Chawla et al. 2002), fewer in a class of up to 5, rounded
    to uint8. tomek: without those of the larger classes that form a Tomek link (Tomek 1976). smote_tomek, smote_enn: smote, then
    without all faces that form a Tomek link, or that have a face of another class among their 3 nearest (Batista et al. 2004).
    Defaults are those of imbalanced-learn; cleaning looks at the rounded faces, which are the ones trained on.

    Args:
        rows: int64 [n], each position once.
        seed: 0 .. 2**32 - 1.

    Raises:
        BadInput: `method` is not in BALANCES.
        TrainingError: a class has no row, has one row (smote), or loses all of them by cleaning; it is named.
    """
    if method not in BALANCES:
        raise BadInput("Unknown balancing", f"{method!r} is not a way to balance classes", f"Choose one of {', '.join(BALANCES)}")
    y, faces = data.y[rows], data.pixels[rows]
    counts = np.bincount(y, minlength=len(data.classes))
    _refuse_empty(data, counts, "There are no training rows", "Add faces of the class, or drop the class from the version")
    fair = 1 / (len(counts) * counts)
    if method == "class_weights":
        return TrainingRows(rows, faces[:0], y[:0], class_weights=(len(y) * fair).astype(np.float32))
    if method == "weighted_sampler":
        return TrainingRows(rows, faces[:0], y[:0], draw_weights=fair[y])
    if method in ("ros", "rus"):
        return TrainingRows(rows[_resampled(y, method, seed)], faces[:0], y[:0])
    made, made_y = _smote(data, faces, y, seed) if method.startswith("smote") else (faces[:0], y[:0])
    if method in ("none", "smote"):
        return TrainingRows(rows, made, made_y)
    clean: Callable[[Pixels, Labels], Masks] = _without_disputed if method == "smote_enn" else _without_tomek_links
    every = np.concatenate([y, made_y])
    keep = clean(np.concatenate([faces, made]), every)
    if method == "tomek":
        keep |= every == counts.argmin()
    _refuse_empty(data, np.bincount(every[keep], minlength=len(counts)), f"{method} leaves none: all look more like other classes",
                  "Choose another balancing, such as class_weights")
    old, new = keep[:len(rows)], keep[len(rows):]
    return TrainingRows(rows[old], made[new], made_y[new])


def _refuse_empty(data: VersionData, counts: Labels, why: str, remedy: str) -> None:
    if empty := [name for name, n in zip(data.classes, counts, strict=True) if not n]:
        raise TrainingError(f"No training rows for {', '.join(empty)}", f"{why} ({data.version_id})", remedy)


def _resampled(y: Labels, method: str, seed: int) -> Rows:
    from imblearn.over_sampling import RandomOverSampler
    from imblearn.under_sampling import RandomUnderSampler

    sampler = (RandomOverSampler if method == "ros" else RandomUnderSampler)(random_state=seed)
    sampler.fit_resample(y[:, None], y)
    return np.asarray(sampler.sample_indices_, np.int64)


def _smote(data: VersionData, faces: Pixels, y: Labels, seed: int) -> tuple[Pixels, Labels]:
    from imblearn.over_sampling import SMOTE

    from fercore.training.neighbours import ClassNeighbours

    counts = np.bincount(y)
    if alone := [data.classes[c] for c in np.flatnonzero(counts == 1) if counts.max() > 1]:
        raise TrainingError(f"SMOTE needs two faces of class {alone[0]}", "There is one training row, so nothing lies between it and another",
                            "Add faces of the class, or choose another balancing, such as ros")
    smote = SMOTE(random_state=seed, k_neighbors=ClassNeighbours(n_neighbors=SMOTE_NEIGHBOURS + 1))
    x, every = smote.fit_resample(faces.reshape(len(y), -1).astype(np.float32), y)
    made = np.rint(x[len(y):]).astype(np.uint8).reshape(-1, *faces.shape[1:])
    return made, np.asarray(every[len(y):], np.int64)


def _without_tomek_links(faces: Pixels, y: Labels) -> Masks:
    """Which faces stay: not those of another class than their nearest, whose nearest they are in turn."""
    other = nearest(faces, 1)[:, 0]
    return np.asarray((other[other] != np.arange(len(y))) | (y[other] == y))


def _without_disputed(faces: Pixels, y: Labels) -> Masks:
    """Which faces stay: those with only their own class among the nearest (Wilson 1972, in imbalanced-learn's form "all")."""
    return np.asarray((y[nearest(faces, ENN_NEIGHBOURS)] == y[:, None]).all(1))


def nearest(faces: Pixels, k: int) -> Rows:
    """The `k` nearest other faces of each, by Euclidean distance of pixels.

    Exact whole-number arithmetic: 7 times as fast as scikit-learn's brute force where the processor multiplies bytes, the same
    answer on every machine, and right where copies are in the data (scikit-learn may take a copy for the face itself).

    Args:
        faces: uint8 [n, ...], 0-255, at most 4,096 pixels each.

    Returns:
        int64 [n, min(k, n - 1)], nearest first; of equally near ones the lower position first.
    """
    flat, n = torch.from_numpy((faces.reshape(len(faces), -1) ^ 128).view(np.int8)), len(faces)  # xor 128: pixel - 128
    positions = torch.arange(n)
    blocks = [positions[i:i + BLOCK] for i in range(0, n, BLOCK)]
    # Sorted by |b|^2 - 2ab, the squared distance less |a|^2, then by position: whole numbers below 2^63, both in one.
    norms = n * torch.cat([(flat[block].int() ** 2).sum(1) for block in blocks]) + positions
    found = torch.empty((n, min(k, n - 1)), dtype=torch.int64)
    for block in blocks:
        key = torch.sub(norms, _dots(flat[block], flat), alpha=2 * n)
        key[torch.arange(len(block)), block] = torch.iinfo(torch.int64).max
        found[block] = key.topk(min(k, n - 1), largest=False).values % n
    return found.numpy()


def _dots(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Exact inner products of int8 [m, d] and [n, d]: int32 [m, n]."""
    if torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return torch._int_mm(a, b.T)
    # Elsewhere _int_mm may be a plain loop. 768 products of bytes stay below 2^24, up to which float32 counts exactly.
    return torch.stack([(a[:, i:i + 768].float() @ b[:, i:i + 768].float().T).int() for i in range(0, a.shape[1], 768)]).sum(0)


def refuse_derived(data: VersionData, training: TrainingRows, given: Rows, evaluated: Rows) -> None:
    """The leak guard: refuse a training that has seen what it will be judged by.

    Args:
        training: what will be trained on.
        given: int64, the training rows of the split.
        evaluated: int64, the rows that stop the training, and those that are predicted.

    Raises:
        TrainingError: a row outside `given` is trained on; or an evaluated row has a trained row in its duplicate group, or the
            very pixels of a trained row or made face, whatever its group. The samples are named.
    """
    trained = np.unique(training.rows)
    sample, group = data.samples["sample_id"].to_numpy(), data.samples["duplicate_group"].to_numpy()

    def refuse(detail: str) -> None:
        raise TrainingError("Training would see what it is judged by", detail,
                            "Nothing was trained; build the version again, and report this if it stays")

    if len(strange := np.setdiff1d(trained, given)):
        refuse(f"sample {sample[strange[0]]} is trained on but is not a training row of the split ({len(strange)} such)")
    groups = dict(zip(group[evaluated], evaluated, strict=True))
    if leaks := [row for row in trained if group[row] in groups]:
        refuse(f"sample {sample[leaks[0]]} is trained on, sample {sample[groups[group[leaks[0]]]]} of its duplicate group is evaluated"
               f" ({len(leaks)} such)")
    faces = {data.pixels[row].tobytes(): row for row in evaluated}
    if copies := [row for row in trained if data.pixels[row].tobytes() in faces]:
        refuse(f"sample {sample[copies[0]]} is trained on, sample {sample[faces[data.pixels[copies[0]].tobytes()]]} with the same pixels is evaluated"
               f" ({len(copies)} such)")
    if twins := [face for face in training.made if face.tobytes() in faces]:
        refuse(f"a made face has the pixels of sample {sample[faces[twins[0].tobytes()]]}, which is evaluated ({len(twins)} such)")
