"""The audit on the shared FER-2013 file: how much it finds, and how long it takes.

    python tests/bench/bench_audit.py --near [--cleanvision PYTHON]     planted copies of 2,000 faces: recall and precision by similarity
    python tests/bench/bench_audit.py --non-face                        FER+ rows with NF = 10 found while 1 % and 5 % of NF = 0 are flagged
    python tests/bench/bench_audit.py --time [--cleanvision PYTHON]     quick and deep audit
    python tests/bench/bench_audit.py --large 100000 [--keep DIR]       synthetic samples: import, quick and deep audit, memory; bench_pages.py
                                                                        --views opens the workspace that is kept

JSON on stdout. PYTHON is an interpreter in which CleanVision is installed, and with it imagehash; CleanVision is run on the same images as PNG files.
Beside near duplicates stand what libraries find alone: imagehash's perceptual hashes within a radius of bits, and scikit-learn's neighbours of
thumbnails within a cosine distance, both also of mirrored images. Beside non-faces stand the same machine taught on plain gradients (HOG), three
cascades, and 100 faces and 100 other pictures of scikit-image that nobody was asked about. The bound on similarity was
chosen on other random draws of the same file, which share some faces with this one. Pairs that nobody planted are counted as wrong in
`precision_strict`. The file holds true near duplicates, so `precision_without_twins` leaves out faces whose perceptual hash, straight or mirrored,
is within 10 of 64 bits of another original's: a measure that knows nothing of ours and misses some twins. `--show FILE.png` draws the unplanted
pairs for a look.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers import LEAD, SHARED_DATA, fer_line, write_votes

from fercore import audit, ingest
from fercore.audit import near, ranks
from fercore.audit.checks import CHECKS, measure
from fercore.domain import Pixels, Workspace
from fercore.schemes import FER7, FERPLUS_COLUMNS
from fercore.store import Store, findings, people, samples

_CLEANVISION = """
import json, sys, time
from cleanvision import Imagelab
lab = Imagelab(data_path=sys.argv[1])
start = time.perf_counter()
lab.find_issues({k: {} for k in sys.argv[2].split(",")}, verbose=False)
took = time.perf_counter() - start
sets = {k: lab.info.get(k, {}).get("sets", []) for k in ("exact_duplicates", "near_duplicates")}
print("RESULT" + json.dumps({"seconds": took, **sets}))
"""

_IMAGEHASH = """
import sys, numpy as np, imagehash
from PIL import Image
faces = np.load(sys.argv[1])
np.save(sys.argv[2], np.stack([[imagehash.phash(Image.fromarray(f)).hash.ravel() for f in s] for s in (faces, faces[:, :, ::-1])]))
"""


def timed(act: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = act()
    return round(time.perf_counter() - start, 3), result


def imported(folder: str) -> Store:
    store = Store(Workspace(Path(folder)))
    ingest.import_fer2013(store, LEAD, SHARED_DATA / "fer2013.csv.gz", ferplus=SHARED_DATA / "fer2013new.csv")
    return store


def cleanvision(python: str, pixels: Pixels, issues: str) -> dict[str, Any]:
    """Its seconds and sets of duplicates, as row numbers."""
    with tempfile.TemporaryDirectory() as folder:
        for i, face in enumerate(pixels):
            Image.fromarray(face).save(Path(folder) / f"{i:06}.png", compress_level=1)
        done = subprocess.run([python, "-c", _CLEANVISION, folder, issues], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.partition("RESULT")[2])
    return {"seconds": round(found["seconds"], 2), **{k: [[int(Path(p).stem) for p in s] for s in found[k]] for k in
                                                      ("exact_duplicates", "near_duplicates")}}


def scored(pairs: set[tuple[int, int]], n: int) -> dict[str, float]:
    """Recall of the planted pairs (i, i + n), by edit too; precision when every other pair is wrong."""
    hit = {i for i, j in pairs if j == i + n}
    by = {edit.__name__: round(sum(i in hit for i in range(k, n, len(near.EDITS))) / len(range(k, n, len(near.EDITS))), 4)
          for k, edit in enumerate(near.EDITS)}
    return {"recall": round(len(hit) / n, 4), "precision_strict": round(len(hit) / max(len(pairs), 1), 4), "not_planted": len(pairs) - len(hit), **by}


def library_pairs(faces: Pixels, n: int, python: str) -> dict[str, Any]:
    """What imagehash and scikit-learn find without more: of edited copies that begin at row n."""
    from sklearn.neighbors import radius_neighbors_graph

    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/faces.npy", faces)
        seconds, _ = timed(lambda: subprocess.run([python, "-c", _IMAGEHASH, f"{folder}/faces.npy", f"{folder}/bits.npy"], check=True))
        bits = 2.0 * np.load(f"{folder}/bits.npy") - 1
    apart = np.minimum(*(32 - bits[0] @ side.T / 2 for side in bits))
    out: dict[str, Any] = {"imagehash": {"seconds": seconds} | {f"{most} bits": scored(_upper(apart <= most), n) for most in (0, 4, 8, 12)}}
    thumbs = np.stack([near._thumbs(side) for side in (faces, faces[:, :, ::-1])])
    seconds, graph = timed(lambda: radius_neighbors_graph(np.concatenate(thumbs), 0.2, mode="distance", metric="cosine").tocoo())
    first, second = graph.row % len(faces), graph.col % len(faces)
    out["scikit-learn"] = {"seconds": seconds}
    for most in (0.02, 0.05, 0.1, 0.2):
        some = (graph.data <= most) & (first < second)
        out["scikit-learn"][f"distance {most:g}"] = scored(set(zip(first[some].tolist(), second[some].tolist(), strict=True)), n)
    return out


def _upper(alike: np.ndarray) -> set[tuple[int, int]]:
    return {(int(i), int(j)) for i, j in zip(*np.nonzero(np.triu(alike, 1)), strict=True)}


def alone(faces: Pixels) -> np.ndarray:
    """Rows of the faces whose perceptual hash is like that of no other face, straight or mirrored."""
    import cv2

    def hashes(images: Pixels) -> np.ndarray:
        low = np.stack([cv2.dct(cv2.resize(i, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32))[:8, :8].ravel() for i in images])
        return np.where(low > np.median(low, axis=1, keepdims=True), 1.0, -1.0).astype(np.float32)

    straight = hashes(faces)
    apart = np.minimum(*(32 - straight @ hashes(other).T / 2 for other in (faces, faces[:, :, ::-1].copy())))
    np.fill_diagonal(apart, 64)
    return np.flatnonzero(apart.min(axis=1) > 10)


def bench_near(store: Store, n: int, seed: int, python: str | None, show: Path | None) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    ids = samples.image_ids(store)
    faces = samples.pixels(store, [ids[i] for i in rng.choice(len(ids), n, replace=False)])
    kept = alone(faces)
    copies = np.stack([near.EDITS[i % len(near.EDITS)](f, rng) for i, f in enumerate(faces)])
    bound = CHECKS["near_duplicate"].bound
    assert bound is not None
    seconds, found = timed(lambda: near.pairs(np.concatenate([faces, copies])))
    out: dict[str, Any] = {"faces": n, "seconds": seconds, "bound": bound, "faces_without_twins": len(kept)}
    for at in sorted({0.80, 0.85, bound, 0.95}):
        strong = found.similarity >= at
        pairs = set(zip(found.first[strong].tolist(), found.second[strong].tolist(), strict=True))
        out[f"{at:g}"] = scored(pairs, n)
        clean = {(i, j) for i, j in pairs if i % n in kept and j % n in kept}
        out[f"{at:g}"]["precision_without_twins"] = round(sum(j == i + n for i, j in clean) / max(len(clean), 1), 4)
        if at == bound and show:
            others = sorted({(i % n, j % n): (i, j) for i, j in pairs if j != i + n}.values())
            out["unplanted_distinct"] = len(others)
            both = np.concatenate([faces, copies])
            tiles = [np.concatenate([both[i], both[j]]) for i, j in others] or [np.zeros((96, 48), np.uint8)]
            tiles += [np.zeros((96, 48), np.uint8)] * (-len(tiles) % 16)
            sheet = np.concatenate([np.concatenate([*tiles[r:r + 16]], axis=1) for r in range(0, len(tiles), 16)])
            Image.fromarray(sheet).resize((sheet.shape[1] * 2, sheet.shape[0] * 2), Image.Resampling.NEAREST).save(show)
    if python:
        theirs = cleanvision(python, np.concatenate([faces, copies]), "exact_duplicates,near_duplicates")
        pairs = {(a, b) for group in theirs["exact_duplicates"] + theirs["near_duplicates"] for a in group for b in group if a < b}
        out["cleanvision"] = {"seconds": theirs["seconds"], **scored(pairs, n)}
        out |= library_pairs(np.concatenate([faces, copies]), n, python)
    return out


def bench_non_face(store: Store) -> dict[str, Any]:
    """Rows with NF = 10 found while 1 % and 5 % of the rows with NF = 0 are flagged; and how often pictures are non-faces where the score says so."""
    import cv2
    from skimage.data import lfw_subset

    audit.run(store, LEAD, deep=True)
    answers = findings.answers(store, "non_face").merge(findings.values(store, "non_face"))
    ids = samples.image_ids(store)
    seconds, ranked = timed(lambda: ranks.RULES["non_face"](samples.pixels(store, ids)))
    rows = store.frame("""SELECT image_id, coalesce(max(votes) FILTER (value = 'non_face'), 0) AS nf FROM votes WHERE origin <> 'annotator'
                          GROUP BY sample_id, image_id""")
    pixels, share = samples.pixels(store, ids), answers.set_index("image_id")["share"].reindex(ids).to_numpy(float)
    groups = audit._near_groups(store, near.FLOOR, ids)
    hog_seconds, hog = timed(lambda: ranks.scores("non_face", pixels, share, groups, lambda: ranks._gradients(pixels)))
    cascade_seconds, seen = timed(lambda: ranks._seen(pixels, *ranks.FRONTAL, ranks.PROFILE))
    rows = rows.merge(answers).merge(pd.DataFrame({"image_id": ids, "ranked": ranked, "hog": hog.score, "seen": seen}))
    out: dict[str, Any] = {"without_votes_seconds": seconds, "hog_seconds": hog_seconds, "cascades": {
        "seconds": cascade_seconds, "found": round((rows.loc[rows["nf"] == 10, "seen"] == 0).mean(), 3),
        "flagged": round((rows.loc[rows["nf"] == 0, "seen"] == 0).mean(), 3)}}
    others = np.stack([cv2.resize(np.rint(255 * p).astype(np.uint8), (48, 48), interpolation=cv2.INTER_CUBIC) for p in lfw_subset()])
    both = np.concatenate([pixels, others])
    second = ranks.scores("non_face", both, np.concatenate([share, np.full(200, np.nan)]), np.concatenate([groups, groups.max() + 1 + np.arange(200)]),
                          lambda: ranks.features(both)).score[-200:]
    order = (second[100:, None] > second[:100]).mean()
    out["lfw_subset"] = {"non_faces_above_half": int((second[100:] > 0.5).sum()), "faces_above_half": int((second[:100] > 0.5).sum()),
                         "area_under_curve": round(float(order), 3)}
    for name, column in (("learned", "value"), ("hog", "hog"), ("without_votes", "ranked")):
        faces, others = np.sort(rows.loc[rows["nf"] == 0, column])[::-1], rows.loc[rows["nf"] == 10, column]
        out[name] = {f"{p:.0%}": round(float((others > faces[int(p * len(faces))]).mean()), 3) for p in (0.01, 0.05)}
        out[name] |= {"non_faces": len(others), "faces": len(faces)}
    known = answers.dropna()
    by = known.groupby(pd.cut(known["value"], [0, 0.01, 0.05, 0.2, 0.5, 0.8, 1]), observed=True)
    out["calibration"] = [{"score": str(k), "images": len(g), "expected": round(g["value"].mean(), 3), "observed": round((g["share"] >= 0.5).mean(), 3)}
                          for k, g in by]
    return out


def bench_time(store: Store, python: str | None, most: int) -> dict[str, Any]:
    rows = store.frame("SELECT image_id FROM facts.sample ORDER BY sample_id")["image_id"].tolist()
    pixels = samples.pixels(store, rows[:most])
    # What CleanVision also has, on the same rows: dark, light, blurry, little information, exact duplicates.
    pure = timed(lambda: (measure(pixels), pixels.mean(axis=(1, 2)), pixels.std(axis=(1, 2)), len({p.tobytes() for p in pixels})))[0]
    near_alone = timed(lambda: near.pairs(np.unique(pixels, axis=0)))[0] if python else None
    quick, _ = timed(lambda: audit.run(store, LEAD))
    deep, _ = timed(lambda: audit.run(store, LEAD, deep=True))
    again, _ = timed(lambda: audit.run(store, LEAD, deep=True))
    out: dict[str, Any] = {"rows": len(rows), "compared_rows": len(pixels), "checks_alone": pure, "near_alone": near_alone, "quick": quick,
                           "deep": deep, "nothing_new": again, "peak_gb": peak()}
    if python:
        theirs = cleanvision(python, pixels, "dark,light,blurry,low_information,exact_duplicates")
        also_near = cleanvision(python, pixels, "near_duplicates")["seconds"]
        out |= {"cleanvision": theirs["seconds"], "cleanvision_near": also_near, "times_faster": round(theirs["seconds"] / pure, 1),
                "times_faster_with_near": round((theirs["seconds"] + also_near) / (pure + near_alone), 1)}
    return out


def bench_large(store: Store, n: int) -> dict[str, Any]:
    """Synthetic samples with votes: smooth noise, so that faces are as alike as noise is. Each fiftieth is a copy; each two hundredth is noise without
    anything smooth, which voters call no face."""
    import cv2

    people.add(store, LEAD)
    rng = np.random.default_rng(0)
    shares = 0.06 + 0.5 * np.eye(7)  # of the votes on a face of each class
    order = [list(FERPLUS_COLUMNS.values()).index(c) for c in FER7.ids]
    votes, usages = np.zeros((n, len(FERPLUS_COLUMNS)), int), [("Training", "PublicTest")[i % 10 == 0] for i in range(n)]
    with tempfile.TemporaryDirectory() as folder:
        path, face = Path(folder) / "large.csv", np.zeros((48, 48), np.uint8)
        with path.open("w") as file:
            file.write("emotion,pixels,Usage\n")
            for i in range(n):
                none = i % 200 == 0
                if i % 50 != 49:
                    wave = cv2.resize(rng.normal(size=(7, 7)), (48, 48), interpolation=cv2.INTER_CUBIC)
                    face = np.clip(128 + 45 * (rng.normal(size=(48, 48)) if none else wave + 0.15 * rng.normal(size=(48, 48))), 0, 255).astype(np.uint8)
                file.write(fer_line(i % 7, face, usages[i]) + "\n")
                if none:
                    votes[i, -1] = 10
                else:
                    votes[i, order] = rng.multinomial(10, shares[i % 7] / shares[i % 7].sum())
        came, _ = timed(lambda: ingest.import_fer2013(store, LEAD, path, ferplus=write_votes(path.with_name("votes.csv"), votes.tolist(), usages)))
    quick, _ = timed(lambda: audit.run(store, LEAD))
    deep, found = timed(lambda: audit.run(store, LEAD, deep=True))
    return {"import": came, "quick": quick, "deep": deep, "peak_gb": peak(), "kinds": dict(zip(found["kind"], found["n_samples"].tolist(), strict=True))}


def peak() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--near", "--non-face", "--time"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--large", type=int)
    parser.add_argument("--keep", help="--large: the workspace, a new folder")
    parser.add_argument("--faces", type=int, default=2000)
    parser.add_argument("--rows", type=int, default=32_298, help="--time: rows that CleanVision is compared on")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--cleanvision")
    parser.add_argument("--show", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, (Store(Workspace(Path(args.keep or folder))) if args.large else imported(folder)) as store:
        result = (bench_large(store, args.large) if args.large else bench_near(store, args.faces, args.seed, args.cleanvision, args.show) if args.near
                  else bench_non_face(store) if args.non_face else bench_time(store, args.cleanvision, args.rows))
        assert findings.summary(store) is not None
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
