"""A dataset version as training sees it: its included rows and their pixels, checked against each other."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from fercore.domain import SIDE, SPLITS, Pixels
from fercore.errors import BadInput, NotFound, TrainingError

Rows = npt.NDArray[np.int64]  # positions in a VersionData
_COLUMNS = ["sample_id", "label", "split", "duplicate_group", "exclusion"]
_OPTIONAL = ["votes", "weight", "fold"]  # only where the recipe asked for them


@dataclass(frozen=True)
class VersionData:
    """Included rows in order of sample_id; all arrays have one entry a row.

    Attributes:
        classes: class ids; the position is the index in `y` and in model outputs.
        samples: columns sample_id, label, split, duplicate_group (all str).
        pixels: uint8 [n, 48, 48], 0-255.
        y: int64 [n], index of the label in `classes`.
        votes: int64 [n, classes], how many people chose each class; None where the version has no votes.
        weight: float32 [n] above 0, how much a face counts in training; None where the version has no weights.
        fold: int64 [n], 0 .. folds - 1 for train and val rows and -1 for test rows; None where the version has no folds.
    """

    version_id: str
    classes: tuple[str, ...]
    samples: pd.DataFrame
    pixels: Pixels
    y: npt.NDArray[np.int64]
    votes: npt.NDArray[np.int64] | None = None
    weight: npt.NDArray[np.float32] | None = None
    fold: npt.NDArray[np.int64] | None = None

    def rows(self, *splits: str) -> Rows:
        """Positions of the rows in any of `splits`."""
        return np.flatnonzero(self.samples["split"].isin(splits))


def read_version(directory: Path, manifest_sha256: str) -> VersionData:
    """Read versions/<id>/ and check that its files fit together and are the ones the run was made for.

    Raises:
        NotFound: a file is missing.
        BadInput: the files contradict each other or cannot be read.
        TrainingError: another manifest than `manifest_sha256`, or duplicates in two splits.
    """
    try:
        about = json.loads((directory / "version.json").read_bytes())
        if about["manifest_sha256"] != manifest_sha256:
            raise TrainingError("The version is not the one this run was made for",
                                f"{directory.name} has manifest {about['manifest_sha256'][:12]}, the run {manifest_sha256[:12]}",
                                "Start a new run on this version")
        there = pq.read_schema(directory / "manifest.parquet").names
        manifest = pd.read_parquet(directory / "manifest.parquet", columns=[*_COLUMNS, *(c for c in _OPTIONAL if c in there)])
        pixels = np.load(directory / "pixels.npy")
        counts, classes = dict(about["counts"]), tuple(about["classes"])
    except FileNotFoundError as e:
        raise NotFound("The version is incomplete", f"{e.filename} is missing", "Build the version again") from e
    except (OSError, ValueError, KeyError, TypeError) as e:
        detail = f"{directory.name}: {type(e).__name__}: {e}"
        raise BadInput("The version cannot be read", detail, "Build the version again") from e
    included = manifest["exclusion"].isna()
    samples = manifest.loc[included, _COLUMNS[:-1]]

    def check(holds: bool, detail: str) -> None:
        if not holds:
            raise BadInput("The version's files do not fit together", f"{directory.name}: {detail}", "Build the version again")

    check(pixels.dtype == np.uint8 and pixels.shape == (len(samples), SIDE, SIDE),
          f"pixels.npy is {pixels.dtype} {list(pixels.shape)}, the manifest includes {len(samples)} rows")
    check(not samples.isna().to_numpy().any(), "an included row lacks a label, split or duplicate group")
    check(samples["sample_id"].is_unique, "a sample is listed twice")
    found = {s: int((samples["split"] == s).sum()) for s in SPLITS} | {"excluded": int((~included).sum())}
    check(found == counts and sum(found.values()) == len(manifest), f"version.json counts {counts}, the manifest {found}")
    strange = sorted(set(samples["label"]) - set(classes))
    check(not strange, f"labels {strange} are not among the classes {list(classes)}")

    order = np.argsort(samples["sample_id"].to_numpy(dtype=str), kind="stable")
    samples = samples.iloc[order].reset_index(drop=True)
    votes = weight = fold = None
    chosen = manifest[included].iloc[order]
    if "votes" in manifest and chosen["votes"].notna().all():
        counts_of = [list(map(int, v.split(","))) for v in chosen["votes"]]
        check(all(len(c) == len(classes) and min(c) >= 0 for c in counts_of), "a row's votes are not one count for each class")
        votes = np.array(counts_of, np.int64)
    if "weight" in manifest:
        weight = chosen["weight"].to_numpy(np.float32)
        check(bool((np.isfinite(weight) & (weight > 0)).all()), "a row's weight is not a number above 0")
    if "fold" in manifest and chosen["fold"].notna().any():
        fold = chosen["fold"].fillna(-1).to_numpy(np.int64)
        check(bool(((fold >= 0) == chosen["split"].isin(["train", "val"])).all()), "folds are not those of the train and val rows")
    data = VersionData(directory.name, classes, samples, pixels[order],
                       pd.Index(classes).get_indexer(samples["label"]).astype(np.int64), votes, weight, fold)
    refuse_leaks(data, {split: data.rows(split) for split in SPLITS})
    return data


def refuse_leaks(data: VersionData, parts: Mapping[str, Rows]) -> None:
    """Raises: TrainingError: a duplicate group has rows in two of `parts`; the group is named."""
    where = pd.concat([pd.DataFrame({"group": data.samples["duplicate_group"].to_numpy()[rows], "part": part})
                       for part, rows in parts.items()]).drop_duplicates()
    shared = where.loc[where["group"].duplicated(), "group"]
    if len(shared):
        group = min(shared)
        raise TrainingError("Copies of one face are on both sides of a split",
                            f"duplicate group {group} is in {' and '.join(where.loc[where['group'] == group, 'part'])}"
                            f" ({shared.nunique()} such groups)", "Build the version with splits grouped by duplicates")
