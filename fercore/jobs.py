"""Start, watch, cancel and resume runs. See `fercore.training.queue` for who trains when."""

import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from fercore.domain import Permission, Person, Workspace, slug
from fercore.errors import BadInput, Conflict, NotAllowed, NotFound
from fercore.training import ensemble as ensembles
from fercore.training import queue, rundir
from fercore.training.config import SETTINGS, RunConfig
from fercore.training.queue import in_order
from fercore.training.rundir import Progress, Run, Status, has_worker, read_status, utc_now, write_model
from fercore.versions.files import card, folds, state, trainable, verified
from fercore.versions.record import copy_problems

MOST = 500  # runs of one study
ENDED = ("finished", "failed", "cancelled", "dead")


def start(workspace: Workspace, config: RunConfig, actor: Person, *, own_code: bool = False) -> str:
    """Queue a run; its worker starts as soon as a device is free. Returns the run id.

    `config` needs no identity fields. A given manifest_sha256 is kept, so that the worker refuses another version. A version that nobody approved is
    trained on only where `config.exploratory` says that this is meant; on an approved one the mark is taken off.

    Args:
        own_code: a model of one's own, "module:function", and files of weights may be named: on the command line, not from a page.

    Raises:
        NotAllowed: the actor may not train, or names code or a file without `own_code`.
        NotFound: no such version, run or file.
        BadInput: the version cannot be read.
        Conflict: the version is not approved and the run not exploratory, its files are not what was frozen or approved, or it has other folds.
    """
    run_id = _queue(workspace, config, actor, own_code)
    queue.push(workspace.runs)
    return run_id


def start_study(workspace: Workspace, name: str, configs: Sequence[RunConfig], actor: Person, *, own_code: bool = False) -> list[str]:
    """Queue the runs of a grid that the study does not have yet, and return their ids; the same call again goes on where one was cut off.

    Raises:
        As `start`. BadInput: no run, or more than MOST of them.
    """
    if not 0 < len(configs) <= MOST:
        raise BadInput("Not a study", f"{len(configs):,} runs", f"Vary settings so that there are 1 to {MOST} runs")
    study = slug(name)
    here = [_settings(r.config) for r in rundir.list_runs(workspace.runs) if r.config and r.config.study == study]
    new = [c for i, c in enumerate(configs) if _settings(c) not in here and c not in configs[:i]]
    started = [_queue(workspace, c.model_copy(update={"study": study}), actor, own_code) for c in new]
    queue.push(workspace.runs)
    return started


def ensemble(workspace: Workspace, members: Sequence[str], actor: Person) -> str:
    """A finished run whose probabilities are the mean of those of `members`. Returns its id. It reads the test faces of hold-out runs once more.

    Raises:
        NotAllowed: the actor may not train. NotFound: no such run. BadInput: they make no ensemble.
    """
    actor.require(Permission.TRAIN)
    for member in members:
        _run_dir(workspace, member)
    config, found = ensembles.config_of(workspace.runs, members), ensembles.predictions(workspace.runs, members)

    def add_predictions(half_made: Path) -> None:
        with rundir.replacing(half_made / "predictions.parquet") as file:
            found.to_parquet(file, index=False)

    done = Status(state="finished", queued_at=time.time(), started_at=utc_now(), finished_at=utc_now(), test_reads=0 if config.folds else 1,
                  progress=Progress(fraction=1.0))
    return _made(workspace, config, actor, done, add_predictions)


def startable(workspace: Workspace, config: RunConfig, actor: Person, *, own_code: bool = False) -> RunConfig:
    """The configuration as `start` would queue it. Raises: as `start`."""
    actor.require(Permission.TRAIN)
    if not own_code and (":" in config.model or config.weights):
        raise NotAllowed("This is for the command line", f"{config.model}{config.weights and ' with ' + config.weights} names code or a file",
                         "Start the run with 'fercore train'")
    if config.protocol == "ensemble":
        raise BadInput("An ensemble is not trained", "Its members are", "Use 'fercore ensemble RUN RUN'")
    if config.warm_start:
        _run_dir(workspace, config.warm_start)
    standing = state(workspace, config.version_id)
    if not (trainable(standing) or config.exploratory):
        raise Conflict("The version is not approved", f"{config.version_id} is {standing.replace('_', ' ')}",
                       "Have it approved, or start an exploratory run (--exploratory), which is marked as such")
    if problems := [*verified(workspace, config.version_id), *copy_problems(workspace, config.version_id)]:
        raise Conflict(f"The version is not what was {'approved' if trainable(standing) else 'frozen'}", f"{config.version_id}: {problems[0]}",
                       f"See 'fercore version verify {config.version_id}'; restore it from a backup, or freeze it anew")
    if config.protocol == "k_fold" and (own := folds(card(workspace, config.version_id))) not in (0, config.folds):
        raise Conflict("The version has folds of its own", f"{config.version_id} was frozen in {own} folds, the run asks for {config.folds}",
                       f"Use folds={own}, or a version without folds")
    config, sha256 = config.model_copy(update={"exploratory": not trainable(standing)}), config.weights_sha256
    if config.weights:
        path = Path(config.weights).resolve()
        if not path.is_file():
            raise NotFound("No such file", str(path), "Check the path of the weights")
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        config = config.model_copy(update={"weights": str(path)})
    return config.model_copy(update={"weights_sha256": sha256})


def _queue(workspace: Workspace, config: RunConfig, actor: Person, own_code: bool) -> str:
    ready = startable(workspace, config, actor, own_code=own_code)
    return _made(workspace, ready, actor, Status(state="queued", heartbeat=time.time(), queued_at=time.time()), lambda _: None)


def _made(workspace: Workspace, config: RunConfig, actor: Person, status: Status, fill: Callable[[Path], None]) -> str:
    sha256 = config.manifest_sha256 or _manifest_sha256(workspace, config.version_id)
    workspace.runs.mkdir(parents=True, exist_ok=True)
    run_dir, now = _free_run_dir(workspace, config)
    config = config.model_copy(update={"run_id": run_dir.name, "manifest_sha256": sha256, "created_by": actor.person_id,
                                       "created_at": now.isoformat(timespec="milliseconds"), "code_version": code_version()})
    half_made = workspace.runs / f".{run_dir.name}.{os.getpid()}"
    half_made.mkdir()
    write_model(half_made / "config.json", config)
    write_model(half_made / "status.json", status)
    fill(half_made)
    half_made.rename(run_dir)  # readers see a whole run or none; fails rather than take over a run made meanwhile
    return run_dir.name


def _settings(config: RunConfig) -> dict[str, object]:
    """What makes two runs of a study the same."""
    return config.model_dump(include={*SETTINGS, "version_id"})


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
        name = re.sub(r"[^\w.-]+", "-", config.model if config.protocol != "ensemble" else "ensemble")
        path = workspace.runs / f"{name}-{config.version_id}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
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

