"""The baseline network of system S0 and its two variants: convolutions with pooling, then two dense layers."""

from torch import nn


class SimpleCNN(nn.Sequential):
    """For each (channels, kernel) of `convolutions`: Conv with padding 1, ReLU, MaxPool2; then Linear 128, ReLU, Dropout, Linear n_classes.

    Padding 1 also for kernels 5 and 2 (the source states none): 48 -> 46 -> 23 -> 24 -> 12 is the reading that keeps its 64 * 12 * 12 features.
    Input float [n, 1, 48, 48] in -1..1, output logits float [n, n_classes].
    """

    def __init__(self, n_classes: int, convolutions: tuple[tuple[int, int], ...] = ((32, 3), (64, 3)), dropout: float = 0.5) -> None:
        layers: list[nn.Module] = []
        before, side = 1, 48
        for channels, kernel in convolutions:
            layers += nn.Conv2d(before, channels, kernel, padding=1), nn.ReLU(), nn.MaxPool2d(2)
            before, side = channels, (side + 3 - kernel) // 2
        super().__init__(*layers, nn.Flatten(), nn.Linear(before * side**2, 128), nn.ReLU(), nn.Dropout(dropout), nn.Linear(128, n_classes))
