"""The registry of networks. Importing it does not import torch; building a network does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fercore.errors import BadInput, NotFound

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Input:
    """What a network expects: float [n, channels, side, side], (x / 255 - mean) / std of gray 0-255; 3 channels repeat the gray one."""

    side: int
    channels: int = 1
    mean: tuple[float, ...] = (0.5,)  # one entry a channel
    std: tuple[float, ...] = (0.5,)

    def __str__(self) -> str:
        scaled = {_UNIT: "x / 255", _IMAGENET: "mean and std of ImageNet"}.get((self.mean, self.std))
        return f"{self.channels}x{self.side}x{self.side}, {scaled or f'(x / 255 - {self.mean[0]:g}) / {self.std[0]:g}'}"


_UNIT = (0.0,), (1.0,)  # x / 255 and nothing else
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ModelSpec:
    """One network.

    Attributes:
        factory: "package.module:function"; function(n_classes, **settings, **options) gives an nn.Module from `input` to logits [n, n_classes].
        settings: what makes this network out of its factory.
        options: what a run may override with option.NAME=VALUE, with defaults: int, float, str or tuple[int, ...].
        preset: the training preset of the network's system.
        reconstruction: the source does not say enough to rebuild it exactly.
    """

    name: str
    title: str
    family: str
    source: str
    input: Input
    factory: str
    preset: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    reconstruction: bool = False
    notes: str = ""

    def build(self, n_classes: int, options: Mapping[str, object] | None = None) -> nn.Module:
        """A new network on the current default device, with weights from torch's global random state.

        Raises:
            BadInput: an unknown option or an impossible value, or a factory that cannot be imported, fails or gives no nn.Module.
        """
        from torch import nn

        chosen = {**self.options, **{name: self._option(name, value) for name, value in (options or {}).items()}}
        factory = self._imported()
        try:
            model = factory(n_classes, **self.settings, **chosen)
        except Exception as e:  # whatever a person's own code raises
            given = ", ".join(f"{name}={value}" for name, value in chosen.items())
            raise BadInput("The model cannot be built", f"{self.name}({n_classes} classes{given and ', ' + given}): {type(e).__name__}: {e}",
                           "Choose other options" if self.options else f"Correct {self.factory}; it is called with the number of classes") from e
        if not isinstance(model, nn.Module):
            raise BadInput("This is no model", f"{self.factory} gave a {type(model).__name__}", "Return a torch.nn.Module")
        return model

    def parameters(self, n_classes: int, options: Mapping[str, object] | None = None) -> int:
        """Number of trainable parameters, counted on the built network without allocating it."""
        import torch

        with torch.device("meta"):
            return sum(p.numel() for p in self.build(n_classes, options).parameters() if p.requires_grad)

    def _imported(self) -> Callable[..., object]:
        module, _, function = self.factory.partition(":")
        try:
            found: Callable[..., object] = getattr(import_module(module), function)
        except Exception as e:
            raise BadInput("The model cannot be imported", f"{self.factory}: {type(e).__name__}: {e}",
                           "Install its package, or name its folder in PYTHONPATH") from e
        return found

    def _option(self, name: str, given: object) -> object:
        if name not in self.options:
            known = f"Its options are {', '.join(self.options)}" if self.options else "It has none"
            raise BadInput("Unknown option", f"{self.name} has no option {name!r}", known)
        from pydantic import TypeAdapter, ValidationError  # here, so that the benchmark runs without it

        default = self.options[name]
        many = isinstance(default, tuple)
        kind: TypeAdapter[Any] = TypeAdapter(tuple[int, ...] if many else type(default))
        try:
            return kind.validate_python(given.split(",") if many and isinstance(given, str) else given)
        except ValidationError as e:
            shown = ",".join(map(str, default)) if many else default
            raise BadInput("An option cannot be used", f"{name} = {given!r}: {e.errors()[0]['msg']}", f"Its default is {shown}") from e


_S0, _S2, _S3 = "system S0, 'engaged4'", "system S2, 'data-centric'", "system S3, 'many sources'"
_S3_NOTES = ("Reconstruction: the text gives no channels and speaks of three and of four convolutions. This is the most likely reading, four "
             "convolutions of a widespread teaching network; option.channels=32,64,128 with option.hidden=128 is the other.")


def _simple(name: str, title: str, notes: str, **settings: object) -> ModelSpec:
    return ModelSpec(name, title, "SimpleCNN", _S0, Input(48), "fercore.models.simple_cnn:SimpleCNN", "s0_engaged4", settings, {"dropout": 0.5},
                     notes=notes)


def _residual(channels: int, blocks: int, kernel: int) -> ModelSpec:
    hidden = blocks // 3
    field_of_view = 1 + 2 * blocks * (kernel - 1)
    return ModelSpec(
        f"b{channels}_n{blocks}_fc{hidden}_k{kernel}_ap20", f"Residual, {channels} channels, {blocks} blocks, kernel {kernel}", "residual",
        "system S1, 'focus4'", Input(48, 1, *_UNIT), "fercore.models.residual:ResidualNet", "s1_focus4",
        {"channels": channels, "blocks": blocks, "hidden": hidden, "kernel": kernel},
        notes=f"Receptive field of the convolutions {field_of_view}x{field_of_view}. Block 1 adds the image to every channel. FC{hidden} counts the "
              "hidden dense layers. The published rows of kernels 5 and 7 look like re-runs of kernel 3: the public code never passed the kernel on.")


def _s3(name: str, title: str, notes: str, channels: tuple[int, ...] = (32, 32, 64, 64), kernel: int = 3) -> ModelSpec:
    return ModelSpec(name, title, "many sources", _S3, Input(48), "fercore.models.many_sources:ManySourcesCNN", "s3_many_sources", {"kernel": kernel},
                     {"channels": channels, "hidden": (1000, 512), "dropout": 0.1}, reconstruction=True, notes=f"{_S3_NOTES} {notes}")


MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in (
    _simple("simple_cnn", "SimpleCNN", "Receptive field of the convolutions 10x10; the dense layers see all."),
    _simple("simple_cnn_v1", "SimpleCNN, variant 1", "A third convolution of 128 channels: receptive field 22x22.",
            convolutions=((32, 3), (64, 3), (128, 3))),
    _simple("simple_cnn_v2", "SimpleCNN, variant 2", "Kernels 5 and 2: receptive field 10x10. No padding is published; 1 keeps 64x12x12 features.",
            convolutions=((32, 5), (64, 2))),
    *(_residual(channels, blocks, kernel) for blocks in (4, 8) for channels in (16, 32) for kernel in (3, 5, 7)),
    ModelSpec("cnn_lstm", "CNN-LSTM", "CNN-LSTM", _S2, Input(48, 1, *_UNIT), "fercore.models.cnn_lstm:CnnLstm", "s2_cnn_lstm",
              notes="Receptive field of the convolutions 26x26; the LSTMs read their 16 positions row by row. The second convolution is 1x1: only "
                    "so are the published 457,031 parameters met with one change to the text. Keras's initialisation and constants."),
    ModelSpec("cnn_attention", "CNN with attention ('ViT')", "attention", _S2, Input(48, 1, *_UNIT), "fercore.models.cnn_attention:CnnAttention",
              "s2_attention", notes="Each position of 12x12 sees 9x9 pixels before the first attention, then all. Without the two dense layers "
              "of 200 of the text: only so are the published 197,799 parameters met. Keras's initialisation and constants."),
    _s3("s3_cnn", "Many sources, main", "Receptive field of the convolutions 16x16."),
    _s3("s3_cnn_k4", "Many sources, variant 1 (kernel 4)", "Kernel 4 with padding 1: receptive field 22x22.", kernel=4),
    _s3("s3_cnn_4conv", "Many sources, variant 2 (one more convolution)", "A fifth convolution in this reading; the name counts as the text does, "
        "three and one more. Receptive field 20x20.", (32, 32, 64, 64, 64)),
    ModelSpec("vggnet", "VGGNet (Khaireddin and Chen)", "VGG", "system S4, 'balanced VGG'; github.com/usef-kh/fer", Input(40, 1, *_UNIT),
              "fercore.models.vgg:VggNet", "s4_vgg", options={"dropout": 0.2},
              notes="Takes crops of 40x40; the test averages ten of them. The convolutions see the whole crop."),
    ModelSpec("resnet18", "ResNet-18, CIFAR stem", "ResNet", "github.com/LetheSec/Fer2013-Facial-Emotion-Recognition-Pytorch", Input(40, 1, *_UNIT),
              "fercore.models.backbones:cifar_resnet18", "resnet18",
              notes="Takes crops of 40x40; the test averages ten of them. Stride 1 and no pooling in the stem. The convolutions see the whole crop."),
)}
# 112 is a choice for cost, not a measured optimum: a 48x48 face has no more detail, and a stride of 32 still leaves 4x4 positions.
BACKBONES: dict[str, ModelSpec] = {spec.name: spec for spec in (
    ModelSpec(f"torchvision/{name}", f"{title}, torchvision", "torchvision", "torchvision, without weights", Input(side, 3, *_IMAGENET),
              "fercore.models.backbones:backbone", "s3_many_sources", {"name": name},
              notes="Starts from random weights, or from a file of your own; nothing is downloaded. The gray face is repeated on three channels.")
    for name, title, side in (("resnet18", "ResNet-18", 112), ("resnet34", "ResNet-34", 112), ("resnet50", "ResNet-50", 224),
                              ("mobilenet_v3_small", "MobileNet V3 small", 112), ("efficientnet_b0", "EfficientNet B0", 224),
                              ("convnext_tiny", "ConvNeXt tiny", 224), ("vit_b_16", "ViT-B/16", 224)))}


def spec_of(name: str) -> ModelSpec:
    """The network called `name`: of MODELS, of BACKBONES, or "package.module:function", a factory(n_classes) of one's own.

    One's own is imported when it is built, takes float [n, 1, 48, 48] in -1..1 and gives logits float [n, n_classes].

    Raises:
        NotFound: no such name.
    """
    if spec := (MODELS | BACKBONES).get(name):
        return spec
    if ":" in name:
        return ModelSpec(name, name, "own", "your own", Input(48), name, "s0_engaged4")
    raise NotFound("Unknown model", f"{name!r} is not in the registry",
                   f"Choose one of {', '.join([*MODELS, *BACKBONES])}, or your own as package.module:function")


def build(name: str, n_classes: int, options: Mapping[str, object] | None = None, weights: Path | None = None) -> nn.Module:
    """A new network; with `weights` it starts from that file (see network.load_weights, which also says how much was loaded).

    Raises:
        NotFound: no such name.
        BadInput: an option, a factory or the file cannot be used.
    """
    model = spec_of(name).build(n_classes, options)
    if weights:
        from fercore.models.network import load_weights

        load_weights(model, weights)
    return model
