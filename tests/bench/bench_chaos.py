"""2,000 presses at 5 a second behind a slow network while everything breaks: random disconnects of 2 s, one kill -9 of the server, one reload
of the tab right after a press, one tab closed right after a press and opened again.

    python tests/bench/bench_chaos.py [--presses 2000] [--rate 5]

JSON on stdout; exit status 1 when a stored label is for a face that was not on screen at its press, has another value, is doubled or is lost.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Error, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "browser"))
from bench_events import fill
from browser_harness import CHROMIUM, CHROMIUM_ARGS, INIT_SCRIPT, ROOT, DelayProxy, Server

from fercore.domain import Person, Role, Workspace
from fercore.store import Store, labels
from fercore.store import people as people_table

KEYS = {"KeyA": "angry", "KeyJ": "happy", "KeyK": "surprise", "KeyL": "neutral", "KeyS": "sad"}


class Tab:
    """The page as a person uses it: counts what was pressed over all its lives."""

    def __init__(self, context: Any, url: str) -> None:
        self.context, self.url = context, url
        self.pressed: list[tuple[str, str]] = []
        self.made = 0
        self.paints: list[float] = []
        self.open()

    def open(self) -> None:
        self.page: Page = self.context.new_page()
        self.load()

    def load(self) -> None:
        """Opens the address, again when the network is down at this moment, as a person would."""
        while True:
            try:
                self.page.goto(self.url)
                break
            except Error:
                self.page.wait_for_timeout(500)
        self.ready()

    def ready(self) -> None:
        self.page.wait_for_function("grid()?.dataset.imageId", timeout=60_000)
        self.page.evaluate("window.__fercorePaint = []")

    def note(self) -> None:
        """Takes over what this life of the page counted. `made` includes the journal of the life before, which is counted there."""
        self.pressed += [(code, image) for code, image in self.page.evaluate("pressed") if code in KEYS]
        self.made += self.page.evaluate("+grid().dataset.made - (window.__inherited ?? 0)")
        self.paints += self.page.evaluate("__fercorePaint.map(p => p.ms)")

    def reopen(self, how: str) -> None:
        """Leaves right after a press, with answers that are not saved yet."""
        self.page.keyboard.press("KeyJ")
        self.note()
        left = self.page.evaluate("+grid().dataset.made - +grid().dataset.saved")
        if how == "reload":
            self.load()
        else:
            self.page.close()
            self.open()
        self.page.evaluate(f"window.__inherited = {left}")


def main() -> int:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--presses", type=int, default=2000)
    ask.add_argument("--rate", type=float, default=5.0)
    ask.add_argument("--seed", type=int, default=0)
    args = ask.parse_args()
    rng = random.Random(args.seed)
    cuts = sorted(rng.sample(range(20, args.presses), max(args.presses // 100, 1)))
    kill, reload, close = args.presses // 4, args.presses // 2, 3 * args.presses // 4
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        workspace = Workspace(folder / "ws")
        with Store(workspace) as store:
            fill(store, 6000, 0)
            people_table.add(store, Person("ann", "Ann", Role.ANNOTATOR))
        environment = {"FERCORE_WORKSPACE": str(workspace.root)}
        server = Server(ROOT / "dashboard/app.py", folder / "log.txt", env=environment)
        stack.callback(lambda: server.close())
        proxy = DelayProxy(server.url, 0.04)
        stack.callback(proxy.close)
        browser = stack.enter_context(sync_playwright()).chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
        context = browser.new_context(viewport={"width": 1280, "height": 720})
        context.add_init_script(INIT_SCRIPT)
        context.add_cookies([{"name": "fercore_profile", "value": "ann", "url": proxy.url}])
        tab = Tab(context, f"{proxy.url}/label")
        codes = list(KEYS)
        for n in range(args.presses):
            tab.page.wait_for_timeout(1000 / args.rate)
            tab.page.keyboard.press(codes[n % len(codes)])
            if n in cuts:
                proxy.cut(2)
            if n == kill:
                os.kill(server.process.pid, signal.SIGKILL)
                server.process.wait(timeout=10)
                server = Server(ROOT / "dashboard/app.py", folder / "log2.txt", env=environment, port=server.port)
            if n in (reload, close):
                tab.reopen("reload" if n == reload else "close")
        tab.page.wait_for_function("+grid().dataset.saved === +grid().dataset.made", timeout=120_000)
        stalls = tab.page.evaluate("+grid().dataset.stalls")
        tab.note()
        browser.close()
        server.close()
        with Store(workspace) as store:
            stored = store.rows("SELECT image_id, value FROM facts.label_event WHERE op = 'set' ORDER BY event_id")
            sound = labels.broken_block(store) is None and labels.standing_differences(store) == 0
    on_screen = {(image, KEYS[code]) for code, image in tab.pressed}
    faces = {image for _, image in tab.pressed}
    p50, p95, p99 = np.percentile(tab.paints, [50, 95, 99])
    result = {"presses": len(tab.pressed), "presses_that_met_no_face_or_came_too_early": len(tab.pressed) - tab.made, "labels_made": tab.made,
              "stored": len(stored), "wrong": sum((i, v) not in on_screen for i, v in stored), "unseen": sum(i not in faces for i, _ in stored),
              "lost": tab.made - len(stored), "doubled": len(stored) - len({i for i, _ in stored}), "disconnects": len(cuts), "kills": 1, "reloads": 1,
              "tabs_closed": 1, "chain_and_projection_sound": sound, "presses_that_waited_for_a_block": stalls,
              "keydown_to_painted_ms": {"p50": round(p50, 1), "p95": round(p95, 1), "p99": round(p99, 1)}}
    print(json.dumps(result, indent=2))
    return int(any(result[k] for k in ("wrong", "unseen", "lost", "doubled")) or not sound)


if __name__ == "__main__":
    sys.exit(main())
