"""Recipes that come with the product: the data side of published systems, and their published counts beside ours."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import pandas as pd

from fercore.errors import NotFound
from fercore.versions.document import Recipe, parse_recipe

_FOLDER = files("fercore.versions") / "recipes"


def names() -> list[str]:
    return sorted(p.name.removesuffix(".yaml") for p in _FOLDER.iterdir() if p.name.endswith(".yaml"))


def text(name: str) -> str:
    """The document as it ships. Raises: NotFound."""
    if name not in names():
        raise NotFound("Unknown recipe", f"{name!r} does not come with fercore", f"Choose one of {', '.join(names())}, or name a file")
    return (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def recipe(name: str) -> Recipe:
    """Raises: NotFound."""
    return parse_recipe(text(name), f"{name}.yaml")


def beside(recipe: Recipe, funnel: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The steps of a funnel (of Made.counted or version.json) with what was published of each: step, before, after, published, note; as Int64, text
    and Int64, missing where nothing was published."""
    said = {p.after: p for p in recipe.published}
    rows = [{**s, "published": said[s["step"]].faces if s["step"] in said else None, "note": said[s["step"]].note if s["step"] in said else ""}
            for s in funnel]
    return pd.DataFrame(rows).astype({"published": "Int64"})
