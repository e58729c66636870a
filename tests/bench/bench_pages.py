"""Opening a page to its last face or plot drawn, and the server's warm run, on a workspace that is already there.

    python tests/bench/bench_pages.py --workspace DIR --as PERSON [--wall | --views]

JSON on stdout, milliseconds. `wall` is from the click (or Enter) to the new faces painted: a page turned, a jump to any page, a filter chosen that was
not cached; with the machine's load before it, as other work makes all of it slower. `open` is a full load of the page's address with a warm browser cache; `switch` is a click in the navigation.
`views` is from the click on a view of Explore, or the filter chosen in it, to the last frame in which the page changed: `first` on a server that has
read nothing of it, `again` when it has, `filter` for a class nobody has asked for. `server` is the script run alone (AppTest in this process), after one run that fills the caches.
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "browser"))
from browser_harness import CHROMIUM, CHROMIUM_ARGS, INIT_SCRIPT, ROOT, Server, settled

DRAWN = {"Explore": "deep('[data-testid=\"face-grid\"]')?.children.length >= 60", "Versions": "document.querySelectorAll('.main-svg .point').length > 6",
         "Results": "deep('[data-testid^=\"cell-\"]')", "Bias": "document.querySelectorAll('.main-svg .point').length > 1"}
# A promise of the time from the next act to the frame after the one in which other faces stood in the wall.
PAINTED = """
window.faces = () => [...(deep('[data-testid="face-grid"]')?.querySelectorAll('[data-sample-id]') ?? [])].map(t => t.dataset.sampleId).join()
window.painted = () => { const before = faces(); let start; return new Promise(done => {
  for (const kind of ["pointerdown", "keydown"]) addEventListener(kind, e => { if (!e.key || e.key === "Enter") start ??= performance.now() }, true)
  const look = () => requestAnimationFrame(start && faces() && faces() !== before ? () => done(performance.now() - start) : look)
  look() }) }
"""

# What stands at the end of each view of Explore.
ENDS = {"Distribution": ".st-key-distribution .main-svg .point", "Samples": ".st-key-all-neutral", "Pixel values": ".st-key-pixel_values .main-svg .point",
        "Mean faces": ".st-key-csv-mean_faces", "Box plots": ".st-key-boxes .main-svg .point", "Votes": ".st-key-vote_entropy .main-svg .point",
        "Duplicates": ".st-key-csv-exact_duplicate", "Funnel": ".st-key-funnel .main-svg .point", "Faces": ".st-key-grid"}
# A promise of the time from the next click or Enter to the last frame in which the page changed, once its end stands and it was still for half a second.
SETTLED = """
window.settled = end => { let start, last; return new Promise(done => {
  for (const kind of ["pointerdown", "keydown"]) addEventListener(kind, e => { if (!e.key || e.key === "Enter") start ??= last = performance.now() }, true)
  new MutationObserver(() => { last = performance.now() }).observe(document.body, {subtree: true, childList: true, characterData: true})
  const look = () => {
    const busy = !document.querySelector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    if (start && busy) last = performance.now()
    if (last > start && !busy && document.querySelector(end) && performance.now() - last > 500) done(last - start); else requestAnimationFrame(look)
  }
  look() }) }
"""


def views(page: Page, url: str) -> dict[str, object]:
    def timed(act: Callable[[], None], end: str) -> int:
        settled(page)
        page.wait_for_timeout(300)
        page.evaluate("end => { window.pending = settled(end) }", end)
        act()
        return round(page.evaluate("pending"))

    def narrow(value: str) -> None:
        field = page.get_by_test_id("stMultiSelect").filter(has_text="Given label").locator("input")
        field.fill(value)
        field.press("Enter")
        field.press("Escape")

    def clear() -> None:
        page.get_by_test_id("stMultiSelect").filter(has_text="Given label").get_by_role("button", name="Clear all").click()

    page.goto(f"{url}/explore")
    page.wait_for_function("deep('[data-testid=\"tile\"]')")
    out: dict[str, object] = {"load": round(os.getloadavg()[0], 1)}
    tab = {name: page.get_by_test_id("stButtonGroup").get_by_role("radio", name=name, exact=True) for name in ENDS}
    first = {name: timed(tab[name].click, end) for name, end in ENDS.items()}
    again = {name: timed(tab[name].click, end) for name, end in ENDS.items()}
    for name, end in ENDS.items():
        timed(tab[name].click, end)
        narrowed = timed(lambda: narrow("Neutral"), end)
        timed(clear, end)
        out[name] = {"first": first[name], "again": again[name], "filter": narrowed}
    return out


def wall(page: Page, url: str, turns: int) -> dict[str, object]:
    page.goto(f"{url}/explore")
    page.wait_for_function("faces()")
    box = page.get_by_label("Page, 1 to")
    last = int(box.get_attribute("max") or 1)
    places = random.Random(1).sample(range(3, last), turns)

    def timed(act: Callable[[], None]) -> float:
        settled(page)
        page.wait_for_timeout(300)
        page.evaluate("void (window.pending = painted())")
        act()
        return float(page.evaluate("pending"))

    def jump(place: int) -> None:
        box.fill(str(place))
        box.press("Enter")

    def choose(value: str) -> float:
        field = page.get_by_test_id("stMultiSelect").filter(has_text="Given label").locator("input")
        field.fill(value)
        took = timed(lambda: field.press("Enter"))
        field.press("Escape")
        return took

    load = round(os.getloadavg()[0], 1)
    turned = [timed(page.get_by_role("button", name="Next page").click) for _ in range(turns)]
    jumped = [timed(lambda place=place: jump(place)) for place in places]  # type: ignore[misc]
    chosen = [choose(value) for value in ("Happy", "Sad", "Fear", "Angry", "Neutral", "Surprise")]
    return {"load": load, **{name: {"p50": round(statistics.median(t)), "p95": round(statistics.quantiles(t, n=20, method="inclusive")[-1])}
                             for name, t in (("turn", turned), ("jump", jumped), ("filter", chosen))}}


def server_runs(workspace: Path, person: str, turns: int = 5) -> dict[str, float]:
    os.environ["FERCORE_WORKSPACE"] = str(workspace)
    from streamlit.testing.v1 import AppTest

    at = AppTest.from_file(str(ROOT / "dashboard/app.py"), default_timeout=120).run()
    at.button(key=f"profile-{person}").click().run()
    out = {}
    for name in DRAWN:
        at.switch_page(f"app_pages/{name.lower()}.py").run()
        times = []
        for _ in range(turns):
            start = time.perf_counter()
            at.run()
            times.append((time.perf_counter() - start) * 1000)
        assert not at.exception
        out[name] = round(statistics.median(times), 1)
    from dashboard import cache

    cache.store().close()
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--as", dest="person", required=True)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--wall", action="store_true", help="the wall of Explore only")
    parser.add_argument("--views", action="store_true", help="the views of Explore only")
    args = parser.parse_args()
    some = args.wall or args.views
    result: dict[str, object] = {} if some else {"server": server_runs(args.workspace, args.person)}
    with (tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright,
          Server(ROOT / "dashboard/app.py", Path(folder) / "log.txt", env={"FERCORE_WORKSPACE": str(args.workspace)}) as server):
        context = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS).new_context(viewport={"width": 1280, "height": 720})
        context.add_init_script(INIT_SCRIPT + PAINTED + SETTLED)
        context.add_cookies([{"name": "fercore_profile", "value": args.person, "url": server.url}])
        page = context.new_page()
        if args.views:
            result["views"] = views(page, server.url)
        if not args.views:
            result["wall"] = wall(page, server.url, args.turns)
        for name, drawn in DRAWN.items() if not some else ():
            opened, switched = [], []
            for _ in range(args.turns + 1):
                start = time.perf_counter()
                page.goto(f"{server.url}/{name.lower()}", wait_until="commit")
                page.wait_for_function(drawn, timeout=60_000, polling="raf")
                opened.append((time.perf_counter() - start) * 1000)
                page.get_by_test_id("stSidebarNav").get_by_role("link", name="Import", exact=True).click()
                page.get_by_role("heading", name="Import", exact=True).wait_for()
                settled(page)
                start = time.perf_counter()
                page.get_by_test_id("stSidebarNav").get_by_role("link", name=name, exact=True).click()
                page.wait_for_function(drawn, timeout=60_000, polling="raf")
                switched.append((time.perf_counter() - start) * 1000)
            result[name] = {"open_cold": round(opened[0]), "open": round(statistics.median(opened[1:])), "open_max": round(max(opened[1:])),
                            "switch": round(statistics.median(switched[1:]))}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
