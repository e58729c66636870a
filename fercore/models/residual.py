"""The twelve residual networks of system S1: blocks at full size without pooling, then very wide dense layers."""

from torch import Tensor, nn


class ResBlock(nn.Module):
    """ReLU(x + BN(Conv(ReLU(BN(Conv(x)))))), stride 1, padding kernel // 2; no projection.

    Input float [n, before, h, w] where `before` is `channels`, or 1: an image of one channel is added to every channel by broadcasting.
    Output float [n, channels, h, w], >= 0.
    """

    def __init__(self, before: int, channels: int, kernel: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(before, channels, kernel, padding=kernel // 2), nn.BatchNorm2d(channels), nn.ReLU(),
                                  nn.Conv2d(channels, channels, kernel, padding=kernel // 2), nn.BatchNorm2d(channels))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.body(x) + x)
        return out


class ResidualNet(nn.Sequential):
    """`blocks` ResBlocks, AdaptiveAvgPool 20x20, `hidden` times Linear(F, F) and ReLU with F = 400 * channels, Linear n_classes.

    Source: the published names B<channels>_N<blocks>_FC<hidden>_K<kernel>_AP20, read as the authors' repository does: FC counts hidden layers.
    Input float [n, 1, 48, 48] in 0..1, output logits float [n, n_classes].
    """

    def __init__(self, n_classes: int, channels: int, blocks: int, hidden: int, kernel: int) -> None:
        features = channels * 20 * 20
        super().__init__(*(ResBlock(channels if i else 1, channels, kernel) for i in range(blocks)), nn.AdaptiveAvgPool2d(20), nn.Flatten(),
                         *(layer for _ in range(hidden) for layer in (nn.Linear(features, features), nn.ReLU())), nn.Linear(features, n_classes))
