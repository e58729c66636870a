"""What many label events cost: 200,000 (or --events N) votes of eight people over the faces of a workspace, recorded by the product itself.

    python tests/bench/bench_events.py [--events 200000] [--faces 32000] [--keep DIR]

JSON on stdout, median and highest of five, milliseconds; exit status 1 when a limit is passed: a queue opened in 300 ms, the current labels
of a page of 60 faces in 50 ms. Partner: the same labels folded anew from the events, as if there were no projection.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm
from uuid_utils import uuid7

from fercore import curation
from fercore.curation import campaigns, past
from fercore.domain import Person, Role, Workspace, image_id, sample_id
from fercore.schemes import FER7
from fercore.store import Store, labels, samples
from fercore.store import people as people_table

PEOPLE = [Person(f"p{i}", f"P{i}", Role.REVIEWER if i == 7 else Role.ANNOTATOR) for i in range(8)]
LIMITS = {"queue_opened": 300.0, "labels_of_60_faces": 50.0}


def fill(store: Store, faces: int, events: int) -> None:
    """Noise faces and random votes, appended in batches of 2,000 through the same code as everybody's."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (faces, 48, 48), dtype=np.uint8)
    ids = [image_id(p) for p in pixels]
    given = rng.choice(FER7.ids, faces).tolist()
    batch = pa.table({"sample_id": [sample_id("bench", i) for i in range(faces)], "source_id": ["bench"] * faces, "source_row": range(faces),
                      "image_id": ids, "given_label": given, "source_split": ["Training"] * faces, "gray48": [p.tobytes() for p in pixels],
                      "mean": pixels.mean((1, 2)), "sd": pixels.std((1, 2))})
    with store.write("samples") as w:
        samples.insert(w, batch, "bench")
    for person in PEOPLE:
        people_table.add(store, person)
    each = events // len(PEOPLE)
    with tqdm(total=each * len(PEOPLE), unit="event", file=sys.stderr, mininterval=2) as bar:
        for person in PEOPLE:
            order = rng.permutation(faces)[:each]
            for start in range(0, each, 2000):
                part = order[start:start + 2000]
                labels.append(store, person, [
                    {"event_id": str(uuid7()), "op": "set", "image_id": ids[i], "field": "expression", "gesture": str(uuid7()), "mode": "single",
                     "value": given[i] if rng.random() < 0.6 else str(rng.choice(FER7.ids)), "round": "vote", "campaign_id": "expression"}
                    for i in part])
                bar.update(len(part))


def timed(act: Callable[[], object], times: int = 5) -> dict[str, float]:
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        act()
        spent.append(1000 * (time.perf_counter() - start))
    return {"median": round(statistics.median(spent), 1), "max": round(max(spent), 1)}


def main() -> int:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--events", type=int, default=200_000)
    ask.add_argument("--faces", type=int, default=32_000)
    ask.add_argument("--keep", type=Path, help="build the workspace here and keep it, or measure the one that is here")
    args = ask.parse_args()
    with tempfile.TemporaryDirectory() as folder, Store(Workspace(args.keep or Path(folder) / "ws")) as store:
        if not store.value("SELECT count(*) FROM facts.image"):
            fill(store, args.faces, args.events)
        person, client = PEOPLE[0], iter(range(10_000))
        campaigns.save(store, PEOPLE[7], campaigns.BUILT_IN["expression"].model_copy(update={"votes": 20, "priority": "entropy"}), "expression")
        sixty = samples.members(store)["sample_id"].sort_values().iloc[600:660].tolist()

        block = curation.block(store, person, "expression", "flush", 1)
        asked = curation.ask(store, person, "expression", campaigns.find(store, "expression")[0])

        def flush() -> None:
            face = block.faces["image_id"].iloc[next(client) % len(block.faces)]
            receipt = curation.record(store, person, [
                {"event_id": str(uuid7()), "op": "set", "image_id": face, "field": "expression", "value": "sad", "gesture": str(uuid7()),
                 "lease": block.lease_id}])
            assert len(receipt.acked) == 1, receipt

        result = {
            "events": store.value("SELECT count(*) FROM facts.label_event"),
            "flush_of_one_event": timed(flush, 20),
            "queue_opened": timed(lambda: curation.block(store, person, "expression", f"c{next(client)}", 1)),
            "labels_of_60_faces": timed(lambda: samples.by_ids(store, sixty)),
            "faces_of_explore": timed(lambda: samples.members(store)),
            "done_count": timed(lambda: curation.done(store, person, asked)),
            "heartbeat": timed(lambda: curation.heartbeat(store, person, "expression", asked, "c1")),
            "undo_stack": timed(lambda: past.page(store, person, "expression", ("expression",), 1)),
            "why_empty": timed(lambda: curation.why_empty(store, person, "expression")),
            "chain_verified": timed(lambda: labels.broken_block(store), 1),
            "projection_compared": timed(lambda: labels.standing_differences(store), 1),
            "partner_votes_folded_anew": timed(lambda: store.value("SELECT count(*) FROM facts.fold(NULL, NULL)")),
        }
    print(json.dumps(result, indent=2))
    return int(any(result[k]["median"] > limit for k, limit in LIMITS.items()))


if __name__ == "__main__":
    sys.exit(main())
