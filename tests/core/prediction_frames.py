"""Random predictions in the form `fercore.evaluation.predictions` returns, for tests of metrics and bias."""

import numpy as np
import pandas as pd

from fercore.schemes import FER7

CLASSES = list(FER7.ids)


def faces(n: int, seed: int = 0, skill: float = 0.6, classes: list[str] = CLASSES, copies: float = 0.0) -> pd.DataFrame:
    """n out-of-fold predictions, right with probability `skill` plus luck; a share `copies` of the rows repeats earlier ones."""
    rng = np.random.default_rng(seed)
    k = len(classes)
    true = rng.integers(0, k, n)
    predicted = np.where(rng.random(n) < skill, true, rng.integers(0, k, n))
    p = rng.dirichlet(np.ones(k), n)
    rows, best = np.arange(n), p.argmax(1)
    p[rows, best], p[rows, predicted] = p[rows, predicted], p[rows, best]
    source = np.where(rng.random(n) < copies, rng.integers(0, n, n), rows)
    names = np.array(classes)
    frame = pd.DataFrame({"duplicate_group": [f"g{i}" for i in source], "label": names[true[source]],
                          "predicted": names[predicted[source]], "fold": source % 5, "out_of_fold": True,
                          "age_band": rng.choice(["young", "middle_aged", "senior"], n)[source],
                          "gender": rng.choice(["female", "male"], n)[source]})
    frame[[f"p_{c}" for c in classes]] = p[source].astype(np.float32)
    return frame.assign(sample_id=[f"s{i:05d}" for i in rows], correct=frame["label"] == frame["predicted"],
                        confidence=frame[[f"p_{c}" for c in classes]].max(axis=1))


def scored(hits: np.ndarray, group: np.ndarray | None = None, **columns: object) -> pd.DataFrame:
    """Faces of two classes, all labelled happy, predicted right where `hits`."""
    n = len(hits)
    return pd.DataFrame({"sample_id": [f"s{i:05d}" for i in range(n)], "label": "happy", "correct": hits, "out_of_fold": True,
                         "duplicate_group": np.arange(n) if group is None else group, "fold": 0,
                         "predicted": np.where(hits, "happy", "sad"), "confidence": 0.7, "age_band": None, "gender": None, **columns})
