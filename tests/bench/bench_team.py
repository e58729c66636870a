"""25 annotators at once on one server: simulated ones speak the page's own WebSocket protocol, one is a real browser.

    python tests/bench/bench_team.py [--people 25] [--rate 1.5] [--seconds 300] [--faces 32000] [--no-browser]

A simulated annotator does what the labeling component does: it holds a lease, makes an event a press, sends what is not acknowledged every two
seconds, one report at a time. JSON on stdout, times in milliseconds; exit status 1 when the 95th percentile of report sent -> acknowledgement
read is over the limit, an event is not stored exactly once, two people held one slot of a face, or the server reported an error.
"""

import argparse
import asyncio
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from uuid_utils import uuid7
from websockets.asyncio.client import connect

sys.path.insert(0, str(Path(__file__).parents[1] / "browser"))
from bench_events import fill
from browser_harness import CHROMIUM, CHROMIUM_ARGS, INIT_SCRIPT, ROOT, Server

from fercore.domain import Person, Role, Workspace
from fercore.store import Store, labels
from fercore.store import campaigns as campaign_table
from fercore.store import people as people_table

FLUSH = 2.0  # seconds, as the component


class Annotator:
    """One simulated browser tab."""

    def __init__(self, server: Server, person: str, rate: float, seconds: float) -> None:
        self.server, self.person, self.rate, self.seconds = server, person, rate, seconds
        self.client = str(uuid7())
        self.pending: dict[str, dict[str, Any]] = {}
        self.faces: list[tuple[str, str]] = []
        self.want: int | None = 1
        self.number = 0
        self.made = self.stalls = 0
        self.exhausted = False
        self.waits: list[float] = []
        self.opened = 0.0
        self.problems: list[str] = []

    async def run(self) -> None:
        began = time.perf_counter()
        async with connect(f"ws://127.0.0.1:{self.server.port}/_stcore/stream", subprotocols=["streamlit"], max_size=None,  # type: ignore[list-item]
                           additional_headers={"Cookie": f"fercore_profile={self.person}"}) as self.socket:
            message = BackMsg()
            message.rerun_script.query_string, message.rerun_script.page_name = "campaign=expression", "label"
            await self.socket.send(message.SerializeToString())
            self.widget = self.fragment = self.page = self.journal = ""
            await self.answer()
            await self.report()
            self.opened = time.perf_counter() - began
            start = time.perf_counter()
            pressing = asyncio.create_task(self.press(start + self.seconds))
            while not pressing.done() or self.pending:
                pause = FLUSH - (time.perf_counter() - start) % FLUSH
                await asyncio.sleep(pause)
                if self.pending or self.want is not None:
                    await self.report()
            await pressing

    async def press(self, until: float) -> None:
        for n in itertools.count():
            due = until - self.seconds + n / self.rate
            if due >= until:
                return
            await asyncio.sleep(max(0, due - time.perf_counter()))
            if not self.faces:
                self.stalls += 1
                continue
            image, lease = self.faces.pop(0)
            now = round(time.time() * 1000)
            event = {"event_id": str(uuid7()), "op": "set", "image_id": image, "field": "expression", "value": ("happy", "sad", "fear")[n % 3],
                     "target": None, "gesture": str(uuid7()), "lead_ms": 600, "shown_at": now - 600, "decided_at": now, "mode": "single", "lease": lease}
            self.pending[event["event_id"]] = event
            self.made += 1
            if self.want is None and len(self.faces) < 80 and not self.exhausted:
                self.want = self.batch + 1

    async def report(self) -> None:
        self.number += 1
        sent = set(self.pending)
        said = {"client": self.client, "journal": self.journal, "number": self.number, "want": self.want, "past": 1 if self.number == 1 else None,
                "keys": None, "events": list(self.pending.values())}
        message = BackMsg()
        message.rerun_script.query_string, message.rerun_script.fragment_id = "campaign=expression", self.fragment
        message.rerun_script.page_script_hash = self.page
        state = message.rerun_script.widget_states.widgets.add()
        state.id, state.json_value = self.widget, json.dumps({"report": said})
        start = time.perf_counter()
        await self.socket.send(message.SerializeToString())
        await self.answer()
        if sent:
            self.waits.append(1000 * (time.perf_counter() - start))
        if left := sent & set(self.pending):
            self.problems.append(f"{len(left)} events not acknowledged")

    async def answer(self) -> None:
        """Reads until the run is finished, and takes in what the component was given."""
        while True:
            message = ForwardMsg()
            message.ParseFromString(await self.socket.recv())  # type: ignore[arg-type]
            kind = message.WhichOneof("type")
            if kind == "new_session" and message.new_session.page_script_hash:
                self.page = message.new_session.page_script_hash
            elif kind == "delta" and message.delta.new_element.WhichOneof("type") == "bidi_component":
                element = message.delta.new_element.bidi_component
                if element.component_name.endswith("fercore_label_grid"):
                    self.widget, self.fragment = element.id, message.delta.fragment_id
                    self.take(json.loads(element.json or element.mixed.json))
            elif kind == "delta" and message.delta.new_element.WhichOneof("type") in ("exception", "alert"):
                self.problems.append(str(message.delta.new_element)[:300])
            elif kind == "script_finished":
                return

    def take(self, data: dict[str, Any]) -> None:
        self.journal = data["journal"]
        for event in data["acked"]:
            self.pending.pop(event, None)
        self.problems += [f"refused: {reason}" for reason in data["refused"].values()]
        if data["batch"] and data["batch"]["number"] == self.want:
            self.batch, self.want = self.want, None
            self.exhausted = not data["batch"]["faces"]
            self.faces += [(f["image_id"], data["batch"]["lease"]) for f in data["batch"]["faces"]]


def browse(url: str, person: str, rate: float, seconds: float) -> dict[str, Any]:
    """The real browser: presses at `rate`, then waits until all is saved. Runs in a process of its own."""
    with sync_playwright() as play:
        context = play.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS).new_context(viewport={"width": 1280, "height": 720})
        context.add_init_script(INIT_SCRIPT)
        context.add_cookies([{"name": "fercore_profile", "value": person, "url": url}])
        page = context.new_page()
        page.goto(f"{url}/label?campaign=expression")
        page.wait_for_function("grid()?.dataset.imageId", timeout=60_000)
        page.evaluate("window.__fercorePaint = []")
        end, presses = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            page.wait_for_timeout(1000 / rate)
            page.keyboard.press("jas"[presses % 3])
            presses += 1
        page.wait_for_function("grid().dataset.saved === grid().dataset.made", timeout=60_000)
        painted = page.evaluate("__fercorePaint.map(p => p.ms)")
        made, stalls = page.evaluate("[+grid().dataset.made, +grid().dataset.stalls]")
        return {"pressed": presses, "made": made, "stalls": stalls, "keydown_to_painted_p95": round(float(np.percentile(painted, 95)), 1)}


async def team(server: Server, names: list[str], rate: float, seconds: float) -> list[Annotator]:
    annotators = [Annotator(server, name, rate, seconds) for name in names]

    async def start(n: int, annotator: Annotator) -> None:
        await asyncio.sleep(n * 0.4)  # people do not come at the same instant
        await annotator.run()

    await asyncio.gather(*(start(n, a) for n, a in enumerate(annotators)))
    return annotators


def main() -> int:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--people", type=int, default=25)
    ask.add_argument("--rate", type=float, default=1.5, help="labels a second and person")
    ask.add_argument("--seconds", type=float, default=300)
    ask.add_argument("--faces", type=int, default=32_000)
    ask.add_argument("--events", type=int, default=0, help="label events that are in the store before")
    ask.add_argument("--limit", type=float, default=500.0, help="highest 95th percentile allowed, ms")
    ask.add_argument("--no-browser", action="store_true")
    ask.add_argument("--browse", nargs=2, help=argparse.SUPPRESS)
    args = ask.parse_args()
    if args.browse:
        print(json.dumps(browse(*args.browse, args.rate, args.seconds)))
        return 0
    names = [f"w{n:02}" for n in range(args.people)]
    with tempfile.TemporaryDirectory() as folder:
        workspace, log = Workspace(Path(folder) / "ws"), Path(folder) / "log.txt"
        with Store(workspace) as store:
            fill(store, args.faces, args.events)
            for name in names:
                people_table.add(store, Person(name, name, Role.ANNOTATOR))
            before = store.value("SELECT count(*) FROM facts.label_event")
        with Server(ROOT / "dashboard/app.py", log, env={"FERCORE_WORKSPACE": str(workspace.root)}) as server:
            real = None if args.no_browser else subprocess.Popen(
                [sys.executable, __file__, "--browse", server.url, names[-1], "--rate", str(args.rate), "--seconds", str(args.seconds)],
                stdout=subprocess.PIPE, text=True)
            simulated = asyncio.run(team(server, names if real is None else names[:-1], args.rate, args.seconds))
            seen = json.loads(real.communicate(timeout=120)[0]) if real else {}
        errors = [line for line in log.read_text(errors="replace").splitlines() if "Traceback" in line or "Error" in line]
        with Store(workspace) as store:
            stored = store.value("SELECT count(*) FROM facts.label_event") - before
            doubled = campaign_table.double_holds(store)
            most = store.value("SELECT max(n) FROM (SELECT count(DISTINCT person_id) AS n FROM standing WHERE campaign_id = 'expression' GROUP BY image_id)")
            whole = labels.broken_block(store) is None and labels.standing_differences(store) == 0
    made = sum(a.made for a in simulated) + seen.get("made", 0)
    waits = [w for a in simulated for w in a.waits]
    p50, p95, p99 = np.percentile(waits, [50, 95, 99])
    problems = [p for a in simulated for p in a.problems]
    result = {"people": args.people, "labels": made, "stored": stored, "labels_a_second": round(made / args.seconds, 1),
              "acknowledged_ms": {"p50": round(p50), "p95": round(p95), "p99": round(p99), "max": round(max(waits))},
              "page_opened_with_first_block_ms": {"median": round(1000 * float(np.median([a.opened for a in simulated]))),
                                                  "max": round(1000 * max(a.opened for a in simulated))},
              "presses_without_a_face": sum(a.stalls for a in simulated), "slots_held_twice": doubled, "most_voters_on_a_face": most,
              "chain_and_projection_sound": whole, "problems": problems[:5] + errors[:5], "browser": seen}
    print(json.dumps(result, indent=2))
    return int(p95 > args.limit or stored != made or doubled > 0 or not whole or bool(problems or errors))


if __name__ == "__main__":
    sys.exit(main())
