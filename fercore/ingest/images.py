"""A picture file of any size, colour or depth as decoded pixels, and as the standard 48x48 gray image by a recorded method.

What is decoded: the first frame, turned as EXIF says, 16 bits cut to the high 8, transparency laid over mid gray, everything else as Pillow
converts it to RGB; RGB whose channels are all equal is L, so that a gray face has one id however it was saved.
"""

import io
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import PIL
from PIL import Image, ImageOps

from fercore.domain import SIDE, Pixels
from fercore.errors import BadInput

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # none of them runs another program
MAX_BYTES = 64 << 20
MAX_PIXELS = 50_000_000
MAX_SIDE = 10_000  # pixels; from here on a picture is refused
MID_GRAY = 128
_SUFFIXES = {".jpg": "JPEG", ".jpeg": "JPEG", ".jfif": "JPEG", ".png": "PNG", ".bmp": "BMP", ".gif": "GIF", ".tif": "TIFF", ".tiff": "TIFF",
             ".webp": "WEBP", ".pgm": "PPM", ".ppm": "PPM", ".pnm": "PPM"}
_ORIENTED = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}  # where Pillow finds an orientation, beside TIFF's own tags
SUFFIXES = tuple(_SUFFIXES)
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels of the upright picture; right and bottom lie outside
FITS = ("squash", "pad", "crop")
RESIZE = {"bilinear": Image.Resampling.BILINEAR, "lanczos": Image.Resampling.LANCZOS, "bicubic": Image.Resampling.BICUBIC,
          "box": Image.Resampling.BOX, "nearest": Image.Resampling.NEAREST}

# Between its limit and twice that Pillow only warns; a picture that large is refused before its pixels take memory.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Method:
    """How a picture that is not 48x48 becomes so: squashed, padded with mid gray to a square, or its middle square. Raises: BadInput."""

    resize: str = "bilinear"
    fit: str = "squash"

    def __post_init__(self) -> None:
        if self.resize not in RESIZE or self.fit not in FITS:
            raise BadInput("Unknown method", f"{self.resize!r}, {self.fit!r}", f"Resize with {', '.join(RESIZE)}; fit {', '.join(FITS)}")

    def recorded(self) -> dict[str, Any]:
        """Everything that decides the standard image, for the record of an import."""
        return {**asdict(self), "gray": "ITU-R 601-2 luma", "transparency": f"over gray {MID_GRAY}", "16 bit": "high byte", "frame": "first",
                "orientation": "EXIF", "pillow": PIL.__version__}


def decode(data: bytes, box: Box | None = None) -> tuple[Pixels, str, str]:
    """(pixels, mode, format): uint8 [height, width] of mode L or [height, width, 3] of mode RGB, 0-255.

    Raises:
        BadInput: empty, of no known format, too large, damaged, or the box lies outside; the title is the reason.
    """
    if not data:
        raise BadInput("the file is empty")
    if len(data) > MAX_BYTES:
        raise BadInput(f"larger than {MAX_BYTES >> 20} MiB")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if max(width, height) >= MAX_SIDE or width * height > MAX_PIXELS:
                raise BadInput(f"{width:,} x {height:,} pixels; sides below {MAX_SIDE:,} and at most {MAX_PIXELS / 1e6:.0f} million are taken")
            kind = str(image.format)
            image.load()
            if kind == "TIFF" or _ORIENTED & image.info.keys():
                ImageOps.exif_transpose(image, in_place=True)
            pixels = _canonical(image)
    except BadInput:
        raise
    except PIL.UnidentifiedImageError:
        raise BadInput("not a picture of a known format") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadInput(f"more than {MAX_PIXELS / 1e6:.0f} million pixels") from None
    except Exception as error:  # decoders meet broken files with any kind of error
        raise BadInput(f"damaged: {str(error) or type(error).__name__}") from error
    if box:
        left, top, right, bottom = box
        pixels = np.ascontiguousarray(pixels[max(top, 0):max(bottom, 0), max(left, 0):max(right, 0)])
        if not pixels.size:
            raise BadInput(f"the face box {left}, {top}, {right}, {bottom} lies outside the picture")
    return pixels, "L" if pixels.ndim == 2 else "RGB", kind


def _canonical(image: Image.Image) -> Pixels:
    if image.mode == "F":
        raise BadInput("pixels are floating-point numbers")
    if image.mode.startswith("I"):
        deep = np.asarray(image)
        if deep.min() < 0 or deep.max() > 65535:
            raise BadInput("pixels have more than 16 bits")
        return (deep >> 8).astype(np.uint8)
    if image.mode == "1":
        image = image.convert("L")
    elif "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        ground = Image.new("RGBA", image.size, (MID_GRAY, MID_GRAY, MID_GRAY, 255))
        image = Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    elif image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    pixels: Pixels = np.asarray(image)
    if pixels.ndim == 3 and (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all():
        return np.ascontiguousarray(pixels[..., 0])
    return pixels


def standard(pixels: Pixels, method: Method) -> Pixels:
    """The standard image, uint8 [48, 48]; 48x48 gray pixels come back as they are."""
    if pixels.shape == (SIDE, SIDE):
        return pixels
    image = Image.fromarray(pixels).convert("L")
    size, resample = (SIDE, SIDE), RESIZE[method.resize]
    if method.fit == "pad":
        return np.asarray(ImageOps.pad(image, size, resample, color=MID_GRAY))
    return np.asarray(ImageOps.fit(image, size, resample) if method.fit == "crop" else image.resize(size, resample))


def other_format(name: str, kind: str) -> str | None:
    """A remark when the end of `name` promises another format than the content has."""
    dot = name.rfind(".")
    promised = _SUFFIXES.get(name[dot:].lower()) if dot > 0 else None
    return None if promised == kind else f"{promised or 'no picture'} by its name, {kind} by its content"
