"""The files of a version: manifest.parquet, pixels.npy, version.json. Needs no database."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from uuid_utils import uuid7

from fercore.domain import SPLITS, Pixels, Workspace, image_id
from fercore.errors import BadInput, NotFound
from fercore.schemes import SCHEMES

COLUMNS = ("sample_id", "image_id", "source_id", "source_row", "given_label", "label", "split", "duplicate_group", "age_band", "gender",
           "flags", "exclusion")
_EDITED = ("transform", "pixel_id")  # only where the recipe edits pixels: what was done, and the id of the outcome


def _schema(recipe: dict[str, Any]) -> pa.Schema:
    return pa.schema([(c, pa.int64() if c == "source_row" else pa.float64() if c == "mean" else pa.string()) for c in (*_columns(recipe), "mean")])


def _columns(recipe: dict[str, Any]) -> tuple[str, ...]:
    return COLUMNS + (_EDITED if recipe.get("transforms") else ()) + (("votes",) if recipe.get("votes") else ())


def manifest_sha256(rows: pd.DataFrame, recipe: dict[str, Any]) -> str:
    """SHA-256 over the recipe and the rows sorted by sample_id, as compact JSON lines in UTF-8.

    Pixels are covered by image_id, which is their own hash, or by pixel_id where the recipe edits them; `mean` follows from them and is left
    out, as floats are not canonical.
    """
    columns = _columns(recipe)
    digest = hashlib.sha256(json.dumps({"format": 1, "columns": columns, "recipe": recipe}, sort_keys=True, separators=(",", ":")).encode())
    ordered = rows.sort_values("sample_id")
    for row in zip(*(ordered[c].tolist() for c in columns), strict=True):
        digest.update(b"\n" + json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode())
    return digest.hexdigest()


def write(folder: Path, rows: pd.DataFrame, pixels: Pixels, card: dict[str, Any]) -> None:
    """Writes all files into a temporary folder and renames it: the version is there whole or not at all."""
    temporary = folder.with_name(f".{folder.name}.{uuid7()}")
    temporary.mkdir(parents=True)
    try:
        pq.write_table(pa.Table.from_pandas(rows, schema=_schema(card["recipe"]), preserve_index=False), temporary / "manifest.parquet")
        np.save(temporary / "pixels.npy", pixels)
        (temporary / "version.json").write_text(json.dumps(card, indent=1), encoding="utf-8")
        # A folder under this name without a row in the database was left by a killed build.
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def card(workspace: Workspace, version_id: str) -> dict[str, Any]:
    """version.json. Raises: NotFound, BadInput (it is not JSON)."""
    path = workspace.versions / version_id / "version.json"
    if version_id in ("", ".", "..") or "/" in version_id or not path.is_file():
        raise NotFound("Unknown version", f"{version_id!r} is not in {workspace.versions}", "List them with fercore version list")
    try:
        read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput("The version cannot be read", f"{path}: {error}", "Restore it from a backup") from error
    return read


def write_state(workspace: Workspace, version_id: str, state: str, acts: Sequence[dict[str, Any]] = ()) -> None:
    """Copies the state and the acts beside the files, for commands that run without the database; the database decides."""
    path = workspace.versions / version_id / "state.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"state": state, "manifest_sha256": card(workspace, version_id)["manifest_sha256"], "acts": list(acts)},
                                    indent=1), encoding="utf-8")
    temporary.replace(path)


def state(workspace: Workspace, version_id: str) -> str:
    """The copied state; "frozen" where none was copied. Raises: NotFound."""
    stated, copied = card(workspace, version_id), copied_state(workspace, version_id)
    found = str(copied.get("state", "frozen")) if copied.get("manifest_sha256") == stated["manifest_sha256"] else "frozen"
    return "draft" if found == "rejected" else found  # "rejected" in workspaces of before


def copied_state(workspace: Workspace, version_id: str) -> dict[str, Any]:
    """state.json; empty where there is none or it cannot be read."""
    try:
        return dict(json.loads((workspace.versions / version_id / "state.json").read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return {}


def trainable(state: str) -> bool:
    """Whether a version in this state may be trained on without the exploratory mark."""
    return state in ("approved", "released")


def listed(workspace: Workspace) -> list[dict[str, Any]]:
    """version.json of every version with its copied state, newest first."""
    cards = [card(workspace, p.parent.name) for p in workspace.versions.glob("[!.]*/version.json")]
    return sorted(({**c, "state": state(workspace, c["version_id"])} for c in cards), key=lambda c: c["created_at"], reverse=True)


def manifest(workspace: Workspace, version_id: str) -> pd.DataFrame:
    """The manifest, missing values as None. Raises: NotFound."""
    card(workspace, version_id)
    rows: pd.DataFrame = pq.read_table(workspace.versions / version_id / "manifest.parquet").to_pandas()
    return rows.astype(object).where(rows.notna(), None)


def pixels_of(workspace: Workspace, version_id: str) -> Pixels:
    """uint8 [included rows, 48, 48], mapped from disk."""
    card(workspace, version_id)
    mapped: Pixels = np.load(workspace.versions / version_id / "pixels.npy", mmap_mode="r", allow_pickle=False)
    return mapped


def verify(workspace: Workspace, version_id: str, recorded_sha256: str | None = None) -> list[str]:
    """Recomputes the hash of the manifest and of every image; returns what differs, nothing when all is well.

    Args:
        recorded_sha256: the hash in the database, which the files must have; files alone could all have been changed together.

    Raises:
        NotFound: there is no such version.
    """
    try:
        stated = card(workspace, version_id)
        rows, pixels = manifest(workspace, version_id), pixels_of(workspace, version_id)
        return _differences(version_id, stated, rows, pixels, recorded_sha256)
    except (OSError, ValueError, KeyError, BadInput, pa.ArrowException) as error:
        return [f"a file cannot be read: {error}"]


def _differences(version_id: str, stated: dict[str, Any], rows: pd.DataFrame, pixels: Pixels, recorded_sha256: str | None) -> list[str]:
    problems = []
    if recorded_sha256 not in (None, stated["manifest_sha256"]):
        problems.append("the manifest_sha256 in version.json is not the one that was recorded when the version was frozen")
    recipe = stated["recipe"]
    if (stated["version_id"], stated["scheme_id"], stated["classes"]) != (version_id, recipe["scheme"], list(SCHEMES[recipe["scheme"]].ids)):
        problems.append("the id, scheme or classes in version.json are not those of the recipe")
    if manifest_sha256(rows, stated["recipe"]) != stated["manifest_sha256"]:
        problems.append("manifest.parquet does not hash to the stated manifest_sha256")
    included = rows[rows["exclusion"].isna()]
    if len(included) != len(pixels):
        problems.append(f"pixels.npy holds {len(pixels):,} images, the manifest includes {len(included):,}")
    else:
        names = included["pixel_id" if recipe.get("transforms") else "image_id"]
        wrong = [i for i, (name, p) in enumerate(zip(names, pixels, strict=True)) if image_id(np.asarray(p)) != name]
        if wrong:
            problems.append(f"{len(wrong):,} images differ from their id, the first is {included['sample_id'].iloc[wrong[0]]}")
    counts = {split: int((included["split"] == split).sum()) for split in SPLITS}
    if {**counts, "excluded": len(rows) - len(included)} != stated["counts"]:
        problems.append("the counts in version.json are not those of the manifest")
    return problems
