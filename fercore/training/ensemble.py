"""Finished runs on the same faces as one: the mean of their probabilities."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fercore.errors import BadInput
from fercore.training.config import RunConfig
from fercore.training.rundir import read_config, read_status

_SAME = ("version_id", "manifest_sha256", "folds")


def config_of(runs: Path, members: Sequence[str]) -> RunConfig:
    """The settings of an ensemble of these runs.

    Raises:
        NotFound: no such run.
        BadInput: fewer than two, one twice, one not finished, leaky or an ensemble itself, or they do not predict the same faces.
    """
    def refuse(detail: str, remedy: str) -> BadInput:
        return BadInput("These runs make no ensemble", detail, remedy)

    if len(members) < 2 or len(set(members)) < len(members):
        raise refuse(f"{len(members)} runs, {len(set(members))} different ones", "Name two or more different runs")
    configs = {member: read_config(runs / member) for member in members}
    for member, config in configs.items():
        if (state := read_status(runs / member).state) != "finished":
            raise refuse(f"{member} is {state}", "Choose finished runs")
        if config.protocol not in ("hold_out", "k_fold"):
            raise refuse(f"{member} is {config.protocol}", "Choose hold-out or k-fold runs")
    first = configs[members[0]]
    for member, config in configs.items():
        for key in (*_SAME, *(("seed",) if first.folds else ())):  # the seed decides the folds
            if getattr(config, key) != getattr(first, key):
                raise refuse(f"{member} has {key} {getattr(config, key)!s}, {members[0]} {getattr(first, key)!s}", "Choose runs on the same faces")
    return first.model_copy(update={"protocol": "ensemble", "members": tuple(members), "option": {}, "weights": "", "warm_start": "",
                                    "weights_sha256": "", "study": "",
                                    "run_id": "", "exploratory": any(c.exploratory for c in configs.values())})


def predictions(runs: Path, members: Sequence[str]) -> pd.DataFrame:
    """What the ensemble predicts: rows as in predictions.parquet. Raises: BadInput: the members' rows differ."""
    frames = [pd.read_parquet(runs / member / "predictions.parquet") for member in members]
    version = json.loads((runs.parent / "versions" / read_config(runs / members[0]).version_id / "version.json").read_bytes())
    first = frames[0]
    about = ["sample_id", "fold", "split", "label"]
    if any(not frame[about].equals(first[about]) for frame in frames):
        raise BadInput("These runs make no ensemble", "They do not predict the same faces in the same folds", "Choose runs on the same faces")
    each = [np.array(frame["probabilities"].tolist(), np.float64) for frame in frames]
    mean = np.mean(each, axis=0).astype(np.float32)
    return first.assign(predicted=np.array(version["classes"], dtype=object)[mean.argmax(1)], probabilities=list(mean),
                        out_of_fold=np.logical_and.reduce([f["out_of_fold"] for f in frames]))
