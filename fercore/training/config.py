"""What a run is told: the settings in config.json, checked once and never changed."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from fercore.errors import BadInput, NotFound
from fercore.models import spec_of

Balance = Literal["none", "class_weights", "weighted_sampler", "ros", "rus", "smote", "tomek", "smote_tomek", "smote_enn"]
Protocol = Literal["hold_out", "k_fold", "leaky", "ensemble"]
_Option = int | float | bool | str


def _known_model(name: str) -> str:
    try:
        spec_of(name)
    except NotFound as error:
        raise ValueError(f"there is no such model; {error.remedy[:1].lower()}{error.remedy[1:]}") from error
    return name


class RunConfig(BaseModel):
    """Settings of one run. Read it with `run_config`, which turns a wrong value into a FerError.

    Attributes:
        model: a name of the zoo, torchvision/NAME, or module:function of one's own (command line only).
        option: keyword arguments of the network that its entry in the zoo lists.
        weights: a file with weights of one's own that the network starts from.
        warm_start: a finished run of the same model whose kept weights this one starts from.
        protocol: `hold_out` trains on train, keeps by val, reads test once; `k_fold` predicts train and val out of fold; `leaky` balances, then
            splits, as published systems did: for comparison only; `ensemble` is the mean of finished runs.
        monitor: the validation figure that decides which state is kept, when the rate falls and when training stops.
        patience: epochs without a better figure before training stops.
        labels: `hard`, or from the version's votes: drawn anew each epoch, soft targets, or several right classes (FER+).
        sample_weights: use the weights that the version gives its faces.
        balance: what is done about rare classes, on training rows only.
        zoom_min, zoom_max, rotation, rotation_p, translate, translate_p, flip, noise, erasing, train_views: see `augment.Augmentation`.
        test_views: images of one face whose logits are averaged when it is predicted.
        exploratory: trained on a version that nobody approved.
        study: name of the grid of runs that this one belongs to.
        members: the runs of an ensemble.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    version_id: str = Field(pattern=r"^[A-Za-z0-9][\w.@-]*$")  # a folder of versions/
    model: Annotated[str, AfterValidator(_known_model)] = "simple_cnn"
    option: dict[str, _Option] = {}
    weights: str = ""
    warm_start: str = ""
    protocol: Protocol = "hold_out"
    folds: int = Field(0, ge=0, le=50)  # 0 but for k_fold
    seed: int = Field(0, ge=0, lt=2**32)
    epochs: int = Field(15, ge=1)  # at most; early stopping may end sooner
    batch_size: int = Field(64, ge=1)
    optimizer: Literal["adam", "adamw", "radam", "sgd"] = "adam"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)  # of sgd, Nesterov's
    schedule: Literal["constant", "plateau", "cosine", "one_cycle"] = "constant"
    plateau_factor: float = Field(0.1, gt=0, lt=1)
    plateau_patience: int = Field(2, ge=0)
    monitor: Literal["val_loss", "val_accuracy"] = "val_loss"
    patience: int = Field(3, ge=1)
    labels: Literal["hard", "probability", "cross_entropy", "multi_target"] = "hard"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    sample_weights: bool = False
    balance: Balance = "none"
    flip: bool = False
    rotation: float = Field(0.0, ge=0, le=180)  # degrees
    rotation_p: float = Field(1.0, ge=0, le=1)
    translate: float = Field(0.0, ge=0, le=0.5)
    translate_p: float = Field(1.0, ge=0, le=1)
    zoom_min: float = Field(1.0, gt=0.05, le=4)
    zoom_max: float = Field(1.0, gt=0.05, le=4)
    noise: float = Field(0.0, ge=0, le=1)
    erasing: float = Field(0.0, ge=0, le=1)
    train_views: Literal["one", "ten_crop"] = "one"
    test_views: Literal["one", "flip", "ten_crop"] = "one"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    compile: bool = False
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    exploratory: bool = False
    # Filled in by jobs
    study: str = ""
    members: tuple[str, ...] = ()
    run_id: str = ""
    manifest_sha256: str = ""
    weights_sha256: str = ""
    created_by: str = ""
    created_at: str = ""  # ISO 8601, UTC
    code_version: str = ""

    @model_validator(mode="after")
    def _fit_together(self) -> "RunConfig":
        if self.protocol != "ensemble" and (self.protocol == "k_fold") != (self.folds >= 2):
            raise ValueError(f"{self.protocol} with folds={self.folds}; k_fold needs folds of 2 or more, hold_out folds=0, leaky too")
        if self.zoom_min > self.zoom_max:
            raise ValueError(f"zoom_min={self.zoom_min:g} is above zoom_max={self.zoom_max:g}")
        if self.protocol == "leaky" and self.balance in ("none", "class_weights", "weighted_sampler"):
            raise ValueError(f"leaky balances before it splits; balance={self.balance} adds and removes nothing: choose ros, smote or another")
        if self.labels == "multi_target" and (self.balance == "class_weights" or self.label_smoothing):
            raise ValueError("multi_target takes neither class weights nor label smoothing")
        if self.labels != "hard" and self.balance in ("smote", "smote_tomek", "smote_enn"):
            raise ValueError(f"faces made by {self.balance} have no votes; use labels=hard")
        if self.weights and self.warm_start:
            raise ValueError("weights and warm_start both say what the network starts from; give one")
        if unknown := set(self.option) - set(spec_of(self.model).options):
            allowed = ", ".join(spec_of(self.model).options)
            raise ValueError(f"{self.model} has no option {sorted(unknown)[0]!r}; " + (f"it has {allowed}" if allowed else "it has none"))
        return self


IDENTITY = ("study", "members", "run_id", "manifest_sha256", "weights_sha256", "created_by", "created_at", "code_version")
# What "key=value" may change: not which version is trained on, nor whether it was approved.
SETTINGS = tuple(key for key in RunConfig.model_fields if key not in (*IDENTITY, "version_id", "exploratory"))


def run_config(values: Mapping[str, object], overrides: Sequence[str] = ()) -> RunConfig:
    """Check `values` and the "key=value" texts that override them; "option.KEY=VALUE" is for the network.

    Raises:
        BadInput: an unknown key or an impossible value, named; an override without "=" or of a key outside SETTINGS.
    """
    merged = dict(values)
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise BadInput("A setting needs a value", f"{text!r} has no '='", "Write it as key=value, such as epochs=10")
        if key.startswith("option."):
            options = merged.get("option")
            merged["option"] = (options if isinstance(options, dict) else {}) | {key.removeprefix("option."): _plain(value)}
            continue
        if key not in SETTINGS or key == "option":
            raise _unknown(key)
        merged[key] = value
    try:
        return RunConfig.model_validate(merged)
    except ValidationError as e:
        first = e.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise _unknown(key) from e
        given = f"{key} = {first['input']!r}: " if key and first["type"] != "missing" else f"{key}: " if key else ""
        reason = first["msg"].removeprefix("Value error, ")
        raise BadInput("A setting cannot be used", given + reason, "Correct it and start again") from e


def _plain(text: str) -> object:
    """A number or truth value where the text is one in JSON, else the text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, (int, float)) else text


def _unknown(key: str) -> BadInput:
    return BadInput("Unknown setting", f"{key!r} is not a setting of a run", f"Choose one of {', '.join(SETTINGS)}")
