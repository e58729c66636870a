"""Provenance of sources, the files behind samples, and what changed from one import to the next."""

import hashlib
import itertools
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from fercore.domain import Workspace
from fercore.errors import NotFound
from fercore.store.connection import Store, Writer, now

_STATES = """
    SELECT s.image_id, s.sample_id, f.file_name, f.file_sha256, f.raw_label, s.given_label, s.source_split, coalesce(f.gone, false) AS gone
    FROM facts.sample AS s LEFT JOIN sample_files AS f ON f.sample_id = s.sample_id WHERE s.source_id = $source
    ORDER BY s.source_row, s.sample_id
"""
PROVENANCE = ("name", "authors", "organisation", "licence", "url", "note", "label_map", "method")


def states(at: Store | Writer, source_id: str) -> list[tuple[Any, ...]]:
    """What is known of the samples of a source: image_id, sample_id, file_name (None: not from a file), file_sha256, raw_label, given_label,
    source_split, gone."""
    return at.run(_STATES, {"source": source_id}) if isinstance(at, Writer) else at.rows(_STATES, {"source": source_id})


def apply_changes(w: Writer, batch: pa.Table, import_id: str) -> None:
    """Appends what changed (sample_id, change, file_name, file_sha256, raw_label, given_label, source_split, note) and lets the samples say it."""
    w.bulk("INSERT INTO facts.sample_file SELECT sample_id, $import, change, file_name, file_sha256, raw_label, given_label, source_split, note, $at "
           "FROM batch", batch, {"import": import_id, "at": now()})
    w.bulk("""
        UPDATE facts.sample AS s SET given_label = b.given_label, source_split = b.source_split FROM batch AS b
        WHERE b.sample_id = s.sample_id AND (b.given_label IS DISTINCT FROM s.given_label OR b.source_split IS DISTINCT FROM s.source_split)
    """, batch)


def other_standards(w: Writer, batch: pa.Table) -> int:
    """How many images of `batch` (image_id, gray48) are here with another standard image, which stays."""
    return int(w.bulk("SELECT count(DISTINCT b.image_id) FROM batch AS b JOIN facts.image AS i ON i.image_id = b.image_id "
                      "WHERE i.gray48 <> b.gray48", batch)[0][0])


def provenance(w: Writer, source_id: str) -> dict[str, Any]:
    """What the last import of a source stated; empty for a new source."""
    rows = w.run(f"SELECT {', '.join(PROVENANCE)} FROM facts.import WHERE source_id = $s AND kind NOT IN ('tags', 'labels') "
                 "ORDER BY recorded_at DESC LIMIT 1", {"s": source_id})
    return dict(zip(PROVENANCE, rows[0], strict=True)) if rows else {}


def rows_read(w: Writer, source_id: str, kind: str) -> int | None:
    """Rows of the largest file of that kind that the source was imported from."""
    found: int | None = w.run("SELECT max(rows_read) FROM facts.import WHERE source_id = $s AND kind = $k", {"s": source_id, "k": kind})[0][0]
    return found


def places(w: Writer, source_id: str) -> list[tuple[str, int, str]]:
    """(sample_id, source_row, source_split) of every sample of a source."""
    return w.run("SELECT sample_id, source_row, source_split FROM facts.sample WHERE source_id = $s", {"s": source_id})


def originals(workspace: Workspace) -> Path:
    """Where original bytes lie, packed one file an import."""
    return workspace.root / "originals"


def kept(store: Store) -> set[str]:
    """SHA-256 (hex) of every original that is here."""
    return {r[0] for r in store.rows("SELECT file_sha256 FROM facts.original")}


def insert_originals(w: Writer, batch: pa.Table, pack: str) -> None:
    """Records where originals (file_sha256, place, size in bytes) lie in a pack."""
    w.bulk("INSERT INTO facts.original SELECT file_sha256, $pack, place, size, $at FROM batch AS b "
           "WHERE NOT EXISTS (FROM facts.original AS o WHERE o.file_sha256 = b.file_sha256)", batch, {"pack": pack, "at": now()})


def original(store: Store, file_sha256: str) -> bytes:
    """The bytes of a file as they were imported. Raises: NotFound: not kept, or no longer what they were."""
    rows = store.rows("SELECT pack, place, size FROM facts.original WHERE file_sha256 = $h", {"h": file_sha256})
    if rows:
        pack, place, size = rows[0]
        try:
            with (originals(store.workspace) / pack).open("rb") as file:
                file.seek(place)
                data: bytes = file.read(size)
        except OSError:
            data = b""
        if hashlib.sha256(data).hexdigest() == file_sha256:
            return data
    raise NotFound("The original is not here", f"{file_sha256[:12]} is {'damaged or gone' if rows else 'of no import'}",
                   "Restore originals/ from a backup")


def damaged_originals(store: Store) -> tuple[int, list[str]]:
    """How many original files are kept, and the SHA-256 of those whose bytes are not there or not what they were. Reads every byte of them."""
    kept = store.rows("SELECT file_sha256, pack, place, size FROM facts.original ORDER BY pack, place")
    damaged = []
    for pack, group in itertools.groupby(kept, key=lambda row: row[1]):
        try:
            with (originals(store.workspace) / pack).open("rb") as file:
                for sha, _, place, size in group:
                    file.seek(place)
                    if hashlib.sha256(file.read(size)).hexdigest() != sha:
                        damaged.append(sha)
        except OSError:
            damaged += [row[0] for row in kept if row[1] == pack]
    return len(kept), damaged


def sweep(store: Store) -> int:
    """Deletes what a killed import left in originals/, files that no row names; returns how many. Only while no import is under way."""
    named = {r[0] for r in store.rows("SELECT DISTINCT pack FROM facts.original")}
    left = [p for p in originals(store.workspace).glob("*.*") if p.suffix in (".half", ".pack") and p.name not in named]
    for path in left:
        path.unlink()
    return len(left)


def answers(store: Store, person_id: str, field: str) -> dict[str, str]:
    """image_id -> what a person answers at present."""
    return dict(store.rows("SELECT image_id, value FROM standing WHERE person_id = $p AND field = $f AND op = 'set' AND round = 'vote'",
                           {"p": person_id, "f": field}))


def names(store: Store, source_id: str | None) -> list[tuple[str, str, int, str | None]]:
    """(sample_id, image_id, source_row, file_name) of every sample of a source, or of all; a file that is gone leaves its name to others."""
    return store.rows("SELECT s.sample_id, s.image_id, s.source_row, CASE WHEN NOT f.gone THEN f.file_name END FROM facts.sample AS s "
                      "LEFT JOIN sample_files AS f ON f.sample_id = s.sample_id WHERE $source IS NULL OR s.source_id = $source",
                      {"source": source_id})


def table(store: Store) -> pd.DataFrame:
    """One row a source with its provenance, what it holds and who imported it last."""
    return store.frame("""
        WITH held AS (
            SELECT s.source_id, count(*) AS samples, count(*) FILTER (s.given_label IS NULL) AS unlabelled, count(*) FILTER (f.gone) AS gone
            FROM facts.sample AS s LEFT JOIN sample_files AS f ON f.sample_id = s.sample_id GROUP BY s.source_id)
        SELECT o.source_id, o.name, o.kind, coalesce(h.samples, 0) AS samples, coalesce(h.unlabelled, 0) AS unlabelled, coalesce(h.gone, 0) AS gone,
               o.rows_rejected AS rejected, o.authors, o.organisation, o.licence, o.url, o.note, o.label_map, o.method, o.file_name, o.file_sha256,
               o.imports, coalesce(p.name, o.person_id) AS imported_by, o.recorded_at
        FROM sources AS o LEFT JOIN held AS h ON h.source_id = o.source_id LEFT JOIN people AS p ON p.person_id = o.person_id ORDER BY o.source_id
    """)
