"""Work beside the page: one of a kind at a time, cancelled at its next step, and its end is kept for whoever asks."""

import threading
from contextlib import nullcontext

import pytest
from helpers import ANNOTATOR, LEAD, REVIEWER

from dashboard import tasks
from fercore.errors import BadInput, Conflict
from fercore.store import Store

pytestmark = pytest.mark.usefixtures("app_store")


def ended(task: tasks.Task) -> tasks.Task:
    for thread in threading.enumerate():
        if thread.name.startswith("task-"):
            thread.join(10)
    assert task.over
    return task


def test_one_of_a_kind_at_a_time_and_cancel_stops_it_at_its_next_step() -> None:
    go = threading.Event()

    def work(progress: tasks.Progress) -> str:
        progress("Reading", 0.25)
        assert go.wait(10)
        progress("Reading", 0.5)
        return "never"

    task = tasks.start("import", "Import", LEAD, work)
    assert tasks.running("import") and not tasks.running("audit")
    with pytest.raises(Conflict, match="Import is under way"):
        tasks.start("import", "Another", REVIEWER, work)
    other = tasks.start("audit", "Audit", REVIEWER, lambda progress: 7)
    task.stop.set()
    go.set()
    ended(task)
    assert (task.result, task.error, task.share) == (None, None, 0.25) and ended(other).result == 7
    assert tasks.start("import", "Again", LEAD, lambda progress: "done") is not task


def test_the_bar_gives_way_when_somebody_may_no_longer_import(monkeypatch: pytest.MonkeyPatch) -> None:
    class Rerun(Exception):
        pass

    def rerun() -> None:
        raise Rerun

    go = threading.Event()
    task = tasks.start("import", "Import", LEAD, lambda progress: go.wait(10))
    monkeypatch.setattr(tasks.st, "rerun", rerun)
    for person in (LEAD, ANNOTATOR):  # a fragment runs without the page, and so without its check
        monkeypatch.setattr(tasks.access, "actor", lambda person=person: person)
        with pytest.raises(Rerun) if person is ANNOTATOR else nullcontext():
            tasks._bar.__wrapped__("import")
    go.set()
    ended(task)


@pytest.mark.parametrize("error", [BadInput("No room"), OSError(28, "No space left on device")])
def test_what_went_wrong_is_said_in_a_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(progress: tasks.Progress) -> None:
        raise error

    told = list[str]()
    monkeypatch.setattr(tasks.st, "error", lambda text, icon: told.append(text))
    ended(tasks.start("import", "Import", LEAD, work))
    assert tasks.shown("import") is not None and told == [tasks.access.plain(str(error))]


def test_an_error_is_kept_for_the_page(app_store: Store) -> None:
    def work(progress: tasks.Progress) -> None:
        raise BadInput("The file is empty")

    task = ended(tasks.start("import", "Import", LEAD, work))
    assert isinstance(task.error, BadInput) and not tasks.running("import")
    tasks.dismiss("import")
    assert tasks.shown("import") is None


def test_time_left_is_told_once_it_is_a_guess_worth_making() -> None:
    task = tasks.Task("Import", "Dana")
    task.share = 0.5
    assert task.left == ""
    task.began -= 100
    assert task.left == "about 2 min left"
    task.began += 90
    assert task.left == "about 10 s left"
    task.share = 0.0
    assert task.left == ""
