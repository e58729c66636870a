"""The store: one holder, atomic migrations and writes, stable views, a sealed query."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest

from fercore.domain import Workspace
from fercore.errors import BadInput, WorkspaceError
from fercore.store import Store, connection, labels, query_sealed

VIEWS = {"samples", "images", "votes", "label_events", "findings", "versions", "version_samples", "runs", "epochs", "predictions", "slices"}


def test_the_public_views_exist_and_answer(store: Store) -> None:
    for view in VIEWS:
        assert store.rows(f"SELECT count(*) FROM {view}") == [(0,)]


def test_a_second_process_is_told_who_holds_the_workspace(store: Store) -> None:
    code = ("import sys; from pathlib import Path; from fercore.domain import Workspace; from fercore.store import Store\n"
            "from fercore.errors import FerError\n"
            "try: Store(Workspace(Path(sys.argv[1])), read_only=sys.argv[2] == 'ro')\n"
            "except FerError as e: print(e); sys.exit(2)")
    for mode in ("rw", "ro"):
        done = subprocess.run([sys.executable, "-c", code, str(store.workspace.root), mode], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        held = json.loads(store.workspace.holder.read_text())
        assert f"process {held['pid']}" in done.stdout and "cannot open it" in done.stdout


def test_a_failing_migration_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = connection.migrations()
    broken = [*real, (99, "0099_broken.sql", "CREATE TABLE facts.half (a INTEGER); SELECT * FROM no_such_table")]
    monkeypatch.setattr(connection, "migrations", lambda: broken)
    with pytest.raises(duckdb.CatalogException):
        Store(Workspace(tmp_path))
    monkeypatch.setattr(connection, "migrations", lambda: real)
    with Store(Workspace(tmp_path)) as opened:
        assert opened.schema_number() == real[-1][0]
        assert opened.rows("SELECT count(*) FROM information_schema.tables WHERE table_name = 'half'") == [(0,)]


def test_a_workspace_from_before_the_chain_keeps_its_votes_and_is_chained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = connection.migrations()
    monkeypatch.setattr(connection, "migrations", lambda: real[:1])
    with Store(Workspace(tmp_path)) as old, old.write("labels") as w:
        for n in range(3):
            w.run("INSERT INTO facts.label_event VALUES (uuid(), $n, 'set', 'i', 'expression', $v, NULL, uuid(), 'ann', 'annotator', 'local', "
                  "'single', 5, now()::TIMESTAMP, now()::TIMESTAMP, now()::TIMESTAMP)", {"n": n + 1, "v": ("sad", "fear", "happy")[n]})
    monkeypatch.setattr(connection, "migrations", lambda: real)
    with Store(Workspace(tmp_path)) as opened:
        assert opened.rows("SELECT value, round FROM standing") == [("happy", "vote")]
        assert labels.broken_block(opened) is None and labels.chain_head(opened)[0] == 3 and labels.standing_differences(opened) == 0


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    Store(Workspace(tmp_path)).close()
    with duckdb.connect(str(Workspace(tmp_path).database)) as raw:
        raw.execute("INSERT INTO schema_migration VALUES (99, '0099_future.sql', now()::TIMESTAMP)")
    before = Workspace(tmp_path).database.read_bytes()
    with pytest.raises(WorkspaceError, match="newer version"):
        Store(Workspace(tmp_path))
    assert Workspace(tmp_path).database.read_bytes() == before


def test_another_duckdb_file_is_refused(tmp_path: Path) -> None:
    with duckdb.connect(str(Workspace(tmp_path).database)) as raw:
        raw.execute("CREATE TABLE mine (a INTEGER)")
    with pytest.raises(WorkspaceError, match="Not a fercore workspace"):
        Store(Workspace(tmp_path))


@pytest.mark.parametrize("content", [b"hello", b"x" * 100_000])
def test_a_file_that_is_no_database_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    Workspace(tmp_path).database.write_bytes(content)
    with pytest.raises(WorkspaceError) as caught:
        Store(Workspace(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_workspace_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ws").write_text("x")
    with pytest.raises(WorkspaceError, match="not a folder"):
        Store(Workspace(tmp_path / "ws"))


def test_reading_needs_an_existing_workspace_and_creates_none(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="No workspace here"):
        Store(Workspace(tmp_path / "none"), create=False)
    assert not (tmp_path / "none").exists()


def test_an_interrupted_write_changes_nothing_and_raises_no_revision(store: Store) -> None:
    before, people = store.revision("people"), store.rows("FROM people ORDER BY ALL")
    with pytest.raises(KeyboardInterrupt), store.write("people") as w:
        w.run("INSERT INTO facts.person VALUES ('x', 'X', 'annotator', now()::TIMESTAMP)")
        raise KeyboardInterrupt
    assert store.rows("FROM people ORDER BY ALL") == people and store.revision("people") == before
    with store.write("people") as w:
        w.run("INSERT INTO facts.person VALUES ('x', 'X', 'annotator', now()::TIMESTAMP)")
    assert store.revision("people") > before and store.revision("samples") <= before


def test_reads_and_writes_from_many_threads_agree(store: Store) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(20):
                with store.write("people") as w:
                    w.run("INSERT INTO facts.person VALUES ($i, 'T', 'annotator', now()::TIMESTAMP)", {"i": f"t{number}-{i}"})
                assert store.value("SELECT count(*) FROM people WHERE person_id LIKE $p", {"p": f"t{number}-%"}) == i + 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert store.value("SELECT count(*) FROM people WHERE person_id LIKE 't%'") == 120


def test_sealed_queries_read_views_and_nothing_else(tmp_path: Path) -> None:
    place = Workspace(tmp_path / "ws")
    Store(place).close()
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    assert query_sealed(place, "SELECT count(*) AS n FROM samples")["n"].tolist() == [0]
    out = tmp_path / "out.csv"
    for statement in (f"SELECT * FROM read_csv('{secret}')", f"SELECT * FROM '{secret}'", f"COPY (SELECT 1) TO '{out}'",
                      f"ATTACH '{tmp_path / 'other.duckdb'}' AS other", "SET enable_external_access = true", "RESET lock_configuration",
                      "INSTALL httpfs", "LOAD httpfs", f"EXPORT DATABASE '{tmp_path / 'dump'}'", "DROP VIEW samples", "CREATE TABLE t (a INTEGER)",
                      "INSERT INTO facts.person VALUES ('x', 'x', 'x', NULL)", "SELECT getenv('HOME')", "SELEC 1"):
        with pytest.raises(BadInput, match="The query was refused"):
            query_sealed(place, statement)
    assert not out.exists() and not (tmp_path / "dump").exists() and not (tmp_path / "other.duckdb").exists()


def test_who_waits_for_the_lock_is_written_together_and_a_failure_reaches_everyone(tmp_path: Path) -> None:
    calls: list[list[int]] = []

    def write(values: list[int]) -> None:
        calls.append(values)
        if 13 in values:
            raise ValueError("unlucky")

    with Store(Workspace(tmp_path)) as store:
        failed: list[int] = []

        def work(value: int) -> None:
            try:
                store.together(value, write)
            except ValueError:
                failed.append(value)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(10)]
        with store.write():  # holds the lock until all wait
            for thread in threads:
                thread.start()
            while len(store._waiting) < 10:
                pass
        for thread in threads:
            thread.join()
        assert len(calls) == 1 and sorted(calls[0]) == list(range(10)) and not failed
        with store.write():
            threads = [threading.Thread(target=work, args=(n,)) for n in (13, 14)]
            for thread in threads:
                thread.start()
            while len(store._waiting) < 2:
                pass
        for thread in threads:
            thread.join()
        assert sorted(failed) == [13, 14]
        store.together(15, write)
        assert calls[-1] == [15]
