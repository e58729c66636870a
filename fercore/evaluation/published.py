"""What the reproduced systems printed, to show beside our own figures. As printed: percent, slips included."""

from importlib.resources import files

import pandas as pd

from fercore.errors import NotFound

_FOLDER = files("fercore.evaluation") / "published"


def published_names() -> list[str]:
    """The published tables that ship with the product."""
    return sorted(p.name.removesuffix(".csv") for p in _FOLDER.iterdir() if p.name.endswith(".csv"))


def published(name: str) -> pd.DataFrame:
    """The published table `name`, e.g. "s0_bias_before".

    Raises:
        NotFound: no such table.
    """
    if name not in published_names():
        raise NotFound("Unknown published table", repr(name), f"Choose one of {', '.join(published_names())}")
    with (_FOLDER / f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, keep_default_na=False)
