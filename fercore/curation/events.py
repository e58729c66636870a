"""Recording what people did. Events are made and named in the browser; recording them twice is harmless, and what is acknowledged has
been read back from the database."""

import math
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from uuid_utils import uuid7

from fercore import people
from fercore.curation import schemes as book
from fercore.curation.campaigns import questions_of
from fercore.domain import Permission, Person
from fercore.errors import BadInput, Conflict, NotFound
from fercore.store import Store, campaigns, labels

MAX_TEXT = 500  # characters of a comment


class LabelEvent(BaseModel):
    """One act, as the browser sends it. Times are epoch milliseconds of the browser's clock."""

    model_config = ConfigDict(extra="ignore")

    event_id: UUID
    op: Literal["set", "unset", "skip", "undo", "redo", "comment"]
    image_id: str = Field(pattern=r"^[0-9a-f]{64}$")
    field: str | None = Field(default=None, max_length=60)
    value: str | None = Field(default=None, max_length=MAX_TEXT)
    target: UUID | None = None
    gesture: UUID
    mode: Literal["single", "grid_bulk", "grid_exception", "grid_tag", "revised", "audit_bulk"] = "single"
    lease: str | None = Field(default=None, max_length=64)
    lead_ms: Annotated[int | None, BeforeValidator(lambda v: round(v) if isinstance(v, float) and math.isfinite(v) else v)] = Field(
        default=None, ge=0, le=2**31 - 1)
    shown_at: int | None = Field(default=None, ge=0, le=10**14)
    decided_at: int | None = Field(default=None, ge=0, le=10**14)

    @model_validator(mode="after")
    def _fits(self) -> "LabelEvent":
        if self.op in ("undo", "redo"):
            if self.target is None:
                raise ValueError(f"{self.op} names no target")
        elif self.op == "comment":
            self.value = re.sub(r"[\x00-\x1f\x7f]+", " ", self.value or "").strip()
            if not self.value:
                raise ValueError("the comment is empty")
        elif self.field is None:
            raise ValueError(f"{self.op} names no field")
        return self


@dataclass
class Receipt:
    """What became of a batch: ids that are recorded, and ids that were refused with the reason."""

    acked: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def record(store: Store, actor: Person, events: list[dict[str, Any]], *, practice: bool = False) -> Receipt:
    """Records label events of `actor`; sound events are kept when others of the batch are refused.

    A batch may be of any size and order: acts of one browser are sorted by their ids, which rise with time. An event without a lease (from an
    older version of the page) is recorded as a vote outside any campaign.

    Args:
        practice: the events are answers of a practice round, which never count.

    Raises:
        NotAllowed: the actor may not label.
    """
    actor.require(Permission.LABEL)
    receipt, sound, allowed = Receipt(), dict[str, LabelEvent](), dict[str, frozenset[str]]()
    spelled = dict[str, dict[str, None]]()  # an id may come in several spellings
    for raw in events:
        name = str(raw.get("event_id"))[:64] if isinstance(raw, dict) else "?"
        try:
            event = LabelEvent.model_validate(raw)
            if event.op in ("set", "unset", "skip") and event.field is not None:
                if event.field not in allowed:
                    allowed[event.field] = book.values_of(store, event.field)
                if event.op == "set" and event.value not in allowed[event.field]:
                    raise BadInput("Unknown value", f"{event.value!r} is no value of {event.field}")
            sound[str(event.event_id)] = event
            spelled.setdefault(str(event.event_id), {})[name] = None
        except ValidationError as error:
            first = error.errors()[0]
            receipt.refused[name] = f"{'.'.join(map(str, first['loc'])) or 'event'}: {first['msg']}"
        except (BadInput, NotFound) as error:
            receipt.refused[name] = str(error)
    if not sound:
        return receipt
    sound = dict(sorted(sound.items()))
    targets = [str(e.target) for e in sound.values() if e.target]
    undoable = labels.known_targets(store, actor, targets) if targets else {}
    foreign = labels.of_others(store, actor, list(sound)) if targets else set()  # else an undo could reach one sent again under a known id
    leases = sorted({e.lease for e in sound.values() if e.lease})
    held = campaigns.handed(store, actor, leases) if leases and not practice else {}
    asked = questions_of(store, {i["campaign_id"] for lease in held.values() for i in lease.values()}) if held else {}
    loose = {e.image_id for e in sound.values() if e.image_id not in held.get(e.lease or "", {})}  # a lease hands out faces that are here
    here = labels.known_images(store, list(loose)) if loose else set()
    examples = campaigns.examples_among(store, list(loose)) if loose else set()
    rounds = {"practice"} if practice else {"vote", "confirm", "repeat"}
    rows = []
    for name, event in sound.items():  # in the order of the acts: an undo follows what it undoes
        shown = held.get(event.lease or "", {}).get(event.image_id)
        target = undoable.get(str(event.target)) if event.target else None
        base = (event.field or "").removesuffix("_2")
        fits = shown is None or base in asked[shown["campaign_id"]] or (base.startswith("flag_") and event.mode == "single") or event.op == "comment"
        reason = ("unknown image" if event.image_id in loose and event.image_id not in here
                  else f"{event.op} of an act on this face that is not yours"
                  if event.target and (target is None or target["image_id"] != event.image_id or target["round"] not in rounds)
                  else "the event id belongs to another person" if name in foreign
                  else "the lease is not yours" if event.lease and not practice and event.lease not in held
                  else "this face was not handed out under that lease" if event.lease and not practice and shown is None
                  else "its campaign does not ask that" if not target and not fits
                  else "that was not claimed about this face" if event.mode == "grid_bulk" and not target
                  and not (shown and shown["suggested"] and shown["suggested"] == event.value)
                  else "this face is an example and takes no votes" if event.op == "set" and not event.lease and not practice
                  and event.image_id in examples
                  else None)
        if reason:
            receipt.refused |= dict.fromkeys(spelled[name], reason)
            continue
        row = event.model_dump(mode="json")
        if target is not None:
            row |= {"field": target["field"], "round": target["round"], "campaign_id": target["campaign_id"]}
        else:
            row |= shown or {}
            claimed = shown is not None and shown["suggested"] is not None and shown["suggested"] == event.value
            row["round"] = "practice" if practice else "confirm" if claimed else (shown or {}).get("round", "vote")
            row["scheme_id"] = asked.get(row.get("campaign_id") or "", {}).get(base)
            undoable[name] = {"image_id": event.image_id, "field": event.field, "round": row["round"], "campaign_id": row.get("campaign_id")}
        rows.append(row)
    if rows:
        recorded = labels.append(store, actor, rows)
        receipt.acked = [name for r in rows if r["event_id"] in recorded for name in spelled[r["event_id"]]]
        receipt.refused |= {name: "the event id belongs to another person" for r in rows if r["event_id"] not in recorded
                            for name in spelled[r["event_id"]]}
    return receipt


def _single(op: str, image_id: str, **more: Any) -> dict[str, Any]:
    return {"event_id": str(uuid7()), "op": op, "image_id": image_id, "gesture": str(uuid7()), "mode": "adjudicate", "round": "vote", **more}


def adjudicate(store: Store, actor: Person, image_id: str, field: str, value: str, note: str = "") -> None:
    """Settles what stands for a face and field, whatever was voted; the votes stay.

    Raises:
        NotAllowed: the role may not. Conflict: the actor has voted on this face. BadInput, NotFound: no such value, field or image.
    """
    actor.require(Permission.ADJUDICATE)
    if value not in book.values_of(store, field):
        raise BadInput("Unknown value", f"{value!r} is no value of {field}")
    if not labels.known_images(store, [image_id]):
        raise NotFound("Unknown image", f"{image_id[:12]} is not in this workspace")
    if labels.ever_voted(store, actor, image_id, field):
        raise Conflict("You voted on this face", "Whoever settles a disagreement has no vote in it, also none taken back",
                       "Leave it to another reviewer")
    events = [_single("set", image_id, field=field, value=value, round="adjudication")]
    if note.strip():
        events.append(_single("comment", image_id, value=_text(note)))
    labels.append(store, actor, events)


def withdraw(store: Store, actor: Person, image_id: str, field: str) -> None:
    """Takes back the actor's own adjudication of a face and field. Raises: NotAllowed."""
    actor.require(Permission.ADJUDICATE)
    labels.append(store, actor, [_single("unset", image_id, field=field, round="adjudication")])


def revise(store: Store, actor: Person, image_id: str, field: str, value: str) -> None:
    """Changes the actor's own vote on a face, outside any campaign.

    Raises:
        NotAllowed. Conflict: there is no own vote yet: first votes come from a queue. BadInput: no such value.
    """
    if not labels.answered_images(store, actor, [image_id], field):
        raise Conflict("You have not voted on this face", "First votes are given in a labeling campaign", "Open Label")
    if refused := record(store, actor, [_single("set", image_id, field=field, value=value) | {"mode": "revised"}]).refused:
        raise BadInput("Not changed", next(iter(refused.values())))


def comment(store: Store, actor: Person, image_id: str, text: str, to: str | None = None) -> None:
    """Leaves a comment on a face, for a person's inbox when `to` names one.

    Raises:
        NotAllowed. BadInput: empty or longer than 500 characters. NotFound: no such image or person.
    """
    actor.require(Permission.LABEL)
    if not labels.known_images(store, [image_id]):
        raise NotFound("Unknown image", f"{image_id[:12]} is not in this workspace")
    if to is not None:
        people.find(store, to)
    labels.append(store, actor, [_single("comment", image_id, value=_text(text), addressee=to)])


def seen(store: Store, actor: Person, comment_id: str) -> None:
    """Takes a comment out of the actor's inbox. Raises: NotFound: it is not addressed to the actor."""
    found = labels.addressed(store, actor, [comment_id])
    if comment_id not in found:
        raise NotFound("Unknown comment", "It is not addressed to you")
    labels.append(store, actor, [_single("seen", found[comment_id], target=comment_id)])


def _text(text: str) -> str:
    plain = re.sub(r"[\x00-\x1f\x7f]+", " ", text).strip()
    if not 1 <= len(plain) <= MAX_TEXT:
        raise BadInput("A comment is needed", f"The text has {len(plain)} characters", f"Write 1 to {MAX_TEXT}")
    return plain
