"""Label events: append-only acts of people on images, the hash chain over them, and the standing votes they fold into."""

from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa

from fercore.domain import Person
from fercore.store.connection import Store, Writer, now

_COLUMNS = {"event_id": pa.string(), "op": pa.string(), "image_id": pa.string(), "field": pa.string(), "value": pa.string(),
            "target": pa.string(), "gesture": pa.string(), "mode": pa.string(), "lead_ms": pa.int32(), "shown_at": pa.int64(),
            "decided_at": pa.int64(), "round": pa.string(), "scheme_id": pa.string(), "campaign_id": pa.string(), "lease": pa.string(),
            "reason": pa.string(), "inclusion": pa.float64(), "suggested": pa.string(), "suggested_by": pa.string(),
            "addressee": pa.string(), "person_id": pa.string(), "role": pa.string(), "authentication": pa.string()}
_EVENT = pa.schema(list(_COLUMNS.items()))


def append(store: Store, person: Person, events: list[dict[str, Any]]) -> set[str]:
    """Commits what is not yet recorded of `events`, with the votes that stand afterwards and the next link of the chain.

    Who comes while another commit is under way is committed together with all who wait: one transaction costs as much as twenty.

    Args:
        events: distinct event ids, in the order of the acts; shown_at and decided_at in epoch milliseconds or None.

    Returns:
        The ids that are now recorded as acts of `person`, read back after the commit.
    """
    signed = [e | {"person_id": person.person_id, "role": person.role.value, "authentication": person.authentication} for e in events]
    store.together(signed, lambda joined: _commit(store, [e for part in joined for e in part]))
    return {str(r[0]) for r in store.rows("SELECT event_id::VARCHAR FROM facts.label_event WHERE person_id = $person "
                                          "AND event_id IN (SELECT unnest($ids)::UUID)",
                                          {"ids": [e["event_id"] for e in events], "person": person.person_id})}


def _commit(store: Store, events: list[dict[str, Any]]) -> None:
    with store.write("labels") as w:
        insert(w, events)


def insert(w: Writer, events: list[dict[str, Any]]) -> None:
    """Adds what is new of `events` (person_id, role and authentication among their keys), the votes that stand afterwards and a link of the chain."""
    batch = pa.Table.from_pylist(events, schema=_EVENT).append_column("place", pa.array(range(len(events)), pa.int64()))
    touched = {"who": sorted({e["person_id"] for e in events}), "ids": sorted({e["image_id"] for e in events})}
    w.bulk("""
        INSERT INTO facts.label_event (
            event_id, seq, op, image_id, field, value, target, gesture, person_id, role, authentication, mode, lead_ms, shown_at,
            decided_at, recorded_at, round, scheme_id, campaign_id, lease_id, reason, inclusion, suggested, suggested_by, addressee)
        SELECT b.event_id::UUID, (SELECT coalesce(max(seq), 0) FROM facts.label_event) + 1 + b.place, b.op, b.image_id, b.field,
               b.value, b.target::UUID, b.gesture::UUID, b.person_id, b.role, b.authentication, b.mode, b.lead_ms,
               make_timestamp(b.shown_at * 1000), make_timestamp(b.decided_at * 1000), $at, b.round, b.scheme_id, b.campaign_id,
               b.lease, b.reason, b.inclusion, b.suggested, b.suggested_by, b.addressee
        FROM batch AS b ORDER BY b.place ON CONFLICT DO NOTHING
    """, batch, {"at": now()})
    w.run("""
        INSERT INTO facts.event_block
        WITH before AS (SELECT coalesce(max(block), 0) AS block, coalesce(max(last_seq), -1) AS last_seq,
                               coalesce(arg_max(hash, block), '') AS hash FROM facts.event_block)
        SELECT any_value(b.block) + 1, min(t.seq), max(t.seq), count(*), any_value(b.hash),
               sha256(any_value(b.hash) || string_agg(t.text, chr(10) ORDER BY t.seq)), $at
        FROM event_texts AS t, before AS b WHERE t.seq > b.last_seq HAVING count(*) > 0
    """, {"at": now()})
    w.run("DELETE FROM projection.standing WHERE person_id IN (SELECT unnest($who)) AND image_id IN (SELECT unnest($ids))", touched)
    w.run("INSERT INTO projection.standing FROM facts.fold($who, $ids)", touched)


def broken_block(store: Store) -> dict[str, Any] | None:
    """The first link of the hash chain that does not fit the events (block, first_seq, last_seq, what), or None when all fit."""
    found = store.frame("""
        WITH links AS (SELECT *, lag(hash, 1, '') OVER (ORDER BY block) AS last_hash,
                              lag(last_seq, 1, -1) OVER (ORDER BY block) AS last_end FROM facts.event_block),
        found AS (
            SELECT l.block, count(t.seq) AS n, sha256(any_value(l.prev_hash) || coalesce(string_agg(t.text, chr(10) ORDER BY t.seq), '')) AS hash
            FROM links AS l LEFT JOIN event_texts AS t ON t.seq > l.last_end AND t.seq <= l.last_seq GROUP BY l.block),
        wrong AS (
            SELECT l.block, l.first_seq, l.last_seq,
                   CASE WHEN f.n <> l.events THEN 'events are missing or were added' WHEN l.prev_hash <> l.last_hash THEN 'a link is missing'
                        ELSE 'an event was changed' END AS what
            FROM links AS l JOIN found AS f ON f.block = l.block
            WHERE f.n <> l.events OR l.prev_hash <> l.last_hash OR f.hash <> l.hash
            UNION ALL
            SELECT NULL, min(seq), max(seq), 'events are outside the chain' FROM facts.label_event
            HAVING count(*) <> (SELECT coalesce(sum(events), 0) FROM facts.event_block))
        SELECT * FROM wrong ORDER BY block NULLS LAST LIMIT 1
    """)
    return None if found.empty else {str(k): v for k, v in found.iloc[0].to_dict().items()}


def chain_head(store: Store) -> tuple[int, str]:
    """(events in the chain, hash of its last link): two numbers that a report can quote."""
    return store.rows("SELECT coalesce(sum(events), 0)::BIGINT, coalesce(arg_max(hash, block), '') FROM facts.event_block")[0]


def standing_differences(store: Store) -> int:
    """How many rows of the projection differ from the events folded anew."""
    return int(store.value("""
        SELECT (SELECT count(*) FROM (FROM projection.standing EXCEPT FROM facts.fold(NULL, NULL)))
             + (SELECT count(*) FROM (FROM facts.fold(NULL, NULL) EXCEPT FROM projection.standing))
    """))


def rebuild_standing(store: Store) -> None:
    """Replaces the projection by the events folded anew."""
    with store.write("labels") as w:
        w.run("DELETE FROM projection.standing")
        w.run("INSERT INTO projection.standing FROM facts.fold(NULL, NULL)")


def known_images(store: Store, image_ids: list[str]) -> set[str]:
    return {r[0] for r in store.rows("SELECT image_id FROM facts.image WHERE image_id IN (SELECT unnest($ids))", {"ids": image_ids})}


def of_others(store: Store, person: Person, event_ids: list[str]) -> set[str]:
    """Ids among `event_ids` under which somebody else has recorded an act."""
    return {r[0] for r in store.rows("SELECT event_id::VARCHAR FROM facts.label_event WHERE person_id <> $p AND event_id IN "
                                     "(SELECT unnest($ids)::UUID)", {"p": person.person_id, "ids": event_ids})}


def answered_images(store: Store, person: Person, image_ids: list[str], field: str = "expression") -> set[str]:
    """Images among `image_ids` on which this person has a standing vote of `field`."""
    return {r[0] for r in store.rows("SELECT image_id FROM standing WHERE person_id = $p AND field = $field AND op = 'set' AND round = 'vote' "
                                     "AND image_id IN (SELECT unnest($ids))", {"p": person.person_id, "ids": image_ids, "field": field})}


def ever_voted(store: Store, person: Person, image_id: str, field: str) -> bool:
    """Whether this person has given an independent vote of `field` on an image, be it taken back since."""
    return bool(store.rows("SELECT 1 FROM facts.label_event WHERE image_id = $id AND person_id = $p AND field = $field AND op = 'set' "
                           "AND round = 'vote' LIMIT 1", {"id": image_id, "p": person.person_id, "field": field}))


def known_targets(store: Store, person: Person, event_ids: list[str]) -> dict[str, dict[str, Any]]:
    """Events of this person that may be undone or redone: image_id, field, round, campaign_id by event id."""
    rows = store.rows("SELECT event_id::VARCHAR, image_id, field, round, campaign_id FROM facts.label_event WHERE person_id = $p "
                      "AND op IN ('set', 'unset', 'skip', 'comment') AND event_id IN (SELECT unnest($ids)::UUID)",
                      {"p": person.person_id, "ids": event_ids})
    return {r[0]: dict(zip(("image_id", "field", "round", "campaign_id"), r[1:], strict=True)) for r in rows}


_MINE = """
    mine AS (
        SELECT event_id, seq, op, image_id, field, value, target, gesture, round FROM facts.label_event
        WHERE person_id = $p AND campaign_id = $c AND round <> 'practice' AND op IN ('set', 'unset', 'skip', 'undo', 'redo')
          AND ($before IS NULL OR event_id < $before::UUID)),
    switched AS (SELECT target, arg_max(op, seq) AS last_op, max(seq) AS last_seq FROM mine WHERE op IN ('undo', 'redo') GROUP BY target),
    gestures AS (
        SELECT m.gesture, min(m.seq) AS seq, count(DISTINCT m.image_id) AS images, bool_and(coalesce(s.last_op, 'redo') = 'redo') AS stands,
               max(s.last_seq) AS last_seq
        FROM mine AS m LEFT JOIN switched AS s ON s.target = m.event_id WHERE m.op IN ('set', 'unset', 'skip') GROUP BY m.gesture)
"""


def undoable(store: Store, person: Person, campaign_id: str, before: str | None, limit: int) -> list[tuple[str, int]]:
    """The last `limit` gestures of this person in a campaign that stand, newest first: (gesture, images it is on).

    `before` is an event id: what was made later is left out, so that pages keep their bounds while somebody undoes.
    """
    return store.rows(f"WITH {_MINE} SELECT gesture::VARCHAR, images FROM gestures WHERE stands ORDER BY seq DESC LIMIT $n",
                      {"p": person.person_id, "c": campaign_id, "before": before, "n": limit})


def redoable(store: Store, person: Person, campaign_id: str, before: str | None, limit: int) -> list[str]:
    """Gestures that were undone since the last act, the next to redo first: whoever acts anew gives up what could be redone."""
    return [r[0] for r in store.rows(f"""
        WITH {_MINE} SELECT gesture::VARCHAR FROM gestures
        WHERE NOT stands AND last_seq > (SELECT max(seq) FROM mine WHERE op IN ('set', 'unset', 'skip')) ORDER BY seq LIMIT $n
    """, {"p": person.person_id, "c": campaign_id, "before": before, "n": limit})]


def acts_beside(store: Store, person: Person, campaign_id: str, before: str | None, gestures: list[str]) -> list[dict[str, Any]]:
    """Every act of this person in a campaign on the images of these gestures, oldest first."""
    names = ("event_id", "op", "image_id", "field", "value", "target", "gesture", "round")
    return [dict(zip(names, r, strict=True)) for r in store.rows(f"""
        WITH {_MINE} SELECT event_id::VARCHAR, op, image_id, field, value, target::VARCHAR, gesture::VARCHAR, round FROM mine
        WHERE image_id IN (SELECT m.image_id FROM mine AS m WHERE m.gesture IN (SELECT unnest($ids)::UUID)) ORDER BY seq
    """, {"p": person.person_id, "c": campaign_id, "before": before, "ids": gestures})]


def history(store: Store, image_id: str) -> pd.DataFrame:
    """Every act on an image, newest first."""
    return store.frame("""
        SELECT e.recorded_at, p.name, e.op, coalesce(e.field, t.field) AS field, coalesce(e.value, t.value) AS value, e.round, e.active
        FROM label_events AS e LEFT JOIN people AS p ON p.person_id = e.person_id
        LEFT JOIN facts.label_event AS t ON t.event_id = e.target
        WHERE e.image_id = $id AND e.op <> 'seen' AND e.round <> 'practice' ORDER BY e.seq DESC
    """, {"id": image_id})


def acts_on(store: Store, image_ids: list[str], field: str, since: datetime | None, until: datetime) -> pd.DataFrame:
    """What people did about the label of these images, or to leave them out, between two times (UTC): day, person, role, field, round, mode, acts,
    faces and standing (acts that were not undone or replaced), the newest first."""
    return store.frame("""
        SELECT e.recorded_at::DATE AS day, coalesce(p.name, e.person_id) AS person, e.role, e.field, e.round, e.mode, count(*) AS acts,
               count(DISTINCT e.image_id) AS faces, count(*) FILTER (e.active) AS standing
        FROM label_events AS e LEFT JOIN people AS p ON p.person_id = e.person_id
        WHERE e.image_id IN (SELECT unnest($ids)) AND e.op IN ('set', 'unset') AND e.field IN ($field, 'exclude', 'flag_non_face')
          AND e.round IN ('vote', 'confirm', 'adjudication')
          AND ($since::TIMESTAMP IS NULL OR e.recorded_at > $since) AND e.recorded_at <= $until
        GROUP BY ALL ORDER BY day DESC, person, e.field, e.round, e.mode
    """, {"ids": image_ids, "field": field, "since": since, "until": until})


def comments(store: Store, *, image_id: str | None = None, addressee: str | None = None) -> pd.DataFrame:
    """Comments on an image, or the unseen ones for a person, newest first: event_id, image_id, text, name, person_id, recorded_at, seen."""
    return store.frame("""
        SELECT c.event_id::VARCHAR AS event_id, c.image_id, c.text, p.name, c.person_id, c.recorded_at, c.seen FROM comments AS c
        LEFT JOIN people AS p ON p.person_id = c.person_id
        WHERE ($image IS NULL OR c.image_id = $image) AND ($to IS NULL OR (c.addressee = $to AND NOT c.seen)) ORDER BY c.recorded_at DESC
    """, {"image": image_id, "to": addressee})


def addressed(store: Store, person: Person, event_ids: list[str]) -> dict[str, str]:
    """image_id of the comments among `event_ids` that are addressed to this person."""
    return dict(store.rows("SELECT event_id::VARCHAR, image_id FROM comments WHERE addressee = $p AND event_id IN (SELECT unnest($ids)::UUID)",
                           {"p": person.person_id, "ids": event_ids}))


def disputed(store: Store, person: Person | None, field: str, share: float, limit: int) -> pd.DataFrame:
    """Images whose annotators disagree on a field and that nobody has settled, the most disputed first; none on which `person` voted.

    Args:
        share: disputed is where the commonest answer of two votes or more has at most this share (0-1); for non-face flags, where some see a
            face and others do not.

    Returns:
        columns image_id, n (votes), top (share of the commonest answer, 0-1).
    """
    return store.frame("""
        WITH ballots AS (
            SELECT image_id, person_id, value FROM standing WHERE field = $field AND round = 'vote' AND op = 'set'
            UNION ALL
            SELECT e.image_id, e.person_id, 'no' FROM standing AS e
            WHERE $field = 'flag_non_face' AND e.field = 'expression' AND e.round = 'vote' AND e.op = 'set' AND e.value <> 'cannot_tell'),
        tally AS (SELECT image_id, value, count(*) AS n FROM ballots GROUP BY image_id, value),
        shares AS (SELECT image_id, sum(n)::INTEGER AS n, max(n) / sum(n) AS top FROM tally GROUP BY image_id)
        SELECT s.image_id, s.n, s.top FROM shares AS s
        WHERE s.n >= 2 AND s.top <= $share
          AND s.image_id NOT IN (SELECT image_id FROM standing WHERE round = 'adjudication' AND op = 'set' AND field = $field)
          AND s.image_id NOT IN (SELECT image_id FROM ballots WHERE person_id = $p)
        ORDER BY s.top, s.n DESC, md5(s.image_id || $p) LIMIT $limit
    """, {"field": field, "share": share, "p": person.person_id if person else "", "limit": limit})


def ballots(store: Store, image_id: str, field: str) -> list[tuple[str, str]]:
    """(person_id, value) of the independent votes on an image, in an order that tells nothing of who they are."""
    return store.rows("SELECT person_id, value FROM standing WHERE image_id = $id AND field = $field AND round = 'vote' AND op = 'set' "
                      "ORDER BY md5(person_id || image_id)", {"id": image_id, "field": field})


def settled(store: Store, person: Person, limit: int) -> pd.DataFrame:
    """What this person settled, newest first: image_id, field, value, recorded_at."""
    return store.frame("SELECT image_id, field, value, recorded_at FROM standing WHERE person_id = $p AND round = 'adjudication' "
                       "AND op = 'set' ORDER BY seq DESC LIMIT $n", {"p": person.person_id, "n": limit})
