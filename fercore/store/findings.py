"""What the audit noticed and measured. Findings are derived, and keep when they were first and last seen."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from fercore.domain import Person
from fercore.store.connection import Store, now
from fercore.store.samples import EDITS

COLUMNS = ("kind", "sample_id", "image_id", "group_id", "score", "evidence")
_FOUND = pa.schema([(c, pa.float64() if c == "score" else pa.string()) for c in COLUMNS])
# An imported vote row a sample; a face's copies may have votes of their own.
_TALLY = """
    tally AS (
        SELECT sample_id, value, sum(votes) AS n, sum(sum(votes)) OVER (PARTITION BY sample_id) AS total,
               max(sum(votes)) OVER (PARTITION BY sample_id) AS top
        FROM facts.imported_vote WHERE field = 'expression' GROUP BY sample_id, value)
"""


def settle(store: Store, kinds: list[str], found: pd.DataFrame) -> None:
    """Makes `found` (columns as COLUMNS) all that is known of `kinds`: what was seen before stays with its first date, what is no longer seen is
    marked gone, and the rest is new. In one transaction."""
    batch = pa.Table.from_pandas(found.reindex(columns=list(COLUMNS)), schema=_FOUND, preserve_index=False)
    same = "f.gone_at IS NULL AND f.kind = b.kind AND f.sample_id IS NOT DISTINCT FROM b.sample_id AND f.group_id IS NOT DISTINCT FROM b.group_id"
    at = now()
    with store.write("findings") as w:
        w.bulk("CREATE OR REPLACE TEMP TABLE found AS SELECT kind, sample_id, image_id, group_id, score, evidence FROM batch", batch)
        w.run(f"UPDATE facts.finding AS f SET gone_at = $at WHERE f.gone_at IS NULL AND f.kind IN (SELECT unnest($kinds)) "
              f"AND NOT EXISTS (FROM found AS b WHERE {same})", {"at": at, "kinds": kinds})
        w.run(f"UPDATE facts.finding AS f SET seen_at = $at, score = b.score, evidence = b.evidence FROM found AS b WHERE {same}", {"at": at})
        w.run(f"""
            INSERT INTO facts.finding (kind, sample_id, image_id, group_id, score, evidence, recorded_at, seen_at)
            SELECT b.*, $at, $at FROM found AS b WHERE NOT EXISTS (FROM facts.finding AS f WHERE {same})
        """, {"at": at})
        w.run("DROP TABLE found")


def duplicates(store: Store) -> pd.DataFrame:
    """Findings on identical images: all, with different labels, across splits."""
    return store.frame("""
        WITH grouped AS (SELECT image_id, count(*) AS n, count(DISTINCT given_label) AS labels,
                                count(DISTINCT source_split) AS splits FROM facts.sample GROUP BY image_id HAVING count(*) > 1)
        SELECT kind, s.sample_id, s.image_id, s.image_id AS group_id, g.n::DOUBLE AS score,
               json_object('rows', g.n, 'labels', g.labels, 'splits', g.splits)::VARCHAR AS evidence
        FROM facts.sample AS s JOIN grouped AS g ON g.image_id = s.image_id,
        LATERAL (VALUES ('exact_duplicate', true), ('conflicting_duplicate', g.labels > 1), ('cross_split_duplicate', g.splits > 1))
            AS k(kind, found) WHERE found
    """)


def beyond(store: Store, kind: str, measure: str, *, lower: float | None = None, upper: float | None = None) -> pd.DataFrame:
    """Findings on images whose measure is below `lower` or above `upper`."""
    return store.frame("""
        SELECT $kind AS kind, s.sample_id, s.image_id, NULL::VARCHAR AS group_id, m.value AS score,
               json_object($measure, round(m.value, 4), 'lower', $lower, 'upper', $upper)::VARCHAR AS evidence
        FROM facts.sample AS s JOIN measures AS m ON m.image_id = s.image_id
        WHERE m.name = $measure AND (m.value < $lower::DOUBLE OR m.value > $upper::DOUBLE)
    """, {"kind": kind, "measure": measure, "lower": lower, "upper": upper})


def divided(store: Store, above: float) -> pd.DataFrame:
    """Findings on rows whose imported votes on the expression have more entropy than `above`, in bits."""
    return store.frame(f"""
        WITH {_TALLY},
        spread AS (SELECT sample_id, -sum(n / total * log2(n / total)) AS bits, any_value(total) AS total FROM tally WHERE n > 0 GROUP BY sample_id)
        SELECT 'disputed' AS kind, s.sample_id, s.image_id, NULL::VARCHAR AS group_id, t.bits AS score,
               json_object('entropy', round(t.bits, 3), 'votes', t.total::INTEGER, 'upper', $above)::VARCHAR AS evidence
        FROM facts.sample AS s JOIN spread AS t ON t.sample_id = s.sample_id WHERE t.bits > $above
    """, {"above": above})


def against_label(store: Store) -> pd.DataFrame:
    """Findings on rows whose one commonest imported vote is not the given label; score is its share."""
    return store.frame(f"""
        WITH {_TALLY},
        first AS (SELECT sample_id, any_value(value) AS value, max(n / total) AS share FROM tally WHERE n = top
                  GROUP BY sample_id HAVING count(*) = 1)
        SELECT 'votes_against_label' AS kind, s.sample_id, s.image_id, NULL::VARCHAR AS group_id, f.share AS score,
               json_object('votes', f.value, 'share', round(f.share, 3), 'given', s.given_label)::VARCHAR AS evidence
        FROM facts.sample AS s JOIN first AS f ON f.sample_id = s.sample_id WHERE f.value <> s.given_label
    """)


def of_groups(store: Store, kind: str, image_ids: list[str], group_ids: list[str], scores: list[float], *, across: bool = False) -> pd.DataFrame:
    """Findings on all rows of these images, image_ids[i] being in group_ids[i]; with `across` only groups in more than one split."""
    if not image_ids:
        return pd.DataFrame(columns=list(COLUMNS))
    batch = pd.DataFrame({"image_id": image_ids, "group_id": group_ids, "score": scores})
    rows = store.frame("SELECT sample_id, image_id, source_split FROM facts.sample WHERE image_id IN (SELECT unnest($ids))", {"ids": image_ids})
    rows = rows.merge(batch, on="image_id")
    by = rows.groupby("group_id")
    rows["n"], rows["splits"] = by["sample_id"].transform("count"), by["source_split"].transform("nunique")
    if across:
        rows = rows[rows["splits"] > 1]
    evidence = [json.dumps({"rows": n, "splits": splits, "similarity": round(score, 4)})
                for n, splits, score in zip(rows["n"].tolist(), rows["splits"].tolist(), rows["score"].tolist(), strict=True)]
    return rows.assign(kind=kind, evidence=evidence)[list(COLUMNS)]


def imbalance(store: Store) -> pd.DataFrame:
    """Findings on classes with less than half of an equal share of the labelled rows, or more than twice: group_id is the class, score the share
    in equal shares."""
    return store.frame("""
        WITH counted AS (SELECT given_label, count(*) AS n, count(*) * count(*) OVER () / sum(count(*)) OVER () AS parts
                         FROM facts.sample WHERE given_label IS NOT NULL GROUP BY given_label)
        SELECT 'class_imbalance' AS kind, NULL::VARCHAR AS sample_id, NULL::VARCHAR AS image_id, given_label AS group_id, parts AS score,
               json_object('rows', n, 'equal_shares', round(parts, 3))::VARCHAR AS evidence
        FROM counted WHERE parts < 0.5 OR parts > 2
    """)


def undecodable(store: Store) -> pd.DataFrame:
    """Findings on sources with rejected rows in their last import: group_id is the source, score how many."""
    return store.frame("""
        WITH last AS (SELECT source_id, arg_max(import_id, recorded_at) AS import_id FROM facts.import
                      WHERE kind NOT IN ('tags', 'labels') GROUP BY source_id)
        SELECT 'undecodable' AS kind, NULL::VARCHAR AS sample_id, NULL::VARCHAR AS image_id, l.source_id AS group_id, count(*)::DOUBLE AS score,
               json_object('rows', count(*))::VARCHAR AS evidence
        FROM last AS l JOIN facts.rejected_row AS r ON r.import_id = l.import_id GROUP BY l.source_id
    """)


def unmeasured(store: Store, names: list[str], method: str) -> list[str]:
    """Images that lack one of these measures by this method."""
    return [r[0] for r in store.rows("""
        SELECT i.image_id FROM facts.image AS i WHERE i.image_id NOT IN (
            SELECT image_id FROM facts.measure WHERE method = $method AND name IN (SELECT unnest($names)) GROUP BY image_id
            HAVING count(*) = len($names)) ORDER BY i.image_id
    """, {"names": names, "method": method})]


def save_measures(store: Store, image_ids: list[str], values: dict[str, npt.NDArray[np.float64]], method: str) -> None:
    """Keeps one value a name and image, in the place of what was there."""
    batch = pa.table({"image_id": image_ids * len(values), "name": [n for n in values for _ in image_ids],
                      "value": np.concatenate(list(values.values())) if image_ids else []})
    with store.write("findings") as w:
        w.bulk("DELETE FROM facts.measure AS m WHERE EXISTS (FROM batch AS b WHERE b.image_id = m.image_id AND b.name = m.name)", batch)
        w.bulk("INSERT INTO facts.measure SELECT image_id, name, value, $method FROM batch", batch, {"method": method})


def measured_by(store: Store, name: str) -> tuple[str | None, int]:
    """(method, images) of a measure; None where there is none."""
    return store.rows("SELECT any_value(method), count(*) FROM facts.measure WHERE name = $name", {"name": name})[0]


def values(store: Store, name: str) -> pd.DataFrame:
    """image_id and value of a measure, the least first; of "entropy", the imported votes on the expression, and of "similarity", the greatest of
    an image."""
    if name == "similarity":
        return store.frame("""SELECT image_id, max(similarity) AS value FROM (
            SELECT image_a AS image_id, similarity FROM facts.near_pair UNION ALL SELECT image_b, similarity FROM facts.near_pair)
            GROUP BY image_id ORDER BY value, image_id""")
    if name == "entropy":
        return store.frame(f"""WITH {_TALLY} SELECT s.image_id, max(e.bits) AS value FROM (
            SELECT sample_id, -sum(n / total * log2(n / total)) AS bits FROM tally WHERE n > 0 GROUP BY sample_id) AS e
            JOIN facts.sample AS s ON s.sample_id = e.sample_id GROUP BY s.image_id ORDER BY value, image_id""")
    return store.frame("SELECT image_id, value FROM measures WHERE name = $name ORDER BY value, image_id", {"name": name})


def answers(store: Store, flag: str) -> pd.DataFrame:
    """share: 1 or 0 where people decided that the flag applies or not; for non-face else the share of imported votes that say so (0-1); NaN where
    nobody was asked. Every image, by id."""
    return store.frame("""
        SELECT i.image_id, coalesce((d.value = 'yes')::INTEGER, v.share)::DOUBLE AS share FROM facts.image AS i
        LEFT JOIN decisions AS d ON d.image_id = i.image_id AND d.field = 'flag_' || $flag
        LEFT JOIN (
            SELECT s.image_id, coalesce(sum(v.votes) FILTER (v.value = 'non_face'), 0) / sum(v.votes) AS share
            FROM facts.imported_vote AS v JOIN facts.sample AS s ON s.sample_id = v.sample_id
            WHERE v.field = 'expression' AND $flag = 'non_face' GROUP BY s.image_id HAVING sum(v.votes) > 0) AS v ON v.image_id = i.image_id
        ORDER BY i.image_id
    """, {"flag": flag})


def uncompared(store: Store, method: str) -> list[str]:
    return [r[0] for r in store.rows("SELECT image_id FROM facts.image WHERE image_id NOT IN "
                                     "(SELECT image_id FROM facts.compared WHERE method = $method) ORDER BY image_id", {"method": method})]


def save_pairs(store: Store, pairs: pa.Table, compared: list[str], method: str) -> None:
    """Adds pairs (image_a, image_b, similarity, mirrored) and that these images were compared with all; what another method made goes."""
    with store.write("findings") as w:
        w.run("DELETE FROM facts.near_pair WHERE method <> $method", {"method": method})
        w.run("DELETE FROM facts.compared WHERE method <> $method", {"method": method})
        w.bulk("INSERT INTO facts.near_pair SELECT image_a, image_b, similarity, mirrored, $method FROM batch", pairs, {"method": method})
        w.run("INSERT INTO facts.compared SELECT unnest($ids), $method", {"ids": compared, "method": method})


def near_pairs(store: Store, above: float) -> pd.DataFrame:
    """image_a, image_b, similarity, mirrored of the pairs from `above` on whose images are still here."""
    return store.frame("""
        SELECT p.image_a, p.image_b, p.similarity, p.mirrored FROM facts.near_pair AS p
        SEMI JOIN facts.image AS a ON a.image_id = p.image_a SEMI JOIN facts.image AS b ON b.image_id = p.image_b
        WHERE p.similarity >= $above ORDER BY p.similarity DESC, p.image_a, p.image_b
    """, {"above": above})


def set_bound(store: Store, person: Person, kind: str, bound: float) -> None:
    with store.write("findings") as w:
        w.run("INSERT INTO facts.audit_bound VALUES ($kind, $bound, $p, $at)", {"kind": kind, "bound": bound, "p": person.person_id, "at": now()})


def bounds(store: Store) -> dict[str, float]:
    """The bounds that people set, by kind."""
    return dict(store.rows("SELECT kind, arg_max(bound, recorded_at) FROM facts.audit_bound GROUP BY kind"))


def summary(store: Store) -> pd.DataFrame:
    """One row a kind: rows (samples) and groups (of images that belong together; equal to rows where there are none)."""
    return store.frame("""
        SELECT kind, count(*) AS n_samples, count(DISTINCT coalesce(group_id, sample_id)) AS n_groups, max(seen_at) AS recorded_at
        FROM findings GROUP BY kind ORDER BY kind
    """)


def of_set(store: Store) -> pd.DataFrame:
    """Findings about the whole set: kind, subject (a class or a source), score, evidence (JSON)."""
    return store.frame("SELECT kind, subject, score, evidence, recorded_at FROM set_findings ORDER BY kind, score")


def of_image(store: Store, image_id: str) -> pd.DataFrame:
    return store.frame("SELECT DISTINCT kind, evidence FROM findings WHERE image_id = $id ORDER BY kind", {"id": image_id})


def of_kind(store: Store, kind: str, *, limit: int, offset: int = 0, group: str | None = None) -> pd.DataFrame:
    """sample_id, image_id, group_id, score, evidence, recorded_at, groups kept together, the most marked first."""
    order = "group_score DESC, group_id, score DESC" if kind not in ("dark", "flat", "low_contrast", "blurred") else "score"
    return store.frame(f"""
        SELECT sample_id, image_id, group_id, score, evidence, recorded_at,
               max(score) OVER (PARTITION BY coalesce(group_id, sample_id)) AS group_score
        FROM findings WHERE kind = $kind AND ($group IS NULL OR group_id = $group) ORDER BY {order}, sample_id LIMIT $limit OFFSET $offset
    """, {"kind": kind, "limit": limit, "offset": offset, "group": group})


def images_of(store: Store, kind: str, groups: Sequence[str] | None = None) -> pd.DataFrame:
    """Distinct images with a finding, of these groups or of all: group_id (missing where there are no groups), image_id."""
    return store.frame("SELECT DISTINCT group_id, image_id FROM findings WHERE kind = $kind "
                       "AND ($groups IS NULL OR group_id IN (SELECT unnest($groups))) ORDER BY group_id, image_id",
                       {"kind": kind, "groups": None if groups is None else list(groups)})


def group_ids(store: Store, kind: str) -> pd.DataFrame:
    """group_id, n (rows), score, the largest first."""
    return store.frame("SELECT group_id, count(*) AS n, max(score) AS score FROM findings WHERE kind = $kind AND group_id IS NOT NULL "
                       "GROUP BY group_id ORDER BY n DESC, score DESC, group_id", {"kind": kind})


def gestures(store: Store, person: Person, mode: str, limit: int) -> list[dict[str, Any]]:
    """The last acts of this person in this mode that stand, newest first: gesture, field, value, faces, at."""
    names = ("gesture", "field", "value", "faces", "at")
    return [dict(zip(names, r, strict=True)) for r in store.rows("""
        SELECT gesture::VARCHAR, any_value(field), any_value(value), count(DISTINCT image_id), max(recorded_at) FROM label_events
        WHERE person_id = $p AND mode = $mode AND op = 'set' GROUP BY gesture HAVING bool_or(active) ORDER BY max(seq) DESC LIMIT $n
    """, {"p": person.person_id, "mode": mode, "n": limit})]


def events_of(store: Store, person: Person, gesture: str) -> list[tuple[str, str]]:
    """(event id, image id) of what this person set in a gesture, as far as it stands."""
    return store.rows("SELECT event_id::VARCHAR, image_id FROM label_events WHERE person_id = $p AND gesture::VARCHAR = $g AND op = 'set' AND active "
                      "ORDER BY seq", {"p": person.person_id, "g": gesture})


def edits(store: Store, image_ids: list[str] | None = None) -> pd.DataFrame:
    """What people decided to leave out or to change, of these images or of all: image_id, exclude (a reason), transform; missing where there is
    nothing, "several" where people disagree."""
    return store.frame(EDITS, {"ids": image_ids})


def flagged(store: Store, field: str) -> list[str]:
    """Images to which people decided that this flag applies."""
    return [r[0] for r in store.rows("SELECT image_id FROM decisions WHERE field = $field AND value = 'yes' ORDER BY image_id", {"field": field})]


def decided(store: Store, field: str, campaign_id: str | None = None) -> pd.DataFrame:
    """image_id and value of what people decided on a field; ties are left out. Args: campaign_id: only faces answered since this campaign began."""
    return store.frame("""
        SELECT image_id, value FROM decisions WHERE field = $field AND value IS NOT NULL
        AND ($campaign IS NULL OR image_id IN (
            SELECT s.image_id FROM standing AS s JOIN campaigns AS c ON c.campaign_id = $campaign
            WHERE s.field = $field AND s.op = 'set' AND s.recorded_at >= c.since))
        ORDER BY image_id
    """, {"field": field, "campaign": campaign_id})
