"""The only place that opens DuckDB: one process owns the file, one lock serialises its writes."""

import copy
import itertools
import json
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any, Generic, TypeVar

import duckdb
import pandas as pd
import pyarrow as pa

from fercore.domain import Workspace
from fercore.errors import BadInput, FerError, NotFound, WorkspaceError

# This process is the only writer, so revisions need no table; they are unique over all stores it opens.
_ticks = itertools.count(1)
Params = Mapping[str, Any]
_NO_NETWORK = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
# Set last and locked, so that a query can neither read a file nor switch the protection off.
_SEALED = {**_NO_NETWORK, "enable_external_access": "false", "lock_configuration": "true"}


def now() -> datetime:
    """The current time in UTC, without a zone, as the store keeps it."""
    return datetime.now(UTC).replace(tzinfo=None)


def migrations() -> list[tuple[int, str, str]]:
    """(number, name, SQL) of every migration this version knows, in order."""
    folder = resources.files("fercore.store") / "schema"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [(int(f.name[:4]), f.name, f.read_text(encoding="utf-8")) for f in files]


T = TypeVar("T")


@dataclass
class Joined(Generic[T]):
    """What one thread wants written, waiting for the write lock."""

    value: T
    done: bool = False
    error: BaseException | None = None


class Store:
    """One open workspace database.

    Reads take a cursor of their own and may come from any thread. Writes go through `write`, one at a time. `holder` is what a second
    process is told about this one; by default its command line.

    Raises:
        WorkspaceError: held by another process, from a newer version, not writable, or not a workspace.
    """

    def __init__(self, workspace: Workspace, *, read_only: bool = False, create: bool = True, holder: str | None = None) -> None:
        self.workspace = workspace
        self._lock = threading.RLock()
        self._opened = next(_ticks)
        self._revisions: dict[str, int] = {}
        self._read_only = read_only
        self._fixed: duckdb.DuckDBPyConnection | None = None  # the cursor of a snapshot
        self._waiting: deque[Joined[Any]] = deque()
        if workspace.root.exists() and not workspace.root.is_dir():
            raise WorkspaceError("The workspace is not a folder", f"{workspace.root} is a file", "Name another folder with --workspace")
        if not workspace.database.exists() and (read_only or not create):
            raise WorkspaceError("No workspace here", f"{workspace.root} holds no fercore.duckdb",
                                 "Import something first (fercore import ...), or make a demo (fercore demo)")
        with translated(workspace):
            if not read_only:
                workspace.root.mkdir(parents=True, exist_ok=True)
                if not os.access(workspace.root, os.W_OK):
                    raise PermissionError(13, "Permission denied", str(workspace.root))
            self._connection = duckdb.connect(str(workspace.database), read_only=read_only,
                                              config=dict(_SEALED if read_only else _NO_NETWORK))
            try:
                self._migrate()
                if not read_only:
                    about = {"pid": os.getpid(), "command": holder or " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
                             "since": datetime.now().astimezone().isoformat(timespec="seconds")}
                    workspace.holder.write_text(json.dumps(about), encoding="utf-8")
            except BaseException:
                self._connection.close()
                raise

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()
        if not self._read_only:
            self.workspace.holder.unlink(missing_ok=True)

    def frame(self, sql: str, params: Params | None = None) -> pd.DataFrame:
        """The result as a data frame."""
        with translated(self.workspace), self._cursor() as cursor:
            return cursor.execute(sql, dict(params or {})).df()

    def rows(self, sql: str, params: Params | None = None) -> list[tuple[Any, ...]]:
        """The result as tuples."""
        with translated(self.workspace), self._cursor() as cursor:
            return cursor.execute(sql, dict(params or {})).fetchall()

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        if self._fixed is not None:
            yield self._fixed
            return
        with self._connection.cursor() as cursor:
            yield cursor

    @contextmanager
    def snapshot(self) -> Iterator[tuple["Store", datetime]]:
        """The store as it is now, to be read by this thread whatever others write meanwhile; and what time it is (UTC)."""
        with translated(self.workspace), self._connection.cursor() as cursor:
            with self._lock:  # nobody is between taking a time and committing it
                cursor.begin()
                cursor.execute("FROM schema_migration")
                at = now()
            fixed = copy.copy(self)
            fixed._fixed = cursor
            yield fixed, at
            cursor.rollback()

    def value(self, sql: str, params: Params | None = None) -> Any:
        """The first column of the first row; None without rows."""
        found = self.rows(sql, params)
        return found[0][0] if found else None

    @contextmanager
    def write(self, *subjects: str) -> Iterator["Writer"]:
        """One transaction: all of the block or nothing. The revisions of `subjects` rise with it."""
        with self._lock, translated(self.workspace), self._connection.cursor() as cursor:
            cursor.begin()
            try:
                yield Writer(cursor)
            except BaseException:  # also a Streamlit rerun or Ctrl-C: nothing half-written stays
                cursor.rollback()
                raise
            cursor.commit()
            self._revisions.update(dict.fromkeys(subjects, next(_ticks)))

    def together(self, value: T, write: Callable[[list[T]], None]) -> None:
        """Calls `write` once with the values of all who wait for the write lock: the first to get it writes for the others (group commit).

        Raises: what `write` raised, for everyone whose value was in that call.
        """
        mine = Joined(value)
        self._waiting.append(mine)
        with self._lock:
            if not mine.done:
                joined = [self._waiting.popleft() for _ in range(len(self._waiting))]
                try:
                    write([j.value for j in joined])
                except BaseException as error:
                    for j in joined:
                        j.error = error
                    raise
                finally:
                    for j in joined:
                        j.done = True
        if mine.error is not None:
            raise mine.error

    def revision(self, *subjects: str) -> int:
        """A number, unique in this process, that rises whenever one of `subjects` changed; caches are keyed by it."""
        return max(self._revisions.get(subject, self._opened) for subject in subjects)

    def schema_number(self) -> int:
        return int(self.value("SELECT max(number) FROM schema_migration"))

    def _migrate(self) -> None:
        known = migrations()
        with self._connection.cursor() as cursor:
            tables = {r[0] for r in cursor.execute("SELECT table_name FROM information_schema.tables").fetchall()}
            if tables and "schema_migration" not in tables:
                raise WorkspaceError("Not a fercore workspace", f"{self.workspace.database} is another DuckDB database",
                                     "Name another folder with --workspace")
            done = {r[0] for r in cursor.execute("SELECT number FROM schema_migration").fetchall()} if tables else set()
            if done and max(done) > known[-1][0]:
                raise WorkspaceError("The workspace is from a newer version",
                                     f"Its schema is number {max(done)}; this fercore knows {known[-1][0]}", "Update fercore")
            pending = [m for m in known if m[0] not in done]
            if pending and self._read_only:
                raise WorkspaceError("The workspace is from an older version", f"{len(pending)} schema steps are missing",
                                     "Open it once with fercore doctor")
            for number, name, sql in pending:
                cursor.begin()
                try:
                    cursor.execute("CREATE TABLE IF NOT EXISTS schema_migration (number INTEGER, name VARCHAR, applied_at TIMESTAMP)")
                    cursor.execute(sql)
                    cursor.execute("INSERT INTO schema_migration VALUES ($n, $name, $at)", {"n": number, "name": name, "at": now()})
                except BaseException:
                    cursor.rollback()
                    raise
                cursor.commit()


class Writer:
    """The open transaction inside `Store.write`."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor = cursor

    def run(self, sql: str, params: Params | None = None) -> list[tuple[Any, ...]]:
        return self._cursor.execute(sql, dict(params or {})).fetchall()

    def bulk(self, sql: str, batch: pa.Table, params: Params | None = None) -> list[tuple[Any, ...]]:
        """Runs `sql`, in which the Arrow table stands as `batch`."""
        self._cursor.register("batch", batch)
        try:
            return self._cursor.execute(sql, dict(params or {})).fetchall()
        finally:
            self._cursor.unregister("batch")


def query_sealed(workspace: Workspace, sql: str) -> pd.DataFrame:
    """Runs one statement of a user: read-only, without access to files, settings locked.

    Raises:
        BadInput: the statement is wrong or not permitted.
    """
    with Store(workspace, read_only=True) as store:
        try:
            with store._connection.cursor() as cursor:
                if not sql.strip(" ;\n\t"):
                    raise BadInput("The query is empty", "There is nothing to run", 'Write for example "SELECT * FROM samples LIMIT 5"')
                return cursor.execute(sql).df()
        except duckdb.Error as error:
            raise BadInput("The query was refused", str(error).splitlines()[0],
                           "Only SELECT over the workspace's own views is possible here") from error


@contextmanager
def translated(workspace: Workspace) -> Iterator[None]:
    """Turns what the database and the file system say into something a person can act on."""
    try:
        yield
    except FerError:
        raise
    except (duckdb.Error, OSError) as error:
        text = str(error)
        if "lock" in text.lower() and "set lock" in text.lower():
            raise WorkspaceError("The workspace is in use", f"{workspace.root} is held by {_holder(workspace)}",
                                 "Close it there, or use the dashboard; a second process cannot open it") from error
        if "No space left" in text:
            raise WorkspaceError("The disk is full", f"{workspace.root} could not be written; nothing was changed",
                                 "Free some space and repeat") from error
        if any(t in text for t in ("Read-only file system", "Permission denied", "Operation not permitted")):
            raise WorkspaceError("The workspace cannot be written", f"{workspace.root} is read-only for you",
                                 "Change its permissions or name another folder with --workspace") from error
        if "newer" in text or "not a valid DuckDB" in text or "different version" in text.lower():
            raise WorkspaceError("The workspace cannot be read", text.splitlines()[0], "Update fercore or restore a backup") from error
        if not isinstance(error, duckdb.IOException | duckdb.FatalException | OSError):
            raise  # a mistake in a statement of ours
        raise WorkspaceError("The workspace cannot be used", text.splitlines()[0], "Run fercore doctor") from error


def _holder(workspace: Workspace) -> str:
    try:
        held = json.loads(workspace.holder.read_text(encoding="utf-8"))
        return f"process {held['pid']} ({held['command']}), since {held['since']}"
    except (OSError, ValueError, KeyError):
        return "another process"


def required(frame: pd.DataFrame, kind: str, name: str) -> dict[str, Any]:
    """The only row of `frame` as a dictionary. Raises: NotFound: there is none."""
    if frame.empty:
        raise NotFound(f"Unknown {kind}", f"{name!r} is not in this workspace")
    return {str(k): v for k, v in frame.iloc[0].to_dict().items()}
