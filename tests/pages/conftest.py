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
def app_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_file: Path) -> Iterator[Store]:
    """The app's own store with three people and 70 faces."""
    monkeypatch.setenv("FERCORE_WORKSPACE", str(tmp_path / "ws"))
    store = cache.store()
    for person in (LEAD, REVIEWER, ANNOTATOR):
        people_table.add(store, person)
    ingest.import_fer2013(store, LEAD, small_file)
    yield store
    store.close()
    cache._open.clear()
