"""Disagreements: what is disputed, how people voted without saying who, and labelled faces that look alike."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from fercore.curation.events import comment
from fercore.domain import SIDE, Permission, Person, Pixels
from fercore.store import Store, labels

SMALL = 16  # pixels a side of what is compared


@dataclass(frozen=True)
class Dispute:
    """One face to settle: anonymous votes as (value, count), commonest first, and each vote by itself."""

    image_id: str
    votes: tuple[tuple[str, int], ...]
    each: tuple[str, ...]


def disputed(store: Store, actor: Person, field: str, *, share: float = 0.5, limit: int = 500) -> pd.DataFrame:
    """Faces that wait to be settled by this person (image_id, n, top); see `store.labels.disputed`. Raises: NotAllowed."""
    actor.require(Permission.ADJUDICATE)
    return labels.disputed(store, actor, field, share, limit)


def dispute(store: Store, actor: Person, image_id: str, field: str) -> Dispute:
    """How a face was voted on. Raises: NotAllowed."""
    actor.require(Permission.ADJUDICATE)
    values = [value for _, value in labels.ballots(store, image_id, field)]
    return Dispute(image_id, tuple(Counter(values).most_common()), tuple(values))


def ask_again(store: Store, actor: Person, image_id: str, field: str, text: str) -> int:
    """Asks everyone who voted on a face to look again, through their inboxes, and returns how many that are; nobody learns who they are.

    Raises:
        NotAllowed. BadInput: no text.
    """
    actor.require(Permission.ADJUDICATE)
    voters = [person for person, _ in labels.ballots(store, image_id, field)]
    for person in voters:
        comment(store, actor, image_id, text, to=person)
    return len(voters)


def looks(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Unit vectors [n, 256] of faces shrunk to 16 x 16 with mean removed: their dot product is the correlation of the two small images.

    Args:
        pixels: uint8 [n, 48, 48].
    """
    step = SIDE // SMALL
    small = pixels.reshape(-1, SMALL, step, SMALL, step).mean((2, 4), dtype=np.float32).reshape(-1, SMALL * SMALL)
    small -= small.mean(1, keepdims=True)
    unit: npt.NDArray[np.float32] = small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6)
    return unit


def alike(vectors: npt.NDArray[np.float32], face: npt.NDArray[np.float32], n: int) -> npt.NDArray[np.intp]:
    """Rows of `vectors` [m, 256] most correlated with `face` [256], the most alike first."""
    scores = vectors @ face
    best = np.argpartition(-scores, min(n, len(scores) - 1))[:n]
    return best[np.argsort(-scores[best], kind="stable")]
