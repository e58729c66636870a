"""The training loop: all images on the device, batches by index, the best epoch by validation, the rest predicted once.

A run is deterministic by its seed on one machine, and bitwise equal on a CPU whether or not it was interrupted: `last.ckpt`
carries model, optimizer, schedule and random states from one epoch to the next.
"""

import json
import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from fercore.errors import TrainingError
from fercore.models import build, spec_of
from fercore.models.network import check_input
from fercore.training.augment import VIEWS, Augmentation, Faces, averaged
from fercore.training.config import RunConfig
from fercore.training.data import Rows, VersionData, read_version
from fercore.training.engine import Rate, Stepper, loss_of, optimizer_of, out_of_memory, prepared
from fercore.training.folds import Fold, hold_out, k_folds
from fercore.training.leaky import leak_report, leaky_split
from fercore.training.rundir import Epoch, Progress, append_metrics, cut_metrics, replacing
from fercore.training.sampling import TrainingRows, balanced, refuse_derived
from fercore.training.soft import shares
from fercore.training.warm import best_path, start_from
from fercore.training.worker import Report

log = logging.getLogger(__name__)
PREDICT_BATCH = 1024  # images, whatever number of faces they are views of


def train(report: Report, config: RunConfig) -> None:
    """Train and predict the run of `report`, from the start or from its last.ckpt.

    Raises:
        FerError: the version, the device, the model or the numbers do not allow it.
        Cancelled: asked to stop; last.ckpt holds the last complete epoch.
    """
    report.stop_if_cancelled()
    data = read_version(report.run_dir.parents[1] / "versions" / config.version_id, config.manifest_sha256)
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    # Some layers have no deterministic form on a GPU: warned in log.txt. The first of the two also loads the compiler, which takes seconds.
    torch.use_deterministic_algorithms(True, warn_only=True) if config.compile else torch.set_deterministic_debug_mode("warn")
    torch.set_float32_matmul_precision("high")  # TF32 on GPUs that have it; nothing changes on a CPU
    device = pick_device(config.device, report.slot)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # whose random state is saved
    with _memory_errors(config):
        Trainer(report, config, data, device).run()
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


@contextmanager
def _memory_errors(config: RunConfig) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if full := out_of_memory(error, config.batch_size):
            raise full from error
        raise


class _Chosen:
    """What one fold trains on: positions in `x` and `y`, which hold the version's faces and then those that balancing made."""

    def __init__(self, trainer: "Trainer", training: TrainingRows) -> None:
        data, device, config = trainer.data, trainer.device, trainer.config
        made = len(training.made)
        self.pixels = torch.cat([trainer.x, torch.from_numpy(training.made).to(device)]) if made else trainer.x
        self.y = torch.from_numpy(np.concatenate([trainer.all_y, training.made_y])).to(device)
        self.rows = torch.from_numpy(np.concatenate([training.rows, len(trainer.all_y) + np.arange(made)]))
        self.draw = None if training.draw_weights is None else torch.from_numpy(training.draw_weights)
        self.class_weights = None if training.class_weights is None else torch.from_numpy(training.class_weights).to(device)
        self.shares = self.weight = None
        if config.labels != "hard":
            self.shares = torch.from_numpy(shares(data)).to(device)  # balancing that makes faces goes with hard labels only
        if config.sample_weights:
            if data.weight is None:
                raise TrainingError("The version has no weights", f"{data.version_id} gives its faces none", "Use sample_weights=false")
            self.weight = torch.from_numpy(np.concatenate([data.weight, np.ones(made, np.float32)])).to(device)

    def __len__(self) -> int:
        return len(self.rows)

    def order(self, device: torch.device) -> Tensor:
        """This epoch's positions: all of them once, or drawn with replacement by weight."""
        place = torch.randperm(len(self.rows)) if self.draw is None else torch.multinomial(self.draw, len(self.rows), replacement=True)
        return self.rows[place].to(device)

    def targets(self, config: RunConfig) -> Tensor:
        """What each position should be in this epoch: class [n], drawn from the votes for `probability`, or shares [n, classes]."""
        if self.shares is None:
            return self.y
        return torch.multinomial(self.shares, 1)[:, 0] if config.labels == "probability" else self.shares


class Trainer:
    """Holds what all folds share: the images on the device and where the run stands."""

    def __init__(self, report: Report, config: RunConfig, data: VersionData, device: torch.device) -> None:
        self.report, self.config, self.data, self.device = report, config, data, device
        self.run_dir, self.spec = report.run_dir, spec_of(config.model)
        self.leaky = leaky_split(data, config.balance, config.seed) if config.protocol == "leaky" else None
        if self.leaky:
            self.folds = [Fold(0, self.leaky.fit, self.leaky.stop, self.leaky.held_out)]
            pixels, self.all_y = self.leaky.pixels, self.leaky.y
        else:
            self.folds = k_folds(data, config.folds, config.seed) if config.protocol == "k_fold" else [hold_out(data)]
            pixels, self.all_y = data.pixels, data.y
        self.x = torch.from_numpy(pixels).to(device)  # uint8 [n, 48, 48]
        self.test_faces = Faces(self.x, self.spec.input, views=config.test_views)
        self.predict_batch = max(PREDICT_BATCH // VIEWS[config.test_views], 1)
        self.noted = 0.0
        report.set(device=str(device))
        log.info("%s, seed %d, device %s, %d threads, torch %s, %d fold(s)", config.model, config.seed, device,
                 torch.get_num_threads(), torch.__version__, len(self.folds))

    def run(self) -> None:
        """All folds from where last.ckpt stands, then the predictions."""
        check_input(self._new_model(), self.spec, len(self.data.classes))
        last = self._last()
        cut_metrics(self.run_dir, *((last["fold"], last["epoch"]) if last else (-1, 0)))
        for fold in self.folds[last["fold"] if last else 0:]:
            self.fit(fold, last if last and last["fold"] == fold.number else None)
        if self.config.protocol != "k_fold":
            self.report.set(test_reads=1)  # before the read, so that a kill cannot hide it
        predictions = self._leaky_predictions() if self.leaky else pd.concat([self.predict(fold) for fold in self.folds], ignore_index=True)
        with replacing(self.run_dir / "predictions.parquet") as file:
            predictions.to_parquet(file, index=False)

    def fit(self, fold: Fold, last: dict[str, Any] | None) -> None:
        """Train one fold until `epochs` or `patience` is used up, going on from `last` when given."""
        config = self.config
        chosen = self._chosen(fold)
        torch.manual_seed(config.seed * 1000 + fold.number)
        model = self._new_model()
        if not last:
            start_from(self.run_dir, config, model, self.data, fold, self.device)
        optimizer = optimizer_of(config.optimizer, model, learning_rate=config.learning_rate, weight_decay=config.weight_decay,
                                 momentum=config.momentum)
        highest = config.monitor == "val_accuracy"
        steps = math.ceil(len(chosen) / config.batch_size)
        rate = Rate(config.schedule, optimizer, epochs=config.epochs, steps=config.epochs * steps, factor=config.plateau_factor,
                    patience=config.plateau_patience, highest=highest)
        stepper = Stepper(model, optimizer, loss_of(config.labels, class_weights=chosen.class_weights, smoothing=config.label_smoothing),
                          self.device, config.precision, config.compile)
        faces = Faces(chosen.pixels, self.spec.input, Augmentation(
            config.flip, config.rotation, config.rotation_p, config.translate, config.translate_p, config.zoom_min, config.zoom_max, config.noise,
            config.erasing, config.train_views))
        epoch, best_epoch, best_figure = 0, 0, -math.inf if highest else math.inf
        if last:
            model.load_state_dict(last["model"])
            optimizer.load_state_dict(last["optimizer"])
            rate.load_state_dict(last["schedule"])
            stepper.scaler.load_state_dict(last["scaler"])
            epoch, best_epoch, best_figure = last["epoch"], last["best_epoch"], last["best_figure"]
            self._set_random_state(last["random"])
            if best_epoch == epoch:  # the kill may have come between last.ckpt and the best state
                self._save_best(fold, model)
            log.info("fold %d goes on after epoch %d", fold.number, epoch)
        with SummaryWriter(str(self.run_dir / "tensorboard" / f"fold{fold.number}"), purge_step=epoch + 1) as board:
            while epoch < config.epochs and epoch - best_epoch < config.patience:
                epoch += 1
                started, used = time.monotonic(), rate.now
                train_loss, train_accuracy = self._one_epoch(fold, epoch, stepper, rate, faces, chosen)
                images_per_s = len(chosen) / (time.monotonic() - started)
                logits, y = self._logits(stepper, fold.stop), torch.from_numpy(self.all_y[fold.stop])
                val_loss, val_accuracy = float(cross_entropy(logits, y)), float((logits.argmax(1) == y).float().mean())
                if not math.isfinite(train_loss + val_loss):
                    raise TrainingError("The loss is no longer a number", f"In epoch {epoch} of fold {fold.number} it became "
                                        f"{train_loss} in training and {val_loss} in validation",
                                        "Start a run with a lower learning_rate")
                figure = val_accuracy if highest else val_loss
                if figure > best_figure if highest else figure < best_figure:
                    best_epoch, best_figure = epoch, figure
                rate.after_epoch(figure)
                line = Epoch(fold=fold.number, epoch=epoch, train_loss=train_loss, train_accuracy=train_accuracy, val_loss=val_loss,
                             val_accuracy=val_accuracy, seconds=time.monotonic() - started, images_per_s=images_per_s, best=best_epoch == epoch,
                             learning_rate=used)
                log.info("%s", line)
                for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "images_per_s", "learning_rate"):
                    board.add_scalar(name, line[name], epoch)
                append_metrics(self.run_dir, line)
                # In this order a kill at any point resumes to the same result: last.ckpt decides where the run stands.
                with replacing(self.run_dir / "last.ckpt") as file:
                    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": rate.state_dict(),
                                "scaler": stepper.scaler.state_dict(), "random": self._random_state(), "fold": fold.number, "epoch": epoch,
                                "best_epoch": best_epoch, "best_figure": best_figure}, file)
                if best_epoch == epoch:
                    self._save_best(fold, model)

    def predict(self, fold: Fold) -> pd.DataFrame:
        """Rows of predictions.parquet for the held-out rows of `fold`, from its best state."""
        probabilities = self._probabilities(fold, fold.held_out)
        return self._rows(fold, fold.held_out, probabilities, "held_out" if self.config.protocol == "k_fold" else "test")

    def _rows(self, fold: Fold, held_out: Rows, probabilities: npt.NDArray[np.float32], split: str) -> pd.DataFrame:
        rows, groups = self.data.samples.iloc[held_out], self.data.samples["duplicate_group"]
        trained = groups.iloc[fold.fit[fold.fit < len(groups)]]
        return pd.DataFrame({
            "sample_id": rows["sample_id"].array, "fold": np.int32(fold.number), "split": split, "label": rows["label"].array,
            "predicted": np.array(self.data.classes, dtype=object)[probabilities.argmax(1)], "probabilities": list(probabilities),
            "out_of_fold": ~rows["duplicate_group"].isin(trained).to_numpy()})

    def _leaky_predictions(self) -> pd.DataFrame:
        """Each face of the leaky test part once; what its copies and the made faces do to the accuracy goes into leak.json."""
        assert self.leaky
        fold = self.folds[0]
        probabilities = self._probabilities(fold, fold.held_out)
        with replacing(self.run_dir / "leak.json") as file:
            file.write(json.dumps(asdict(leak_report(self.leaky, probabilities.argmax(1))), indent=1).encode())
        held, first = np.unique(fold.held_out, return_index=True)
        real = held < len(self.data.y)
        return self._rows(fold, held[real], probabilities[first[real]], "test")

    def _chosen(self, fold: Fold) -> _Chosen:
        if self.leaky:
            return _Chosen(self, TrainingRows(fold.fit, self.data.pixels[:0], self.data.y[:0]))
        if self.config.balance not in ("none", "class_weights", "weighted_sampler"):
            log.info("balancing %d training rows of fold %d by %s", len(fold.fit), fold.number, self.config.balance)
        training = balanced(self.data, fold.fit, self.config.balance, self.config.seed)
        refuse_derived(self.data, training, fold.fit, np.concatenate([fold.stop, fold.held_out]))
        return _Chosen(self, training)

    def _last(self) -> dict[str, Any] | None:
        path = self.run_dir / "last.ckpt"
        try:
            return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None
        except OSError:
            raise
        except Exception as e:  # torch has no error of its own for a damaged file
            raise TrainingError("The checkpoint cannot be read", f"{path}: {type(e).__name__}: {str(e).partition(chr(10))[0]}",
                                "Start a new run with the same settings; or delete last.ckpt and resume, and this run starts over") from e

    def _new_model(self) -> nn.Module:
        return prepared(build(self.config.model, len(self.data.classes), self.config.option), self.device)

    def _one_epoch(self, fold: Fold, epoch: int, stepper: Stepper, rate: Rate, faces: Faces, chosen: _Chosen) -> tuple[float, float]:
        """Mean loss and accuracy over the training rows, each measured just before its own step."""
        stepper.model.train()
        loss_sum, right, seen = torch.zeros((), device=self.device), torch.zeros((), device=self.device), 0
        started, views = time.monotonic(), VIEWS[self.config.train_views]
        targets, order = chosen.targets(self.config), chosen.order(self.device)
        bar = tqdm(total=len(order), desc=f"fold {fold.number} epoch {epoch}", unit=" img", leave=False, disable=None)
        for rows in torch.split(order, self.config.batch_size):
            self.report.stop_if_cancelled()
            wanted, y = targets[rows], chosen.y[rows]
            weights = chosen.weight[rows] if chosen.weight is not None else None
            if views > 1:
                wanted, y = wanted.repeat_interleave(views, 0), y.repeat_interleave(views, 0)
                weights = weights.repeat_interleave(views, 0) if weights is not None else None
            loss, logits = stepper.step(faces.train(rows), wanted, weights)
            rate.after_step()
            loss_sum += loss * len(rows)  # kept on the device: reading it would wait for every step
            right += (logits.argmax(1) == y).sum() / views
            seen += len(rows)
            bar.update(len(rows))
            self._note(fold, epoch, seen, started)
        bar.close()
        return float(loss_sum) / seen, float(right) / seen

    def _logits(self, stepper: Stepper, rows: Rows) -> Tensor:
        """float [len(rows), classes] on the CPU, in evaluation mode."""
        model = stepper.model.eval()
        with torch.inference_mode(), stepper.autocast():
            parts = torch.split(torch.from_numpy(rows).to(self.device), self.predict_batch)
            return torch.cat([averaged(model(self.test_faces.test(part)).float(), self.config.test_views) for part in parts]).cpu()

    def _probabilities(self, fold: Fold, rows: Rows) -> npt.NDArray[np.float32]:
        """float32 [len(rows), classes] by the kept state of the fold."""
        model = self._new_model()
        model.load_state_dict(safetensors.torch.load_file(self._best_path(fold), device=str(self.device)))
        stepper = Stepper(model, torch.optim.SGD(model.parameters()), loss_of("hard"), self.device, self.config.precision)
        found: npt.NDArray[np.float32] = self._logits(stepper, rows).softmax(1).numpy()
        return found

    def _note(self, fold: Fold, epoch: int, seen: int, started: float) -> None:
        now = time.monotonic()
        if now - self.noted < 0.5:
            return
        self.noted = now
        epochs, rate = self.config.epochs, seen / (now - started)
        done = sum(len(f.fit) for f in self.folds[:fold.number]) * epochs + len(fold.fit) * (epoch - 1) + seen
        total = sum(len(f.fit) for f in self.folds) * epochs
        memory = torch.cuda.max_memory_allocated(self.device) / 1e6 if self.device.type == "cuda" else None
        self.report.note(Progress(fold=fold.number, folds=len(self.folds), epoch=epoch, epochs=epochs, images_per_s=rate,
                                  eta_s=max(total - done, 0) / rate, fraction=min(done / total, 1.0), memory_mb=memory))

    def _best_path(self, fold: Fold) -> Path:
        return best_path(self.run_dir, fold.number if self.config.protocol == "k_fold" else None)

    def _save_best(self, fold: Fold, model: nn.Module) -> None:
        about = {"model": self.config.model, "classes": ",".join(self.data.classes), "run_id": self.config.run_id,
                 "manifest_sha256": self.config.manifest_sha256}
        with replacing(self._best_path(fold)) as file:
            file.write(safetensors.torch.save({k: v.contiguous() for k, v in model.state_dict().items()}, about))

    def _random_state(self) -> list[Tensor]:
        """States of the CPU's generator and, on an accelerator, of the device's."""
        more = [] if self.device.type == "cpu" else [torch.get_device_module(self.device).get_rng_state()]
        return [torch.get_rng_state(), *more]

    def _set_random_state(self, states: list[Tensor]) -> None:
        torch.set_rng_state(states[0])
        if self.device.type != "cpu":
            torch.get_device_module(self.device).set_rng_state(states[1])
