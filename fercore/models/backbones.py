"""Networks of torchvision, always without weights: nothing is ever downloaded, people bring their own file (see network.load_weights)."""

from torch import nn
from torchvision import models
from torchvision.models.resnet import BasicBlock, ResNet


def backbone(n_classes: int, name: str) -> nn.Module:
    """The torchvision network `name` with a new classifier. Input float [n, 3, side, side], ImageNet normalisation; output logits [n, n_classes]."""
    network: nn.Module = models.get_model(name, weights=None, num_classes=n_classes)
    return network


def cifar_resnet18(n_classes: int) -> nn.Module:
    """ResNet-18 with the stem for small images: one 3x3 convolution with stride 1 on one channel, no pooling.

    Source: github.com/LetheSec/Fer2013-Facial-Emotion-Recognition-Pytorch. Like it, the last pooling is 4x4 and leaves out the last row and
    column of the 5x5 map. Input float [n, 1, 40, 40] in 0..1 (a crop of 48x48), output logits float [n, n_classes].
    """
    network: nn.Module = ResNet(BasicBlock, [2, 2, 2, 2], num_classes=n_classes)
    network.conv1 = nn.Conv2d(1, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision starts every convolution
    network.maxpool = nn.Identity()
    network.avgpool = nn.AvgPool2d(4)
    return network
