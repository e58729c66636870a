"""How fast training is on this machine, each model against its partners in one run.

    python -m fercore.training.bench [--models simple_cnn,vggnet] [--batch 64] [--faces 4096] [--seconds 5] [--workers 2] [--device auto] [--json]

Columns, in images a second: `bare`: forward, backward and update on one batch that is ready on the device; `ours`: the same with batches made by
`augment.Faces` from uint8 images on the device, without augmentation; `augmented`: with mirroring, turning, shifting, zooming and erasing;
`folder`: the plain loop of a tutorial (the same network in the default memory format, torch.optim.Adam, batches of torchvision's ImageFolder of PNG
files through a DataLoader with `--workers` processes), without augmentation; `folder_augmented`: with a mirror and a turn. `roofline`: floating-point
operations a second of `ours` as a share of what this device reaches on large matrix products (measured here, in the same precision).

Needs torch, torchvision, numpy, pandas, pyarrow and scikit-learn only. The faces are noise: speed does not depend on what they show.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from fercore.domain import SIDE
from fercore.models import build, spec_of
from fercore.training.augment import Augmentation, Faces
from fercore.training.engine import Precision, Stepper, loss_of, optimizer_of, prepared

CLASSES = 7
AHEAD = 8  # batches that are certainly not in a loader's queue any more
_Step = Callable[[Tensor, Tensor], Any]
USUAL = ("simple_cnn", "cnn_lstm", "cnn_attention", "vggnet")
AUGMENTED = Augmentation(flip=True, rotation=10.0, translate=0.1, zoom_min=0.8, zoom_max=1.2, erasing=0.5)


def measured(model: str, *, device: torch.device, batch: int, faces: int, seconds: float, workers: int, folder: Path | None, precision: Precision,
             compiled: bool = False) -> dict[str, Any]:
    """One row of the table."""
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (faces, SIDE, SIDE), dtype=np.uint8)).to(device)
    y = torch.from_numpy(rng.integers(0, CLASSES, faces)).to(device)
    spec = spec_of(model)
    torch.manual_seed(0)
    network = prepared(build(model, CLASSES), device).train()
    stepper = Stepper(network, optimizer_of("adam", network, learning_rate=1e-4, weight_decay=0.0, momentum=0.0), loss_of("hard"), device, precision,
                      compiled)

    def batches(how: Augmentation) -> Iterator[tuple[Tensor, Tensor]]:
        made = Faces(pixels, spec.input, how)
        while True:
            for rows in torch.split(torch.randperm(faces).to(device), batch):
                if len(rows) == batch:
                    yield made.train(rows), y[rows]

    ready = next(batches(Augmentation()))
    sources: dict[str, tuple[Iterable[tuple[Tensor, Tensor]], _Step]] = {
        "bare": (repeat(ready), stepper.step), "ours": (batches(Augmentation()), stepper.step), "augmented": (batches(AUGMENTED), stepper.step)}
    if folder:
        plain = _plain_step(build(model, CLASSES).to(device).train(), stepper)
        sources |= {"folder": (_loader(folder, spec.input, batch, workers, device, False), plain),
                    "folder_augmented": (_loader(folder, spec.input, batch, workers, device, True), plain)}
    row: dict[str, Any] = {"model": model, "batch": batch}
    row |= _rates(sources, device, seconds)
    row["ours / bare"], row["augmented / bare"] = (round(row[k] / row["bare"], 3) for k in ("ours", "augmented"))
    if folder:
        row["ours / folder"], row["augmented / folder_augmented"] = row["ours"] / row["folder"], row["augmented"] / row["folder_augmented"]
    with FlopCounterMode(display=False) as counter:
        stepper.step(*ready)
    row["gflop an image"] = round(counter.get_total_flops() / batch / 1e9, 4)
    row["roofline"] = round(counter.get_total_flops() / batch * row["ours"] / ceiling(device, stepper.dtype), 3)
    if device.type == "cuda":
        row["memory_mb"] = round(torch.cuda.max_memory_allocated(device) / 1e6)
    return {k: round(v, 2) if isinstance(v, float) and v < 100 else round(v) if isinstance(v, float) else v for k, v in row.items()}


def _plain_step(model: nn.Module, like: Stepper) -> _Step:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step(x: Tensor, targets: Tensor) -> None:
        with like.autocast():
            loss = cross_entropy(model(x).float(), targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _rates(sources: dict[str, tuple[Iterable[tuple[Tensor, Tensor]], _Step]], device: torch.device, seconds: float) -> dict[str, float]:
    """Images a second of each source: the median of five turns, in which the sources take turns, so that a busy machine is unfair to none.

    What a loader has fetched ahead while others had their turn is used up before its own is timed.
    """
    open_ = {name: (iter(source), step) for name, (source, step) in sources.items()}
    found: dict[str, list[float]] = {name: [] for name in open_}
    for turn in range(6):
        for name, (batches, step) in open_.items():
            for _ in range(AHEAD if name.startswith("folder") else 1):
                step(*next(batches))
            _wait(device)
            start, images, steps = time.perf_counter(), 0, 0
            while time.perf_counter() - start < seconds / 5 or not steps:
                x, targets = next(batches)
                step(x, targets)
                images, steps = images + len(targets), steps + 1
                if steps % 20 == 0:
                    _wait(device)  # else the clock sees only how fast steps are queued
            _wait(device)
            passed = time.perf_counter() - start
            if turn:  # the first warms up
                found[name].append(images / passed)
    return {name: float(np.median(rates)) for name, rates in found.items()}


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.get_device_module(device).synchronize()


def ceiling(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second on square matrices, the best of a few."""
    n = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(5):
        _wait(device)
        start = time.perf_counter()
        for _ in range(3):
            a @ b
        _wait(device)
        best = max(best, 6 * n**3 / (time.perf_counter() - start))
    return best


def written(root: Path, faces: int) -> Path:
    """The faces as PNG files in class folders."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(faces):
        path = root / str(i % CLASSES) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (12, 12), dtype=np.uint8))  # smooth, so that files are as large as those of faces
        small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path)
    return root


def _loader(folder: Path, wanted: Any, batch: int, workers: int, device: torch.device, augmented: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """The ordinary loop of a PyTorch tutorial: decoded, changed and batched by worker processes."""
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    steps: list[Any] = [transforms.Grayscale(wanted.channels)]
    if augmented:
        steps += [transforms.RandomHorizontalFlip(), transforms.RandomRotation(10)]
    steps += [transforms.CenterCrop(wanted.side) if wanted.side < SIDE else transforms.Resize(wanted.side), transforms.ToTensor(),
              transforms.Normalize(wanted.mean, wanted.std)]
    data = ImageFolder(str(folder), transforms.Compose(steps))
    loader = DataLoader(data, batch, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=workers > 0,
                        pin_memory=device.type == "cuda")
    for x, y in chain.from_iterable(repeat(loader)):
        yield x.to(device, non_blocking=True), y.to(device, non_blocking=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(USUAL))
    parser.add_argument("--batch", default="64", help="one or more sizes, comma-separated")
    parser.add_argument("--faces", type=int, default=4096)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "bfloat16", "float16"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--no-folder", action="store_true", help="leave the ImageFolder loop out")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    torch.set_float32_matmul_precision("high")
    print(f"{name}, torch {torch.__version__}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as scratch:
        folder = None if args.no_folder else written(Path(scratch), args.faces)
        rows = []
        for model in args.models.split(","):
            for batch in map(int, args.batch.split(",")):
                rows.append(measured(model, device=device, batch=batch, faces=max(args.faces, batch), seconds=args.seconds, workers=args.workers,
                                     folder=folder, precision=args.precision, compiled=args.compile))
                if not args.json:
                    _show(rows[-1], header=len(rows) == 1)
    if args.json:
        print(json.dumps({"device": name, "torch": torch.__version__, "rows": rows}, indent=1))


def _show(row: dict[str, Any], header: bool) -> None:
    width = max(map(len, row)) if header else 0
    if header:
        print("\n".join(f"{i}: {name:{width}}" for i, name in enumerate(row)))
    print("  ".join(f"{value!s:>12}" for value in row.values()), flush=True)


if __name__ == "__main__":
    main()
