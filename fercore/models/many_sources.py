"""A reconstruction of the network of system S3, whose text gives no channels and contradicts itself about the number of convolutions."""

from itertools import pairwise

from torch import nn


class ManySourcesCNN(nn.Sequential):
    """Convolutions (padding 1, BN, LeakyReLU), MaxPool2 wherever the channels change and at the end; Dropout, dense layers, Dropout, Linear.

    The reading with four convolutions 32, 32, 64, 64 and dense layers of 1000 and 512 is a widespread teaching network with the parts that
    the text names (BN, LeakyReLU, two dropouts among the dense layers); activations are LeakyReLU throughout, as the text has them.
    The text's other reading, three convolutions, is channels=(32, 64, 128), hidden=(128,).
    Input float [n, 1, 48, 48] in -1..1, output logits float [n, n_classes].
    """

    def __init__(self, n_classes: int, channels: tuple[int, ...] = (32, 32, 64, 64), hidden: tuple[int, ...] = (1000, 512),
                 dropout: float = 0.1, kernel: int = 3) -> None:
        layers: list[nn.Module] = []
        side = 48
        for (before, here), after in zip(pairwise((1, *channels)), (*channels[1:], None), strict=True):
            layers += nn.Conv2d(before, here, kernel, padding=1), nn.BatchNorm2d(here), nn.LeakyReLU()
            side += 3 - kernel
            if after != here:
                layers.append(nn.MaxPool2d(2))
                side //= 2
        layers += nn.Flatten(), nn.Dropout(dropout)
        for before, here in pairwise((channels[-1] * side**2, *hidden)):
            layers += nn.Linear(before, here), nn.LeakyReLU()
        super().__init__(*layers, nn.Dropout(dropout), nn.Linear(hidden[-1], n_classes))
