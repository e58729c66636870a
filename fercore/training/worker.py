"""One worker's life: take the run, wait for the device, train, and say how it ended."""

import errno
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from fercore.errors import Conflict, FerError
from fercore.training import rundir
from fercore.training.rundir import ErrorText, Progress, State, Status, utc_now

log = logging.getLogger("fercore.training")
QUEUE_POLL_S = 0.3


class Cancelled(Exception):
    """Somebody asked the run to stop."""


class Report:
    """The only writer of status.json while the worker lives. A thread renews the heartbeat every HEARTBEAT_S."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        before = Status(state="queued", queued_at=time.time())
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
        self._stop.set()
        self._thread.join()

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
        try:
            self.set(state=state, error=error, finished_at=utc_now())
        except OSError:
            log.exception("the end could not be written to status.json")

    def stop_if_cancelled(self) -> None:
        """Raises: Cancelled: the file `cancel` lies in the run directory."""
        if (self.run_dir / "cancel").exists():
            raise Cancelled

    def _beat(self) -> None:
        while not self._stop.wait(rundir.HEARTBEAT_S):
            try:
                self.set()
            except OSError:  # a full disk is reported by whoever writes results
                log.warning("no heartbeat could be written", exc_info=True)


@contextmanager
def device_turn(report: Report) -> Iterator[None]:
    """Hold the device; wait in state 'queued' until no run that was queued earlier still waits and nobody trains.

    Raises:
        Cancelled: cancelled while waiting.
    """
    runs, mine = report.run_dir.parent, (report.status.queued_at, report.run_dir.name)
    lock = FileLock(runs / ".device.lock", timeout=0)

    def taken() -> bool:
        waiting = [(r.status.queued_at, r.run_id) for r in rundir.list_runs(runs) if r.status.state == "queued"]
        if mine > min(waiting, default=mine):
            return False
        try:
            lock.acquire()
        except Timeout:
            return False
        return True

    while not taken():
        report.stop_if_cancelled()
        time.sleep(QUEUE_POLL_S)
    try:
        report.set(state="running", started_at=report.status.started_at or utc_now(), finished_at=None, error=None)
        yield
    finally:
        lock.release()


def run(run_dir: Path) -> State:
    """Train the run in `run_dir` to its end, whatever that is; the end is in status.json and returned.

    Raises:
        Conflict: another worker has the run.
    """
    handler = logging.FileHandler(run_dir / "log.txt")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        with rundir.worker_lock(run_dir, timeout_s=10), Report(run_dir) as report:  # a cancelled worker leaves in a moment
            _guarded(report)
            return report.status.state
    except Timeout as e:
        raise Conflict("The run has a worker already", str(run_dir), "Wait for it, or cancel it") from e
    finally:
        log.removeHandler(handler)
        handler.close()


def _guarded(report: Report) -> None:
    try:
        config = rundir.read_config(report.run_dir)
        with device_turn(report):
            from fercore.training.loop import train  # torch is loaded after the wait: a queued worker stays small

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
