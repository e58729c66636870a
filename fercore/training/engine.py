"""One training step and what it needs: optimizer, schedule, loss, precision. Torch only, so that the benchmark runs anywhere."""

import re
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax
from torch.optim import lr_scheduler

from fercore.errors import TrainingError

Optimizer = Literal["adam", "adamw", "radam", "sgd"]
Schedule = Literal["constant", "plateau", "cosine", "one_cycle"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Labels = Literal["hard", "probability", "cross_entropy", "multi_target"]
Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
MULTI_TARGET = 0.3  # share of the votes from which a class is one of several right ones: Barsoum et al. 2016, section 3.4


def optimizer_of(name: Optimizer, model: nn.Module, *, learning_rate: float, weight_decay: float, momentum: float) -> torch.optim.Optimizer:
    """Over the trainable parameters; one fused kernel a step where the device has one. SGD is Nesterov's."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    common: dict[str, Any] = {"lr": learning_rate, "weight_decay": weight_decay}
    if name == "radam":
        return torch.optim.RAdam(parameters, **common)
    common["fused"] = parameters[0].device.type in ("cpu", "cuda")
    if name == "sgd":
        return torch.optim.SGD(parameters, momentum=momentum, nesterov=momentum > 0, **common)
    return torch.optim.AdamW(parameters, **common) if name == "adamw" else torch.optim.Adam(parameters, **common)


class Rate:
    """The learning rate by its schedule: `one_cycle` moves after every step, the others after every epoch.

    Args:
        steps: of all epochs, for one_cycle.
        highest: whether the monitored figure is better when it is higher, for plateau.
    """

    def __init__(self, name: Schedule, optimizer: torch.optim.Optimizer, *, epochs: int, steps: int, factor: float, patience: int,
                 highest: bool) -> None:
        self.optimizer = optimizer
        self.scheduler: Any = None
        if name == "plateau":
            self.scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, "max" if highest else "min", factor, patience,
                                                                 threshold=1e-4, threshold_mode="abs")
        elif name == "cosine":
            self.scheduler = lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        elif name == "one_cycle":
            self.scheduler = lr_scheduler.OneCycleLR(optimizer, optimizer.param_groups[0]["lr"], total_steps=steps)

    @property
    def now(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def after_step(self) -> None:
        if isinstance(self.scheduler, lr_scheduler.OneCycleLR):
            self.scheduler.step()

    def after_epoch(self, monitored: float) -> None:
        if isinstance(self.scheduler, lr_scheduler.ReduceLROnPlateau):
            self.scheduler.step(monitored)
        elif isinstance(self.scheduler, lr_scheduler.CosineAnnealingLR):
            self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        return dict(self.scheduler.state_dict()) if self.scheduler else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.scheduler:
            self.scheduler.load_state_dict(state)


def loss_of(labels: Labels, *, class_weights: Tensor | None = None, smoothing: float = 0.0) -> Loss:
    """(logits [n, classes], targets, weights [n] or None) -> mean loss.

    Targets are class indices [n] for hard labels and for labels drawn by probability, shares of votes [n, classes] otherwise.
    `multi_target` takes the largest product of share and probability among the classes of at least 30 % of the votes (Barsoum et al. 2016).
    """
    def each(logits: Tensor, targets: Tensor) -> Tensor:
        if labels != "multi_target":
            return cross_entropy(logits, targets, class_weights, label_smoothing=smoothing, reduction="none")
        right = torch.where((targets >= MULTI_TARGET) | (targets == targets.amax(1, keepdim=True)), targets, 0)
        return -(right.log() + log_softmax(logits, 1)).amax(1)

    def loss(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        if labels != "multi_target" and weights is None:
            return cross_entropy(logits, targets, class_weights, label_smoothing=smoothing)
        found = each(logits, targets)
        if weights is None:
            return found.mean()
        return (found * weights).sum() / weights.sum().clamp_min(1e-12)

    return loss


class Stepper:
    """Forward, backward and update in the wanted precision.

    Args:
        precision: `auto` is float32 on a CPU and bfloat16, or float16 where a GPU has no bfloat16, else.
        compiled: pass the network through torch.compile.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, loss: Loss, device: torch.device, precision: Precision = "auto",
                 compiled: bool = False) -> None:
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.dtype = dtype_of(precision, device)
        self.device = device
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.forward: Callable[[Tensor], Tensor] = torch.compile(model) if compiled else model

    def step(self, x: Tensor, targets: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One update. Returns the loss [] and the logits [n, classes] in float32, both on the device and detached."""
        with self.autocast():
            logits = self.forward(x)
        loss = self.loss(logits.float(), targets, weights)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach(), logits.detach().float()

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def dtype_of(precision: Precision, device: torch.device) -> torch.dtype:
    """Raises: TrainingError: the device cannot do it."""
    if precision == "auto":
        if device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if precision == "float16" and device.type == "cpu":
        raise TrainingError("A CPU does not train in float16", "precision=float16 was asked for on a CPU", "Use precision=auto or bfloat16")
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]


def prepared(model: nn.Module, device: torch.device) -> nn.Module:
    """On the device, with channels last, which convolutions are quicker with."""
    return model.to(device).to(memory_format=torch.channels_last)


def out_of_memory(error: BaseException, batch_size: int) -> TrainingError | None:
    """A device that has run out of memory, as an error with a batch size that is likely to fit; None for other errors."""
    text = str(error)
    if not (isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "not enough memory" in text or "can't allocate memory" in text):
        return None
    smaller = 2 ** max((batch_size - 1).bit_length() - 1, 0)
    wanted = re.search(r"(?:allocate|allocate:) ([\d.]+ ?\w*)", text)
    detail = f"A step with batch_size={batch_size}" + (f" asked for {wanted[1]} more" if wanted else "") + " does not fit"
    return TrainingError("The device has run out of memory", detail,
                         f"Start the run with batch_size={smaller}" if smaller < batch_size else "Use a smaller network")
