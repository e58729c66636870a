"""The verify grid in Chromium, against a small app with a SQLite file for a store."""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser_harness import INIT_SCRIPT, ROOT, DelayProxy, Server
from playwright.sync_api import Page, expect

from dashboard.components.loop import Choice, Question, Report
from dashboard.components.verify_grid import verify_grid
from fercore.errors import BadInput
from fercore.schemes import AGE_BANDS, FER8

APP = ROOT / "tests/browser/component_verify_app.py"
FIND = "window.vg = () => deep('[data-testid=\"verify-grid\"]')"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def app(serve: Callable[..., Server], store: Path) -> str:
    # Developer mode: there `c` opens the clear-cache dialog, so the hotkey test can fail.
    return serve(APP, "--client.toolbarMode", "developer", env={"COMPONENT_STORE": str(store)}).url


class Grid:
    """One tab on one queue of the verify grid."""

    def __init__(self, page: Page, store: Path, queue: str) -> None:
        self.page, self.file, self.queue = page, store / f"{queue}.sqlite", queue

    def open(self, url: str, mode: str = "claim", **query: object) -> "Grid":
        self.page.goto(f"{url}/?mode={mode}&queue={self.queue}" + "".join(f"&{k}={v}" for k, v in query.items()))
        self.until("vg()?.querySelector('[role=gridcell]')")
        return self

    def until(self, condition: str, timeout: float = 20_000) -> None:
        self.page.wait_for_function(condition, timeout=timeout)

    def press(self, *keys: str) -> None:
        """Presses keys; a commit waits until the page takes one (it refuses it for 400 ms)."""
        for key in keys:
            if key == "Enter":
                self.until("performance.now() - vg().dataset.shown > 405")
            self.page.keyboard.press(key)

    def saved(self, made: int) -> list[dict[str, Any]]:
        """All events in the store, in the order they were made, once the browser says that all `made` of this tab are saved."""
        self.until(f"+vg().dataset.made === {made} && +vg().dataset.saved === {made}", 30_000)
        return self.events()

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for (body,) in self.rows("SELECT body FROM event ORDER BY event_id")]

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        db = sqlite3.connect(self.file, timeout=30)
        rows = db.execute(sql).fetchall()
        db.close()
        return rows

    def data(self, name: str) -> str:
        return str(self.page.evaluate(f"vg().dataset.{name}"))

    @property
    def images(self) -> list[str]:
        return list(self.page.evaluate("[...vg().querySelectorAll('[role=gridcell]')].map(c => c.dataset.imageId)"))

    @property
    def marks(self) -> dict[int, str]:
        """Cell -> what it is marked as, from what a screen reader is told."""
        names = self.page.evaluate("[...vg().querySelectorAll('[role=gridcell]')].map(c => c.getAttribute('aria-label'))")
        plain = ("happy", "no answer", "yes")
        said = {i: name.removeprefix(f"face {i + 1}, ") for i, name in enumerate(names)}
        return {i: what.removeprefix("exception: ") for i, what in said.items() if what not in plain}

    @property
    def selected(self) -> list[int]:
        return list(self.page.evaluate("[...vg().querySelectorAll('[aria-selected=true]')].map(c => +c.dataset.i)"))

    @property
    def at(self) -> int:
        """The focused cell."""
        return int(self.page.evaluate("+vg().getRootNode().activeElement.dataset.i"))

    def cell(self, i: int) -> Any:
        return self.page.get_by_role("gridcell").nth(i)

    def last(self, text: str) -> None:
        expect(self.page.get_by_test_id("last")).to_have_text(text)


@pytest.fixture
def grid(page: Page, store: Path, request: pytest.FixtureRequest) -> Grid:
    page.add_init_script(FIND)
    return Grid(page, store, request.node.name.removeprefix("test_"))


def faces(*numbers: int) -> list[str]:
    return [f"face-{i:04d}" for i in numbers]


def test_a_commit_is_one_gesture_of_sixty_events(grid: Grid, app: str) -> None:
    grid.open(app)
    expect(grid.page.get_by_test_id("claim")).to_have_text("All of these are happy")
    assert grid.images == faces(*range(60))
    grid.press("Space", "ArrowRight", "KeyS", "ArrowDown", "Digit1", "ArrowLeft", "KeyA", "KeyJ", "ArrowUp", "ArrowRight", "ArrowRight", "Space", "Space")
    assert grid.marks == {0: "cannot tell", 1: "sad", 11: "angry"}, "the key of the claim, and a second Space, take a mark back"
    grid.press("Enter")
    assert grid.images == faces(*range(60, 120)) and grid.marks == {} and grid.at == 0
    grid.last("60 faces committed, 3 exceptions")
    events = grid.saved(60)
    values = {0: "cannot_tell", 1: "sad", 11: "angry"}
    assert [(e["image_id"], e["value"], e["mode"]) for e in events] == [
        (image, values.get(i, "happy"), "grid_exception" if i in values else "grid_bulk") for i, image in enumerate(faces(*range(60)))]
    assert {(e["op"], e["field"], e["target"], e["lease"]) for e in events} == {("set", "expression", None, "lease-1")}
    assert len({e["gesture"] for e in events}) == 1 and len({e["event_id"] for e in events}) == 60
    assert len({e["lead_ms"] for e in events}) == 1 and events[0]["lead_ms"] >= 400 / 60 - 1
    assert all(abs(e["decided_at"] - e["shown_at"] - 60 * e["lead_ms"]) < 100 for e in events), "lead time is time on the page over its faces"
    grid.press("Enter")
    events = grid.saved(120)[60:]
    assert [e["image_id"] for e in events] == faces(*range(60, 120))
    assert {(e["value"], e["mode"]) for e in events} == {("happy", "grid_bulk")}, "a page without exceptions is fine"
    expect(grid.page.get_by_test_id("saved")).to_have_text("Saved 120 of 120")
    expect(grid.page.get_by_test_id("remaining")).to_have_text("280 remaining")
    expect(grid.page.get_by_test_id("rate")).to_contain_text("faces a minute")


def test_every_label_key_relabels(grid: Grid, app: str) -> None:
    grid.open(app)
    keys = [(code, c.name.lower()) for c in FER8.classes if c.class_id != "happy" for code in c.keys] + [("Digit0", "cannot tell")]
    for code, _ in keys:
        grid.press(code, "ArrowRight")
    assert grid.marks == {i: name for i, (_, name) in enumerate(keys)}
    chips = grid.page.locator(".chip:visible").all_text_contents()
    assert [c.lower() for c in chips] == [name for _, name in keys], "the class is written on the face, not said by colour alone"
    for code in ("Digit4", "KeyJ"):
        grid.press("ArrowLeft", code)
    assert len(grid.marks) == len(keys) - 2


def test_moving_and_ranges(grid: Grid, app: str) -> None:
    grid.open(app)
    grid.press("ArrowLeft", "ArrowUp")
    assert grid.at == 0
    for key, at in (("ArrowDown", 10), ("ArrowRight", 11), ("End", 19), ("Home", 10), ("ArrowUp", 0), ("End", 9)):
        grid.press(key)
        assert grid.at == at, key
    grid.page.keyboard.down("ArrowDown")
    for _ in range(3):
        grid.page.keyboard.down("ArrowDown")  # repeats
    grid.page.keyboard.up("ArrowDown")
    assert grid.at == 49, "arrows repeat"
    assert grid.page.evaluate("vg().querySelectorAll('[role=gridcell][tabindex=\"0\"]').length") == 1
    grid.press("Shift+ArrowUp", "Shift+ArrowRight", "Shift+ArrowLeft")
    assert grid.selected == list(range(39, 50)) and grid.at == 39
    grid.press("KeyF")
    assert grid.marks == dict.fromkeys(range(39, 50), "fear")
    grid.press("Space")
    assert grid.marks == {}, "all of the range were exceptions"
    grid.press("Escape")
    assert grid.selected == [] and grid.data("paused") == "false"
    grid.press("Space", "ArrowLeft", "Shift+ArrowRight", "Shift+ArrowRight", "Space")
    assert grid.marks == dict.fromkeys((38, 39, 40), "cannot tell"), "some were no exceptions yet"
    grid.press("ArrowDown")
    assert grid.selected == []
    assert grid.data("made") == "0", "nothing leaves before the commit"


def test_undo_and_redo_walk_one_line(grid: Grid, app: str) -> None:
    grid.open(app)
    grid.press("KeyS", "Shift+ArrowRight", "Shift+ArrowRight", "KeyA", "Enter", "ArrowDown", "KeyF", "KeyZ")
    assert grid.marks == {} and grid.images == faces(*range(60, 120))
    grid.press("Backspace")
    assert grid.images == faces(*range(60)) and grid.marks == {0: "angry", 1: "angry", 2: "angry"}, "the page comes back as it was"
    grid.last("Undone: a page of 60 faces")
    grid.press("KeyZ")
    assert grid.marks == {0: "sad"}, "a range is one change"
    grid.press("KeyZ", "KeyZ")
    assert grid.marks == {}
    grid.last("Nothing left to undo")
    grid.press("Shift+KeyZ", "Shift+KeyZ")
    assert grid.marks == {0: "angry", 1: "angry", 2: "angry"} and grid.images == faces(*range(60))
    grid.press("Shift+KeyZ", "Shift+KeyZ", "Shift+KeyZ")
    assert grid.images == faces(*range(60, 120)) and grid.marks == {10: "fear"}
    grid.last("Nothing to redo")
    events = grid.saved(180)
    sets, undos, redos = events[:60], events[60:120], events[120:]
    assert [e["target"] for e in undos] == [e["event_id"] for e in reversed(sets)] and {e["op"] for e in undos} == {"undo"}
    assert [e["target"] for e in redos] == [e["event_id"] for e in sets] and {e["op"] for e in redos} == {"redo"}
    assert [len({e["gesture"] for e in part}) for part in (sets, undos, redos)] == [1, 1, 1]
    grid.press("KeyZ", "KeyZ", "Space", "Shift+KeyZ")
    assert grid.images == faces(*range(60)), "a new mark ends what can be redone"


def test_flags_are_yes_or_no(grid: Grid, app: str) -> None:
    grid.open(app, "flag", faces=60)
    expect(grid.page.get_by_test_id("claim")).to_have_text("All of these are too dark")
    grid.press("Space", "ArrowRight", "KeyN", "ArrowRight", "KeyN", "KeyY", "ArrowRight", "Digit0", "Enter")
    events = grid.saved(60)
    assert [(e["field"], e["value"], e["mode"]) for e in events[:4]] == [
        ("flag_dark", "no", "grid_exception"), ("flag_dark", "no", "grid_exception"), ("flag_dark", "yes", "grid_bulk"), ("flag_dark", "yes", "grid_bulk")]
    assert Counter(e["value"] for e in events) == {"yes": 58, "no": 2}, "0 is no answer to a flag"
    expect(grid.page.get_by_test_id("veil")).to_have_text("No faces are waiting for you here")
    grid.page.get_by_test_id("again").click()
    grid.until("vg().dataset.batch === '3'")
    grid.press("KeyZ")
    assert grid.images == faces(*range(60)) and grid.marks == {0: "no", 1: "no"}


def test_tagging_keeps_open_faces_for_later(grid: Grid, app: str) -> None:
    grid.open(app, "tag")
    grid.press("Enter")
    grid.last("No face has an answer yet")
    for i, c in enumerate(AGE_BANDS.classes):
        grid.press(*c.keys)
        assert grid.at == i + 1, "an answer moves on"
    grid.press("Digit0", "Space", "Shift+ArrowRight", "Shift+ArrowRight", "Digit2")
    assert grid.marks == {0: "child", 1: "young", 2: "middle-aged", 3: "senior", 4: "cannot tell", 6: "young", 7: "young", 8: "young"} and grid.at == 9
    grid.press("ArrowLeft", "Space")
    assert 8 not in grid.marks, "Space takes an answer back"
    grid.press("Enter")
    open_faces = faces(5, *range(8, 60))
    assert grid.images == open_faces + faces(*range(60, 67)), "what is open comes first"
    events = grid.saved(7)
    values = ("child", "young", "middle_aged", "senior", "cannot_tell", "young", "young")
    assert [(e["image_id"], e["value"]) for e in events] == list(zip(faces(0, 1, 2, 3, 4, 6, 7), values, strict=True))
    assert {(e["mode"], e["field"]) for e in events} == {("grid_tag", "age_band")} and len({e["gesture"] for e in events}) == 1
    grid.press("Digit1", "Enter", "KeyZ", "KeyZ", "KeyZ")
    assert grid.images == faces(*range(60)) and len(grid.marks) == 7
    grid.press("Shift+KeyZ", "Shift+KeyZ", "Shift+KeyZ")
    assert grid.images == open_faces[1:] + faces(*range(60, 68))
    expect(grid.page.get_by_test_id("remaining")).to_have_text("392 remaining")


def test_quick_commits_on_a_slow_server(grid: Grid, app: str, delay_proxy: Callable[..., DelayProxy]) -> None:
    grid.open(delay_proxy(app).url, delay=0.3, faces=720, batch=120)
    grid.until("vg().dataset.batch === '2'")  # asked for while one page is left
    assert grid.images == faces(*range(60)), "a page does not change while it is shown"
    shown = list[str]()
    for i in range(12):
        grid.until("vg().querySelector('[role=gridcell]')")
        shown += grid.images
        grid.press(*["ArrowRight"] * i, "KeyS", "Enter")
    events = grid.saved(720)
    assert [e["image_id"] for e in events] == shown == faces(*range(720)), "every face once, as it was shown"
    assert [i for i, e in enumerate(events) if e["value"] == "sad"] == [60 * i + i for i in range(12)]
    assert Counter(Counter(e["gesture"] for e in events).values()) == {60: 12}
    assert {e["lease"] for e in events} == {f"lease-{i}" for i in range(1, 7)}
    expect(grid.page.get_by_test_id("veil")).to_have_text("No faces are waiting for you here")


def test_reload_keeps_the_journal_and_undo(grid: Grid, app: str) -> None:
    grid.open(app, delay=0, commits=1)
    grid.press("KeyS", "Enter")
    grid.saved(60)
    grid.open(app, delay=2.5, commits=1)
    grid.press("ArrowRight", "KeyA", "Enter", "Enter", "KeyZ")
    assert len(grid.events()) == 60, "the server is still busy"
    grid.open(app, delay=0, commits=1)
    assert grid.images == faces(*range(120, 180)), "committed faces are not asked again; the undone page is"
    events = grid.saved(180)
    assert Counter(e["op"] for e in events) == {"set": 180, "undo": 60} and [e["image_id"] for e in events[60:120]] == faces(*range(60, 120))
    grid.until("vg().dataset.undoable === '2'")
    grid.press("KeyZ", "KeyZ", "KeyZ")
    assert grid.images == faces(*range(60)) and grid.marks == {0: "sad"}, "commits of an earlier life come back, page by page"
    grid.press("Shift+KeyZ")
    assert grid.images == faces(*range(60, 120)) and grid.marks == {1: "angry"}
    more = grid.saved(180 + 180)[240:]
    assert [(e["op"], e["target"]) for e in more] == [
        *(("undo", e["event_id"]) for e in reversed(events[60:120])), *(("undo", e["event_id"]) for e in reversed(events[:60])),
        *(("redo", e["event_id"]) for e in events[:60])]
    assert [len({e["gesture"] for e in more[i : i + 60]}) for i in (0, 60, 120)] == [1, 1, 1]


def test_marks_survive_reload(grid: Grid, app: str) -> None:
    grid.open(app)
    grid.press("Enter", "KeyS", "Shift+ArrowRight", "KeyA")
    grid.saved(60)
    grid.open(app)
    assert grid.images == faces(*range(60, 120)) and grid.marks == {0: "angry", 1: "angry"}
    grid.press("KeyZ")
    assert grid.marks == {}
    grid.open(app)
    assert grid.marks == {}


def test_redo_survives_reload(grid: Grid, app: str) -> None:
    grid.open(app)
    grid.press("KeyS", "Enter", "KeyZ")
    grid.saved(120)
    grid.open(app)
    grid.until("vg().dataset.past === ''")
    assert grid.images == faces(*range(60)) and grid.marks == {0: "sad"}
    grid.press("Shift+KeyZ")
    assert grid.images == faces(*range(60, 120))
    assert [(e["op"], e["image_id"]) for e in grid.saved(60)[120:]] == [("redo", i) for i in faces(*range(60))]
    grid.press("KeyZ")
    assert grid.marks == {0: "sad"}


def test_events_are_sent_again_until_acknowledged(grid: Grid, app: str) -> None:
    grid.open(app, deaf=2)
    grid.press("Enter", "KeyZ")
    assert len(grid.saved(120)) == 120


def test_faces_wait_for_the_journal(grid: Grid, app: str) -> None:
    grid.open(app, deaf=100)
    grid.press("Enter")
    grid.open(app, deaf=1)  # its first flush is not heard
    assert grid.images == faces(*range(60, 120)), "what is shown was handed out after the journal had been recorded"
    assert len(grid.saved(60)) == 60


def test_a_moment_off_the_page_changes_nothing(grid: Grid, app: str) -> None:
    grid.open(app)
    grid.press("Enter", "KeyF")
    hide = grid.page.get_by_text("Hide the faces")
    hide.click()
    grid.until("!vg()")
    hide.click()
    grid.until("vg()?.querySelector('[role=gridcell]')")
    assert grid.images == faces(*range(60, 120)) and grid.marks == {0: "fear"} and grid.at == 0
    grid.press("KeyZ", "KeyZ")
    assert grid.images == faces(*range(60))


def test_mouse_alone_is_enough(grid: Grid, app: str) -> None:
    grid.open(app)
    button = grid.page.get_by_test_id
    grid.cell(3).click()
    assert grid.marks == {3: "cannot tell"}
    grid.cell(5).click()
    button("answer-sad").click()
    grid.cell(20).click(modifiers=["Control"])
    grid.cell(22).click(modifiers=["Control"])
    assert grid.selected == [20, 22]
    button("answer-fear").click()
    grid.cell(33).click(modifiers=["Shift"])
    assert grid.selected == list(range(22, 34))
    button("answer-cannot_tell").click()
    button("undo").click()
    button("pick").click()
    grid.cell(40).click()
    grid.cell(59).click()
    assert grid.selected == [40, 59], "in selecting, a click does not mark"
    button("answer-neutral").click()
    button("pick").click()
    grid.cell(3).click()
    assert grid.marks == {5: "sad", 20: "fear", 22: "fear", 40: "neutral", 59: "neutral"}
    grid.until("performance.now() - vg().dataset.shown > 405")
    expect(button("commit")).to_have_text("Commit 60 facesEnter")
    button("commit").click()
    button("undo").click()
    button("redo").click()
    assert grid.images == faces(*range(60, 120))
    button("comment").click()
    button("comment-text").fill("two faces")
    button("send").click()
    button("pause").click()
    expect(button("veil")).to_have_text("Paused. Press Esc to go on.")
    button("pause").click()
    button("help").click()
    expect(button("keys")).to_be_visible()
    button("keys").get_by_role("button", name="Close").click()
    expect(button("keys")).to_be_hidden()
    events = grid.saved(181)
    assert Counter((e["op"], e["mode"]) for e in events[:60]) == {("set", "grid_bulk"): 55, ("set", "grid_exception"): 5}
    assert (events[-1]["op"], events[-1]["value"], events[-1]["image_id"]) == ("comment", "two faces", "face-0060")


def test_a_tap_in_tagging_selects(grid: Grid, app: str) -> None:
    grid.open(app, "tag")
    for i in (2, 7, 9, 7):
        grid.cell(i).click()
    assert grid.selected == [2, 9]
    grid.page.get_by_test_id("answer-senior").click()
    assert grid.marks == {2: "senior", 9: "senior"} and grid.selected == []
    assert grid.page.get_by_test_id("pick").is_hidden()


def test_comment_pause_and_key_list(grid: Grid, app: str) -> None:
    grid.open(app)
    grid.press("ArrowRight", "KeyC")
    text = grid.page.get_by_test_id("comment-text")
    expect(text).to_be_focused()
    grid.page.keyboard.type("sad? zz ")
    grid.press("Enter")
    assert grid.at == 1 and grid.marks == {}, "keys belong to the text while it is written"
    grid.press("KeyC")
    grid.page.keyboard.type("no")
    grid.press("Escape")
    expect(text).to_be_hidden()
    for key in ("KeyH", "Shift+Slash"):
        grid.press(key)
        expect(grid.page.get_by_test_id("keys")).to_be_visible()
        grid.press("KeyS", "Enter", "Escape" if key == "KeyH" else key)
        expect(grid.page.get_by_test_id("keys")).to_be_hidden()
    grid.press("Escape", "KeyS", "Enter", "KeyZ", "Space", "ArrowRight")
    assert grid.data("paused") == "true" and grid.page.get_by_role("gridcell").first.is_hidden()
    grid.press("Escape", "KeyA")
    assert grid.data("paused") == "false" and grid.marks == {1: "angry"} and grid.images == faces(*range(60))
    grid.page.keyboard.press("Enter")
    assert grid.images == faces(*range(60)), "after a pause the page has just been painted again"
    [event] = grid.saved(1)
    assert (event["op"], event["field"], event["value"], event["image_id"], event["lease"]) == ("comment", None, "sad? zz", "face-0001", "lease-1")


def test_held_and_hasty_keys_count_once(grid: Grid, app: str) -> None:
    grid.open(app)
    grid.until("performance.now() - vg().dataset.shown > 405")
    grid.page.keyboard.down("Enter")
    for _ in range(4):
        grid.page.wait_for_timeout(150)
        grid.page.keyboard.down("Enter")  # repeats
    grid.page.keyboard.up("Enter")
    assert grid.images == faces(*range(60, 120))
    grid.press("Enter")
    grid.page.keyboard.press("Enter")  # at once: meant for the page before
    assert grid.images == faces(*range(120, 180)) and grid.page.evaluate("vg().classList.contains('shake')")
    grid.page.keyboard.down("Space")
    for _ in range(2):
        grid.page.keyboard.down("Space")
    grid.page.keyboard.up("Space")
    assert grid.marks == {0: "cannot tell"}
    assert len(grid.saved(120)) == 120


def test_typing_elsewhere_and_hotkeys(grid: Grid, app: str) -> None:
    grid.open(app)
    grid.until("vg().dataset.batch === '2'")
    grid.page.mouse.click(700, 700)  # the background of the page
    grid.press("ArrowRight", "KeyR", "KeyC", "Escape", "KeyS")
    assert grid.marks == {1: "sad"}, "the keys are the grid's"
    grid.press("Enter")
    grid.saved(60)
    assert grid.page.get_by_role("dialog").count() == 0
    numbers = grid.rows("SELECT client, number FROM run WHERE client != ''")
    assert len(numbers) == len(set(numbers)), "every run answers a report: no run came from a hotkey"
    search = grid.page.get_by_label("Search")
    search.click()
    grid.page.keyboard.type("sad c jkl")
    expect(search).to_have_value("sad c jkl")
    search.press("Enter")
    assert grid.images == faces(*range(60, 120)) and grid.marks == {} and grid.data("made") == "60"


def test_refused_answers_are_said(grid: Grid, app: str) -> None:
    grid.open(app, refuse="face-0001")
    grid.press("Enter")
    expect(grid.page.get_by_test_id("problem")).to_have_text("Not saved: this face is closed")
    expect(grid.page.get_by_test_id("saved")).to_have_text("Saved 59 of 60, 1 refused")
    grid.press("KeyZ")
    assert grid.images == faces(*range(60))
    grid.until("vg().dataset.saved === '118'")
    assert grid.data("made") == "119", "what was refused is not there to be undone"
    events = grid.events()
    assert Counter(e["op"] for e in events) == {"set": 59, "undo": 59} and "face-0001" not in {e["image_id"] for e in events}


def test_lost_faces_are_not_answered(grid: Grid, app: str) -> None:
    grid.open(app, lost="face-0061")
    grid.press("Enter")
    grid.saved(60)
    expect(grid.cell(1)).to_have_attribute("aria-label", "face 2, taken by somebody else")
    grid.press("ArrowRight", "KeyS", "Enter")
    events = grid.saved(119)
    assert "face-0061" not in {e["image_id"] for e in events} and {e["value"] for e in events} == {"happy"}
    assert grid.images == faces(*range(120, 180))


@pytest.mark.parametrize(("mode", "scheme"), [("claim", "light"), ("tag", "dark")])
def test_sixty_faces_fit_without_scrolling(grid: Grid, app: str, mode: str, scheme: Any) -> None:
    grid.page.emulate_media(color_scheme=scheme)
    grid.open(app, mode)
    box = grid.page.evaluate("(c => [c.length, ...['left', 'top', 'right', 'bottom'].map(k => c.map(x => x.getBoundingClientRect()[k]))])"
                             "([...vg().querySelectorAll('[role=gridcell]')])")
    assert box[0] == 60 and len(set(box[1])) == 10 and len(set(box[2])) == 6 and max(box[4]) < 720 and max(box[3]) < 1280
    assert {r - x for x, r in zip(box[1], box[3], strict=True)} == {72}
    assert grid.page.evaluate("(m => m.scrollHeight <= m.clientHeight)(document.querySelector('[data-testid=stMain]'))")
    assert grid.page.evaluate("[...vg().querySelectorAll('[role=row]')].map(r => r.children.length)") == [10] * 6
    grid.page.set_viewport_size({"width": 1920, "height": 1080})
    grid.until("vg().querySelector('[role=gridcell]').offsetWidth === 96")
    assert grid.page.evaluate("getComputedStyle(vg().querySelector('canvas')).imageRendering") == "pixelated"
    painted = grid.page.evaluate("[...vg().querySelectorAll('canvas')].map(c => c.getContext('2d').getImageData(0, 0, 1, 1).data[0])")
    assert painted == list(range(60)), "each cell shows its own face"


def test_a_narrow_touch_screen(grid: Grid, app: str) -> None:
    context = grid.page.context.browser.new_context(viewport={"width": 600, "height": 900}, has_touch=True, is_mobile=True)  # type: ignore[union-attr]
    page = context.new_page()
    page.add_init_script(INIT_SCRIPT + FIND)
    small = Grid(page, grid.file.parent, grid.queue)
    small.open(app)
    small.cell(4).tap()
    page.get_by_test_id("answer-sad").tap()
    assert small.marks == {4: "sad"}
    sizes = page.evaluate("[...vg().querySelectorAll('button')].filter(b => b.offsetParent).map(b => [b.offsetWidth, b.offsetHeight])")
    assert len(sizes) > 12 and all(min(s) >= 40 for s in sizes)
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth <= 600")
    context.close()


def test_misuse_is_refused() -> None:
    yes, no = Choice("yes", "Yes", "#D55E00", ("KeyY",)), Choice("no", "No", "#0072B2", ("KeyN",))

    def mount(*choices: Choice, claim: Choice | None = None, field: str = "flag_dark") -> None:
        verify_grid(key="k", journal="j", page="p", report=Report(), question=Question(field, "Too dark", choices), claim=claim, batch=None,
                    past=None, total=0, done=0, acked=[], refused={})

    for key in ("KeyN", "KeyZ", "Enter", "KeyC"):
        with pytest.raises(BadInput, match=key):
            mount(no, Choice("yes", "Yes", "#D55E00", (key,)), claim=no)
    with pytest.raises(BadInput, match="claimed"):
        mount(yes, claim=no, field="expression")
    with pytest.raises(BadInput, match="two choices"):
        mount(yes, claim=yes)
