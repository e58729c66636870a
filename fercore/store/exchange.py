"""The facts behind the samples of a version as tables to carry to another workspace, and such tables taken over. Also a record of exports."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa

from fercore.domain import Person
from fercore.store import labels, people
from fercore.store import samples as sample_table
from fercore.store.connection import Store, Writer, now

# Takes $ids (sample ids) and $at (when the version was frozen): what came later is left out.
_MINE = "WITH mine AS (SELECT * FROM facts.sample WHERE sample_id IN (SELECT unnest($ids)) AND $at::TIMESTAMP IS NOT NULL)"
_TABLES = {
    "samples": """SELECT m.sample_id, m.source_id, m.source_row, m.image_id, m.given_label, m.source_split, f.file_name, f.raw_label,
                         coalesce(f.gone, false) AS gone
                  FROM mine AS m LEFT JOIN sample_files AS f ON f.sample_id = m.sample_id ORDER BY m.sample_id""",
    "votes": """SELECT v.sample_id, v.origin, v.field, v.value, v.votes FROM facts.imported_vote AS v SEMI JOIN mine AS m ON m.sample_id = v.sample_id
                ORDER BY ALL""",
    "events": """SELECT e.event_id::VARCHAR AS event_id, e.op, e.image_id, e.field, e.value, e.target::VARCHAR AS target, e.person_id, e.role, e.mode,
                        e.round, e.scheme_id
                 FROM facts.label_event AS e SEMI JOIN mine AS m ON m.image_id = e.image_id
                 WHERE e.op IN ('set', 'unset', 'skip', 'undo', 'redo') AND e.round IN ('vote', 'confirm', 'adjudication') AND e.recorded_at <= $at
                 ORDER BY e.seq""",
    "findings": """SELECT f.kind, f.sample_id, f.image_id, f.group_id, f.score, f.evidence
                   FROM facts.finding AS f SEMI JOIN mine AS m ON m.sample_id = f.sample_id
                   WHERE f.recorded_at <= $at AND (f.gone_at IS NULL OR f.gone_at > $at) ORDER BY ALL""",
    "measures": """SELECT x.image_id, x.name, x.value, x.method
                   FROM facts.measure AS x SEMI JOIN mine AS m ON m.image_id = x.image_id ORDER BY ALL""",
    "sources": """SELECT s.source_id, s.name, s.authors, s.organisation, s.licence, s.url, s.note, s.label_map, s.method
                  FROM sources AS s SEMI JOIN mine AS m ON m.source_id = s.source_id ORDER BY s.source_id""",
    "schemes": """SELECT scheme_id, slug, number, field, name, classes FROM facts.scheme WHERE recorded_at <= $at AND len($ids) > 0
                  ORDER BY slug, number""",
}
TABLES = (*_TABLES, "images")


def facts_of(store: Store, sample_ids: list[str], at: datetime) -> dict[str, pd.DataFrame]:
    """Every table but images, as they were `at` a time (UTC): label events and findings by their dates, the rest as it is now."""
    return {name: store.frame(f"{_MINE} {sql}", {"ids": sample_ids, "at": at}) for name, sql in _TABLES.items()}


def images_of(store: Store, image_ids: list[str]) -> pd.DataFrame:
    """image_id, height, width, mode, gray48, mean, sd, by id."""
    return store.frame("SELECT image_id, height, width, mode, gray48, mean, sd FROM facts.image WHERE image_id IN (SELECT unnest($ids)) "
                       "ORDER BY image_id", {"ids": image_ids})


def known(w: Writer, tables: Mapping[str, pa.Table]) -> list[tuple[int, str]]:
    """(source_row, what differs) of samples that are here already with other content."""
    return sample_table.known(w, tables["samples"])


def take_over(w: Writer, tables: Mapping[str, pa.Table], actor: Person, voters: list[Person], record: Mapping[str, Any]) -> dict[str, int]:
    """Adds what is new of all tables but images; returns how many samples, votes and events that were.

    Args:
        voters: people whom the events name; they are added as people who may not sign in. record: import_id, file_name and file_sha256.
    """
    added = {"samples": sample_table.insert_samples(w, tables["samples"], record["import_id"]),
             "votes": sample_table.insert_votes(w, tables["votes"])}
    w.bulk("""
        INSERT INTO facts.sample_file SELECT sample_id, $import, CASE WHEN gone THEN 'gone' ELSE 'added' END, file_name, NULL, raw_label, given_label,
               source_split, NULL, $at FROM batch AS b
        WHERE (gone OR file_name IS NOT NULL) AND NOT EXISTS (FROM facts.sample_file AS f WHERE f.sample_id = b.sample_id)
    """, tables["samples"], {"import": record["import_id"], "at": now()})
    w.bulk("""
        INSERT INTO facts.finding (kind, sample_id, image_id, group_id, score, evidence, recorded_at, seen_at)
        SELECT b.kind, b.sample_id, b.image_id, b.group_id, b.score, b.evidence, $at, $at FROM batch AS b
        WHERE NOT EXISTS (FROM findings AS f WHERE f.kind = b.kind AND f.sample_id = b.sample_id)
    """, tables["findings"], {"at": now()})
    w.bulk("INSERT INTO facts.measure SELECT image_id, name, value, method FROM batch AS b "
           "WHERE NOT EXISTS (FROM facts.measure AS m WHERE m.image_id = b.image_id AND m.name = b.name)", tables["measures"])
    w.bulk("INSERT INTO facts.scheme SELECT scheme_id, slug, number, field, name, classes, 'taken over', $person, $role, $authentication, $at "
           "FROM batch AS b WHERE NOT EXISTS (FROM facts.scheme AS s WHERE s.scheme_id = b.scheme_id)", tables["schemes"],
           {"person": actor.person_id, "role": actor.role.value, "authentication": actor.authentication, "at": now()})
    ids = tables["events"]["event_id"].to_pylist()
    here = {r[0] for r in w.run("SELECT event_id::VARCHAR FROM facts.label_event WHERE event_id IN (SELECT unnest($ids)::UUID)", {"ids": ids})}
    new = [e for e in tables["events"].to_pylist() if e["event_id"] not in here]
    voted = {e["person_id"] for e in new}
    for person in (p for p in voters if p.person_id in voted):
        people.add_silent(w, person, actor)
    said = {p.person_id: p.authentication for p in voters}
    empty = dict.fromkeys(("gesture", "lead_ms", "shown_at", "decided_at", "campaign_id", "lease", "reason", "inclusion", "suggested", "suggested_by",
                           "addressee"))
    if new:
        labels.insert(w, [{**empty, **e, "authentication": said[e["person_id"]]} for e in new])
    added["events"] = len(new)
    if any(added.values()):
        read = pd.Series(tables["samples"]["source_id"].to_pylist()).value_counts()
        for source in tables["sources"].to_pylist():
            n = int(read[source["source_id"]])
            sample_table.record_import(w, {**record, **source, "kind": "fercore export", "rows_read": n, "rows_added": n, "rows_rejected": 0,
                                           "votes_added": 0, "person_id": actor.person_id}, [])
    return added


def record_export(store: Store, actor: Person, version_id: str, sha256: str, form: str, accepted: Mapping[str, str]) -> None:
    with store.write("versions") as w:
        w.run("INSERT INTO facts.export VALUES ($version, $sha, $form, $accepted, $person, $role, $authentication, $at)",
              {"version": version_id, "sha": sha256, "form": form, "accepted": json.dumps(accepted), "person": actor.person_id,
               "role": actor.role.value, "authentication": actor.authentication, "at": now()})
