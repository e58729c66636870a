"""Campaigns, gold faces, and who holds which faces. Everything here that hands out faces runs under the store's one write lock."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from fercore.domain import Person
from fercore.store.connection import Store, Writer, now


@dataclass(frozen=True)
class Ask:
    """What a campaign wants, as its queries take it. Shares are of a block; `rounds` are those that count as an answer here."""

    campaign_id: str
    fields: tuple[str, ...]
    votes: int
    grid: bool = False  # a verify grid: only answers of this campaign count
    claim: str | None = None
    claimed_by: str | None = None  # given, current or model
    run_id: str | None = None
    label: str | None = None
    finding: str | None = None
    source: str | None = None
    split: str | None = None
    images: tuple[str, ...] = ()  # hand-picked; empty means any
    least_votes: int = 0  # votes of others a face must have before it is shown
    priority: str = "none"
    random_share: float = 0.0
    examples: tuple[str, ...] = ()  # images that were shown with their answer: never handed out
    gold_share: float = 0.0
    repeat_share: float = 0.0
    repeat_hours: float = 24.0


@dataclass
class Block:
    """Faces that one person holds: columns image_id, gray48, round, suggested, answers (field -> value), place."""

    lease_id: str
    faces: pd.DataFrame = field(default_factory=pd.DataFrame)


def rows(store: Store) -> list[tuple[str, str, str, datetime, str]]:
    """(campaign_id, spec as JSON, state, since, person who made it) of every campaign, oldest first."""
    return store.rows("SELECT campaign_id, spec, state, since, person_id FROM campaigns ORDER BY since")


def save(store: Store, person: Person, campaign_id: str, spec: str, state: str, *, new: bool) -> bool:
    """Writes how a campaign is from now on; returns whether it did: a new one is not written where the id is taken."""
    with store.write("campaigns") as w:
        return bool(w.run("INSERT INTO facts.campaign SELECT $id, $spec, $state, $p, $at "
                          "WHERE NOT $new OR NOT EXISTS (FROM facts.campaign WHERE campaign_id = $id)",
                          {"id": campaign_id, "spec": spec, "state": state, "p": person.person_id, "at": now(), "new": new})[0][0])


def set_gold(store: Store, person: Person, image_ids: list[str], field: str, accept: list[str], active: bool) -> None:
    """Marks images as gold: every value of `accept` is right. With active=False they are gold no longer."""
    with store.write("campaigns") as w:
        w.run("INSERT INTO facts.gold SELECT unnest($ids), $field, $accept, $active, $p, $at",
              {"ids": image_ids, "field": field, "accept": accept, "active": active, "p": person.person_id, "at": now()})


def gold_of(store: Store, image_id: str, field: str) -> list[str]:
    found = store.value("SELECT accept FROM gold WHERE image_id = $id AND field = $field", {"id": image_id, "field": field})
    return sorted(found or [])


# Who answered what: a face is answered by who voted on every field, flagged it here, or saw no face in it anywhere; done by who answered or
# skipped it. A hold is a face in a living lease that its holder is not done with; a slot is used by who holds it or answered in it last.
_STATE = """
    acts AS (
        SELECT image_id, person_id, count(*) FILTER (op = 'set' AND list_contains($fields, field)) = len($fields)
               OR bool_or(op = 'set' AND field LIKE 'flag_%' AND value = 'yes') AS answered,
               bool_or(op = 'skip' AND list_contains($fields, field)) AS skipped
        FROM standing
        WHERE (list_contains($fields, field) OR field = 'flag_non_face'
               OR (field LIKE 'flag_%' AND op = 'set' AND campaign_id = $campaign))
          AND CASE WHEN $grid THEN campaign_id = $campaign AND round IN ('vote', 'confirm') ELSE round = 'vote' END
        GROUP BY image_id, person_id HAVING answered OR skipped),
    held AS (
        SELECT f.image_id, l.person_id, f.slot FROM live.lease_face AS f JOIN live.lease AS l ON l.lease_id = f.lease_id
        ANTI JOIN acts AS a ON a.image_id = f.image_id AND a.person_id = l.person_id
        WHERE l.campaign_id = $campaign AND l.ended_at IS NULL AND l.expires_at > $now AND f.slot IS NOT NULL),
    used AS (
        SELECT f.image_id, l.person_id, arg_max(f.slot, l.granted_at) AS slot
        FROM live.lease_face AS f JOIN live.lease AS l ON l.lease_id = f.lease_id
        JOIN acts AS a ON a.image_id = f.image_id AND a.person_id = l.person_id AND a.answered
        WHERE l.campaign_id = $campaign AND f.slot IS NOT NULL GROUP BY f.image_id, l.person_id
        UNION SELECT image_id, person_id, slot FROM held),
    taken AS (
        SELECT image_id, count(DISTINCT person_id) AS n FROM (
            SELECT image_id, person_id FROM acts WHERE answered UNION ALL SELECT image_id, person_id FROM held) GROUP BY image_id),
    slots AS (SELECT image_id, list(DISTINCT slot) AS slots FROM used GROUP BY image_id)
"""
_BASE = """
    base AS (
        SELECT DISTINCT s.image_id FROM facts.sample AS s
        WHERE ($label IS NULL OR s.given_label = $label) AND ($source IS NULL OR s.source_id = $source)
          AND ($split IS NULL OR s.source_split = $split) AND (len($images) = 0 OR s.image_id IN (SELECT unnest($images)))
          AND ($finding IS NULL OR s.sample_id IN (SELECT f.sample_id FROM findings AS f WHERE f.kind = $finding))
          AND CASE WHEN $claim IS NULL OR $claimed_by IS NULL THEN true
                   WHEN $claimed_by = 'given' THEN s.given_label = $claim
                   WHEN $claimed_by = 'model' THEN s.sample_id IN (
                        SELECT p.sample_id FROM predictions AS p WHERE p.run_id = $run AND p.out_of_fold AND p.predicted = $claim)
                   ELSE s.sample_id IN (SELECT c.sample_id FROM samples AS c WHERE c.current_label = $claim) END),
    open AS (
        SELECT b.image_id, coalesce(t.n, 0) AS taken, coalesce(u.slots, []) AS slots FROM base AS b
        LEFT JOIN taken AS t ON t.image_id = b.image_id LEFT JOIN slots AS u ON u.image_id = b.image_id
        WHERE coalesce(t.n, 0) < $votes
          AND b.image_id NOT IN (SELECT image_id FROM acts WHERE person_id = $person)
          AND b.image_id NOT IN (SELECT image_id FROM held WHERE person_id = $person)
          AND ($gold_share = 0 OR b.image_id NOT IN (SELECT g.image_id FROM gold AS g WHERE list_contains($fields, g.field)))
          AND NOT list_contains($examples, b.image_id)
          AND b.image_id NOT IN (SELECT s.image_id FROM standing AS s WHERE s.person_id = $person AND s.round = 'adjudication' AND s.op = 'set'
                                 AND list_contains($fields, s.field))
          AND ($least = 0 OR b.image_id IN (
                SELECT image_id FROM standing WHERE round = 'vote' AND op = 'set' AND list_contains($fields, field) AND person_id <> $person
                GROUP BY image_id HAVING count(*) >= $least)))
"""
# Scores of the priority policies; higher comes first.
_SCORE = {
    "none": "SELECT NULL AS image_id, NULL::DOUBLE AS score",
    "entropy": """
        SELECT image_id, -sum(p * ln(p)) AS score FROM (
            SELECT image_id, n / sum(n) OVER (PARTITION BY image_id) AS p FROM (
                SELECT image_id, value, sum(votes) AS n FROM votes WHERE list_contains($fields, field) GROUP BY image_id, value))
        GROUP BY image_id""",
    "disagreement": """
        SELECT s.image_id, max(CASE WHEN p.predicted = s.current_label THEN 0 ELSE list_max(p.probabilities) END) AS score
        FROM predictions AS p JOIN samples AS s ON s.sample_id = p.sample_id WHERE p.run_id = $run AND p.out_of_fold GROUP BY s.image_id""",
    "finding": """
        SELECT image_id, max(CASE WHEN (evidence ->> 'lower') IS NOT NULL AND (evidence ->> 'upper') IS NULL THEN -score ELSE score END) AS score
        FROM findings WHERE kind = $finding GROUP BY image_id""",
    "rarity": """
        SELECT s.image_id, max(1.0 / c.n) AS score FROM facts.sample AS s
        JOIN (SELECT given_label, count(*) AS n FROM facts.sample GROUP BY given_label) AS c ON c.given_label = s.given_label
        GROUP BY s.image_id""",
}


def _params(ask: Ask, person: Person) -> dict[str, Any]:
    return {"campaign": ask.campaign_id, "fields": list(ask.fields), "grid": ask.grid, "now": now(), "person": person.person_id,
            "label": ask.label, "finding": ask.finding, "source": ask.source, "split": ask.split, "claim": ask.claim,
            "claimed_by": ask.claimed_by, "run": ask.run_id, "votes": ask.votes, "least": ask.least_votes, "gold_share": ask.gold_share,
            "examples": list(ask.examples), "images": list(ask.images)}


def grant(store: Store, person: Person, ask: Ask, lease_id: str, client: str, number: int, limit: int, minutes: float, part: int,
          least: int) -> Block:
    """Hands out up to `limit` faces for `minutes`, or again what this client was given under this number.

    A block is no more than a `part`-th of what is open, and no less than `least`.

    The first block of a new client takes over what the person still holds in the campaign from another tab or an earlier visit.
    """
    params = _params(ask, person)
    with store.write() as w:
        mine = w.run("SELECT lease_id FROM live.lease WHERE client = $client AND number = $number AND person_id = $person AND campaign_id = $c",
                     {"client": client, "number": number, "person": person.person_id, "c": ask.campaign_id})
        if mine:
            lease_id = mine[0][0]
        else:
            at = now()
            w.run("INSERT INTO live.lease VALUES ($id, $campaign, $person, $client, $number, $at, $until, NULL)",
                  {"id": lease_id, "campaign": ask.campaign_id, "person": person.person_id, "client": client, "number": number, "at": at,
                   "until": at + timedelta(minutes=minutes)})
            kept = _take_over(w, params, lease_id, client) if number == 1 else 0
            if kept < limit:
                _fill(w, params, ask, lease_id, kept, limit - kept, part, least)
    return Block(lease_id, _faces(store, params, lease_id))


# The first slot of a face that nobody else uses, for faces (image_id, slot) of one person; NULL where others have them all.
_FREE_SLOT = """
    others AS (SELECT image_id, list(DISTINCT slot) AS slots, count(DISTINCT person_id) AS n FROM (
        SELECT image_id, person_id, slot FROM used WHERE person_id <> $person
        UNION ALL SELECT image_id, person_id, NULL FROM acts WHERE answered AND person_id <> $person) GROUP BY image_id)
"""
_SLOT = """
    CASE WHEN f.slot IS NULL OR coalesce(o.n, 0) >= $votes THEN NULL WHEN NOT list_contains(coalesce(o.slots, []), f.slot) THEN f.slot
         ELSE list_filter(range(1, $votes + 1), s -> NOT list_contains(o.slots, s))[1] END
"""


def _take_over(w: Writer, params: dict[str, Any], lease_id: str, client: str) -> int:
    """Moves the faces that the person holds under other clients into this lease; returns how many."""
    mine = {k: params[k] for k in ("campaign", "person", "fields", "grid", "now", "votes")} | {"lease": lease_id, "client": client}
    moved = w.run(f"""
        INSERT INTO live.lease_face
        WITH {_STATE}, {_FREE_SLOT},
        kept AS (
            SELECT f.*, {_SLOT} AS fresh, l.granted_at, l.lease_id AS old,
                   row_number() OVER (PARTITION BY f.image_id, f.round ORDER BY l.granted_at DESC) AS latest
            FROM live.lease_face AS f JOIN live.lease AS l ON l.lease_id = f.lease_id LEFT JOIN others AS o ON o.image_id = f.image_id
            WHERE l.campaign_id = $campaign AND l.person_id = $person AND l.client <> $client AND l.ended_at IS NULL
              AND CASE WHEN f.round = 'repeat' THEN f.image_id NOT IN (SELECT s.image_id FROM standing AS s WHERE s.person_id = $person
                                                                       AND s.round = 'repeat' AND list_contains($fields, s.field))
                       ELSE f.image_id NOT IN (SELECT a.image_id FROM acts AS a WHERE a.person_id = $person) END)
        SELECT $lease, image_id, fresh, row_number() OVER (ORDER BY granted_at, old, place) - 1, round, reason, inclusion, suggested, suggested_by
        FROM kept WHERE latest = 1 AND (fresh IS NOT NULL OR reason IN ('gold', 'repeat'))
    """, mine)
    w.run("UPDATE live.lease SET ended_at = $now WHERE campaign_id = $campaign AND person_id = $person AND client <> $client "
          "AND ended_at IS NULL", {k: mine[k] for k in ("now", "campaign", "person", "client")})
    return int(moved[0][0])


def _fill(w: Writer, params: dict[str, Any], ask: Ask, lease_id: str, start: int, limit: int, part: int, least: int) -> None:
    """Draws the faces of a block: from the random part of the campaign, gold, hidden repeats, and the rest by priority; shuffled together.

    The random part is fixed: a face is in it when a hash of its id and the campaign's is below the share, so that its inclusion probability is
    the share, whatever was handed out before.
    """
    shares = {"share": ask.random_share, "repeat_share": ask.repeat_share, "before": now() - timedelta(hours=ask.repeat_hours), "part": part,
              "least_block": least}
    w.run(f"""
        INSERT INTO live.lease_face
        WITH {_STATE}, {_BASE}, score AS ({_SCORE[ask.priority]}),
        block AS (SELECT least($limit, greatest($least_block, ceil(count(*) / $part)))::BIGINT AS size FROM open),
        mine AS (SELECT f.image_id, f.round FROM live.lease_face AS f JOIN live.lease AS l ON l.lease_id = f.lease_id
                 WHERE l.person_id = $person AND l.campaign_id = $campaign AND l.ended_at IS NULL),
        slotted AS (
            SELECT image_id, taken, list_filter(range(1, $votes + 1), s -> NOT list_contains(slots, s))[1] AS slot,
                   md5_number_lower(image_id || $campaign) % 1000000 < $share * 1000000 AS at_random
            FROM open),
        gold_faces AS (
            SELECT DISTINCT g.image_id FROM gold AS g WHERE list_contains($fields, g.field) AND NOT list_contains($examples, g.image_id)
              AND g.image_id NOT IN (SELECT image_id FROM acts WHERE person_id = $person) AND g.image_id NOT IN (SELECT image_id FROM mine)
            ORDER BY md5(g.image_id || $person) LIMIT (SELECT round(size * $gold_share) FROM block)::BIGINT),
        repeats AS (
            SELECT DISTINCT s.image_id FROM standing AS s
            WHERE s.person_id = $person AND s.round = 'vote' AND s.op = 'set' AND list_contains($fields, s.field) AND s.recorded_at < $before
              AND s.campaign_id = $campaign
              AND s.image_id NOT IN (SELECT r.image_id FROM standing AS r WHERE r.person_id = $person AND r.round = 'repeat'
                                     AND list_contains($fields, r.field))
              AND s.image_id NOT IN (SELECT image_id FROM mine WHERE round = 'repeat')
            ORDER BY md5(s.image_id || $lease) LIMIT (SELECT round(size * $repeat_share) FROM block)::BIGINT),
        special AS (SELECT (SELECT count(*) FROM gold_faces) + (SELECT count(*) FROM repeats) AS n),
        drawn AS (
            SELECT image_id, slot FROM slotted WHERE at_random AND slot IS NOT NULL ORDER BY taken, md5(image_id || $lease)
            LIMIT (SELECT greatest(round(size * $share), size - (SELECT n FROM special) - (SELECT count(*) FROM slotted WHERE NOT at_random))
                   FROM block)::BIGINT),
        ranked AS (
            SELECT o.image_id, o.slot FROM slotted AS o LEFT JOIN score AS c ON c.image_id = o.image_id WHERE NOT o.at_random AND o.slot IS NOT NULL
            ORDER BY c.score DESC NULLS LAST, o.taken, md5(o.image_id || $person), o.image_id
            LIMIT (SELECT greatest(size - (SELECT n FROM special) - (SELECT count(*) FROM drawn), 0) FROM block)::BIGINT),
        chosen AS (
            SELECT image_id, slot, 'vote' AS round, 'random' AS reason, $share AS inclusion FROM drawn
            UNION ALL SELECT image_id, slot, 'vote', CASE WHEN $priority = 'none' THEN 'queue' ELSE $priority END, NULL FROM ranked
            UNION ALL SELECT image_id, NULL, 'vote', 'gold', NULL FROM gold_faces
            UNION ALL SELECT image_id, NULL, 'repeat', 'repeat', NULL FROM repeats)
        SELECT $lease, image_id, slot, $start + row_number() OVER (ORDER BY md5(image_id || $lease)) - 1, round, reason, inclusion, $claim,
               CASE WHEN $claim IS NULL THEN NULL ELSE coalesce($run, $claimed_by, $finding) END
        FROM chosen
    """, {**params, **shares, "lease": lease_id, "start": start, "limit": limit, "priority": ask.priority})


def _faces(store: Store, params: dict[str, Any], lease_id: str) -> pd.DataFrame:
    return store.frame("""
        SELECT f.image_id, i.gray48, f.round, f.suggested, f.place,
               (SELECT map_from_entries(list((s.field, s.value))) FROM standing AS s WHERE s.image_id = f.image_id AND s.person_id = $person
                AND s.op = 'set' AND s.round = 'vote' AND f.round = 'vote' AND (list_contains($fields, s.field) OR s.field LIKE 'flag_%')) AS answers
        FROM live.lease_face AS f JOIN facts.image AS i ON i.image_id = f.image_id WHERE f.lease_id = $lease ORDER BY f.place
    """, {"lease": lease_id, "person": params["person"], "fields": params["fields"]})


def heartbeat(store: Store, person: Person, ask: Ask, client: str, minutes: float) -> list[str]:
    """Keeps what this client holds for another `minutes`; returns its faces that others, or another tab of the person, hold meanwhile.

    A lease that ran out is taken up again, in other slots where others came, but for the faces that have or are about to get all their votes.
    """
    ids = {"client": client, "person": person.person_id, "campaign": ask.campaign_id}
    where = "client = $client AND person_id = $person AND campaign_id = $campaign"
    soonest = store.value(f"SELECT min(expires_at) FROM live.lease WHERE {where} AND ended_at IS NULL", ids)
    if soonest is not None and soonest < now() + timedelta(minutes=minutes / 2):
        params = {k: v for k, v in _params(ask, person).items() if k in ("campaign", "fields", "grid", "now", "person", "votes")}
        with store.write() as w:
            w.run(f"""
                UPDATE live.lease_face AS t SET slot = n.fresh FROM (
                    WITH {_STATE}, {_FREE_SLOT}
                    SELECT f.lease_id, f.image_id, {_SLOT} AS fresh FROM live.lease_face AS f JOIN live.lease AS l ON l.lease_id = f.lease_id
                    LEFT JOIN others AS o ON o.image_id = f.image_id
                    WHERE l.client = $client AND l.person_id = $person AND l.campaign_id = $campaign AND l.ended_at IS NULL
                      AND l.expires_at <= $now AND f.slot IS NOT NULL
                      AND f.image_id NOT IN (SELECT a.image_id FROM acts AS a WHERE a.person_id = $person)) AS n
                WHERE t.lease_id = n.lease_id AND t.image_id = n.image_id AND t.slot IS DISTINCT FROM n.fresh
            """, {**params, "client": client})
            w.run(f"UPDATE live.lease SET expires_at = $until WHERE {where} AND ended_at IS NULL",
                  {**ids, "until": params["now"] + timedelta(minutes=minutes)})
    return [r[0] for r in store.rows("""
        SELECT f.image_id FROM live.lease_face AS f JOIN live.lease AS l ON l.lease_id = f.lease_id
        WHERE l.client = $client AND l.person_id = $person AND l.campaign_id = $campaign GROUP BY f.image_id
        HAVING count(*) FILTER (l.ended_at IS NULL AND (f.slot IS NOT NULL OR f.reason IN ('gold', 'repeat'))) = 0
    """, ids)]


def handed(store: Store, person: Person, lease_ids: list[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """What these leases of this person handed out: lease_id -> image_id -> round, reason, inclusion, suggested, suggested_by, campaign_id."""
    names = ("round", "reason", "inclusion", "suggested", "suggested_by", "campaign_id")
    out: dict[str, dict[str, dict[str, Any]]] = {}
    for lease, image, *rest in store.rows(f"""
            SELECT l.lease_id, f.image_id, {', '.join(names)} FROM live.lease AS l JOIN live.lease_face AS f ON f.lease_id = l.lease_id
            WHERE l.person_id = $p AND l.lease_id IN (SELECT unnest($ids))""", {"p": person.person_id, "ids": lease_ids}):
        out.setdefault(lease, {})[image] = dict(zip(names, rest, strict=True))
    return out


def examples_among(store: Store, image_ids: list[str]) -> set[str]:
    """Images that are or were shown with their answer."""
    return {r[0] for r in store.rows("SELECT DISTINCT image_id FROM facts.example_face WHERE image_id IN (SELECT unnest($ids))", {"ids": image_ids})}


def counts(store: Store, person: Person, ask: Ask) -> dict[str, Any]:
    """For one person: done, open (free to be handed out), mine (held by the person), held (faces others hold that would be free otherwise),
    full (faces with all their votes), faces (in the campaign at all), next_expiry of others' leases."""
    names = ("faces", "open", "done", "mine", "held", "full", "next_expiry")
    params = _params(ask, person)
    return dict(zip(names, store.rows(f"""
        WITH {_STATE}, {_BASE},
        again AS (SELECT image_id FROM standing WHERE person_id = $person AND round = 'repeat' AND campaign_id = $campaign)
        SELECT (SELECT count(*) FROM base), (SELECT count(*) FROM open),
               (SELECT count(*) FROM acts WHERE person_id = $person AND image_id IN (SELECT image_id FROM base)),
               (SELECT count(*) FROM live.lease_face AS f JOIN live.lease AS l ON l.lease_id = f.lease_id
                WHERE l.person_id = $person AND l.campaign_id = $campaign AND l.ended_at IS NULL AND l.expires_at > $now
                  AND CASE WHEN f.round = 'repeat' THEN f.image_id NOT IN (SELECT image_id FROM again)
                           ELSE f.image_id NOT IN (SELECT image_id FROM acts WHERE person_id = $person) END),
               (SELECT count(DISTINCT h.image_id) FROM held AS h JOIN taken AS t ON t.image_id = h.image_id AND t.n >= $votes
                WHERE h.person_id <> $person AND h.image_id NOT IN (SELECT image_id FROM acts WHERE person_id = $person)),
               (SELECT count(*) FROM (SELECT image_id FROM acts WHERE answered AND image_id IN (SELECT image_id FROM base)
                                      GROUP BY image_id HAVING count(*) >= $votes)),
               (SELECT min(expires_at) FROM live.lease WHERE campaign_id = $campaign AND person_id <> $person AND ended_at IS NULL
                AND expires_at > $now)
    """, params)[0], strict=True))


def done_count(store: Store, person: Person, ask: Ask) -> int:
    """Answers of this person in the fields of the campaign: faces answered, flagged or skipped, and hidden repeats."""
    params = {k: v for k, v in _params(ask, person).items() if k in ("fields", "grid", "campaign", "person")}
    return int(store.value("""
        SELECT count(*) FROM (
            SELECT image_id FROM standing
            WHERE person_id = $person
              AND (list_contains($fields, field) OR field = 'flag_non_face' OR (field LIKE 'flag_%' AND op = 'set' AND campaign_id = $campaign))
              AND CASE WHEN $grid THEN campaign_id = $campaign AND round IN ('vote', 'confirm') ELSE round IN ('vote', 'repeat') END
            GROUP BY image_id, round = 'repeat' HAVING count(*) FILTER (op = 'set' AND list_contains($fields, field)) = len($fields)
                OR bool_or(op = 'skip' AND list_contains($fields, field)) OR bool_or(op = 'set' AND field LIKE 'flag_%' AND value = 'yes'))
    """, params))


def double_holds(store: Store) -> int:
    """Slots of a face that two people held at the same time; always 0 (checked by the benchmark)."""
    return int(store.value("""
        WITH spans AS (
            SELECT l.campaign_id, f.image_id, f.slot, l.person_id, l.granted_at,
                   least(coalesce(l.ended_at, l.expires_at), coalesce(
                       (SELECT min(e.recorded_at) FROM facts.label_event AS e WHERE e.image_id = f.image_id AND e.person_id = l.person_id
                        AND e.lease_id = l.lease_id), l.expires_at)) AS until
            FROM live.lease_face AS f JOIN live.lease AS l ON l.lease_id = f.lease_id WHERE f.slot IS NOT NULL)
        SELECT count(*) FROM spans AS a JOIN spans AS b ON a.campaign_id = b.campaign_id AND a.image_id = b.image_id AND a.slot = b.slot
        AND a.person_id < b.person_id AND a.granted_at < b.until AND b.granted_at < a.until
    """))
