"""The published "balance, then split" protocol, for comparison only: its test faces are partly trained on, and the report says how many.

Systems S2 and S4 over-sampled the whole set before they split it. No other code may split this way.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fercore.domain import Pixels
from fercore.errors import BadInput, TrainingError
from fercore.training.data import Rows, VersionData
from fercore.training.sampling import balanced

Masks = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LeakyFold:
    """Positions in `pixels`, which holds the faces of a version and then made ones; a position repeats when its face was repeated.

    Attributes:
        classes: class ids.
        originals: how many of `pixels` are the version's own; the others were made by SMOTE.
        pixels: uint8 [n, 48, 48], 0-255.
        y: int64 [n], index in `classes`.
        fit, stop, held_out: int64, trained on, stopping the training, predicted.
    """

    method: str
    classes: tuple[str, ...]
    originals: int
    pixels: Pixels
    y: npt.NDArray[np.int64]
    fit: Rows
    stop: Rows
    held_out: Rows


def leaky_split(data: VersionData, method: str, seed: int, val_share: float = 0.1, test_share: float = 0.1) -> LeakyFold:
    """All rows of the version, whatever their split, balanced by `method` and then split at random.

    Each copy of a row goes its own way; classes keep their shares, duplicates are ignored. Deterministic by `seed`.

    Raises:
        BadInput: an unknown method, or one that changes no row (class_weights, weighted_sampler).
        TrainingError: as `balanced`; too few rows to split, by class.
    """
    from sklearn.model_selection import train_test_split  # here, as other runs start faster without

    if method in ("class_weights", "weighted_sampler"):
        raise BadInput("Nothing to balance before the split", f"{method} only weighs rows", "Choose none, or a method that adds or removes rows")
    # Draws from one seed are no independent draws: copies would then keep together, and 64 instead of 58 % of FER-2013 be copied.
    balance, first, second = np.random.SeedSequence(seed).generate_state(3).tolist()
    rows = balanced(data, np.arange(len(data.y)), method, balance)
    y = np.concatenate([data.y, rows.made_y])
    drawn = np.concatenate([rows.rows, len(data.y) + np.arange(len(rows.made))])
    try:
        rest, held_out = train_test_split(drawn, test_size=test_share, stratify=y[drawn], random_state=first)
        fit, stop = train_test_split(rest, test_size=val_share / (1 - test_share), stratify=y[rest], random_state=second)
    except ValueError as e:
        raise TrainingError("Too few rows to split", f"{data.version_id} after {method}: {e}", "Use a version with more faces") from e
    return LeakyFold(method, data.classes, len(data.y), np.concatenate([data.pixels, rows.made]), y, fit, stop, held_out)


@dataclass(frozen=True)
class Share:
    """`k` of `n`; the caller adds the interval."""

    k: int
    n: int

    @property
    def value(self) -> float | None:
        """k / n, 0-1; None for n = 0."""
        return self.k / self.n if self.n else None


@dataclass(frozen=True)
class LeakReport:
    """What a leaky run shows, and how much of it copies explain. Every test row is one of copied, made and fresh.

    Attributes:
        share_copied: test rows whose very pixels were trained on; by class in `share_copied_by_class`.
        accuracy: as the published systems count it, over every test row.
        accuracy_copied: over the copied ones.
        accuracy_made: over faces made by SMOTE that are not copied; they lie between faces that are mostly trained on.
        accuracy_fresh: over the version's own faces that are not copied. After SMOTE some have made neighbours in training.
        clean: what `predicted` takes for the accuracy without copies.
        clean_from: a clean run, or for want of one the fresh rows of this run.
        predicted: share_copied + (1 - share_copied) * clean, 0-1: the accuracy if all copies are right and the rest as in a clean
            run; None when `clean` has no rows.
    """

    method: str
    n_test: int
    n_fresh: int
    share_copied: Share
    share_copied_by_class: Mapping[str, Share]
    accuracy: Share
    accuracy_copied: Share
    accuracy_made: Share
    accuracy_fresh: Share
    clean: Share
    clean_from: Literal["clean run", "fresh rows"]
    predicted: float | None


def leak_report(fold: LeakyFold, predicted: npt.NDArray[np.int64], clean: Share | None = None) -> LeakReport:
    """Args:
        predicted: int64 [len(fold.held_out)], predicted class indices.
        clean: right predictions and rows of a run with the clean protocol on the same data.
    """
    trained = {face.tobytes() for face in fold.pixels[np.unique(fold.fit)]}
    y = fold.y[fold.held_out]
    right = predicted == y
    copied = np.array([fold.pixels[row].tobytes() in trained for row in fold.held_out])
    made = ~copied & (fold.held_out >= fold.originals)
    fresh = ~copied & ~made

    def share(of: Masks, among: Masks) -> Share:
        return Share(int((of & among).sum()), int(among.sum()))

    everything = np.ones(len(y), bool)
    known = clean or share(right, fresh)
    copies, rest = share(copied, everything), known.value
    return LeakReport(
        fold.method, len(y), int(fresh.sum()), copies, {name: share(copied, y == c) for c, name in enumerate(fold.classes)},
        share(right, everything), share(right, copied), share(right, made), share(right, fresh), known,
        "clean run" if clean else "fresh rows", None if rest is None else (copies.k + (copies.n - copies.k) * rest) / copies.n)
