"""The faces in a picture, found by a cascade that comes with OpenCV, each as the standard image that an importer would make of it."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from fercore.domain import Pixels
from fercore.ingest.images import Box, Method, standard

MOST = 50  # faces of a picture
SMALL = 64  # pixels; a picture whose sides are no longer shows one face and nothing else
MARGIN = 0.03  # of the side of what the cascade finds, on each side: that makes it as wide as the faces of FER-2013 (median of 227 faces)
METHOD = Method()
# Of 324 faces of FER-2013 pasted on photographs it found 227 and saw 13 that are none; frontalface_default found 214 and saw 41.
_CASCADE = str(Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_alt2.xml")
_SEARCHED = 1280  # pixels; a longer picture is scaled down for the search
_LEAST = 24  # pixels of the searched picture
_STEP, _NEIGHBOURS = 1.1, 5


@dataclass(frozen=True)
class Face:
    """Where a face is and how a network sees it.

    Attributes:
        box: left, top, right, bottom in pixels of the picture, margin included; right and bottom lie outside.
        margin: pixels of the box around what was found, on each side; fewer than MARGIN asks for at the edge of the picture.
        pixels: uint8 [48, 48], 0-255: the box by METHOD.
    """

    box: Box
    margin: int
    pixels: Pixels


def found(picture: Pixels) -> list[Face]:
    """The faces that look into the camera, largest first, at most MOST; a picture of at most SMALL pixels a side is one face.

    Args:
        picture: uint8 [height, width] or [height, width, 3] RGB, 0-255, as `images.decode` gives it.
    """
    height, width = picture.shape[:2]
    if max(height, width) <= SMALL:
        return [_face(picture, (0, 0, width, height))]
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) if picture.ndim == 3 else picture
    scale = max(max(height, width) / _SEARCHED, 1)
    if scale > 1:
        gray = cv2.resize(gray, (max(round(width / scale), 1), max(round(height / scale), 1)), interpolation=cv2.INTER_AREA)
    # A cascade of its own for each call: one that is shared must not search for two threads at once.
    seen = cv2.CascadeClassifier(_CASCADE).detectMultiScale(gray, _STEP, _NEIGHBOURS, minSize=(_LEAST, _LEAST))
    faces = []
    for left, top, side, _ in sorted(np.array(seen, int).reshape(-1, 4).tolist(), key=lambda b: (-b[2], b))[:MOST]:
        x, y = int(left * scale), int(top * scale)
        whole = min(int(side * scale), width - x, height - y)
        margin = min(round(MARGIN * whole), x, y, width - x - whole, height - y - whole)  # so that the box stays a square
        faces.append(_face(picture, (x - margin, y - margin, x + whole + margin, y + whole + margin), margin))
    return faces


def middle(picture: Pixels) -> Face:
    """The largest square in the middle of a picture as a face, for one in which none is found. Pixels as in `found`."""
    height, width = picture.shape[:2]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return _face(picture, (left, top, left + side, top + side))


def _face(picture: Pixels, box: Box, margin: int = 0) -> Face:
    left, top, right, bottom = box
    return Face(box, margin, standard(np.ascontiguousarray(picture[top:bottom, left:right]), METHOD))
