"""One worker's life: take the run and a slot, train, say how it ended, and start the next one."""

import errno
import logging
import os
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from fercore.errors import Conflict, FerError
from fercore.training import queue, rundir
from fercore.training.rundir import ErrorText, Progress, State, Status, utc_now

log = logging.getLogger("fercore.training")
QUEUE_POLL_S = 0.3


class Cancelled(Exception):
    """Somebody asked the run to stop."""


class Report:
    """The only writer of status.json while the worker lives. A thread renews the heartbeat every HEARTBEAT_S."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.slot = 0  # on cuda:slot
        before = Status(state="queued", queued_at=time.time())
        with queue.guard(run_dir.parent):  # whoever started this worker has written the status by then
            if (run_dir / "status.json").exists():  # a run started by hand has none
                before = rundir.read_status(run_dir, float("inf"))
        self.status = before.model_copy(update={"pid": os.getpid()})
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self.set()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop_beating()

    def set(self, **changes: object) -> None:
        """Change the status and write it now."""
        with self._lock:
            self.status = self.status.model_copy(update={**changes, "heartbeat": time.time()})
            rundir.write_model(self.run_dir / "status.json", self.status)

    def note(self, progress: Progress) -> None:
        """Change the progress; the next heartbeat writes it."""
        with self._lock:
            self.status = self.status.model_copy(update={"progress": progress})

    def end(self, state: State, error: ErrorText | None = None) -> None:
        log.info("%s%s", state, f": {error.title}. {error.detail}" if error else "")
        self._stop_beating()  # a late heartbeat could overwrite the status of a run that is queued again at once
        try:
            self.set(state=state, error=error, finished_at=utc_now())
        except OSError:
            log.exception("the end could not be written to status.json")

    def stop_if_cancelled(self) -> None:
        """Raises: Cancelled: the file `cancel` lies in the run directory."""
        if (self.run_dir / "cancel").exists():
            raise Cancelled

    def _stop_beating(self) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(rundir.HEARTBEAT_S):
            try:
                self.set()
            except OSError:  # a full disk is reported by whoever writes results
                log.warning("no heartbeat could be written", exc_info=True)


def wait_for_slot(report: Report) -> tuple[int, BinaryIO]:
    """Wait in the queue like the others; the number and the lock of the slot.

    Raises:
        Cancelled: cancelled while waiting.
    """
    runs = report.run_dir.parent
    launcher = queue.LocalLauncher(runs)
    while True:
        report.stop_if_cancelled()
        with queue.guard(runs), suppress(BlockingIOError):
            if (room := launcher.room()) and report.run_dir in [run.path for run in queue.in_order(rundir.list_runs(runs))[:room]]:
                return launcher.take_slot()
        time.sleep(QUEUE_POLL_S)


def run(run_dir: Path, slot: int | None = None, locks: Iterable[BinaryIO] = ()) -> State:
    """Train the run in `run_dir` to its end, whatever that is; the end is in status.json and returned. Then start the next ones.

    Args:
        run_dir: where config.json is.
        slot: the slot that a launcher took for it; None: it waits for one.
        locks: those of the slot and the run, locked; without a slot they are taken here.

    Raises:
        Conflict: another worker has the run.
    """
    handler = logging.FileHandler(run_dir / "log.txt")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        with ExitStack() as held:
            for file in locks if slot is not None else [_take(run_dir)]:
                held.enter_context(file)
            with Report(run_dir) as report:
                _guarded(report, slot, held)
        # Not before the locks are free, and not after a first status that could not be written: the next one would fare no better.
        queue.push(run_dir.parent)
        return report.status.state
    finally:
        log.removeHandler(handler)
        handler.close()


def _take(run_dir: Path) -> BinaryIO:
    try:
        with queue.guard(run_dir.parent):
            return rundir.lock(rundir.worker_lock(run_dir))
    except BlockingIOError as e:
        raise Conflict("The run has a worker already", str(run_dir), "Wait for it, or cancel it") from e


def _guarded(report: Report, slot: int | None, held: ExitStack) -> None:
    try:
        config = rundir.read_config(report.run_dir)
        if slot is None:
            if report.status.state != "queued":  # started again by hand, without a resume
                report.set(state="queued", queued_at=time.time())
            slot, lock = wait_for_slot(report)
            held.enter_context(lock)
        report.slot = slot
        report.set(state="running", started_at=report.status.started_at or utc_now(), finished_at=None, error=None)
        from fercore.training.loop import train  # torch is loaded after the wait: a run that waits by itself stays small

        train(report, config)
        report.end("finished")
    except Cancelled:
        report.end("cancelled")
    except FerError as e:
        report.end("failed", ErrorText(**vars(e)))
    except Exception as e:
        log.exception("stopped with an error")
        cause: BaseException | None = e
        while cause and not isinstance(cause, OSError):  # torch.save hides the system's error behind one of its own
            cause = cause.__context__
        error = ErrorText(title="Training stopped with an error", detail=f"{type(e).__name__}: {e}",
                          remedy="See log.txt in the run directory, then resume the run")
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            error = ErrorText(title="The disk is full", detail=str(cause), remedy="Free some space, then resume the run")
        report.end("failed", error)
