"""Perceived age and gender tags made elsewhere, or FER+ votes, onto samples that exist."""

import csv
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
from uuid_utils import uuid7

from fercore.domain import Permission, Person, sample_id, slug
from fercore.errors import BadInput, Conflict
from fercore.ingest.fer2013 import DryRun, ImportReport, import_votes
from fercore.ingest.files import readable, refusing, sha256_of
from fercore.ingest.folder import shown
from fercore.schemes import AGE_BANDS, CANNOT_TELL, FERPLUS_COLUMNS, GENDERS
from fercore.store import Store, samples, sources

# Other people's words for the same bands; the terms of the product are on the right.
_AGES = {"old": "senior", "elderly": "senior", "middle-aged": "middle_aged", "middle aged": "middle_aged", "adult": "middle_aged",
         **{a: a for a in (*AGE_BANDS.ids, CANNOT_TELL)}}
_GENDERS = {"man": "male", "woman": "female", "m": "male", "f": "female", **{g: g for g in (*GENDERS.ids, CANNOT_TELL)}}


def import_tags(store: Store, actor: Person, path: Path, *, source: str = "fer2013", dry_run: bool = False) -> ImportReport:
    """Imports a CSV with columns csv_row, age_group (or age_band) and gender, or FER+ votes, onto the rows of `source`, in one transaction.

    Raises:
        BadInput: columns are missing or no row fits. Conflict: other tags are here. NotAllowed: the actor may not import.
    """
    actor.require(Permission.IMPORT)
    report = ImportReport(slug(source), dry_run)
    here = {r[0] for r in sources.names(store, report.source_id)}
    if not here:
        raise BadInput("Nothing to tag", f"The workspace has no source {report.source_id!r}", "Import the faces first, or name --source")
    found: list[tuple[str, str, str]] = []
    given: dict[str, tuple[str | None, str | None]] = {}
    with readable(path).open(newline="", encoding="utf-8-sig", errors="replace") as file, refusing(path):
        reader = csv.DictReader(file)
        names = set(reader.fieldnames or ())
        if set(FERPLUS_COLUMNS) <= names:
            return import_votes(store, actor, path, source=source, dry_run=dry_run)
        age_column = "age_band" if "age_band" in names else "age_group"
        if not {"csv_row", age_column, "gender"} <= names:
            raise BadInput("Not a tags file", f"{path} has the columns {', '.join(sorted(names)) or 'none'}",
                           "It needs csv_row, age_group (or age_band) and gender; FER+ needs the columns of fer2013new.csv")
        for record in reader:
            report.read += 1
            text = (record["csv_row"] or "").strip()
            age = _AGES.get((record[age_column] or "").strip().lower())
            gender = _GENDERS.get((record["gender"] or "").strip().lower())
            key = sample_id(report.source_id, int(text)) if text.isascii() and text.isdigit() and len(text) < 10 else None
            reason = ("csv_row is not a whole number" if key is None else f"row {text} is not in {report.source_id}" if key not in here
                      else f"unknown age {record[age_column]!r}" if age is None else f"unknown gender {record['gender']!r}" if gender is None
                      else None)
            if key is not None and given.setdefault(key, (age, gender)) != (age, gender):
                reason = f"row {text} has other tags in an earlier line"
            if reason or key is None or age is None or gender is None:
                report.rejected.append((int(text) if key else -1, reader.line_num, reason or ""))
                continue
            found += [(key, "age_band", age), (key, "gender", gender)]
    if not found:
        raise BadInput("No row could be used", f"{path}: {report.rejected[0][2] if report.rejected else 'the file has no row'}")
    keys, fields, values = zip(*dict.fromkeys(found), strict=True)
    with suppress(DryRun), store.write("samples", "labels") as w:
        table = pa.table({"sample_id": keys, "origin": ["tags"] * len(keys), "field": fields, "value": values,
                          "votes": pa.array([1] * len(keys), pa.int32())})
        if samples.other_votes(w, table):
            raise Conflict(f"{report.source_id} holds other tags", f"{path.name} differs from the tags that are here",
                           "Correct single faces on the Tag page; imported facts are not overwritten")
        report.votes_added = samples.insert_votes(w, table)
        if dry_run:
            raise DryRun
        if not report.unchanged:
            samples.record_import(w, {"import_id": str(uuid7()), "source_id": report.source_id, "kind": "tags", "file_name": shown(path.name),
                                      "file_sha256": sha256_of(path), "rows_read": report.read, "rows_added": 0,
                                      "rows_rejected": len(report.rejected), "votes_added": report.votes_added, "person_id": actor.person_id},
                                  report.rejected)
    return report
