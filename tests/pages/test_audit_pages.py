"""The Audit page and the views of Explore, on drawn faces with planted problems."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from app_helpers import app_as, text
from helpers import ANNOTATOR, LEAD, REVIEWER, fer_line, write_fer, write_votes

from dashboard import cache, explore_views
from fercore import audit, ingest
from fercore.audit import actions, near
from fercore.demo_faces import draw_demo
from fercore.errors import NotAllowed
from fercore.store import Store, findings
from fercore.store import people as people_table


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    """Faces 0-3 dark, 60 a copy of 4, 61 a mirrored 5: uint8 [62, 48, 48]."""
    faces = draw_demo(120, 3).pixels[:60].copy()
    faces[:4] = faces[:4] // 6
    return np.concatenate([faces, faces[4:5], near.mirror(faces[5], np.random.default_rng(0))[None]])


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: np.ndarray) -> Iterator[Store]:
    monkeypatch.setenv("FERCORE_WORKSPACE", str(tmp_path / "ws"))
    store = cache.store()
    for person in (LEAD, REVIEWER, ANNOTATOR):
        people_table.add(store, person)
    usages = ["Training"] * 50 + ["PublicTest"] * 12
    path = write_fer(tmp_path / "f.csv", [fer_line(i % 7, f, usages[i]) for i, f in enumerate(drawn)])
    votes = write_votes(tmp_path / "v.csv", [[2, 2, 2, 2, 2, 0, 0, 0, 0, 0] if i < 3 else [10] + [0] * 9 for i in range(62)], usages)
    ingest.import_fer2013(store, LEAD, path, ferplus=votes)
    yield store
    store.close()
    cache._open.clear()


@pytest.fixture
def audited(store: Store) -> Store:
    audit.run(store, LEAD, deep=True)
    return store


def button(at, start: str):
    return next(b for b in at.button if b.label.startswith(start))


def n_of(store: Store, kind: str) -> int:
    return int(store.value("SELECT count(*) FROM findings WHERE kind = $k", {"k": kind}))


def test_a_lead_runs_the_audit_and_every_kind_has_a_card(store: Store) -> None:
    at = app_as("dana", "audit")
    assert f"{store.value('SELECT count(*) FROM images'):,} images have not been compared" in text(at)
    button(at, "Run the audit").click().run()
    assert not at.exception and "Every image has been looked at" in text(at)
    for check in audit.CHECKS.values():
        assert f"**{check.name}**" in text(at)
    assert n_of(store, "dark") >= 4 and f"{n_of(store, 'dark'):,} faces" in text(at)


def test_only_who_may_runs_and_acts_and_votes_stay_hidden(audited: Store) -> None:
    annotator = app_as("ann", "audit", kind="dark")
    assert annotator.title[0].value == "Audit" and not [b for b in annotator.button if b.label.startswith(("Run", "Send", "Flag", "Use"))]
    hidden = app_as("ann", "audit", kind="disputed")
    assert "Divided votes" not in text(hidden) and not hidden.dataframe and "Divided votes" in text(app_as("rosa", "audit"))
    for act in (audit.faces_of, audit.groups_of, audit.measured):
        with pytest.raises(NotAllowed):
            act(audited, ANNOTATOR, "disputed", **({"limit": 5} if act is audit.faces_of else {}))
    face = audited.value("SELECT sample_id FROM findings WHERE kind = 'disputed' LIMIT 1")
    assert "disputed" not in set(cache.detail(ANNOTATOR, face)["findings"]["kind"])
    assert "disputed" in set(cache.detail(LEAD, face)["findings"]["kind"])
    assert "Divided votes" not in app_as("ann", "explore").multiselect(key="finding").options
    reviewer = app_as("rosa", "audit", kind="dark")
    assert not [b for b in reviewer.button if b.label.startswith("Run")] and button(reviewer, "Send all")


def test_the_slider_shows_a_live_grid_and_a_lead_sets_the_bound(audited: Store) -> None:
    at = app_as("dana", "audit", kind="dark")
    assert len(at.dataframe[0].value) == n_of(audited, "dark")
    at.slider[0].set_value(120.0).run()
    n = audited.value("SELECT count(*) FROM images WHERE mean < 120")
    assert f"{n:,} distinct images beyond 120; in force is 40" in text(at) and not at.dataframe
    button(at, "Use this bound").click().run()
    assert not at.exception and findings.bounds(audited) == {"dark": 120} and n_of(audited, "dark") >= n
    assert not [b for b in app_as("rosa", "audit", kind="dark").button if b.label == "Use this bound"]


def test_keep_one_and_undo_from_the_page(audited: Store) -> None:
    at = app_as("rosa", "audit", kind="near_duplicate")
    n = len(findings.group_ids(audited, "near_duplicate"))
    assert n >= 1 and len(at.dataframe[0].value) == n_of(audited, "near_duplicate")
    button(at, "Keep one of each").click().run()
    out = len(findings.edits(audited))
    assert not at.exception and out >= n and f"Duplicate: {out:,} faces" in text(at)
    button(at, "Undo").click().run()
    assert not at.exception and findings.edits(audited).empty and "Undo" not in [b.label for b in at.button]


def test_a_kind_is_sent_to_a_review_queue(audited: Store) -> None:
    at = app_as("rosa", "audit", kind="dark")
    button(at, "Send all").click().run()
    assert not at.exception and [c for c in cache.all_campaigns() if c.startswith("review-dark")]


def test_outliers_are_drawn_as_box_and_whiskers(audited: Store) -> None:
    at = app_as("dana", "audit", kind="mean_outlier")
    numbers = audit.five_numbers(audited)
    assert numbers and f"Five numbers: {numbers['least']:.1f}, {numbers['q1']:.1f}" in text(at) and at.get("plotly_chart")


@pytest.mark.parametrize("view", list(explore_views.VIEWS))
@pytest.mark.parametrize("person", ["ann", "dana"])
def test_every_view_of_explore_opens_by_its_url(audited: Store, view: str, person: str) -> None:
    at = app_as(person, "explore", view=view)
    assert at.segmented_control(key="view").value == view and "**62** faces" in text(at)
    assert at.get("plotly_chart") or view in ("Samples", "Mean faces", "Duplicates") or "read results" in text(at)


def test_views_say_so_when_nothing_matches(audited: Store) -> None:
    for view in explore_views.VIEWS:
        app_as("dana", "explore", view=view, age="Senior", given="Happy")  # nobody is tagged


def test_mean_faces_are_the_means(audited: Store, drawn: np.ndarray) -> None:
    from fercore.domain import Filter

    looks = cache.looks_by(Filter(), "given_label")
    happy = drawn[np.arange(62) % 7 == 3]
    n, mean, counts = looks["happy"]
    assert n == len(happy) and np.allclose(mean, happy.mean(axis=0)) and counts.tolist() == np.bincount(happy.ravel(), minlength=256).tolist()


def test_the_funnel_counts_every_row_once(audited: Store) -> None:
    face = audited.value("SELECT image_id FROM samples WHERE source_row = 30")
    actions.mark(audited, LEAD, [face], "exclude", "artificial")
    rows = cache.funnel()
    assert len(rows) == 62 and rows["exclusion"].value_counts()["excluded: artificial"] == 1
