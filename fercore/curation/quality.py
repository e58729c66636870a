"""How good the labels are: what reviewers read about a team, and what annotators read about themselves.

Reviewers see agreement, known answers and consistency, never speeds (honesty rule 9). Annotators see their own figures alone: known
answers by day, so that no single face tells whether it was one.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
import pandas as pd

from fercore import people
from fercore.curation import agreement as measures
from fercore.curation import campaigns, rules, schemes
from fercore.curation.agreement import Serial
from fercore.domain import Permission, Person
from fercore.errors import NotFound
from fercore.evaluation.estimate import Estimate, masked, proportion
from fercore.schemes import CANNOT_TELL, FER8
from fercore.store import Store, now
from fercore.store import quality as table

MINIMUM = 20  # faces below which a number is masked
GOLD_A_DAY = 10  # known answers below which a day is not shown to the annotator
PAUSE, STRETCH = pd.Timedelta(minutes=2), pd.Timedelta(minutes=25)
Against = Literal["others", "imported"]


@dataclass(frozen=True)
class Scope:
    """Which votes count; None or empty means all. `weeks` are ISO weeks such as "2026-W07"."""

    field: str = "expression"
    campaign: str | None = None
    weeks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Annotator:
    """One person's votes: how many, the share of known answers met, and the share of hidden repeats that equal the first answer."""

    person_id: str
    name: str
    votes: int
    gold: Estimate
    consistency: Estimate


@dataclass(frozen=True)
class Quality:
    """The quality of the votes of one scope; numbers on fewer than MINIMUM faces are masked. Pairs are named by person id."""

    votes: int
    faces: int
    agreement: measures.Agreement
    annotators: list[Annotator]

    def name_of(self, person_id: str) -> str:
        return next(a.name for a in self.annotators if a.person_id == person_id)


@dataclass(frozen=True)
class Progress:
    """What one person has done. Days are in UTC.

    Args:
        days: day, n. campaigns: campaign, n.
        median_ms: median time for one answer; None without any.
        per_hour: answers an hour of work, pauses of over 2 minutes left out; None before there are two answers.
        gold: share of known answers met by day, on days with 10 or more of them.
        consistency: share of hidden repeats that equal the first answer.
    """

    days: pd.DataFrame
    campaigns: pd.DataFrame
    median_ms: float | None
    per_hour: float | None
    gold: dict[str, Estimate]
    consistency: Estimate
    serial: Serial


def choices(store: Store, actor: Person) -> tuple[list[str], dict[str, str], list[str]]:
    """Fields, campaigns (id -> name) and ISO weeks, newest first, in which people have voted.

    Raises:
        NotAllowed: the actor may not read results.
    """
    actor.require(Permission.READ_RESULTS)
    found = table.choices(store)
    return found["fields"], _campaign_names(store, found["campaigns"]), found["weeks"]


def quality(store: Store, actor: Person, scope: Scope) -> Quality:
    """Agreement, known answers and consistency of the votes in `scope`.

    Raises:
        NotAllowed: the actor may not read results.
    """
    actor.require(Permission.READ_RESULTS)
    chosen = scope.field, scope.campaign, list(scope.weeks)
    votes = table.votes(store, *chosen)
    gold, repeats = table.gold_answers(store, *chosen), table.repeats(store, *chosen)
    gold_of = measures.shares(gold["person_id"], gold["hit"])
    same_of = measures.shares(repeats["person_id"], repeats["first"] == repeats["again"])
    names, none = {p.person_id: p.name for p in people.everyone(store)}, proportion(np.zeros(0, bool), np.zeros(0, np.int64))
    annotators = [Annotator(str(p), names.get(str(p), str(p)), int(n), _shown(gold_of.get(str(p), none)), _shown(same_of.get(str(p), none)))
                  for p, n in votes["person_id"].value_counts().items()]
    found = measures.agreement(votes)
    in_order = _in_order(store, scope.field, list(found.classes))
    return Quality(len(votes), votes["image_id"].nunique(), measures.Agreement(
        _shown(found.alpha), _shown(found.fleiss), found.fleiss_votes, {v: _shown(found.classes[v]) for v in in_order},
        {v: _shown(found.fleiss_classes[v]) for v in in_order}, {k: _shown(e) for k, e in found.pairs.items()},
        {w: _shown(e) for w, e in found.weeks.items()}), sorted(annotators, key=lambda a: a.name))


def annotator_confusion(store: Store, actor: Person, scope: Scope, person_id: str, against: Against = "others") -> tuple[pd.DataFrame, int]:
    """(counts of a person's answers (columns) by the reference (rows), answers left out because the reference has none).

    Args:
        against: "others": what most other people chose; "imported": the FER+ majority of the face's imported votes, for expression only.

    Raises:
        NotAllowed: the actor may not read results. NotFound: the person has no vote in this scope, or the field has no imported votes.
    """
    votes, reference = _referred(store, actor, scope, person_id, against)
    counts = measures.confusion(votes, person_id, reference)
    order = _in_order(store, scope.field, counts.index.tolist())
    return counts.loc[order, order], int((votes["person_id"] == person_id).sum() - counts.to_numpy().sum())


def confusion_faces(store: Store, actor: Person, scope: Scope, person_id: str, against: Against, true: str, given: str) -> list[str]:
    """Image ids of one cell of `annotator_confusion`.

    Raises:
        NotAllowed, NotFound: as there.
    """
    votes, reference = _referred(store, actor, scope, person_id, against)
    own = votes[(votes["person_id"] == person_id) & (votes["value"] == given)]["image_id"]
    return own[(own.map(reference) == true).to_numpy(bool)].tolist()


def _referred(store: Store, actor: Person, scope: Scope, person_id: str, against: Against) -> tuple[pd.DataFrame, "pd.Series[str]"]:
    """(votes in scope, image_id -> what a person's answers are compared with)."""
    actor.require(Permission.READ_RESULTS)
    votes = table.votes(store, scope.field, scope.campaign, list(scope.weeks))
    if not (votes["person_id"] == person_id).any():
        raise NotFound("No votes", f"{person_id!r} has no vote here", "Choose other weeks or another person")
    if against == "others":
        return votes, measures.others_choice(votes, person_id)
    if scope.field != "expression":
        raise NotFound("No imported votes", f"FER+ has no votes on {scope.field}", "Compare with the other annotators")
    held = rules.ballots(store, actor, "imported")
    per_image = pd.DataFrame(held.counts).groupby(held.rows["image_id"]).sum()  # identical faces share their votes
    majority = rules.rule("ferplus_majority@1").apply(per_image.to_numpy())
    return votes, pd.Series(majority.outcomes, index=per_image.index)[majority.hard >= 0]


def my_progress(store: Store, actor: Person, field: str = "expression") -> Progress:
    """What the actor has done; nothing of anybody else.

    Raises:
        NotAllowed: the actor may not label.
    """
    actor.require(Permission.LABEL)
    own = table.own_answers(store, actor, field)
    today = pd.Timestamp(now()).normalize()  # finished days only: a figure that moves with an answer would tell which face was gold or a repeat
    gold, repeats = (found[found["recorded_at"] < today] for found in (
        table.gold_answers(store, field, None, [], actor.person_id), table.repeats(store, field, None, [], actor.person_id)))
    by_day = measures.shares(gold["recorded_at"].dt.strftime("%Y-%m-%d"), gold["hit"])
    names = _campaign_names(store, own["campaign_id"].dropna().unique().tolist())
    gaps = own["recorded_at"].sort_values().diff()
    worked = float(gaps[gaps <= PAUSE].dt.total_seconds().sum() / 3600)
    same = proportion((repeats["first"] == repeats["again"]).to_numpy(bool), np.arange(len(repeats)))
    return Progress(
        own.groupby(own["recorded_at"].dt.strftime("%Y-%m-%d").rename("day")).size().rename("n").reset_index(),
        own.groupby(own["campaign_id"].map(lambda c: names.get(c, "no campaign")).rename("campaign")).size().rename("n").reset_index(),
        float(own["lead_ms"].median()) if own["lead_ms"].notna().any() else None, (gaps <= PAUSE).sum() / worked if worked else None,
        {day: share for day, share in by_day.items() if share.n >= GOLD_A_DAY}, _shown(same), measures.serial_dependence(own["value"]))


def my_fields(store: Store, actor: Person) -> list[str]:
    """Fields the actor has answered, the one with most answers first.

    Raises:
        NotAllowed: the actor may not label.
    """
    actor.require(Permission.LABEL)
    return table.own_fields(store, actor)


def needs_break(store: Store, actor: Person) -> bool:
    """Whether the actor has labelled for the last 25 minutes without a pause."""
    return break_due(table.own_acts(store, actor, 2 * int(STRETCH.total_seconds() // 60)), now())


def break_due(acts: pd.Series, at: datetime) -> bool:
    """Whether somebody who acted at these times (sorted, UTC) has worked for the 25 minutes before `at` without a pause of 2 minutes."""
    if acts.empty or pd.Timestamp(at) - acts.iloc[-1] > PAUSE:
        return False
    pauses = acts[acts.diff() > PAUSE]
    return bool(acts.iloc[-1] - (acts.iloc[0] if pauses.empty else pauses.iloc[-1]) >= STRETCH)


def _in_order(store: Store, field: str, given: list[str]) -> list[str]:
    """`given` answers in the order of the field's schemes, "cannot tell" last."""
    base = field.removesuffix("_2")
    known = [*FER8.ids, *(c.class_id for s in schemes.known(store).values() if s.field == base for c in s.classes), "yes", "no"]
    return sorted(given, key=lambda v: (v == CANNOT_TELL, known.index(v) if v in known else len(known), v))


def _campaign_names(store: Store, ids: list[str]) -> dict[str, str]:
    known = campaigns.listed(store)
    return {i: known[i][0].name if i in known else i for i in ids}


def _shown(estimate: Estimate) -> Estimate:
    return estimate if estimate.n >= MINIMUM or not estimate.n else masked(estimate.n, MINIMUM)
