"""Explore in Chromium: filter, turn and jump, click marks, and send the address to somebody else."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from browser_harness import ROOT, Server, settled
from helpers import fer_line, some_faces, write_fer
from playwright.sync_api import Page, WebSocketRoute, expect

from fercore import ingest, people
from fercore.domain import Role, Workspace
from fercore.store import Store

N = 400


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, serve: Callable[..., Server]) -> str:
    """A server over 400 faces, i % 7 their class, the last 100 in PublicTest."""
    folder = tmp_path_factory.mktemp("explore")
    with Store(Workspace(folder / "ws")) as store:
        lead = people.add(store, "Dana", Role.DATA_LEAD)
        ingest.import_fer2013(store, lead, write_fer(folder / "f.csv", [
            fer_line(i % 7, f, "Training" if i < N - 100 else "PublicTest") for i, f in enumerate(some_faces(N))]))
    return serve(ROOT / "dashboard/app.py", env={"FERCORE_WORKSPACE": str(folder / "ws")}).url


@pytest.fixture
def explore(page: Page, url: str) -> Page:
    page.context.add_cookies([{"name": "fercore_profile", "value": "dana", "url": url}])
    page.goto(f"{url}/explore")
    expect(page.get_by_test_id("tile")).to_have_count(60)
    return page


def tiles(page: Page) -> list[str]:
    return [str(t) for t in page.get_by_test_id("tile").evaluate_all("ts => ts.map(t => t.dataset.sampleId)")]


def click_bar(page: Page, trace: int, bar: int) -> None:
    page.locator(".js-plotly-plot .barlayer .trace").nth(trace).locator(".point").nth(bar).click(force=True)


def test_filter_turn_jump_and_reload(explore: Page) -> None:
    first = tiles(explore)
    explore.get_by_role("button", name="Next page").click()
    expect(explore.get_by_text(f"page 2 of 7, {N} faces")).to_be_visible()
    expect(explore.get_by_test_id("tile").first).not_to_have_attribute("data-sample-id", first[0])
    second = tiles(explore)
    assert len(second) == 60 and not set(first) & set(second)
    box = explore.get_by_label("Page, 1 to 7")
    box.fill("7")
    box.press("Enter")
    expect(explore.get_by_test_id("tile")).to_have_count(N - 360)
    last = tiles(explore)
    expect(explore).to_have_url(re.compile("page=7"))
    explore.get_by_test_id("tile").first.press("PageUp")
    expect(explore.get_by_text("page 6 of 7")).to_be_visible()
    expect(explore.get_by_test_id("tile")).to_have_count(60)
    explore.get_by_role("button", name="Next page").click()  # a page that the browser holds
    expect(explore.get_by_test_id("tile")).to_have_count(N - 360)
    assert tiles(explore) == last
    expect(explore).to_have_url(re.compile("page=7"))
    explore.reload()
    expect(explore.get_by_text("page 7 of 7")).to_be_visible()
    expect(explore.get_by_test_id("tile")).to_have_count(N - 360)
    assert tiles(explore) == last

    field = explore.get_by_test_id("stMultiSelect").filter(has_text="Given label").locator("input")
    field.fill("Happy")
    field.press("Enter")
    expect(explore.get_by_text("page 1 of 1, 57 faces")).to_be_visible()  # the seventh page is gone: back to the first
    expect(explore.get_by_test_id("tile")).to_have_count(57)


def test_pages_that_arrive_leave_a_number_being_typed_alone(page: Page, url: str) -> None:
    held: list[str | bytes] | None = None

    def between(browser: WebSocketRoute) -> None:
        server = browser.connect_to_server()
        server.on_message(lambda message: browser.send(message) if held is None else held.append(message))
        sockets.append(browser)

    sockets: list[WebSocketRoute] = []
    page.route_web_socket(re.compile("_stcore/stream"), between)
    page.context.add_cookies([{"name": "fercore_profile", "value": "dana", "url": url}])
    page.goto(f"{url}/explore")
    expect(page.get_by_test_id("tile")).to_have_count(60)
    box = page.get_by_label("Page, 1 to 7")
    held = []
    box.fill("5")
    box.press("Enter")  # asks for page 5
    expect(page.get_by_text("page 5 of 7")).to_be_visible()
    box.fill("7")
    while not held:
        page.wait_for_timeout(50)
    late, held = held, None
    for message in late:
        sockets[-1].send(message)
    expect(page.get_by_test_id("face-grid")).to_have_attribute("aria-busy", "false")  # page 5 is here
    box.press("Enter")
    expect(page.get_by_text("page 7 of 7")).to_be_visible()
    expect(page.get_by_test_id("tile")).to_have_count(N - 360)


def test_a_clicked_bar_is_in_the_address_and_opens_again(explore: Page) -> None:
    explore.get_by_role("radio", name="Distribution").click()
    expect(explore.locator(".js-plotly-plot .barlayer .point")).to_have_count(14)
    click_bar(explore, 0, 3)
    expect(explore.get_by_text("Happy, Training: 43 faces")).to_be_visible()
    expect(explore.get_by_test_id("tile")).to_have_count(43)
    opened = tiles(explore)
    assert re.search(r"open=happy&open=Training", explore.url)
    explore.get_by_role("button", name="Link").click()
    link = explore.get_by_test_id("stCode").inner_text().strip()
    explore.goto("about:blank")
    explore.goto(link)
    expect(explore.get_by_text("Happy, Training: 43 faces")).to_be_visible()
    expect(explore.get_by_test_id("tile")).to_have_count(43)
    assert tiles(explore) == opened
    click_bar(explore, 1, 3)
    expect(explore.get_by_text("Happy, PublicTest: 14 faces")).to_be_visible()
    explore.get_by_role("button", name="Close").click()
    expect(explore.get_by_test_id("tile")).to_have_count(0)
    assert "open=" not in explore.url


def test_boxes_bins_and_mean_faces_open_faces(explore: Page) -> None:
    explore.get_by_role("radio", name="Box plots").click()
    click_bar(explore, 0, 0)
    expect(explore.get_by_text(re.compile("Angry, mean pixel value from"))).to_be_visible()
    assert re.search("open=angry&open=box", explore.url)
    explore.get_by_role("radio", name="Mean faces").click()
    expect(explore.get_by_test_id("tile")).to_have_count(7)
    assert "open=" not in explore.url
    explore.get_by_test_id("tile").nth(1).click()
    expect(explore.get_by_text("Disgust: 57 faces")).to_be_visible()


@pytest.mark.parametrize("kind", ["PNG", "SVG"])
def test_a_plot_is_saved_as_a_picture_and_its_data_as_csv(explore: Page, kind: str, tmp_path: Path) -> None:
    explore.get_by_role("radio", name="Distribution").click()
    explore.get_by_role("radio", name=kind).click()
    expect(explore.get_by_role("radio", name=kind)).to_be_checked()
    settled(explore)
    explore.locator(".js-plotly-plot").hover()
    with explore.expect_download() as saved:
        explore.locator(".modebar-btn").first.click()
    assert saved.value.suggested_filename == f"distribution.{kind.lower()}"
    head = Path(saved.value.path()).read_bytes()[:8]
    assert head.startswith(b"\x89PNG" if kind == "PNG" else b"<svg")
    with explore.expect_download() as saved:
        explore.get_by_role("button", name="Data as CSV").click()
    rows = Path(saved.value.path()).read_text().splitlines()
    assert rows[0] == "label,source_split,n" and sum(int(r.split(",")[2]) for r in rows[1:]) == N
