"""The registry of networks. Importing it does not import torch; building a network does."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from fercore.errors import NotFound

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ModelSpec:
    """One network of the zoo. `factory` is "module:Class" below fercore.models; Class(n_classes) gives logits."""

    name: str
    title: str
    source: str
    input: str
    factory: str

    def build(self, n_classes: int) -> nn.Module:
        """A new network on the current default device, with weights from torch's global random state."""
        module, _, class_name = self.factory.partition(":")
        network: nn.Module = getattr(import_module(f"fercore.models.{module}"), class_name)(n_classes)
        return network

    def parameters(self, n_classes: int) -> int:
        """Number of trainable parameters, counted on the built network without allocating it."""
        import torch  # here, so that a page can list the registry without loading torch

        with torch.device("meta"):
            return sum(p.numel() for p in self.build(n_classes).parameters() if p.requires_grad)


MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in (
    ModelSpec("simple_cnn", "SimpleCNN", "system S0, 'engaged4'", "1x48x48 gray, (x / 255 - .5) / .5", "simple_cnn:SimpleCNN"),
)}


def build(name: str, n_classes: int) -> nn.Module:
    """Build network `name`. Raises: NotFound: no such name in MODELS."""
    if name not in MODELS:
        raise NotFound("Unknown model", f"{name!r} is not in the registry", f"Choose one of {', '.join(MODELS)}")
    return MODELS[name].build(n_classes)
