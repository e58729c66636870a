"""Neighbours among faces in the form imbalanced-learn's SMOTE asks for."""

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import NearestNeighbors

from fercore.training.data import Rows
from fercore.training.sampling import nearest


class ClassNeighbours(NearestNeighbors):  # type: ignore[misc]
    """`nearest` in the form SMOTE asks for: the face itself first, and no more neighbours than a tiny class has."""

    def fit(self, X: npt.NDArray[np.float32], y: object = None) -> "ClassNeighbours":  # noqa: N803
        self.found_ = np.c_[np.arange(len(X)), nearest(X.astype(np.uint8), self.n_neighbors - 1)]
        return self

    def kneighbors(self, X: object, return_distance: bool) -> Rows:  # noqa: N803
        return np.asarray(self.found_)
