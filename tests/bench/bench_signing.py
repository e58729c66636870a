"""Signing at full size: every view of the Versions page, the gates and an approval, on two versions of a FER-2013 file.

    python tests/bench/bench_signing.py FER2013.csv[.gz] [--workspace DIR]

JSON on stdout, seconds. `round_trip` is what the first submission takes. `first` opens a view with empty caches (AppTest in this process), `warm` is the median of three runs after it. A workspace
that is named is made once and kept. Exit status 1 when a warm view is over 1 s.
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

from fercore import ingest, people, versions
from fercore.domain import Role, Workspace
from fercore.store import Store
from fercore.versions import datasheet, gates, record

LIMIT = 1.0
VIEWS = ("Composition", "Gates", "Diff", "Datasheet", "Timeline")


def fill(root: Path, file: Path) -> None:
    with Store(Workspace(root)) as store:
        dana, _, _ = (people.add(store, n, r) for n, r in (("Dana", Role.DATA_LEAD), ("Lee", Role.DATA_LEAD), ("Rosa", Role.REVIEWER)))
        ingest.import_fer2013(store, dana, file, licence="as the source states")
        for seed in (0, 1):
            made = versions.freeze(store, dana, versions.Recipe(seed=seed, duplicates="keep_all" if seed else "keep_one"), "fer7")
        for field in datasheet.QUESTIONS:
            versions.answer(store, dana, made, field, "For the benchmark")
        versions.submit(store, dana, made)


def timed(act: Callable[[], Any]) -> float:
    start = time.perf_counter()
    act()
    return round(time.perf_counter() - start, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--workspace", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = args.workspace or Path(folder) / "ws"
        if not root.exists():
            fill(root, args.file)
        os.environ["FERCORE_WORKSPACE"] = str(root)
        from streamlit.testing.v1 import AppTest

        from dashboard import cache

        store = cache.store()
        rosa = people.find(store, "rosa")
        result: dict[str, Any] = {"rows": store.value("SELECT count(*) FROM samples"), "load": round(os.getloadavg()[0], 1),
                                  "verify": timed(lambda: record.verify(store, "fer7-v2")), "gates": timed(lambda: gates.check(store, rosa, "fer7-v2")),
                                  "round_trip": timed(lambda: versions.export.round_trip(store, "fer7-v2"))}
        slow = 0.0
        for view in VIEWS:
            at = AppTest.from_file(str(Path(cache.__file__).parent / "app.py"), default_timeout=120)
            at.query_params["version"], at.query_params["view"] = "fer7-v2", view
            at.run()
            at.button(key="profile-rosa").click().run()
            first = timed(lambda at=at: at.switch_page("app_pages/versions.py").run())
            assert not at.exception and not at.error, (at.exception, at.error)
            warm = statistics.median(timed(at.run) for _ in range(3))
            result[view], slow = {"first": first, "warm": round(warm, 3)}, max(slow, warm)
        result["approve"] = timed(lambda: versions.approve(store, rosa, "fer7-v2")) if args.workspace is None else None
        store.close()
    print(json.dumps(result | {"limit": LIMIT}, indent=1))
    sys.exit(int(slow > LIMIT))


if __name__ == "__main__":
    main()
