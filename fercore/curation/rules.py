"""Named, versioned rules from votes to labels, and what changes between two of them.

A rule never changes once it has a name: another reading is another rule or another number. Rows are samples, because imported votes
belong to rows of a file; annotators vote on images, so identical faces share those votes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from fercore.domain import Permission, Person
from fercore.errors import BadInput, NotFound
from fercore.schemes import FERPLUS_COLUMNS
from fercore.store import Store
from fercore.store import quality as table

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Votes = Literal["imported", "annotators", "both"]
VOTES: tuple[Votes, ...] = ("imported", "annotators", "both")

COLUMNS = tuple(FERPLUS_COLUMNS.values())  # neutral, happy, surprise, sad, angry, disgust, fear, contempt, unknown, non_face
CLASSES = COLUMNS[:8]
UNKNOWN, NON_FACE = 8, 9
FOCUS4 = ("angry", "focused", "neutral", "bored")


class Status(StrEnum):
    OK = "ok"
    AMBIGUOUS = "ambiguous"
    UNKNOWN = "unknown"
    NON_FACE = "non_face"
    NONE = "none"  # nobody has voted


@dataclass(frozen=True)
class Decisions:
    """What a rule makes of n rows of votes.

    Args:
        classes: the class ids that `hard` and the columns of `soft` stand for.
        status: Status values, str [n].
        hard: index into `classes`, -1 where the status is not ok, int64 [n].
        soft: shares of the classes, float64 [n, classes]; rows sum to 1 where the status is ok and are 0 elsewhere.
    """

    classes: tuple[str, ...]
    status: npt.NDArray[np.object_]
    hard: Ints
    soft: Floats

    @property
    def outcomes(self) -> npt.NDArray[np.object_]:
        """The class id where there is one, else the status, str [n]."""
        return np.where(self.hard >= 0, np.array(self.classes, dtype=object)[self.hard], self.status)


@dataclass(frozen=True)
class DecisionRule:
    """One way from votes to labels; `source` says who published it."""

    rule_id: str
    name: str
    description: str
    source: str
    decide: Callable[[Ints, Ints], Decisions]
    classes: tuple[str, ...] = CLASSES

    def apply(self, counts: npt.ArrayLike, settled: npt.ArrayLike | None = None) -> Decisions:
        """Decides on every row.

        Args:
            counts: votes, int [n, 10] >= 0 in the order of COLUMNS.
            settled: column index of an adjudication, -1 without one, int [n]; only adjudicated_first@1 reads it.

        Raises:
            BadInput: another shape, or a negative number.
        """
        votes = np.asarray(counts, dtype=np.int64)
        if votes.ndim != 2 or votes.shape[1] != len(COLUMNS) or (votes < 0).any():
            raise BadInput("Votes not usable", f"shape {votes.shape}, least {votes.min(initial=0)}", f"Give counts [n, {len(COLUMNS)}] of 0 or more")
        return self.decide(votes, np.full(len(votes), -1) if settled is None else np.asarray(settled, dtype=np.int64))


def rule(rule_id: str) -> DecisionRule:
    """Raises: NotFound: no rule has this id."""
    if rule_id not in RULES:
        raise NotFound("Unknown rule", f"{rule_id!r} is no rule", f"Choose one of {', '.join(RULES)}")
    return RULES[rule_id]


def _decisions(votes: Ints, top: Ints, soft: Floats, classes: tuple[str, ...] = CLASSES) -> Decisions:
    """`top`: index into classes, else UNKNOWN, NON_FACE, or -1 for ambiguous; no vote and no top is none. `soft` need not sum to 1."""
    hard = np.where((top >= 0) & (top < len(classes)), top, -1)
    status = np.select([hard >= 0, top == UNKNOWN, top == NON_FACE, ~votes.any(axis=1)],
                       np.array([Status.OK, Status.UNKNOWN, Status.NON_FACE, Status.NONE], dtype=object).reshape(4, 1), Status.AMBIGUOUS)
    soft = np.where(hard[:, None] >= 0, soft, 0.0)
    return Decisions(classes, status, hard, soft / np.maximum(soft.sum(axis=1, keepdims=True), 1e-12))


def _shares(votes: Ints, top: Ints) -> Floats:
    """Votes for the eight classes; a class that nobody voted for, but that was decided, counts one where there is no other vote."""
    soft = votes[:, :8].astype(float)
    bare = np.flatnonzero(~soft.any(axis=1) & (top >= 0) & (top < 8))
    soft[bare, top[bare]] = 1.0
    return soft


# ---- FER+ as Microsoft reads it: a single vote for a class is taken as a slip and counts nothing ----------------------------------


def _reference(votes: Ints, weight: Floats, kept: npt.NDArray[np.bool_], soft: Floats | None = None) -> Decisions:
    """The reader keeps a face where the greatest weight (the first of equals) is on a class; what it discards it calls unknown."""
    top = np.where(kept, weight.argmax(axis=1), UNKNOWN)
    return _decisions(votes, np.where(votes.any(axis=1), top, -1), weight[:, :8] if soft is None else soft)


def _majority(votes: Ints, _: Ints) -> Decisions:
    left = np.where(votes == 1, 0, votes).astype(float)
    peak = left.max(axis=1, initial=0)
    return _reference(votes, np.where(left == peak[:, None], left, 0), peak > 0.5 * left.sum(axis=1))


def _distribution(votes: Ints, _: Ints) -> Decisions:
    left = np.where(votes == 1, 0, votes).astype(float)
    total, weight, part, taken = left.sum(axis=1), np.zeros(left.shape), np.zeros(len(left)), np.zeros(len(left))
    usable = np.ones(len(left), dtype=bool)
    while (going := usable & (part < 0.75 * total) & (taken < 3)).any():
        peak = left.max(axis=1)
        for i in range(len(COLUMNS)):
            hit = going & (left[:, i] == peak)
            weight[hit, i], left[hit, i] = peak[hit], 0
            part += hit * peak
            taken += hit
            if i >= UNKNOWN:  # unknown or non-face is as strong as the next class: nothing after it counts, nor it after a class
                usable, going = usable & ~hit, going & ~hit
                behind = hit & (weight.sum(axis=1) > peak)
                weight[behind, i] = 0
                taken -= behind
    return _reference(votes, weight, (weight.sum(axis=1) > 0.5 * total) & (taken <= 3))


def _multi_target(votes: Ints, _: Ints) -> Decisions:
    left = np.where(votes == 1, 0, votes).astype(float)
    total = left.sum(axis=1)
    weight = np.where(left >= 0.3 * total[:, None], left, 0)
    return _reference(votes, weight, weight.sum(axis=1) > 0.5 * total, (weight[:, :8] > 0).astype(float))


# ---- other rules ----------------------------------------------------------------------------------------------------------------


def _plurality(votes: Ints) -> Ints:
    """Index of the only greatest count, -1 where several are, or none."""
    peak = votes.max(axis=1, initial=0)
    return np.where((votes == peak[:, None]).sum(axis=1) == 1, votes.argmax(axis=1), -1)


def _strict(votes: Ints, _: Ints) -> Decisions:
    top = np.where(2 * votes.max(axis=1, initial=0) > votes.sum(axis=1), votes.argmax(axis=1), -1)
    return _decisions(votes, top, _shares(votes, top))


def _argmax(votes: Ints, _: Ints) -> Decisions:
    top = _plurality(votes)
    return _decisions(votes, top, _shares(votes, top))


def _adjudicated(votes: Ints, settled: Ints) -> Decisions:
    outvoted = votes[:, NON_FACE] > votes[:, :8].sum(axis=1)  # who names an expression says that it is a face
    top = np.where(settled >= 0, settled, np.where(outvoted, NON_FACE, _plurality(votes[:, :NON_FACE])))
    return _decisions(votes, top, _shares(votes, top))


def focus4(order: tuple[str, ...] = FOCUS4, anger_over: int = 2) -> DecisionRule:
    """The four-class rule set; its conditions overlap, so the first of `order` that holds decides.

    Args:
        order: the four classes of FOCUS4.
        anger_over: anger needs more votes than this, >= 0.

    Raises:
        BadInput: other classes.
    """
    if sorted(order) != sorted(FOCUS4) or anger_over < 0:
        raise BadInput("Order not usable", f"{', '.join(order)}, anger over {anger_over}", f"Name each of {', '.join(FOCUS4)} once")

    def decide(votes: Ints, _: Ints) -> Decisions:
        neutral, happy, _surprise, sad, angry, _disgust, fear = votes[:, :7].T
        leads = _plurality(votes[:, :8])
        meets = {"angry": (leads == CLASSES.index("angry")) & (angry > anger_over),
                 "neutral": (leads == CLASSES.index("neutral")) & (neutral > 6),
                 "focused": (leads == CLASSES.index("neutral")) & (sad == 0) & (angry == 0),
                 "bored": (happy == 0) & (fear == 0) & (sad != 0) & (neutral != 0) & (angry + 2 < sad)}
        top = np.select([votes[:, NON_FACE] > 0, votes[:, UNKNOWN] >= 5, *(meets[c] for c in order)],
                        [NON_FACE, UNKNOWN, *(FOCUS4.index(c) for c in order)], -1)
        return _decisions(votes, top, np.eye(4)[top % 4], FOCUS4)

    usual = order == FOCUS4 and anger_over == 2
    return DecisionRule(
        "focus4@1" if usual else f"focus4@1({','.join(order)};anger>{anger_over})", "Four classes of attention",
        f"Without non-face votes and with fewer than 5 unknown. In this order: {', '.join(order)}. Angry: anger leads with more than {anger_over}. "
        "Focused: neutral leads, no sadness, no anger. Neutral: neutral leads with more than 6. Bored: sadness more than 2 over anger, some "
        "neutral, no happiness, no fear.", "Four-class system focus4; its text leaves the order open", decide, FOCUS4)


_FERPLUS = "Barsoum et al. 2016 (arXiv 1608.01041), as in microsoft/FERPlus src/ferplus.py"
_SINGLES = "Classes with a single vote count nothing. "
RULES: dict[str, DecisionRule] = {r.rule_id: r for r in (
    DecisionRule("ferplus_majority@1", "FER+ majority", _SINGLES + "The class with more than half of the votes that are left; else unknown.",
                 _FERPLUS, _majority),
    DecisionRule("ferplus_probability@1", "FER+ probability", _SINGLES + "The strongest classes until three quarters of the votes are in, at most "
                 "three; each face stands for one of them, drawn by its share.", _FERPLUS, _distribution),
    DecisionRule("ferplus_crossentropy@1", "FER+ cross-entropy", _SINGLES + "The same classes as FER+ probability, all of them by their shares.",
                 _FERPLUS, _distribution),
    DecisionRule("ferplus_multi_target@1", "FER+ multi-target", _SINGLES + "Every class with at least 30 % of the votes that are left, all alike.",
                 _FERPLUS, _multi_target),
    DecisionRule("strict_majority@1", "Strict majority", "More than half of all votes, unknown and non-face among them.", "fercore", _strict),
    DecisionRule("argmax@1", "Plurality", "The answer with the most votes; ambiguous where several have as many.", "fercore", _argmax),
    DecisionRule("adjudicated_first@1", "Adjudicated first", "What a reviewer settled; else the plurality of the votes. Non-face where more say so "
                 "than name an expression; who does both counts as the former, where the current label counts the expression.",
                 "fercore", _adjudicated),
    focus4(),
)}


# ---- over a workspace -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ballots:
    """The votes of a workspace, row by row.

    Args:
        rows: sample_id and image_id [n], by sample_id.
        counts: int64 [n, 10] in the order of COLUMNS.
        settled: column index of an adjudication, or of a confirmation where nobody voted, -1 without one, int64 [n].
    """

    rows: pd.DataFrame
    counts: Ints
    settled: Ints


def ballots(store: Store, actor: Person, votes: Votes = "imported") -> Ballots:
    """Votes on expression: imported, annotators' own (independent votes only), or both added.

    Raises:
        NotAllowed: the actor may not read results.
    """
    actor.require(Permission.READ_RESULTS)
    rows = table.ballots(store, imported=votes != "annotators", annotators=votes != "imported")
    counts, found = rows[list(COLUMNS)].to_numpy(np.int64), rows[["image_id"]].merge(table.settled(store), "left", "image_id")
    settled = found["value"].map({c: i for i, c in enumerate(COLUMNS)}).fillna(-1).to_numpy(np.int64)
    outvoted = (found["how"] == "confirmed").to_numpy(bool) & counts.any(axis=1)
    return Ballots(rows[["sample_id", "image_id"]], counts, np.where(outvoted, -1, settled))


def decided(held: Ballots, rule_id: str) -> pd.DataFrame:
    """What a rule makes of every sample: sample_id, image_id, status, value (a class id, or None).

    Raises:
        NotFound: no rule has this id.
    """
    made = rule(rule_id).apply(held.counts, held.settled)
    values = pd.Series(made.outcomes, index=held.rows.index)
    return held.rows.assign(status=made.status, value=values.where(made.hard >= 0, None))


def summary(held: Ballots) -> pd.DataFrame:
    """Samples by outcome (a class or a status): a row a rule, int64, 0 where a rule gives none."""
    found = {r.rule_id: pd.Series(r.apply(held.counts, held.settled).outcomes).value_counts() for r in RULES.values()}
    return _ordered(pd.DataFrame(found).fillna(0).astype(int).T)


def diff(store: Store, actor: Person, rule_a: str, rule_b: str, votes: Votes = "imported") -> pd.DataFrame:
    """How many samples go from which outcome of `rule_a` (rows) to which of `rule_b` (columns); see `compared`.

    Raises:
        NotAllowed: the actor may not read results. NotFound: no rule has this id.
    """
    return compared(ballots(store, actor, votes), rule_a, rule_b)


def compared(held: Ballots, rule_a: str, rule_b: str) -> pd.DataFrame:
    """Counts, int64; outcomes that neither rule gives are left out.

    Raises:
        NotFound: no rule has this id.
    """
    a, b = (rule(r).apply(held.counts, held.settled).outcomes for r in (rule_a, rule_b))
    return _ordered(_ordered(pd.crosstab(pd.Series(a, name=rule_a), pd.Series(b, name=rule_b))).T).T


def cell(held: Ballots, rule_a: str, rule_b: str, outcome_a: str, outcome_b: str) -> pd.DataFrame:
    """The samples of one cell of `compared`: sample_id, image_id.

    Raises:
        NotFound: no rule has this id.
    """
    a, b = (rule(r).apply(held.counts, held.settled).outcomes for r in (rule_a, rule_b))
    return held.rows.loc[np.asarray((a == outcome_a) & (b == outcome_b), dtype=bool)].reset_index(drop=True)


def _ordered(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns and, where they are outcomes, rows: classes first, then statuses."""
    known = list(dict.fromkeys((*CLASSES, *FOCUS4, *Status)))
    return pd.DataFrame(frame[[c for c in known if c in frame.columns]])
