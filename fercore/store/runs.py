"""Finished runs, taken over from their files once."""

from typing import Any

import pandas as pd
import pyarrow as pa

from fercore.store.connection import Store, now


def known(store: Store) -> set[str]:
    return {r[0] for r in store.rows("SELECT run_id FROM facts.run")}


def insert(store: Store, run: dict[str, Any], epochs: pa.Table, predictions: pa.Table) -> bool:
    """Takes over one finished run; False when it is here already."""
    with store.write("runs") as w:
        if w.run("SELECT count(*) FROM facts.run WHERE run_id = $id", {"id": run["run_id"]})[0][0]:
            return False
        w.run("INSERT INTO facts.run VALUES ($run_id, $version_id, $model, $protocol, $state, $config, $test_reads, $at)",
              {**run, "at": now()})
        w.bulk("INSERT INTO facts.epoch SELECT $id, fold, epoch, train_loss, train_accuracy, val_loss, val_accuracy, seconds, best "
               "FROM batch", epochs, {"id": run["run_id"]})
        w.bulk("INSERT INTO facts.prediction SELECT $id, sample_id, fold, split, label, predicted, probabilities, out_of_fold "
               "FROM batch", predictions, {"id": run["run_id"]})
        return True


def of_image(store: Store, image_id: str) -> pd.DataFrame:
    """What finished runs predicted for an image."""
    return store.frame("""
        SELECT DISTINCT p.run_id, p.split, p.predicted, p.label, list_max(p.probabilities) AS probability
        FROM predictions AS p JOIN facts.sample AS s ON s.sample_id = p.sample_id WHERE s.image_id = $id ORDER BY p.run_id
    """, {"id": image_id})
