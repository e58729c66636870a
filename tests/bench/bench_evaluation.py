"""Evaluation of 32,298 predictions, and in a browser the pages of reviewers cold and the drill-down, on a workspace that is already there.

    python tests/bench/bench_evaluation.py [--workspace DIR --as PERSON --run RUN]

JSON on stdout. `evaluation`: seconds of this process's processor time and, in brackets, on the clock (medians of five, predictions drawn).
Milliseconds of `page`: `cold` is the first load of the address of Results in a browser that has seen no table or matrix, on a server that has read
nothing, to the matrix drawn; `open` later ones; `cell` from the click on a cell of the matrix to its faces painted (median and worst of the cells of
one row). Then for each page, in milliseconds, a click in the navigation on a server that has read nothing, and once more; a first plot in a new
browser takes about a second of its own. The load of the machine stands first, as other work makes all of it slower.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

sys.path[:0] = [str(Path(__file__).parents[1] / "browser"), str(Path(__file__).parents[2])]
from browser_harness import CHROMIUM, CHROMIUM_ARGS, INIT_SCRIPT, ROOT, Server, settled

from fercore import evaluation
from fercore.evaluation.ceiling import of_votes
from tests.core.prediction_frames import CLASSES, faces

N = 32_298
PAINTED = """
window.wall = () => [...(deep('[data-testid="face-grid"]')?.querySelectorAll('[data-sample-id]') ?? [])].map(t => t.dataset.sampleId).join()
window.opened = () => { const before = wall(); let start; return new Promise(done => {
  addEventListener("pointerdown", () => { start ??= performance.now() }, true)
  const look = () => requestAnimationFrame(start && wall() && wall() !== before ? () => done(performance.now() - start) : look)
  look() }) }
"""


def computed() -> dict[str, str]:
    frame = faces(N, copies=0.05)
    other = faces(N, seed=1, copies=0.05).assign(sample_id=frame["sample_id"], label=frame["label"])
    other = other.assign(correct=other["label"] == other["predicted"])
    votes = np.random.default_rng(0).integers(0, 4, (N, len(CLASSES)))
    acts = {"metrics, classes, calibration and matrix": lambda: (evaluation.summary(frame, CLASSES), evaluation.per_class(frame, CLASSES),
                                                                evaluation.calibration(frame), evaluation.confusion(frame, CLASSES)),
            "k-fold table": lambda: evaluation.kfold_table(frame, CLASSES),
            "comparison of two runs": lambda: evaluation.compare({"a": frame, "b": other}),
            "ceiling": lambda: of_votes(votes + 1, np.zeros(N, int), np.arange(N))}
    out = {}
    for name, act in acts.items():
        act()
        times = []
        for _ in range(5):
            start, busy = time.perf_counter(), time.process_time()
            act()
            times.append((time.process_time() - busy, time.perf_counter() - start))
        processor, clock = (statistics.median(t) for t in zip(*times, strict=True))
        out[name] = f"{processor:.3f} ({clock:.3f})"
    return out


def paged(workspace: Path, person: str, run: str) -> dict[str, object]:
    with (tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright,
          Server(ROOT / "dashboard/app.py", Path(folder) / "log.txt", env={"FERCORE_WORKSPACE": str(workspace)}) as server):
        context = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS).new_context(viewport={"width": 1280, "height": 720})
        context.add_init_script(INIT_SCRIPT + PAINTED)
        context.add_cookies([{"name": "fercore_profile", "value": person, "url": server.url}])
        page = context.new_page()
        page.goto(f"{server.url}/models")  # the browser and the server's modules are warm; no run has been read
        page.get_by_role("heading", name="Models", exact=True).wait_for()
        loads = []
        for _ in range(6):
            start = time.perf_counter()
            page.goto(f"{server.url}/results?run={run}", wait_until="commit")
            page.wait_for_function("deep('[data-testid^=\"cell-\"]')", timeout=60_000, polling="raf")
            loads.append((time.perf_counter() - start) * 1000)
        cells = []
        for predicted in CLASSES:
            cell = page.get_by_test_id(f"cell-happy-{predicted}")
            if cell.is_disabled():
                continue
            settled(page)
            page.wait_for_timeout(300)
            page.evaluate("void (window.pending = opened())")
            cell.click()
            cells.append(float(page.evaluate("pending")))
    return {"cold": round(loads[0]), "open": round(statistics.median(loads[1:])), "cell": round(statistics.median(cells)), "cell_max": round(max(cells))}


# What stands at the end of each page that reviewers read.
ENDS = {"Results": "deep('[data-testid^=\"cell-\"]')", "Bias": "document.querySelectorAll('.main-svg .point').length > 1",
        "Look closer": "deep('[data-testid=\"face-grid\"]')?.children.length >= 24", "Leaks and test sets": "document.querySelector('[data-testid=stDataFrame]')",
        "Compare": "document.body.innerText.includes('Choose two finished runs')", "Suspect labels": "document.body.innerText.includes('labels')",
        "Studies": "document.querySelector('[data-testid=stMain] [data-testid=stMarkdown], [data-testid=stMain] [data-testid=stAlert]')"}


def cold(workspace: Path, person: str) -> dict[str, str]:
    """From the click in the navigation to the end of the page drawn and its script over: on a server that has read nothing, and once more."""
    out = {}
    for name, end in ENDS.items():
        with (tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright,
              Server(ROOT / "dashboard/app.py", Path(folder) / "log.txt", env={"FERCORE_WORKSPACE": str(workspace)}) as server):
            context = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS).new_context(viewport={"width": 1280, "height": 720})
            context.add_init_script(INIT_SCRIPT)
            context.add_cookies([{"name": "fercore_profile", "value": person, "url": server.url}])
            page = context.new_page()
            page.goto(server.url)
            times = []
            for _ in range(2):
                page.get_by_test_id("stSidebarNav").get_by_role("link", name="Models", exact=True).click()
                page.get_by_role("heading", name="Models", exact=True).wait_for()
                settled(page)
                page.wait_for_timeout(500)
                start = time.perf_counter()
                page.get_by_test_id("stSidebarNav").get_by_role("link", name=name, exact=True).click()
                page.get_by_role("heading", name=name, exact=True).wait_for()
                page.wait_for_function(end, timeout=60_000, polling="raf")
                settled(page)
                times.append((time.perf_counter() - start) * 1000)
        out[name] = f"{times[0]:.0f}, {times[1]:.0f}"
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--as", dest="person")
    parser.add_argument("--run")
    args = parser.parse_args()
    result: dict[str, object] = {"load": round(os.getloadavg()[0], 1), "evaluation": computed()}
    if args.workspace:
        result["page"] = paged(args.workspace, args.person, args.run)
        result["first and second opening by the navigation"] = cold(args.workspace, args.person)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
