"""Faces worth a look: where a run was sure and wrong, where it was nearly right, and where two runs say different things."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import pandas as pd

from fercore.errors import BadInput
from fercore.evaluation.read import classes_of

View = Literal["mistakes", "near", "apart"]
VIEWS: tuple[View, ...] = get_args(View)


def faces(view: View, frame: pd.DataFrame, other: pd.DataFrame | None = None, labelled: Sequence[str] = (),
          predicted: Sequence[str] = ()) -> pd.DataFrame:
    """Predictions to look at: sample_id, label, predicted, confidence, runner_up (class), margin (confidence less the runner-up's probability), and
    for "apart" other_predicted and other_confidence.

    mistakes: wrong, the surest first. near: wrong with the label second, the smallest margin first. apart: faces of both runs on which they
    differ, the surest of both together first. Narrowed to these labels and predictions, any where empty.

    Raises:
        BadInput: an unknown class; "apart" without another run, with one of other classes, or with one that predicts no common face.
    """
    classes = classes_of(frame)
    if strange := {*labelled, *predicted} - set(classes):
        raise BadInput("Unknown class", ", ".join(sorted(strange)), f"Choose one of {', '.join(classes)}")
    p = frame[[f"p_{c}" for c in classes]].to_numpy(np.float64)
    second = np.argsort(-p, axis=1, kind="stable")[:, 1] if len(classes) > 1 else np.zeros(len(p), np.int64)
    rows = frame[["sample_id", "label", "predicted", "confidence"]].assign(
        runner_up=np.array(classes, dtype=object)[second], margin=frame["confidence"] - p[np.arange(len(p)), second])
    if view == "mistakes":
        found = rows[rows["label"] != rows["predicted"]].sort_values(["confidence", "sample_id"], ascending=[False, True])
    elif view == "near":
        found = rows[(rows["label"] != rows["predicted"]) & (rows["label"] == rows["runner_up"])].sort_values(["margin", "sample_id"])
    else:
        found = _apart(rows, classes, other)
    if labelled:
        found = found[found["label"].isin(labelled)]
    return (found[found["predicted"].isin(predicted)] if predicted else found).reset_index(drop=True)


def _apart(rows: pd.DataFrame, classes: list[str], other: pd.DataFrame | None) -> pd.DataFrame:
    if other is None:
        raise BadInput("Two runs are compared", "Only one was chosen", "Choose another run")
    if classes_of(other) != classes:
        raise BadInput("The runs have other classes", f"{', '.join(classes)} and {', '.join(classes_of(other))}", "Choose runs of one scheme")
    theirs = other[["sample_id", "predicted", "confidence"]].rename(columns={"predicted": "other_predicted", "confidence": "other_confidence"})
    both = rows.merge(theirs, on="sample_id")
    if both.empty:
        raise BadInput("No face in common", "The runs predict different faces", "Choose two hold-out runs, or two with folds, on one version")
    apart = both[both["predicted"] != both["other_predicted"]]
    return apart.assign(sure=apart["confidence"] + apart["other_confidence"]).sort_values(["sure", "sample_id"], ascending=[False, True]).drop(
        columns="sure")
