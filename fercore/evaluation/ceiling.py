"""How good any model could look, given that people disagree about the faces it is judged by."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fercore.domain import Workspace
from fercore.errors import BadInput
from fercore.evaluation.estimate import Estimate, Ints, codes, proportion
from fercore.evaluation.read import version_rows

HUMAN = (0.65, 0.05)  # on FER-2013 (Goodfellow et al. 2013): accuracy of people, and how far it may be off


@dataclass(frozen=True)
class Ceiling:
    """Means over the n faces that have votes, with 95 % intervals by duplicate group.

    With v votes for a class of the N that a face got, over the classes of the version:

    Attributes:
        oracle: the most voted class is the label of the version; m classes that share the first place count 1 / m. Who knows every vote and
            answers best is right this often on these labels; above it a model fits what is peculiar to them.
        against_rater: max v / N: always giving the most voted class, judged by one of the votes drawn at random. Too high, as the vote drawn
            had a part in the choice.
        against_next: the same where the class is chosen by the other N - 1 votes: too low, as one vote fewer chooses. The best expected
            accuracy against one more rater lies between the two. N >= 2.
        rater: v of the label / N: one random rater, judged by the labels of the version.
        without_votes: faces without any vote for these classes, left out.
    """

    n: int
    without_votes: int
    oracle: Estimate
    against_rater: Estimate
    against_next: Estimate
    rater: Estimate


def ceiling(workspace: Workspace, version_id: str, faces: "pd.Series[str]") -> Ceiling | None:
    """The ceiling on these faces (sample ids) of a version; None when it holds no votes.

    Raises:
        NotFound: no such version. BadInput: its files cannot be read, or votes are not one count a class.
    """
    rows, classes = version_rows(workspace, version_id, more=("votes",))
    rows = rows[rows["sample_id"].isin(faces)]
    if "votes" not in rows or rows["votes"].isna().all():
        return None
    told = rows[rows["votes"].notna()]
    try:
        votes = np.array([text.split(",") for text in told["votes"]], dtype=np.int64)
        label = [classes.index(c) for c in told["label"]]
    except ValueError as error:
        raise BadInput("The votes cannot be read", f"{version_id}: {error}", "Build the version again") from error
    if votes.shape[1] != len(classes) or votes.min() < 0:
        raise BadInput("The votes cannot be read", f"{version_id}: not one count for each of {len(classes)} classes", "Build the version again")
    some = votes.sum(axis=1) > 0
    found = of_votes(votes[some], np.array(label, dtype=np.int64)[some], codes(told.loc[some, "duplicate_group"]))
    return Ceiling(int(some.sum()), len(rows) - int(some.sum()), *found)


def of_votes(votes: Ints, label: Ints, group: Ints) -> tuple[Estimate, Estimate, Estimate, Estimate]:
    """(oracle, against_rater, against_next, rater), see `Ceiling`, of votes [n, classes] with a sum above 0, label and group [n]."""
    total, most, rows = votes.sum(axis=1), votes.max(axis=1), np.arange(len(votes))
    first = votes == most[:, None]
    oracle = first[rows, label] / first.sum(axis=1)
    many = total > 1
    kept, left = votes[many], np.zeros(int(many.sum()))
    for c in range(votes.shape[1]):  # one vote for c is taken out: is c the most voted of the others?
        others = kept - (np.arange(kept.shape[1]) == c)
        top = others == others.max(axis=1, keepdims=True)
        left += kept[:, c] / kept.sum(axis=1) * (top[:, c] / top.sum(axis=1))
    return (proportion(oracle, group), proportion(most / total, group), proportion(left, np.unique(group[many], return_inverse=True)[1]),
            proportion(votes[rows, label] / total, group))
