"""Faces on the device into what a network takes: uint8 images, changed each in its own way, cropped, scaled. No workers, no copies to the host.

Needs torch only, so that `fercore.training.bench` runs where little else is installed.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from fercore.domain import SIDE
from fercore.models import Input

Views = Literal["one", "flip", "ten_crop"]
VIEWS: dict[str, int] = {"one": 1, "flip": 2, "ten_crop": 10}  # images that a network sees of one face
_ERASED = (0.02, 0.33)  # share of the area, and log of the aspect ratio: Zhong et al. 2017 (random erasing), as torchvision has it
_ASPECT = math.log(3.3)


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training face, drawn anew for every face in every epoch.

    Attributes:
        flip: half of the faces are mirrored.
        rotation: at most this many degrees to either side; in a share `rotation_p` of the faces.
        translate: at most this share of the side, along each axis; in a share `translate_p` of the faces.
        zoom_min, zoom_max: the shown part of the area, drawn evenly; above 1 the face shrinks.
        noise: standard deviation of Gaussian noise on values 0-1.
        erasing: share of the images in which a rectangle is blanked.
        views: `one` random crop of the network's size, or the `ten_crop` of corners and centre and their mirror images.
    """

    flip: bool = False
    rotation: float = 0.0
    rotation_p: float = 1.0
    translate: float = 0.0
    translate_p: float = 1.0
    zoom_min: float = 1.0
    zoom_max: float = 1.0
    noise: float = 0.0
    erasing: float = 0.0
    views: Views = "one"

    @property
    def moves(self) -> bool:
        return bool(self.rotation or self.translate or (self.zoom_min, self.zoom_max) != (1.0, 1.0))


class Faces:
    """Images on a device and how a network wants them: float [images, channels, side, side], (x / 255 - mean) / std.

    Args:
        pixels: uint8 [n, 48, 48] on the device.
        wanted: what the network takes. A side below 48 is a crop, one above is made by bilinear interpolation.
        views: of each face when it is predicted.
    """

    def __init__(self, pixels: Tensor, wanted: Input, augmentation: Augmentation | None = None, views: Views = "one") -> None:
        self.pixels, self.wanted, self.augmentation, self.views = pixels, wanted, augmentation or Augmentation(), views
        mean, std = (torch.tensor(v, device=pixels.device).reshape(1, -1, 1, 1) for v in (wanted.mean, wanted.std))
        self._scale, self._shift = 1 / (255 * std), -mean / std

    def train(self, rows: Tensor) -> Tensor:
        """Augmented inputs for the faces at `rows` (int64 [n]): [n * views, ...], the views of a face one after the other."""
        how = self.augmentation
        x = self.pixels[rows].unsqueeze(1)
        n = len(x)
        if how.moves:
            x = moved(x.float(), how)
        elif how.flip:
            x = torch.where(torch.rand(n, 1, 1, 1, device=x.device) < 0.5, x.flip(-1), x)
        if how.views != "one":
            x = _views(x, how.views, self.wanted.side)
        elif self.wanted.side < SIDE:
            x = _cropped(x, self.wanted.side)
        x = self._sized(x.float())
        if how.noise:
            x = (x + 255 * how.noise * torch.randn_like(x)).clamp_(0, 255)
        if how.erasing:
            x = x * ~_rectangles(len(x), x.shape[-1], how.erasing, x.device)
        return self._scaled(x)

    def test(self, rows: Tensor) -> Tensor:
        """Inputs for the faces at `rows` without chance: the centre, or `views` of each face one after the other."""
        x = self.pixels[rows].unsqueeze(1)
        side = self.wanted.side
        if self.views != "one":
            x = _views(x, self.views, side)
        elif side < SIDE:
            start = (SIDE - side) // 2
            x = x[..., start:start + side, start:start + side]
        return self._scaled(self._sized(x.float()))

    def _sized(self, x: Tensor) -> Tensor:
        side = self.wanted.side
        return x if x.shape[-1] == side else functional.interpolate(x, (side, side), mode="bilinear", antialias=False)

    def _scaled(self, x: Tensor) -> Tensor:
        return torch.addcmul(self._shift, x.expand(-1, self.wanted.channels, -1, -1), self._scale)


def averaged(logits: Tensor, views: Views) -> Tensor:
    """The mean of the logits over the views of each face: [n * views, classes] -> [n, classes]."""
    return logits.reshape(-1, VIEWS[views], logits.shape[-1]).mean(1) if views != "one" else logits


def moved(x: Tensor, how: Augmentation) -> Tensor:
    """Faces [n, 1, side, side] turned, shifted, zoomed and mirrored in one bilinear pass, each in its own way; black comes in from outside."""
    n, device = len(x), x.device

    def drawn(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(*shape, n, device=device).uniform_(low, high)

    def some(share: float) -> Tensor | float:
        return 1.0 if share >= 1 else (torch.rand(n, device=device) < share).float()

    angle = math.radians(how.rotation) * drawn(-1, 1) * some(how.rotation_p)
    size = drawn(how.zoom_min, how.zoom_max).sqrt()
    across, down = 2 * how.translate * drawn(-1, 1, 2) * some(how.translate_p)
    mirror = torch.where(torch.rand(n, device=device) < 0.5, -1.0, 1.0) if how.flip else torch.ones(n, device=device)
    return warped(x, angle, size, across, down, mirror)


def warped(x: Tensor, angle: Tensor, size: Tensor, across: Tensor, down: Tensor, mirror: Tensor) -> Tensor:
    """Each face [1, side, side] of `x` turned counter-clockwise by `angle` (radians), shown over `size` of its side, moved left and up by half the
    side times `across` and `down`, and last mirrored where `mirror` is -1; all [n]."""
    cos, sin = size * angle.cos(), size * angle.sin()
    matrix = torch.stack([cos * mirror, -sin, across, sin * mirror, cos, down], 1).reshape(len(x), 2, 3)
    grid = functional.affine_grid(matrix, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _cropped(x: Tensor, side: int) -> Tensor:
    """A square of its own place from each image: [n, 1, side, side]."""
    room = x.shape[-1] - side + 1
    top, left = (torch.randint(room, (len(x),), device=x.device) for _ in range(2))
    windows = x[:, 0].unfold(1, side, 1).unfold(2, side, 1)  # [n, room, room, side, side], a view
    return windows[torch.arange(len(x), device=x.device), top, left].unsqueeze(1)


def _views(x: Tensor, views: Views, side: int) -> Tensor:
    """[n, 1, h, w] -> [n * views, 1, side, side]: the centre and its mirror image, or all four corners too."""
    far, middle = max(x.shape[-1] - side, 0), max(x.shape[-1] - side, 0) // 2
    places = [(middle, middle)] if views == "flip" else [(0, 0), (0, far), (far, 0), (far, far), (middle, middle)]
    crops = torch.stack([x[..., top:top + side, left:left + side] for top, left in places], 1)
    return torch.cat([crops, crops.flip(-1)], 1).flatten(0, 1)


def _rectangles(n: int, side: int, share: float, device: torch.device) -> Tensor:
    """bool [n, 1, side, side]: a rectangle in a share of the images, nothing in the others."""
    area = torch.empty(n, device=device).uniform_(*_ERASED) * side * side
    aspect = torch.empty(n, device=device).uniform_(-_ASPECT, _ASPECT).exp()
    height, width = ((area * a).sqrt().clamp(1, side - 1).round() for a in (aspect, 1 / aspect))
    top, left = (torch.rand(n, device=device) * (side - s + 1) for s in (height, width))
    at = torch.arange(side, device=device)

    def along(start: Tensor, length: Tensor) -> Tensor:
        first = start.floor()[:, None]
        return (at >= first) & (at < first + length[:, None])

    erased = torch.rand(n, 1, 1, device=device) < share
    return (along(top, height)[:, :, None] & along(left, width)[:, None, :] & erased).unsqueeze(1)
