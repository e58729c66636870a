"""The components with a SQLite file for a store. The address says what:

?page=label|tag|wall&queue=NAME&delay=SECONDS&faces=N&batch=N&refuse=IMAGE&deaf=REPORTS&hostile
"""

import json
import os
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import streamlit as st

from dashboard.components.face_grid import Tile, face_grid
from dashboard.components.label_grid import Choice, Face, Flag, LabelReport, Question, Served, label_grid, pending
from fercore.schemes import AGE_BANDS, FER8, FLAGS, GENDERS, Scheme

st.set_page_config(page_title="Components", layout="wide")
QUERY = {"page": "label", "queue": "a", "delay": "0", "faces": "400", "batch": "40", "deaf": "0"} | st.query_params.to_dict()
KEY, JOURNAL = "grid", f"test:{QUERY['queue']}"


def question(scheme: Scheme) -> Question:
    return Question(scheme.field, scheme.name, tuple(Choice(c.class_id, c.name, c.colour, c.keys) for c in scheme.classes))


QUESTIONS = [question(FER8)] if QUERY["page"] == "label" else [question(AGE_BANDS), question(GENDERS)]
FLAG_LIST = [Flag(f"flag_{name}", label, key) for name, (label, key) in FLAGS.items()]


@st.cache_data
def pixels(i: int) -> bytes:
    """A drawn face: an oval with eyes and a mouth whose bend and brightness depend on `i`."""
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    rng = np.random.default_rng(i)
    skin, bend = rng.uniform(110, 210), rng.uniform(-0.5, 0.5)
    face = 40 + 30 * (y + 1) / 2 + rng.normal(0, 4, (48, 48))
    oval = (x / 0.72) ** 2 + (y / 0.92) ** 2 < 1
    face[oval] = skin - 40 * x[oval] + rng.normal(0, 4, oval.sum())
    for side in (-0.3, 0.3):
        face[((x - side) / 0.13) ** 2 + ((y + 0.2) / 0.07) ** 2 < 1] = 30
    face[(abs(y - 0.45 - bend * (0.12 - x**2)) < 0.05) & (abs(x) < 0.35)] = 50
    face[(abs(x) < 0.05) & (y > -0.1) & (y < 0.2)] -= 25
    return face.clip(0, 255).astype(np.uint8).tobytes()


def store() -> sqlite3.Connection:
    db = sqlite3.connect(Path(os.environ["COMPONENT_STORE"]) / f"{QUERY['queue']}.sqlite", timeout=30)
    db.execute("CREATE TABLE IF NOT EXISTS event (event_id TEXT PRIMARY KEY, image_id TEXT, body TEXT)")
    db.execute("CREATE TABLE IF NOT EXISTS run (client TEXT, number INT, want INT, events INT)")
    return db


def record(report: LabelReport) -> tuple[list[str], dict[str, str], set[str]]:
    """Ids now in the store, refused ones, and the images with an event that stands."""
    db = store()
    refused = {e["event_id"]: "this face is closed" for e in report.events if e["image_id"] == QUERY.get("refuse")}
    with db:
        db.executemany("INSERT INTO event VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                       [(e["event_id"], e["image_id"], json.dumps(e)) for e in report.events if e["event_id"] not in refused])
        db.execute("INSERT INTO run VALUES (?, ?, ?, ?)", (report.client, report.number, report.want, len(report.events)))
    known = {event_id: json.loads(body) for event_id, body in db.execute("SELECT event_id, body FROM event ORDER BY event_id")}
    db.close()
    undone = {e["target"]: e["op"] == "undo" for e in known.values() if e["target"]}  # the last undo or redo of an event counts
    stands = {e["image_id"] for e in known.values() if not e["target"] and not undone.get(e["event_id"])}
    return [e["event_id"] for e in report.events if e["event_id"] in known], refused, stands


@st.fragment
def loop() -> None:
    report = pending(KEY, JOURNAL)
    time.sleep(float(QUERY["delay"]))
    st.session_state["deaf"] = st.session_state.get("deaf", int(QUERY["deaf"])) - bool(report.events)
    if st.session_state["deaf"] >= 0 and report.events:
        report = replace(report, events=())  # as if the run had been cut short before anything was stored
    acked, refused, seen = record(report)
    served = st.session_state.setdefault("served", Served())
    handed = st.session_state.setdefault("handed", {"client": "", "ids": set()})

    def fetch() -> list[Face]:
        if handed["client"] != report.client:
            handed.update(client=report.client, ids=set())  # a new client has none of the faces handed out before
        names = [f"face-{i:04d}" for i in range(int(QUERY["faces"]))]
        ids = [n for n in names if n not in seen | handed["ids"]][: int(QUERY["batch"])]
        handed["ids"] |= set(ids)
        return [Face(n, pixels(int(n[-4:]))) for n in ids]

    label_grid(key=KEY, journal=JOURNAL, report=report, questions=QUESTIONS, flags=FLAG_LIST, batch=served.answer(report, fetch),
               total=int(QUERY["faces"]), done=len(seen), acked=acked, refused=refused)


st.subheader("Faces to label" if QUERY["page"] != "wall" else "Faces")
if QUERY["page"] == "wall":
    if st.button("Next faces"):
        st.session_state["first"] = st.session_state.get("first", 0) + int(QUERY["faces"])
    first = st.session_state.get("first", 0)
    tiles = [Tile(f"s{i}", pixels(i), FER8.classes[i % 8].name, FER8.classes[i % 8].colour, note="dark" if i % 7 == 0 else "",
                  second=FER8.classes[(i * 3) % 8].name if i % 2 else "", second_colour=FER8.classes[(i * 3) % 8].colour)
             for i in range(first, first + int(QUERY["faces"]))]
    if "hostile" in QUERY:
        text = "<img src=x onerror=alert(1)>"
        tiles[0] = Tile("s0", pixels(0), text, "red;} * {display:none", note=text, second=text)
    if opened := face_grid(tiles, key="wall"):
        st.session_state["opened"] = [*st.session_state.get("opened", []), opened]
    st.text("opened: " + " ".join(st.session_state.get("opened", [])))
    st.button("Run again")
else:
    with st.sidebar:
        st.text_input("Search")
        hidden = st.checkbox("Hide the faces")
    if not hidden:
        loop()
