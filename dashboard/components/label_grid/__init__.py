"""The labeling loop: one face at a time, one key a face, nothing lost.

The browser holds a queue of faces and a journal of events that the store has not acknowledged. A press labels the painted face, moves on and
writes the journal (localStorage) at once; events go to the server in flushes and are sent again until each one is acknowledged or refused.
Nothing here touches a store. A page mounts it so, inside `st.fragment`:

    report = pending(KEY, journal)                              # what the browser says, before anything is drawn
    acked, refused = record(report.events)                      # one transaction; ON CONFLICT (event_id) DO NOTHING
    batch = served.answer(report, lambda: faces(lease(...)))    # `served` is one `Served` a session
    label_grid(key=KEY, journal=journal, report=report, batch=batch, acked=acked, refused=refused, ...)

Read `acked` back from the database rather than assuming the insert: a callback or run can be cut short at any `st.` call.
"""

import base64
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import streamlit as st

from fercore.domain import SIDE
from fercore.errors import BadInput
from fercore.schemes import CANNOT_TELL

_HERE = Path(__file__).parent
_COMPONENT = st.components.v2.component(
    "fercore_label_grid", js=(_HERE / "label_grid.js").read_text("utf-8"), css=(_HERE / "label_grid.css").read_text("utf-8"))

# Keys that the component itself acts on; a choice or flag cannot use them.
RESERVED = frozenset({"Space", "Backspace", "KeyZ", "ArrowLeft", "ArrowRight", "Digit0", "KeyG", "KeyX", "KeyH", "Escape", "Tab", "Enter", "Slash"})


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


@dataclass(frozen=True)
class Flag:
    """A yes-only field, e.g. ("flag_dark", "Too dark", "KeyB"). Its key sets it and advances; with Shift it toggles and stays."""

    field: str
    label: str
    key: str


@dataclass(frozen=True)
class Face:
    """One image: 2,304 raw gray bytes (48 rows of 48, 0-255) and the answers this person already gave (field -> value)."""

    image_id: str
    pixels: bytes
    answers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """Faces of one request. An empty batch says that nothing is waiting."""

    number: int
    faces: tuple[Face, ...]


@dataclass(frozen=True)
class LabelReport:
    """What the browser last said.

    Args:
        client: id of the mounted component, "" before its first report.
        number: counts its reports; 0 before the first.
        want: number of the batch it asks for, None when it has enough faces.
        events: unacknowledged events, oldest first, at most 500. Keys: event_id, op, image_id, field, value, target, gesture, lead_ms,
            shown_at, decided_at (epoch ms), mode. A skip names the first question. They come from a browser: check them before they are stored.
    """

    client: str = ""
    number: int = 0
    want: int | None = None
    events: tuple[dict[str, Any], ...] = ()


@dataclass
class Served:
    """Answers a batch number with the same faces until the browser has them. Keep one in each session."""

    client: str = ""
    batch: Batch | None = None

    def answer(self, report: LabelReport, fetch: Callable[[], Sequence[Face]]) -> Batch | None:
        """The batch that `report` asks for, or None, also before the client has named itself.

        `fetch` is called once a batch. It must not hand out to one client a face that it handed out to it before; a changed client
        (reload, other tab) holds no faces and starts again at batch 1.
        """
        if report.want is None or not report.client:
            return None
        if self.batch is None or (self.client, self.batch.number) != (report.client, report.want):
            self.client, self.batch = report.client, Batch(report.want, tuple(fetch()))
        return self.batch


def pending(key: str, journal: str) -> LabelReport:
    """What the browser said, to be read before mounting. Reports written under another journal (person, queue) are not returned."""
    return _report(st.session_state.get(key), journal)


def label_grid(*, key: str, journal: str, report: LabelReport, questions: Sequence[Question], flags: Sequence[Flag], batch: Batch | None,
               total: int, done: int, acked: Sequence[str], refused: Mapping[str, str],
               empty: str = "No faces are waiting for you here") -> LabelReport:
    """Mounts the component and returns the newest report (newer than `report` only in the first run of a session).

    Args:
        key: Streamlit key; with `journal` it should name the person and the queue.
        journal: localStorage prefix of unacknowledged events; must name workspace, person and queue, or one person's events reach another.
        report: what `pending` returned in this run.
        questions: 1 or 2 questions; two rows of choices still fit 560 px.
        batch: from `Served.answer`; faces are sent only while the browser asks for this number.
        total, done: faces in the queue, and faces finished in it after `acked` was recorded.
        acked: ids among `report.events` that are in the database.
        refused: event id -> reason, for events that will never be recorded; the reason is shown.
        empty: said when an empty batch arrives.

    Raises:
        BadInput: two acts share a key, or a face has not 2,304 bytes.
    """
    keys = Counter([k for q in questions for c in q.choices for k in c.keys] + [f.key for f in flags])
    if clash := sorted(k for k, n in keys.items() if n > 1 or k in RESERVED):
        raise BadInput("Keys clash", f"{', '.join(clash)} would do two things", "Give every choice and flag a key of its own")
    value = _COMPONENT(
        key=key,
        data={
            "journal": journal, "client": report.client, "seen": report.number, "acked": list(acked), "refused": dict(refused),
            "batch": _batch(batch) if batch is not None and batch.number == report.want else None,
            "questions": [{"field": q.field, "label": q.label, "choices": [
                {"value": c.value, "label": c.label, "colour": c.colour, "keys": c.keys} for c in q.choices]} for q in questions],
            "flags": [{"field": f.field, "label": f.label, "key": f.key} for f in flags],
            "cannot_tell": CANNOT_TELL, "total": total, "done": done, "empty": empty,
        },
        on_report_change=lambda: None,
    )
    return _report(value, journal)


def _batch(batch: Batch) -> dict[str, Any]:
    """Faces as ids and one base64 block: raw gray decodes at once and synchronously, where a PNG sheet saves a quarter but decodes in 18 ms."""
    if short := [f.image_id for f in batch.faces if len(f.pixels) != SIDE * SIDE]:
        raise BadInput("Face cannot be shown", f"{short[0]} has not {SIDE * SIDE} bytes", "Pass standard images only")
    return {"number": batch.number, "pixels": base64.b64encode(b"".join(f.pixels for f in batch.faces)).decode(),
            "faces": [{"image_id": f.image_id, "answers": dict(f.answers)} for f in batch.faces]}


def _report(state: Any, journal: str) -> LabelReport:
    said = (state or {}).get("report")
    if not isinstance(said, dict) or said.get("journal") != journal:
        return LabelReport()
    events = said.get("events")
    want, number = said.get("want"), said.get("number")
    return LabelReport(
        client=str(said.get("client", "")), number=number if isinstance(number, int) else 0, want=want if isinstance(want, int) else None,
        events=tuple(e for e in events if isinstance(e, dict) and isinstance(e.get("event_id"), str)) if isinstance(events, list) else ())
