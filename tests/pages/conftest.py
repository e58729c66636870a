"""Fixtures of the page tests."""

import io
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from helpers import ANNOTATOR, LEAD, REVIEWER

from dashboard import cache, downloads
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


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, pd.DataFrame]:
    """What the buttons "Data as CSV" of pages would save, by name."""
    kept, csv = {}, downloads.csv

    def keeping(name: str, rows: object) -> None:
        kept[name] = pd.read_csv(io.StringIO(downloads.as_csv(rows)))
        csv(name, rows)

    monkeypatch.setattr(downloads, "csv", keeping)
    return kept
