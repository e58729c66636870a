"""The network that system S2 calls a vision transformer: convolutions with two attention layers, no residuals, no position codes."""

import math

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from fercore.models import keras

HEADS = KEY_DIM = 8


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of float [n, channels, h, w]."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


class Attention(nn.Module):
    """Self-attention with 8 heads of 8 dimensions: softmax(q k' / sqrt(8)) v, then a linear layer back to `width`.

    nn.MultiheadAttention cannot do it: its heads divide `width` among them, and here width 128 also has an inner width of 64.
    Input and output float [n, positions, width].
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(width, HEADS * KEY_DIM) for _ in range(3))
        self.out = nn.Linear(HEADS * KEY_DIM, width)

    def initialise(self) -> None:
        """Glorot-uniform as Keras has it here: its kernels are [width, heads, key_dim] and [heads, key_dim, width], of which the fans count
        the first axis as a receptive field."""
        for layer in (self.q, self.k, self.v, self.out):
            fans = HEADS * (KEY_DIM + self.out.out_features) if layer is self.out else self.out.out_features * (HEADS + KEY_DIM)
            nn.init.uniform_(layer.weight, -math.sqrt(6 / fans), math.sqrt(6 / fans))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (HEADS, KEY_DIM)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        out: Tensor = self.out(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return out


class CnnAttention(nn.Module):
    """197,799 parameters with 7 classes, the published count: the two Dense(200) of the text are not in the counted graph.

    Input float [n, 1, 48, 48] in 0..1, output logits float [n, n_classes].
    """

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(1, 32, 2), nn.ReLU(), ChannelNorm(32, keras.EPSILON), nn.MaxPool2d(2),  # "same" pads the end
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), ChannelNorm(64, keras.EPSILON), nn.MaxPool2d(2))
        self.attention1 = nn.Sequential(Attention(64), nn.LayerNorm(64, keras.EPSILON))
        self.middle = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), ChannelNorm(64, keras.EPSILON),
                                    nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), ChannelNorm(128, keras.EPSILON))
        self.attention2 = nn.Sequential(Attention(128), nn.LayerNorm(128, keras.EPSILON), nn.Dropout(0.2),
                                        nn.Linear(128, 128), nn.ReLU(), nn.LayerNorm(128, keras.EPSILON))
        self.head = nn.Linear(128, n_classes)
        keras.initialise(self)
        for module in self.modules():
            if isinstance(module, Attention):
                module.initialise()

    def forward(self, x: Tensor) -> Tensor:
        grid = self.stem(x)  # [n, 64, 12, 12]
        positions = self.attention1(grid.flatten(2).transpose(1, 2))  # [n, 144, 64]
        grid = self.middle(positions.transpose(1, 2).unflatten(2, grid.shape[2:]))
        out: Tensor = self.head(self.attention2(grid.flatten(2).transpose(1, 2)).mean(1))
        return out
