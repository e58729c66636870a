import pytest
import torch

from fercore.errors import NotFound
from fercore.models import MODELS, build


@pytest.mark.parametrize(("n_classes", "published"), [(7, 1_199_495), (4, 1_199_108)])
def test_simple_cnn_has_the_published_number_of_parameters(n_classes: int, published: int) -> None:
    assert MODELS["simple_cnn"].parameters(n_classes) == published
    assert sum(p.numel() for p in build("simple_cnn", n_classes).parameters()) == published


@pytest.mark.parametrize("name", MODELS)
def test_every_model_gives_one_logit_a_class(name: str) -> None:
    assert build(name, 5)(torch.zeros(2, 1, 48, 48)).shape == (2, 5)


def test_unknown_model_names_the_known_ones() -> None:
    with pytest.raises(NotFound, match="simple_cnn"):
        build("vgg99", 7)
