"""The training loop: all images on the device, batches by index, the best epoch by validation loss, the rest predicted once.

A run is deterministic by its seed on one machine, and bitwise equal on a CPU whether or not it was interrupted: `last.ckpt`
carries model, optimizer and random states from one epoch to the next.
"""

import logging
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from fercore.errors import TrainingError
from fercore.models import build
from fercore.training.config import RunConfig
from fercore.training.data import Rows, VersionData, read_version
from fercore.training.folds import Fold, hold_out, k_folds
from fercore.training.rundir import Epoch, Progress, append_metrics, cut_metrics, replacing
from fercore.training.worker import Report

log = logging.getLogger(__name__)
PREDICT_BATCH = 1024


def train(report: Report, config: RunConfig) -> None:
    """Train and predict the run of `report`, from the start or from its last.ckpt.

    Raises:
        FerError: the version, the device or the numbers do not allow it.
        Cancelled: asked to stop; last.ckpt holds the last complete epoch.
    """
    report.stop_if_cancelled()
    data = read_version(report.run_dir.parents[1] / "versions" / config.version_id, config.manifest_sha256)
    folds = k_folds(data, config.folds, config.seed) if config.protocol == "k_fold" else [hold_out(data)]
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    torch.use_deterministic_algorithms(True, warn_only=True)  # some layers have no deterministic form on a GPU: warned in log.txt
    device = pick_device(config.device, report.slot)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # whose random state is saved
    trainer = Trainer(report, config, data, folds, device)
    last = trainer.load_last()
    cut_metrics(report.run_dir, *((last["fold"], last["epoch"]) if last else (-1, 0)))
    for fold in folds[last["fold"] if last else 0:]:
        trainer.fit(fold, last if last and last["fold"] == fold.number else None)
    if config.protocol == "hold_out":
        report.set(test_reads=1)  # before the read, so that a kill cannot hide it
    predictions = pd.concat([trainer.predict(fold) for fold in folds], ignore_index=True)
    with replacing(report.run_dir / "predictions.parquet") as file:
        predictions.to_parquet(file, index=False)
    report.note(report.status.progress.model_copy(update={"fraction": 1.0, "eta_s": 0.0}))


def pick_device(wanted: str, slot: int = 0) -> torch.device:
    """`wanted`, or for "auto" the first of cuda, mps and cpu that is there; of several CUDA devices that of the slot.

    Raises:
        TrainingError: it is not there.
    """
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    there = [name for name, usable in found.items() if usable]
    if wanted not in ("auto", *there):
        raise TrainingError(f"No {wanted} device", f"This machine has {', '.join(there)}", "Start the run with device=auto")
    name = there[0] if wanted == "auto" else wanted
    return torch.device(name, slot % torch.cuda.device_count()) if name == "cuda" else torch.device(name)


class Trainer:
    """Holds what all folds share: the images on the device and where the run stands."""

    def __init__(self, report: Report, config: RunConfig, data: VersionData, folds: list[Fold], device: torch.device) -> None:
        self.report, self.config, self.data, self.folds, self.device = report, config, data, folds, device
        self.run_dir = report.run_dir
        self.x = torch.from_numpy(data.pixels).to(device)  # uint8 [n, 48, 48]
        self.y = torch.from_numpy(data.y).to(device)
        self.noted = 0.0
        report.set(device=str(device))
        log.info("%s, seed %d, device %s, %d threads, torch %s, %d fold(s)", config.model, config.seed, device,
                 torch.get_num_threads(), torch.__version__, len(folds))

    def fit(self, fold: Fold, last: dict[str, Any] | None) -> None:
        """Train one fold until `epochs` or `patience` is used up, going on from `last` when given."""
        torch.manual_seed(self.config.seed * 1000 + fold.number)
        model = self._new_model()
        optimizer = torch.optim.Adam(model.parameters(), lr=self.config.learning_rate)
        epoch, best_epoch, best_loss = 0, 0, math.inf
        if last:
            model.load_state_dict(last["model"])
            optimizer.load_state_dict(last["optimizer"])
            epoch, best_epoch, best_loss = last["epoch"], last["best_epoch"], last["best_loss"]
            self._set_random_state(last["random"])
            if best_epoch == epoch:  # the kill may have come between last.ckpt and the best state
                self._save_best(fold, model)
            log.info("fold %d goes on after epoch %d", fold.number, epoch)
        with SummaryWriter(str(self.run_dir / "tensorboard" / f"fold{fold.number}"), purge_step=epoch + 1) as board:
            while epoch < self.config.epochs and epoch - best_epoch < self.config.patience:
                epoch += 1
                started = time.monotonic()
                train_loss, train_accuracy = self._one_epoch(fold, epoch, model, optimizer)
                images_per_s = len(fold.fit) / (time.monotonic() - started)
                logits, y = self._logits(model, fold.stop), self.y[fold.stop].cpu()
                val_loss = float(cross_entropy(logits, y))
                if not math.isfinite(train_loss + val_loss):
                    raise TrainingError("The loss is no longer a number", f"In epoch {epoch} of fold {fold.number} it became "
                                        f"{train_loss} in training and {val_loss} in validation",
                                        "Start a run with a lower learning_rate")
                if val_loss < best_loss:
                    best_epoch, best_loss = epoch, val_loss
                line = Epoch(fold=fold.number, epoch=epoch, train_loss=train_loss, train_accuracy=train_accuracy,
                             val_loss=val_loss, val_accuracy=float((logits.argmax(1) == y).float().mean()),
                             seconds=time.monotonic() - started, images_per_s=images_per_s, best=best_epoch == epoch)
                log.info("%s", line)
                for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "images_per_s"):
                    board.add_scalar(name, line[name], epoch)
                append_metrics(self.run_dir, line)
                # In this order a kill at any point resumes to the same result: last.ckpt decides where the run stands.
                with replacing(self.run_dir / "last.ckpt") as file:
                    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "random": self._random_state(),
                                "fold": fold.number, "epoch": epoch, "best_epoch": best_epoch, "best_loss": best_loss}, file)
                if best_epoch == epoch:
                    self._save_best(fold, model)

    def predict(self, fold: Fold) -> pd.DataFrame:
        """Rows of predictions.parquet for the held-out rows of `fold`, from its best state."""
        model = self._new_model()
        model.load_state_dict(safetensors.torch.load_file(self._best_path(fold), device=str(self.device)))
        probabilities = self._logits(model, fold.held_out).softmax(1).numpy()
        rows, groups = self.data.samples.iloc[fold.held_out], self.data.samples["duplicate_group"]
        return pd.DataFrame({
            "sample_id": rows["sample_id"].array, "fold": np.int32(fold.number),
            "split": "held_out" if self.config.protocol == "k_fold" else "test", "label": rows["label"].array,
            "predicted": np.array(self.data.classes, dtype=object)[probabilities.argmax(1)], "probabilities": list(probabilities),
            "out_of_fold": ~rows["duplicate_group"].isin(groups.iloc[fold.fit]).to_numpy()})

    def load_last(self) -> dict[str, Any] | None:
        path = self.run_dir / "last.ckpt"
        try:
            return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None
        except OSError:
            raise
        except Exception as e:  # torch has no error of its own for a damaged file
            raise TrainingError("The checkpoint cannot be read", f"{path}: {type(e).__name__}: {str(e).partition(chr(10))[0]}",
                                "Start a new run with the same settings; or delete last.ckpt and resume, and this run starts over") from e

    def _new_model(self) -> nn.Module:
        return build(self.config.model, len(self.data.classes)).to(self.device)

    def _batch(self, rows: Tensor) -> Tensor:
        """float [len(rows), 1, 48, 48], (x / 255 - .5) / .5, so -1..1."""
        return self.x[rows].unsqueeze(1).float().div_(255).sub_(0.5).div_(0.5)

    def _one_epoch(self, fold: Fold, epoch: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[float, float]:
        """Mean loss and accuracy over the training rows, each measured just before its own step."""
        model.train()
        loss_sum, right, seen = torch.zeros((), device=self.device), torch.zeros((), device=self.device), 0
        started = time.monotonic()
        order = torch.from_numpy(fold.fit)[torch.randperm(len(fold.fit))].to(self.device)
        bar = tqdm(total=len(order), desc=f"fold {fold.number} epoch {epoch}", unit=" img", leave=False, disable=None)
        for rows in torch.split(order, self.config.batch_size):
            self.report.stop_if_cancelled()
            y = self.y[rows]
            x = self._batch(rows)
            if self.config.flip:
                mirrored = torch.rand(len(rows), device=self.device) < 0.5
                x = torch.where(mirrored[:, None, None, None], x.flip(-1), x)
            logits = model(x)
            loss = cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            loss_sum += loss.detach() * len(rows)  # kept on the device: reading it would wait for every step
            right += (logits.detach().argmax(1) == y).sum()
            seen += len(rows)
            bar.update(len(rows))
            self._note(fold, epoch, seen, started)
        bar.close()
        return float(loss_sum) / seen, float(right) / seen

    def _logits(self, model: nn.Module, rows: Rows) -> Tensor:
        """float [len(rows), classes] on the CPU, in evaluation mode."""
        model.eval()
        with torch.inference_mode():
            parts = torch.split(torch.from_numpy(rows).to(self.device), PREDICT_BATCH)
            return torch.cat([model(self._batch(part)) for part in parts]).cpu()

    def _note(self, fold: Fold, epoch: int, seen: int, started: float) -> None:
        now = time.monotonic()
        if now - self.noted < 0.5:
            return
        self.noted = now
        epochs, rate = self.config.epochs, seen / (now - started)
        done = sum(len(f.fit) for f in self.folds[:fold.number]) * epochs + len(fold.fit) * (epoch - 1) + seen
        total = sum(len(f.fit) for f in self.folds) * epochs
        self.report.note(Progress(fold=fold.number, folds=len(self.folds), epoch=epoch, epochs=epochs, images_per_s=rate,
                                  eta_s=(total - done) / rate, fraction=done / total))

    def _best_path(self, fold: Fold) -> Path:
        return self.run_dir / (f"best-fold{fold.number}.safetensors" if self.config.protocol == "k_fold" else "best.safetensors")

    def _save_best(self, fold: Fold, model: nn.Module) -> None:
        about = {"model": self.config.model, "classes": ",".join(self.data.classes), "run_id": self.config.run_id,
                 "manifest_sha256": self.config.manifest_sha256}
        with replacing(self._best_path(fold)) as file:
            file.write(safetensors.torch.save(model.state_dict(), about))

    def _random_state(self) -> list[Tensor]:
        """States of the CPU's generator and, on an accelerator, of the device's."""
        more = [] if self.device.type == "cpu" else [torch.get_device_module(self.device).get_rng_state()]
        return [torch.get_rng_state(), *more]

    def _set_random_state(self, states: list[Tensor]) -> None:
        torch.set_rng_state(states[0])
        if self.device.type != "cpu":
            torch.get_device_module(self.device).set_rng_state(states[1])
