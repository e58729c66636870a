"""What the labeling components share on the Python side: faces in batches, and what the browser reports."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import streamlit as st

from fercore.domain import SIDE
from fercore.errors import BadInput
from fercore.schemes import Scheme

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
OUTBOX = (Path(__file__).parent / "outbox.js").read_text("utf-8")


@dataclass(frozen=True)
class Choice:
    """One answer. `colour` is '#rrggbb'; `keys` are KeyboardEvent.code values (physical keys)."""

    value: str
    label: str
    colour: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """One field to answer; the face advances once every question is answered. Key 0 answers "cannot tell"."""

    field: str
    label: str
    choices: tuple[Choice, ...]


YES_NO = (Choice("yes", "Yes", "#0072B2", ("KeyY", "KeyJ")), Choice("no", "No", "#D55E00", ("KeyN", "KeyF")))


def question(field: str, title: str, scheme: Scheme | None) -> Question:
    """The question of a scheme, or of a flag, which has none."""
    return Question(field, title, YES_NO if scheme is None else tuple(Choice(c.class_id, c.name, c.colour, c.keys) for c in scheme.offered))


@dataclass(frozen=True)
class Flag:
    """A yes-only field, e.g. ("flag_dark", "Too dark", "KeyB"). Its key sets it and advances; with Shift it toggles and stays."""

    field: str
    label: str
    key: str


@dataclass(frozen=True)
class Face:
    """One image: 2,304 raw gray bytes (48 rows of 48, 0-255) and the answers this person already gave (field -> value).

    `expected` is given in practice only: the values that are right, shown after the answer.
    """

    image_id: str
    pixels: bytes
    answers: Mapping[str, str] = field(default_factory=dict)
    expected: tuple[str, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Faces of one request, held under `lease`. An empty batch says that nothing is waiting."""

    number: int
    faces: tuple[Face, ...]
    lease: str = ""


@dataclass(frozen=True)
class Gesture:
    """One earlier act that can be undone or redone: its events (event_id, op, field, value) and the answers before and after it."""

    image_id: str
    events: tuple[Mapping[str, str | None], ...]
    before: Mapping[str, str]
    after: Mapping[str, str]
    passed_before: bool
    passed_after: bool


@dataclass(frozen=True)
class Past:
    """Page `page` of this person's earlier gestures on this page, oldest first; `undone` (top of the redo stack last) comes with page 1 only.

    Pages divide what stood before `client` began (events whose id sorts before the client's): what it does itself must not move their bounds.
    `faces` holds every image they name, with this person's answers; `more` says that older gestures exist.
    """

    page: int
    gestures: tuple[Gesture, ...]
    undone: tuple[Gesture, ...]
    faces: tuple[Face, ...]
    more: bool


@dataclass(frozen=True)
class Report:
    """What the browser last said.

    Args:
        client: id of the mounted component, "" before its first report.
        number: counts its reports; 0 before the first.
        want: number of the batch it asks for, None when it has enough faces.
        past: page of earlier gestures it asks for, None when it needs none.
        keys: a key map to be kept (act or "field=value" -> codes), None when nothing changed.
        events: unacknowledged events, oldest first, at most 500. Keys: event_id, op, image_id, field, value, target, gesture, lead_ms,
            shown_at, decided_at (epoch ms), mode, lease. They come from a browser: check them before they are stored.
    """

    client: str = ""
    number: int = 0
    want: int | None = None
    past: int | None = None
    keys: dict[str, Any] | None = None
    events: tuple[dict[str, Any], ...] = ()


def pending(key: str, journal: str) -> Report:
    """What the browser said, to be read before mounting. Reports written under another journal (workspace or person) are not returned."""
    return read_report(st.session_state.get(key), journal)


def read_report(state: Any, journal: str) -> Report:
    said = (state or {}).get("report")
    if not isinstance(said, dict) or said.get("journal") != journal:
        return Report()
    whole = {name: value if isinstance(value := said.get(name), int) and not isinstance(value, bool) and 0 <= value < 2**31 else None
             for name in ("number", "want", "past")}
    events, keys = said.get("events"), said.get("keys")
    return Report(
        client=client if isinstance(client := said.get("client"), str) and _UUID.fullmatch(client) else "",
        number=whole["number"] or 0, want=whole["want"], past=whole["past"],
        keys=keys if isinstance(keys, dict) else None,
        events=tuple(e for e in events if isinstance(e, dict) and isinstance(e.get("event_id"), str)) if isinstance(events, list) else ())


def packed(faces: Sequence[Face]) -> dict[str, Any]:
    """Faces as ids and one base64 block: raw gray decodes at once and synchronously, where a PNG sheet saves a quarter but decodes in 18 ms.

    Raises:
        BadInput: a face has not 2,304 bytes.
    """
    if short := [f.image_id for f in faces if len(f.pixels) != SIDE * SIDE]:
        raise BadInput("Face cannot be shown", f"{short[0]} has not {SIDE * SIDE} bytes", "Pass standard images only")
    return {"pixels": base64.b64encode(b"".join(f.pixels for f in faces)).decode(),
            "faces": [{"image_id": f.image_id, "answers": dict(f.answers), "expected": list(f.expected)} for f in faces]}


def packed_batch(batch: Batch | None, want: int | None) -> dict[str, Any] | None:
    """The batch while the browser still asks for it."""
    return None if batch is None or batch.number != want else {"number": batch.number, "lease": batch.lease, **packed(batch.faces)}


def packed_past(past: Past | None, asked: int | None) -> dict[str, Any] | None:
    """The earlier gestures while the browser still asks for them."""
    if past is None or past.page != asked:
        return None

    def plain(g: Gesture) -> dict[str, Any]:
        return {"image_id": g.image_id, "events": [dict(e) for e in g.events], "before": dict(g.before), "after": dict(g.after),
                "passed_before": g.passed_before, "passed_after": g.passed_after}

    return {"page": past.page, "gestures": [plain(g) for g in past.gestures], "undone": [plain(g) for g in past.undone],
            "more": past.more, **packed(past.faces)}
