"""What it takes to sign a version: numbers that a data lead sets for the whole workspace, with their history."""

import json

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fercore.domain import Permission, Person, Role
from fercore.errors import BadInput
from fercore.store import Store
from fercore.store import versions as table
from fercore.versions.record import Acts, details, event, subject, text_of


class Policy(BaseModel):
    """How many people sign, and the limits of the gates.

    Attributes:
        reviewers: approvals besides those of `leads`; of reviewers or of more data leads.
        leads: approvals of data leads.
        creator: whether who froze a version may be one of them, and waive its gates.
        class_floor: least faces of each class in each split.
        group_floor: least faces of each tagged group (perceived age, perceived gender) in training and in test; 0 asks for none.
        open_adjudications: most disputed faces that nobody has settled.
        alpha: least lower bound of Krippendorff's alpha; None sets no limit.
        gold: least share of known answers that each annotator met; None sets no limit.
        masked: faces below which alpha and gold are not judged.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    reviewers: int = Field(default=1, ge=0, le=9)
    leads: int = Field(default=1, ge=1, le=9)
    creator: bool = False
    class_floor: int = Field(default=1, ge=1)
    group_floor: int = Field(default=0, ge=0)
    open_adjudications: int = Field(default=0, ge=0)
    alpha: float | None = Field(default=0.4, ge=-1, le=1)
    gold: float | None = Field(default=0.7, ge=0, le=1)
    masked: int = Field(default=20, ge=1)

    @property
    def small_team(self) -> bool:
        """Whether one person can sign, or the creator."""
        return self.creator or self.reviewers + self.leads < 2

    def sentence(self) -> str:
        """Who must approve, in words."""
        leads = f"{self.leads} data lead{'s' * (self.leads > 1)}"
        who = f"{self.reviewers} reviewer{'s' * (self.reviewers > 1)} and {leads}" if self.reviewers else leads
        return (f"Small-team policy: {who}" if self.small_team else who) + (", the creator may be one" if self.creator else ", not the creator")


# The documented settings: a team of one signs for itself, a team of two for each other.
TEAMS = {1: {"reviewers": 0, "leads": 1, "creator": True}, 2: {"reviewers": 0, "leads": 1, "creator": False},
         3: {"reviewers": 1, "leads": 1, "creator": False}}


def current(store: Store) -> Policy:
    """The policy that holds now."""
    rows = table.policies(store)
    return Policy() if rows.empty else Policy.model_validate_json(rows["detail"].iloc[-1])


def of_approval(detail: str) -> Policy:
    """The policy that held when an approval was given; the present defaults for one of before there was a policy."""
    return Policy.model_validate(json.loads(detail).get("policy", {}))


def change(store: Store, actor: Person, changes: dict[str, object], reason: str) -> Policy:
    """Sets some numbers anew; versions that are approved already stay so.

    Raises:
        NotAllowed. BadInput: no reason, an unknown name or a number out of bounds.
    """
    actor.require(Permission.WAIVE)
    why = text_of(reason, "A reason", "A policy that changes without a reason helps nobody")
    try:
        new = Policy.model_validate(current(store).model_dump() | changes)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput("The policy cannot be used", f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
                       f"Settings: {', '.join(Policy.model_fields)}") from error
    table.append(store, None, lambda _: event(None, "policy", None, None, actor, why, new.model_dump()))
    return new


def history(store: Store) -> pd.DataFrame:
    """Every policy that was set: recorded_at, person, authentication, reason, policy (in words)."""
    rows = table.policies(store)
    return rows.assign(policy=[Policy(**json.loads(d)).sentence() for d in rows["detail"]])


def approvals(acts: Acts) -> tuple[Acts, Acts]:
    """(approvals that hold, stale ones) since the version was last submitted. One without a subject is from before there was one."""
    start = max((i for i, a in enumerate(acts) if a["act"] == "submit"), default=0)
    found, now = details(acts[start:], "approve"), subject(acts)
    valid = [a for a, d in found if d.get("subject", now) == now and a["manifest_sha256"] == acts[0]["manifest_sha256"]]
    return valid, [a for a, _ in found if a not in valid]


def missing(policy: Policy, given: Acts) -> str:
    """Whose approval is still missing, in words; empty when nobody's."""
    leads = sum(a["role"] == Role.DATA_LEAD.value for a in given)
    wanted_leads = max(policy.leads - leads, 0)
    others = max(policy.reviewers + policy.leads - len(given) - wanted_leads, 0)
    parts = [f"{n} {name}{'s' * (n > 1)}" for n, name in ((others, "reviewer"), (wanted_leads, "data lead")) if n]
    return " and ".join(parts)
