"""Which rows are trained on, which stop the training, and which are predicted."""

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fercore.errors import TrainingError
from fercore.training.data import Rows, VersionData, refuse_leaks

INNER_PARTS = 10  # one in ten rows outside the held-out fold decides when to stop


@dataclass(frozen=True)
class Fold:
    """Positions in a VersionData: `fit` is trained on, `stop` picks the best epoch, `held_out` is predicted once at the end."""

    number: int
    fit: Rows
    stop: Rows
    held_out: Rows


def hold_out(data: VersionData) -> Fold:
    """The version's own splits: train, val, test. Raises: TrainingError: one is empty, or a class has no training rows."""
    return _checked(data, Fold(0, data.rows("train"), data.rows("val"), data.rows("test")))


def k_folds(data: VersionData, folds: int, seed: int) -> list[Fold]:
    """Grouped, stratified folds over the train and val rows; test rows are never touched.

    Deterministic by `seed` and the sample ids (VersionData is in their order). The stopping rows of a fold are one part of a
    second grouped split, less the held-out rows; that costs one more split in all, not one a fold.

    Raises:
        TrainingError: a class has fewer duplicate groups than `folds`, a fold is empty, or a class has no training rows.
    """
    rows = data.rows("train", "val")
    groups = data.samples.iloc[rows].groupby("label")["duplicate_group"].nunique()
    for name in data.classes:
        if (n := int(groups.get(name, 0))) < folds:
            raise TrainingError(f"Too few faces of class {name}", f"{n} distinct faces cannot be in {folds} folds",
                                "Use fewer folds, or drop the class from the version")
    outer = _parts(data, rows, folds, seed)
    inner = _parts(data, rows, min(INNER_PARTS, int(groups.max())), (seed + 1) % 2**32)
    made = []
    for k in range(folds):
        stop = inner == np.bincount(inner[outer != k]).argmax()  # the part that keeps most rows without the held-out ones
        made.append(_checked(data, Fold(k, rows[(outer != k) & ~stop], rows[(outer != k) & stop], rows[outer == k])))
    return made


def _parts(data: VersionData, rows: Rows, n: int, seed: int) -> npt.NDArray[np.int64]:
    """The part, 0..n-1, of each of `rows`; equal duplicate groups get equal parts."""
    from sklearn.model_selection import StratifiedGroupKFold  # here, as hold-out runs start faster without

    part = np.empty(len(rows), np.int64)
    splitter = StratifiedGroupKFold(n, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # a class too small for ten inner parts is no harm: it may be missing in a stopping part
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        for k, (_, chosen) in enumerate(splitter.split(rows, data.y[rows], data.samples["duplicate_group"].to_numpy()[rows])):
            part[chosen] = k
    return part


def _checked(data: VersionData, fold: Fold) -> Fold:
    for part, rows in (("training", fold.fit), ("validation", fold.stop), ("held-out", fold.held_out)):
        if not len(rows):
            raise TrainingError(f"No {part} rows", f"{data.version_id} leaves none in fold {fold.number}",
                                "Build a version with more rows, or with train, val and test")
    missing = [name for i, name in enumerate(data.classes) if i not in set(data.y[fold.fit])]
    if missing:
        raise TrainingError(f"No training rows for {', '.join(missing)}", f"in fold {fold.number} of {data.version_id}",
                            "Add faces of the class, or drop the class from the version")
    refuse_leaks(data, {"training rows": fold.fit, "validation rows": fold.stop, "held-out rows": fold.held_out})
    return fold
