"""One person's way through the whole product in a browser: import, label, freeze, approve, train, confusion matrix, bias table."""

from collections.abc import Callable
from pathlib import Path

import pytest
from browser_harness import ROOT, Server, settled
from playwright.sync_api import Page, expect

from fercore import people
from fercore.demo import as_files
from fercore.demo_faces import draw_demo
from fercore.domain import Role, Workspace
from fercore.store import Store

APP = ROOT / "dashboard/app.py"
LABELS = 50


def go(page: Page, name: str) -> None:
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=name, exact=True).click()
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible(timeout=30_000)
    settled(page)


def choose(page: Page, name: str) -> None:
    page.get_by_role("button", name="Switch profile").click()
    page.get_by_role("button", name=name, exact=True).click()
    go(page, "Overview")


@pytest.mark.timeout(420)
def test_from_a_file_to_a_bias_table(page: Page, serve: Callable[..., Server], tmp_path: Path) -> None:
    faces, votes, tags = as_files(draw_demo(420, 7), tmp_path)
    place = Workspace(tmp_path / "ws")
    with Store(place) as store:
        people.add(store, "Lee", Role.DATA_LEAD)
        people.add(store, "Rosa", Role.REVIEWER)
    server = serve(APP, env={"FERCORE_WORKSPACE": str(place.root)})
    outside: list[str] = []
    page.on("request", lambda r: outside.append(r.url) if not r.url.startswith((server.url, server.url.replace("http", "ws"), "data:", "blob:"))
            else None)
    page.goto(server.url)

    page.get_by_label("Name").fill("Dana")
    page.get_by_label("Role").click()
    page.get_by_role("option", name="Data lead").click()
    page.get_by_role("button", name="Add and continue").click()
    expect(page.get_by_text("No faces yet")).to_be_visible()

    go(page, "Import")
    uploads = page.locator('input[type="file"]')
    uploads.nth(0).set_input_files(faces)
    uploads.nth(1).set_input_files(votes)
    expect(page.get_by_text(faces.name)).to_be_visible()
    expect(page.get_by_text(votes.name)).to_be_visible()
    page.get_by_text("Where it comes from").first.click()
    page.get_by_label("Licence, as the source states it").first.fill("drawn, nobody is shown")
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_text("420 rows read, 420 added, 0 rejected")).to_be_visible(timeout=60_000)
    settled(page)
    page.locator('input[type="file"]').nth(2).set_input_files(tags)
    expect(page.get_by_text(tags.name)).to_be_visible()
    page.get_by_role("button", name="Import tags").click()
    expect(page.get_by_text("rows read, 0 added, 0 rejected")).to_be_visible(timeout=30_000)

    go(page, "Label")
    page.wait_for_function("grid()?.dataset.imageId")
    pressed: list[tuple[str, str]] = []
    for i in range(LABELS):
        key, value = (("a", "angry"), ("j", "happy"), ("k", "surprise"))[i % 3]
        page.wait_for_timeout(150)
        page.wait_for_function("ready()")  # a person's pace: a face takes an answer after 120 ms
        pressed.append((page.evaluate("grid().dataset.imageId"), value))
        page.keyboard.press(key)
    page.wait_for_function(f"+grid()?.dataset.saved === {LABELS}", timeout=30_000)

    go(page, "Versions")
    page.get_by_role("link", name="Freeze a version").click()
    page.get_by_label("Name of the version").fill("fer7")
    page.get_by_role("button", name="Freeze", exact=True).click()
    page.get_by_role("link", name="Open fer7-v1").click(timeout=30_000)
    page.get_by_role("button", name="Submit for review").click()
    expect(page.get_by_text("You froze this version; somebody else must decide on it.")).to_be_visible(timeout=30_000)
    page.get_by_text("Datasheet", exact=True).click()
    for question, answer in (("Why was", "To try"), ("How did", "Drawn by a program"), ("What should", "Nothing"), ("Who answers", "Whoever drew them")):
        settled(page)
        row = page.get_by_test_id("stLayoutWrapper").filter(has_text=question).filter(has=page.get_by_role("button", name="Edit")).last
        row.get_by_role("button", name="Edit").click()
        page.get_by_label(question).fill(answer)
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_test_id("stMarkdown").filter(has_text=answer)).to_be_visible(timeout=30_000)  # not the box it was typed into
    choose(page, "Lee")
    page.get_by_role("link", name="Decide on fer7-v1").click()
    page.get_by_text("Gates", exact=True).click()
    expect(page.get_by_text("1 of 11 gates fail")).to_be_visible(timeout=30_000)
    settled(page)
    page.get_by_role("button", name="Waive", exact=True).click()  # faces that one person relabelled lie in test as well
    page.get_by_label("Reason", exact=True).fill("For this journey")
    page.get_by_role("button", name="Waive: Edited test labels have two votes").click()
    expect(page.get_by_text("All 11 gates pass or are waived")).to_be_visible(timeout=30_000)
    settled(page)
    for name, outcome in (("Lee", "approval by Lee (data lead)"), ("Rosa", "approved by Lee (data lead) and Rosa (reviewer)")):
        if name != "Lee":
            choose(page, name)
            page.get_by_role("link", name="Decide on fer7-v1").click()
        page.get_by_role("button", name="Approve", exact=True).click()
        page.get_by_role("button", name="Approve fer7-v1").click()
        expect(page.get_by_text(outcome)).to_be_visible(timeout=30_000)
    choose(page, "Dana")

    go(page, "Train")
    page.get_by_role("button", name="Launch training").click()
    page.get_by_label("Epochs at most").fill("2")
    page.get_by_role("button", name="Launch", exact=True).click()
    expect(page.get_by_role("link", name="Results").last).to_be_visible()
    page.locator('[data-testid="stMain"]').get_by_role("link", name="Results").click(timeout=150_000)

    expect(page.get_by_role("heading", name="Results", exact=True)).to_be_visible(timeout=30_000)
    page.wait_for_function("deep('[data-testid=\"cell-happy-happy\"]')")
    cell = page.evaluate("[...deep('[data-testid=\"cell-happy-happy\"]').closest('table').querySelectorAll('button:not([disabled])')][0].dataset.testid")
    page.get_by_test_id(cell).click()
    expect(page.get_by_text("most confident first")).to_be_visible()
    page.wait_for_function("deep('[data-testid=\"face-grid\"]')")

    go(page, "Bias")
    expect(page.get_by_text("Perceived age: ").first).to_be_visible(timeout=30_000)
    expect(page.get_by_test_id("stDataFrame").first).to_be_visible()
    assert not outside, outside

    server.close()
    with Store(place) as store:
        stored = store.rows("SELECT image_id, value FROM label_events WHERE person_id = 'dana' AND active ORDER BY seq")
        assert stored == pressed
        assert store.rows("SELECT state, last_person FROM versions") == [("approved", "rosa")]
        assert store.value("SELECT count(DISTINCT run_id) FROM predictions") == 1
