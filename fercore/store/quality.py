"""Votes as agreement, gold, consistency and decision rules read them."""

from typing import Any

import pandas as pd

from fercore.domain import Person
from fercore.schemes import FERPLUS_COLUMNS
from fercore.store.connection import Store

_WEEK = "strftime(date_trunc('week', recorded_at), '%G-W%V')"
_ANSWER = "op = 'set' AND mode IS DISTINCT FROM 'audit_bulk'"  # marks on many faces at once are no answers to a question
_CHOSEN = f"""
    field = $field AND {_ANSWER} AND ($campaign IS NULL OR campaign_id = $campaign)
    AND (len($weeks) = 0 OR list_contains($weeks, {_WEEK}))
"""


def _params(field: str, campaign: str | None, weeks: list[str]) -> dict[str, Any]:
    return {"field": field, "campaign": campaign, "weeks": weeks}


def choices(store: Store) -> dict[str, list[str]]:
    """What votes there are to choose from: fields, campaign ids, ISO weeks ("2026-W07") newest first."""
    return {key: [r[0] for r in store.rows(f"SELECT DISTINCT {column} FROM standing WHERE {_ANSWER} AND round = 'vote' AND {column} IS NOT NULL "
                                           f"ORDER BY 1 {order}")]
            for key, column, order in (("fields", "field", ""), ("campaigns", "campaign_id", ""), ("weeks", _WEEK, "DESC"))}


def votes(store: Store, field: str, campaign: str | None, weeks: list[str]) -> pd.DataFrame:
    """Independent votes on a field: image_id, person_id, value, week (its Monday)."""
    return store.frame("SELECT image_id, person_id, value, date_trunc('week', recorded_at)::TIMESTAMP AS week FROM standing "
                       f"WHERE round = 'vote' AND {_CHOSEN}", _params(field, campaign, weeks))


def repeats(store: Store, field: str, campaign: str | None, weeks: list[str], person_id: str | None = None) -> pd.DataFrame:
    """Hidden second answers beside the first: person_id, image_id, first, again, recorded_at (of the second)."""
    return store.frame(f"""
        SELECT r.person_id, r.image_id, v.value AS first, r.value AS again, r.recorded_at
        FROM (SELECT * FROM standing WHERE round = 'repeat' AND {_CHOSEN} AND ($person IS NULL OR person_id = $person)) AS r
        JOIN standing AS v ON v.image_id = r.image_id AND v.field = r.field AND v.person_id = r.person_id AND v.round = 'vote' AND v.op = 'set'
        ORDER BY r.person_id, r.image_id
    """, {**_params(field, campaign, weeks), "person": person_id})


def gold_answers(store: Store, field: str, campaign: str | None, weeks: list[str], person_id: str | None = None) -> pd.DataFrame:
    """Votes on faces whose answer is known: person_id, image_id, hit, recorded_at."""
    return store.frame(f"""
        SELECT s.person_id, s.image_id, list_contains(g.accept, s.value) AS hit, s.recorded_at
        FROM (SELECT * FROM standing WHERE round = 'vote' AND {_CHOSEN} AND ($person IS NULL OR person_id = $person)) AS s
        JOIN gold AS g ON g.image_id = s.image_id AND g.field = s.field ORDER BY s.person_id, s.image_id
    """, {**_params(field, campaign, weeks), "person": person_id})


def own_fields(store: Store, person: Person) -> list[str]:
    """Fields this person has answered, the one with most answers first."""
    return [r[0] for r in store.rows(f"SELECT field FROM standing WHERE person_id = $person AND {_ANSWER} AND round = 'vote' GROUP BY field "
                                     "ORDER BY count(*) DESC, field", {"person": person.person_id})]


def own_answers(store: Store, person: Person, field: str) -> pd.DataFrame:
    """This person's independent votes in the order they were given: value, campaign_id, lead_ms, recorded_at."""
    return store.frame(f"SELECT value, campaign_id, lead_ms, recorded_at FROM standing WHERE person_id = $person AND field = $field AND {_ANSWER} "
                       "AND round = 'vote' ORDER BY seq", {"person": person.person_id, "field": field})


def own_acts(store: Store, person: Person, minutes: int) -> pd.Series:
    """When this person acted in the `minutes` up to the last act, in order."""
    return store.frame("""
        SELECT recorded_at FROM facts.label_event WHERE person_id = $person AND recorded_at >= (
            SELECT max(recorded_at) FROM facts.label_event WHERE person_id = $person) - to_minutes($minutes) ORDER BY recorded_at
    """, {"person": person.person_id, "minutes": minutes})["recorded_at"]


def ballots(store: Store, *, imported: bool, annotators: bool) -> pd.DataFrame:
    """Votes on expression per sample: sample_id, image_id, and a count for each answer of FER+; by sample_id.

    Who flags a face as non-face gives that one vote; "cannot tell" counts as unknown.
    """
    names = list(FERPLUS_COLUMNS.values())
    sums = ", ".join(f"sum(votes) FILTER (value = '{c}') AS {c}" for c in names)
    return store.frame(f"""
        WITH own AS (
            SELECT image_id, person_id, max(CASE WHEN field = 'flag_non_face' AND value = 'yes' THEN 'non_face' END) AS flagged,
                   max(CASE WHEN field = 'expression' THEN CASE value WHEN 'cannot_tell' THEN 'unknown' ELSE value END END) AS named
            FROM standing WHERE $annotators AND op = 'set' AND round = 'vote' AND field IN ('expression', 'flag_non_face')
            GROUP BY image_id, person_id),
        cast_votes AS (
            SELECT s.sample_id, coalesce(o.flagged, o.named) AS value, 1 AS votes
            FROM own AS o JOIN facts.sample AS s ON s.image_id = o.image_id
            UNION ALL
            SELECT sample_id, value, votes FROM facts.imported_vote WHERE $imported AND field = 'expression'),
        tally AS (SELECT sample_id, {sums} FROM cast_votes GROUP BY sample_id)
        SELECT s.sample_id, s.image_id, {", ".join(f"coalesce(t.{c}, 0)::BIGINT AS {c}" for c in names)}
        FROM facts.sample AS s LEFT JOIN tally AS t ON t.sample_id = s.sample_id ORDER BY s.sample_id
    """, {"imported": imported, "annotators": annotators})


def settled(store: Store) -> pd.DataFrame:
    """What reviewers settled or a verify grid confirmed, an answer of FER+ for an image: image_id, value, how (adjudicated before confirmed)."""
    return store.frame("""
        SELECT image_id, how, CASE WHEN field = 'flag_non_face' THEN 'non_face' WHEN value = 'cannot_tell' THEN 'unknown' ELSE value END AS value
        FROM decisions WHERE how <> 'votes' AND (field = 'expression' OR (field = 'flag_non_face' AND value = 'yes'))
        QUALIFY row_number() OVER (PARTITION BY image_id ORDER BY how, field DESC) = 1
    """)
