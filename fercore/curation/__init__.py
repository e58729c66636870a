"""Labeling: what waits for a person, and recording what the person did.

A label event is an act of one annotator on one image. Events are made and named in the browser; recording them twice is
harmless, and what is acknowledged has been read back from the database.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal
from uuid import UUID

import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from fercore.domain import LOCAL, Permission, Person
from fercore.errors import NotFound
from fercore.schemes import values_of
from fercore.store import Store, labels


class LabelEvent(BaseModel):
    """One act, as the browser sends it. Times are epoch milliseconds of the browser's clock."""

    model_config = ConfigDict(extra="ignore")

    event_id: UUID
    op: Literal["set", "unset", "skip", "undo", "redo"]
    image_id: str = Field(pattern=r"^[0-9a-f]{64}$")
    field: str | None = Field(default=None, max_length=40)
    value: str | None = Field(default=None, max_length=40)
    target: UUID | None = None
    gesture: UUID
    mode: str = Field(default="single", max_length=20)
    lead_ms: Annotated[int | None, BeforeValidator(lambda v: round(v) if isinstance(v, float) else v)] = Field(default=None, ge=0, le=2**31 - 1)
    shown_at: int | None = Field(default=None, ge=0, le=10**14)
    decided_at: int | None = Field(default=None, ge=0, le=10**14)

    @model_validator(mode="after")
    def _fits(self) -> "LabelEvent":
        if self.op in ("undo", "redo"):
            if self.target is None:
                raise ValueError(f"{self.op} names no target")
        elif self.field is None:
            raise ValueError(f"{self.op} names no field")
        else:
            try:
                allowed = values_of(self.field)
            except NotFound as error:
                raise ValueError(str(error)) from error
            if self.op == "set" and self.value not in allowed:
                raise ValueError(f"{self.value!r} is no value of {self.field}")
        return self


@dataclass
class Receipt:
    """What became of a batch: ids that are recorded, and ids that were refused with the reason."""

    acked: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def record(store: Store, actor: Person, events: list[dict[str, Any]]) -> Receipt:
    """Records label events of `actor`; sound events are kept when others of the batch are refused.

    Raises:
        NotAllowed: the actor may not label.
    """
    actor.require(Permission.LABEL)
    receipt, sound, spelled = Receipt(), dict[str, LabelEvent](), dict[str, str]()
    for raw in events:
        name = str(raw.get("event_id"))[:64] if isinstance(raw, dict) else "?"
        try:
            event = LabelEvent.model_validate(raw)
            sound[str(event.event_id)] = event
            spelled[str(event.event_id)] = name
        except ValidationError as error:
            first = error.errors()[0]
            receipt.refused[name] = f"{'.'.join(map(str, first['loc'])) or 'event'}: {first['msg']}"
    for name in labels.of_others(store, actor, list(sound)):
        receipt.refused[name] = "the event id belongs to another person"
        del sound[name]
    here = labels.known_images(store, list({e.image_id for e in sound.values()}))
    targets = [str(e.target) for e in sound.values() if e.target]
    undoable = labels.known_targets(store, actor, targets) if targets else {}
    for name, event in list(sound.items()):  # in the order of the acts: an undo follows what it undoes
        reason = ("unknown image" if event.image_id not in here
                  else f"{event.op} of an act on this face that is not yours"
                  if event.target and undoable.get(str(event.target)) != event.image_id else None)
        if reason:
            receipt.refused[spelled[name]] = reason
            del sound[name]
        elif event.op in ("set", "unset", "skip"):
            undoable[name] = event.image_id
    if sound:
        rows = [e.model_dump(mode="json") for e in sound.values()]
        recorded = labels.append(store, actor, LOCAL, rows)
        receipt.acked = [spelled[name] for name in sound if name in recorded]
    return receipt


@dataclass(frozen=True)
class Queue:
    """What a person answers: the fields asked for, of all faces or of those with a given label or a finding.

    Queues know nothing of other people's answers: a queue of all that others call sad would tell (honesty rule 5).
    """

    fields: tuple[str, ...]
    label: str | None = None
    finding: str | None = None


def waiting(store: Store, actor: Person, queue: Queue, *, held: list[str], limit: int) -> pd.DataFrame:
    """Faces (image_id, gray48) that wait for this person. Labels and votes of others are not in it (honesty rule 5).

    Raises:
        NotAllowed: the actor may not label.
    """
    actor.require(Permission.LABEL)
    return labels.waiting(store, actor, list(queue.fields), label=queue.label, finding=queue.finding, held=held, limit=limit)


def seen_by(store: Store, actor: Person, faces: pd.DataFrame) -> pd.DataFrame:
    """`faces` as this person may see them: who does not read results sees the given label, until they have answered themselves.

    Args:
        faces: with image_id, given_label and current_label.

    Returns:
        The same rows; current_label is the given one, and `open` is False, where other people's answers are hidden.

    Raises:
        NotAllowed: the actor may not look at faces.
    """
    actor.require(Permission.LOOK)
    free = faces["image_id"].isin(labels.answered_images(store, actor, faces["image_id"].tolist())) | actor.may(Permission.READ_RESULTS)
    return faces.assign(current_label=faces["current_label"].where(free, faces["given_label"]), open=free)


def answered(store: Store, actor: Person, queue: Queue) -> int:
    """Faces this person has answered on these fields, flagged or skipped."""
    return labels.done_count(store, actor, list(queue.fields))


def progress(store: Store, actor: Person, queue: Queue) -> tuple[int, int]:
    """(faces this person has answered on these fields, faces that wait in this queue)."""
    return (answered(store, actor, queue),
            labels.waiting_count(store, actor, list(queue.fields), label=queue.label, finding=queue.finding))
