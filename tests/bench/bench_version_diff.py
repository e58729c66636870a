"""Comparing two versions of 32,298 rows: 3 % relabelled, 2 % removed, 2 % added, 5 % moved.

    python tests/bench/bench_version_diff.py [--rows 32298] [--turns 9]

JSON on stdout, milliseconds: reading both manifests and comparing them, then everything the page and the JSON show. Exit status 1 when the median
of both together is over 300 ms.
"""

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from fercore.domain import Workspace, sample_id
from fercore.schemes import FER7
from fercore.versions import diff

LIMIT = 300


def fill(root: Path, n: int) -> Workspace:
    rng = np.random.default_rng(7)
    ids = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(n)]
    first = pd.DataFrame({
        "sample_id": [sample_id("drawn", i) for i in range(n)], "image_id": ids, "source_id": "drawn", "source_row": range(n),
        "label": rng.choice(FER7.ids, n), "split": rng.choice(["train", "val", "test"], n, p=[0.7, 0.15, 0.15]), "duplicate_group": ids,
        "age_band": rng.choice(["young", "middle_aged", "senior", None], n), "gender": rng.choice(["female", "male", None], n), "flags": "",
        "exclusion": np.where(rng.random(n) < 0.02, "flagged non face", None)})
    first["given_label"] = first["label"]
    second = first.copy()
    second.loc[rng.random(n) < 0.03, "label"] = "sad"
    second.loc[rng.random(n) < 0.05, "split"] = "val"
    second["exclusion"] = np.where(rng.random(n) < 0.02, "flagged dark", None)
    first, second = first[rng.random(n) < 0.99], second[rng.random(n) < 0.99]  # rows that only one of them lists
    for name, rows in (("a-v1", first), ("a-v2", second)):
        folder = root / "versions" / name
        folder.mkdir(parents=True)
        rows.sort_values("sample_id").to_parquet(folder / "manifest.parquet", index=False)
        (folder / "version.json").write_text(json.dumps({"version_id": name, "manifest_sha256": name, "scheme_id": FER7.scheme_id,
                                                        "classes": FER7.ids, "counts": {}}))
    return Workspace(root)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=32_298)
    parser.add_argument("--turns", type=int, default=9)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place, compared, shown = fill(Path(folder), args.rows), [], []
        for _ in range(args.turns):
            start = time.perf_counter()
            found = diff.compare(place, "a-v1", "a-v2")
            compared.append(1000 * (time.perf_counter() - start))
            summary = found.summary()
            shown.append(1000 * (time.perf_counter() - start))
    result = {"rows": args.rows, "counts": summary["counts"], "compare": round(statistics.median(compared)), "with_summary": round(
        statistics.median(shown)), "slowest": round(max(shown)), "limit": LIMIT}
    print(json.dumps(result, indent=1))
    sys.exit(int(result["with_summary"] > LIMIT))


if __name__ == "__main__":
    main()
