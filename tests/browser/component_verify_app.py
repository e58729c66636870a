"""The verify grid with a SQLite file for a store. The address says what:

?mode=claim|flag|tag&queue=NAME&delay=SECONDS&faces=N&batch=N&refuse=IMAGE&deaf=REPORTS&commits=N a page of the past&lost=IMAGE&note=TEXT
"""

import json
import os
import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from dashboard.components.loop import Batch, Choice, Face, Gesture, Past, Question, Report, pending
from dashboard.components.verify_grid import verify_grid
from fercore.schemes import AGE_BANDS, FER8, Scheme

st.set_page_config(page_title="Verify", layout="wide", initial_sidebar_state=232)
QUERY = {"mode": "claim", "queue": "a", "delay": "0", "faces": "400", "batch": "120", "deaf": "0", "commits": "2"} | st.query_params.to_dict()
KEY, JOURNAL = "grid", f"test:{QUERY['queue']}"
IDS = [f"face-{i:04d}" for i in range(int(QUERY["faces"]))]


def question(scheme: Scheme) -> Question:
    return Question(scheme.field, scheme.name, tuple(Choice(c.class_id, c.name, c.colour, c.keys) for c in scheme.classes))


QUESTION, CLAIM = {
    "claim": (question(FER8), question(FER8).choices[3]),
    "flag": ((flag := Question("flag_dark", "Too dark", (Choice("yes", "Yes", "#D55E00", ("KeyY",)), Choice("no", "No", "#0072B2", ("KeyN",))))), flag.choices[0]),
    "tag": (question(AGE_BANDS), None),
}[QUERY["mode"]]


@st.cache_data
def pixels(i: int) -> bytes:
    """A drawn face: an oval with eyes and a mouth; the first pixel is i modulo 256."""
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    rng = np.random.default_rng(i)
    skin, bend = rng.uniform(110, 210), rng.uniform(-0.5, 0.5)
    face = 40 + 30 * (y + 1) / 2 + rng.normal(0, 4, (48, 48))
    oval = (x / 0.72) ** 2 + (y / 0.92) ** 2 < 1
    face[oval] = skin - 40 * x[oval] + rng.normal(0, 4, oval.sum())
    for side in (-0.3, 0.3):
        face[((x - side) / 0.13) ** 2 + ((y + 0.2) / 0.07) ** 2 < 1] = 30
    face[(abs(y - 0.45 - bend * (0.12 - x**2)) < 0.05) & (abs(x) < 0.35)] = 50
    face[0, 0] = i % 256
    return face.clip(0, 255).astype(np.uint8).tobytes()


def store() -> sqlite3.Connection:
    db = sqlite3.connect(Path(os.environ["COMPONENT_STORE"]) / f"{QUERY['queue']}.sqlite", timeout=30)
    db.execute("CREATE TABLE IF NOT EXISTS event (event_id TEXT PRIMARY KEY, image_id TEXT, body TEXT)")
    db.execute("CREATE TABLE IF NOT EXISTS run (client TEXT, number INT, want INT, past INT, events INT)")
    return db


def record(report: Report) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """All events in the store by id, oldest first, and the refused ones."""
    db = store()
    refused = {e["event_id"]: "this face is closed" for e in report.events if e["image_id"] == QUERY.get("refuse")}
    with db:
        db.executemany("INSERT INTO event VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                       [(e["event_id"], e["image_id"], json.dumps(e)) for e in report.events if e["event_id"] not in refused])
        db.execute("INSERT INTO run VALUES (?, ?, ?, ?, ?)", (report.client, report.number, report.want, report.past, len(report.events)))
    known = {event_id: json.loads(body) for event_id, body in db.execute("SELECT event_id, body FROM event ORDER BY event_id")}
    db.close()
    return known, refused


def commits(known: dict[str, dict[str, Any]]) -> tuple[list[list[dict[str, Any]]], list[list[dict[str, Any]]]]:
    """The commits that stand, oldest first, and those that can be redone."""
    done, undone = list[list[dict[str, Any]]](), list[list[dict[str, Any]]]()
    for e in known.values():
        if e["op"] == "set":
            if done and done[-1][0]["gesture"] == e["gesture"]:
                done[-1].append(e)
            else:
                done.append([e])
            undone = []
        elif e["op"] in ("undo", "redo"):
            here, there = (done, undone) if e["op"] == "undo" else (undone, done)
            if moved := [c for c in here if any(x["event_id"] == e["target"] for x in c)]:
                here.remove(moved[0])
                there.append(moved[0])
    return done, undone


def past(asked: int, done: list[list[dict[str, Any]]], undone: list[list[dict[str, Any]]]) -> Past:
    size = int(QUERY["commits"])
    end = len(done) - (asked - 1) * size
    shown, redoable = done[max(end - size, 0) : max(end, 0)], undone if asked == 1 else []

    def gestures(some: list[list[dict[str, Any]]]) -> tuple[Gesture, ...]:
        return tuple(Gesture(e["image_id"], ({k: e[k] for k in ("event_id", "op", "field", "value", "gesture")},), {}, {e["field"]: e["value"]}, False, True)
                     for c in some for e in c)

    ids = list(dict.fromkeys(e["image_id"] for c in [*shown, *redoable] for e in c))
    return Past(asked, gestures(shown), gestures(redoable), tuple(Face(i, pixels(int(i[-4:]))) for i in ids), end > size)


@st.fragment
def loop() -> None:
    report, state = pending(KEY, JOURNAL), st.session_state
    time.sleep(float(QUERY["delay"]))
    state["deaf"] = state.get("deaf", int(QUERY["deaf"])) - bool(report.events)
    if state["deaf"] >= 0 and report.events:
        report = replace(report, events=())  # as if the run had been cut short before anything was stored
    known, refused = record(report)
    done, undone = commits(known)
    seen = {e["image_id"] for c in done for e in c}
    handed = state.setdefault("handed", {"client": "", "ids": [], "batch": None})
    if handed["client"] != report.client:
        handed.update(client=report.client, ids=[], batch=None)  # a new client has none of the faces handed out before
    if report.want is not None and (handed["batch"] is None or handed["batch"].number != report.want):
        ids = [i for i in IDS if i not in seen and i not in handed["ids"]][: int(QUERY["batch"])]
        handed["ids"] += ids
        handed["batch"] = Batch(report.want, tuple(Face(i, pixels(int(i[-4:]))) for i in ids), f"lease-{report.want}")
    verify_grid(key=KEY, journal=JOURNAL, page=QUERY["mode"], report=report, question=QUESTION, claim=CLAIM, batch=handed["batch"],
                past=None if report.past is None else past(report.past, done, undone), total=len(IDS), done=len(seen),
                acked=[e["event_id"] for e in report.events if e["event_id"] in known], refused=refused,
                lost=[QUERY["lost"]] if "lost" in QUERY and seen else [], note=QUERY.get("note", ""))


st.subheader("Verify")
with st.sidebar:
    st.text_input("Search")
    hidden = st.checkbox("Hide the faces")
if not hidden:
    loop()
