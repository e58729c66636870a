"""FER-2013 as the original CSV (`emotion,pixels,Usage`), also gzipped or in a ZIP or TAR, with FER+ votes joined by row."""

import csv
import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from uuid_utils import uuid7

from fercore.domain import SIDE, Permission, Person, Pixels, image_id, sample_id, slug
from fercore.errors import BadInput, Conflict
from fercore.ingest.files import readable, refusing, sha256_of, unpacked
from fercore.ingest.folder import shown
from fercore.schemes import FER7, FERPLUS_COLUMNS
from fercore.store import Store, samples, sources
from fercore.store.connection import Writer

KIND = "fer2013 csv"  # of a source
_JOINED = "FER+ is joined by row: give the file it was made for"
USAGES = ("Training", "PublicTest", "PrivateTest")
BATCH = 4096  # rows held in memory at a time: about 10 MB of pixels
_SCHEMA = pa.schema({"sample_id": pa.string(), "source_id": pa.string(), "source_row": pa.int64(), "image_id": pa.string(),
                     "given_label": pa.string(), "source_split": pa.string(), "gray48": pa.binary(), "mean": pa.float64(), "sd": pa.float64()})
_LONGEST_LINE = 32_768  # bytes; 2,304 numbers of three digits take 9,216
Progress = Callable[[int, int], None]  # (bytes read, bytes in the file)


@dataclass(frozen=True)
class FerRow:
    row: int  # 0-based data row, as FER+ counts
    label: str
    usage: str
    pixels: Pixels


@dataclass(frozen=True)
class Rejected:
    row: int
    line: int  # 1-based line in the file
    reason: str


class DryRun(Exception):
    """Raised at the end of a transaction that is not meant to last."""


@dataclass
class ImportReport:
    """What an import did, or with `dry_run` would do.

    Attributes:
        labels: (text, class id, rows). rejected: (row, line, reason).
    """

    source_id: str
    dry_run: bool = False
    read: int = 0
    added: int = 0
    votes_added: int = 0
    labels: list[tuple[str, str, int]] = field(default_factory=list)
    rejected: list[tuple[int, int, str]] = field(default_factory=list)

    @property
    def unchanged(self) -> bool:
        return not self.added and not self.votes_added

    def sentence(self) -> str:
        if self.unchanged:
            return f"Nothing changed: all {self.read - len(self.rejected):,} rows of {self.source_id} are here already"
        return f"{self.read:,} rows read, {self.added:,} added, {len(self.rejected):,} rejected" + (
            f", {self.votes_added:,} imported votes" if self.votes_added else "") + ("; nothing was written" if self.dry_run else "")


def check(path: Path, ferplus: Path | None = None) -> None:
    """Raises: BadInput: a file is missing, or does not begin like what it should be."""
    if next(iter(read_fer2013(path)), None) is None:
        raise BadInput("The file is empty", f"{path} has a header but no row", "Give the original fer2013.csv")
    if ferplus:
        read_ferplus(ferplus)


def import_fer2013(store: Store, actor: Person, path: Path, *, ferplus: Path | None = None, name: str = "fer2013",
                   licence: str | None = None, authors: str | None = None, organisation: str | None = None, url: str | None = None,
                   note: str | None = None, dry_run: bool = False, progress: Progress = lambda done, total: None) -> ImportReport:
    """Imports a FER-2013 CSV in one transaction; rows that cannot be used are reported, the rest come in.

    Importing the same file again changes nothing. Votes are joined by row number, never by image name.

    Args:
        licence, authors, organisation, url, note: as the source states them; other ones for a file that is here are recorded, None keeps them.
        dry_run: say what would come in; nothing stays. progress: gets (bytes read, bytes); what it raises cancels the import.

    Raises:
        BadInput: not such a file, cut short, or the votes do not belong to it.
        Conflict: the source holds other content under the same row.
        NotAllowed: the actor may not import.
    """
    actor.require(Permission.IMPORT)
    votes = read_ferplus(ferplus) if ferplus else None
    report, import_id = ImportReport(slug(name), dry_run), str(uuid7())
    stated = {"licence": licence, "authors": authors, "organisation": organisation, "url": url, "note": note}
    digest, counts, rows = hashlib.sha256(), Counter[str](), 0
    with tempfile.TemporaryFile() as spool:
        with pa.ipc.new_stream(spool, _SCHEMA) as out:  # read first: a transaction holds up whoever labels
            for table in _tables(path, digest, progress, report):
                out.write_table(table)
                counts.update(table["given_label"].to_pylist())
                rows = table["source_row"][-1].as_py() + 1
        if not report.read:
            raise BadInput("The file is empty", f"{path} has a header but no row")
        if len(report.rejected) == report.read:
            _, line, reason = report.rejected[0]
            raise BadInput("No row could be used", f"{path}, line {line}: {reason}", "Give the original fer2013.csv")
        report.labels = [(str(number), class_id, counts[class_id]) for number, class_id in enumerate(FER7.ids) if counts[class_id]]
        spool.seek(0)
        with suppress(DryRun), store.write("samples") as w:
            for batch in pa.ipc.open_stream(spool):
                table = pa.Table.from_batches([batch])
                if differing := samples.known(w, table):
                    row, what = differing[0]
                    raise Conflict(f"Source {report.source_id} holds other data", f"Row {row} of {path.name} differs in its {what}",
                                   "Import it under another name with --name")
                report.added += samples.insert(w, table, import_id)
                progress(path.stat().st_size, path.stat().st_size)
            if votes:
                report.votes_added = _add_votes(w, report.source_id, votes, max(rows, *(r + 1 for r, _, _ in report.rejected[-1:]), 0))
            if dry_run:
                raise DryRun
            before = sources.provenance(w, report.source_id)
            if (not report.unchanged or not samples.imported_before(w, report.source_id, digest.hexdigest())
                    or any(before.get(k) != v for k, v in stated.items() if v is not None)):
                samples.record_import(w, {
                    "import_id": import_id, "source_id": report.source_id, "kind": KIND, "file_name": shown(path.name),
                    "file_sha256": digest.hexdigest(), **stated, "rows_read": report.read, "rows_added": report.added,
                    "rows_rejected": len(report.rejected), "votes_added": report.votes_added, "person_id": actor.person_id,
                }, report.rejected)
    return report


def _tables(path: Path, digest: "hashlib._Hash", progress: Progress, report: ImportReport) -> Iterator[pa.Table]:
    """The rows that can be used, at most BATCH at a time; all are counted in the report."""
    batch = list[FerRow]()
    for item in read_fer2013(path, digest, progress):
        report.read += 1
        if isinstance(item, Rejected):
            report.rejected.append((item.row, item.line, item.reason))
            continue
        batch.append(item)
        if len(batch) == BATCH:
            yield _arrow(report.source_id, batch)
            batch = []
    if batch:
        yield _arrow(report.source_id, batch)


def import_votes(store: Store, actor: Person, path: Path, *, source: str = "fer2013", dry_run: bool = False) -> ImportReport:
    """FER+ votes onto the rows of a FER-2013 file that are here, in one transaction. The same again changes nothing.

    Raises:
        BadInput: no such file, its votes belong to another, or `source` is no FER-2013 file. Conflict: other votes are here. NotAllowed.
    """
    actor.require(Permission.IMPORT)
    votes = read_ferplus(path)
    report = ImportReport(slug(source), dry_run, votes.total)
    with suppress(DryRun), store.write("samples", "labels") as w:
        rows = sources.rows_read(w, report.source_id, KIND)
        if not rows:
            raise BadInput("Nothing to vote on", f"{report.source_id} is no FER-2013 file of this workspace",
                           "Import that file first, or name --source")
        report.votes_added = _add_votes(w, report.source_id, votes, rows)
        if dry_run:
            raise DryRun
        if not report.unchanged:
            samples.record_import(w, {"import_id": str(uuid7()), "source_id": report.source_id, "kind": "labels", "name": "ferplus",
                                      "file_name": shown(path.name), "file_sha256": sha256_of(path), "rows_read": report.read,
                                      "rows_added": 0, "rows_rejected": 0,
                                      "votes_added": report.votes_added, "person_id": actor.person_id}, [])
    return report


def _add_votes(w: Writer, source_id: str, votes: "FerPlus", rows: int) -> int:
    """How many vote counts of a file of `rows` rows are new. Raises: BadInput: the votes belong to another file. Conflict: others are here."""
    if votes.total != rows:
        raise BadInput("The votes belong to another file", f"{votes.name} has {votes.total:,} rows, the faces {rows:,}", _JOINED)
    found = list[tuple[str, str, int]]()
    for key, row, usage in sources.places(w, source_id):
        if row < rows and votes.usages[row] != usage:
            raise BadInput("The votes belong to another file", f"Row {row} is {usage} here but {votes.usages[row]} in {votes.name}", _JOINED)
        if row < rows:
            found += [(key, value, int(n)) for value, n in zip(FERPLUS_COLUMNS.values(), votes.counts[row], strict=True) if n]
    if not found:
        return 0
    keys, values, counts = zip(*found, strict=True)
    table = pa.table({"sample_id": keys, "origin": ["ferplus"] * len(keys), "field": ["expression"] * len(keys), "value": values,
                      "votes": pa.array(counts, pa.int32())})
    if samples.other_votes(w, table):
        raise Conflict(f"{source_id} holds other votes", f"{votes.name} differs from the FER+ votes that are here",
                       "Import the faces under another name with --name to keep both")
    return samples.insert_votes(w, table)


def read_fer2013(path: Path, digest: "hashlib._Hash | None" = None, progress: Progress = lambda done, total: None,
                 ) -> Iterator[FerRow | Rejected]:
    """Every data row of the file, in order.

    Args:
        digest: is fed the decompressed bytes, so that a gzipped and a plain copy have one hash.

    Raises:
        BadInput: not a CSV of this kind, empty, or a packed file that ends too early.
    """
    with readable(path).open("rb") as raw, refusing(path), unpacked(path, raw) as lines:
        size = os.fstat(raw.fileno()).st_size
        header = lines.readline(_LONGEST_LINE)
        if not header:
            raise BadInput("The file is empty", str(path), "Give the original fer2013.csv")
        columns = [c.strip().strip('"') for c in header.decode("utf-8-sig", "replace").strip().split(",")]
        if [c.lower() for c in columns] != ["emotion", "pixels", "usage"]:
            raise BadInput("Not a FER-2013 CSV", f"{path} begins with {header[:60].decode('utf-8', 'replace').strip()!r}",
                           "The first line must be emotion,pixels,Usage")
        if digest:
            digest.update(header)
        for row, line in enumerate(_lines(lines)):
            if digest:
                digest.update(line)
            if row % 256 == 0:
                progress(raw.tell(), size)
            if line.strip():
                yield _parse(row, line)
        progress(size, size)


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Lines of bounded length; what is longer is cut, so that its row is rejected instead of filling the memory."""
    while line := stream.readline(_LONGEST_LINE):
        while not line.endswith(b"\n") and len(line) >= _LONGEST_LINE and (rest := stream.readline(_LONGEST_LINE)):
            if rest.endswith(b"\n"):
                break
        yield line


def _parse(row: int, line: bytes) -> FerRow | Rejected:
    def no(reason: str) -> Rejected:
        return Rejected(row, row + 2, reason)

    parts = [p.strip().strip(b'"') for p in line.split(b",")]
    if len(parts) != 3:
        return no(f"truncated line: {len(parts)} of 3 columns" if len(parts) < 3 else f"{len(parts)} columns instead of 3")
    emotion, text, usage = parts
    if not (len(emotion) == 1 and emotion.isdigit() and int(emotion) < len(FER7.classes)):
        return no(f"unknown emotion {emotion[:20].decode('utf-8', 'replace')!r}")
    name = usage.decode("utf-8", "replace")
    if name not in USAGES:
        return no(f"unknown Usage {name[:20]!r}")
    try:
        values = np.fromstring(text.decode("ascii"), dtype=np.int64, sep=" ")
    except (ValueError, UnicodeDecodeError):
        return no("pixels are not whole numbers")
    if values.size != SIDE * SIDE:
        return no(f"{values.size:,} pixels instead of {SIDE * SIDE:,}")
    if values.min() < 0 or values.max() > 255:
        return no(f"pixel value {values[(values < 0) | (values > 255)][0]} outside 0-255")
    return FerRow(row, FER7.ids[int(emotion)], name, values.astype(np.uint8).reshape(SIDE, SIDE))


@dataclass(frozen=True)
class FerPlus:
    """FER+ votes by row: counts int [n, 10] in the order of FERPLUS_COLUMNS, usages [n]."""

    name: str
    usages: list[str]
    counts: npt.NDArray[np.int64]

    @property
    def total(self) -> int:
        return len(self.usages)


def read_ferplus(path: Path) -> FerPlus:
    """Raises: BadInput: not a FER+ votes file, with the line at fault."""
    usages: list[str] = []
    counts: list[list[int]] = []
    with readable(path).open(newline="", encoding="utf-8-sig", errors="replace") as file, refusing(path):
        reader = csv.DictReader(file)
        missing = {"Usage", *FERPLUS_COLUMNS} - set(reader.fieldnames or ())
        if missing:
            raise BadInput("Not a FER+ votes file", f"{path} lacks the columns {', '.join(sorted(missing))}",
                           "Give fer2013new.csv of FER+")
        for record in reader:
            try:
                row = [int(record[c]) for c in FERPLUS_COLUMNS]
            except (TypeError, ValueError):
                raise BadInput("Bad votes", f"{path}, line {reader.line_num}: votes must be whole numbers") from None
            if min(row) < 0 or max(row) > 1_000_000:
                raise BadInput("Bad votes", f"{path}, line {reader.line_num}: a vote count is negative or above a million")
            usages.append(record["Usage"])
            counts.append(row)
    if not usages:
        raise BadInput("The file is empty", f"{path} has no row")
    return FerPlus(path.name, usages, np.array(counts))


def _arrow(source_id: str, rows: list[FerRow]) -> pa.Table:
    stack = np.stack([r.pixels for r in rows])
    flat = stack.reshape(len(rows), -1)
    return pa.table({
        "sample_id": [sample_id(source_id, r.row) for r in rows],
        "source_id": [source_id] * len(rows),
        "source_row": [r.row for r in rows],
        "image_id": [image_id(p) for p in stack],
        "given_label": [r.label for r in rows],
        "source_split": [r.usage for r in rows],
        "gray48": [p.tobytes() for p in stack],
        "mean": flat.mean(axis=1),
        "sd": flat.std(axis=1),
    }, schema=_SCHEMA)
