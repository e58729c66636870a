"""What system S2 got from Keras 3 without saying so: its default initialisation and its constants, which differ from PyTorch's."""

from torch import nn

EPSILON = 1e-3  # of batch and layer normalisation
MOMENTUM = 0.01  # of batch normalisation; 0.99 in Keras, which weighs the old value


def initialise(model: nn.Module) -> None:
    """Glorot-uniform kernels and zero biases, in place; for an LSTM also orthogonal recurrent kernels and a forget bias of 1.

    PyTorch's LSTM has two bias vectors and Keras's one: bias_hh becomes zero and is frozen. Source: the defaults of Keras 3's Dense, Conv2D
    and LSTM; gates are in the order input, forget, cell, output in both.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LSTM):
            tensors = dict(module.named_parameters())
            nn.init.xavier_uniform_(tensors["weight_ih_l0"])
            nn.init.orthogonal_(tensors["weight_hh_l0"])
            nn.init.zeros_(tensors["bias_ih_l0"])
            nn.init.ones_(tensors["bias_ih_l0"][module.hidden_size:2 * module.hidden_size])
            nn.init.zeros_(tensors["bias_hh_l0"]).requires_grad_(False)
