"""Real workers in real processes; every wait polls the run's own files up to a deadline."""

import json
import os
import re
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock

from fercore import jobs
from fercore.domain import Person, Role, Workspace
from fercore.errors import Conflict, NotAllowed, NotFound
from fercore.training.config import run_config
from fercore.training.rundir import Status, has_worker, read_metrics, read_status
from fercore.training.worker import run
from tests.core.version_files import make_version

LEAD, REVIEWER = Person("lena", "Lena", Role.DATA_LEAD), Person("rui", "Rui", Role.REVIEWER)
CONFIG = run_config({"version_id": "blobs-1", "epochs": 6, "patience": 100, "batch_size": 16, "device": "cpu", "flip": True})
LONG = CONFIG.model_copy(update={"epochs": 10_000, "patience": 10_000})
DEADLINE_S = 120


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    workspace = make_version(tmp_path)
    yield workspace
    for left in jobs.list_runs(workspace):  # a failed test leaves no worker behind
        if left.status.pid and has_worker(left.path):
            os.kill(left.status.pid, signal.SIGKILL)


def until(holds: Callable[[], object], what: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.02)


def finish(workspace: Workspace, run_id: str) -> Status:
    return jobs.wait(workspace, run_id, DEADLINE_S, poll_s=0.05)


def predictions(workspace: Workspace, run_id: str) -> pd.DataFrame:
    return pd.read_parquet(workspace.runs / run_id / "predictions.parquet")


def kill(run_dir: Path) -> None:
    pid = read_status(run_dir).pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: not has_worker(run_dir), "the killed worker leaves")


def assert_same_as_uninterrupted(workspace: Workspace, run_id: str) -> None:
    """Compare with the same settings trained in one go, in this process."""
    whole = workspace.runs / f"whole-{run_id}"
    whole.mkdir()
    (whole / "config.json").write_bytes((workspace.runs / run_id / "config.json").read_bytes())
    assert run(whole) == "finished"
    pd.testing.assert_frame_equal(predictions(workspace, run_id), predictions(workspace, whole.name))
    keys = ("fold", "epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "best")
    lines = [[tuple(line[key] for key in keys) for line in read_metrics(workspace.runs / r)] for r in (run_id, whole.name)]
    assert lines[0] == lines[1]


def test_a_killed_run_is_seen_dead_and_resumes_to_the_same_predictions(workspace: Workspace) -> None:
    config = CONFIG.model_copy(update={"protocol": "k_fold", "folds": 2, "epochs": 7})
    run_id = jobs.start(workspace, config, LEAD)
    run_dir = workspace.runs / run_id
    until(lambda: len(read_metrics(run_dir)) >= config.epochs + 2, "the middle of the second fold")
    assert read_status(run_dir, stale_s=0).state == "running"  # alive, however old its heartbeat
    with pytest.raises(Conflict, match="running"):
        jobs.resume(workspace, run_id, LEAD)
    kill(run_dir)
    assert read_status(run_dir).state == "running"  # the heartbeat is still fresh
    dead = read_status(run_dir, stale_s=0)
    assert dead.state == "dead" and dead.error and "Resume" in dead.error.remedy
    assert not (run_dir / "predictions.parquet").exists()
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write('{"fold": 1, "ep')  # as torn by the kill
    jobs.resume(workspace, run_id, LEAD)
    assert finish(workspace, run_id).state == "finished"
    assert "goes on after epoch" in (run_dir / "log.txt").read_text()
    assert_same_as_uninterrupted(workspace, run_id)


def test_a_run_killed_and_then_cancelled_resumes_to_the_same_predictions(workspace: Workspace) -> None:
    run_id = jobs.start(workspace, CONFIG.model_copy(update={"epochs": 16}), LEAD)
    run_dir = workspace.runs / run_id
    until(lambda: len(read_metrics(run_dir)) >= 2, "epochs")
    kill(run_dir)
    jobs.resume(workspace, run_id, LEAD)
    until(lambda: len(read_metrics(run_dir)) >= 5, "more epochs")
    jobs.cancel(workspace, run_id, LEAD)
    cancelled = finish(workspace, run_id)
    assert (cancelled.state, cancelled.error, cancelled.test_reads) == ("cancelled", None, 0)
    assert len(read_metrics(run_dir)) < 16
    with pytest.raises(Conflict, match="cancelled"):
        jobs.cancel(workspace, run_id, LEAD)
    jobs.resume(workspace, run_id, LEAD)
    assert finish(workspace, run_id).state == "finished"
    with pytest.raises(Conflict, match="finished"):
        jobs.resume(workspace, run_id, LEAD)
    assert_same_as_uninterrupted(workspace, run_id)


def test_runs_train_one_at_a_time_in_the_order_of_their_start(workspace: Workspace) -> None:
    first = jobs.start(workspace, LONG, LEAD)
    until(lambda: jobs.status(workspace, first).state == "running", "the first run trains")
    waiting = [jobs.start(workspace, CONFIG.model_copy(update={"epochs": 1, "seed": s}), LEAD) for s in range(3)]
    until(lambda: all(jobs.status(workspace, r).pid for r in waiting), "all workers wait")
    beats = [jobs.status(workspace, r).heartbeat for r in waiting]
    until(lambda: all(jobs.status(workspace, r).heartbeat > b for r, b in zip(waiting, beats, strict=True)), "heartbeats")
    assert [jobs.status(workspace, r).state for r in waiting] == ["queued"] * 3
    jobs.cancel(workspace, waiting[1], LEAD)
    assert finish(workspace, waiting[1]).state == "cancelled"
    pid = jobs.status(workspace, first).pid
    assert pid
    os.kill(pid, signal.SIGTERM)  # a polite kill is a cancel
    order: list[str] = []

    def watch() -> bool:
        states = {r.run_id: r.status.state for r in jobs.list_runs(workspace)}
        running = [r for r, state in states.items() if state == "running"]
        assert len(running) <= 1
        order.extend(r for r in running if r != first and r not in order)
        return all(state in jobs.ENDED for state in states.values())

    until(watch, "all runs end")
    assert jobs.status(workspace, first).state == "cancelled"
    assert order == [waiting[0], waiting[2]]
    assert not (workspace.runs / waiting[1] / "last.ckpt").exists()


def test_a_run_records_who_started_what(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "secret")
    workspace.runs.mkdir()
    with FileLock(workspace.runs / ".device.lock"):  # the device is taken, so the worker waits
        run_id = jobs.start(workspace, LONG, LEAD)
        until(lambda: jobs.status(workspace, run_id).pid, "a worker is there")
        pid = jobs.status(workspace, run_id).pid or 0
        if Path("/proc").is_dir():
            assert b"SOME_TOKEN" not in Path(f"/proc/{pid}/environ").read_bytes()
        assert os.getsid(pid) == pid  # outlives the process and the terminal that started it
        assert jobs.status(workspace, run_id).state == "queued"
        jobs.cancel(workspace, run_id, LEAD)
        assert finish(workspace, run_id).state == "cancelled"
    config = json.loads((workspace.runs / run_id / "config.json").read_text())
    assert re.fullmatch(r"simple_cnn-blobs-1-\d{8}-\d{6}-[0-9a-f]{4}", run_id) and config["run_id"] == run_id
    assert config["created_by"] == "lena" and config["created_at"].endswith("+00:00") and config["manifest_sha256"] == "5" * 64
    assert re.fullmatch(r"[\d.]+\+[0-9a-f]{12}", config["code_version"])


def test_run_ids_never_collide(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter(["aaaa", "aaaa", "aaaa", "bbbb"])
    monkeypatch.setattr(secrets, "token_hex", lambda _: next(draws))
    monkeypatch.setattr(jobs, "_spawn", lambda _: None)
    ids = set()
    for _ in range(2):
        ids.add(jobs.start(workspace, CONFIG, LEAD))
    assert len(ids) == 2 and {r.run_id for r in jobs.list_runs(workspace)} == ids


def test_only_a_data_lead_trains(workspace: Workspace) -> None:
    with pytest.raises(NotAllowed):
        jobs.start(workspace, CONFIG, REVIEWER)
    assert not workspace.runs.exists()
    for act in (jobs.cancel, jobs.resume):
        with pytest.raises(NotAllowed):
            act(workspace, "any", REVIEWER)


@pytest.mark.parametrize("run_id", ["no-such-run", "..", "../versions", ""])
def test_unknown_runs_and_versions_are_not_found(workspace: Workspace, run_id: str) -> None:
    with pytest.raises(NotFound):
        jobs.status(workspace, run_id)
    with pytest.raises(NotFound, match="No such version"):
        jobs.start(workspace, CONFIG.model_copy(update={"version_id": "nowhere"}), LEAD)
    assert jobs.list_runs(workspace) == []
