"""The VGG of Khaireddin and Chen, baseline of system S4."""

from itertools import pairwise

from torch import nn


class VggNet(nn.Sequential):
    """Four stages of 64, 128, 256, 512 channels, each twice Conv3x3, BN, ReLU, then MaxPool2; twice Linear 4096, Dropout, ReLU; Linear n_classes.

    Source: github.com/usef-kh/fer, whose dropout is .2 (the .1 of its settings never reaches the network).
    Input float [n, 1, 40, 40] in 0..1 (a crop of 48x48), output logits float [n, n_classes].
    """

    def __init__(self, n_classes: int, dropout: float = 0.2) -> None:
        layers: list[nn.Module] = []
        for before, channels in pairwise((1, 64, 128, 256, 512)):
            for width in (before, channels):
                layers += nn.Conv2d(width, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()
            layers.append(nn.MaxPool2d(2))
        layers.append(nn.Flatten())
        for width in (512 * 2 * 2, 4096):
            layers += nn.Linear(width, 4096), nn.Dropout(dropout), nn.ReLU()
        super().__init__(*layers, nn.Linear(4096, n_classes))
