"""Key press to painted face, and click to painted wall, behind a slow network (80 ms round trip) with slow server runs (0.3 s).

    python tests/bench/bench_label.py                                        # the components in the test app
    python tests/bench/bench_label.py --workspace DIR --as PERSON            # the Label page itself: WRITES LABELS into the workspace

JSON on stdout, all times in milliseconds; exit status 1 when p95 is over the limit or a label is not in the store exactly once, for the
face that was on screen.
"""

import argparse
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, TimeoutError, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "browser"))
from browser_harness import CHROMIUM, CHROMIUM_ARGS, INIT_SCRIPT, ROOT, DelayProxy, Server

from fercore.domain import Workspace
from fercore.store import Store

KEYS = ("Digit1", "Digit2", "Digit3", "Digit4", "Digit5", "Digit6", "Digit7")


def figures(ms: list[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(ms, [50, 95, 99])
    return {"n": len(ms), "p50": round(p50, 1), "p95": round(p95, 1), "p99": round(p99, 1), "max": round(max(ms), 1)}


def label(page: Page, url: str, presses: int, rate: float) -> dict[str, object]:
    opened = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.wait_for_function("window.grid && grid()?.dataset.imageId", timeout=60_000)
    opened = 1000 * (time.perf_counter() - opened)
    page.reload(wait_until="commit")  # with a warm cache of the browser, as on any later day
    again = time.perf_counter()
    page.wait_for_function("window.grid && grid()?.dataset.imageId", timeout=60_000)
    again = 1000 * (time.perf_counter() - again)
    page.evaluate("window.__fercorePaint = []")
    for i in range(presses):
        page.wait_for_timeout(1000 / rate)
        page.keyboard.press(KEYS[i % len(KEYS)])
    try:
        page.wait_for_function("grid().dataset.saved === grid().dataset.made", timeout=60_000)
    except TimeoutError as error:
        state = page.evaluate("({...grid().dataset, page: document.body.innerText.slice(0, 500)})")
        raise RuntimeError(f"answers were not saved within a minute: {state}") from error
    seen = {image for _, image in page.evaluate("pressed")}
    counts = page.evaluate("(({made, saved, stalls, batch}) => ({made: +made, saved: +saved, stalls: +stalls, batches: +batch}))(grid().dataset)")
    painted = figures(page.evaluate("__fercorePaint.map(p => p.ms)"))
    return {"first_face_first_visit": round(opened), "first_face_later": round(again), "keydown_to_painted": painted, "pressed": presses,
            "painted_images": len(seen), **counts}


def wall(page: Page, url: str, turns: int = 20) -> dict[str, float]:
    """Click on "Next faces" to 60 new tiles on screen, server and network included."""
    page.goto(f"{url}/?page=wall&faces=60")
    page.wait_for_function("deep('[data-testid=\"face-grid\"]')?.children.length === 60", timeout=60_000)
    times = []
    for _ in range(turns):
        page.wait_for_timeout(300)
        times.append(page.evaluate("""async () => {
          const wall = deep('[data-testid="face-grid"]'), old = wall.firstElementChild.dataset.sampleId
          const button = [...document.querySelectorAll('button')].find(b => b.textContent.includes('Next faces'))
          const frame = () => new Promise(requestAnimationFrame), start = performance.now()
          button.click()
          while (wall.firstElementChild.dataset.sampleId === old) await frame()
          await frame(); await frame()
          return performance.now() - start }"""))
    return figures(times)


def stored(workspace: Path, person: str) -> list[str]:
    """The images this person's events are on, in the order they were made."""
    with Store(Workspace(workspace)) as store:
        return [i for i, in store.rows("SELECT image_id FROM facts.label_event WHERE person_id = $p ORDER BY seq", {"p": person})]


def main() -> int:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--workspace", type=Path, help="a workspace whose Label page is measured; without it the test app is")
    ask.add_argument("--as", dest="person", default="", help="whose profile labels in --workspace")
    ask.add_argument("--presses", type=int, default=300)
    ask.add_argument("--rate", type=float, default=3.0, help="presses a second")
    ask.add_argument("--run-seconds", type=float, default=0.3, help="server work in each run of the test app")
    ask.add_argument("--delay", type=float, default=0.04, help="seconds that the network takes each way")
    ask.add_argument("--limit", type=float, default=50.0, help="highest p95 allowed, ms")
    args = ask.parse_args()
    if CHROMIUM is None:
        sys.exit("No Chromium found: install chromium, chromium-browser or google-chrome")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        browser = stack.enter_context(sync_playwright()).chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
        stack.callback(browser.close)
        context = browser.new_context(viewport={"width": 1280, "height": 720})
        context.add_init_script(INIT_SCRIPT)
        page = context.new_page()
        if args.workspace:
            before = stored(args.workspace, args.person)
            with Server(ROOT / "dashboard/app.py", folder / "log.txt", env={"FERCORE_WORKSPACE": str(args.workspace)}) as server:
                proxy = DelayProxy(server.url, args.delay)
                stack.callback(proxy.close)
                context.add_cookies([{"name": "fercore_profile", "value": args.person, "url": proxy.url}])
                result = label(page, f"{proxy.url}/label", args.presses, args.rate)
                on_screen = [image for _, image in page.evaluate("pressed")]
            result["stored_once_for_the_face_on_screen"] = stored(args.workspace, args.person)[len(before):] == on_screen
        else:
            server = stack.enter_context(Server(ROOT / "tests/browser/component_app.py", folder / "log.txt", env={"COMPONENT_STORE": str(folder)}))
            proxy = DelayProxy(server.url, args.delay)
            stack.callback(proxy.close)
            query = f"/?queue=bench&delay={args.run_seconds}&faces={args.presses + 200}&batch=160"
            result = label(page, proxy.url + query, args.presses, args.rate)
            result["wall_60_click_to_painted"] = wall(page, proxy.url)
            result["wall_60_click_to_painted_no_delay"] = wall(page, server.url)
    print(json.dumps(result, indent=2))
    timing = result["keydown_to_painted"]
    assert isinstance(timing, dict)
    return int(timing["p95"] > args.limit or result["saved"] != result["pressed"] or not result.get("stored_once_for_the_face_on_screen", True))


if __name__ == "__main__":
    sys.exit(main())
