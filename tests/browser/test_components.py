"""The labeling component and the wall of faces in Chromium, against a small app with a SQLite file for a store."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_harness import INIT_SCRIPT, ROOT, DelayProxy, Server
from hypothesis import given
from hypothesis import strategies as some
from playwright.sync_api import Browser, Page, expect

from dashboard.components.face_grid import Tile, face_grid
from dashboard.components.label_grid import ACTS, Choice, Flag, Question, Report, check_keys, default_keys, effective_keys, label_grid
from dashboard.components.loop import Batch, Face, Gesture, Past, packed_batch, packed_past, read_report
from fercore.errors import BadInput
from fercore.schemes import AGE_BANDS, FER8, FLAGS, GENDERS

APP = ROOT / "tests/browser/component_app.py"
LABEL_KEYS = [(code, c.class_id) for c in FER8.classes for code in c.keys]
# The entries of all journals of this address.
JOURNAL = """() => new Promise(done => { const opening = indexedDB.open("fercore"); opening.onsuccess = () => {
  const all = opening.result.transaction("events").objectStore("events").getAll(); all.onsuccess = () => { opening.result.close(); done(all.result) } } })"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def app(serve: Callable[..., Server], store: Path) -> str:
    # Developer mode: there `c` opens the clear-cache dialog, so the hotkey test can fail.
    return serve(APP, "--client.toolbarMode", "developer", env={"COMPONENT_STORE": str(store)}).url


class Loop:
    """One tab on one queue of the labeling component."""

    def __init__(self, page: Page, store: Path, queue: str) -> None:
        self.page, self.file, self.queue = page, store / f"{queue}.sqlite", queue

    def open(self, url: str, page: str = "label", **query: object) -> "Loop":
        self.page.goto(f"{url}/?page={page}&queue={self.queue}" + "".join(f"&{k}={v}" for k, v in query.items()))
        self.until("grid()?.dataset.imageId")
        return self

    def until(self, condition: str, timeout: float = 20_000) -> None:
        self.page.wait_for_function(condition, timeout=timeout)

    def press(self, *keys: str, gap: int = 150) -> None:
        """Presses keys `gap` milliseconds apart, or later where the machine is slow to paint (a face refuses answers for 120 ms)."""
        for key in keys:
            self.page.wait_for_timeout(gap)
            self.until("ready()")
            self.page.keyboard.press(key)

    def saved(self) -> list[dict[str, Any]]:
        """All events in the store, in the order they were made, once the browser says that all are saved."""
        self.until("grid() && +grid().dataset.saved === +grid().dataset.made && +grid().dataset.made > 0", 30_000)
        return self.events()

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for (body,) in self.rows("SELECT body FROM event ORDER BY event_id")]

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        db = sqlite3.connect(self.file, timeout=30)
        rows = db.execute(sql).fetchall()
        db.close()
        return rows

    def runs(self) -> int:
        return int(self.rows("SELECT count(*) FROM run")[0][0])

    def run_sql(self, sql: str, *values: object) -> None:
        with sqlite3.connect(self.file, timeout=30) as db:
            db.execute(sql, values)
        db.close()

    def data(self, name: str) -> str:
        return str(self.page.evaluate(f"grid().dataset.{name}"))

    @property
    def image(self) -> str:
        return self.data("imageId")

    @property
    def pressed(self) -> list[tuple[str, str]]:
        """(key code, image painted at that moment), noted by the page apart from the component."""
        return [tuple(p) for p in self.page.evaluate("pressed")]


@pytest.fixture
def loop(page: Page, store: Path, request: pytest.FixtureRequest) -> Loop:
    return Loop(page, store, request.node.name.removeprefix("test_"))


def short(event: dict[str, Any]) -> tuple[str, str | None, str | None]:
    return event["op"], event["field"], event["value"]


def test_every_key_answers(loop: Loop, app: str) -> None:
    loop.open(app)
    answers = [(code, ("set", "expression", value)) for code, value in LABEL_KEYS]
    answers += [(key, ("set", f"flag_{flag}", "yes")) for flag, (_, key) in FLAGS.items() if key]
    answers += [("Digit0", ("set", "expression", "cannot_tell")), ("Space", ("skip", "expression", None))]
    loop.press(*[code for code, _ in answers])
    events = loop.saved()
    assert [short(e) for e in events] == [act for _, act in answers]
    assert [e["image_id"] for e in events] == [image for _, image in loop.pressed] == [f"face-{i:04d}" for i in range(len(answers))]
    assert {e["mode"] for e in events} == {"single"} and {e["target"] for e in events} == {None} and {e["lease"] for e in events} == {"lease-1"}
    assert len({e["event_id"] for e in events} | {e["gesture"] for e in events}) == 2 * len(events)
    assert all(e["event_id"][14] == "7" and e["lead_ms"] >= 120 and e["shown_at"] <= e["decided_at"] for e in events)


def test_shift_flag_stays_and_toggles(loop: Loop, app: str) -> None:
    loop.open(app)
    loop.press("Shift+KeyB", "Shift+KeyB", "Shift+KeyO")
    assert loop.image == "face-0000"
    expect(loop.page.get_by_test_id("flag-flag_occluded")).to_have_attribute("aria-pressed", "true")
    expect(loop.page.get_by_test_id("flag-flag_dark")).to_have_attribute("aria-pressed", "false")
    loop.press("KeyA")
    assert loop.image == "face-0001"
    assert [short(e) for e in loop.saved()] == [("set", "flag_dark", "yes"), ("unset", "flag_dark", None), ("set", "flag_occluded", "yes"),
                                                ("set", "expression", "angry")]
    assert {e["image_id"] for e in loop.events()} == {"face-0000"}


def test_keys_that_only_look(loop: Loop, app: str) -> None:
    loop.open(app)
    loop.press("KeyA", "KeyS", "ArrowLeft", "ArrowLeft", "ArrowLeft")
    assert loop.image == "face-0000"
    expect(loop.page.get_by_test_id("answer-expression-angry")).to_have_attribute("aria-pressed", "true")
    expect(loop.page.get_by_test_id("where")).to_have_text("Looking back: 2 faces behind")
    loop.press("ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight")
    assert loop.image == "face-0002", "forward goes no further than the next face without an answer"

    shown = "[...grid().querySelector('canvas').getContext('2d').getImageData(0, 0, 48, 48).data]"
    plain = loop.page.evaluate(shown)
    loop.page.keyboard.down("KeyG")
    bright = loop.page.evaluate(shown)
    loop.page.keyboard.up("KeyG")
    assert sum(bright) > sum(plain) and loop.page.evaluate(shown) == plain
    width = "grid().querySelector('canvas').getBoundingClientRect().width"
    loop.page.keyboard.down("KeyX")
    assert loop.page.evaluate(width) == 576
    loop.page.keyboard.up("KeyX")
    assert loop.page.evaluate(width) == 288

    for key in ("KeyH", "Shift+Slash"):
        loop.press(key)
        expect(loop.page.get_by_test_id("keys")).to_be_visible()
        loop.press("KeyJ")
        assert loop.image == "face-0002", "a key pressed at the key list labels nothing"
        loop.press(key)
        expect(loop.page.get_by_test_id("keys")).to_be_hidden()
    loop.press("Escape", "KeyJ")
    expect(loop.page.get_by_test_id("veil")).to_have_text("Paused. Press Esc to go on.")
    assert loop.image == ""
    loop.press("Escape")
    assert loop.image == "face-0002"
    assert len(loop.saved()) == 2


def test_what_is_painted_is_the_face(loop: Loop, app: str) -> None:
    loop.open(app)
    rng = np.random.default_rng(0)  # the app draws face 0 from seed 0: skin tone is the first number
    skin = rng.uniform(110, 210)
    values = loop.page.evaluate("[...grid().querySelector('canvas').getContext('2d').getImageData(24, 12, 1, 1).data]")
    assert values[0] == values[1] == values[2] == pytest.approx(skin, abs=25) and values[3] == 255


def test_old_face_can_be_answered_again(loop: Loop, app: str) -> None:
    loop.open(app)
    loop.press("KeyA", "KeyS", "KeyD", "ArrowLeft", "ArrowLeft", "KeyJ")
    assert loop.image == "face-0003", "after a correction the loop goes on where it was"
    events = loop.saved()
    assert [(e["image_id"][-1], e["value"]) for e in events] == [("0", "angry"), ("1", "sad"), ("2", "disgust"), ("1", "happy")]


def test_undo_and_redo(loop: Loop, app: str) -> None:
    loop.open(app)
    loop.press("KeyA", "KeyN", "Space", "KeyZ")
    assert loop.image == "face-0002"
    loop.press("Backspace", "KeyZ")
    assert loop.image == "face-0000"
    expect(loop.page.get_by_test_id("answer-expression-angry")).to_have_attribute("aria-pressed", "false")
    expect(loop.page.get_by_test_id("answer-expression-angry")).to_have_class("undone")
    expect(loop.page.get_by_test_id("last")).to_have_text("Undone: Angry")
    loop.press("KeyZ")
    assert loop.image == "face-0000", "nothing is left to undo"
    loop.press("Shift+KeyZ", "Shift+KeyZ")
    assert loop.image == "face-0002"
    loop.press("KeyJ", "Shift+KeyZ")
    assert loop.image == "face-0003", "a new answer ends what can be redone"
    events = loop.saved()
    first, flag, skip = events[:3]
    assert [(e["op"], e["target"], e["image_id"]) for e in events[3:8]] == [
        ("undo", skip["event_id"], "face-0002"), ("undo", flag["event_id"], "face-0001"), ("undo", first["event_id"], "face-0000"),
        ("redo", first["event_id"], "face-0000"), ("redo", flag["event_id"], "face-0001")]
    assert [short(e) for e in events[8:]] == [("set", "expression", "happy")] and events[8]["image_id"] == "face-0002"


def test_two_questions(loop: Loop, app: str) -> None:
    loop.open(app, "tag")
    loop.press("Digit2")
    assert loop.image == "face-0000", "one of two questions is open"
    loop.press("KeyQ", "KeyW", "Digit0", "KeyB", "Digit0", "Digit0")
    assert loop.image == "face-0004"
    loop.press("KeyZ")
    assert loop.image == "face-0003"
    events = loop.saved()
    assert [(e["image_id"][-1], e["field"], e["value"]) for e in events[:-1]] == [
        ("0", "age_band", "young"), ("0", "gender", "female"), ("1", "gender", "male"), ("1", "age_band", "cannot_tell"),
        ("2", "flag_dark", "yes"), ("3", "age_band", "cannot_tell"), ("3", "gender", "cannot_tell")]
    assert events[-1]["target"] == events[-2]["event_id"]


def test_sixty_presses_on_a_slow_server(loop: Loop, app: str, delay_proxy: Callable[..., DelayProxy]) -> None:
    loop.open(delay_proxy(app).url, delay=0.3, faces=200, batch=20)
    keys = [LABEL_KEYS[(7 * i) % len(LABEL_KEYS)] for i in range(60)]
    loop.press(*[code for code, _ in keys], gap=190)
    events = loop.saved()
    assert [(e["image_id"], e["value"]) for e in events] == [(image, value) for (_, image), (_, value) in zip(loop.pressed, keys, strict=True)]
    assert len({e["image_id"] for e in events}) == len(events) == 60
    assert loop.data("stalls") == "0", "the next faces were there before they were needed, over three batches"
    assert int(loop.data("batch")) >= 4
    assert loop.page.evaluate("grid().getRootNode().activeElement === grid()")
    loop.page.wait_for_function(f"async () => !(await ({JOURNAL})()).length")


def test_reload_loses_nothing_and_repeats_nothing(loop: Loop, app: str) -> None:
    loop.open(app, deaf=99)
    loop.press("KeyA", "KeyS", "KeyD", "Space", "KeyF", "KeyZ")
    assert loop.events() == [], "the server has stored nothing"
    pressed = loop.pressed
    loop.open(app, deaf=1)  # nor does it hear the first report after the reload
    assert loop.image == "face-0004", "answered faces are not asked again; the undone one is"
    loop.press("KeyJ")
    events = loop.saved()
    assert [e["image_id"] for e in events[:5]] == [image for _, image in pressed[:5]]
    assert [(e["op"], e["target"]) for e in events[5:]] == [("undo", events[4]["event_id"]), ("set", None)]
    assert [e["image_id"] for e in events].count("face-0004") == 3
    loop.open(app)
    assert loop.image == "face-0005"
    assert loop.data("made") == "0", "nothing is sent twice"


def test_broken_connection_loses_nothing(loop: Loop, app: str, delay_proxy: Callable[..., DelayProxy]) -> None:
    proxy = delay_proxy(app)
    loop.open(proxy.url, delay=0.2)
    for _ in range(2):
        loop.press("KeyA", "KeyS", "KeyD")
        proxy.cut()
        loop.press("KeyF", "KeyJ", "KeyK")
    events = loop.saved()
    # Streamlit may take the component off the page for a moment while it connects again; a press then has no face to answer.
    assert [e["image_id"] for e in events] == [image for _, image in loop.pressed]
    assert 10 <= len({e["image_id"] for e in events}) == len(events) <= 12
    loop.press("KeyL")
    assert loop.saved()[-1]["value"] == "neutral"
    assert loop.data("made") == str(len(events) + 1), "the loop is the same one as before: what was done can still be undone"


def test_events_are_sent_again_until_acknowledged(loop: Loop, app: str) -> None:
    loop.open(app, deaf=2)
    loop.press("KeyA", "KeyS", "KeyZ")
    assert [e["op"] for e in loop.saved()] == ["set", "set", "undo"]
    heard = loop.rows("SELECT events FROM run WHERE number > 0 ORDER BY number")
    assert sum(n > 0 for (n,) in heard) == 1, "and not again afterwards"


def test_a_moment_off_the_page_changes_nothing(loop: Loop, app: str) -> None:
    loop.open(app)
    loop.press("KeyA", "KeyS", "Space")
    hide = loop.page.get_by_text("Hide the faces")
    hide.click()
    loop.until("!grid()")
    hide.click()
    loop.until("grid()?.dataset.imageId === 'face-0003'")
    assert loop.page.evaluate("grid().getRootNode().activeElement === grid()"), "it takes the focus when it comes back"
    loop.press("KeyD", "KeyZ", "KeyZ")
    assert loop.image == "face-0002"
    assert [e["op"] for e in loop.saved()] == ["set", "set", "skip", "set", "undo", "undo"]


@pytest.mark.parametrize("key", ["KeyR", "KeyC"])
def test_streamlit_hotkeys_stay_quiet(loop: Loop, app: str, key: str) -> None:
    loop.queue, loop.file = f"hot{key}", loop.file.with_name(f"hot{key}.sqlite")
    loop.open(app)
    loop.press("KeyA")
    loop.saved()
    loop.until("grid().dataset.batch === '1'")
    then = ["Escape"] * (key == "KeyC")  # it opens the comment field
    loop.press(key, *then, "KeyS", key, *then, gap=200)
    loop.saved()
    loop.page.mouse.click(900, 705)  # the background of the page
    loop.press(key, *then, "KeyD", gap=200)
    assert len(loop.saved()) == 3
    assert loop.page.get_by_role("dialog").count() == 0
    numbers = loop.rows("SELECT client, number FROM run WHERE client != ''")
    assert len(numbers) == len(set(numbers)), "every run answers a report: no run came from a hotkey"
    assert loop.page.evaluate("pressed.filter(p => p[0] === '" + key + "').length") == 3


def test_held_keys_and_double_presses_count_once(loop: Loop, app: str) -> None:
    loop.open(app)
    loop.until("ready()")
    loop.page.keyboard.down("KeyA")
    for _ in range(5):
        loop.page.wait_for_timeout(150)
        loop.page.keyboard.down("KeyA")  # repeats
    loop.page.keyboard.up("KeyA")
    assert loop.image == "face-0001"
    loop.press("KeyS")
    loop.page.keyboard.press("KeyD")  # at once: meant for the face before
    assert loop.page.evaluate("grid().classList.contains('shake')")
    assert loop.image == "face-0002"
    assert [e["value"] for e in loop.saved()] == ["angry", "sad"]


def test_typing_elsewhere_is_left_alone(loop: Loop, app: str) -> None:
    loop.open(app)
    search = loop.page.get_by_label("Search")
    search.click()
    loop.page.keyboard.type("sad jkl", delay=130)
    expect(search).to_have_value("sad jkl")
    search.press("Enter")
    assert loop.data("made") == "0" and loop.image == "face-0000"
    loop.page.get_by_test_id("face").click()
    loop.press("KeyA")
    loop.until("ready()")
    loop.page.get_by_test_id("answer-expression-happy").click()
    loop.press("KeyS")
    assert [e["value"] for e in loop.saved()] == ["angry", "happy", "sad"], "after a click the keys still work"
    loop.page.mouse.click(900, 705)
    loop.press("KeyD")
    assert len(loop.saved()) == 4, "and after a click on the background"


def test_mouse_does_what_keys_do(loop: Loop, app: str) -> None:
    loop.open(app)
    for name in ("answer-expression-fear", "cannotTell-expression-cannot_tell", "flag-flag_dark", "skip", "back", "forward", "undo", "redo"):
        button = loop.page.get_by_test_id(name)
        assert button.get_attribute("aria-label") and ", key " in str(button.get_attribute("aria-label"))
        loop.until("ready()")
        button.click()
    assert [short(e) for e in loop.saved()] == [
        ("set", "expression", "fear"), ("set", "expression", "cannot_tell"), ("set", "flag_dark", "yes"), ("skip", "expression", None),
        ("undo", "expression", None), ("redo", "expression", None)]
    loop.page.get_by_test_id("pause").click()
    assert loop.data("paused") == "true"
    loop.page.get_by_test_id("pause").click()
    loop.page.get_by_test_id("help").click()
    expect(loop.page.get_by_test_id("keys")).to_be_visible()


def test_refused_answer_is_said(loop: Loop, app: str) -> None:
    loop.open(app, refuse="face-0001")
    loop.press("KeyA", "KeyS", "KeyD")
    expect(loop.page.get_by_test_id("problem")).to_have_text("Not saved: this face is closed")
    loop.until("grid().dataset.saved === '2'")
    assert loop.data("refused") == "1" and len(loop.events()) == 2
    expect(loop.page.get_by_test_id("saved")).to_have_text("2 of 3 saved, 1 refused")
    loop.press("ArrowLeft", "ArrowLeft")
    expect(loop.page.get_by_test_id("answer-expression-sad")).to_have_attribute("aria-pressed", "false")


def test_end_of_the_queue(loop: Loop, app: str) -> None:
    loop.open(app, faces=3, batch=2)
    loop.press("KeyA", "KeyS")
    loop.until("grid().dataset.imageId === 'face-0002'")
    loop.press("KeyD")
    expect(loop.page.get_by_test_id("veil")).to_have_text("No faces are waiting for you here")
    loop.press("KeyF")
    assert len(loop.saved()) == 3
    expect(loop.page.get_by_test_id("saved")).to_have_text("3 of 3 saved")
    expect(loop.page.get_by_test_id("remaining")).to_have_text("0 remaining")
    before = loop.runs()
    loop.page.get_by_test_id("again").click()
    expect(loop.page.get_by_test_id("veil")).to_have_text("No faces are waiting for you here")
    loop.page.wait_for_function("before => +grid()?.dataset.batch > before", arg=3)
    assert loop.runs() > before
    loop.press("KeyZ")
    assert loop.image == "face-0002"


@pytest.mark.parametrize("name", ["label", "tag", "practice"])
def test_fits_without_scrolling(loop: Loop, app: str, name: str) -> None:
    loop.open(app, name, note="Answer what you perceive, not what the person may feel.")
    expect(loop.page.get_by_test_id("note")).to_be_visible()
    assert loop.page.evaluate("grid().getBoundingClientRect().height") <= 560
    assert loop.page.evaluate("(m => m.scrollHeight <= m.clientHeight)(document.querySelector('[data-testid=stMain]'))")


def test_second_answers(loop: Loop, app: str) -> None:
    loop.open(app)
    loop.press(*[f"Alt+{code}" for code, _ in LABEL_KEYS])  # both keys of a class: set, then clear
    assert loop.image == "face-0000" and loop.data("undo") == str(len(LABEL_KEYS))
    button, last = loop.page.get_by_test_id("answer-expression-surprise"), loop.page.get_by_test_id("last")
    loop.press("Alt+KeyK")
    expect(button).to_have_class("second")
    expect(button).to_have_attribute("aria-description", "second answer")
    expect(last).to_have_text("Last: second Surprise")
    loop.press("KeyJ", "ArrowLeft", "Alt+KeyJ")
    assert loop.page.evaluate("grid().classList.contains('shake')"), "it is the first answer already"
    loop.press("KeyK")  # the second becomes the first
    loop.press("Alt+KeyL", "Digit0", "ArrowLeft", "Alt+KeyA")
    loop.press("ArrowRight", "KeyZ", "KeyZ")
    assert loop.image == "face-0001"
    expect(loop.page.get_by_test_id("answer-expression-neutral")).to_have_class("undone")
    second = [("set" if i % 2 == 0 else "unset", "expression_2", value if i % 2 == 0 else None) for i, (_, value) in enumerate(LABEL_KEYS)]
    events = loop.saved()
    assert [short(e) for e in events] == [
        *second, ("set", "expression_2", "surprise"), ("set", "expression", "happy"), ("unset", "expression_2", None), ("set", "expression", "surprise"),
        ("set", "expression_2", "neutral"), ("unset", "expression_2", None), ("set", "expression", "cannot_tell"),
        ("undo", "expression", None), ("undo", "expression_2", None), ("undo", "expression_2", None)]
    became, cannot = events[18:20], events[21:23]
    assert all(a["gesture"] == b["gesture"] for a, b in (became, cannot))
    assert [e["target"] for e in events[-3:]] == [cannot[1]["event_id"], cannot[0]["event_id"], events[20]["event_id"]], "the parts of a gesture go together"


def test_second_answer_by_button(loop: Loop, app: str) -> None:
    loop.open(app)
    second = loop.page.get_by_test_id("second")
    second.click()
    expect(second).to_have_attribute("aria-pressed", "true")
    loop.until("ready()")
    loop.page.get_by_test_id("answer-expression-sad").click()
    expect(second).to_have_attribute("aria-pressed", "false")
    loop.press("KeyA")
    assert [short(e) for e in loop.saved()] == [("set", "expression_2", "sad"), ("set", "expression", "angry")]
    loop.open(app, "tag")
    expect(loop.page.get_by_test_id("second")).to_be_hidden()
    loop.press("Alt+Digit1", "Alt+KeyQ")
    assert loop.data("made") == "0", "a second answer is not asked for here"


def test_comments(loop: Loop, app: str) -> None:
    loop.open(app)
    field = loop.page.get_by_test_id("comment-text")
    loop.press("KeyA", "KeyC")
    expect(field).to_be_focused()
    loop.page.keyboard.type("sad; or jk? rc ")
    loop.page.keyboard.press("Escape")
    expect(field).to_be_hidden()
    loop.press("KeyC", "Enter")
    expect(field).to_be_focused()
    expect(field).to_have_value("")
    loop.page.get_by_test_id("answer-expression-happy").click()
    assert loop.image == "face-0001" and loop.page.evaluate("grid().classList.contains('shake')"), "nothing is labelled while a comment is open"
    expect(field).to_be_focused()
    loop.page.keyboard.type("x" * 520)
    loop.page.keyboard.press("Enter")
    expect(loop.page.get_by_test_id("last")).to_have_text("Last: comment")
    loop.page.get_by_test_id("comment").click()
    field.fill(" <b>why</b> ")
    loop.page.get_by_test_id("comment-save").click()
    loop.press("KeyZ", "KeyS")
    events = loop.saved()
    assert [(short(e), e["image_id"][-1]) for e in events] == [
        (("set", "expression", "angry"), "0"), (("comment", None, "x" * 500), "1"), (("comment", None, "<b>why</b>"), "1"),
        (("undo", None, None), "1"), (("set", "expression", "sad"), "1")]
    assert events[3]["target"] == events[2]["event_id"] and loop.page.get_by_role("dialog").count() == 0
    numbers = loop.rows("SELECT client, number FROM run WHERE client != ''")
    assert len(numbers) == len(set(numbers)), "no run came from a letter typed in the field"


def test_every_tag_key_answers(loop: Loop, app: str) -> None:
    loop.open(app, "tag")
    ages, genders = ([(code, (s.field, c.class_id)) for c in s.classes for code in c.keys] for s in (AGE_BANDS, GENDERS))
    answers = [*ages, ("Digit0", ("age_band", "cannot_tell"))]
    others = [genders[i % len(genders)] if i else ("Digit0", ("age_band", "cannot_tell")) for i in range(len(answers))]
    expected, keys = [], []
    for age, other in zip(answers, others, strict=True):
        if age[0] == "Digit0" or other[0] == "Digit0":
            other = ("Digit0", ("gender", "cannot_tell"))
        keys += [age[0], other[0]]
        expected += [age[1], other[1]]
    keys += [key for _, key in FLAGS.values() if key]
    expected += [(f"flag_{name}", "yes") for name, (_, key) in FLAGS.items() if key]
    loop.press(*keys)
    events = loop.saved()
    assert [(e["field"], e["value"]) for e in events] == expected
    assert [e["image_id"] for e in events] == [image for _, image in loop.pressed]


@pytest.mark.parametrize("key", ["Escape", "KeyH"])
def test_nothing_is_labelled_while_the_face_is_covered(loop: Loop, app: str, key: str) -> None:
    loop.queue, loop.file = f"cover{key}", loop.file.with_name(f"cover{key}.sqlite")
    loop.open(app)
    loop.press("KeyA", key)
    for code in [*[code for code, _ in LABEL_KEYS], *[k for _, k in FLAGS.values() if k], *[c for act, codes in ACTS.items() if act != "help" for c in codes]]:
        loop.page.keyboard.press(code)
        loop.page.keyboard.press(f"Alt+{code.removeprefix('Shift+')}")
    assert loop.data("made") == "1" and loop.data("undo") == "1"
    before = loop.page.evaluate("+grid().dataset.shown")
    loop.press(key)
    assert loop.image == "face-0001"
    assert key == "KeyH" or loop.page.evaluate("+grid().dataset.shown") > before, "the time on the face starts again after a pause"


def test_practice(loop: Loop, app: str) -> None:
    loop.open(app, "practice")
    verdict, score = loop.page.get_by_test_id("verdict"), loop.page.get_by_test_id("practice")
    loop.press("Digit1")  # face 0 is angry
    expect(verdict).to_contain_text("Right: angry")
    expect(loop.page.get_by_test_id("answer-expression-angry")).to_have_class("expected")
    assert loop.image == "face-0000"
    loop.until("grid().dataset.imageId === 'face-0001'")  # by itself
    loop.until("ready()")
    loop.page.evaluate("for (const code of ['KeyL', 'KeyA']) grid().dispatchEvent(new KeyboardEvent('keydown', {code, bubbles: true}))")
    assert loop.page.evaluate("grid().classList.contains('shake')") and loop.image == "face-0001", "the second was meant for the first verdict"
    expect(verdict).to_contain_text("Others see: disgust, surprise")
    expect(loop.page.get_by_test_id("answer-expression-surprise")).to_have_class("expected")
    expect(score).to_have_text("1 of 2 as expected")
    expect(loop.page.get_by_test_id("live")).to_have_text("Others see: disgust, surprise")
    loop.press("KeyZ", "Shift+KeyZ", "ArrowLeft")
    assert loop.image == "face-0002", "the first of them goes on, the others do nothing in practice"
    loop.press("KeyN", "Enter", "Space", "KeyA", "KeyK")
    assert loop.image == "face-0004"
    expect(loop.page.get_by_test_id("undo")).to_have_attribute("aria-disabled", "true")
    expect(score).to_have_text("1 of 5 as expected")
    loop.until("ready()")
    loop.page.get_by_test_id("next").click()
    assert loop.image == "face-0005"
    loop.press("KeyK")
    expect(verdict).to_contain_text("Right: surprise")
    assert [(short(e)[2], e["image_id"][-1]) for e in loop.saved()] == [
        ("angry", "0"), ("neutral", "1"), ("yes", "2"), (None, "3"), ("surprise", "4"), ("surprise", "5")]
    assert loop.rows("SELECT count(*) FROM run WHERE past IS NOT NULL") == [(0,)]


def rebind(loop: Loop, act: str, key: str) -> None:
    loop.page.locator(f'[data-rebind="{act}"]').click()
    loop.page.keyboard.press(key)


def test_keys_can_be_changed(loop: Loop, app: str) -> None:
    loop.open(app)
    said = loop.page.get_by_test_id("keys-problem")
    loop.press("KeyH")
    loop.page.get_by_test_id("keys-edit").click()
    expect(loop.page.locator('[data-rebind="answer expression=angry"]')).to_be_focused()
    for key, sentence in [("KeyJ", 'J is already "Happy". Choose another key, or change that one first.'),
                          ("Shift+KeyB", 'Shift+B is already "Too dark". Choose another key, or change that one first.'),
                          ("Shift+KeyZ", 'Shift+Z is already "Redo". Choose another key, or change that one first.'),
                          ("Enter", "Enter cannot be changed. Choose another key.")]:
        loop.page.keyboard.press("Enter")  # on the row that has the focus
        expect(said).to_have_text("Press the new key, or Esc to keep the old one.")
        loop.page.keyboard.press(key)
        expect(said).to_have_text(sentence)
    loop.page.keyboard.press("KeyJ")
    loop.page.keyboard.press("KeyH")  # no row waits for a key: neither labels nor closes
    new = {f"answer expression={c.class_id}": code for c, code in zip(FER8.classes, ["KeyQ", "KeyW", "KeyE", "KeyR", "KeyT", "KeyY", "KeyU", "Slash"], strict=True)}
    new |= {"flag flag_non_face": "KeyA", "flag flag_dark": "KeyS", "flag flag_occluded": "KeyD", "cannot_tell": "Digit9", "skip": "KeyV", "undo": "F2",
            "redo": "Shift+KeyQ", "back": "PageUp", "forward": "PageDown", "comment": "KeyM", "zoom": "KeyG", "bright": "KeyX"}
    rebind(loop, "bright", "KeyI")
    for act, key in new.items():
        rebind(loop, act, key)
    expect(said).to_have_text("Choose a row, then press its new key.")
    loop.page.get_by_test_id("keys-done").click()
    loop.page.get_by_test_id("keys-close").click()
    expect(loop.page.get_by_test_id("answer-expression-angry").locator("kbd")).to_have_text("Q")
    answers = [(code, act.partition("=")[2]) for act, code in new.items() if act.startswith("answer")]
    for again in (False, True):
        if again:  # and so they are after a reload
            loop.saved()
            loop.until("grid().dataset.made === grid().dataset.saved")
            assert json.loads(loop.rows("SELECT body FROM keys ORDER BY rowid DESC LIMIT 1")[0][0]) == {act: [key] for act, key in new.items()}
            loop.open(app)
        first = int(loop.image[-4:])
        loop.press(*[code for code, _ in answers], "KeyA", "KeyS", "KeyD", "Digit9", "KeyV", "F2", "Shift+KeyQ", "KeyZ", "KeyJ", "Digit1", "Space")
        assert loop.image == f"face-{first + 13:04d}"
        loop.press("PageUp", "PageDown", "Alt+KeyW", "Shift+KeyS")
        assert loop.image == f"face-{first + 13:04d}"
        loop.page.keyboard.down("KeyX")
        assert loop.data("bright") == "true"
        loop.page.keyboard.up("KeyX")
        assert loop.data("bright") == "false"
        loop.page.keyboard.down("KeyG")
        assert loop.page.evaluate("grid().classList.contains('zoomed')")
        loop.page.keyboard.up("KeyG")
        assert not loop.page.evaluate("grid().classList.contains('zoomed')")
        loop.press("KeyM")
        expect(loop.page.get_by_test_id("comment-text")).to_be_focused()
        loop.press("Escape")
        events = loop.saved()[19 * again:]
        assert [e["value"] for e in events] == [*[v for _, v in answers], "yes", "yes", "yes", "cannot_tell", None, None, None, "disgust", "yes"]
        assert [e["op"] for e in events[12:15]] == ["skip", "undo", "redo"] and events[-2]["field"] == "expression_2"
        loop.press("Shift+KeyS", "KeyQ")
    loop.press("Shift+Slash")  # "?" is always there
    loop.page.get_by_test_id("keys-edit").click()
    loop.page.get_by_test_id("keys-reset").click()
    loop.page.get_by_test_id("keys-close").click()  # cancelled
    expect(loop.page.get_by_test_id("answer-expression-angry").locator("kbd")).to_have_text("Q")
    loop.page.get_by_test_id("keys-edit").click()
    loop.page.get_by_test_id("keys-reset").click()
    loop.page.get_by_test_id("keys-done").click()
    loop.page.keyboard.press("Escape")
    expect(loop.page.get_by_test_id("answer-expression-angry").locator("kbd")).to_have_text(["A", "1"])
    loop.press("KeyA")
    loop.saved()
    assert loop.rows("SELECT body FROM keys ORDER BY rowid DESC LIMIT 1") == [("{}",)]


def test_server_may_refuse_keys(loop: Loop, app: str) -> None:
    loop.open(app, refuse="keys")
    loop.press("KeyH")
    loop.page.get_by_test_id("keys-edit").click()
    rebind(loop, "skip", "KeyM")
    loop.page.get_by_test_id("keys-done").click()
    loop.page.get_by_test_id("keys-close").click()
    expect(loop.page.get_by_test_id("problem")).to_have_text("Keys not kept: not on a Sunday")
    expect(loop.page.get_by_test_id("skip").locator("kbd")).to_have_text("Space")
    runs = loop.rows("SELECT max(number) FROM run")
    loop.press("KeyM", "KeyA")
    loop.saved()
    assert loop.rows("SELECT max(number) FROM run")[0][0] <= runs[0][0] + 2, "it does not ask again"


@pytest.mark.timeout(120)
def test_journal_outlives_a_dead_server_and_a_reload(loop: Loop, serve: Callable[..., Server], store: Path) -> None:
    server = serve(APP, env={"COMPONENT_STORE": str(store)})
    loop.open(server.url)
    loop.press("KeyA")
    loop.saved()
    server.process.kill()
    server.process.wait(timeout=10)
    loop.press("KeyS", "KeyD", "KeyZ", "KeyC")
    loop.page.keyboard.type("late")
    loop.page.keyboard.press("Enter")
    images = loop.pressed
    loop.page.goto("about:blank")
    assert len(loop.events()) == 1
    server = serve(APP, env={"COMPONENT_STORE": str(store)}, port=server.port)
    loop.open(server.url)
    assert loop.image == "face-0002", "what was answered before is known before faces are handed out"
    events = loop.saved()
    assert [(e["op"], e["value"]) for e in events] == [("set", "angry"), ("set", "sad"), ("set", "disgust"), ("undo", None), ("comment", "late")]
    assert [e["image_id"] for e in events[:3]] == [image for _, image in images[:3]]
    loop.press("KeyZ", "KeyZ", "KeyZ")
    assert loop.image == "face-0000"
    assert [e["target"] for e in loop.saved()[5:]] == [events[4]["event_id"], events[1]["event_id"], events[0]["event_id"]]
    assert loop.page.evaluate(JOURNAL) == []


def test_older_journals_are_absorbed(loop: Loop, app: str) -> None:
    loop.open(app)
    entry = {"event": {"event_id": "01890000-0000-7000-8000-000000000001", "op": "set", "image_id": "face-0000", "field": "expression", "value": "sad",
                       "target": None, "gesture": "01890000-0000-7000-8000-000000000002", "lead_ms": 300, "shown_at": 1, "decided_at": 2, "mode": "single"},
             "passed": True}
    mine, other = (f"test-{loop.queue}-{name}/{entry['event']['event_id']}" for name in ("kim-expression-any-dark", "kim-lee-expression-any-any"))
    loop.page.evaluate("([names, body]) => names.forEach(n => localStorage.setItem(n, body))", [[mine, other], json.dumps(entry)])
    loop.open(app)
    assert loop.image == "face-0001"
    assert loop.saved() == [entry["event"]]
    assert loop.page.evaluate("Object.keys(localStorage).filter(n => n.startsWith('test-'))") == [other], "another person's are not touched"
    loop.press("KeyZ")
    assert loop.image == "face-0000"
    expect(loop.page.get_by_test_id("answer-expression-sad")).to_have_class("undone")


def test_two_tabs_of_one_person(loop: Loop, app: str, store: Path) -> None:
    loop.open(app, delay=1)
    other = Loop(loop.page.context.new_page(), store, loop.queue)
    loop.press("KeyA", "KeyS")  # not yet acknowledged when the other tab opens
    other.open(app)
    other.press("KeyJ", "KeyK", "KeyZ")
    loop.page.bring_to_front()
    loop.press("KeyD", "KeyZ", "KeyZ")
    loop.saved()
    other.saved()
    events = loop.saved()
    assert len(events) == 8 and len({e["event_id"] for e in events}) == 8
    by = {e["event_id"]: e["value"] for e in events}
    assert [by[e["target"]] for e in events if e["op"] == "undo"] == ["surprise", "disgust", "sad"], "each tab undoes its own"
    assert loop.page.evaluate(JOURNAL) == []


def test_undo_reaches_over_reloads_and_pages(loop: Loop, app: str) -> None:
    keys = [code for code, _ in LABEL_KEYS[:10]]
    loop.open(app)
    loop.press(*keys[:6], "Shift+KeyB", "Space", "KeyN")
    loop.saved()
    loop.open(app, past=3)
    loop.press(*keys[:2])
    before = loop.saved()
    loop.press(*["KeyZ"] * 5)
    loop.saved()
    loop.open(app, past=3)  # five are undone, six can be
    loop.until("grid().dataset.redo === '5' && +grid().dataset.undo === 6")
    loop.press("Shift+KeyZ", "Shift+KeyZ")
    loop.press(*["KeyZ"] * 9)
    assert loop.image == "face-0000" and loop.data("undo") == "0"
    expect(loop.page.get_by_test_id("last")).to_have_text("Undone: Angry")
    expect(loop.page.get_by_test_id("answer-expression-angry")).to_have_class("undone")
    values = loop.page.evaluate("[...grid().querySelector('canvas').getContext('2d').getImageData(24, 12, 1, 1).data]")
    assert values[0] == pytest.approx(np.random.default_rng(0).uniform(110, 210), abs=25), "the face itself comes with its answer"
    events = loop.saved()[len(before):]
    targets = [e["event_id"] for e in before]
    assert [(e["op"], targets.index(e["target"])) for e in events] == [
        *[("undo", i) for i in (10, 9, 8, 7, 6)], ("redo", 6), ("redo", 7), *[("undo", i) for i in (7, 6, 5, 4, 3, 2, 1, 0)]]
    assert {e["field"] for e in events} == {"expression", "flag_dark", "flag_non_face"}
    loop.press("KeyZ")
    assert loop.page.evaluate("grid().classList.contains('shake')")
    loop.press("KeyJ", "Shift+KeyZ")
    answer = loop.saved()[-1]
    assert (answer["image_id"], answer["value"], answer["op"]) == ("face-0000", "happy", "set"), "a new answer ends what can be redone"
    asked = loop.rows("SELECT DISTINCT past FROM run WHERE past IS NOT NULL AND client = (SELECT client FROM run ORDER BY client DESC LIMIT 1)")
    assert asked == [(1,), (2,)]


def test_undo_waits_for_earlier_answers(loop: Loop, app: str) -> None:
    loop.open(app)
    loop.press("KeyA", "KeyS", "KeyD", "KeyF", "KeyJ")
    loop.saved()
    loop.open(app, past=1, delay=0.7)
    where = loop.page.get_by_test_id("where")
    loop.page.keyboard.press("KeyZ")
    loop.page.keyboard.press("KeyZ")
    loop.page.keyboard.press("KeyZ")
    loop.page.keyboard.press("Shift+KeyZ")
    expect(where).to_have_text("Loading earlier answers. Press Esc to go on without them.")
    loop.until("ready()")
    loop.page.keyboard.press("KeyK")
    assert loop.page.evaluate("grid().classList.contains('shake')") and loop.events()[-1]["value"] == "happy", "it was meant for a face not yet here"
    loop.until("grid().dataset.undo === '3' && grid().dataset.redo === '2'")
    expect(where).to_be_hidden()
    assert loop.image == "face-0003"
    loop.until("grid().dataset.past === '5'")
    events = loop.saved()
    targets = [e["event_id"] for e in events]
    assert [(e["op"], targets.index(e["target"])) for e in events[5:]] == [("undo", 4), ("undo", 3), ("undo", 2), ("redo", 2)]
    loop.open(app, past=1, delay=0.7)
    loop.page.keyboard.press("KeyZ")
    loop.page.keyboard.press("KeyZ")
    loop.page.keyboard.press("Escape")
    loop.press("KeyL")
    assert loop.saved()[-1]["value"] == "neutral" and loop.data("paused") == "false", "who does not want to wait need not"


def test_pages_that_moved_bring_nothing_twice(loop: Loop, app: str) -> None:
    loop.open(app)
    loop.press("KeyA", "KeyS", "KeyD")
    loop.saved()
    loop.open(app, past=1, delay=0.5, moving=1)
    loop.press("KeyJ", "KeyK")  # on the stack of the server when it cuts the next pages
    loop.until("+grid().dataset.undo >= 5")
    loop.saved()
    loop.until("+grid().dataset.past >= 4")
    loop.press(*["KeyZ"] * 5)
    events = loop.saved()
    assert [e["target"] for e in events[5:]] == [e["event_id"] for e in events[4::-1]]
    assert loop.data("undo") == "0"


def test_lost_faces_leave_the_queue(loop: Loop, app: str) -> None:
    loop.open(app, faces=12, batch=6)
    loop.press("KeyA", "KeyS", "Shift+KeyB")
    loop.saved()
    for image in (0, 2, 3, 5):  # answered, on screen with a flag only, waiting, last
        loop.run_sql("INSERT INTO lost VALUES (?)", f"face-{image:04d}")
    loop.press("Shift+KeyO")
    loop.until("grid().dataset.imageId === 'face-0004'")
    loop.press("ArrowLeft")
    assert loop.image == "face-0001"
    loop.press("ArrowLeft")
    assert loop.image == "face-0000", "what is answered can be looked back at"
    loop.press("ArrowRight", "ArrowRight", "KeyF", *["KeyJ"] * 5)
    assert [e["image_id"][-2:] for e in loop.saved() if e["field"] == "expression"] == ["00", "01", "04", "06", "07", "08", "09", "10"]


def test_break_is_suggested_and_leases_are_kept_alive(loop: Loop, app: str) -> None:
    loop.page.clock.install()
    loop.open(app)
    loop.press("KeyA")
    loop.saved()
    line = loop.page.get_by_test_id("rest")

    def later(seconds: int) -> int:
        """Reports so far, once those that are due after `seconds` are in the store."""
        loop.page.clock.fast_forward(seconds * 1000)
        loop.page.clock.run_for(1500)
        loop.page.wait_for_timeout(400)
        return int(loop.rows("SELECT max(number) FROM run")[0][0])

    before = later(0)
    assert later(62) == before + 1, "it says that it is still there"
    for _ in range(26):
        expect(line).to_be_hidden()
        loop.press("ArrowLeft", gap=0)
        loop.page.clock.fast_forward(58_000)
        loop.page.clock.run_for(1200)
    expect(line).to_contain_text("25 minutes without a break")
    line.get_by_role("button", name="Pause").click()
    expect(line).to_be_hidden()
    assert loop.data("paused") == "true"
    reports = later(62)
    assert reports > before
    later(300)
    silent = later(62)
    assert later(62) == silent == later(62), "a long pause gives the faces back"
    loop.press("Escape")
    expect(line).to_be_hidden()
    assert later(62) > silent


def test_touch_reaches_everything(chromium: Browser, app: str, store: Path) -> None:
    context = chromium.new_context(viewport={"width": 1024, "height": 768}, has_touch=True, is_mobile=True)
    context.add_init_script(INIT_SCRIPT)
    loop = Loop(context.new_page(), store, "touch")
    loop.open(app)
    for name in ("second", "answer-expression-sad", "answer-expression-happy", "flag-flag_dark", "skip", "back", "forward", "undo", "redo", "comment"):
        button = loop.page.get_by_test_id(name)
        box = button.bounding_box()
        assert box and box["height"] >= 40, name
        loop.until("ready()")
        button.tap()
    loop.page.get_by_test_id("comment-text").fill("by hand")
    loop.page.get_by_test_id("comment-save").tap()
    loop.page.get_by_test_id("help").tap()
    small = loop.page.evaluate("[...grid().querySelectorAll('button')].filter(b => b.offsetParent && b.getBoundingClientRect().height < 40).length")
    assert small == 0
    assert [short(e) for e in loop.saved()] == [
        ("set", "expression_2", "sad"), ("set", "expression", "happy"), ("set", "flag_dark", "yes"), ("skip", "expression", None),
        ("undo", "expression", None), ("redo", "expression", None), ("comment", None, "by hand")]
    context.close()


def test_last_act_is_read_aloud(loop: Loop, app: str) -> None:
    loop.open(app)
    live = loop.page.get_by_test_id("live")
    expect(live).to_have_attribute("aria-live", "polite")
    said = []
    for key in ("KeyA", "KeyA", "Shift+KeyB", "Space", "KeyZ"):
        loop.press(key)
        said.append(str(live.text_content()))
    assert [s.strip() for s in said] == ["Last: Angry", "Last: Angry", "Last: Too dark", "Last: skipped", "Undone: skipped"]
    assert said[0] != said[1], "two equal acts in a row are two changes"


def wall(page: Page, app: str, query: str = "") -> None:
    page.goto(f"{app}/?page=wall&faces=60{query}")
    page.wait_for_function("deep('[data-testid=\"face-grid\"]')?.children.length === 60")


def test_wall_opens_the_right_face_once(page: Page, app: str) -> None:
    wall(page, app)
    tile = page.get_by_test_id("tile")
    tile.nth(17).click()
    expect(page.get_by_text("opened: s17", exact=True)).to_be_visible()
    page.get_by_role("button", name="Run again").click()
    tile.nth(0).focus()
    columns = page.evaluate("(t => t.filter(x => x.offsetTop === t[0].offsetTop).length)([...deep('[data-testid=\"face-grid\"]').children])")
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "ArrowLeft", "r", "c", "Enter"):
        page.keyboard.press(key)
    expect(page.get_by_text(f"opened: s17 s{columns + 1}", exact=True)).to_be_visible()
    assert page.get_by_role("dialog").count() == 0
    assert page.evaluate("deep('[data-testid=\"face-grid\"]').querySelectorAll('[tabindex=\"0\"]').length") == 1
    assert page.evaluate("deep('[data-testid=\"face-grid\"]').querySelector('[tabindex=\"0\"]').dataset.sampleId") == f"s{columns + 1}"


def test_wall_keeps_text_text(page: Page, app: str) -> None:
    page.on("dialog", lambda dialog: pytest.fail(f"script ran: {dialog.message}"))
    wall(page, app, "&hostile=1")
    expect(page.get_by_test_id("tile").first).to_contain_text("<img src=x onerror=alert(1)>")
    assert page.evaluate("deep('[data-testid=\"face-grid\"]').querySelectorAll('img').length") == 0
    expect(page.get_by_test_id("tile").nth(1)).to_be_visible()
    box = page.locator(".face").nth(20).bounding_box()
    assert box and box["width"] == box["height"] == 96


QUESTIONS = [Question("expression", "Expression", (Choice("angry", "Angry", "#D55E00", ("KeyA", "Digit1")), Choice("happy", "Happy", "#E69F00", ("KeyJ",))))]
DARK = [Flag("flag_dark", "Too dark", "KeyB")]
PLAIN = some.none() | some.booleans() | some.integers() | some.text(max_size=5)
JSON = some.recursive(PLAIN, lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=5), inner, max_size=3), max_leaves=8)


CLIENT = "01a1fcd7-9531-77b2-96ea-ad4b3f8c7933"


def test_reports_of_another_journal_are_not_read() -> None:
    said = {"report": {"journal": "ws-ann", "client": CLIENT, "number": 3, "want": None, "past": 2, "keys": {"skip": ["KeyM"]},
                       "events": [{"event_id": "e"}, {"no": "id"}, 7]}}
    assert read_report(said, "ws-ann") == Report(CLIENT, 3, None, 2, {"skip": ["KeyM"]}, ({"event_id": "e"},))
    assert read_report(said, "ws-bob") == read_report(None, "ws-bob") == Report()


@given(some.dictionaries(some.sampled_from(["client", "number", "want", "past", "keys", "events", "other"]), JSON))
def test_any_report_is_read_as_one(said: dict[str, Any]) -> None:
    report = read_report({"report": said | {"journal": "j"}}, "j")
    assert all(n is None or type(n) is int for n in (report.number, report.want, report.past))
    assert report.keys is None or isinstance(report.keys, dict)
    assert all(isinstance(e["event_id"], str) for e in report.events) and len(report.client) <= 64


def test_batches_and_pages_go_only_where_they_are_asked_for() -> None:
    face = Face("i", bytes(2304), {"expression": "angry"})
    sent = packed_batch(Batch(2, (face,), "l"), 2)
    assert sent and sent["lease"] == "l" and sent["faces"][0] == {"image_id": "i", "answers": {"expression": "angry"}, "expected": []}
    assert packed_batch(Batch(2, (face,)), 1) is packed_batch(Batch(2, (face,)), None) is packed_batch(None, 1) is None
    past = Past(1, (Gesture("i", ({"event_id": "e"},), {}, {"expression": "angry"}, False, True),), (), (face,), True)
    page = packed_past(past, 1)
    assert page and page["gestures"][0]["after"] == {"expression": "angry"} and page["more"] is True
    assert packed_past(past, 2) is packed_past(past, None) is packed_past(None, 1) is None


def test_keys_of_a_person() -> None:
    changed = {"answer expression=happy": ["KeyM"], "skip": ["KeyJ"], "answer age_band=child": ["KeyA"]}
    assert check_keys(QUESTIONS, DARK, changed) is changed
    keys = effective_keys(QUESTIONS, DARK, changed)
    assert keys["answer expression=happy"] == ("KeyM",) and keys["skip"] == ("KeyJ",) and "answer age_band=child" not in keys
    assert keys["answer expression=angry"] == ("KeyA", "Digit1") and keys["undo"] == ACTS["undo"]
    assert effective_keys(QUESTIONS, DARK, {"skip": ["KeyA"], "undo": ["KeyU"]})["skip"] == ("Space",), "made where A is free: not here"
    assert effective_keys(QUESTIONS, DARK, {"skip": ["KeyA"], "undo": ["KeyU"]})["undo"] == ("KeyU",)
    assert check_keys(QUESTIONS, DARK, {"redo": ["Shift+KeyA"]}), "answers do not use Shift"


@pytest.mark.parametrize(("keys", "said"), [
    ({"answer expression=happy": ["KeyA"]}, "answer expression=angry and answer expression=happy"),
    ({"skip": ["KeyZ"]}, "skip and undo"), ({"skip": ["Shift+KeyB"]}, "flag flag_dark and skip"), ({"flag flag_dark": ["Shift+KeyZ"]}, "redo"),
    *[({"skip": [code]}, "no key map") for code in ("Escape", "Tab", "Enter", "ShiftLeft", "Shift+Enter", "", "Key A", "<b>", 7)],
    ({"skip": []}, "no key map"), ({"skip": "KeyM"}, "no key map"), ({"fly": ["KeyM"]}, "no key map"), ({"answer a b=c": ["KeyM"]}, "no key map"),
    ([], "no key map"), (None, "no key map"), ({7: ["KeyM"]}, "no key map")])
def test_keys_that_are_refused(keys: Any, said: str) -> None:
    with pytest.raises(BadInput) as refused:
        check_keys(QUESTIONS, DARK, keys)
    assert said in refused.value.detail


ACT_NAMES = [*default_keys(QUESTIONS, DARK), "answer age_band=child"]
CODES = ["KeyA", "KeyB", "KeyJ", "KeyM", "Shift+KeyB", "Shift+KeyM", "KeyZ", "Shift+KeyZ", "Space", "Digit1"]


@given(some.dictionaries(some.sampled_from(ACT_NAMES), some.lists(some.sampled_from(CODES), min_size=1, max_size=3)))
def test_keys_in_force_never_clash(keys: dict[str, list[str]]) -> None:
    held = effective_keys(QUESTIONS, DARK, keys)
    assert held.keys() == default_keys(QUESTIONS, DARK).keys()
    meanings = [(c, act) for act, codes in held.items() for code in set(codes) for c in {code, *([f"Shift+{code}"] if act == "flag flag_dark" else [])}]
    assert len({c for c, _ in meanings}) == len(meanings)
    try:
        check_keys(QUESTIONS, DARK, keys)
    except BadInput:
        return
    assert all(held[act] == tuple(codes) for act, codes in keys.items() if act in held), "what may be saved holds"


@given(JSON)
def test_any_key_map_is_kept_or_refused(keys: Any) -> None:
    if keys == {}:
        assert check_keys(QUESTIONS, DARK, keys) == {}
    else:
        with pytest.raises(BadInput):
            check_keys(QUESTIONS, DARK, keys)


def test_misuse_is_refused() -> None:
    def mount(flag_key: str) -> None:
        label_grid(key="k", journal="j", page="p", report=Report(), questions=QUESTIONS, flags=[Flag("flag_dark", "Too dark", flag_key)],
                   batch=None, past=None, total=0, done=0, acked=[], refused={})

    for key in ("KeyA", "KeyZ"):
        with pytest.raises(BadInput, match=key):
            mount(key)
    with pytest.raises(BadInput, match="2304 bytes"):
        face_grid([Tile("s", b"", "Angry", "#D55E00")], key="k")
    with pytest.raises(BadInput, match="2304 bytes"):
        packed_batch(Batch(1, (Face("i", b""),)), 1)
