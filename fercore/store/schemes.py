"""Custom schemes, maps between schemes, guidelines, example faces. Nothing here changes a label event."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
import pyarrow as pa

from fercore.domain import Person
from fercore.schemes import CANNOT_TELL, LabelClass, Scheme
from fercore.store.connection import Store, now


def _who(person: Person) -> dict[str, Any]:
    return {"person": person.person_id, "role": person.role.value, "authentication": person.authentication, "at": now()}


def append(store: Store, person: Person, scheme: Scheme, act: str, guidelines_of: str | None = None) -> bool:
    """Adds a version if it is the next one of its name; returns whether it was. Guidelines written for `guidelines_of` are copied."""
    with store.write("schemes") as w:
        if w.run("SELECT coalesce(max(number), 0) + 1 FROM facts.scheme WHERE slug = $slug", {"slug": scheme.slug})[0][0] != scheme.number:
            return False
        w.run("INSERT INTO facts.scheme VALUES ($id, $slug, $number, $field, $name, $classes, $act, $person, $role, $authentication, $at)",
              {"id": scheme.scheme_id, "slug": scheme.slug, "number": scheme.number, "field": scheme.field, "name": scheme.name,
               "classes": json.dumps([asdict(c) for c in scheme.classes]), "act": act, **_who(person)})
        w.run("INSERT INTO facts.guideline SELECT $slug, class_id, 1, text, $person, $role, $authentication, $at FROM guidelines "
              "WHERE slug = $base", {"slug": scheme.slug, "base": guidelines_of, **_who(person)})
    return True


def custom(store: Store) -> list[Scheme]:
    """Every version of every custom scheme, by name and number."""
    return [Scheme(i, field, name, tuple(LabelClass(**{**c, "keys": tuple(c["keys"])}) for c in json.loads(classes)))
            for i, field, name, classes in store.rows("SELECT scheme_id, field, name, classes FROM schemes ORDER BY slug, number")]


def history(store: Store, slug: str) -> pd.DataFrame:
    """scheme_id, recorded_at, person, role, authentication, act of every version, newest first."""
    return store.frame("""
        SELECT s.scheme_id, s.recorded_at, coalesce(p.name, s.person_id) AS person, s.role, s.authentication, s.act
        FROM schemes AS s LEFT JOIN people AS p ON p.person_id = s.person_id WHERE s.slug = $slug ORDER BY s.number DESC
    """, {"slug": slug})


def counts(store: Store, field: str, values: Sequence[str], given: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """For each of `values`, distinct faces (decided so on `field`; given so by a source; of that class now: decided, else given).

    Args:
        given: the values that a source's label may mean.
    """
    return {value: (decided, labelled, current) for value, decided, labelled, current in store.rows(f"""
        {_CELLS}
        SELECT v.value, (SELECT count(*) FROM decided AS d WHERE d.value = v.value), (SELECT count(*) FROM given AS g WHERE g.value = v.value),
               (SELECT count(*) FROM current_class AS c WHERE c.value = v.value)
        FROM (SELECT unnest($values) AS value) AS v
    """, {"field": field, "values": list(values), "given": list(given), "cannot_tell": CANNOT_TELL})}


def cell(store: Store, field: str, value: str, given: Sequence[str], limit: int) -> list[str]:
    """One sample id for each of up to `limit` faces whose class is `value` now."""
    return [r[0] for r in store.rows(f"""
        {_CELLS}
        SELECT min(s.sample_id) FROM current_class AS c JOIN facts.sample AS s ON s.image_id = c.image_id WHERE c.value = $value
        GROUP BY c.image_id ORDER BY c.image_id LIMIT $limit
    """, {"field": field, "value": value, "given": list(given), "limit": limit, "cannot_tell": CANNOT_TELL})]


# "Cannot tell" leaves the source's label standing, as in the view `samples`.
_CELLS = """
    WITH decided AS (SELECT image_id, value FROM decisions WHERE field = $field AND value <> $cannot_tell),
    given AS (SELECT DISTINCT image_id, given_label AS value FROM facts.sample WHERE list_contains($given, given_label)),
    current_class AS (FROM decided UNION ALL SELECT g.* FROM given AS g ANTI JOIN decided AS d ON d.image_id = g.image_id)
"""


def append_map(store: Store, person: Person, name: str, source: str, target: str, steps: list[dict[str, Any]]) -> bool:
    """Adds a map if its name is free; returns whether it was."""
    with store.write("schemes") as w:
        if w.run("SELECT 1 FROM facts.scheme_map WHERE name = $name LIMIT 1", {"name": name}):
            return False
        w.run("INSERT INTO facts.scheme_map VALUES ($name, $source, $target, $steps, $person, $role, $authentication, $at)",
              {"name": name, "source": source, "target": target, "steps": json.dumps(steps), **_who(person)})
    return True


def maps(store: Store) -> list[tuple[Any, ...]]:
    """(name, from_scheme, to_scheme, steps, person_id, recorded_at), newest first."""
    return [(*r[:3], json.loads(r[3]), *r[4:]) for r in store.rows(
        "SELECT name, from_scheme, to_scheme, steps, person_id, recorded_at FROM scheme_maps ORDER BY recorded_at DESC")]


def append_guideline(store: Store, person: Person, slug: str, class_id: str, text: str) -> None:
    with store.write("schemes") as w:
        w.run("""
            INSERT INTO facts.guideline SELECT $slug, $class, coalesce(max(number), 0) + 1, $text, $person, $role, $authentication, $at
            FROM facts.guideline WHERE slug = $slug AND class_id = $class
        """, {"slug": slug, "class": class_id, "text": text, **_who(person)})


def guidelines(store: Store, slug: str) -> dict[str, tuple[str, int, str]]:
    """class_id -> (text, number, who wrote it) of the guidelines written in this workspace."""
    return {c: (text, number, who) for c, text, number, who in store.rows(
        "SELECT g.class_id, g.text, g.number, coalesce(p.name, g.person_id) FROM guidelines AS g LEFT JOIN people AS p "
        "ON p.person_id = g.person_id WHERE g.slug = $slug", {"slug": slug})}


def agreed(store: Store, field: str, values: Sequence[str], limit: int) -> pd.DataFrame:
    """Up to `limit` faces a value on which people agree: imported votes (9 of 10 or more), then two or more annotators and no other vote,
    then gold: a face that is shown with its answer checks nobody any more.

    Flagged faces and faces decided otherwise are left out.

    Returns:
        image_id, value, source ("gold", "imported votes" or "annotators").
    """
    return store.frame("""
        WITH imported AS (
            SELECT image_id, value, sum(votes) AS n, sum(sum(votes)) OVER (PARTITION BY image_id) AS total FROM votes
            WHERE field = $field AND origin NOT IN ('annotator', 'tags') GROUP BY image_id, value),
        candidates AS (
            SELECT image_id, accept[1] AS value, 3 AS tier, 'gold' AS source, 1.0 AS share FROM gold WHERE field = $field AND len(accept) = 1
            UNION ALL
            SELECT image_id, value, 1, 'imported votes', n / total FROM imported WHERE total >= 10 AND 10 * n >= 9 * total
            UNION ALL
            SELECT image_id, any_value(value), 2, 'annotators', count(*) FROM standing WHERE field = $field AND round = 'vote' AND op = 'set'
            GROUP BY image_id HAVING count(*) >= 2 AND count(DISTINCT value) = 1),
        first AS (SELECT DISTINCT ON (image_id) * FROM candidates ORDER BY image_id, tier),
        placed AS (
            SELECT f.*, row_number() OVER (PARTITION BY f.value ORDER BY f.tier, f.share DESC, md5(f.image_id)) AS place FROM first AS f
            WHERE list_contains($values, f.value) AND f.image_id IN (SELECT image_id FROM facts.image)
              AND f.image_id NOT IN (SELECT image_id FROM decisions WHERE field LIKE 'flag_%' AND value = 'yes')
              AND NOT EXISTS (FROM decisions AS d WHERE d.image_id = f.image_id AND d.field = $field AND f.tier < 3
                              AND d.value IS DISTINCT FROM f.value))
        SELECT image_id, value, source FROM placed WHERE place <= $limit ORDER BY value, place
    """, {"field": field, "values": list(values), "limit": limit})


def choose_examples(store: Store, person: Person, scheme: Scheme, chosen: pd.DataFrame) -> None:
    """Makes `chosen` (image_id, value) the example faces of a scheme; earlier ones are put aside."""
    batch = pa.table({c: pa.array(chosen[c].tolist(), pa.string()) for c in ("image_id", "value")})
    with store.write("examples", "campaigns") as w:  # campaigns hand out no example face
        params = {"id": scheme.scheme_id, "slug": scheme.slug, "person": person.person_id, "at": now()}
        w.bulk("INSERT INTO facts.example_face SELECT $id, image_id, value, false, $person, $at FROM example_faces WHERE slug = $slug "
               "AND image_id NOT IN (SELECT image_id FROM batch)", batch, params)
        w.bulk("INSERT INTO facts.example_face SELECT $id, image_id, value, true, $person, $at FROM batch",
               batch, {k: v for k, v in params.items() if k != "slug"})


def examples(store: Store, slug: str) -> pd.DataFrame:
    """The example faces of a scheme: image_id, value, sample_id (one that shows it), gray48."""
    return store.frame("""
        SELECT e.image_id, e.value, min(s.sample_id) AS sample_id, any_value(i.gray48) AS gray48 FROM example_faces AS e
        JOIN facts.image AS i ON i.image_id = e.image_id JOIN facts.sample AS s ON s.image_id = e.image_id
        WHERE e.slug = $slug GROUP BY e.image_id, e.value ORDER BY e.value, e.image_id
    """, {"slug": slug})


def shown_examples(store: Store, slugs: Sequence[str]) -> list[str]:
    """Images that are or once were example faces of one of the schemes."""
    return [r[0] for r in store.rows("SELECT DISTINCT image_id FROM facts.example_face WHERE list_contains($slugs, split_part(scheme_id, '@', 1)) "
                                     "ORDER BY image_id", {"slugs": list(slugs)})]


def practiced(store: Store, person: Person, field: str) -> int:
    """How many practice answers of this person stand on `field`."""
    return int(store.value("SELECT count(*) FROM label_events WHERE person_id = $p AND field = $field AND round = 'practice' AND op = 'set' "
                           "AND active", {"p": person.person_id, "field": field}))


def practice(store: Store, scheme: Scheme, values: Sequence[str], seed: str, n: int) -> pd.DataFrame:
    """Up to `n` example faces (image_id, gray48, accept), as many of each value as there are, drawn and ordered by `seed`."""
    return store.frame("""
        WITH dealt AS (
            SELECT image_id, value, row_number() OVER (PARTITION BY value ORDER BY md5(image_id || $seed)) AS place FROM example_faces
            WHERE slug = $slug AND list_contains($values, value)),
        drawn AS (SELECT d.image_id, d.value, i.gray48 FROM dealt AS d JOIN facts.image AS i ON i.image_id = d.image_id
                  ORDER BY d.place, md5(d.value || $seed) LIMIT $n)
        SELECT d.image_id, d.gray48, coalesce(g.accept, [d.value]) AS accept FROM drawn AS d
        LEFT JOIN gold AS g ON g.image_id = d.image_id AND g.field = $field ORDER BY md5($seed || d.image_id)
    """, {"slug": scheme.slug, "field": scheme.field, "values": list(values), "seed": seed, "n": n})
