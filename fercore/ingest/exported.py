"""An export of a version (format parquet) into a workspace: the facts it was made from, so that its recipe makes the same version here."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from uuid_utils import uuid7

from fercore.domain import SIDE, Permission, Person, Role, image_id
from fercore.errors import BadInput, Conflict
from fercore.ingest.fer2013 import DryRun, Progress
from fercore.ingest.files import readable, sha256_of
from fercore.ingest.folder import shown
from fercore.store import Store, exchange
from fercore.store import samples as table

_BLOCK = 8192  # images in memory at a time
_VOTED = "imported with an export"


@dataclass(frozen=True)
class ExportReport:
    """What an import did, or with `dry_run` would do. `recipe` makes the version again, whose manifest then has `manifest_sha256`."""

    version_id: str
    manifest_sha256: str
    recipe: Mapping[str, Any]
    dry_run: bool
    added: Mapping[str, int]

    @property
    def unchanged(self) -> bool:
        return not any(self.added.values())

    def sentence(self) -> str:
        if self.unchanged:
            return f"Nothing changed: all of {self.version_id} is here already"
        return f"{', '.join(f'{n:,} {what}' for what, n in self.added.items())} of {self.version_id} added" + (
            "; nothing was written" if self.dry_run else "")


def import_export(store: Store, actor: Person, folder: Path, *, dry_run: bool = False, progress: Progress = lambda done, total: None) -> ExportReport:
    """Takes over a Parquet export in one transaction; the same again changes nothing.

    Args:
        progress: gets (images, images in all); what it raises cancels the import.

    Raises:
        BadInput: not such a folder, or a file is not the one that was exported. NotAllowed. Conflict: other content under the same rows is here.
    """
    actor.require(Permission.IMPORT)
    about, recipe, tables = _read(folder)
    voters = {(e["person_id"], e["role"]) for e in tables["events"].select(["person_id", "role"]).to_pylist()}
    people = [Person(person, person.replace("-", " ").capitalize(), Role(role), _VOTED) for person, role in sorted(voters)]
    record = {"import_id": str(uuid7()), "file_name": shown(folder.name), "file_sha256": sha256_of(folder / "SHA256SUMS")}
    added: dict[str, int] = {}
    with suppress(DryRun), store.write("samples", "labels", "findings", "schemes", "people") as w:
        with pq.ParquetFile(folder / "images.parquet") as images:
            done, total = 0, images.metadata.num_rows
            for batch in images.iter_batches(_BLOCK):
                _check(batch)
                table.insert_images(w, pa.Table.from_batches([batch]))
                done += len(batch)
                progress(done, total)
        if differing := exchange.known(w, tables):
            row, what = differing[0]
            raise Conflict("The workspace holds other data", f"Row {row} of {folder.name} is here with another {what}",
                           "Import it into a workspace of its own")
        added = exchange.take_over(w, tables, actor, people, record)
        if dry_run:
            raise DryRun
    return ExportReport(about["version_id"], about["manifest_sha256"], recipe, dry_run, added)


def check_export(folder: Path) -> None:
    """Raises: BadInput: not the folder of an export, or a file is not the one that was exported."""
    _read(folder)


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, pa.Table]]:
    if not folder.is_dir():
        raise BadInput("No such folder", str(folder), "Name the folder of an export in the form parquet")
    names = [f"{n}.parquet" for n in exchange.TABLES] + ["recipe.json", "version.json"]
    sums = readable(folder / "SHA256SUMS").read_text(encoding="utf-8", errors="replace").splitlines()
    listed = {name: sha for sha, _, name in (line.partition("  ") for line in sums)}
    for name in names:
        if sha256_of(readable(folder / name)) != listed.get(name):
            raise BadInput("The export was changed", f"{folder / name} is not the file that was exported", "Export it again")
    try:
        tables = {name: pq.read_table(folder / f"{name}.parquet") for name in exchange.TABLES if name != "images"}
        return *(json.loads((folder / n).read_text(encoding="utf-8")) for n in ("version.json", "recipe.json")), tables
    except (ValueError, pa.ArrowException) as error:
        raise BadInput("The export cannot be read", f"{folder}: {error}", "Export it again") from error


def _check(batch: pa.RecordBatch) -> None:
    """An image of the standard size is what its id says; of others only the standard image is here."""
    for row in batch.to_pylist():
        if (row["height"], row["width"], row["mode"]) == (SIDE, SIDE, "L") and image_id(
                np.frombuffer(row["gray48"], np.uint8).reshape(SIDE, SIDE)) != row["image_id"]:
            raise BadInput("The export cannot be used", f"image {row['image_id'][:12]} has other pixels than its id says", "Export it again")
