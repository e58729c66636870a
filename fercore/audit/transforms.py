"""Edits of pixels by name, for copies of a face in a version or on a page. The stored face is never changed."""

from collections.abc import Sequence

import numpy as np

from fercore.domain import Pixels
from fercore.errors import BadInput
from fercore.schemes import TRANSFORMS


def transform(pixels: Pixels, name: str) -> Pixels:
    """Pixels of any shape, 0-255, after the edit: "brighten_F" multiplies by F and clips, as Pillow's Brightness does; "gamma_G" raises the
    share of white to the power G.

    Raises:
        BadInput: no such edit.
    """
    if name not in TRANSFORMS:
        raise BadInput("Unknown edit", repr(name), f"Choose from {', '.join(TRANSFORMS)}")
    kind, _, amount = name.partition("_")
    grey = np.arange(256, dtype=np.float64)
    table = grey * float(amount) if kind == "brighten" else 255 * (grey / 255) ** float(amount) + 0.5
    return np.clip(table, 0, 255).astype(np.uint8)[pixels]


def transformed(pixels: Pixels, names: Sequence[str | None]) -> Pixels:
    """Each image [n, ...] after its edit; None leaves it as it is."""
    out = pixels.copy()
    for name in {n for n in names if n is not None}:
        which = np.array([n == name for n in names])
        out[which] = transform(pixels[which], name)
    return out
