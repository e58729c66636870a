"""Start, watch, cancel and resume runs. See `fercore.training.queue` for who trains when."""

import hashlib
import json
import os
import secrets
import time
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from fercore.domain import Permission, Person, Workspace
from fercore.errors import BadInput, Conflict, NotFound
from fercore.training import queue, rundir
from fercore.training.config import RunConfig
from fercore.training.queue import in_order
from fercore.training.rundir import Run, Status, has_worker, read_status, utc_now, write_model
from fercore.versions.files import state

ENDED = ("finished", "failed", "cancelled", "dead")


def start(workspace: Workspace, config: RunConfig, actor: Person) -> str:
    """Queue a run; its worker starts as soon as a device is free. Returns the run id.

    `config` needs no identity fields, and whether the run is exploratory is decided here, by the version's state. A given
    manifest_sha256 is kept, so that the worker refuses another version.

    Raises:
        NotAllowed: the actor may not train.
        NotFound: no such version.
        BadInput: the version cannot be read.
    """
    actor.require(Permission.TRAIN)
    sha256 = config.manifest_sha256 or _manifest_sha256(workspace, config.version_id)
    workspace.runs.mkdir(parents=True, exist_ok=True)
    run_dir, now = _free_run_dir(workspace, config)
    config = config.model_copy(update={"run_id": run_dir.name, "manifest_sha256": sha256, "created_by": actor.person_id,
                                       "created_at": now.isoformat(timespec="milliseconds"), "code_version": code_version(),
                                       "exploratory": state(workspace, config.version_id) != "approved"})
    half_made = workspace.runs / f".{run_dir.name}.{os.getpid()}"
    half_made.mkdir()
    write_model(half_made / "config.json", config)
    write_model(half_made / "status.json", Status(state="queued", heartbeat=time.time(), queued_at=time.time()))
    half_made.rename(run_dir)  # readers see a whole run or none; fails rather than take over a run made meanwhile
    queue.push(workspace.runs)
    return run_dir.name


def status(workspace: Workspace, run_id: str) -> Status:
    """Raises: NotFound: no such run. BadInput: its status cannot be read."""
    now = read_status(_run_dir(workspace, run_id))
    if now.state == "queued":
        _nudge(workspace)
    elif now.state == "dead":
        list_runs(workspace)  # it could not start the next one itself
    return now


def list_runs(workspace: Workspace) -> list[Run]:
    """All runs, newest first."""
    found = rundir.list_runs(workspace.runs)
    if any(run.status.state == "queued" for run in found):
        _nudge(workspace)
    return found


def place_in_queue(workspace: Workspace, run_id: str) -> int:
    """1 for the waiting run that starts next; 0 for a run that does not wait. Raises: NotFound: no such run."""
    run_dir = _run_dir(workspace, run_id)
    return next((place for place, run in enumerate(in_order(rundir.list_runs(workspace.runs)), 1) if run.path == run_dir), 0)


def wait(workspace: Workspace, run_id: str, timeout_s: float | None = None, poll_s: float = 0.2) -> Status:
    """The status of the run once it has ended, or after `timeout_s`, whichever comes first."""
    deadline = time.monotonic() + (float("inf") if timeout_s is None else timeout_s)
    while (now := status(workspace, run_id)).state not in ENDED and time.monotonic() < deadline:
        time.sleep(poll_s)
    return now


def cancel(workspace: Workspace, run_id: str, actor: Person) -> None:
    """Ask the worker to stop; it does at its next step, `wait` for the end. A run without a worker yet is cancelled at once.

    Raises:
        NotAllowed: the actor may not train.
        NotFound: no such run.
        Conflict: the run has ended.
    """
    actor.require(Permission.TRAIN)
    run_dir = _run_dir(workspace, run_id)
    with queue.guard(workspace.runs):
        before = read_status(run_dir)
        if before.state in ENDED:
            raise Conflict("The run has ended", f"{run_id} is {before.state}", "Nothing needs to be cancelled")
        if before.state == "queued" and not has_worker(run_dir):
            write_model(run_dir / "status.json", before.model_copy(update={"state": "cancelled", "finished_at": utc_now()}))
        else:
            (run_dir / "cancel").touch()


def resume(workspace: Workspace, run_id: str, actor: Person) -> None:
    """Queue a dead, failed or cancelled run again; it goes on after its last complete epoch.

    Raises:
        NotAllowed: the actor may not train.
        NotFound: no such run.
        Conflict: the run is finished, waiting or running.
    """
    actor.require(Permission.TRAIN)
    run_dir = _run_dir(workspace, run_id)
    with queue.guard(workspace.runs):
        before = read_status(run_dir)
        gone = before.state == "running" and not has_worker(run_dir)  # killed so lately that its heartbeat is still fresh
        if before.state not in ("failed", "cancelled", "dead") and not gone:
            raise Conflict("The run cannot be resumed", f"{run_id} is {before.state}",
                           "Start a new run" if before.state == "finished" else "Wait for it, or cancel it first")
        (run_dir / "cancel").unlink(missing_ok=True)
        write_model(run_dir / "status.json", before.model_copy(update={
            "state": "queued", "pid": None, "heartbeat": time.time(), "queued_at": time.time(), "error": None, "finished_at": None}))
    queue.push(workspace.runs)


def code_version() -> str:
    """Release of fercore and a hash over the sources that decide a run's result."""
    sources = sorted(path for folder in ("models", "training") for path in (Path(__file__).parent / folder).glob("*.py"))
    return f"{version('fercore')}+{hashlib.sha256(b''.join(path.read_bytes() for path in sources)).hexdigest()[:12]}"


def _nudge(workspace: Workspace) -> None:
    with suppress(OSError):  # whoever only looks neither waits nor fails for the queue's sake
        if queue.LocalLauncher(workspace.runs).room():
            queue.push(workspace.runs, timeout_s=0)


def _run_dir(workspace: Workspace, run_id: str) -> Path:
    path = workspace.runs / run_id
    if path.parent != workspace.runs or not path.is_dir():
        raise NotFound("No such run", f"{run_id!r} is not in {workspace.runs}", "Look up the run with 'fercore runs'")
    return path


def _free_run_dir(workspace: Workspace, config: RunConfig) -> tuple[Path, datetime]:
    while True:
        now = datetime.now(UTC)
        path = workspace.runs / f"{config.model}-{config.version_id}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        if not path.exists():
            return path, now


def _manifest_sha256(workspace: Workspace, version_id: str) -> str:
    path = workspace.versions / version_id / "version.json"
    try:
        return str(json.loads(path.read_bytes())["manifest_sha256"])
    except FileNotFoundError as e:
        raise NotFound("No such version", f"{path} is missing", "Look up the version with 'fercore version list'") from e
    except (ValueError, KeyError) as e:
        raise BadInput("The version cannot be read", f"{path}: {type(e).__name__}: {e}", "Build the version again") from e

