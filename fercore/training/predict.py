"""Finished runs as functions from faces to class probabilities. Nothing is written."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.torch
import torch
from torch import nn

from fercore.domain import SIDE, Pixels
from fercore.errors import BadInput, Conflict
from fercore.models import Input, build, spec_of
from fercore.training.augment import VIEWS, Faces, Views, averaged
from fercore.training.engine import prepared
from fercore.training.rundir import read_config, read_status
from fercore.training.warm import best_path

Probabilities = npt.NDArray[np.float32]
BATCH = 256  # images, whatever number of faces they are views of


@dataclass(frozen=True)
class _Network:
    model: nn.Module
    wanted: Input
    views: Views


@dataclass(frozen=True)
class Predictor:
    """The kept states of a run: of all its folds, of all members of an ensemble. `classes` are the columns of what it gives."""

    run_id: str
    classes: tuple[str, ...]
    networks: tuple[_Network, ...]
    device: torch.device

    def probabilities(self, pixels: Pixels) -> Probabilities:
        """float32 [n, classes], rows sum to 1: the mean over the networks.

        Args:
            pixels: uint8 [n, 48, 48], 0-255.
        """
        if not len(pixels):
            return np.zeros((0, len(self.classes)), np.float32)
        x = torch.from_numpy(np.ascontiguousarray(pixels).reshape(-1, SIDE, SIDE)).to(self.device)
        with torch.inference_mode():
            mean: Probabilities = self.differentiable(x).cpu().numpy()
        return mean

    def of_fold(self, fold: int, folds: int) -> "Predictor":
        """Only the networks of one fold (0, 1, ...) of `folds`, which have not trained on its faces; all of them for a run without folds."""
        return replace(self, networks=self.networks[fold::folds]) if folds else self

    def differentiable(self, x: torch.Tensor) -> torch.Tensor:
        """The same of faces that are on the device, with gradients where they are floats that want them."""
        return torch.stack([self._of(network, x) for network in self.networks]).mean(0)

    def _of(self, network: _Network, x: torch.Tensor) -> torch.Tensor:
        faces = Faces(x, network.wanted, views=network.views)
        parts = torch.split(torch.arange(len(x), device=self.device), max(BATCH // VIEWS[network.views], 1))
        logits = torch.cat([network.model(faces.test(part)).float() for part in parts])
        return averaged(logits, network.views).softmax(1)


def load(run_dir: Path, device: str = "cpu") -> Predictor:
    """The networks of a finished run.

    Raises:
        NotFound: no such run. Conflict: it has not finished. BadInput: its weights are missing or damaged.
    """
    config, where = read_config(run_dir), torch.device(device)
    if (state := read_status(run_dir).state) != "finished":
        raise Conflict("Run not finished", f"{run_dir.name} is {state}", "Choose a finished run")
    if config.protocol == "ensemble":  # its members have equally many folds, so that each counts as much
        members = [load(run_dir.parent / member, device) for member in config.members]
        return Predictor(run_dir.name, members[0].classes, tuple(n for m in members for n in m.networks), where)
    spec = spec_of(config.model)
    networks, classes = [], tuple[str, ...]()
    for fold in range(config.folds) if config.folds else (None,):
        path = best_path(run_dir, fold)
        try:
            with safetensors.safe_open(path, "pt", device=device) as file:
                classes = tuple(file.metadata()["classes"].split(","))
            model = prepared(build(config.model, len(classes), config.option), where).eval()
            model.load_state_dict(safetensors.torch.load_file(path, device=device))
        except (OSError, KeyError, TypeError, RuntimeError, safetensors.SafetensorError) as error:
            raise BadInput("The weights cannot be read", f"{run_dir.name}/{path.name}: {error}", "Train again") from error
        networks.append(_Network(model, spec.input, config.test_views))
    return Predictor(run_dir.name, classes, tuple(networks), where)
