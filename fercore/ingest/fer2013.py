"""FER-2013 as the original CSV (`emotion,pixels,Usage`), plain or gzipped, with FER+ votes joined by row."""

import csv
import gzip
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from uuid_utils import uuid7

from fercore.domain import SIDE, Permission, Person, Pixels, image_id, sample_id, slug
from fercore.errors import BadInput, Conflict
from fercore.ingest.files import readable, refusing
from fercore.schemes import FER7, FERPLUS_COLUMNS
from fercore.store import Store, samples

USAGES = ("Training", "PublicTest", "PrivateTest")
BATCH = 4096  # rows held in memory at a time: about 10 MB of pixels
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


@dataclass
class ImportReport:
    """What an import did. `rejected` holds (row, line, reason)."""

    source_id: str
    read: int = 0
    added: int = 0
    votes_added: int = 0
    rejected: list[tuple[int, int, str]] = field(default_factory=list)

    @property
    def unchanged(self) -> bool:
        return not self.added and not self.votes_added

    def sentence(self) -> str:
        out = f"{self.read:,} rows read, {self.added:,} added, {len(self.rejected):,} rejected"
        if self.votes_added:
            out += f", {self.votes_added:,} imported votes"
        return f"Nothing changed: all {self.read - len(self.rejected):,} rows of {self.source_id} are here already" if self.unchanged else out


def check(path: Path, ferplus: Path | None = None) -> None:
    """Raises: BadInput: a file is missing, or does not begin like what it should be."""
    if next(iter(read_fer2013(path)), None) is None:
        raise BadInput("The file is empty", f"{path} has a header but no row", "Give the original fer2013.csv")
    if ferplus:
        read_ferplus(ferplus)


def import_fer2013(store: Store, actor: Person, path: Path, *, ferplus: Path | None = None, name: str = "fer2013",
                   licence: str | None = None, progress: Progress = lambda done, total: None) -> ImportReport:
    """Imports a FER-2013 CSV in one transaction; rows that cannot be used are reported, the rest come in.

    Importing the same file again changes nothing. Votes are joined by row number, never by image name.

    Raises:
        BadInput: not such a file, cut short, or the votes do not belong to it.
        Conflict: the source holds other content under the same row.
        NotAllowed: the actor may not import.
    """
    actor.require(Permission.IMPORT)
    votes = read_ferplus(ferplus) if ferplus else None
    report, import_id = ImportReport(slug(name)), str(uuid7())
    digest = hashlib.sha256()
    with store.write("samples") as w:
        batch: list[FerRow] = []
        vote_rows: list[tuple[str, str, int]] = []

        def flush() -> None:
            table = _arrow(report.source_id, batch)
            differing = samples.known(w, table)
            if differing:
                row, what = differing[0]
                raise Conflict(f"Source {report.source_id} holds other data", f"Row {row} of {path.name} differs in its {what}",
                               "Import it under another name with --name")
            report.added += samples.insert(w, table, import_id)
            if votes:
                ids = table["sample_id"].to_pylist()
                for key, r in zip(ids, batch, strict=True):
                    vote_rows.extend((key, value, int(n)) for value, n in zip(FERPLUS_COLUMNS.values(), votes.counts[r.row], strict=True) if n)
            batch.clear()

        for item in read_fer2013(path, digest, progress):
            report.read += 1
            if isinstance(item, Rejected):
                report.rejected.append((item.row, item.line, item.reason))
                continue
            if votes and item.row < len(votes.usages) and votes.usages[item.row] != item.usage:
                raise BadInput("The votes belong to another file", f"Row {item.row} is {item.usage} in {path.name} but "
                               f"{votes.usages[item.row]} in {votes.name}", "FER+ is joined by row: give the file it was made for")
            if votes and item.row >= len(votes.usages):
                raise BadInput("The votes belong to another file", f"{votes.name} ends after {len(votes.usages):,} rows; {path.name} "
                               "has more", "FER+ is joined by row: give the file it was made for")
            batch.append(item)
            if len(batch) == BATCH:
                flush()
        if batch:
            flush()
        if not report.read:
            raise BadInput("The file is empty", f"{path} has a header but no row")
        if len(report.rejected) == report.read:
            _, line, reason = report.rejected[0]
            raise BadInput("No row could be used", f"{path}, line {line}: {reason}", "Give the original fer2013.csv")
        if votes and votes.total > report.read:
            raise BadInput("The votes belong to another file", f"{votes.name} has {votes.total:,} rows, {path.name} {report.read:,}",
                           "FER+ is joined by row: give the file it was made for")
        if vote_rows:
            keys, values, counts = zip(*vote_rows, strict=True)
            table = pa.table({"sample_id": keys, "origin": ["ferplus"] * len(keys), "field": ["expression"] * len(keys), "value": values,
                              "votes": pa.array(counts, pa.int32())})
            if samples.other_votes(w, table):
                raise Conflict(f"{report.source_id} holds other votes", f"{votes.name if votes else ''} differs from the FER+ votes that are here",
                               "Import the faces under another name with --name to keep both")
            report.votes_added = samples.insert_votes(w, table)
        if not report.unchanged or not samples.imported_before(w, report.source_id, digest.hexdigest()):
            samples.record_import(w, {
                "import_id": import_id, "source_id": report.source_id, "kind": "fer2013 csv", "file_name": path.name,
                "file_sha256": digest.hexdigest(), "licence": licence, "rows_read": report.read, "rows_added": report.added,
                "rows_rejected": len(report.rejected), "votes_added": report.votes_added, "person_id": actor.person_id,
            }, report.rejected)
    return report


def read_fer2013(path: Path, digest: "hashlib._Hash | None" = None, progress: Progress = lambda done, total: None,
                 ) -> Iterator[FerRow | Rejected]:
    """Every data row of the file, in order.

    Args:
        digest: is fed the decompressed bytes, so that a gzipped and a plain copy have one hash.

    Raises:
        BadInput: not a CSV of this kind, empty, or a gzip that ends too early.
    """
    with readable(path).open("rb") as raw, refusing(path):
        size = os.fstat(raw.fileno()).st_size
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        lines = io.BufferedReader(gzip.GzipFile(fileobj=raw) if packed else raw, 1 << 20)
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


def _lines(stream: BinaryIO | io.BufferedReader) -> Iterator[bytes]:
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
        "source_row": pa.array([r.row for r in rows], pa.int64()),
        "image_id": [image_id(p) for p in stack],
        "given_label": [r.label for r in rows],
        "source_split": [r.usage for r in rows],
        "gray48": pa.array([p.tobytes() for p in stack], pa.binary()),
        "mean": flat.mean(axis=1),
        "sd": flat.std(axis=1),
    })
