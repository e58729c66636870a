"""Saved filters and the signatures of bias reports. Append-only."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from fercore.domain import Person
from fercore.store.connection import Store, now


def save_filter(store: Store, person: Person, row: dict[str, Any], publish: Callable[[], None]) -> bool:
    """Records a filter (name, filter as JSON, faces, members_sha256), then lets `publish` write its file, in one transaction; False when the name
    is taken."""
    with store.write("filters") as w:
        if w.run("SELECT 1 FROM facts.saved_filter WHERE name = $name", {"name": row["name"]}):
            return False
        w.run("INSERT INTO facts.saved_filter VALUES ($name, $filter, $faces, $members_sha256, $person, $role, $authentication, $at)",
              {**row, **_by(person)})
        publish()
        return True


def sign(store: Store, person: Person, row: dict[str, Any]) -> None:
    """Records a signature: event_id, report_sha256, run_id, version_id, manifest_sha256, note."""
    with store.write("reports") as w:
        w.run("INSERT INTO facts.report_signature VALUES ($event_id, $report_sha256, $run_id, $version_id, $manifest_sha256, $note, $person, $role, "
              "$authentication, $at)", {**row, **_by(person)})


def signatures(store: Store, run_id: str) -> pd.DataFrame:
    """Who signed a report of this run, first to last: recorded_at, person (name), role, authentication, note, person_id, report_sha256."""
    return store.frame("""
        SELECT s.recorded_at, coalesce(p.name, s.person_id) AS person, s.role, s.authentication, s.note, s.person_id, s.report_sha256
        FROM report_signatures AS s LEFT JOIN people AS p ON p.person_id = s.person_id
        WHERE s.run_id = $run ORDER BY s.recorded_at
    """, {"run": run_id})


def _by(person: Person) -> dict[str, Any]:
    return {"person": person.person_id, "role": person.role.value, "authentication": person.authentication, "at": now()}
