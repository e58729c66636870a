"""The parts of a training step against independent computations."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.transforms import v2

from fercore.errors import TrainingError
from fercore.models import Input
from fercore.training.augment import VIEWS, Augmentation, Faces, averaged, warped
from fercore.training.engine import MULTI_TARGET, Rate, Stepper, dtype_of, loss_of, optimizer_of, out_of_memory

CPU = torch.device("cpu")
UNIT = Input(48, 1, (0.0,), (1.0,))


def some(n: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (n, 48, 48), dtype=np.uint8))


def train(pixels: torch.Tensor, how: Augmentation, wanted: Input = UNIT, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return Faces(pixels, wanted, how).train(torch.arange(len(pixels)))


def test_without_augmentation_a_face_is_only_scaled() -> None:
    pixels, wanted = some(), Input(48, 3, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    expected = v2.functional.normalize(pixels[:, None].expand(-1, 3, -1, -1).float() / 255, list(wanted.mean), list(wanted.std))
    for made in (train(pixels, Augmentation(), wanted), Faces(pixels, wanted).test(torch.arange(6))):
        torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(Faces(pixels, UNIT).test(torch.tensor([3, 3, 1])), Faces(pixels, UNIT).test(torch.arange(6))[[3, 3, 1]])


def test_half_of_the_faces_are_mirrored_and_the_others_untouched() -> None:
    pixels = some(400)
    made = train(pixels, Augmentation(flip=True)) * 255
    same, mirrored = ((made.round() == other[:, None].float()).all(dim=(1, 2, 3)) for other in (pixels, pixels.flip(-1)))
    assert bool((same | mirrored).all()) and 150 < int(mirrored.sum()) < 250


def changed(x: torch.Tensor, *, angle: float = 0.0, size: float = 1.0, across: float = 0.0, down: float = 0.0, mirror: float = 1.0) -> torch.Tensor:
    return warped(x, *(torch.full((len(x),), v) for v in (math.radians(angle), size, across, down, mirror)))


@pytest.mark.parametrize("degrees", [90.0, 20.0, -35.0])
def test_turning_is_about_the_middle_and_as_torchvision_turns(degrees: float) -> None:
    x = some()[:, None].float()
    torch.testing.assert_close(changed(x, angle=degrees), v2.functional.rotate(x, degrees, v2.InterpolationMode.BILINEAR), atol=0.1, rtol=0)


def test_faces_are_mirrored_after_they_are_turned_and_zoomed() -> None:
    x = some()[:, None].float()
    torch.testing.assert_close(changed(x, mirror=-1.0), x.flip(-1), atol=0.02, rtol=0)
    torch.testing.assert_close(changed(x, angle=90.0, mirror=-1.0), torch.rot90(x, 1, (2, 3)).flip(-1), atol=0.05, rtol=0)
    half = changed(x, size=0.5)  # the middle half of the side fills the picture
    torch.testing.assert_close(half.mean((1, 2, 3)), x[..., 12:36, 12:36].mean((1, 2, 3)), atol=1.0, rtol=0)


@settings(max_examples=25, deadline=None)
@given(st.integers(-20, 20), st.integers(-20, 20))
def test_shifting_by_whole_pixels_moves_every_pixel(right: int, down: int) -> None:
    x = some(2)[:, None].float()
    expected = torch.zeros_like(x)
    rows, columns = (slice(max(d, 0), 48 + min(d, 0)) for d in (down, right))
    old_rows, old_columns = (slice(max(-d, 0), 48 + min(-d, 0)) for d in (down, right))
    expected[..., rows, columns] = x[..., old_rows, old_columns]
    torch.testing.assert_close(changed(x, across=-2 * right / 48, down=-2 * down / 48), expected, atol=0.05, rtol=0)


def test_shifts_stay_within_the_share_and_blacken_what_comes_in() -> None:
    white = torch.full((300, 48, 48), 255, dtype=torch.uint8)
    made = train(white, Augmentation(translate=0.25))[:, 0]
    empty_columns = (made.amax(1) < 0.01).sum(1)
    assert int(empty_columns.max()) <= 12 and int(empty_columns.max()) > 8  # 25 % of 48
    still = train(white, Augmentation(translate=0.25, translate_p=0.5))[:, 0]
    assert 100 < int((still.amin((1, 2)) > 0.99).sum()) < 200


def test_zoom_changes_the_shown_area_by_the_given_share() -> None:
    square = torch.zeros(400, 48, 48, dtype=torch.uint8)
    square[:, 14:34, 14:34] = 255
    area = train(square, Augmentation(zoom_min=0.8, zoom_max=1.2)).mean((1, 2, 3)) * 48 * 48 / 400
    assert 0.8 < float(area.min()) < 0.87 and 1.17 < float(area.max()) < 1.28  # 1 / 1.2 to 1 / 0.8


def test_every_face_is_changed_in_its_own_way_and_by_the_seed_alone() -> None:
    pixels = some(1).expand(20, -1, -1)
    how = Augmentation(flip=True, rotation=15, translate=0.1, zoom_min=0.9, zoom_max=1.1, noise=0.02, erasing=0.5)
    made = train(pixels, how)
    assert len({m.numpy().tobytes() for m in made}) == 20
    assert torch.equal(made, train(pixels, how)) and not torch.equal(made, train(pixels, how, seed=1))
    assert float(made.min()) >= 0 and float(made.max()) <= 1


def test_rectangles_cover_2_to_33_percent_of_the_asked_share_of_images() -> None:
    white = torch.full((1000, 48, 48), 255, dtype=torch.uint8)
    made = train(white, Augmentation(erasing=0.3))[:, 0]
    gone = (made < 0.5).float().mean((1, 2))
    hit = gone > 0
    assert 240 < int(hit.sum()) < 360 and float(gone[hit].min()) > 0.01 and float(gone[hit].max()) < 0.36
    for image in made[hit][:20]:  # rectangles, not anything else
        rows, columns = (image < 0.5).any(1), (image < 0.5).any(0)
        assert float((image < 0.5).sum()) == int(rows.sum()) * int(columns.sum())


def test_crops_are_windows_of_the_face() -> None:
    pixels, wanted = some(200), Input(40, 1, (0.0,), (1.0,))
    made = (train(pixels, Augmentation(), wanted)[:, 0] * 255).round().byte()
    places = set()
    for face, crop in zip(pixels, made, strict=True):
        found = [(y, x) for y in range(9) for x in range(9) if torch.equal(face[y:y + 40, x:x + 40], crop)]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) > 60
    centre = Faces(pixels, wanted).test(torch.arange(200))
    assert torch.equal((centre * 255).round().byte()[:, 0], pixels[:, 4:44, 4:44])


def test_ten_crops_are_those_of_torchvision_and_belong_together() -> None:
    pixels, wanted = some(3), Input(40, 1, (0.0,), (1.0,))
    expected = torch.stack(v2.functional.ten_crop(pixels[:, None], [40, 40]), 1)
    for made in (Faces(pixels, wanted, views="ten_crop").test(torch.arange(3)), train(pixels, Augmentation(views="ten_crop"), wanted)):
        assert made.shape == (30, 1, 40, 40)
        for mine, theirs in zip((made * 255).round().byte().reshape(3, 10, -1), expected.reshape(3, 10, -1), strict=True):
            assert {c.numpy().tobytes() for c in mine} == {c.numpy().tobytes() for c in theirs} and len(mine.unique(dim=0)) == 10
    flips = Faces(pixels, UNIT, views="flip").test(torch.arange(3))
    assert torch.equal(flips[1::2], flips[::2].flip(-1))
    logits = torch.randn(30, 7)
    torch.testing.assert_close(averaged(logits, "ten_crop"), torch.stack([logits[10 * i:10 * i + 10].mean(0) for i in range(3)]))
    assert VIEWS == {"one": 1, "flip": 2, "ten_crop": 10}


def test_larger_inputs_are_interpolated_as_torchvision_does() -> None:
    pixels, wanted = some(2), Input(112, 3, (0.0,) * 3, (1.0,) * 3)
    expected = v2.functional.resize(pixels[:, None].float() / 255, [112, 112], v2.InterpolationMode.BILINEAR, antialias=False)
    torch.testing.assert_close(Faces(pixels, wanted).test(torch.arange(2)), expected.expand(-1, 3, -1, -1), atol=1e-5, rtol=1e-5)


def by_hand(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    p = np.exp(logits - logits.max(1, keepdims=True))
    return -(targets * np.log(p / p.sum(1, keepdims=True))).sum(1)


def test_losses_against_numpy() -> None:
    rng = np.random.default_rng(1)
    logits, votes, y = rng.normal(size=(9, 4)), rng.dirichlet([1] * 4, 9), rng.integers(0, 4, 9)
    x, hard, soft = torch.tensor(logits), np.eye(4)[y], torch.tensor(votes)
    weights = torch.tensor(rng.uniform(0.5, 2, 9))
    assert float(loss_of("hard")(x, torch.tensor(y), None)) == pytest.approx(by_hand(logits, hard).mean())
    assert float(loss_of("cross_entropy")(x, soft, None)) == pytest.approx(by_hand(logits, votes).mean())
    smooth = loss_of("hard", smoothing=0.1)(x, torch.tensor(y), None)
    assert float(smooth) == pytest.approx(by_hand(logits, 0.9 * hard + 0.1 / 4).mean())
    weighted = (by_hand(logits, hard) * weights.numpy()).sum() / weights.sum()
    assert float(loss_of("hard")(x, torch.tensor(y), weights)) == pytest.approx(float(weighted))
    per_class = torch.tensor([1.0, 2, 3, 4], dtype=torch.float64)
    expected = (by_hand(logits, hard) * per_class.numpy()[y]).sum() / per_class.numpy()[y].sum()
    assert float(loss_of("hard", class_weights=per_class)(x, torch.tensor(y), None)) == pytest.approx(expected)
    p = np.exp(-np.stack([by_hand(logits, np.eye(4)[[c] * 9]) for c in range(4)], 1))
    right = (votes >= MULTI_TARGET) | (votes == votes.max(1, keepdims=True))
    multi = -np.log((np.where(right, votes, 0) * p).max(1)).mean()
    assert float(loss_of("multi_target")(x, soft, None)) == pytest.approx(multi)


def test_multi_target_has_gradients_where_a_class_has_no_votes() -> None:
    x = torch.zeros(2, 3, requires_grad=True)
    loss_of("multi_target")(x, torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0]]), None).backward()
    assert x.grad is not None and bool(torch.isfinite(x.grad).all()) and float(x.grad[0, 0]) < 0


@pytest.mark.parametrize("name", ["adam", "adamw", "radam", "sgd"])
def test_optimizers_take_the_given_rate_decay_and_momentum_and_learn(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    model.bias.requires_grad_(False)
    optimizer = optimizer_of(name, model, learning_rate=0.05, weight_decay=0.01, momentum=0.8)  # type: ignore[arg-type]
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"], len(group["params"])) == (0.05, 0.01, 1)
    assert type(optimizer).__name__.lower() == name and (name != "sgd" or (group["momentum"], group["nesterov"]) == (0.8, True))
    x, y = torch.randn(64, 4), torch.randint(0, 2, (64,))
    stepper = Stepper(model, optimizer, loss_of("hard"), CPU)
    losses = [float(stepper.step(x, y)[0]) for _ in range(30)]
    assert losses[-1] < losses[0]


def rates(name: str, epochs: int, monitored: list[float]) -> list[float]:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    rate = Rate(name, optimizer, epochs=epochs, steps=epochs * 2, factor=0.5, patience=1, highest=False)  # type: ignore[arg-type]
    out = []
    for value in monitored:
        out.append(rate.now)
        for _ in range(2):
            optimizer.step()
            rate.after_step()
        rate.after_epoch(value)
    return out


def test_schedules() -> None:
    assert rates("constant", 4, [1, 1, 1, 1]) == [1, 1, 1, 1]
    assert rates("plateau", 5, [1, 1, 1, 1, 0.5]) == [1, 1, 1, 0.5, 0.5]  # two epochs without gain, then half
    assert rates("cosine", 4, [1] * 4) == pytest.approx([(1 + math.cos(math.pi * e / 4)) / 2 for e in range(4)])
    cycle = rates("one_cycle", 10, [1] * 10)
    assert cycle[0] == pytest.approx(1 / 25) and max(cycle) == pytest.approx(1.0, abs=0.02) and cycle[-1] < 0.06


def test_half_precision_learns_in_float32_weights_and_float16_needs_a_gpu() -> None:
    model = nn.Linear(8, 3)
    stepper = Stepper(model, torch.optim.SGD(model.parameters(), lr=0.1), loss_of("hard"), CPU, "bfloat16")
    before = model.weight.detach().clone()
    loss, logits = stepper.step(torch.randn(4, 8), torch.tensor([0, 1, 2, 0]))
    assert loss.dtype == logits.dtype == model.weight.dtype == torch.float32 and not torch.equal(before, model.weight)
    assert dtype_of("auto", CPU) == torch.float32
    with pytest.raises(TrainingError, match="float16"):
        dtype_of("float16", CPU)


@pytest.mark.parametrize(("error", "batch", "says"), [
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB."), 1000, "batch_size=512"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 99 bytes."), 64, "batch_size=32"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."), 65, "batch_size=64"),
    (MemoryError(), 1, "smaller network"),
])
def test_no_memory_left_names_a_smaller_batch(error: BaseException, batch: int, says: str) -> None:
    found = out_of_memory(error, batch)
    assert found and says in found.remedy and f"batch_size={batch}" in found.detail
    assert out_of_memory(RuntimeError("shapes differ"), batch) is None


def test_the_benchmark_needs_little_and_prints_its_table() -> None:
    code = ("import sys\n"
            "for name in ('duckdb', 'streamlit', 'pydantic', 'filelock', 'safetensors', 'tensorboard', 'tqdm', 'yaml', 'typer', 'imblearn', 'cv2', 'plotly'):\n"
            "    sys.modules[name] = None\n"
            "import runpy; sys.argv = ['bench', '--models', 'simple_cnn', '--faces', '64', '--batch', '16', '--seconds', '0.1', '--json']\n"
            "runpy.run_module('fercore.training.bench', run_name='__main__')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    for column in ('"bare"', '"ours"', '"augmented"', '"folder"', '"ours / bare"', '"roofline"'):
        assert column in done.stdout
