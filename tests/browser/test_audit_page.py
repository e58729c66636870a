"""The Audit page in Chromium: faces of a finding are selected by keyboard, excluded, and the act is undone; the URL holds the view."""

from collections.abc import Callable

import pytest
from browser_harness import ROOT, Server, settled
from helpers import LEAD, REVIEWER, fer_line, write_fer
from playwright.sync_api import Page, expect

from fercore import audit, ingest
from fercore.demo_faces import draw_demo
from fercore.domain import Workspace
from fercore.store import Store
from fercore.store import people as people_table

DARK = 6


@pytest.fixture(scope="module")
def url(serve: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("audit")
    drawn = {p.tobytes(): p for p in draw_demo(100, 3).pixels if p.mean() > 60}  # without the copies and the dark ones planted there
    pixels = [p // 6 if i < DARK else p for i, p in enumerate([*drawn.values()][:30])]
    with Store(Workspace(place / "ws")) as store:
        for person in (LEAD, REVIEWER):
            people_table.add(store, person)
        ingest.import_fer2013(store, LEAD, write_fer(place / "f.csv", [fer_line(i % 7, p) for i, p in enumerate([*pixels, *pixels[10:12]])]))
        audit.run(store, LEAD)
        assert store.value("SELECT count(*) FROM findings WHERE kind = 'dark'") == DARK
    return serve(ROOT / "dashboard/app.py", env={"FERCORE_WORKSPACE": str(place / "ws")}).url


@pytest.fixture
def rosa(page: Page, url: str) -> Page:
    page.context.add_cookies([{"name": "fercore_profile", "value": "rosa", "url": url}])
    page.goto(f"{url}/audit")
    expect(page.get_by_role("heading", name="Audit", exact=True)).to_be_visible()
    settled(page)
    return page


def chosen(page: Page, *places: int) -> None:
    """Says which tiles are pressed, and that the page knows how many."""
    expect(page.locator('[data-testid="tile"][aria-pressed="true"]')).to_have_count(len(places))
    for i in places:
        expect(page.get_by_test_id("tile").nth(i)).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name=f"Exclude {len(places)}")).to_be_visible()


def test_faces_are_selected_excluded_and_taken_back(rosa: Page) -> None:
    rosa.locator(".st-key-open-dark button").click()
    tiles, badge = rosa.get_by_test_id("tile"), rosa.locator(".badge")
    expect(tiles).to_have_count(DARK)
    assert rosa.url.endswith("/audit?kind=dark")
    tiles.nth(1).focus()
    for key in ("Space", "ArrowRight", "ArrowRight", "Space"):
        rosa.keyboard.press(key)
    chosen(rosa, 1, 3)
    rosa.get_by_role("button", name="Exclude 2", exact=False).click()
    rosa.get_by_role("dialog").get_by_role("button", name="Exclude 2 faces").click()
    expect(rosa.get_by_test_id("stAlert")).to_contain_text("Excluded, too dark: 2 faces")
    expect(badge).to_have_text(["excluded: too dark"] * 2)
    for i in (1, 3):
        expect(tiles.nth(i)).to_contain_text("excluded: too dark")
    chosen(rosa, 1, 3)
    rosa.get_by_role("button", name="Undo").click()
    expect(rosa.get_by_test_id("stAlert")).to_contain_text("Taken back: excluded: too dark, 2 faces")
    expect(badge).to_have_count(0)


def test_a_button_pressed_right_after_a_selection_acts_on_it_and_keeps_the_focus(rosa: Page) -> None:
    rosa.locator(".st-key-open-dark button").click()
    exclude = rosa.locator(".st-key-act-exclude button")
    rosa.get_by_test_id("tile").nth(0).click()
    chosen(rosa, 0)
    box = exclude.bounding_box()
    assert box
    rosa.get_by_test_id("tile").nth(1).click()
    rosa.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)  # sooner than the page has heard of the second face
    confirm = rosa.get_by_role("dialog").get_by_role("button", name="Exclude 2 faces")
    confirm.click()
    expect(rosa.get_by_test_id("stAlert")).to_contain_text("Excluded, too dark: 2 faces")
    expect(exclude).to_be_focused()
    rosa.get_by_role("button", name="Undo").click()
    expect(rosa.get_by_test_id("stAlert")).to_contain_text("Taken back")


def test_ways_to_select_and_to_open_a_face(rosa: Page) -> None:
    rosa.locator(".st-key-open-dark button").click()
    tiles = rosa.get_by_test_id("tile")
    tiles.nth(0).click()
    tiles.nth(2).click(modifiers=["Shift"])
    chosen(rosa, 0, 1, 2)
    tiles.nth(1).click()
    chosen(rosa, 0, 2)
    for keys, places in ((("Control+a",), range(DARK)), (("Escape",), ()), (("Home", "Shift+End"), range(DARK)), (("Escape", "Space"), (DARK - 1,))):
        for key in keys:
            rosa.keyboard.press(key)
        chosen(rosa, *places)
    rosa.keyboard.press("Enter")
    expect(rosa.get_by_role("dialog")).to_contain_text("Given label")
    rosa.keyboard.press("Escape")
    expect(rosa.get_by_role("dialog")).to_have_count(0)
    tiles.nth(0).dblclick()
    expect(rosa.get_by_role("dialog")).to_contain_text("Given label")
    rosa.keyboard.press("Escape")
    chosen(rosa, DARK - 1)


def test_groups_are_framed_and_the_url_opens_the_same_view(rosa: Page) -> None:
    rosa.locator(".st-key-open-exact_duplicate button").click()
    expect(rosa.locator(".group")).to_have_count(2)
    rosa.locator(".head").nth(1).click()
    expect(rosa.get_by_role("button", name="Exclude 1")).to_be_visible()  # identical rows are one face
    expect(rosa.locator('.group:nth-child(2) [aria-pressed="true"]')).to_have_count(2)
    rosa.get_by_role("button", name="All kinds of findings").click()
    rosa.locator(".st-key-open-dark button").click()
    expect(rosa.get_by_test_id("tile")).to_have_count(DARK)
    rosa.get_by_role("slider").focus()
    rosa.keyboard.press("ArrowLeft")
    rosa.wait_for_url("**/audit?*bound_dark=39*")
    expect(rosa.get_by_text("in force is 40")).to_be_visible()
    rosa.reload()
    expect(rosa.get_by_text("in force is 40")).to_be_visible()
    rosa.get_by_role("button", name="All kinds of findings").click()
    rosa.wait_for_url("**/audit")
    expect(rosa.locator(".st-key-open-dark button")).to_be_visible()


def test_a_point_of_the_box_plot_opens_its_face(rosa: Page) -> None:
    rosa.locator(".st-key-open-mean_outlier button").click()
    point = rosa.locator(".scatterlayer .point").first
    expect(point).to_be_attached()
    rosa.wait_for_function("document.querySelector('.scatterlayer .point').getBoundingClientRect().width > 0")
    walls = rosa.get_by_test_id("face-grid")
    expect(walls).to_have_count(1)
    box = point.bounding_box()
    assert box
    rosa.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(walls).to_have_count(2)
    expect(walls.first.get_by_test_id("tile")).to_have_count(1)
