"""What a run is told: the settings in config.json, checked once and never changed."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from fercore.errors import BadInput
from fercore.models import MODELS


def _known_model(name: str) -> str:
    if name not in MODELS:
        raise ValueError(f"there is no such model; choose one of {', '.join(MODELS)}")
    return name


class RunConfig(BaseModel):
    """Settings of one run. Read it with `run_config`, which turns a wrong value into a FerError."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    version_id: str = Field(pattern=r"^[A-Za-z0-9][\w.@-]*$")  # a folder of versions/
    model: Annotated[str, AfterValidator(_known_model)] = "simple_cnn"
    protocol: Literal["hold_out", "k_fold"] = "hold_out"
    folds: int = Field(0, ge=0, le=50)  # 0 for hold_out
    seed: int = Field(0, ge=0, lt=2**32)
    epochs: int = Field(15, ge=1)  # at most; early stopping may end sooner
    batch_size: int = Field(64, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    patience: int = Field(3, ge=1)  # epochs without a lower validation loss before training stops
    flip: bool = False  # mirror half of the training faces, drawn anew in each epoch
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    exploratory: bool = False  # trained on a version that nobody approved
    # Filled in by jobs.start
    run_id: str = ""
    manifest_sha256: str = ""
    created_by: str = ""
    created_at: str = ""  # ISO 8601, UTC
    code_version: str = ""

    @model_validator(mode="after")
    def _folds_fit_protocol(self) -> "RunConfig":
        if (self.protocol == "k_fold") != (self.folds >= 2):
            raise ValueError(f"{self.protocol} with folds={self.folds}; k_fold needs folds of 2 or more, hold_out folds=0")
        return self


IDENTITY = ("run_id", "manifest_sha256", "created_by", "created_at", "code_version")
# What "key=value" may change: not which version is trained on, nor whether it was approved.
SETTINGS = tuple(key for key in RunConfig.model_fields if key not in (*IDENTITY, "version_id", "exploratory"))


def run_config(values: Mapping[str, object], overrides: Sequence[str] = ()) -> RunConfig:
    """Check `values` and the "key=value" texts that override them.

    Raises:
        BadInput: an unknown key or an impossible value, named; an override without "=" or of a key outside SETTINGS.
    """
    merged = dict(values)
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals:
            raise BadInput("A setting needs a value", f"{text!r} has no '='", "Write it as key=value, such as epochs=10")
        if key not in SETTINGS:
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


def _unknown(key: str) -> BadInput:
    return BadInput("Unknown setting", f"{key!r} is not a setting of a run", f"Choose one of {', '.join(SETTINGS)}")
