"""The components with a SQLite file for a store. The address says what:

?page=label|tag|practice|wall&queue=NAME&person=NAME&delay=SECONDS&faces=N&batch=N&past=GESTURES&refuse=IMAGE|keys&deaf=REPORTS&note=TEXT&moving
&hostile

The tables `lost` (image ids that others hold now) and `keys` (the person's key map) may be written by a test.
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

from dashboard.components.face_grid import Tile, face_grid
from dashboard.components.label_grid import Batch, Choice, Face, Flag, Gesture, Past, Question, Report, check_keys, label_grid, pending
from fercore.errors import FerError
from fercore.schemes import AGE_BANDS, FER8, FLAGS, GENDERS, Scheme

st.set_page_config(page_title="Components", layout="wide")
QUERY = {"page": "label", "queue": "a", "person": "kim", "delay": "0", "faces": "400", "batch": "40", "past": "12", "deaf": "0", "note": ""}
QUERY |= st.query_params.to_dict()
KEY, JOURNAL, PRACTICE = "grid", f"test-{QUERY['queue']}-{QUERY['person']}", QUERY["page"] == "practice"


def question(scheme: Scheme) -> Question:
    return Question(scheme.field, scheme.name, tuple(Choice(c.class_id, c.name, c.colour, c.keys) for c in scheme.classes))


QUESTIONS = [question(AGE_BANDS), question(GENDERS)] if QUERY["page"] == "tag" else [question(FER8)]
FLAG_LIST = [Flag(f"flag_{name}", label, key) for name, (label, key) in FLAGS.items() if key]


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
    for table in ("event (event_id TEXT PRIMARY KEY, image_id TEXT, body TEXT)", "run (client TEXT, number INT, want INT, past INT, events INT)",
                  "lost (image_id TEXT)", "keys (body TEXT)"):
        db.execute(f"CREATE TABLE IF NOT EXISTS {table}")
    return db


def record(report: Report) -> tuple[list[str], dict[str, str], list[dict[str, Any]], list[str]]:
    """Ids now in the store, refused ones, all events in the order they were made, and lost images."""
    db = store()
    refused = {e["event_id"]: "this face is closed" for e in report.events if e["image_id"] == QUERY.get("refuse")}
    with db:
        db.executemany("INSERT INTO event VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                       [(e["event_id"], e["image_id"], json.dumps(e)) for e in report.events if e["event_id"] not in refused])
        db.execute("INSERT INTO run VALUES (?, ?, ?, ?, ?)", (report.client, report.number, report.want, report.past, len(report.events)))
    events = [json.loads(body) for body, in db.execute("SELECT body FROM event ORDER BY event_id")]
    lost = [i for i, in db.execute("SELECT image_id FROM lost")]
    db.close()
    known = {e["event_id"] for e in events}
    return [e["event_id"] for e in report.events if e["event_id"] in known], refused, events, lost


def personal_keys(report: Report, refused: dict[str, str]) -> dict[str, list[str]]:
    db = store()
    if report.keys is not None and QUERY.get("refuse") == "keys":
        refused["keys"] = "not on a Sunday"
    elif report.keys is not None:
        try:
            with db:
                db.execute("INSERT INTO keys VALUES (?)", (json.dumps(check_keys(QUESTIONS, FLAG_LIST, report.keys)),))
        except FerError as error:
            refused["keys"] = error.detail
    last = db.execute("SELECT body FROM keys ORDER BY rowid DESC LIMIT 1").fetchone()
    db.close()
    return dict(json.loads(last[0])) if last else {}


def replay(events: list[dict[str, Any]]) -> tuple[list[Gesture], list[Gesture], dict[str, dict[str, str]], set[str]]:
    """What can be undone, what can be redone, the answers on each image, and the images that are done with."""
    done: list[Gesture] = []
    undone: list[Gesture] = []
    answers: dict[str, dict[str, str]] = {}
    passed: set[str] = set()
    for e in events:
        image = e["image_id"]
        if e["target"]:
            source, sink = (done, undone) if e["op"] == "undo" else (undone, done)
            moved = [g for g in source if e["target"] in {x["event_id"] for x in g.events}]
            for g in moved:
                source.remove(g)
                sink.append(g)
                answers[image] = dict(g.before if e["op"] == "undo" else g.after)
                (passed.add if (g.passed_before if e["op"] == "undo" else g.passed_after) else passed.discard)(image)
            continue
        before, was = dict(answers.setdefault(image, {})), image in passed
        if e["op"] == "set":
            answers[image][e["field"]] = e["value"]
        elif e["op"] == "unset":
            answers[image].pop(e["field"], None)
        if e["op"] == "skip" or (e["op"] == "set" and e["field"].startswith("flag_")) or all(q.field in answers[image] for q in QUESTIONS):
            passed.add(image)
        same = done and done[-1].events[0]["gesture"] == e["gesture"]
        last = done.pop() if same else Gesture(image, (), before, {}, was, False)
        done.append(replace(last, events=(*last.events, e), after=dict(answers[image]), passed_after=image in passed))
        undone.clear()
    return done, undone, answers, passed


def earlier(report: Report, events: list[dict[str, Any]]) -> Past | None:
    if report.past is None:
        return None
    done, undone, answers, _ = replay([e for e in events if "moving" in QUERY or e["event_id"] < report.client])
    size, last = int(QUERY["past"]), len(done) - int(QUERY["past"]) * (report.past - 1)
    page, back = done[max(last - size, 0):max(last, 0)], undone if report.past == 1 else []
    images = dict.fromkeys(g.image_id for g in (*page, *back))
    return Past(report.past, tuple(page), tuple(back), tuple(Face(i, pixels(int(i[-4:])), answers[i]) for i in images), last > size)


@st.fragment
def loop() -> None:
    report = pending(KEY, JOURNAL)
    time.sleep(float(QUERY["delay"]))
    st.session_state["deaf"] = st.session_state.get("deaf", int(QUERY["deaf"])) - bool(report.events)
    if st.session_state["deaf"] >= 0 and report.events:
        report = replace(report, events=())  # as if the run had been cut short before anything was stored
    acked, refused, events, lost = record(report)
    passed = replay(events)[3]
    keys = personal_keys(report, refused)
    handed = st.session_state.setdefault("handed", {"client": "", "ids": set(), "batch": None})
    if report.want is not None and (handed["client"], handed["batch"] and handed["batch"].number) != (report.client, report.want):
        if handed["client"] != report.client:
            handed.update(client=report.client, ids=set())  # a new client has none of the faces handed out before
        names = [f"face-{i:04d}" for i in range(int(QUERY["faces"]))]
        ids = [n for n in names if n not in passed | handed["ids"] | set(lost)][: int(QUERY["batch"])]
        handed["ids"] |= set(ids)
        expected = [(FER8.classes[i % 8].class_id, "surprise")[: 1 + i % 2] if PRACTICE else () for i in (int(n[-4:]) for n in ids)]
        faces = [Face(n, pixels(int(n[-4:])), expected=e) for n, e in zip(ids, expected, strict=True)]
        handed["batch"] = Batch(report.want, tuple(faces), f"lease-{report.want}")
    label_grid(key=KEY, journal=JOURNAL, page=QUERY["page"], report=report, questions=QUESTIONS, flags=FLAG_LIST, batch=handed["batch"],
               past=earlier(report, events), total=int(QUERY["faces"]), done=len(passed), acked=acked, refused=refused, lost=lost, keys=keys,
               second=QUERY["page"] == "label", practice=PRACTICE, note=QUERY["note"])


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
