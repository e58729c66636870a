"""The labeling component and the wall of faces in Chromium, against a small app with a SQLite file for a store."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_harness import ROOT, DelayProxy, Server
from playwright.sync_api import Page, expect

from dashboard.components.face_grid import Tile, face_grid
from dashboard.components.label_grid import Choice, Face, Flag, LabelReport, Question, Served, _report, label_grid
from fercore.errors import BadInput
from fercore.schemes import FER8, FLAGS

APP = ROOT / "tests/browser/component_app.py"
LABEL_KEYS = [(code, c.class_id) for c in FER8.classes for code in c.keys]


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
    answers += [(key, ("set", f"flag_{flag}", "yes")) for flag, (_, key) in FLAGS.items()]
    answers += [("Digit0", ("set", "expression", "cannot_tell")), ("Space", ("skip", "expression", None))]
    loop.press(*[code for code, _ in answers])
    events = loop.saved()
    assert [short(e) for e in events] == [act for _, act in answers]
    assert [e["image_id"] for e in events] == [image for _, image in loop.pressed] == [f"face-{i:04d}" for i in range(len(answers))]
    assert {e["mode"] for e in events} == {"single"} and {e["target"] for e in events} == {None}
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
    assert loop.page.evaluate("Object.keys(localStorage).filter(k => k.startsWith('test:')).length") == 0


def test_reload_loses_nothing_and_repeats_nothing(loop: Loop, app: str) -> None:
    loop.open(app, delay=0)
    before = loop.rows("SELECT count(*) FROM event")[0][0]
    loop.open(app, delay=4)
    loop.press("KeyA", "KeyS", "KeyD", "Space", "KeyF", "KeyZ")
    assert before == 0 and loop.events() == [], "the server is still busy"
    pressed = loop.pressed
    loop.open(app, delay=0)
    assert loop.image == "face-0004", "answered faces are not asked again; the undone one is"
    loop.press("KeyJ")
    events = loop.saved()
    assert [e["image_id"] for e in events[:5]] == [image for _, image in pressed[:5]]
    assert [(e["op"], e["target"]) for e in events[5:]] == [("undo", events[4]["event_id"]), ("set", None)]
    assert [e["image_id"] for e in events].count("face-0004") == 3
    loop.open(app, delay=0)
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
    loop.press(key, "KeyS", key, gap=200)
    loop.saved()
    loop.page.mouse.click(900, 705)  # the background of the page
    loop.press(key, "KeyD", gap=200)
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
    expect(loop.page.get_by_test_id("saved")).to_have_text("Saved 2 of 3, 1 refused")
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
    expect(loop.page.get_by_test_id("saved")).to_have_text("Saved 3 of 3")
    expect(loop.page.get_by_test_id("remaining")).to_have_text("0 remaining")
    before = loop.runs()
    loop.page.get_by_test_id("again").click()
    expect(loop.page.get_by_test_id("veil")).to_have_text("No faces are waiting for you here")
    loop.page.wait_for_function("before => +grid().dataset.batch > before", arg=3)
    assert loop.runs() > before
    loop.press("KeyZ")
    assert loop.image == "face-0002"


@pytest.mark.parametrize("name", ["label", "tag"])
def test_fits_without_scrolling(loop: Loop, app: str, name: str) -> None:
    loop.open(app, name)
    assert loop.page.evaluate("grid().getBoundingClientRect().height") <= 560
    assert loop.page.evaluate("(m => m.scrollHeight <= m.clientHeight)(document.querySelector('[data-testid=stMain]'))")


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


def test_a_batch_is_answered_until_the_browser_has_it() -> None:
    served, calls = Served(), list[int]()

    def fetch() -> list[Face]:
        calls.append(1)
        return [Face(f"i{len(calls)}", bytes(2304))]

    assert served.answer(LabelReport(), fetch) is None, "nobody has asked yet"
    first = served.answer(LabelReport("x", 1, 1), fetch)
    assert first and served.answer(LabelReport("x", 2, 1), fetch) is first, "the batch was lost on its way"
    assert served.answer(LabelReport("x", 3, None), fetch) is None
    second = served.answer(LabelReport("x", 4, 2), fetch)
    assert second and second.number == 2
    assert served.answer(LabelReport(), fetch) is None, "a run without a report asks for nothing"
    assert served.answer(LabelReport("x", 5, 2), fetch) is second
    again = served.answer(LabelReport("y", 1, 1), fetch)
    assert again and again.number == 1 and again is not first, "another client starts afresh"
    assert len(calls) == 3


def test_reports_of_another_journal_are_not_read() -> None:
    said = {"report": {"journal": "ws/ann/q", "client": "x", "number": 3, "want": None, "events": [{"event_id": "e"}, {"no": "id"}, 7]}}
    assert _report(said, "ws/ann/q") == LabelReport("x", 3, None, ({"event_id": "e"},))
    assert _report(said, "ws/bob/q") == _report(None, "ws/bob/q") == LabelReport()


def test_misuse_is_refused() -> None:
    question = Question("expression", "Expression", (Choice("angry", "Angry", "#D55E00", ("KeyA",)),))

    def mount(flag_key: str) -> None:
        label_grid(key="k", journal="j", report=LabelReport(), questions=[question], flags=[Flag("flag_dark", "Too dark", flag_key)],
                   batch=None, total=0, done=0, acked=[], refused={})

    for key in ("KeyA", "KeyZ"):
        with pytest.raises(BadInput, match=key):
            mount(key)
    with pytest.raises(BadInput, match="2304 bytes"):
        face_grid([Tile("s", b"", "Angry", "#D55E00")], key="k")
