"""What the audit noticed. Findings are derived: each audit replaces them."""

import pandas as pd

from fercore.store.connection import Store, now


def replace(store: Store, *, dark_below: float, bright_above: float, flat_below: float) -> None:
    """Audits all samples in one transaction.

    Args:
        dark_below, bright_above: bounds on the mean pixel value, 0-255.
        flat_below: bound on the standard deviation of pixel values.
    """
    with store.write("findings") as w:
        w.run("DELETE FROM facts.finding")
        w.run("""
            INSERT INTO facts.finding
            WITH grouped AS (SELECT image_id, count(*) AS n, count(DISTINCT given_label) AS labels,
                                    count(DISTINCT source_split) AS splits FROM facts.sample GROUP BY image_id HAVING count(*) > 1)
            SELECT kind, s.sample_id, s.image_id, s.image_id, g.n, evidence, $at
            FROM facts.sample AS s JOIN grouped AS g ON g.image_id = s.image_id,
            LATERAL (VALUES ('exact_duplicate', true, g.n || ' identical faces'),
                            ('conflicting_duplicate', g.labels > 1, g.labels || ' different labels in ' || g.n || ' identical faces'),
                            ('cross_split_duplicate', g.splits > 1, 'in ' || g.splits || ' splits')) AS k(kind, found, evidence)
            WHERE found
        """, {"at": now()})
        w.run("""
            INSERT INTO facts.finding
            SELECT kind, s.sample_id, s.image_id, NULL, score, evidence, $at
            FROM facts.sample AS s JOIN facts.image AS i ON i.image_id = s.image_id,
            LATERAL (VALUES ('dark', i.mean < $dark, i.mean, 'mean pixel value ' || round(i.mean, 1) || ' < ' || $dark),
                            ('bright', i.mean > $bright, i.mean, 'mean pixel value ' || round(i.mean, 1) || ' > ' || $bright),
                            ('flat', i.sd < $flat, i.sd, 'standard deviation ' || round(i.sd, 1) || ' < ' || $flat))
                AS k(kind, found, score, evidence)
            WHERE found
        """, {"at": now(), "dark": dark_below, "bright": bright_above, "flat": flat_below})


def summary(store: Store) -> pd.DataFrame:
    """One row a kind: rows (samples) and groups (of identical images; equal to rows where there are none)."""
    return store.frame("""
        SELECT kind, count(*) AS n_samples, count(DISTINCT coalesce(group_id, sample_id)) AS n_groups, max(recorded_at) AS recorded_at
        FROM findings GROUP BY kind ORDER BY kind
    """)


def of_image(store: Store, image_id: str) -> pd.DataFrame:
    return store.frame("SELECT DISTINCT kind, evidence FROM findings WHERE image_id = $id ORDER BY kind", {"id": image_id})
