"""Label events: append-only acts of people on images."""

from typing import Any

import pandas as pd
import pyarrow as pa

from fercore.domain import Person
from fercore.store.connection import Store, now

_EVENT = pa.schema([("event_id", pa.string()), ("op", pa.string()), ("image_id", pa.string()), ("field", pa.string()),
                    ("value", pa.string()), ("target", pa.string()), ("gesture", pa.string()), ("mode", pa.string()),
                    ("lead_ms", pa.int32()), ("shown_at", pa.int64()), ("decided_at", pa.int64())])


def append(store: Store, person: Person, authentication: str, events: list[dict[str, Any]]) -> set[str]:
    """Commits what is not yet recorded of `events` and returns, read back, the ids that are now recorded.

    Args:
        events: distinct event ids, in the order of the acts; shown_at and decided_at in epoch milliseconds or None.
    """
    batch = pa.Table.from_pylist(events, schema=_EVENT).append_column("place", pa.array(range(len(events)), pa.int64()))
    with store.write("labels") as w:
        w.bulk("""
            INSERT INTO facts.label_event
            SELECT b.event_id::UUID, (SELECT coalesce(max(seq), 0) FROM facts.label_event) + 1 + b.place, b.op, b.image_id, b.field,
                   b.value, b.target::UUID, b.gesture::UUID, $person, $role, $authentication, b.mode, b.lead_ms,
                   make_timestamp(b.shown_at * 1000), make_timestamp(b.decided_at * 1000), $at
            FROM batch AS b ORDER BY b.place ON CONFLICT DO NOTHING
        """, batch, {"person": person.person_id, "role": person.role.value, "authentication": authentication, "at": now()})
    return {str(r[0]) for r in store.rows("SELECT event_id::VARCHAR FROM facts.label_event WHERE person_id = $person "
                                          "AND event_id IN (SELECT unnest($ids)::UUID)",
                                          {"ids": [e["event_id"] for e in events], "person": person.person_id})}


def known_images(store: Store, image_ids: list[str]) -> set[str]:
    return {r[0] for r in store.rows("SELECT image_id FROM facts.image WHERE list_contains($ids, image_id)", {"ids": image_ids})}


def of_others(store: Store, person: Person, event_ids: list[str]) -> set[str]:
    """Ids among `event_ids` under which somebody else has recorded an act."""
    return {r[0] for r in store.rows("SELECT event_id::VARCHAR FROM facts.label_event WHERE person_id <> $p AND event_id IN "
                                     "(SELECT unnest($ids)::UUID)", {"p": person.person_id, "ids": event_ids})}


def answered_images(store: Store, person: Person, image_ids: list[str]) -> set[str]:
    """Images among `image_ids` on whose expression this person has a standing answer."""
    return {r[0] for r in store.rows("SELECT image_id FROM standing WHERE person_id = $p AND field = 'expression' AND op = 'set' "
                                     "AND list_contains($ids, image_id)", {"p": person.person_id, "ids": image_ids})}


def known_targets(store: Store, person: Person, event_ids: list[str]) -> dict[str, str]:
    """Events of this person that may be undone or redone, with the image each is on."""
    return {r[0]: r[1] for r in store.rows("SELECT event_id::VARCHAR, image_id FROM facts.label_event WHERE person_id = $p "
                                           "AND op IN ('set', 'unset', 'skip') AND event_id IN (SELECT unnest($ids)::UUID)",
                                     {"p": person.person_id, "ids": event_ids})}


# Done is a face with every field answered, one of them skipped, or a flag set.
_DONE = """
    SELECT image_id FROM standing WHERE person_id = $person AND (list_contains($fields, field) OR field LIKE 'flag_%')
    GROUP BY image_id HAVING count(*) FILTER (op = 'set' AND list_contains($fields, field)) = len($fields)
                          OR bool_or(op = 'skip') OR bool_or(op = 'set' AND field LIKE 'flag_%')
"""
_OPEN = f"""
    FROM images AS i
    WHERE i.image_id NOT IN ({_DONE}) AND i.image_id IN (
        SELECT s.image_id FROM samples AS s
        WHERE ($label IS NULL OR s.given_label = $label)
          AND ($finding IS NULL OR s.sample_id IN (SELECT f.sample_id FROM findings AS f WHERE f.kind = $finding)))
"""


def waiting(store: Store, person: Person, fields: list[str], *, label: str | None, finding: str | None, held: list[str],
            limit: int) -> pd.DataFrame:
    """Images on which this person has no standing answer, in an order that is shuffled per person but always the same.

    Args:
        held: image ids that the person's browser already has.

    Returns:
        columns image_id, gray48.
    """
    return store.frame(f"SELECT i.image_id, i.gray48 {_OPEN} AND NOT list_contains($held, i.image_id) "
                       "ORDER BY md5(i.image_id || $person), i.image_id LIMIT $limit",
                       {"person": person.person_id, "fields": fields, "label": label, "finding": finding, "held": held,
                        "limit": limit})


def waiting_count(store: Store, person: Person, fields: list[str], *, label: str | None, finding: str | None) -> int:
    return int(store.value(f"SELECT count(*) {_OPEN}", {"person": person.person_id, "fields": fields, "label": label,
                                                        "finding": finding}))


def done_count(store: Store, person: Person, fields: list[str]) -> int:
    """Images this person is done with: every field answered, one skipped, or a flag set."""
    return int(store.value(f"SELECT count(*) FROM ({_DONE})", {"person": person.person_id, "fields": fields}))


def history(store: Store, image_id: str) -> pd.DataFrame:
    """Every act on an image, newest first."""
    return store.frame("""
        SELECT e.recorded_at, p.name, e.op, coalesce(e.field, t.field) AS field, coalesce(e.value, t.value) AS value, e.active
        FROM label_events AS e LEFT JOIN people AS p ON p.person_id = e.person_id
        LEFT JOIN facts.label_event AS t ON t.event_id = e.target
        WHERE e.image_id = $id ORDER BY e.seq DESC
    """, {"id": image_id})
