"""Long work that goes on beside the page: one of a kind at a time, seen by everybody who opens the page, and cancelled from it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from dashboard import access, cache
from fercore.domain import Permission, Person
from fercore.errors import Conflict, FerError

_LOCK = threading.Lock()
_KEPT = 100  # outcomes that wait for somebody to look at them
Progress = Callable[[str, float], None]  # what is being done, and the share of all that is done


class Cancelled(Exception):
    """The person at the page wants no more of it."""


@dataclass
class Task:
    """Work in a thread; `result` or `error` is there when it is `over`, neither if it was cancelled."""

    title: str
    person: str
    doing: str = "Starting"
    share: float = 0.0
    result: Any = None
    error: BaseException | None = None
    over: bool = False
    began: float = field(default_factory=time.monotonic)
    stop: threading.Event = field(default_factory=threading.Event)
    needs: Permission = Permission.IMPORT  # to see and to cancel it

    def progress(self, doing: str, share: float) -> None:
        """Raises: Cancelled: somebody pressed Cancel."""
        if self.stop.is_set():
            raise Cancelled
        self.doing, self.share = doing, min(max(share, 0.0), 1.0)

    @property
    def left(self) -> str:
        """Time left, once a guess is worth showing."""
        passed = time.monotonic() - self.began
        if passed < 3 or self.share < 0.02:
            return ""
        seconds = passed / self.share * (1 - self.share)
        return f"about {seconds / 60:.0f} min left" if seconds > 90 else f"about {seconds:.0f} s left"


@st.cache_resource
def _of(workspace: str) -> dict[str, Task]:
    return {}


def _tasks() -> dict[str, Task]:
    return _of(str(cache.store().workspace.root))


def start(kind: str, title: str, person: Person, work: Callable[[Progress], Any], needs: Permission = Permission.IMPORT) -> Task:
    """Runs `work` of somebody who has the permission in a thread and returns at once. It must call nothing of Streamlit.

    Raises:
        Conflict: work of this kind is under way.
    """
    with _LOCK:
        before = _tasks().get(kind)
        if before and not before.over:
            raise Conflict(f"{before.title} is under way", f"{before.person} started it", "Wait until it ends, or cancel it")
        for old in [k for k, t in _tasks().items() if t.over][:-_KEPT]:
            dismiss(old)
        task = _tasks()[kind] = Task(title, person.name, needs=needs)

    def run() -> None:
        try:
            task.result = work(task.progress)
        except Cancelled:
            pass
        except BaseException as error:  # shown, and raised again, on the page that waits for it
            task.error = error
        finally:
            task.over = True

    threading.Thread(target=run, name=f"task-{kind}", daemon=True).start()
    return task


def shown(kind: str) -> Task | None:
    """Draws work of this kind that is under way, with a bar and a button to cancel; returns it once it is over, and None if there is none.

    What is over stays until `dismiss`, so that whoever started it finds the outcome when they come back. An error that nobody expected is raised.
    """
    task = _tasks().get(kind)
    if task is None:
        return None
    if not task.over:
        _bar(kind)
        return None
    if isinstance(task.error, FerError | OSError):
        st.error(access.plain(str(task.error)), icon=":material/error:")
    elif task.error:
        dismiss(kind)
        raise task.error
    return task


def running(kind: str) -> bool:
    task = _tasks().get(kind)
    return task is not None and not task.over


def dismiss(kind: str) -> None:
    _tasks().pop(kind, None)


@st.fragment(run_every=0.5)
def _bar(kind: str) -> None:
    task = _tasks().get(kind)
    if task is None or task.over or not access.actor().may(task.needs):
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(task.share, access.plain(" · ".join(part for part in (task.title, task.doing, f"{task.share:.0%}", task.left) if part)))
        if st.button("Cancel", key=f"cancel-{kind}", icon=":material/cancel:", disabled=task.stop.is_set()):
            task.stop.set()
