"""Real workers in real processes; every wait polls the run's own files up to a deadline."""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
import pytest

from fercore import cli, jobs
from fercore.domain import Person, Role, Workspace
from fercore.errors import BadInput, Conflict, NotAllowed, NotFound
from fercore.training import queue, rundir
from fercore.training.config import RunConfig, run_config
from fercore.training.rundir import Status, has_worker, read_metrics, read_status, write_model
from fercore.training.worker import Report, run
from tests.core.version_files import make_version

LEAD, REVIEWER = Person("lena", "Lena", Role.DATA_LEAD), Person("rui", "Rui", Role.REVIEWER)
CONFIG = run_config({"version_id": "blobs-1", "epochs": 6, "patience": 100, "batch_size": 16, "device": "cpu", "flip": True, "exploratory": True})
LONG = CONFIG.model_copy(update={"epochs": 10_000, "patience": 10_000})
DEADLINE_S = 120


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    workspace = make_version(tmp_path)
    monkeypatch.delenv("FERCORE_DEVICES", raising=False)
    yield workspace
    monkeypatch.setenv("FERCORE_DEVICES", "0")
    while left := [process for _, process in processes(workspace)]:  # also those that one of them starts meanwhile
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=10)


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


def test_a_killed_and_then_cancelled_run_resumes_to_the_same_predictions(workspace: Workspace) -> None:
    config = CONFIG.model_copy(update={"protocol": "k_fold", "folds": 2, "epochs": 12})
    run_id = jobs.start(workspace, config, LEAD)
    run_dir = workspace.runs / run_id
    until(lambda: len(read_metrics(run_dir)) >= 2, "the first fold trains")
    assert read_status(run_dir, stale_s=0).state == "running"  # alive, however old its heartbeat
    with pytest.raises(Conflict, match="running"):
        jobs.resume(workspace, run_id, LEAD)
    kill(run_dir)
    assert read_status(run_dir).state == "running"  # the heartbeat is still fresh
    dead = read_status(run_dir, stale_s=0)
    assert dead.state == "dead" and dead.error and "Resume" in dead.error.remedy
    assert not (run_dir / "predictions.parquet").exists()
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write('{"fold": 0, "ep')  # as torn by the kill
    jobs.resume(workspace, run_id, LEAD)
    until(lambda: len(read_metrics(run_dir)) >= config.epochs + 2, "the middle of the second fold")
    assert "goes on after epoch" in (run_dir / "log.txt").read_text()
    jobs.cancel(workspace, run_id, LEAD)
    cancelled = finish(workspace, run_id)
    assert (cancelled.state, cancelled.error, cancelled.test_reads) == ("cancelled", None, 0)
    assert len(read_metrics(run_dir)) < 2 * config.epochs
    with pytest.raises(Conflict, match="cancelled"):
        jobs.cancel(workspace, run_id, LEAD)
    jobs.resume(workspace, run_id, LEAD)
    assert finish(workspace, run_id).state == "finished"
    with pytest.raises(Conflict, match="finished"):
        jobs.resume(workspace, run_id, LEAD)
    assert_same_as_uninterrupted(workspace, run_id)


def short(seed: int = 0) -> RunConfig:
    return CONFIG.model_copy(update={"epochs": 1, "seed": seed})


def states(workspace: Workspace) -> dict[str, str]:
    """As files say, without the push that jobs.list_runs gives the queue."""
    return {r.run_id: r.status.state for r in rundir.list_runs(workspace.runs)}


def processes(workspace: Workspace) -> list[tuple[str, psutil.Process]]:
    """Run and process of every worker of this workspace that lives."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if "fercore.training" in words and process.info["status"] != psutil.STATUS_ZOMBIE:
            found += [(Path(word).name, process) for word in words if word.startswith(f"{workspace.runs}/")]
    return found


def workers(workspace: Workspace) -> list[str]:
    return sorted(run_id for run_id, _ in processes(workspace))


def trainings(workspace: Workspace, run_id: str) -> int:
    """How often the run was begun."""
    return (workspace.runs / run_id / "log.txt").read_text().count(", device cpu,")


def in_another_process(workspace: Workspace, code: str) -> subprocess.Popen[bytes]:
    before = "import os, sys; from pathlib import Path; from fercore.training import queue; runs = Path(sys.argv[1]); "
    return subprocess.Popen([sys.executable, "-c", before + code, str(workspace.runs)])


def test_one_device_trains_one_run_at_a_time_and_waiting_runs_are_no_processes(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    first = jobs.start(workspace, LONG, LEAD)
    waiting = [jobs.start(workspace, short(seed), LEAD) for seed in range(3)]
    until(lambda: read_metrics(workspace.runs / first), "the first run trains")
    assert [jobs.place_in_queue(workspace, r) for r in [first, *waiting]] == [0, 1, 2, 3]
    assert [jobs.status(workspace, r).state for r in waiting] == ["queued"] * 3
    assert workers(workspace) == [first]
    for run_id in waiting:  # however long it waits, it is not dead
        path = workspace.runs / run_id / "status.json"
        write_model(path, read_status(path.parent).model_copy(update={"heartbeat": 0.0}))
    assert [jobs.status(workspace, r).state for r in waiting] == ["queued"] * 3
    with pytest.raises(Conflict, match="queued"):
        jobs.resume(workspace, waiting[0], LEAD)
    jobs.cancel(workspace, waiting[1], LEAD)  # ends at once, although nobody runs it
    assert states(workspace)[waiting[1]] == "cancelled" and not (workspace.runs / waiting[1] / "log.txt").exists()
    with pytest.raises(Conflict, match="cancelled"):
        jobs.cancel(workspace, waiting[1], LEAD)
    assert [jobs.place_in_queue(workspace, r) for r in waiting] == [1, 0, 2]
    cli.app(["runs", "--workspace", str(workspace.root), "--json"], standalone_mode=False)
    assert {row["run"]: row["place"] for row in json.loads(capsys.readouterr().out)} == {first: None, waiting[0]: 1, waiting[1]: None, waiting[2]: 2}
    pid = jobs.status(workspace, first).pid
    assert pid
    os.kill(pid, signal.SIGTERM)  # a polite kill is a cancel
    order: list[str] = []

    def watch() -> bool:
        now = states(workspace)
        assert len(workers(workspace)) <= 2  # one that leaves, one that begins
        order.extend(r for r, state in now.items() if state == "running" and r not in (first, *order))
        return all(state in jobs.ENDED for state in now.values())

    until(watch, "all runs end, each started by the one before")
    assert states(workspace)[first] == "cancelled"
    assert order == [waiting[0], waiting[2]]
    assert not (workspace.runs / waiting[1] / "last.ckpt").exists()


def test_two_slots_train_two_runs_at_once(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERCORE_DEVICES", "2")
    runs = [jobs.start(workspace, LONG.model_copy(update={"seed": seed}), LEAD) for seed in range(3)]
    until(lambda: all(read_metrics(workspace.runs / r) for r in runs[:2]), "two runs train")
    assert workers(workspace) == sorted(runs[:2]) and states(workspace)[runs[2]] == "queued"
    jobs.cancel(workspace, runs[0], LEAD)
    until(lambda: read_metrics(workspace.runs / runs[2]), "the third takes the free slot")
    assert states(workspace) == {runs[0]: "cancelled", runs[1]: "running", runs[2]: "running"}


def test_people_take_turns(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERCORE_DEVICES", "0")
    other = Person("otto", "Otto", Role.DATA_LEAD)
    study = [jobs.start(workspace, short(seed), LEAD) for seed in range(4)]
    single = [jobs.start(workspace, short(seed), other) for seed in range(2)]
    names = {run_id: f"{who}{n}" for who, ids in (("l", study), ("o", single)) for n, run_id in enumerate(ids)}

    def order() -> str:
        return " ".join(names[r.run_id] for r in queue.in_order(rundir.list_runs(workspace.runs)))

    assert order() == "l0 o0 l1 o1 l2 l3"
    assert [jobs.place_in_queue(workspace, r) for r in study] == [1, 3, 5, 6]
    write_model(workspace.runs / study[0] / "status.json", Status(state="running", pid=1, heartbeat=time.time()))
    assert order() == "o0 l1 o1 l2 l3"  # what trains counts as well
    write_model(workspace.runs / study[0] / "status.json", Status(state="finished"))
    assert order() == "l1 o0 l2 o1 l3"
    assert workers(workspace) == []


def test_the_queue_drains_after_its_starter_has_gone_and_past_a_run_that_fails(workspace: Workspace) -> None:
    code = ("from fercore import jobs; from tests.core.test_jobs import LEAD, LONG, short; from fercore.domain import Workspace; "
            "jobs.verified = lambda *_: (); w = Workspace(runs.parent); first, damaged, _ = [jobs.start(w, c, LEAD) for c in (LONG, short(1), short(2))]; "
            "(runs / damaged / 'last.ckpt').write_bytes(b'PK torn'); jobs.cancel(w, first, LEAD); os.kill(os.getpid(), 9)")
    assert in_another_process(workspace, code).wait(DEADLINE_S) == -signal.SIGKILL
    until(lambda: all(state in jobs.ENDED for state in states(workspace).values()), "all runs end, though nobody looks through jobs")
    failed, others = (sorted(r for r, state in states(workspace).items() if (state == "failed") == wanted) for wanted in (True, False))
    assert sorted(states(workspace)[r] for r in others) == ["cancelled", "finished"]
    error = read_status(workspace.runs / failed[0]).error
    assert error and error.title == "The checkpoint cannot be read"


def test_after_a_kill_whoever_looks_pushes_the_next_run(workspace: Workspace) -> None:
    first = jobs.start(workspace, LONG, LEAD)
    one, two, three = following = [jobs.start(workspace, short(seed), LEAD) for seed in range(3)]
    until(lambda: read_metrics(workspace.runs / first), "the first run trains")
    kill(workspace.runs / first)
    assert workers(workspace) == [] and states(workspace)[one] == "queued"
    assert len(jobs.list_runs(workspace)) == 4
    assert states(workspace)[one] == "running" and has_worker(workspace.runs / one)
    kill(workspace.runs / one)  # before it lives: torch is not loaded yet
    assert jobs.status(workspace, two).state == "queued"
    assert states(workspace)[two] == "running"
    kill(workspace.runs / two)
    write_model(workspace.runs / two / "status.json", read_status(workspace.runs / two).model_copy(update={"heartbeat": 0.0}))
    assert states(workspace)[three] == "queued"
    assert jobs.status(workspace, two).state == "dead"
    assert states(workspace)[three] == "running"
    for run_id in (one, two):
        jobs.resume(workspace, run_id, LEAD)
    assert [finish(workspace, r).state for r in following] == ["finished"] * 3


@pytest.mark.parametrize("step", [
    "queue.LocalLauncher.start = die",
    "queue.subprocess.Popen = die",
    "real = queue.subprocess.Popen; queue.subprocess.Popen = lambda *a, **k: (real(*a, **k), die())",
    "queue.write_model = die",
    "real = queue.write_model; queue.write_model = lambda *a: (real(*a), die())",
], ids=["before the start", "with the locks", "after the spawn", "before the status", "after the status"])
def test_a_push_killed_at_any_step_neither_loses_the_run_nor_starts_it_twice(workspace: Workspace, step: str,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERCORE_DEVICES", "0")
    run_id = jobs.start(workspace, short(), LEAD)
    monkeypatch.delenv("FERCORE_DEVICES")
    die = "die = lambda *a, **k: os.kill(os.getpid(), 9); "
    assert in_another_process(workspace, f"{die}{step}; queue.push(runs)").wait(DEADLINE_S) == -signal.SIGKILL
    until(lambda: all(r.status.state in jobs.ENDED for r in jobs.list_runs(workspace)), "it ends")
    assert states(workspace) == {run_id: "finished"} and trainings(workspace, run_id) == 1
    assert "Traceback" not in (workspace.runs / run_id / "log.txt").read_text()


def test_eight_pushes_at_once_start_every_run_once(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERCORE_DEVICES", "0")
    runs = [jobs.start(workspace, short(seed), LEAD) for seed in range(3)]
    monkeypatch.setenv("FERCORE_DEVICES", "2")
    with queue.guard(workspace.runs):  # they stand in a row before it, and go on together
        pushes = [in_another_process(workspace, f"(runs / '.ready{n}').touch(); [queue.push(runs) for _ in range(20)]") for n in range(8)]
        until(lambda: len(list(workspace.runs.glob(".ready*"))) == 8, "all are there")
    seen = 0
    while any(push.poll() is None for push in pushes):
        seen = max(seen, len(workers(workspace)))
    assert [push.returncode for push in pushes] == [0] * 8
    until(lambda: all(state in jobs.ENDED for state in states(workspace).values()), "all runs end")
    assert seen <= 3  # two that train, one that leaves
    assert set(states(workspace).values()) == {"finished"} and [trainings(workspace, r) for r in runs] == [1, 1, 1]


def test_a_cancel_in_the_middle_of_a_push_is_not_lost(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERCORE_DEVICES", "0")
    run_id = jobs.start(workspace, short(), LEAD)
    monkeypatch.delenv("FERCORE_DEVICES")
    # It has read that the run waits, and gives the cancel a second to come in between.
    code = ("import time; real = queue.list_runs; "
            "queue.list_runs = lambda runs: (real(runs), (runs / '.listed').touch(), time.sleep(1))[0]; queue.push(runs)")
    push = in_another_process(workspace, code)
    until(lambda: (workspace.runs / ".listed").exists(), "the push has read the runs")
    jobs.cancel(workspace, run_id, LEAD)
    assert push.wait(DEADLINE_S) == 0
    assert finish(workspace, run_id).state == "cancelled"


def test_a_worker_reads_its_status_after_its_starter_has_written_it(workspace: Workspace) -> None:
    run_dir = workspace.runs / "starts"
    run_dir.mkdir(parents=True)
    write_model(run_dir / "status.json", Status(state="queued"))
    with ThreadPoolExecutor() as pool:
        with queue.guard(workspace.runs):
            report = pool.submit(Report, run_dir)
            wait([report], timeout=0.5)
            write_model(run_dir / "status.json", Status(state="running", pid=1))
        assert report.result().status.state == "running"


def test_a_run_started_by_hand_waits_for_a_slot_and_keeps_its_place(workspace: Workspace) -> None:
    first = jobs.start(workspace, LONG, LEAD)
    by_hand = workspace.runs / "by-hand"
    by_hand.mkdir()
    write_model(by_hand / "config.json", short().model_copy(update={"manifest_sha256": "5" * 64}))
    process = subprocess.Popen([sys.executable, "-m", "fercore.training", str(by_hand)])
    until(lambda: states(workspace).get("by-hand") == "queued", "it waits")
    last = jobs.start(workspace, LONG, LEAD)
    assert [jobs.place_in_queue(workspace, r) for r in ("by-hand", last)] == [1, 2]
    with pytest.raises(Conflict, match="has a worker already"):
        run(by_hand)
    jobs.cancel(workspace, first, LEAD)
    assert process.wait(DEADLINE_S) == 0 and states(workspace)["by-hand"] == "finished"
    until(lambda: states(workspace)[last] == "running", "the run by hand starts the next one")


def test_a_run_that_cannot_be_started_does_not_hold_up_the_next(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERCORE_DEVICES", "0")
    stuck, good = (jobs.start(workspace, short(seed), LEAD) for seed in range(2))
    (workspace.runs / stuck / "log.txt").mkdir()  # in the way of the file
    monkeypatch.delenv("FERCORE_DEVICES")
    assert len(jobs.list_runs(workspace)) == 2
    assert finish(workspace, good).state == "finished" and states(workspace)[stuck] == "queued"


def test_a_worker_gets_no_secrets_and_outlives_its_starter(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "secret")
    monkeypatch.setenv("FERCORE_DEVICES", "1")
    first = jobs.start(workspace, LONG, LEAD)
    second = jobs.start(workspace, LONG, LEAD)
    jobs.cancel(workspace, first, LEAD)
    until(lambda: read_metrics(workspace.runs / second), "the second run trains, started by the first")
    pid = jobs.status(workspace, second).pid or 0
    if Path("/proc").is_dir():
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"SOME_TOKEN" not in environment and b"FERCORE_DEVICES" in environment
    assert os.getsid(pid) == pid  # outlives the process and the terminal that started it
    assert os.getpriority(os.PRIO_PROCESS, pid) == max(10, os.getpriority(os.PRIO_PROCESS, 0))


def test_a_run_records_who_started_what(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERCORE_DEVICES", "0")
    run_id = jobs.start(workspace, CONFIG, LEAD)
    config = json.loads((workspace.runs / run_id / "config.json").read_text())
    assert re.fullmatch(r"simple_cnn-blobs-1-\d{8}-\d{6}-[0-9a-f]{4}", run_id) and config["run_id"] == run_id
    assert config["created_by"] == "lena" and config["created_at"].endswith("+00:00") and config["manifest_sha256"] == "5" * 64
    assert re.fullmatch(r"[\d.]+\+[0-9a-f]{12}", config["code_version"])


@pytest.mark.parametrize(("wanted", "nodes", "visible", "number"), [
    (None, 0, None, 1), (None, 4, None, 4), (None, 4, "0,3", 2), (None, 4, "", 1), (None, 4, "-1", 1), (None, 1, "GPU-a,GPU-b", 1),
    ("2", 0, None, 2), ("2", 4, "0", 2), ("0", 4, None, 0), ("", 4, None, 4),
])
def test_there_is_a_slot_for_every_device(monkeypatch: pytest.MonkeyPatch, wanted: str | None, nodes: int, visible: str | None,
                                          number: int) -> None:
    for name, value in (("FERCORE_DEVICES", wanted), ("CUDA_VISIBLE_DEVICES", visible)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    monkeypatch.setattr(Path, "glob", lambda *_: iter(range(nodes)))
    assert queue.slots() == number


def test_a_wrong_number_of_devices_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERCORE_DEVICES", "two")
    with pytest.raises(BadInput, match="FERCORE_DEVICES"):
        queue.slots()


def test_run_ids_never_collide(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter(["aaaa", "aaaa", "aaaa", "bbbb"])
    monkeypatch.setattr(secrets, "token_hex", lambda _: next(draws))
    monkeypatch.setenv("FERCORE_DEVICES", "0")
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
    with pytest.raises(NotFound, match="Unknown version"):
        jobs.start(workspace, CONFIG.model_copy(update={"version_id": "nowhere"}), LEAD)
    assert jobs.list_runs(workspace) == []
