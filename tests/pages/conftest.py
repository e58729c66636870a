"""Fixtures of the page tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import ANNOTATOR, LEAD, REVIEWER

from dashboard import cache
from fercore import ingest
from fercore.store import Store
from fercore.store import people as people_table


@pytest.fixture
def peopled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The app's own store with three people and no face."""
    monkeypatch.setenv("FERCORE_WORKSPACE", str(tmp_path / "ws"))
    store = cache.store()
    for person in (LEAD, REVIEWER, ANNOTATOR):
        people_table.add(store, person)
    yield store
    store.close()
    cache._open.clear()


@pytest.fixture
def app_store(peopled: Store, small_file: Path) -> Store:
    """The same with 70 faces."""
    ingest.import_fer2013(peopled, LEAD, small_file)
    return peopled


@pytest.fixture
def demo(demo_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The demo workspace as the app's own."""
    monkeypatch.setenv("FERCORE_WORKSPACE", str(demo_workspace))
    yield demo_workspace
    cache.store().close()
    cache._open.clear()
