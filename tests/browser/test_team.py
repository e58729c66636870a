"""The labeling pages as people use them side by side, on the real app in Chromium."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser_harness import INIT_SCRIPT, ROOT, Server
from helpers import fer_line, some_faces, write_fer
from playwright.sync_api import Browser, Page
from uuid_utils import uuid7

from fercore import curation, ingest
from fercore.curation import campaigns
from fercore.curation import schemes as book
from fercore.domain import Person, Role, Workspace
from fercore.store import Store
from fercore.store import people as people_table

APP = ROOT / "dashboard/app.py"
LEAD, ROSA = Person("dana", "Dana", Role.DATA_LEAD), Person("rosa", "Rosa", Role.REVIEWER)
ANN, BEA = Person("ann", "Ann", Role.ANNOTATOR), Person("bea", "Bea", Role.ANNOTATOR)
SAVED = "grid() && +grid().dataset.made > 0 && grid().dataset.saved === grid().dataset.made"


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """140 faces, four people, campaigns of every kind, two faces on which Ann and Bea disagree."""
    root = tmp_path_factory.mktemp("team")
    file = write_fer(root / "faces.csv", [fer_line(i % 7, f) for i, f in enumerate(some_faces(140, 5))])
    with Store(Workspace(root / "ws")) as store:
        for person in (LEAD, ROSA, ANN, BEA):
            people_table.add(store, person)
        ingest.import_fer2013(store, LEAD, file)
        book.create(store, LEAD, "Twelve long moods", [f"custom class number {n}" for n in range(12)])
        for name, more in {"Once": {}, "Alpha": {"votes": 5}, "Moods": {"ask": ("twelve-long-moods@1",)},
                           "All happy": {"grid": True, "claim": "happy", "claimed_by": "given"}, "Closing": {"votes": 5}}.items():
            campaigns.save(store, ROSA, {"name": name, "ask": ("fer7@1",), **more})
        for face, in store.rows("SELECT DISTINCT image_id FROM samples WHERE given_label = 'disgust' ORDER BY 1 LIMIT 2"):
            for person, value in ((ANN, "fear"), (BEA, "sad")):
                curation.record(store, person, [{"event_id": str(uuid7()), "op": "set", "image_id": face, "field": "expression", "value": value,
                                                 "gesture": str(uuid7())}])
    return root / "ws"


@pytest.fixture(scope="module")
def server(team: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(APP, tmp_path_factory.mktemp("log") / "log.txt", env={"FERCORE_WORKSPACE": str(team)}) as running:
        yield running


@pytest.fixture
def sit(chromium: Browser, server: Server) -> Iterator[Callable[[Person, str], Page]]:
    """sit(person, path): this person in a browser of their own."""
    contexts = []

    def start(person: Person, path: str) -> Page:
        context = chromium.new_context(viewport={"width": 1280, "height": 720})
        contexts.append(context)
        context.add_init_script(INIT_SCRIPT)
        context.set_default_timeout(20_000)
        context.add_cookies([{"name": "fercore_profile", "value": person.person_id, "url": server.url}])
        page = context.new_page()
        page.goto(server.url + path)
        return page

    yield start
    for context in contexts:
        context.close()


def press(page: Page, keys: str) -> list[str]:
    """Presses when the painted face takes an answer; returns the faces."""
    done = []
    for key in keys:
        page.wait_for_function("grid()?.dataset.imageId && ready()")
        done.append(str(page.evaluate("grid().dataset.imageId")))
        page.keyboard.press(key)
    return done


def test_two_people_never_get_the_same_face_where_one_vote_is_wanted(sit: Callable[[Person, str], Page]) -> None:
    ann, bea = sit(ANN, "/label?campaign=once"), sit(BEA, "/label?campaign=once")
    seen: list[list[str]] = [[], []]
    for _ in range(4):
        for who, page in enumerate((ann, bea)):
            seen[who] += press(page, "ajs")
    for page in (ann, bea):
        page.wait_for_function(SAVED)
    assert len(set(seen[0]) | set(seen[1])) == 24


def test_a_scheme_of_twelve_long_names_can_be_labelled(sit: Callable[[Person, str], Page]) -> None:
    page = sit(ANN, "/label?campaign=moods")
    page.wait_for_function("grid()?.dataset.imageId && ready()")
    page.evaluate("deep('[data-act=answer]').click()")
    page.wait_for_function(SAVED)


def test_answers_left_in_one_campaign_are_saved_from_another(sit: Callable[[Person, str], Page], server: Server) -> None:
    page = sit(BEA, "/label?campaign=alpha")
    press(page, "jjj")
    page.goto(f"{server.url}/label?campaign=moods")  # before the flush
    page.wait_for_function("grid()?.dataset.imageId")
    left = page.evaluate("""async () => {
      const db = await new Promise(done => { const o = indexedDB.open('fercore', 1); o.onsuccess = () => done(o.result) })
      const count = () => new Promise(done => { const r = db.transaction('events').objectStore('events').count(); r.onsuccess = () => done(r.result) })
      for (let i = 0; i < 100 && await count(); i++) await new Promise(next => setTimeout(next, 100))
      return count() }""")
    assert left == 0


def test_who_works_in_a_campaign_that_is_closed_is_told_and_keeps_the_page(sit: Callable[[Person, str], Page], team: Path, server: Server) -> None:
    lead, page = sit(LEAD, "/campaigns?campaign=closing"), sit(ANN, "/label?campaign=closing")
    press(page, "jj")
    page.wait_for_function(SAVED)
    lead.get_by_text("Closed", exact=True).click()
    lead.get_by_role("button", name="Save campaign").click()
    for _ in range(140):  # to the end of what was handed out before
        page.wait_for_function("grid()?.dataset.imageId ? ready() : deep('[data-testid=veil]').textContent.includes('campaign is closed')")
        if not page.evaluate("grid().dataset.imageId"):
            break
        page.keyboard.press("j")
    assert "This campaign is closed" in page.evaluate("deep('[data-testid=veil]').textContent")
    page.wait_for_function(SAVED)
    assert page.locator("[data-testid=stException]").count() == 0 and page.evaluate("Boolean(grid())")


def test_a_committed_wall_confirms(sit: Callable[[Person, str], Page]) -> None:
    page = sit(ROSA, "/verify?campaign=all-happy")
    wall = "deep('[data-testid=verify-grid]')"
    page.wait_for_function(f"deep('[role=gridcell]') && {wall}?.dataset.made === '0'")
    page.wait_for_timeout(450)  # a page is looked at before it counts
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    page.wait_for_function(f"+{wall}.dataset.made > 10 && {wall}.dataset.made === {wall}.dataset.saved")


def test_what_all_that_left_in_the_store(team: Path, server: Server) -> None:
    server.close()
    with Store(Workspace(team)) as store:
        once = store.rows("SELECT image_id, count(*) FROM label_events WHERE campaign_id = 'once' GROUP BY 1")
        if not once:
            pytest.skip("checks what the tests above left, and they did not run")
        assert len(once) == 24 and all(n == 1 for _, n in once)
        assert store.value("SELECT count(*) FROM label_events WHERE campaign_id = 'moods' AND field = 'twelve-long-moods'") == 1
        assert store.value("SELECT count(*) FROM standing WHERE campaign_id = 'alpha' AND person_id = 'bea'") >= 3
        assert store.rows("SELECT round, count(*) > 0 FROM standing WHERE campaign_id = 'all-happy' GROUP BY 1 ORDER BY 1") == [
            ("confirm", True), ("vote", True)]
