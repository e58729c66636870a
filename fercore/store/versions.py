"""Dataset versions and what people decided about them."""

import json
from collections.abc import Callable
from typing import Any

import pandas as pd
import pyarrow as pa

from fercore.domain import Person
from fercore.store.connection import Store, Writer, now, required


def insert(store: Store, name: str, person: Person, make: Callable[[int], tuple[dict[str, Any], pa.Table, dict[str, Any]]],
           publish: Callable[[], None]) -> None:
    """Numbers a frozen version and adds it, its rows and its first event in one transaction.

    Args:
        make: from the next number of `name`, (version.json, rows, first event).
        publish: puts the files in place; the last step before the commit, so that no two versions share a number or a folder.
    """
    with store.write("versions") as w:
        card, rows, event = make(int(w.run("SELECT coalesce(max(number), 0) + 1 FROM facts.version WHERE name = $n", {"n": name})[0][0]))
        w.run("INSERT INTO facts.version VALUES ($id, $name, $number, $sha, $recipe, $counts, $person, $at)",
              {"id": card["version_id"], "name": card["name"], "number": card["number"], "sha": card["manifest_sha256"],
               "recipe": json.dumps(card["recipe"]), "counts": json.dumps(card["counts"]), "person": person.person_id, "at": now()})
        w.bulk("INSERT INTO facts.version_sample SELECT $id, sample_id, image_id, label, split, exclusion FROM batch", rows,
               {"id": card["version_id"]})
        _append(w, event)
        publish()


def append_event(store: Store, event: dict[str, Any], expected_state: str) -> bool:
    """Appends an act if the version is still in `expected_state`; returns whether it was."""
    with store.write("versions") as w:
        state = w.run("SELECT arg_max(state, seq) FROM facts.version_event WHERE version_id = $id", {"id": event["version_id"]})[0][0]
        if state != expected_state:
            return False
        _append(w, event)
        return True


def _append(w: Writer, event: dict[str, Any]) -> None:
    w.run("""
        INSERT INTO facts.version_event SELECT $event_id, (SELECT coalesce(max(seq), 0) + 1 FROM facts.version_event), $version_id, $act,
               $state, $manifest_sha256, $person_id, $role, $authentication, $reason, $at ON CONFLICT DO NOTHING
    """, {**event, "at": now()})


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
    return store.frame("""
        SELECT e.recorded_at, e.act, e.state, coalesce(p.name, e.person_id) AS person, e.role, e.authentication, e.reason,
               e.manifest_sha256
        FROM facts.version_event AS e LEFT JOIN people AS p ON p.person_id = e.person_id WHERE e.version_id = $id ORDER BY e.seq
    """, {"id": version_id})


def composition(store: Store, version_id: str) -> pd.DataFrame:
    """label, split, exclusion -> n."""
    return store.frame("SELECT label, split, exclusion, count(*) AS n FROM version_samples WHERE version_id = $id "
                       "GROUP BY ALL ORDER BY ALL", {"id": version_id})


def excluded_samples(store: Store, version_id: str, exclusion: str, limit: int) -> list[str]:
    """Ids of samples that were left out of a version for this reason."""
    return [r[0] for r in store.rows("SELECT sample_id FROM version_samples WHERE version_id = $id AND exclusion = $exclusion "
                                     "ORDER BY sample_id LIMIT $n", {"id": version_id, "exclusion": exclusion, "n": limit})]
