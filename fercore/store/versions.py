"""Dataset versions and what people decided about them."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa

from fercore.domain import Person
from fercore.store.connection import Store, Writer, now, required


def insert(store: Store, name: str, person: Person, at: datetime, make: Callable[[int], tuple[dict[str, Any], pa.Table, dict[str, Any]]],
           publish: Callable[[], None]) -> None:
    """Numbers a frozen version and adds it, its rows and its first event in one transaction.

    Args:
        at: when the facts were read that it was made from (UTC).
        make: from the next number of `name`, (version.json, rows, first event).
        publish: puts the files in place; the last step before the commit, so that no two versions share a number or a folder.
    """
    with store.write("versions") as w:
        card, rows, event = make(int(w.run("SELECT coalesce(max(number), 0) + 1 FROM facts.version WHERE name = $n", {"n": name})[0][0]))
        w.run("INSERT INTO facts.version VALUES ($id, $name, $number, $sha, $recipe, $counts, $person, $at)",
              {"id": card["version_id"], "name": card["name"], "number": card["number"], "sha": card["manifest_sha256"],
               "recipe": json.dumps(card["recipe"]), "counts": json.dumps(card["counts"]), "person": person.person_id, "at": at})
        w.bulk("INSERT INTO facts.version_sample SELECT $id, sample_id, image_id, label, split, exclusion FROM batch", rows,
               {"id": card["version_id"]})
        _append(w, event)
        publish()


def append(store: Store, version_id: str | None, make: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
    """Appends the act that `make` returns, given the acts on the version so far (see `acts`), in one transaction; None is the whole workspace.

    What `make` raises leaves all as it was. Two who act at once come one after the other.
    """
    with store.write("versions") as w:
        _append(w, make(_named(w.run(_ACTS, {"id": version_id}))))


def _append(w: Writer, event: dict[str, Any]) -> None:
    w.run("""
        INSERT INTO facts.version_event (event_id, seq, version_id, act, state, manifest_sha256, person_id, role, authentication, reason, detail,
                                         recorded_at, prev_hash)
        SELECT $event_id, coalesce(max(seq), 0) + 1, $version_id, $act, $state, $manifest_sha256, $person_id, $role, $authentication, $reason,
               $detail, $at, coalesce(arg_max(hash, seq), '') FROM facts.version_event
    """, {"detail": None, **event, "at": now()})
    w.run("UPDATE facts.version_event AS e SET hash = sha256(e.prev_hash || t.text) FROM facts.version_event_texts AS t "
          "WHERE t.event_id = e.event_id AND e.event_id = $id::UUID", {"id": event["event_id"]})


_ACTS = """
    SELECT event_id::VARCHAR, seq::VARCHAR, version_id, act, state, manifest_sha256, person_id, role, authentication, reason, detail,
           epoch_us(recorded_at)::VARCHAR, prev_hash, hash
    FROM facts.version_event WHERE version_id IS NOT DISTINCT FROM $id ORDER BY seq
"""
ACT = ("event_id", "seq", "version_id", "act", "state", "manifest_sha256", "person_id", "role", "authentication", "reason", "detail", "at_us")
_COLUMNS = (*ACT, "prev_hash", "hash")


def _named(rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [dict(zip(_COLUMNS, row, strict=True)) for row in rows]


def acts(store: Store, version_id: str | None) -> list[dict[str, Any]]:
    """Every act on a version, or on the policy (None), in order, as texts: the columns of ACT, whose values in this order as compact JSON are what
    is hashed, prev_hash and hash."""
    return _named(store.rows(_ACTS, {"id": version_id}))


def broken_acts(store: Store) -> list[tuple[str | None, int, str]]:
    """(version, seq, what) of every act that was changed, and of every place where one is missing, in the chain over all acts."""
    return store.rows("""
        SELECT version_id, seq, CASE WHEN hash IS DISTINCT FROM sha256(prev_hash || text) THEN 'an act was changed'
                                     ELSE 'the act before it is missing or was changed' END
        FROM (SELECT *, lag(hash, 1, '') OVER (ORDER BY seq) AS last_hash FROM facts.version_event_texts)
        WHERE hash IS DISTINCT FROM sha256(prev_hash || text) OR prev_hash IS DISTINCT FROM last_hash ORDER BY seq
    """)


def chain_head(store: Store) -> tuple[int, str]:
    """(acts in the chain, hash of the last one): two numbers that a report can quote."""
    return store.rows("SELECT count(*), coalesce(arg_max(hash, seq), '') FROM facts.version_event")[0]


def table(store: Store) -> pd.DataFrame:
    """One row a version, newest first."""
    return store.frame("""
        SELECT v.version_id, v.name, v.number, v.state, v.manifest_sha256, v.recipe, v.counts, v.person_id, p.name AS creator,
               v.recorded_at, q.name AS last_person, v.last_reason, v.last_at
        FROM versions AS v LEFT JOIN people AS p ON p.person_id = v.person_id LEFT JOIN people AS q ON q.person_id = v.last_person
        ORDER BY v.recorded_at DESC, v.number DESC
    """)


def one(store: Store, version_id: str) -> dict[str, Any]:
    """Raises: NotFound."""
    return required(store.frame("SELECT * FROM versions WHERE version_id = $id", {"id": version_id}), "version", version_id)


def sources_of(store: Store, version_id: str) -> list[str]:
    """Sources that are in a version."""
    return [r[0] for r in store.rows("SELECT DISTINCT s.source_id FROM version_samples AS v JOIN facts.sample AS s ON s.sample_id = v.sample_id "
                                     "WHERE v.version_id = $id AND v.exclusion IS NULL ORDER BY 1", {"id": version_id})]


def timeline(store: Store, version_id: str) -> pd.DataFrame:
    """Every act on a version, in order."""
    return store.frame("""
        SELECT e.recorded_at, e.act, e.state, coalesce(p.name, e.person_id) AS person, e.role, e.authentication, e.reason, e.detail,
               e.manifest_sha256, e.person_id, h.hash
        FROM version_acts AS e JOIN facts.version_event AS h ON h.seq = e.seq LEFT JOIN people AS p ON p.person_id = e.person_id
        WHERE e.version_id = $id ORDER BY e.seq
    """, {"id": version_id})


def policies(store: Store) -> pd.DataFrame:
    """Every policy that was set, the first first: recorded_at, person, role, authentication, reason, detail (JSON)."""
    return store.frame("""
        SELECT e.recorded_at, coalesce(p.name, e.person_id) AS person, e.role, e.authentication, e.reason, e.detail
        FROM version_acts AS e LEFT JOIN people AS p ON p.person_id = e.person_id WHERE e.act = 'policy' ORDER BY e.seq
    """)


def backing(store: Store, image_ids: list[str], field: str) -> pd.DataFrame:
    """What stands behind the labels of images: image_id, value, annotators (that chose it), imported (votes), settled (by a reviewer)."""
    return store.frame("""
        SELECT image_id, value, sum(annotators)::INTEGER AS annotators, sum(imported)::INTEGER AS imported, bool_or(settled) AS settled
        FROM (
            SELECT image_id, value, CASE WHEN round = 'vote' THEN 1 ELSE 0 END AS annotators, 0 AS imported, round = 'adjudication' AS settled
            FROM standing WHERE field = $field AND op = 'set' AND round IN ('vote', 'adjudication', 'confirm')
            UNION ALL
            SELECT s.image_id, v.value, 0, v.votes, false FROM facts.imported_vote AS v JOIN facts.sample AS s ON s.sample_id = v.sample_id
            WHERE v.field = $field)
        WHERE image_id IN (SELECT unnest($ids)) GROUP BY image_id, value
    """, {"ids": image_ids, "field": field})


def samples_of(store: Store, version_id: str) -> pd.DataFrame:
    """sample_id, image_id, label, split, exclusion of every row of a version, by sample; "" for what is missing."""
    return store.frame("SELECT sample_id, image_id, coalesce(label, '') AS label, coalesce(split, '') AS split, coalesce(exclusion, '') AS exclusion "
                       "FROM version_samples WHERE version_id = $id ORDER BY sample_id", {"id": version_id})


def composition(store: Store, version_id: str) -> pd.DataFrame:
    """label, split, exclusion -> n."""
    return store.frame("SELECT label, split, exclusion, count(*) AS n FROM version_samples WHERE version_id = $id "
                       "GROUP BY ALL ORDER BY ALL", {"id": version_id})


def excluded_samples(store: Store, version_id: str, exclusion: str, limit: int) -> list[str]:
    """Ids of samples that were left out of a version for this reason."""
    return [r[0] for r in store.rows("SELECT sample_id FROM version_samples WHERE version_id = $id AND exclusion = $exclusion "
                                     "ORDER BY sample_id LIMIT $n", {"id": version_id, "exclusion": exclusion, "n": limit})]
