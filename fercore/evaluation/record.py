"""Finished runs into the database, once."""

import json

import pyarrow as pa
import pyarrow.parquet as pq

from fercore.store import Store
from fercore.store import runs as table
from fercore.training.rundir import list_runs, read_metrics

_EPOCH = pa.schema([("fold", pa.int32()), ("epoch", pa.int32()), ("train_loss", pa.float64()), ("train_accuracy", pa.float64()),
                    ("val_loss", pa.float64()), ("val_accuracy", pa.float64()), ("seconds", pa.float64()), ("best", pa.bool_())])


def record_finished(store: Store) -> list[str]:
    """Takes over every finished run that the database does not know; returns their ids. Doing it again changes nothing."""
    known = table.known(store)
    taken = []
    for run in list_runs(store.workspace.runs):
        if run.config is None or run.status.state != "finished" or run.run_id in known:
            continue
        facts = {"run_id": run.run_id, "version_id": run.config.version_id, "model": run.config.model, "protocol": run.config.protocol,
                 "state": run.status.state, "config": json.dumps(run.config.model_dump(mode="json")), "test_reads": run.status.test_reads}
        epochs = pa.Table.from_pylist([{n: line[n] for n in _EPOCH.names} for line in read_metrics(run.path)], schema=_EPOCH)  # type: ignore[literal-required]
        try:
            predictions = pq.read_table(run.path / "predictions.parquet")
        except (OSError, pa.ArrowException):
            continue  # a damaged run stays out of the database and hides no other; its own page says what is wrong
        if table.insert(store, facts, epochs, predictions):
            taken.append(run.run_id)
    return taken
