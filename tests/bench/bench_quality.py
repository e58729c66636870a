"""The Quality page with 200,000 votes of 8 annotators on 32,000 drawn images, over 12 weeks.

    python tests/bench/bench_quality.py [--votes 200000] [--images 32000]

JSON on stdout, seconds. `agreement` is the arithmetic alone, with every interval; `service` adds the reads; `page_first` is the script run that
opens the page with empty caches (AppTest in this process), `page_again` one after it; `page_first_cpu` is its processor time, which other work
on the machine stretches less. Exit status 1 when page_first is over 2 s.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fercore import people
from fercore.curation import agreement, quality
from fercore.domain import Role
from fercore.schemes import FER7
from fercore.store import Store
from fercore.store import quality as table

LIMIT = 2.0


def fill(store: Store, votes: int, images: int, annotators: int = 8) -> None:
    """Votes that agree on three of four faces; every tenth image is gold, and every thirtieth vote has a repeat."""
    with store.write("people", "samples", "labels") as w:
        w.run("SELECT setseed(0.7)")
        w.run("""INSERT INTO facts.image SELECT sha256(i::VARCHAR), 48, 48, 'L', from_hex(repeat('80', 2304)), 128, 0 FROM range($images) AS t(i)""",
              {"images": images})
        w.run("""INSERT INTO facts.sample SELECT left(sha256('s' || i), 32), 'drawn', i, sha256(i::VARCHAR), $classes[1 + i % 7], 'Training', 'drawn'
                 FROM range($images) AS t(i)""", {"images": images, "classes": list(FER7.ids)})
        each = votes / images / annotators
        w.run("""
            INSERT INTO facts.label_event (event_id, seq, op, image_id, field, value, gesture, person_id, role, authentication, mode, lead_ms,
                                           shown_at, decided_at, recorded_at, round)
            SELECT uuid(), row_number() OVER (ORDER BY at_time), 'set', image_id, 'expression', value, uuid(), person, 'annotator', 'bench', 'single',
                   700, at_time, at_time, at_time, round
            FROM (
                SELECT sha256(i::VARCHAR) AS image_id, 'annotator-' || p AS person, r AS round,
                       $classes[1 + CASE WHEN random() < 0.75 THEN i % 7 ELSE (random() * 7)::INTEGER % 7 END] AS value,
                       TIMESTAMP '2026-01-05' + to_seconds(i * 84 * 86400 // $images + p * 900) AS at_time
                FROM range($images) AS t(i), range(1, $annotators + 1) AS a(p), (VALUES ('vote'), ('repeat')) AS rounds(r)
                WHERE hash(i, p) % 100000 < 100000 * $each AND (r = 'vote' OR hash(p, i, 1) % 30 = 0))
        """, {"classes": list(FER7.ids), "images": images, "annotators": annotators, "each": each})
        w.run("DELETE FROM projection.standing")
        w.run("INSERT INTO projection.standing SELECT * FROM facts.fold(NULL, NULL)")
        w.run("""INSERT INTO facts.gold SELECT image_id, 'expression', [given_label], true, 'rosa', now()::TIMESTAMP FROM facts.sample
                 WHERE source_row % 10 = 0""")
    for i in range(1, annotators + 1):
        people.add(store, f"Annotator {i}", Role.ANNOTATOR)


def timed(act: Callable[[], Any]) -> float:
    start = time.perf_counter()
    act()
    return round(time.perf_counter() - start, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--votes", type=int, default=200_000)
    parser.add_argument("--images", type=int, default=32_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FERCORE_WORKSPACE"] = folder
        from streamlit.testing.v1 import AppTest

        from dashboard import cache

        store = cache.store()
        fill(store, args.votes, args.images)
        rosa = people.add(store, "Rosa", Role.REVIEWER)
        votes = table.votes(store, "expression", None, [])
        result: dict[str, Any] = {"votes": len(votes), "images": votes["image_id"].nunique(), "annotators": votes["person_id"].nunique(),
                                  "agreement": statistics.median(timed(lambda: agreement.agreement(votes)) for _ in range(3)),
                                  "service": statistics.median(timed(lambda: quality.quality(store, rosa, quality.Scope())) for _ in range(3))}
        at = AppTest.from_file(str(Path(cache.__file__).parent / "app.py"), default_timeout=120).run()
        at.button(key=f"profile-{rosa.person_id}").click().run()

        def page() -> None:
            at.switch_page("app_pages/quality.py").run()
            assert not at.exception and not at.error, (at.exception, at.error)

        start = time.process_time()
        result |= {"page_first": timed(page), "page_first_cpu": round(time.process_time() - start, 2), "page_again": timed(page), "limit": LIMIT}
        store.close()
    print(json.dumps(result, indent=1))
    sys.exit(int(result["page_first"] > LIMIT))


if __name__ == "__main__":
    main()
