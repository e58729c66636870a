"""The baseline network: two convolutions and two dense layers."""

from torch import Tensor, nn


class SimpleCNN(nn.Sequential):
    """Conv 1->32, ReLU, MaxPool2; Conv 32->64, ReLU, MaxPool2; Linear 9216->128, ReLU, Dropout .5; Linear 128->n_classes.

    Both convolutions are 3x3 with padding 1. Input float [n, 1, 48, 48] in -1..1, output logits float [n, n_classes].
    """

    def __init__(self, n_classes: int) -> None:
        super().__init__(
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(64 * 12 * 12, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, n_classes))

    def __call__(self, x: Tensor) -> Tensor:
        out: Tensor = super().__call__(x)
        return out
