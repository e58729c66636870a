"""Importing a folder of pictures against a bare Pillow decode loop over the same files, one after the other in the same run.

    python tests/bench/bench_import.py [--faces 8000] [--png] [--folder DIR] [--turns 3]

JSON on stdout. Without --folder, noise faces of 48x48 are written as JPEG and PNG, or with --png as PNG only. Every turn imports into a new
workspace; the order of the two alternates, so that a busy machine is unfair to neither. `ratio` is the median of the ratios of the turns,
`peak_mib` the largest memory of this process, which holds the database.
"""

import argparse
import json
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from fercore import ingest
from fercore.domain import Person, Role, Workspace
from fercore.store import Store

LEAD = Person("dana", "Dana", Role.DATA_LEAD)


def written(root: Path, faces: int, png: bool) -> Path:
    """Smooth noise, so that the files are about as large as those of real faces."""
    rng = np.random.default_rng(0)
    for i in range(faces):
        small = Image.fromarray(rng.integers(0, 256, (12, 12), dtype=np.uint8)).resize((48, 48), Image.Resampling.BICUBIC)
        path = root / ("train" if i % 5 else "test") / ("happy", "sad", "angry")[i % 3] / f"{i:07}.{'png' if png or i % 4 == 0 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        small.save(path, quality=90)
    return root


def bare(files: list[Path]) -> float:
    start = time.perf_counter()
    for path in files:
        with Image.open(path) as image:
            np.asarray(image)
    return time.perf_counter() - start


def ours(source: Path, scratch: Path) -> tuple[float, float]:
    """(import, the same again) in seconds."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder, Store(Workspace(Path(folder))) as store:
        times = []
        for _ in range(2):
            start = time.perf_counter()
            report = ingest.import_pictures(store, LEAD, source, ingest.Provenance("bench"))
            times.append(time.perf_counter() - start)
        assert report.unchanged and not report.rejected, report.sentence()
    return times[0], times[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=int, default=8000)
    parser.add_argument("--png", action="store_true")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    scratch = Path(tempfile.mkdtemp())
    try:
        source = args.folder or written(scratch / "faces", args.faces, args.png)
        files = sorted(p for p in source.rglob("*") if p.is_file())
        bare(files[:500])
        turns = []
        for turn in range(args.turns):
            first = bare(files) if turn % 2 else None
            (new, again), loop = ours(source, scratch), first or bare(files)
            turns.append({"pillow_s": round(loop, 3), "import_s": round(new, 3), "again_s": round(again, 3), "ratio": round(new / loop, 2)})
        print(json.dumps({"files": len(files), "turns": turns, "ratio": statistics.median(t["ratio"] for t in turns),
                          "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}, indent=1))
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
