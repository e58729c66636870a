"""Votes of a version as shares, the targets of soft labels."""

import numpy as np
import numpy.typing as npt

from fercore.errors import TrainingError
from fercore.training.data import VersionData


def shares(data: VersionData) -> npt.NDArray[np.float32]:
    """float32 [n, classes], each row sums to 1: the share of the votes that each class got.

    A single vote for a class counts nothing, as FER+ takes it for a slip (Barsoum et al. 2016). A face without other votes counts as its label.

    Raises:
        TrainingError: the version has no votes.
    """
    if data.votes is None:
        raise TrainingError("The version has no votes", f"{data.version_id} gives labels only",
                            "Use labels=hard, or build a version whose recipe says votes: true")
    counts = np.where(data.votes > 1, data.votes, 0).astype(np.float32)
    bare = counts.sum(axis=1) == 0
    counts[bare, data.y[bare]] = 1
    found: npt.NDArray[np.float32] = counts / counts.sum(axis=1, keepdims=True)
    return found
