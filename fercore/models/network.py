"""What can be done with a built network: check its input, load weights into it, list its layers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors.torch
import torch
from torch import Tensor, nn

from fercore.errors import BadInput, TrainingError
from fercore.models import ModelSpec, spec_of


def _zeros(spec: ModelSpec, device: torch.device) -> Tensor:
    return torch.zeros(2, spec.input.channels, spec.input.side, spec.input.side, device=device)


def check_input(model: nn.Module, spec: ModelSpec, n_classes: int) -> None:
    """Pass two images of zeros, of the size of `spec`, through `model` in evaluation mode, on the model's device.

    Raises:
        TrainingError: the model cannot take them, or gives something else than [2, n_classes].
    """
    x = _zeros(spec, next((p.device for p in model.parameters()), torch.device("cpu")))
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            out = model(x)
    except torch.OutOfMemoryError:
        raise
    except Exception as e:  # layers refuse a shape with RuntimeError, ValueError or AssertionError, a person's own code with anything
        raise TrainingError("The model needs another input size", f"{spec.name} was given float {list(x.shape)}: {type(e).__name__}: {e}",
                            "Choose another model, or change it so that it takes this input") from e
    finally:
        model.train(training)
    if not isinstance(out, Tensor) or out.shape != (2, n_classes):
        given = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise TrainingError("The model does not give one logit a class", f"{spec.name} made {given} of two images and {n_classes} classes",
                            f"Make it give [n, {n_classes}]")


def load_weights(model: nn.Module, path: Path) -> tuple[list[str], list[str]]:
    """Load every tensor whose name and shape fit, except the classifier: the last layer with parameters, which belongs to other classes.

    Takes a state dict as .safetensors, .pt or .pth, also inside "state_dict" or "model", also with DataParallel's "module." before each name.
    Code in a file is never run.

    Returns:
        Names of the model's tensors that were loaded, and of those that keep their values.

    Raises:
        BadInput: the file cannot be read, holds no weights, or none that fit a parameter.
    """
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        raise BadInput("Unknown kind of weights", str(path), "Give a .safetensors, .pt or .pth file")
    try:
        found = (safetensors.torch.load_file(path) if path.suffix == ".safetensors"
                 else torch.load(path, map_location="cpu", weights_only=True))
    except Exception as e:  # torch.load raises a dozen kinds on a damaged file
        what = e.strerror if isinstance(e, OSError) and e.strerror else "it is damaged, or holds something else than tensors"
        raise BadInput("The weights cannot be read", f"{path}: {what}", "Give a state dict, saved with torch.save or safetensors") from e
    for key in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    tensors = {str(name).removeprefix("module."): t for name, t in found.items() if isinstance(t, Tensor)} if isinstance(found, dict) else {}
    own = model.state_dict()
    classifier = [name for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))][-1]
    fitting = {name: t for name, t in tensors.items() if name in own and own[name].shape == t.shape
               and own[name].is_floating_point() == t.is_floating_point() and name.rpartition(".")[0] != classifier}
    if not any(name in fitting for name, _ in model.named_parameters()):
        raise BadInput("No weight of the file fits the model", f"{path} holds {len(tensors)} tensors ({', '.join(list(tensors)[:3])}), "
                       f"the model {len(own)} ({', '.join(list(own)[:3])})", "Give weights of the same network")
    model.load_state_dict(fitting, strict=False)
    return list(fitting), [name for name in own if name not in fitting]


def architecture(name: str, n_classes: int, options: Mapping[str, object] | None = None) -> pd.DataFrame:
    """The layers of a network for one image of its input, in the order in which they were made.

    Traced without memory on the meta device, or on the CPU where a network cannot be there.

    Returns:
        Columns layer, kind, settings, output (such as "64x12x12"; empty for a layer that another one uses without calling it),
        parameters (trainable, its own); they add up to the network's.

    Raises:
        NotFound, BadInput: as for `build`.
        TrainingError: the network does not take its input.
    """
    spec = spec_of(name)
    try:
        return _layers(spec, n_classes, options, torch.device("meta"))
    except Exception:  # a layer without a meta form, or one's own code that looks at values
        return _layers(spec, n_classes, options, torch.device("cpu"))


def _layers(spec: ModelSpec, n_classes: int, options: Mapping[str, object] | None, device: torch.device) -> pd.DataFrame:
    with device:
        model = spec.build(n_classes, options)
    shapes: dict[nn.Module, str] = {}

    def note(module: nn.Module, _: Any, output: Any) -> None:
        while isinstance(output, tuple | list) and output:
            output = output[0]
        if isinstance(output, Tensor):
            shapes.setdefault(module, "x".join(map(str, output.shape[1:])))

    for module in model.modules():
        module.register_forward_hook(note)
    check_input(model, spec, n_classes)
    rows = []
    for name, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        if own or not any(True for _ in module.children()):
            rows.append((name or "(whole)", type(module).__name__, module.extra_repr(), shapes.get(module, ""),
                         sum(p.numel() for p in own if p.requires_grad)))
    return pd.DataFrame(rows, columns=["layer", "kind", "settings", "output", "parameters"])
