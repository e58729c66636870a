"""Opening a page to its last face or plot drawn, and the server's warm run, on a workspace that is already there.

    python tests/bench/bench_pages.py --workspace DIR --as PERSON

JSON on stdout, milliseconds. `open` is a full load of the page's address with a warm browser cache; `switch` is a click in the navigation.
`server` is the script run alone (AppTest in this process), after one run that fills the caches.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "browser"))
from browser_harness import CHROMIUM, CHROMIUM_ARGS, INIT_SCRIPT, ROOT, Server

DRAWN = {"Explore": "deep('[data-testid=\"face-grid\"]')?.children.length >= 60", "Versions": "document.querySelectorAll('.main-svg .point').length > 6",
         "Results": "deep('[data-testid^=\"cell-\"]')", "Bias": "document.querySelectorAll('.main-svg .point').length > 1"}


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
    args = parser.parse_args()
    result: dict[str, object] = {"server": server_runs(args.workspace, args.person)}
    with (tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright,
          Server(ROOT / "dashboard/app.py", Path(folder) / "log.txt", env={"FERCORE_WORKSPACE": str(args.workspace)}) as server):
        context = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS).new_context(viewport={"width": 1280, "height": 720})
        context.add_init_script(INIT_SCRIPT)
        context.add_cookies([{"name": "fercore_profile", "value": args.person, "url": server.url}])
        page = context.new_page()
        for name, drawn in DRAWN.items():
            opened, switched = [], []
            for _ in range(args.turns + 1):
                start = time.perf_counter()
                page.goto(f"{server.url}/{name.lower()}", wait_until="commit")
                page.wait_for_function(drawn, timeout=60_000, polling="raf")
                opened.append((time.perf_counter() - start) * 1000)
                page.get_by_test_id("stSidebarNav").get_by_role("link", name="Import", exact=True).click()
                page.get_by_role("heading", name="Import", exact=True).wait_for()
                page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
                start = time.perf_counter()
                page.get_by_test_id("stSidebarNav").get_by_role("link", name=name, exact=True).click()
                page.wait_for_function(drawn, timeout=60_000, polling="raf")
                switched.append((time.perf_counter() - start) * 1000)
            result[name] = {"open_cold": round(opened[0]), "open": round(statistics.median(opened[1:])), "open_max": round(max(opened[1:])),
                            "switch": round(statistics.median(switched[1:]))}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
