"""The command line: data on stdout, one line and exit code 2 when something cannot be done."""

import json
import os
import resource
import subprocess
from pathlib import Path
from typing import Any

import pytest
from helpers import fer_line, fercore, fercore_process, refused, some_faces, write_fer
from PIL import Image
from uuid_utils import uuid7

from fercore import curation
from fercore.domain import Person, Role, Workspace
from fercore.store import Store


def test_import_audit_version_and_sql_from_the_shell(tmp_path: Path, small_file: Path) -> None:
    ws = tmp_path / "ws"
    first = fercore_process("import", "fer2013", small_file, "--licence", "made for tests", "--json", workspace=ws)
    assert first.returncode == 0 and json.loads(first.stdout)["added"] == 70
    again = fercore("import", "fer2013", small_file, workspace=ws)
    assert again.returncode == 0 and "Nothing changed" in again.stdout
    audit = {row["kind"]: row for row in json.loads(fercore_process("audit", "--json", workspace=ws).stdout)}
    assert audit["exact_duplicate"]["redundant"] == 3
    card = json.loads(fercore_process("version", "build", "--name", "x", "--json", workspace=ws).stdout)
    assert card["version_id"] == "x-v1"
    assert json.loads(fercore("version", "verify", "x-v1", "--json", workspace=ws).stdout)["verified"] is True
    for field in ("purpose", "collection", "uses", "contact"):
        assert fercore("version", "datasheet", "x-v1", "--answer", field, "For tests", workspace=ws).returncode == 0
    assert "needs 1 reviewer and 1 data lead" in fercore("version", "submit", "x-v1", workspace=ws).stderr
    refused(fercore_process("version", "approve", "x-v1", workspace=ws), "Somebody else must decide")
    for name in ("Lee", "Max"):
        assert fercore("people", "--add", name, "--role", "data_lead", workspace=ws).returncode == 0
    assert "still needs 1 reviewer" in fercore("version", "approve", "x-v1", "--as", "lee", workspace=ws).stderr
    assert "is approved (local, not authenticated)" in fercore("version", "approve", "x-v1", "--as", "max", workspace=ws).stderr
    assert json.loads(fercore("version", "list", "--json", workspace=ws).stdout)[0]["state"] == "approved"
    assert json.loads(fercore_process("sql", "SELECT count(*) AS n FROM samples", "--json", workspace=ws).stdout) == [{"n": 70}]
    refused(fercore("sql", "SELECT * FROM read_csv('/etc/passwd')", workspace=ws), "The query was refused")
    doctor = json.loads(fercore_process("doctor", "--json", workspace=ws).stdout)
    assert doctor["samples"] == 70 and doctor["version x-v1"] == "verified"


@pytest.mark.parametrize(("make", "part"), [
    (lambda p: p / "missing.csv", "No such file"), (lambda p: p, "Not a file"), (lambda p: write_fer(p / "a.txt", ["x"], header="hello"), "Not a FER-2013 CSV"),
    (lambda p: (p / "e.csv").touch() or p / "e.csv", "The file is empty"),
])
def test_bad_files_are_one_line_and_no_workspace_appears(tmp_path: Path, make: Any, part: str) -> None:
    refused(fercore("import", "fer2013", make(tmp_path), workspace=tmp_path / "ws"), part)
    assert not (tmp_path / "ws").exists()


def test_a_gzip_cut_short_leaves_the_workspace_empty(tmp_path: Path) -> None:
    path = write_fer(tmp_path / "f.csv.gz", [fer_line(i % 7, f) for i, f in enumerate(some_faces(50))])
    path.write_bytes(path.read_bytes()[:-5000])
    refused(fercore("import", "fer2013", path, workspace=tmp_path / "ws"), "cut short")
    with Store(Workspace(tmp_path / "ws")) as store:
        assert store.rows("SELECT count(*) FROM images") == [(0,)]


def test_commands_say_who_holds_the_workspace_and_file_commands_go_on(tmp_path: Path, small_file: Path) -> None:
    ws = tmp_path / "ws"
    fercore_process("import", "fer2013", small_file, workspace=ws)
    fercore_process("version", "build", "--name", "x", workspace=ws)
    with Store(Workspace(ws)):
        for args in (("audit",), ("sql", "SELECT 1"), ("import", "fer2013", small_file)):
            refused(fercore_process(*args, workspace=ws), f"is held by process {os.getpid()}")
        for args in (("version", "verify", "x-v1"), ("version", "list"), ("runs",)):
            assert fercore_process(*args, workspace=ws).returncode == 0


def test_a_disk_that_fills_up_leaves_the_old_state(tmp_path: Path, small_file: Path) -> None:
    """A limit on file size stands in for the full disk where no small file system can be mounted."""
    ws = tmp_path / "ws"
    fercore_process("import", "fer2013", small_file, workspace=ws)
    mount = tmp_path / "small"
    mount.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(mount)], capture_output=True).returncode == 0
    big = write_fer(tmp_path / "big.csv", [fer_line(i % 7, f) for i, f in enumerate(some_faces(3000, seed=4))])
    try:
        if mounted:
            target = mount / "ws"
            fercore_process("import", "fer2013", small_file, workspace=target)
            refused(fercore_process("import", "fer2013", big, "--name", "big", workspace=target), "The disk is full")
        else:
            target = ws
            done = fercore_process("import", "fer2013", big, "--name", "big", workspace=target,
                           preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000)))
            assert done.returncode != 0
        assert json.loads(fercore_process("sql", "SELECT count(*) AS n FROM samples", "--json", workspace=target).stdout) == [{"n": 70}]
    finally:
        if mounted:
            subprocess.run(["umount", str(mount)], check=True)


def test_a_read_only_workspace_is_one_line(tmp_path: Path, small_file: Path) -> None:
    ws = tmp_path / "ws"
    fercore("import", "fer2013", small_file, workspace=ws)
    if subprocess.run(["mount", "--bind", "-o", "ro", str(ws), str(ws)], capture_output=True).returncode == 0:
        try:
            refused(fercore("audit", workspace=ws), "cannot be written")
        finally:
            subprocess.run(["umount", str(ws)], check=True)
    elif os.getuid() != 0:
        ws.chmod(0o555)
        try:
            refused(fercore("audit", workspace=ws), "cannot be written")
        finally:
            ws.chmod(0o755)
    else:
        pytest.skip("root without the right to mount: nothing is read-only for this user")


def test_help_names_every_command_and_each_has_a_text(tmp_path: Path) -> None:
    text = fercore("--help", workspace=tmp_path).stdout
    for name in ("demo", "serve", "doctor", "sql", "import", "audit", "version", "models", "schemes", "train", "runs", "evaluate", "gallery", "bias"):
        assert name in text
        shown = fercore(name, "--help", workspace=tmp_path)
        assert shown.returncode == 0 and len(shown.stdout.strip().splitlines()) > 3


def test_a_demo_touches_nothing_that_is_not_its_own(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "photos").mkdir(parents=True)
    (mine / "thesis.txt").write_text("years")
    fercore("people", "--add", "Ann", workspace=mine)
    refused(fercore("demo", "--workspace", mine, workspace=mine), "The folder is not empty")
    assert (mine / "thesis.txt").read_text() == "years" and (mine / "photos").is_dir() and (mine / "fercore.duckdb").is_file()


def test_doctor_names_a_changed_event_and_rebuilds_the_votes(tmp_path: Path, small_file: Path) -> None:
    ws = tmp_path / "ws"
    fercore("import", "fer2013", str(small_file), workspace=ws)
    with Store(Workspace(ws)) as store:
        face = store.value("SELECT image_id FROM images LIMIT 1")
        curation.record(store, Person("ann", "Ann", Role.ANNOTATOR), [
            {"event_id": str(uuid7()), "op": "set", "image_id": face, "field": "expression", "value": "sad", "gesture": str(uuid7())}])
        with store.write("labels") as w:
            w.run("UPDATE projection.standing SET value = 'happy'")
    report = fercore("doctor", "--json", workspace=ws)
    assert report.returncode == 2 and "2 rows differ" in json.loads(report.stdout)["current votes"] and "1 events" in json.loads(report.stdout)["event chain"]
    assert json.loads(fercore("doctor", "--json", "--rebuild", workspace=ws).stdout)["current votes"].startswith("equal")
    with Store(Workspace(ws)) as store, store.write("labels") as w:
        w.run("UPDATE facts.label_event SET value = 'happy'")
    assert "an event was changed" in json.loads(fercore("doctor", "--json", workspace=ws).stdout)["event chain"]


def test_a_broken_version_file_is_named_and_doctor_goes_on(tmp_path: Path, small_file: Path) -> None:
    ws = tmp_path / "ws"
    fercore("import", "fer2013", small_file, workspace=ws)
    fercore("version", "build", "--name", "x", workspace=ws)
    fercore("version", "build", "--name", "x", workspace=ws)
    (ws / "versions" / "x-v1" / "version.json").write_text("{")
    report = fercore("doctor", "--json", workspace=ws)
    assert report.returncode == 2 and "cannot be read" in json.loads(report.stdout)["version x-v1"]
    assert json.loads(report.stdout)["version x-v2"] == "verified"
    refused(fercore("version", "show", "x-v1", workspace=ws), "The version cannot be read")


def test_doctor_names_an_original_that_is_not_what_it_was(tmp_path: Path) -> None:
    ws = tmp_path / "ws"
    for i, face in enumerate(some_faces(3)):
        (tmp_path / "set" / "happy").mkdir(parents=True, exist_ok=True)
        Image.fromarray(face).save(tmp_path / "set" / "happy" / f"{i}.png")
    fercore("import", "folder", tmp_path / "set", "--name", "x", workspace=ws)
    assert json.loads(fercore("doctor", "--json", workspace=ws).stdout)["originals"] == "3 files: verified"
    pack, = (ws / "originals").glob("*.pack")
    data = bytearray(pack.read_bytes())
    data[-5] ^= 1
    pack.write_bytes(data)
    report = fercore("doctor", "--json", workspace=ws)
    assert report.returncode == 2 and json.loads(report.stdout)["originals"].startswith("3 files: 1 damaged or gone, the first is")
    pack.unlink()
    assert json.loads(fercore("doctor", "--json", workspace=ws).stdout)["originals"].startswith("3 files: 3 damaged")


def test_a_setting_cannot_change_the_version_or_its_approval(tmp_path: Path, small_file: Path) -> None:
    ws = tmp_path / "ws"
    fercore("import", "fer2013", small_file, workspace=ws)
    fercore("version", "build", "--name", "x", workspace=ws)
    for setting in ("version_id=other-v1", "exploratory=false"):
        refused(fercore("train", "simple_cnn", "--version", "x-v1", "--set", setting, workspace=ws), "Unknown setting")


def test_unknown_things_are_named(tmp_path: Path, small_file: Path) -> None:
    ws = tmp_path / "ws"
    fercore("import", "fer2013", small_file, workspace=ws)
    for args, part in ((("version", "show", "nothing-v1"), "Unknown version"), (("evaluate", "nothing"), "Unknown run"), (("bias", "../x"), "Unknown run"),
                       (("version", "build", "--as", "nobody"), "Unknown person"), (("sql", " ; "), "The query is empty"), (("runs", "cancel", "nothing"), "No such run")):
        refused(fercore(*args, workspace=ws), part)
    fercore("people", "--add", "Ann", workspace=ws)
    for name, part in (("nobody", "Unknown person"), ("ann", "may not read results"), ("local-data-lead", "Unknown run")):  # before any minute of ranking
        refused(fercore("suspects", "nothing", "--as", name, workspace=ws), part)
    fercore("version", "build", "--name", "x", workspace=ws)
    refused(fercore("train", "simple_cnn", "--version", "x-v1", "--set", "epoch=3", workspace=ws), "Unknown setting")
    refused(fercore("train", "no_such_net", "--version", "x-v1", workspace=ws), "Unknown preset or model")
