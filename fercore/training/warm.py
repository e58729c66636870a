"""What a network starts from besides chance: a finished run, or a file of weights, and that neither has seen what it will be tested on."""

import hashlib
import logging
from pathlib import Path

import pandas as pd
import safetensors.torch
import torch
from torch import nn

from fercore.errors import BadInput, FerError, NotFound, TrainingError
from fercore.models.network import load_weights
from fercore.training.config import RunConfig
from fercore.training.data import VersionData, read_version
from fercore.training.folds import Fold, hold_out, k_folds
from fercore.training.rundir import read_config, read_status, remedy

log = logging.getLogger(__name__)


def best_path(run_dir: Path, fold: int | None) -> Path:
    """Where the kept state of a run, or of one of its folds, lies."""
    return run_dir / ("best.safetensors" if fold is None else f"best-fold{fold}.safetensors")


def start_from(run_dir: Path, config: RunConfig, model: nn.Module, data: VersionData, fold: Fold, device: torch.device) -> None:
    """Put the weights that the run names into the model; nothing when it names none.

    Raises:
        NotFound, BadInput: the run or file cannot be used.
        TrainingError: the run it starts from was trained on faces that this fold keeps or is judged by.
    """
    if config.weights:
        path = Path(config.weights)
        if not path.is_file():
            raise NotFound("The weights are gone", f"{path.name} is no longer where it was", "Put the file back, or start a new run")
        if hashlib.sha256(path.read_bytes()).hexdigest() != config.weights_sha256:
            raise BadInput("The weights have changed", f"{path.name} is not the file that this run was started with", "Start a new run")
        loaded, skipped = load_weights(model, path)
        log.info("%s: %d tensors taken, %d left as they were", path.name, len(loaded), len(skipped))
    if config.warm_start:
        parent = run_dir.parent / config.warm_start
        settings = _parent(parent, config)
        if config.protocol != "leaky":
            _refuse_seen(run_dir, config, data, fold)
        number = fold.number if settings.protocol == "k_fold" else None
        if number is not None and number >= settings.folds:
            raise BadInput("The run to start from has fewer folds", f"{config.warm_start} has {settings.folds}", "Use as many folds as it has")
        try:
            model.load_state_dict(safetensors.torch.load_file(best_path(parent, number), device=str(device)))
        except (OSError, RuntimeError, safetensors.SafetensorError) as error:
            raise BadInput("The run to start from does not fit", f"{config.warm_start}: {error}",
                           "Choose a run of the same model and classes") from error


def _parent(path: Path, config: RunConfig) -> RunConfig:
    settings = read_config(path)
    if (state := read_status(path).state) != "finished":
        raise BadInput("The run to start from is not finished", f"{path.name} is {state}", f"{remedy(path.name, state)}. Or choose another")
    if (settings.model, settings.option) != (config.model, config.option):
        raise BadInput("The run to start from has another model", f"{path.name} trained {settings.model}", f"Choose a run of {config.model}")
    return settings


def _refuse_seen(run_dir: Path, config: RunConfig, data: VersionData, fold: Fold) -> None:
    """Raises: TrainingError: a face by which this fold is kept or judged, or a copy of it, was trained on by a run it starts from."""
    evaluated = pd.concat([data.samples.iloc[fold.stop], data.samples.iloc[fold.held_out]])
    name, met = config.warm_start, set[str]()
    while name:
        if name in met:
            raise BadInput("Runs start from each other", f"{name} comes twice", "Choose another run to start from")
        met.add(name)
        parent = read_config(run_dir.parent / name)
        try:
            old = read_version(run_dir.parents[1] / "versions" / parent.version_id, parent.manifest_sha256)
        except FerError as error:
            raise TrainingError("What the run to start from has seen is not known", f"{name}: {error.title}: {error.detail}",
                                "Restore its version, or choose another run") from error
        if parent.protocol == "hold_out":
            seen = old.samples.iloc[hold_out(old).fit]
        elif parent.protocol == "k_fold" and (parent.folds > fold.number):
            seen = old.samples.iloc[k_folds(old, parent.folds, parent.seed)[fold.number].fit]
        else:
            seen = old.samples
        both = evaluated[evaluated["duplicate_group"].isin(seen["duplicate_group"])]
        if len(both):
            raise TrainingError("The run to start from has seen the faces it would be judged by",
                                f"{name} was trained on {len(both):,} of the {len(evaluated):,} validation and test faces, the first is "
                                f"{both['sample_id'].iloc[0]}", "Start from a run on the same split, or from none")
        name = parent.warm_start


