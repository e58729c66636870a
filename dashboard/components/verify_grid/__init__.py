"""The verify grid: a page of sixty faces answered at a time.

With a claim, all faces are taken to be of its class and the exceptions are marked; without one, each face is answered (grid tagging). Nothing
leaves the browser before the page is committed; then every answer of the page goes in one gesture, which is undone as one.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import streamlit as st

from dashboard.components.loop import OUTBOX, Batch, Choice, Past, Question, Report, packed_batch, packed_past, read_report
from fercore.errors import BadInput
from fercore.schemes import CANNOT_TELL

_HERE = Path(__file__).parent
_COMPONENT = st.components.v2.component(
    "fercore_verify_grid", js=OUTBOX + (_HERE / "verify_grid.js").read_text("utf-8"), css=(_HERE / "verify_grid.css").read_text("utf-8"))

# Keys that the component itself acts on; a choice cannot use them.
RESERVED = frozenset({"Space", "Backspace", "KeyZ", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "Digit0", "KeyC", "KeyH",
                      "Escape", "Tab", "Enter", "NumpadEnter", "Slash"})


def verify_grid(*, key: str, journal: str, page: str, report: Report, question: Question, claim: Choice | None, batch: Batch | None,
                past: Past | None, total: int, done: int, acked: Sequence[str], refused: Mapping[str, str], lost: Sequence[str] = (),
                empty: str = "No faces are waiting for you here", note: str = "") -> Report:
    """Mounts the component and returns the newest report (newer than `report` only in the first run of a session).

    Events of a commit share one gesture. Their mode is "grid_bulk" (left as claimed), "grid_exception" (marked, with a claim) or "grid_tag"
    (without one). A lead time is the time on the page divided by the faces committed.

    Args:
        key: Streamlit key; with `journal` and `page` it should name the person and the campaign.
        journal: names workspace and person.
        page: names what is labelled; a change of `journal` or `page` starts the component afresh.
        report: what `loop.pending` returned in this run.
        question: the field and its choices. A flag field has two choices; an exception is then the other one, elsewhere "cannot tell".
        claim: the choice that all faces are said to have, or None for grid tagging.
        batch: faces under their lease, sent only while the browser asks for this number. A page takes 60; hand out 120 or more.
        past: earlier commits, sent only while the browser asks for this page. Gestures whose events share "gesture" are undone together;
            a page must not cut through a commit.
        total, done: faces in the campaign, and faces finished in it after `acked` was recorded.
        acked: ids among `report.events` that are in the database.
        refused: event id -> reason, for events that will never be recorded; the reason is shown.
        lost: image ids whose lease went to others; on the page they can no longer be answered.
        empty: said when an empty batch arrives.
        note: a line beside the claim.

    Raises:
        BadInput: a key is taken twice, the claim is not among the choices, a flag has not two choices, or a face has not 2,304 bytes.
    """
    flag, choices = question.field.startswith("flag_"), question.choices
    keys = Counter(k for c in choices for k in c.keys)
    if clash := sorted(k for k, n in keys.items() if n > 1 or k in RESERVED):
        raise BadInput("Keys clash", f"{', '.join(clash)} would do two things", "Give every choice a key of its own")
    if claim not in (None, *choices) or (flag and len(choices) != 2):
        raise BadInput("Faces cannot be verified", f"{question.field} does not offer what is claimed, or is a flag without two choices",
                       "Claim one of the choices; give a flag the choices Yes and No")
    plain = [{"value": c.value, "label": c.label, "colour": c.colour, "keys": c.keys} for c in choices]
    if not flag:
        plain.append({"value": CANNOT_TELL, "label": "Cannot tell", "colour": "", "keys": ("Digit0",)})
    value = _COMPONENT(
        key=key,
        data={
            "journal": journal, "page": page, "client": report.client, "seen": report.number, "acked": list(acked), "refused": dict(refused),
            "batch": packed_batch(batch, report.want), "past": packed_past(past, report.past), "lost": list(lost),
            "field": question.field, "choices": plain, "claim": claim and claim.value, "said": _said(question, claim),
            "exception": next(c.value for c in choices if c != claim) if flag else CANNOT_TELL,
            "total": total, "done": done, "empty": empty, "note": note,
        },
        on_report_change=lambda: None,
    )
    return read_report(value, journal)


def _said(question: Question, claim: Choice | None) -> tuple[str, str]:
    """What stands above the faces: how the sentence begins, and its main word."""
    if claim is None:
        return "", question.label
    if not question.field.startswith("flag_"):
        return "All of these are ", claim.label.lower()
    return ("None of these is " if claim.value == "no" else "All of these are "), question.label.lower()
