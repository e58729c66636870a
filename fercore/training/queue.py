"""Which run is next and how many train at once. The queue is the run directories themselves; no process keeps it.

A run in state 'queued' without a process id waits. `push` starts workers for the next ones: whoever queues a run calls it, every worker
at its end and, in case those were killed, whoever looks at the runs.
"""

import logging
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Protocol

from filelock import FileLock

from fercore.errors import BadInput
from fercore.training.rundir import Run, has_worker, is_locked, list_runs, lock, worker_lock, write_model

log = logging.getLogger(__name__)
# What a worker gets of the environment: enough to find Python, its libraries and the devices; no tokens and no passwords.
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "TZ", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "SYSTEMROOT", "FERCORE_DEVICES")
_KEPT_PREFIXES = ("LC_", "PYTHON", "OMP_", "MKL_", "CUDA_", "CUBLAS_", "NVIDIA_", "TORCH_", "PYTORCH_")


class Launcher(Protocol):
    """Where workers run: on this machine, or on a cluster once another class does the same."""

    def room(self) -> int:
        """How many more workers may start now."""

    def start(self, run_dir: Path) -> int:
        """Start a worker. Returns its process id. Raises: OSError: it cannot be started now."""

    def alive(self, run_dir: Path) -> bool:
        """Whether a worker has the run."""


class LocalLauncher:
    """Workers on this machine, one in each slot.

    Run and slot are taken while their files are locked. The locks are taken here and the open files left to the worker, so that whoever is
    killed at whatever moment, no worker is without its locks and no lock without its worker.
    """

    def __init__(self, runs: Path) -> None:
        self.runs = runs

    def room(self) -> int:
        return sum(not is_locked(self._slot_lock(slot)) for slot in range(slots()))

    def start(self, run_dir: Path) -> int:
        with ExitStack() as ours:
            slot, slot_lock = self.take_slot()
            locks = [ours.enter_context(slot_lock).fileno(), ours.enter_context(lock(worker_lock(run_dir))).fileno()]
            output = ours.enter_context((run_dir / "log.txt").open("a"))
            process = subprocess.Popen([sys.executable, "-m", "fercore.training", str(run_dir.resolve()), *map(str, (slot, *locks))],
                                       pass_fds=locks, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                                       env={k: v for k, v in os.environ.items() if k in _KEPT or k.startswith(_KEPT_PREFIXES)})
        threading.Thread(target=process.wait, daemon=True).start()  # takes the ended child off the process table
        return process.pid

    def alive(self, run_dir: Path) -> bool:
        return has_worker(run_dir)

    def take_slot(self) -> tuple[int, BinaryIO]:
        """The number and the lock of a free slot. Raises: BlockingIOError: all are taken."""
        for slot in range(slots()):
            try:
                return slot, lock(self._slot_lock(slot))
            except BlockingIOError:
                continue
        raise BlockingIOError(f"all slots of {self.runs} are taken")

    def _slot_lock(self, slot: int) -> Path:
        return self.runs / f".slot{slot}.lock"


def slots() -> int:
    """How many runs may train at once: FERCORE_DEVICES, else the number of CUDA devices (found without torch), else 1.

    With 0 this process starts no run. Processes of one workspace should see the same devices, since slot k trains on cuda:k.

    Raises:
        BadInput: FERCORE_DEVICES is no number.
    """
    if wanted := os.environ.get("FERCORE_DEVICES"):
        if not wanted.isdecimal():
            raise BadInput("FERCORE_DEVICES is not a number", f"It is {wanted!r}", "Set it to how many runs may train at once, or unset it")
        return int(wanted)
    there = len(list(Path("/dev").glob("nvidia[0-9]*")))
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        there = min(there, len([name for name in visible.split(",") if name.strip() not in ("", "-1")]))
    return there or 1


def guard(runs: Path, timeout_s: float = -1) -> FileLock:
    """Held by whoever starts a run, or changes the status of one that no worker has."""
    return FileLock(runs / ".queue.lock", timeout=timeout_s)


def in_order(runs: Iterable[Run]) -> list[Run]:
    """The waiting runs, next one first: people take turns, so that a study of many runs does not hold up another person's single run."""
    runs = list(runs)
    mine = Counter(run.config.created_by for run in runs if run.config and run.status.state == "running")
    placed = []
    for run in sorted((run for run in runs if run.status.state == "queued"), key=lambda run: (run.status.queued_at, run.run_id)):
        person = run.config.created_by if run.config else ""
        placed.append((mine[person], run))
        mine[person] += 1
    return [run for _, run in sorted(placed, key=lambda place: place[0])]  # stable: equals stay in the order they were queued


def push(runs: Path, launcher: Launcher | None = None, timeout_s: float = -1) -> None:
    """Start workers for the next waiting runs, as many as there is room for. A run that cannot be started now goes on waiting.

    Raises:
        Timeout: for `timeout_s` somebody else has been at it.
    """
    launcher = launcher or LocalLauncher(runs)
    with guard(runs, timeout_s):
        room = launcher.room()
        for run in in_order(list_runs(runs)) if room else ():
            if not room:
                break
            try:
                if not launcher.alive(run.path):  # a run started by hand waits by itself, and its slot is left to it
                    pid = launcher.start(run.path)
                    write_model(run.path / "status.json", run.status.model_copy(update={"state": "running", "pid": pid, "heartbeat": time.time()}))
                room -= 1
            except OSError:
                log.warning("%s cannot be started now", run.run_id, exc_info=True)
