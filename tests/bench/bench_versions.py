"""How long a version takes to build, verify, preview and export, and how much memory.

    python tests/bench/bench_versions.py                    the shared FER-2013 file: shipped recipes, 32,298 samples
    python tests/bench/bench_versions.py --large 100000     synthetic samples, one in ten a copy of another

JSON on stdout; seconds. `peak_mib` is the most memory that this process held, import included; `grown_mib` what building and verifying added.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers import LEAD, SHARED_DATA

from fercore import ingest, versions
from fercore.domain import SIDE, Workspace, image_id, sample_id
from fercore.schemes import FER7
from fercore.store import Store, people, samples
from fercore.versions.recipe import make


def timed(act: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = act()
    return round(time.perf_counter() - start, 3), result


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def synthetic(store: Store, n: int) -> None:
    draw = np.random.default_rng(0)
    for start in range(0, n, 5000):
        faces = draw.integers(0, 256, (5000, SIDE, SIDE), dtype=np.uint8)[:n - start]
        faces[1::10] = faces[::10][:len(faces[1::10])]
        rows = range(start, start + len(faces))
        with store.write("samples") as w:
            samples.insert(w, pa.table({
                "sample_id": [sample_id("s", r) for r in rows], "source_id": ["s"] * len(rows), "source_row": list(rows),
                "image_id": [image_id(f) for f in faces], "given_label": [FER7.ids[(r - r % 10 % 2) % 7] for r in rows],
                "source_split": ["PublicTest" if r % 5 == 0 else "Training" for r in rows], "gray48": [f.tobytes() for f in faces],
                "mean": faces.mean(axis=(1, 2)), "sd": faces.std(axis=(1, 2))}), "bench")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", type=int, default=0)
    parser.add_argument("--data", type=Path, default=SHARED_DATA)
    chosen = parser.parse_args()
    out: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, Store(Workspace(Path(folder) / "ws")) as store:
        people.add(store, LEAD)
        if chosen.large:
            synthetic(store, chosen.large)
        else:
            ingest.import_fer2013(store, LEAD, chosen.data / "fer2013.csv.gz", ferplus=chosen.data / "fer2013new.csv", licence="bench")
        before = peak()
        plain = versions.parse_recipe("split: {by: ratios, folds: 10}\ntransforms: [standardise]\ntargets: [{at_most: 3000}]")
        recipes = {"plain": plain, "fer7": versions.shipped.recipe("fer7")} if chosen.large else {
            n: versions.shipped.recipe(n) for n in ("fer7", "focus4", "conflicts_outliers", "engaged4")}
        for name, recipe in recipes.items():
            build, version_id = timed(lambda recipe=recipe, name=name: versions.freeze(store, LEAD, recipe, name))
            verify, problems = timed(lambda version_id=version_id: versions.verify(store.workspace, version_id))
            facts = versions.build.facts(store, LEAD)
            make(recipe, facts)
            preview, made = timed(lambda recipe=recipe, facts=facts: make(recipe, facts))
            assert not problems
            out[name] = {"build": build, "verify": verify, "preview": preview, "rows": len(made.rows), "included": made.funnel[-1].after}
        out |= {"peak_mib": peak(), "grown_mib": peak() - before}
        for form in versions.export.FORMATS:
            to = Path(folder) / form
            seconds, _ = timed(lambda form=form, to=to: versions.export.write(store.workspace, version_id, to, form, LEAD, store=store,
                                                                              accept_licence=True))
            out.setdefault("export", {})[form] = seconds
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
