"""Sources, samples, images and imported votes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from fercore.domain import SIDE, Filter, Pixels
from fercore.store.connection import Store, Writer, now

_NEW_IMAGES = """
    INSERT INTO facts.image SELECT DISTINCT ON (image_id) image_id, {}, gray48, mean, sd FROM batch AS b
    WHERE NOT EXISTS (FROM facts.image AS i WHERE i.image_id = b.image_id)
"""
# What people decided to leave out or to change; "several" where they disagree. Takes $ids; NULL means every image.
EDITS = """
    SELECT image_id, max(coalesce(value, 'several')) FILTER (field = 'exclude') AS exclude,
           max(coalesce(value, 'several')) FILTER (field = 'transform') AS transform
    FROM facts.decide($ids) WHERE field IN ('exclude', 'transform') GROUP BY image_id
"""


def table(store: Store) -> pd.DataFrame:
    """All samples without pixels, in sample order.

    With gone (its file is no longer in its source), exclude (why people left its face out; "several" where they disagree) and transform (the
    edit they asked for); None where there is neither.
    """
    return store.frame(f"""
        WITH acts AS ({EDITS})
        SELECT s.*, coalesce(f.gone, false) AS gone, a.exclude, nullif(a.transform, 'several') AS transform FROM samples AS s
        LEFT JOIN sample_files AS f ON f.sample_id = s.sample_id LEFT JOIN acts AS a ON a.image_id = s.image_id ORDER BY s.sample_id
    """, {"ids": None})


def options(store: Store) -> dict[str, list[str]]:
    """The values that occur, for filter widgets."""
    return {"sources": [r[0] for r in store.rows("SELECT DISTINCT source_id FROM facts.sample ORDER BY 1")],
            "labels": [r[0] for r in store.rows("SELECT DISTINCT given_label FROM facts.sample WHERE given_label IS NOT NULL ORDER BY 1")],
            "splits": [r[0] for r in store.rows("SELECT DISTINCT source_split FROM facts.sample WHERE source_split IS NOT NULL ORDER BY 1")],
            "findings": [r[0] for r in store.rows("SELECT DISTINCT kind FROM findings ORDER BY 1")]}


def by_ids(store: Store, sample_ids: list[str]) -> pd.DataFrame:
    """The named samples with pixels, in the order of `sample_ids`."""
    return store.frame("""
        SELECT s.*, i.gray48 FROM (SELECT unnest($ids) AS sample_id, generate_subscripts($ids, 1) AS place) AS wanted
        JOIN facts.described($images) AS s ON s.sample_id = wanted.sample_id
        JOIN facts.image AS i ON i.image_id = s.image_id ORDER BY wanted.place
    """, {"ids": sample_ids, "images": [r[0] for r in store.rows(
        "SELECT DISTINCT image_id FROM facts.sample WHERE sample_id IN (SELECT unnest($ids))", {"ids": sample_ids})]})


def copies(store: Store, image_id: str) -> pd.DataFrame:
    """Every sample that shows exactly this image."""
    return store.frame("SELECT sample_id, source_id, source_row, given_label, source_split FROM samples WHERE image_id = $id "
                       "ORDER BY source_id, source_row", {"id": image_id})


def imported_votes(store: Store, image_id: str) -> pd.DataFrame:
    return store.frame("SELECT origin, field, value, votes, sample_id FROM votes WHERE image_id = $id AND origin <> 'annotator'",
                       {"id": image_id})


def pixels(store: Store, image_ids: list[str]) -> Pixels:
    """uint8 [n, 48, 48], row i for image_ids[i]."""
    found = dict(store.rows("SELECT image_id, gray48 FROM facts.image WHERE image_id IN (SELECT unnest($ids))", {"ids": image_ids}))
    flat = np.frombuffer(b"".join(found[i] for i in image_ids), dtype=np.uint8)
    return flat.reshape(-1, SIDE, SIDE)


def image_ids(store: Store) -> list[str]:
    return [r[0] for r in store.rows("SELECT image_id FROM facts.image ORDER BY image_id")]


def first_of(store: Store, image_ids: list[str]) -> list[str]:
    """One sample id of each image, in the order of `image_ids`; images without a sample are left out."""
    found = dict(store.rows("SELECT image_id, min(sample_id) FROM facts.sample WHERE image_id IN (SELECT unnest($ids)) GROUP BY image_id",
                            {"ids": image_ids}))
    return [found[i] for i in image_ids if i in found]


def known(w: Writer, batch: pa.Table) -> list[tuple[int, str]]:
    """(source_row, what differs) of rows of `batch` that are here already with other content."""
    return w.bulk("""
        SELECT b.source_row, CASE WHEN b.image_id <> s.image_id THEN 'pixels' WHEN b.given_label IS DISTINCT FROM s.given_label
               THEN 'label' ELSE 'split' END
        FROM batch AS b JOIN facts.sample AS s ON s.sample_id = b.sample_id
        WHERE b.image_id <> s.image_id OR b.given_label IS DISTINCT FROM s.given_label
              OR b.source_split IS DISTINCT FROM s.source_split ORDER BY b.source_row LIMIT 5
    """, batch)


def insert(w: Writer, batch: pa.Table, import_id: str) -> int:
    """Adds the images and samples of `batch` that are new; returns how many samples that were."""
    w.bulk(_NEW_IMAGES.format("48, 48, 'L'"), batch)
    return insert_samples(w, batch, import_id)


def insert_images(w: Writer, batch: pa.Table) -> None:
    """Adds the images of `batch` (with height, width and mode) that are new; what is here stays as it is."""
    w.bulk(_NEW_IMAGES.format("height, width, mode"), batch)


def insert_samples(w: Writer, batch: pa.Table, import_id: str) -> int:
    """Adds the samples of `batch` that are new; returns how many that were."""
    return int(w.bulk("""
        INSERT INTO facts.sample SELECT sample_id, source_id, source_row, image_id, given_label, source_split, $import FROM batch AS b
        WHERE NOT EXISTS (FROM facts.sample AS s WHERE s.sample_id = b.sample_id)
    """, batch, {"import": import_id})[0][0])


def other_votes(w: Writer, batch: pa.Table) -> bool:
    """Whether a sample of `batch` has votes of that origin and field here that are not those of `batch`."""
    return bool(w.bulk("""
        WITH mine AS (SELECT b.sample_id, b.origin, b.field, b.value, b.votes FROM batch AS b),
        here AS (SELECT v.sample_id, v.origin, v.field, v.value, v.votes FROM facts.imported_vote AS v
                 WHERE EXISTS (FROM mine AS m WHERE m.sample_id = v.sample_id AND m.origin = v.origin AND m.field = v.field))
        SELECT 1 FROM (FROM here EXCEPT FROM mine) LIMIT 1
    """, batch))


def imported_before(w: Writer, source_id: str, sha256: str) -> bool:
    """Whether this very file has been recorded as an import of the source."""
    return bool(w.run("SELECT 1 FROM facts.import WHERE source_id = $s AND file_sha256 = $h LIMIT 1", {"s": source_id, "h": sha256}))


def insert_votes(w: Writer, batch: pa.Table) -> int:
    """Adds imported votes (sample_id, origin, field, value, votes) of samples that exist and have none of that origin and field."""
    return int(w.bulk("""
        INSERT INTO facts.imported_vote SELECT b.sample_id, b.origin, b.field, b.value, b.votes FROM batch AS b
        WHERE EXISTS (FROM facts.sample AS s WHERE s.sample_id = b.sample_id) AND NOT EXISTS (
            FROM facts.imported_vote AS v WHERE v.sample_id = b.sample_id AND v.origin = b.origin AND v.field = b.field)
    """, batch)[0][0])


def votes_of(w: Writer, origin: str) -> int:
    """How many imported votes an origin has cast."""
    return int(w.run("SELECT coalesce(sum(votes), 0) FROM facts.imported_vote WHERE origin = $o", {"o": origin})[0][0])


def record_import(w: Writer, row: dict[str, Any], rejected: Sequence[tuple[int, int | None, str, str | None] | tuple[int, int, str]]) -> None:
    """One line of provenance, and every rejected row as (source row, line, reason), for files also their name."""
    names = ("import_id", "source_id", "kind", "file_name", "file_sha256", "licence", "note", "rows_read", "rows_added",
             "rows_rejected", "votes_added", "person_id", "name", "authors", "organisation", "url", "method", "label_map", "labels", "rows_gone",
             "rows_relabelled", "rows_moved", "rows_back")
    w.run(f"INSERT INTO facts.import ({', '.join(names)}, recorded_at) VALUES ({', '.join('$' + n for n in names)}, $at)",
          {**{n: row.get(n) for n in names}, "at": now()})
    if rejected:
        rows, lines, reasons, files = zip(*((*r, None)[:4] for r in rejected), strict=True)
        w.bulk("INSERT INTO facts.rejected_row SELECT $import, source_row, line, reason, file_name FROM batch",
               pa.table({"source_row": rows, "line": pa.array(lines, pa.int64()), "reason": reasons, "file_name": pa.array(files, pa.string())}),
               {"import": row["import_id"]})


def rejected(store: Store, source_id: str) -> pd.DataFrame:
    """Rejected rows of the last import of a source."""
    return store.frame("""
        SELECT r.source_row, r.line, r.reason, r.file_name FROM facts.rejected_row AS r WHERE r.import_id = (
            SELECT arg_max(import_id, recorded_at) FROM facts.import WHERE source_id = $s AND kind NOT IN ('tags', 'labels'))
        ORDER BY r.source_row
    """, {"s": source_id})


def overview(store: Store) -> dict[str, int]:
    """Counts for the first page: samples, distinct images, images with a standing vote, flagged images, tagged images."""
    names = ("samples", "images", "relabelled", "flagged", "tagged", "voted")
    return dict(zip(names, store.rows("""
        SELECT count(*), count(DISTINCT image_id), count(*) FILTER (current_label IS DISTINCT FROM given_label),
               count(DISTINCT image_id) FILTER (flags <> ''), count(DISTINCT image_id) FILTER (age_band IS NOT NULL OR gender IS NOT NULL),
               count(DISTINCT image_id) FILTER (voted) FROM samples
    """)[0], strict=True))


def class_counts(store: Store) -> pd.DataFrame:
    return store.frame("SELECT current_label AS label, count(*) AS n FROM samples GROUP BY current_label")


def members(store: Store) -> pd.DataFrame:
    """All samples in the order of their sources, without pixels: ids, labels, split, source, tags, flags, and mean and sd of the image."""
    return store.frame("SELECT sample_id, image_id, current_label, given_label, source_split, source_id, age_band, gender, flags, mean, sd "
                       "FROM samples ORDER BY source_id, source_row")


def found(store: Store) -> pd.DataFrame:
    """kind and sample_id of every finding on a sample."""
    return store.frame("SELECT DISTINCT kind, sample_id FROM findings WHERE sample_id IS NOT NULL")


def matching(members: pd.DataFrame, found: pd.DataFrame, chosen: Filter) -> pd.DataFrame:
    """The members that match, in their order; `found` as of the function. In memory, as a query would take longer than all of the page."""
    keep = np.ones(len(members), dtype=bool)
    for column, values in (("current_label", chosen.labels), ("given_label", chosen.given), ("source_split", chosen.splits),
                           ("source_id", chosen.sources), ("age_band", chosen.age_bands), ("gender", chosen.genders)):
        if values:
            keep &= members[column].fillna("not_tagged").isin(values).to_numpy()
    if chosen.flags:
        keep &= members["flags"].isin([f for f in members["flags"].unique() if {*f.split(",")} & {*chosen.flags}]).to_numpy()
    if chosen.findings:
        keep &= members["sample_id"].isin(found.loc[found["kind"].isin(chosen.findings), "sample_id"]).to_numpy()
    if chosen.relabelled is not None:
        keep &= ((members["current_label"].fillna("") != members["given_label"].fillna("")) == chosen.relabelled).to_numpy()
    return members[keep]
