"""The zoo: published parameter counts, shapes, gradients, and what is refused. Networks that need gigabytes are on the meta device."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn.functional import batch_norm, conv2d, cross_entropy

from fercore.errors import BadInput, FerError, NotFound, TrainingError
from fercore.models import BACKBONES, MODELS, build, spec_of
from fercore.models.cnn_attention import Attention, CnnAttention
from fercore.models.cnn_lstm import CnnLstm
from fercore.models.network import architecture, check_input, load_weights
from fercore.models.residual import ResBlock

# (4 classes, 7 classes); 0 = not published. From the notes on the five systems and, for torchvision, its own documentation less the head.
COUNTS = {
    "simple_cnn": (1_199_108, 1_199_495), "simple_cnn_v1": (683_140, 683_527), "simple_cnn_v2": (1_189_380, 1_189_767),
    "b16_n4_fc1_k3_ap20": (41_008_660, 0), "b16_n4_fc1_k5_ap20": (41_037_588, 0), "b16_n4_fc1_k7_ap20": (41_080_980, 0),
    "b32_n4_fc1_k3_ap20": (163_969_572, 0), "b32_n4_fc1_k5_ap20": (164_084_772, 0), "b32_n4_fc1_k7_ap20": (164_257_572, 0),
    "b16_n8_fc2_k3_ap20": (81_993_876, 0), "b16_n8_fc2_k5_ap20": (82_055_572, 0), "b16_n8_fc2_k7_ap20": (82_148_116, 0),
    "b32_n8_fc2_k3_ap20": (327_896_868, 0), "b32_n8_fc2_k5_ap20": (328_143_140, 0), "b32_n8_fc2_k7_ap20": (328_512_548, 0),
    "cnn_lstm": (0, 457_031), "cnn_attention": (0, 197_799),
    "s3_cnn": (9_796_940, 0), "s3_cnn_k4": (7_031_340, 0), "s3_cnn_4conv": (9_833_996, 0),
    "vggnet": (0, 29_890_759), "resnet18": (0, 11_171_271)}
IMAGENET_COUNTS = {  # with its 1,000 classes, https://pytorch.org/vision/stable/models.html
    "resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032, "mobilenet_v3_small": 2_542_856, "efficientnet_b0": 5_288_548,
    "convnext_tiny": 28_589_128, "vit_b_16": 86_567_656}
ZOO = [*MODELS, *BACKBONES]
SMALL = [name for name in MODELS if not name.startswith("b") or name == "b16_n4_fc1_k3_ap20"]


def images(name: str, n: int = 2, device: str = "cpu") -> torch.Tensor:
    expected = spec_of(name).input
    return torch.randn(n, expected.channels, expected.side, expected.side, device=device)


def test_the_registry_does_not_load_torch() -> None:
    code = "import sys, fercore.models as m; assert m.spec_of('torchvision/vit_b_16') and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_model_has_its_published_number_of_trainable_parameters() -> None:
    assert COUNTS.keys() == MODELS.keys()
    for name, (four, seven) in COUNTS.items():
        assert (not four or MODELS[name].parameters(4) == four) and (not seven or MODELS[name].parameters(7) == seven), name
    assert {name.removeprefix("torchvision/"): spec.parameters(1000) for name, spec in BACKBONES.items()} == IMAGENET_COUNTS


def test_the_other_reading_of_the_third_system_has_its_counts_too() -> None:
    three = {"channels": "32,64,128", "hidden": "128"}
    assert MODELS["s3_cnn"].parameters(4, three) == 683_588 and MODELS["s3_cnn_k4"].parameters(4, three) == 575_268
    assert MODELS["s3_cnn"].parameters(4, three | {"channels": (32, 64, 128, 256)}) == 684_356
    assert all(MODELS[name].reconstruction == name.startswith("s3_") for name in MODELS)


@pytest.mark.parametrize("name", ZOO)
def test_every_model_takes_its_input_and_its_loss_reaches_every_trainable_parameter(name: str) -> None:
    with torch.device("meta"):
        model = build(name, 5)
    check_input(model, spec_of(name), 5)
    out = model.train()(images(name, device="meta"))
    assert out.shape == (2, 5)
    out.sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_a_step_on_two_images_changes_every_layer(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, 5)
    loss = cross_entropy(model(images(name)), torch.tensor([0, 4]))
    loss.backward()
    # A bias before batch normalisation has no effect, and one half of dropout may hide a unit, but no whole layer.
    assert loss.isfinite() and all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    assert all(p.grad.abs().max() > 0 for name, p in model.named_parameters() if p.requires_grad and p.grad is not None and name.endswith("weight"))


@pytest.mark.parametrize("name", ["simple_cnn", "s3_cnn_4conv", "cnn_lstm", "vggnet", "torchvision/vit_b_16", "torchvision/convnext_tiny"])
def test_the_layers_add_up_and_end_in_the_classes(name: str) -> None:
    layers = architecture(name, 7)
    assert list(layers.columns) == ["layer", "kind", "settings", "output", "parameters"]
    assert layers["parameters"].sum() == spec_of(name).parameters(7) and layers["output"].iloc[-1] == "7"
    if name == "simple_cnn":
        assert list(layers["output"]) == ["32x48x48"] * 2 + ["32x24x24"] + ["64x24x24"] * 2 + ["64x12x12", "9216"] + ["128"] * 3 + ["7"]


# ---- the parts that are easily wrong --------------------------------------------------------------------------------------------


def test_the_first_residual_block_adds_the_image_to_every_channel() -> None:
    torch.manual_seed(1)
    block = ResBlock(1, 3, 5).eval()
    conv1, norm1, _, conv2, norm2 = block.body
    for norm in (norm1, norm2):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 1, 9, 9)

    def normed(value: torch.Tensor, norm: nn.BatchNorm2d) -> torch.Tensor:
        return batch_norm(value, norm.running_mean, norm.running_var, norm.weight, norm.bias)

    inner = normed(conv2d(x, conv1.weight, conv1.bias, padding=2), norm1).clamp(min=0)
    inner = normed(conv2d(inner, conv2.weight, conv2.bias, padding=2), norm2)
    torch.testing.assert_close(block(x), (inner + torch.cat([x, x, x], 1)).clamp(min=0))


def test_attention_agrees_with_torch_where_torch_can_do_it_and_with_the_formula_elsewhere() -> None:
    torch.manual_seed(2)
    ours, theirs, x = Attention(64), nn.MultiheadAttention(64, 8, batch_first=True), torch.randn(2, 144, 64)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.q.weight, ours.k.weight, ours.v.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.q.bias, ours.k.bias, ours.v.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    torch.testing.assert_close(ours(x), theirs(x, x, x)[0])
    wide, x = Attention(128), torch.randn(2, 144, 128)
    heads = []
    for h in range(8):
        q, k, v = (layer(x)[..., 8 * h:8 * h + 8] for layer in (wide.q, wide.k, wide.v))
        heads.append((q @ k.mT / 8**0.5).softmax(-1) @ v)
    torch.testing.assert_close(wide(x), wide.out(torch.cat(heads, -1)))


def test_attention_starts_within_the_bounds_of_keras() -> None:
    """Glorot over kernels [width, heads, key_dim] and [heads, key_dim, width], whose first axis Keras counts as a receptive field."""
    layer = CnnAttention(7).attention2[0]
    assert 0.99 * (6 / (128 * 16)) ** 0.5 < layer.q.weight.abs().max() <= (6 / (128 * 16)) ** 0.5
    assert 0.99 * (6 / (8 * 136)) ** 0.5 < layer.out.weight.abs().max() <= (6 / (8 * 136)) ** 0.5
    assert not layer.q.bias.any()


def test_the_lstms_start_as_in_keras_and_keep_one_bias() -> None:
    torch.manual_seed(3)
    model = CnnLstm(7)
    lstm = model.lstm2
    torch.testing.assert_close(lstm.weight_hh_l0.mT @ lstm.weight_hh_l0, torch.eye(64), atol=1e-5, rtol=0)
    assert torch.equal(lstm.bias_ih_l0, torch.cat([torch.zeros(64), torch.ones(64), torch.zeros(128)]))
    norm = model.features[1]
    assert (norm.eps, norm.momentum) == (1e-3, 0.01)
    before = lstm.bias_ih_l0.detach().clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        cross_entropy(model(images("cnn_lstm", 4)), torch.tensor([0, 1, 2, 3])).backward()
        optimizer.step()
    assert not model.lstm1.bias_hh_l0.any() and not lstm.bias_hh_l0.any() and not torch.equal(lstm.bias_ih_l0, before)


# ---- names and options ----------------------------------------------------------------------------------------------------------


def test_unknown_names_and_options_name_the_known_ones() -> None:
    for name in ("vgg99", "torchvision/vgg99", ""):
        with pytest.raises(NotFound) as caught:
            build(name, 7)
        assert "simple_cnn" in str(caught.value) and "torchvision/resnet18" in str(caught.value)
    assert build("vggnet", 7, {"dropout": "0.5"})[-3].p == 0.5


@pytest.mark.parametrize(("name", "options", "part"), [
    ("simple_cnn", {"depth": "3"}, "Its options are dropout"), ("cnn_lstm", {"dropout": "3"}, "It has none"),
    ("simple_cnn", {"dropout": "much"}, "dropout = 'much'"), ("simple_cnn", {"dropout": "7"}, "The model cannot be built"),
    ("s3_cnn", {"channels": "32,many"}, "Its default is 32,32,64,64"), ("s3_cnn", {"channels": ""}, "An option cannot be used"),
    ("s3_cnn", {"channels": "-4"}, "The model cannot be built")])
def test_impossible_options_are_refused(name: str, options: dict[str, str], part: str) -> None:
    with pytest.raises(BadInput) as caught:
        build(name, 7, options)
    assert part in str(caught.value)


OWN = """
import torch
from torch import nn

def good(n_classes): return nn.Sequential(nn.Flatten(), nn.Linear(2304, n_classes))
def small(n_classes): return nn.Sequential(nn.Flatten(), nn.Linear(100, n_classes))
def eight(n_classes): return nn.Sequential(nn.Flatten(), nn.Linear(2304, 8))
def text(n_classes): return "a model"
def fails(n_classes): raise RuntimeError("no luck")
class Looks(nn.Module):  # at values, which the meta device has not
    def __init__(self, n_classes):
        super().__init__()
        self.linear = nn.Linear(1, n_classes)
    def forward(self, x): return self.linear(torch.full((len(x), 1), x.sum().item()))
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of a person's own called own_zoo, and one that does not parse."""
    (tmp_path / "own_zoo.py").write_text(OWN)
    (tmp_path / "own_broken.py").write_text("def broken(:")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("own_zoo", None)


@pytest.mark.usefixtures("own")
def test_a_model_of_ones_own() -> None:
    model = build("own_zoo:good", 4)
    check_input(model, spec_of("own_zoo:good"), 4)
    assert model.training and spec_of("own_zoo:good").parameters(4) == 2304 * 4 + 4
    assert architecture("own_zoo:Looks", 4)["output"].tolist() == ["4"]


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(("name", "part"), [
    ("own_zoo:missing", "own_zoo:missing"), ("no_such_module:f", "no_such_module"), ("own_broken:broken", "SyntaxError"), ("own_zoo:text", "gave a str"),
    ("own_zoo:fails", "no luck"), (":f", ":f"), ("os:", "os:"), ("os:getcwd", "os:getcwd")])
def test_a_broken_model_of_ones_own_is_named(name: str, part: str) -> None:
    with pytest.raises(BadInput) as caught:
        build(name, 4)
    assert part in str(caught.value)


@pytest.mark.usefixtures("own")
def test_a_model_that_needs_another_input_or_gives_another_output_is_refused() -> None:
    with pytest.raises(TrainingError) as caught:
        check_input(build("own_zoo:small", 4), spec_of("own_zoo:small"), 4)
    assert caught.value.title == "The model needs another input size" and "[2, 1, 48, 48]" in caught.value.detail
    for name, other in (("simple_cnn", "vggnet"), ("resnet18", "torchvision/resnet18"), ("torchvision/vit_b_16", "simple_cnn")):
        with torch.device("meta"), pytest.raises(TrainingError, match="another input size"):
            check_input(build(name, 4), spec_of(other), 4)
    with pytest.raises(TrainingError, match="one logit a class"):
        check_input(build("own_zoo:eight", 4), spec_of("own_zoo:eight"), 4)


# ---- weights --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["safetensors", "pt", "pth"])
@pytest.mark.parametrize("n_classes", [4, 7])
def test_weights_are_loaded_all_but_the_classifier(tmp_path: Path, kind: str, n_classes: int) -> None:
    source, path = build("cnn_lstm", 7), tmp_path / f"w.{kind}"
    if kind == "safetensors":
        safetensors.torch.save_file(source.state_dict(), path)
    else:
        wrapped = {"module." + name: t for name, t in source.state_dict().items()}
        torch.save({"state_dict": wrapped, "epoch": 3} if kind == "pt" else wrapped, path)
    model = build("cnn_lstm", n_classes)
    loaded, kept = load_weights(model, path)
    assert kept == ["head.3.weight", "head.3.bias"] and len(loaded) == len(model.state_dict()) - 2
    for name, tensor in model.state_dict().items():
        assert name in kept or torch.equal(tensor, source.state_dict()[name])
    assert n_classes == 4 or not torch.equal(model.state_dict()[kept[0]], source.state_dict()[kept[0]])
    again = build("cnn_lstm", n_classes, weights=path)
    assert torch.equal(again.state_dict()["lstm1.weight_ih_l0"], source.state_dict()["lstm1.weight_ih_l0"])


def test_a_backbone_with_other_classes_takes_its_weights(tmp_path: Path) -> None:
    torch.save(build("torchvision/resnet18", 1000).state_dict(), tmp_path / "w.pth")
    assert load_weights(build("torchvision/resnet18", 7), tmp_path / "w.pth")[1] == ["fc.weight", "fc.bias"]
    # The stem for one channel is another one; the rest fits.
    assert load_weights(build("resnet18", 7), tmp_path / "w.pth")[1] == ["conv1.weight", "fc.weight", "fc.bias"]
    torch.save({"bn1.num_batches_tracked": torch.tensor(5)}, tmp_path / "w.pth")  # fits every network, and is no weight
    with pytest.raises(BadInput, match="No weight of the file fits"):
        load_weights(build("resnet18", 7), tmp_path / "w.pth")


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("code-was-run"),)


@pytest.mark.parametrize(("name", "make", "part"), [
    ("w.pt", lambda p: torch.save({"other.weight": torch.zeros(3)}, p), "other.weight"),
    ("w.pt", lambda p: torch.save({"0.weight": torch.zeros(1)}, p), "No weight of the file fits"),
    ("w.pt", lambda p: torch.save([1, 2], p), "holds 0 tensors"),
    ("w.pt", lambda p: torch.save({"0.weight": "text"}, p), "holds 0 tensors"),
    ("w.pt", lambda p: torch.save({"0.bias": torch.zeros(32, dtype=torch.int8)}, p), "No weight of the file fits"),
    ("w.pt", lambda p: torch.save({"0.weight": Code()}, p), "cannot be read"),
    ("w.pt", lambda p: p.write_bytes(b"not weights"), "cannot be read"),
    ("w.pt", lambda p: p.touch(), "cannot be read"),
    ("w.pth", lambda p: (torch.save(build("simple_cnn", 7).state_dict(), p), p.write_bytes(p.read_bytes()[:-5000])), "cannot be read"),
    ("w.safetensors", lambda p: p.write_bytes(b"\xff" * 64), "cannot be read"),
    ("w.safetensors", lambda p: p.mkdir(), "cannot be read"),
    ("w.pt", lambda p: None, "No such file"), ("w.safetensors", lambda p: None, "cannot be read"), ("w.onnx", lambda p: p.touch(), "Unknown kind")])
def test_files_that_are_no_weights_for_the_model_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, make: Any, part: str) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / name)
    with pytest.raises(FerError) as caught:
        build("simple_cnn", 7, weights=tmp_path / name)
    assert isinstance(caught.value, BadInput) and part in str(caught.value) and str(tmp_path / name) in str(caught.value)
    assert not (tmp_path / "code-was-run").exists()
