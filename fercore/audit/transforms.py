"""Edits of pixels by name, for copies of a face in a version or on a page. The stored face is never changed."""

from collections.abc import Sequence

import numpy as np

from fercore.domain import Pixels
from fercore.errors import BadInput
from fercore.schemes import TRANSFORMS

MEAN, SD = 127.5, 64.0  # of a standardised face
_BLOCK = 4096  # images that are edited at a time


def transform(pixels: Pixels, name: str) -> Pixels:
    """Pixels of any shape, 0-255, after the edit: "brighten_F" multiplies by F and clips, as Pillow's Brightness does; "gamma_G" raises the
    share of white to the power G; "standardise" gives an image [..., height, width] the mean MEAN and the standard deviation SD.

    Raises:
        BadInput: no such edit.
    """
    if name == "standardise":
        return _standardised(pixels)
    if name not in TRANSFORMS:
        raise BadInput("Unknown edit", repr(name), f"Choose from {', '.join(TRANSFORMS)}")
    kind, _, amount = name.partition("_")
    grey = np.arange(256, dtype=np.float64)
    table = grey * float(amount) if kind == "brighten" else 255 * (grey / 255) ** float(amount) + 0.5
    return np.clip(table, 0, 255).astype(np.uint8)[pixels]


def transformed(pixels: Pixels, names: Sequence[str | None]) -> Pixels:
    """Each image [n, height, width] after its edit, or edits joined by "+" in this order; None leaves it as it is."""
    out = pixels.copy()
    for chain in {n for n in names if n is not None}:
        which = np.flatnonzero([n == chain for n in names])
        for part in np.array_split(which, len(which) // _BLOCK + 1):
            for name in chain.split("+"):
                out[part] = transform(out[part], name)
    return out


def _standardised(pixels: Pixels) -> Pixels:
    """Sums in whole numbers, so that every machine rounds alike; a blank image stays as it is."""
    n = pixels.shape[-1] * pixels.shape[-2]
    wide = pixels.astype(np.int64)
    total = wide.sum(axis=(-2, -1), keepdims=True)
    spread = n * (wide * wide).sum(axis=(-2, -1), keepdims=True) - total * total
    scaled = MEAN + SD * ((n * wide - total) / np.sqrt(np.maximum(spread, 1)))
    return np.where(spread > 0, np.clip(np.floor(scaled + 0.5), 0, 255), pixels).astype(np.uint8)
