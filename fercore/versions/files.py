"""The files of a version: manifest.parquet, pixels.npy, version.json. Needs no database."""

import hashlib
import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from uuid_utils import uuid7

from fercore.domain import SPLITS, Pixels, Workspace, image_id
from fercore.errors import BadInput, Conflict, FerError, NotFound
from fercore.ingest.files import sha256_of
from fercore.schemes import SCHEMES

COLUMNS = ("sample_id", "image_id", "source_id", "source_row", "given_label", "label", "split", "fold", "duplicate_group", "age_band", "gender",
           "flags", "exclusion", "transform", "pixel_id", "votes")
_TYPES = {"source_row": pa.int64(), "fold": pa.int64(), "weight": pa.float64(), "mean": pa.float64()}
_FORMAT_1 = ("sample_id", "image_id", "source_id", "source_row", "given_label", "label", "split", "duplicate_group", "age_band", "gender",
             "flags", "exclusion")
SUMS = "SHA256SUMS"  # as sha256sum writes and checks it
_FILES = ("manifest.parquet", "pixels.npy", "version.json")
_HALF = ".fercore-build"  # how the name of a folder ends while files are written into it
_ALWAYS = {"version_id", "manifest_sha256", "scheme_id", "classes", "counts"}  # in version.json of every format
_UNFINISHED = "unfinished"  # lies in a folder until the database holds the version

Stamp = tuple[tuple[int, int, int] | None, ...]  # of each file, what changes whenever somebody writes it


def _columns(recipe: dict[str, Any]) -> tuple[str, ...]:
    """What is hashed of a row. Manifests of format 1 have columns for edits and votes only where their recipe asks for them."""
    if recipe.get("format", 1) == 1:
        return _FORMAT_1 + (("transform", "pixel_id") if recipe.get("transforms") else ()) + (("votes",) if recipe.get("votes") else ())
    return COLUMNS + (("weight",) if any(t["by"] == "weight" for t in recipe["targets"]) else ())


def manifest_sha256(rows: pd.DataFrame, recipe: dict[str, Any]) -> str:
    """SHA-256 over the recipe and the rows sorted by sample_id, as compact JSON lines in UTF-8; whole numbers and texts only.

    Pixels are covered by pixel_id (format 1: image_id), which is their own hash; `mean` follows from them and is left out. A weight is hashed as
    its decimal text.
    """
    columns = _columns(recipe)
    head = {"format": recipe.get("format", 1), "columns": columns, "recipe": recipe}
    digest = hashlib.sha256(json.dumps(head, sort_keys=True, separators=(",", ":")).encode())
    ordered = rows.sort_values("sample_id")
    held = {c: ordered[c].tolist() for c in columns}
    if "weight" in held:
        held["weight"] = [None if w is None else f"{w:.6f}" for w in held["weight"]]
    for row in zip(*held.values(), strict=True):
        digest.update(b"\n" + json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode())
    return digest.hexdigest()


def write(folder: Path, rows: pd.DataFrame, pixels: Pixels, card: dict[str, Any]) -> None:
    """Writes all files into a temporary folder and renames it: the version is there whole or not at all. It is unfinished until `write_state`.

    Raises:
        Conflict: a folder of this name is there that no build of ours left.
    """
    if folder.exists() and not (folder / _UNFINISHED).exists():
        raise Conflict("A folder is in the way", f"{folder} is no version of this workspace", "Move it away, or choose another name")
    temporary = folder.with_name(f".{folder.name}.{uuid7()}{_HALF}")
    temporary.mkdir(parents=True)
    try:
        schema = pa.schema([(c, _TYPES.get(c, pa.string())) for c in (*_columns(card["recipe"]), "mean")])
        pq.write_table(pa.Table.from_pandas(rows, schema=schema, preserve_index=False), temporary / "manifest.parquet")
        np.save(temporary / "pixels.npy", pixels)
        (temporary / "version.json").write_text(json.dumps(card, indent=1), encoding="utf-8")
        (temporary / SUMS).write_text("".join(_sums(temporary).values()), encoding="utf-8")
        (temporary / _UNFINISHED).touch()
        shutil.rmtree(folder, ignore_errors=True)  # left by a killed build
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sweep(workspace: Workspace, known: Collection[str]) -> None:
    """Deletes what killed builds left: half-written folders, and unfinished ones that came to no row in the database (`known`); never another."""
    for folder in workspace.versions.glob(f".*{_HALF}"):
        shutil.rmtree(folder, ignore_errors=True)
    for mark in workspace.versions.glob(f"*/{_UNFINISHED}"):
        if mark.parent.name in known:
            mark.unlink()
        else:
            shutil.rmtree(mark.parent, ignore_errors=True)


def strangers(workspace: Workspace, known: Collection[str]) -> list[str]:
    """What lies under versions/ and is no version of the database: put there by somebody, or left of a database that was replaced."""
    return sorted(p.name for p in workspace.versions.glob("*") if p.is_dir() and p.name not in known)


def card(workspace: Workspace, version_id: str) -> dict[str, Any]:
    """version.json. Raises: NotFound, BadInput (it is gone, or not what was written)."""
    path = workspace.versions / version_id / "version.json"
    if version_id in ("", ".", "..") or "/" in version_id or not path.parent.is_dir():
        raise NotFound("Unknown version", f"{version_id!r} is not in {workspace.versions}", "List them with fercore version list")
    try:
        read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not (isinstance(read, dict) and read.keys() >= _ALWAYS):
            raise ValueError("it is not what was written")
    except (OSError, ValueError) as error:
        raise BadInput("The version cannot be read", f"{path}: {error}", "Restore it from a backup") from error
    return read


def write_state(workspace: Workspace, version_id: str, state: str, acts: Sequence[dict[str, Any]] = ()) -> None:
    """Copies the state and the acts beside the files, for commands that run without the database; the database decides."""
    path = workspace.versions / version_id / "state.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"state": state, "manifest_sha256": card(workspace, version_id)["manifest_sha256"], "acts": list(acts)},
                                    indent=1), encoding="utf-8")
    temporary.replace(path)
    (path.parent / _UNFINISHED).unlink(missing_ok=True)


def state(workspace: Workspace, version_id: str) -> str:
    """The copied state; "frozen" where none was copied. Raises: NotFound."""
    stated, copied = card(workspace, version_id), copied_state(workspace, version_id)
    found = str(copied.get("state", "frozen")) if copied.get("manifest_sha256") == stated["manifest_sha256"] else "frozen"
    return "draft" if found == "rejected" else found  # "rejected" in workspaces of before


def copied_state(workspace: Workspace, version_id: str) -> dict[str, Any]:
    """state.json; empty where there is none or it cannot be read."""
    try:
        read = json.loads((workspace.versions / version_id / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) and isinstance(read.get("acts", []), list) else {}


def trainable(state: str) -> bool:
    """Whether a version in this state may be trained on without the exploratory mark."""
    return state in ("approved", "released")


def folds(card: Mapping[str, Any]) -> int:
    """In how many folds a version is by its version.json; 0 without any."""
    split = card.get("recipe", {}).get("split")
    return int(split.get("folds", 0)) if isinstance(split, dict) else 0  # a word in manifests of format 1


def listed(workspace: Workspace) -> list[dict[str, Any]]:
    """version.json of every version with its copied state, newest first. One without a state is still being built, or its builder was killed; one
    that cannot be read is left out: verify says so."""
    cards = list[dict[str, Any]]()
    for path in workspace.versions.glob("[!.]*/state.json"):
        with suppress(BadInput):
            cards.append({**card(workspace, path.parent.name), "state": state(workspace, path.parent.name)})
    return sorted(cards, key=lambda c: str(c.get("created_at")), reverse=True)


def manifest(workspace: Workspace, version_id: str) -> pd.DataFrame:
    """The manifest, missing values as None. Raises: NotFound."""
    card(workspace, version_id)
    rows: pd.DataFrame = pq.read_table(workspace.versions / version_id / "manifest.parquet").to_pandas(integer_object_nulls=True)
    return rows.astype(object).where(rows.notna(), None)


def pixels_of(workspace: Workspace, version_id: str) -> Pixels:
    """uint8 [included rows, 48, 48], mapped from disk."""
    card(workspace, version_id)
    mapped: Pixels = np.load(workspace.versions / version_id / "pixels.npy", mmap_mode="r", allow_pickle=False)
    return mapped


def verify(workspace: Workspace, version_id: str, recorded_sha256: str | None = None) -> list[str]:
    """Recomputes everything that the files say: the hash of the manifest and of every image, counts, classes, that no group of identical faces lies
    in two splits or folds, and the hash of every file. Returns what differs, nothing when all is well.

    Args:
        recorded_sha256: the hash in the database, which the files must have; files alone could all have been changed together.

    Raises:
        NotFound: there is no such version, and none was recorded.
    """
    try:
        stated = card(workspace, version_id)
        rows, pixels = manifest(workspace, version_id), pixels_of(workspace, version_id)
        problems = _differences(version_id, stated, rows, pixels, recorded_sha256)
        return problems or (_changed_files(workspace.versions / version_id) if stated["recipe"].get("format", 1) > 1 else [])
    except NotFound as error:
        if recorded_sha256 is None:
            raise
        return [f"its folder is gone: {error.detail}"]
    except Exception as error:  # a changed byte makes readers fail in any way
        return [f"a file cannot be read: {type(error).__name__}: {error}"]


def stamp(workspace: Workspace, version_id: str, *more: str) -> Stamp:
    """Size and times of every file that `verify` reads, and of `more`; None where one is missing. As long as it is the same, nobody wrote them."""
    def of(path: Path) -> tuple[int, int, int] | None:
        try:
            found = path.stat()
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns

    return tuple(of(workspace.versions / version_id / name) for name in (*_FILES, SUMS, *more))


def changed(workspace: Workspace, version_id: str, recorded_sha256: str) -> list[str]:
    """The quick part of `verify`: whether the files are the written ones, and about the manifest that was recorded."""
    try:
        said = card(workspace, version_id)
    except FerError as error:
        return [f"version.json cannot be read: {error.detail}"]
    if not isinstance(said.get("recipe"), dict):
        return ["version.json states no recipe"]
    if said["recipe"].get("format", 1) == 1:  # whose files have no sums
        return list(verified(workspace, version_id))
    if said["manifest_sha256"] != recorded_sha256:
        return ["version.json is about another manifest"]
    try:
        return _changed_files(workspace.versions / version_id)
    except OSError as error:
        return [f"a file cannot be read: {error}"]


def verified(workspace: Workspace, version_id: str) -> tuple[str, ...]:
    """As `verify`, looked at anew only after a file was written. Raises: NotFound."""
    return _verified(workspace, version_id, stamp(workspace, version_id))


@lru_cache(maxsize=64)
def _verified(workspace: Workspace, version_id: str, _: Stamp) -> tuple[str, ...]:
    return tuple(verify(workspace, version_id))


def _changed_files(folder: Path) -> list[str]:
    """What the finer checks do not look at: means, spelling, padding."""
    said, lines = (folder / SUMS).read_bytes(), _sums(folder)
    if said == "".join(lines.values()).encode():
        return []
    return [f"{name} is not the file that was written" for name, line in lines.items() if line.encode() not in said] or [f"{SUMS} was changed"]


def _sums(folder: Path) -> dict[str, str]:
    """Name -> its line in SUMS."""
    return {name: f"{sha256_of(folder / name)}  {name}\n" for name in _FILES}


def _differences(version_id: str, stated: dict[str, Any], rows: pd.DataFrame, pixels: Pixels, recorded_sha256: str | None) -> list[str]:
    problems = []
    if recorded_sha256 not in (None, stated["manifest_sha256"]):
        problems.append("the manifest_sha256 in version.json is not the one that was recorded when the version was frozen")
    recipe = stated["recipe"]
    scheme = SCHEMES.get(recipe["scheme"])  # of a scheme of the workspace, only the database knows the classes
    if (stated["version_id"], stated["scheme_id"]) != (version_id, recipe["scheme"]) or (scheme and stated["classes"] != list(scheme.ids)):
        problems.append("the id, scheme or classes in version.json are not those of the recipe")
    if manifest_sha256(rows, stated["recipe"]) != stated["manifest_sha256"]:
        problems.append("manifest.parquet does not hash to the stated manifest_sha256")
    included = rows[rows["exclusion"].isna()]
    if len(included) != len(pixels):
        problems.append(f"pixels.npy holds {len(pixels):,} images, the manifest includes {len(included):,}")
    else:
        names = included["pixel_id" if recipe.get("format", 1) > 1 or recipe.get("transforms") else "image_id"]
        wrong = [i for i, (name, p) in enumerate(zip(names, pixels, strict=True)) if image_id(np.asarray(p)) != name]
        if wrong:
            problems.append(f"{len(wrong):,} images differ from their id, the first is {included['sample_id'].iloc[wrong[0]]}")
    for part in ("split", "fold"):
        if part in included and (crossing := included.groupby("duplicate_group")[part].nunique()).gt(1).any():
            problems.append(f"identical faces lie in several {part}s, the first are group {crossing.index[crossing > 1][0]}")
    if strange := set(included["label"]) - set(stated["classes"]):
        problems.append(f"{', '.join(sorted(map(str, strange)))} is no class of the version")
    counts = {split: int((included["split"] == split).sum()) for split in SPLITS}
    if {**counts, "excluded": len(rows) - len(included)} != stated["counts"]:
        problems.append("the counts in version.json are not those of the manifest")
    return problems
