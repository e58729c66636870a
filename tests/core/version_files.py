"""Small version directories for tests: seven patterns that a network tells apart, with duplicates."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

from fercore.domain import Workspace, image_id, sample_id
from fercore.schemes import FER7

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded; as the worker does for itself
SHA = "5" * 64


def make_version(root: Path, version_id: str = "blobs-1", per_class: int = 30, copies: int = 6, seed: int = 0) -> Workspace:
    """A workspace with one version: `per_class` faces a class, of which `copies` are byte-equal copies of others.

    A class is a bright bar at its own height plus noise. Split 60/20/20 by group; two more rows are excluded.
    """
    rng = np.random.default_rng(seed)
    faces, labels, splits = [], [], []
    for k, name in enumerate(FER7.ids):
        new = rng.integers(0, 90, (per_class - copies, 48, 48), dtype=np.uint8)
        new[:, 6 * k + 2:6 * k + 8] += 120
        group = np.r_[np.arange(per_class - copies), np.arange(copies)]
        faces.append(new[group])
        labels += [name] * per_class
        splits += np.array(["train", "train", "train", "val", "test"])[group % 5].tolist()
    pixels = np.concatenate(faces)
    manifest = pd.DataFrame({"sample_id": [sample_id("blobs", i) for i in range(len(pixels) + 2)],
                             "image_id": [*map(image_id, pixels), "x", "y"], "source_id": "blobs",
                             "source_row": np.arange(len(pixels) + 2), "label": [*labels, None, "happy"],
                             "split": [*splits, None, None], "flags": "",
                             "exclusion": [None] * len(pixels) + ["non_face", "outlier"]})
    manifest["given_label"], manifest["duplicate_group"] = manifest["label"], manifest["image_id"]
    manifest["age_band"], manifest["gender"], manifest["mean"] = None, None, 100.0
    order = np.argsort(manifest["sample_id"].to_numpy(dtype=str))
    write_version(root / "versions" / version_id, manifest.iloc[order], pixels[order[order < len(pixels)]])
    return Workspace(root)


def write_version(directory: Path, manifest: pd.DataFrame, pixels: np.ndarray, **about: object) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    manifest.to_parquet(directory / "manifest.parquet", index=False)
    np.save(directory / "pixels.npy", pixels)
    counts = {s: int((manifest["split"] == s).sum()) for s in ("train", "val", "test")}
    (directory / "version.json").write_text(json.dumps({
        "version_id": directory.name, "manifest_sha256": SHA, "scheme_id": FER7.scheme_id, "classes": list(FER7.ids),
        "counts": counts | {"excluded": int(manifest["exclusion"].notna().sum())}, **about}))
