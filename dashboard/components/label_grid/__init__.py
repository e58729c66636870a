"""The labeling loop: one face at a time, one key a face, nothing lost.

The browser holds a queue of faces and a journal (IndexedDB) of events that the store has not acknowledged. A press labels the painted face,
moves on and writes the journal at once; events go to the server in flushes and are sent again until each one is acknowledged or refused.
Nothing here touches a store. A page mounts it so, inside `st.fragment`:

    report = pending(KEY, journal)                              # what the browser says, before anything is drawn
    acked, refused = record(report.events)                      # one transaction; ON CONFLICT (event_id) DO NOTHING
    label_grid(key=KEY, journal=journal, page=campaign, report=report, batch=..., past=..., acked=acked, refused=refused, ...)

Answer a wanted batch with the same faces until the browser asks for another. Read `acked` back from the database rather than assuming the
insert: a callback or run can be cut short at any `st.` call.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard.components.loop import (
    OUTBOX,
    Batch,
    Choice,
    Face,
    Flag,
    Gesture,
    Past,
    Question,
    Report,
    packed_batch,
    packed_past,
    pending,
    read_report,
)
from fercore.errors import BadInput
from fercore.schemes import CANNOT_TELL

__all__ = ["ACTS", "RESERVED", "Batch", "Choice", "Face", "Flag", "Gesture", "Past", "Question", "Report", "check_keys", "default_keys",
           "effective_keys", "label_grid", "pending"]

_HERE = Path(__file__).parent
_COMPONENT = st.components.v2.component(
    "fercore_label_grid", js=OUTBOX + (_HERE / "label_grid.js").read_text("utf-8"), css=(_HERE / "label_grid.css").read_text("utf-8"))

# What every page does, and its keys: KeyboardEvent.code, "Shift+" before it where Shift is held.
ACTS: dict[str, tuple[str, ...]] = {
    "cannot_tell": ("Digit0",), "skip": ("Space",), "undo": ("KeyZ", "Backspace"), "redo": ("Shift+KeyZ",), "back": ("ArrowLeft",),
    "forward": ("ArrowRight",), "comment": ("KeyC",), "bright": ("KeyG",), "zoom": ("KeyX",), "help": ("KeyH",)}
_FIXED = frozenset({"Escape", "Tab", "Enter"})
# Keys that the component itself acts on unless a person changes them; a choice or flag cannot use them.
RESERVED = frozenset({code.removeprefix("Shift+") for codes in ACTS.values() for code in codes} | _FIXED | {"Slash"})
_ACT = re.compile(rf"answer [\w-]{{1,64}}=[\w-]{{1,64}}|flag \w{{1,64}}|{'|'.join(ACTS)}")
_CODE = re.compile(r"(Shift\+)?(?!(Shift|Control|Alt|Meta|OS)(Left|Right)?$)[A-Za-z][A-Za-z0-9]{0,23}")


def default_keys(questions: Sequence[Question], flags: Sequence[Flag]) -> dict[str, tuple[str, ...]]:
    """Act -> codes where nobody changed anything. Acts: "answer FIELD=VALUE", "flag FIELD" and those of `ACTS`.

    Raises:
        BadInput: two acts share a key, or a choice or flag uses a reserved one.
    """
    own = {f"answer {q.field}={c.value}": c.keys for q in questions for c in q.choices} | {f"flag {f.field}": (f.key,) for f in flags}
    reserved = [code for codes in own.values() for code in codes if code in RESERVED]
    if clash := sorted({*reserved, *_clashes(own)}):
        raise BadInput("Keys clash", f"{', '.join(clash)} would do two things", "Give every choice and flag a key of its own")
    return own | ACTS


def check_keys(questions: Sequence[Question], flags: Sequence[Flag], keys: Any) -> dict[str, list[str]]:
    """The key map of one person as a browser sent it, unchanged, once it may be saved: act -> codes, only acts that differ from `default_keys`.

    Acts of other pages are checked for their form only. "?" always opens the list of keys, whatever is changed.

    Raises:
        BadInput: it is no such map, uses Esc, Tab, Enter or a modifier alone, or two acts of this page would share a key.
    """
    def fits(act: Any, codes: Any) -> bool:
        return (isinstance(act, str) and bool(_ACT.fullmatch(act)) and isinstance(codes, list) and 1 <= len(codes) <= 4
                and all(isinstance(c, str) and _CODE.fullmatch(c) and c.removeprefix("Shift+") not in _FIXED for c in codes))

    if not isinstance(keys, dict) or len(keys) > 200 or not all(fits(*item) for item in keys.items()):
        raise BadInput("Keys cannot be kept", "What the browser sent is no key map, or uses Esc, Tab, Enter or a modifier alone",
                       "Press H and choose the keys again")
    defaults = default_keys(questions, flags)
    if clash := _clashes(defaults | {act: tuple(codes) for act, codes in keys.items() if act in defaults}):
        code, acts = min(clash.items())
        raise BadInput("Keys clash", f"{code} would do two things: {' and '.join(acts)}", "Give each of them a key of its own")
    return keys


def effective_keys(questions: Sequence[Question], flags: Sequence[Flag], keys: Mapping[str, Sequence[str]] | None) -> dict[str, tuple[str, ...]]:
    """Act -> codes as they hold on a page with these questions, for a person who changed `keys`.

    A change that was made on another page and clashes on this one does not hold here.

    Raises:
        BadInput: as `default_keys`.
    """
    defaults = default_keys(questions, flags)
    own = {act: tuple(codes) for act, codes in (keys or {}).items() if act in defaults}
    while clash := _clashes(defaults | own):
        own = {act: codes for act, codes in own.items() if not any(act in acts for acts in clash.values())}
    return defaults | own


def _clashes(keys: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Code -> the acts that share it. Shift with the key of a flag sets the flag and stays: that is taken, too."""
    users: dict[str, set[str]] = defaultdict(set)
    for act, codes in keys.items():
        for code in codes:
            users[code].add(act)
            if act.startswith("flag "):
                users[f"Shift+{code}"].add(act)
    return {code: sorted(acts) for code, acts in users.items() if len(acts) > 1}


def label_grid(*, key: str, journal: str, page: str, report: Report, questions: Sequence[Question], flags: Sequence[Flag], batch: Batch | None,
               past: Past | None, total: int, done: int, acked: Sequence[str], refused: Mapping[str, str], lost: Sequence[str] = (),
               keys: Mapping[str, Sequence[str]] | None = None, second: bool = False, practice: bool = False,
               empty: str = "No faces are waiting for you here", note: str = "") -> Report:
    """Mounts the component and returns the newest report (newer than `report` only in the first run of a session).

    Args:
        key: Streamlit key; it should name the person and the campaign.
        journal: of unacknowledged events; must name workspace and person, or one person's events reach another.
        page: names the campaign; with another journal or page the component starts afresh.
        report: what `pending` returned in this run.
        questions: 1 or 2 questions; two rows of choices still fit 560 px.
        batch: faces, sent only while the browser asks for this number. It asks for batch 1 when an earlier journal has been acknowledged.
        past: earlier gestures, sent only while the browser asks for this page; not asked for in practice.
        total, done: faces in the queue, and faces finished in it after `acked` was recorded.
        acked: ids among `report.events` that are in the database.
        refused: event id -> reason, for events that will never be recorded; the reason is shown. "keys" refuses `report.keys`.
        lost: ids of faces handed to this client that others hold now; those without an answer leave the browser's queue.
        keys: this person's changes as saved (see `check_keys`); the browser sends `report.keys` until it sees the same here.
        second: Alt with a label key, or "2nd", gives a second answer: events on FIELD_2.
        practice: after an answer the face stays and says what was expected; nothing can be undone.
        empty: said when an empty batch arrives.
        note: a line under the face.

    Raises:
        BadInput: two acts share a key, or a face has not 2,304 bytes.
    """
    value = _COMPONENT(
        key=key,
        data={
            "journal": journal, "page": page, "client": report.client, "seen": report.number, "acked": list(acked), "refused": dict(refused),
            "batch": packed_batch(batch, report.want), "past": packed_past(past, report.past), "lost": list(lost),
            "questions": [{"field": q.field, "label": q.label, "choices": [
                {"value": c.value, "label": c.label, "colour": c.colour} for c in q.choices]} for q in questions],
            "flags": [{"field": f.field, "label": f.label} for f in flags],
            "codes": effective_keys(questions, flags, keys), "defaults": default_keys(questions, flags),
            "keys": {act: list(codes) for act, codes in (keys or {}).items()},
            "cannot_tell": CANNOT_TELL, "total": total, "done": done, "second": second, "practice": practice, "empty": empty, "note": note,
        },
        on_report_change=lambda: None,
    )
    return read_report(value, journal)
