"""The CNN-LSTM of system S2: five convolutions, then two LSTMs over the sixteen positions that are left."""

from torch import Tensor, nn

from fercore.models import keras


def _convolution(before: int, channels: int, kernel: int, padding: int = 0) -> list[nn.Module]:
    return [nn.Conv2d(before, channels, kernel, padding=padding), nn.BatchNorm2d(channels, keras.EPSILON, keras.MOMENTUM), nn.ReLU()]


class CnnLstm(nn.Module):
    """457,031 trainable parameters with 7 classes, the published count; only a 1x1 second convolution is one change away from the text and gives it.

    Input float [n, 1, 48, 48] in 0..1, output logits float [n, n_classes] (the softmax of the source is in the loss).
    """

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_convolution(1, 32, 3), *_convolution(32, 64, 1), nn.MaxPool2d(2), nn.Dropout(0.1),
            *_convolution(64, 64, 3, padding=1), *_convolution(64, 128, 3), nn.MaxPool2d(2), nn.Dropout(0.1),
            *_convolution(128, 128, 3), nn.MaxPool2d(2))
        self.lstm1 = nn.LSTM(128, 128, batch_first=True)
        self.dropout = nn.Dropout(0.3)
        self.lstm2 = nn.LSTM(128, 64, batch_first=True)
        self.head = nn.Sequential(nn.Linear(64, 200), nn.ReLU(), nn.Dropout(0.3), nn.Linear(200, n_classes))
        keras.initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        steps = self.features(x).flatten(2).transpose(1, 2)  # [n, 16, 128], row by row
        hidden, _ = self.lstm1(steps)
        hidden, _ = self.lstm2(self.dropout(hidden))
        out: Tensor = self.head(hidden[:, -1])
        return out
