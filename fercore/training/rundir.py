"""The files of a run directory: read by anybody at any time, so every file but the append-only ones is replaced whole."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Literal, TypedDict

from pydantic import BaseModel, ConfigDict, ValidationError

from fercore.errors import BadInput, NotFound
from fercore.training.config import RunConfig, run_config

HEARTBEAT_S = 2.0
STALE_S = 15.0  # a worker without a heartbeat for this long, and without a process, is dead
State = Literal["queued", "running", "finished", "failed", "cancelled", "dead"]  # dead is seen by readers, never written


_REMEDIES = {"queued": "Wait for it; where it stands: fercore runs show {0}", "running": "Wait for it; where it stands: fercore runs show {0}",
             "dead": "Resume it: fercore runs resume {0}", "cancelled": "Resume it: fercore runs resume {0}",
             "failed": "See why: fercore runs show {0}, and log.txt in its directory; then start it again"}


class Progress(BaseModel):
    """Where training stands. `eta_s` assumes that every fold uses all its epochs; null before the first step."""

    fold: int = 0
    folds: int = 1
    epoch: int = 0
    epochs: int = 0
    images_per_s: float = 0.0
    eta_s: float | None = None
    fraction: float = 0.0
    memory_mb: float | None = None  # most device memory in use so far; null where the device does not say


class ErrorText(BaseModel):
    """The three parts of a FerError."""

    title: str
    detail: str = ""
    remedy: str = ""


class Status(BaseModel):
    """status.json. Times are Unix seconds (heartbeat, queued_at) or ISO 8601 UTC (started_at, finished_at).

    A queued run without a process id waits for `queue.push`; one with it was started by hand and waits by itself.
    """

    model_config = ConfigDict(frozen=True)

    state: State
    pid: int | None = None
    heartbeat: float = 0.0
    queued_at: float = 0.0
    device: str | None = None
    progress: Progress = Progress()
    error: ErrorText | None = None
    started_at: str | None = None
    finished_at: str | None = None
    test_reads: Literal[0, 1] = 0


class Epoch(TypedDict):
    """One line of metrics.jsonl. Losses are mean cross-entropies; train_* are measured while training, with dropout on."""

    fold: int
    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    seconds: float
    images_per_s: float
    best: bool
    learning_rate: float


@dataclass(frozen=True)
class Run:
    """One run directory. `config` is None when config.json cannot be read; `status.error` then says so."""

    run_id: str
    path: Path
    config: RunConfig | None
    status: Status


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block ends well, and leaves nothing behind when it does not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_model(path: Path, model: BaseModel) -> None:
    """Write a pydantic model as JSON, whole or not at all."""
    with replacing(path) as file:
        file.write(model.model_dump_json(indent=1).encode())


def read_config(run_dir: Path) -> RunConfig:
    """Raises: NotFound: no config.json. BadInput: it cannot be used."""
    path = run_dir / "config.json"
    try:
        return run_config(json.loads(path.read_bytes()))
    except FileNotFoundError as e:
        raise NotFound("No such run", f"{path} is missing", "Look up the run with 'fercore runs'") from e
    except ValueError as e:
        raise BadInput("The run's settings cannot be read", f"{path}: {e}", "Start a new run") from e


def read_status(run_dir: Path, stale_s: float = STALE_S) -> Status:
    """status.json, with state 'dead' for a run that says it lives but has neither a recent heartbeat nor a worker.

    Raises:
        NotFound: no status.json.
        BadInput: it cannot be read.
    """
    path = run_dir / "status.json"
    try:
        status = Status.model_validate_json(path.read_bytes())
    except FileNotFoundError as e:
        raise NotFound("No such run", f"{path} is missing", "Look up the run with 'fercore runs'") from e
    except ValidationError as e:
        raise BadInput("The run's status cannot be read", f"{path}: {e.errors()[0]['msg']}", "Resume the run") from e
    silent = time.time() - status.heartbeat
    waits = status.state == "queued" and status.pid is None
    if waits or status.state not in ("queued", "running") or silent < stale_s or has_worker(run_dir):
        return status
    return status.model_copy(update={"state": "dead", "error": ErrorText(
        title="The worker is gone", detail=f"It was {status.state}, its last sign of life is {silent:.0f} s old; see log.txt",
        remedy="Resume the run; it continues after the last complete epoch")})


def remedy(run_id: str, state: State) -> str:
    """What to do about a run in a state other than finished."""
    return _REMEDIES[state].format(run_id)


def lock(path: Path) -> BinaryIO:
    """A file whose lock is held as long as it, or a copy a child process got of it, is open: the system frees it with the last process.

    Raises:
        BlockingIOError: somebody else holds it.
    """
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        file.close()
        raise
    return file


def is_locked(path: Path) -> bool:
    try:
        with lock(path):
            return False
    except BlockingIOError:
        return True


def worker_lock(run_dir: Path) -> Path:
    """What a worker locks as long as it lives; unlike a process id it cannot be somebody else's by now."""
    return run_dir / ".worker.lock"


def has_worker(run_dir: Path) -> bool:
    return is_locked(worker_lock(run_dir))


def read_log(run_dir: Path, most: int = 20_000) -> str:
    """The end of log.txt, whole lines of at most `most` bytes; what a progress bar wrote over itself is left out."""
    try:
        with (run_dir / "log.txt").open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - most, 0))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(line.rpartition("\r")[2] for line in text.split("\n")[1 if len(text) >= most else 0:])


def read_metrics(run_dir: Path) -> list[Epoch]:
    """Complete lines of metrics.jsonl, oldest first; a line still being written, or torn by a kill, is left out."""
    try:
        text = (run_dir / "metrics.jsonl").read_text()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.split("\n")[:-1]]


def append_metrics(run_dir: Path, line: Epoch) -> None:
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def cut_metrics(run_dir: Path, fold: int, epoch: int) -> None:
    """Drop the epochs after (fold, epoch), which a resumed run does again."""
    kept = [line for line in read_metrics(run_dir) if (line["fold"], line["epoch"]) <= (fold, epoch)]
    with replacing(run_dir / "metrics.jsonl") as file:
        file.write("".join(json.dumps(line) + "\n" for line in kept).encode())


def read_run(run_dir: Path) -> Run:
    """One run; never raises for unreadable files, so that one broken run does not hide the others."""
    try:
        return Run(run_dir.name, run_dir, read_config(run_dir), read_status(run_dir))
    except (NotFound, BadInput) as e:
        return Run(run_dir.name, run_dir, None, Status(state="failed", error=ErrorText(**vars(e))))


def list_runs(runs: Path) -> list[Run]:
    """All runs, newest first. Names that start with a dot are locks and half-made runs."""
    found = [read_run(path) for path in runs.iterdir() if path.is_dir() and path.name[0] != "."] if runs.is_dir() else []
    return sorted(found, key=lambda run: (run.config.created_at if run.config else "", run.run_id), reverse=True)
