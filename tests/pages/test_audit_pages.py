"""The Audit page and the views of Explore, on drawn faces with planted problems."""

import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from app_helpers import app_as, text
from helpers import ANNOTATOR, LEAD, fer_line, write_fer, write_votes
from streamlit.testing.v1 import AppTest
from uuid_utils import uuid7

from dashboard import audit_views, cache, explore_views, faces
from dashboard.components.face_grid import Tile
from fercore import audit, ingest
from fercore.audit import actions, near
from fercore.demo_faces import draw_demo
from fercore.domain import Person
from fercore.errors import NotAllowed
from fercore.store import Store, findings, labels


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    """Faces 0-3 dark, 60 a copy of 4, 61 a mirrored 5: uint8 [62, 48, 48]."""
    faces = draw_demo(120, 3).pixels[:60].copy()
    faces[:4] = faces[:4] // 6
    return np.concatenate([faces, faces[4:5], near.mirror(faces[5], np.random.default_rng(0))[None]])


@pytest.fixture
def store(tmp_path: Path, peopled: Store, drawn: np.ndarray) -> Store:
    usages = ["Training"] * 50 + ["PublicTest"] * 12
    path = write_fer(tmp_path / "f.csv", [fer_line(i % 7, f, usages[i]) for i, f in enumerate(drawn)])
    votes = write_votes(tmp_path / "v.csv", [[2, 2, 2, 2, 2, 0, 0, 0, 0, 0] if i < 3 else [10] + [0] * 9 for i in range(62)], usages)
    ingest.import_fer2013(peopled, LEAD, path, ferplus=votes)
    return peopled


@pytest.fixture
def audited(store: Store) -> Store:
    audit.run(store, LEAD, deep=True)
    return store


def button(at, start: str):
    return next(b for b in at.button if b.label.startswith(start))


def n_of(store: Store, kind: str) -> int:
    return int(store.value("SELECT count(*) FROM findings WHERE kind = $k", {"k": kind}))


def finished() -> None:
    """Waits until no work is under way beside the pages."""
    for thread in threading.enumerate():
        if thread.name.startswith("task-"):
            thread.join(60)


@pytest.fixture
def walls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[Tile], bool]]:
    """What is sent to the browser: the tiles of each wall, and whether they can be selected."""
    seen: list[tuple[list[Tile], bool]] = []
    real = faces.face_grid
    monkeypatch.setattr(faces, "face_grid", lambda tiles, **more: (seen.append((list(tiles), more["select"])), real(tiles, **more))[1])
    return seen


def said(at) -> str:
    """What a person reads, without the signs that keep it plain text."""
    return text(at).replace("\\", "")


def does(at, scope: str, start: str, confirm: str):
    """Presses a button on the faces of a scope, and the one of the dialog."""
    at.segmented_control(key="scope").set_value(scope).run()
    button(at, start).click().run()
    [b for b in at.button if b.label.startswith(confirm)][-1].click().run()  # the dialog comes last
    assert not at.exception and not at.error
    return at


def test_a_lead_runs_the_audit_and_every_kind_has_a_card(store: Store) -> None:
    at = app_as("dana", "audit")
    assert f"{store.value('SELECT count(*) FROM images'):,} images have not been compared" in text(at)
    button(at, "Run the audit").click().run()
    finished()
    at.run()
    assert not at.exception and "Every image has been looked at" in text(at) and button(at, "Run the audit")
    for check in audit.CHECKS.values():
        assert f"**{check.name}**" in text(at)
    assert n_of(store, "dark") >= 4 and f"{n_of(store, 'dark'):,} faces" in text(at)


def test_an_audit_goes_on_beside_the_page_and_is_cancelled_from_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def run(store: Store, actor: Person, *, deep: bool, progress: audit.Progress) -> None:
        reached.set()
        go_on.wait(60)
        progress("Comparing", 0.5)
        pytest.fail("it was cancelled")

    monkeypatch.setattr(audit, "run", run)
    at = app_as("dana", "audit")
    button(at, "Run the audit").click().run()
    assert reached.wait(60) and not at.exception and not [b for b in at.button if b.label.startswith("Run")]
    assert not [b for b in app_as("rosa", "audit").button if b.label == "Cancel"]
    button(app_as("dana", "audit", kind="dark"), "Cancel").click().run()
    go_on.set()
    finished()
    at = app_as("dana", "audit")
    assert not at.exception and not at.error and button(at, "Run the audit")


def test_only_who_may_runs_and_acts_and_votes_stay_hidden(audited: Store, walls: list[tuple[list[Tile], bool]]) -> None:
    annotator = app_as("ann", "audit", kind="dark")
    assert annotator.title[0].value == "Audit" and {b.label for b in annotator.button} <= {"All kinds of findings", "Switch profile"}
    hidden = app_as("ann", "audit", kind="disputed")
    assert "Divided votes" not in text(hidden) and len(walls) == 1 and "Divided votes" in text(app_as("rosa", "audit"))
    for act in (audit.faces_of, audit.groups_of, audit.measured):
        with pytest.raises(NotAllowed):
            act(audited, ANNOTATOR, "disputed", **({"limit": 5} if act is audit.faces_of else {}))
    face = audited.value("SELECT sample_id FROM findings WHERE kind = 'disputed' LIMIT 1")
    assert "disputed" not in set(cache.detail(ANNOTATOR, face)["findings"]["kind"])
    assert "disputed" in set(cache.detail(LEAD, face)["findings"]["kind"])
    assert "Divided votes" not in app_as("ann", "explore").multiselect(key="finding").options
    reviewer = app_as("rosa", "audit", kind="dark")
    assert not [b for b in reviewer.button if b.label.startswith("Run")] and button(reviewer, "Exclude 0").disabled


def test_what_was_done_stands_on_the_face_for_those_who_may_know(audited: Store, walls: list[tuple[list[Tile], bool]]) -> None:
    first, second, third = (r[0] for r in audited.rows("SELECT image_id FROM samples WHERE source_row < 3 ORDER BY source_row"))
    actions.mark(audited, LEAD, [first], "exclude", "dark")
    actions.mark(audited, LEAD, [first, second], "transform", "brighten_1.5")
    actions.mark(audited, LEAD, [second, third], "flag_dark", "yes")
    labels.append(audited, LEAD, [{"event_id": str(uuid7()), "op": "set", "image_id": third, "field": "expression", "value": "happy",
                                   "gesture": str(uuid7()), "round": "adjudication"}])
    app_as("rosa", "audit", kind="dark")
    app_as("ann", "audit", kind="dark")
    (told, choosing), (hidden, opening) = walls
    image = dict(audited.rows("SELECT sample_id, image_id FROM samples"))
    assert choosing and not opening and [t.sample_id for t in told] == [t.sample_id for t in hidden]
    assert {image[t.sample_id]: t.badge for t in told if t.badge} == {
        first: "excluded: too dark, brighten 1.5", second: "flagged dark, brighten 1.5", third: "flagged dark"}
    assert not any(t.badge for t in hidden)
    label = {image[t.sample_id]: t.label for t in told}, {image[t.sample_id]: t.label for t in hidden}
    assert (label[0][third], label[1][third]) == ("Happy", "Fear")


def test_the_slider_shows_a_live_grid_and_a_lead_sets_the_bound(audited: Store, walls: list[tuple[list[Tile], bool]]) -> None:
    at = app_as("dana", "audit", kind="dark")
    assert len(walls[-1][0]) == n_of(audited, "dark")
    at.slider[0].set_value(120.0).run()
    n = audited.value("SELECT count(*) FROM images WHERE mean < 120")
    assert f"{n:,} distinct images beyond 120; in force is 40" in text(at) and len(walls[-1][0]) == min(n, 48)
    means = [float(t.note) for t in walls[-1][0]]
    assert means == sorted(means, reverse=True) and means[0] < 120
    button(at, "Use this bound").click().run()
    assert not at.exception and findings.bounds(audited) == {"dark": 120} and n_of(audited, "dark") >= n
    assert not [b for b in app_as("rosa", "audit", kind="dark").button if b.label == "Use this bound"]


def test_a_link_opens_kind_page_group_and_bound(audited: Store, walls: list[tuple[list[Tile], bool]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_views, "PAGE", 2)
    images = [r[0] for r in audited.rows("SELECT sample_id FROM findings AS f JOIN samples AS s USING (sample_id) WHERE kind = 'dark' ORDER BY mean, 1")]
    app_as("rosa", "audit", kind="dark", page_dark="2")
    assert [t.sample_id for t in walls[-1][0]] == images[2:4]
    app_as("rosa", "audit", kind="dark", bound_dark="120")
    assert len(walls[-1][0]) == 2 and all(float(t.note) < 120 for t in walls[-1][0])
    for wrong in ({"page_dark": "99"}, {"page_dark": "x"}, {"bound_dark": "9999"}, {"bound_dark": "nan"}, {"kind": "nothing"}):
        app_as("rosa", "audit", **{"kind": "dark", **wrong})


def test_pages_hold_whole_groups_and_a_group_is_framed(store: Store, walls: list[tuple[list[Tile], bool]], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = store.rows("SELECT sample_id, image_id FROM samples ORDER BY source_row LIMIT 12")
    groups = {"a" * 64: rows[:5], "b" * 64: rows[5:8], "c" * 64: rows[8:12]}
    findings.settle(store, ["near_duplicate"], pd.DataFrame([
        {"kind": "near_duplicate", "sample_id": s, "image_id": i, "group_id": g, "score": 0.95, "evidence": "{}"} for g, m in groups.items() for s, i in m]))
    monkeypatch.setattr(audit_views, "PAGE", 4)
    for page, members in zip("123", groups.values(), strict=True):
        at = app_as("rosa", "audit", kind="near_duplicate", page_near_duplicate=page)
        assert sorted(t.sample_id for t in walls[-1][0]) == sorted(s for s, _ in members)
    app_as("rosa", "audit", kind="near_duplicate", group_near_duplicate="b" * 8)
    assert sorted(t.sample_id for t in walls[-1][0]) == sorted(s for s, _ in rows[5:8]) and {t.group for t in walls[-1][0]} == {"3 faces · bbbbbbbb"}
    assert at.selectbox(key="group_near_duplicate").options == ["all 3 groups", "a" * 8, "b" * 8, "c" * 8]


def test_of_a_large_group_the_first_faces_are_drawn_and_all_are_acted_on(store: Store, walls: list[tuple[list[Tile], bool]],
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    rows = store.rows("SELECT sample_id, image_id FROM samples ORDER BY source_row LIMIT 9")
    findings.settle(store, ["near_duplicate"], pd.DataFrame([
        {"kind": "near_duplicate", "sample_id": s, "image_id": i, "group_id": "a" * 64, "score": 0.95, "evidence": "{}"} for s, i in rows]))
    monkeypatch.setattr(audit_views, "LARGEST", 4)
    for group in ({}, {"group_near_duplicate": "a" * 8}):
        at = app_as("rosa", "audit", kind="near_duplicate", **group)
        assert len(walls[-1][0]) == 4 and "The first 4 of 9 faces are shown" in text(at)
    at.segmented_control(key="scope").set_value("This group").run()
    assert button(at, "Exclude 9")


def test_what_sources_say_of_a_face_is_shown_as_plain_text(store: Store) -> None:
    with store.write("samples") as w:
        w.run("UPDATE facts.sample SET given_label = '![x](http://a.b/c)' WHERE source_row = 8")
    face = store.value("SELECT sample_id FROM samples WHERE source_row = 8")

    def script(face: str) -> None:
        import streamlit as st

        from dashboard import access, faces
        from dashboard.state import session

        session().person = next(p for p in access.everyone() if p.person_id == "dana")
        if st.button("Open"):
            faces.face_dialog(face)

    at = AppTest.from_function(script, kwargs={"face": face}, default_timeout=60).run()
    at.button[0].click().run()
    assert not at.exception and at.table[0].value.iloc[0, 0].startswith("\\!\\[x\\]\\(http")


def test_keep_one_and_undo_from_the_page(audited: Store) -> None:
    at = app_as("rosa", "audit", kind="near_duplicate")
    n = len(findings.group_ids(audited, "near_duplicate"))
    assert n >= 1
    does(at, "All", f"Keep one in {n:,}", "Keep ")
    out = len(findings.edits(audited))
    assert out >= n and f"excluded: duplicate, {out:,} face" in said(at) and f"One face kept of each of {n:,} groups" in text(at)
    button(at, "Undo").click().run()
    assert not at.exception and findings.edits(audited).empty and "Undo" not in [b.label for b in at.button]
    assert f"Taken back: excluded: duplicate, {out:,} face" in said(at)


def test_acts_on_a_page_and_on_all_faces_of_a_kind(audited: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    dark = set(actions.images(audited, LEAD, "dark"))
    monkeypatch.setattr(audit_views, "PAGE", 2)
    at = does(app_as("rosa", "audit", kind="dark"), "This page", "Flag 2", "Flag 2 faces")
    assert len(actions.flagged(audited, LEAD, "dark")) == 2
    does(at, "All flagged dark", "Brighten 2", "Mark 2 faces")
    edits = findings.edits(audited).set_index("image_id")["transform"].to_dict()
    assert edits == dict.fromkeys(actions.flagged(audited, LEAD, "dark"), "brighten_1.5")
    does(at, "All", f"Exclude {len(dark)}", f"Exclude {len(dark)} faces")
    assert set(findings.edits(audited).dropna(subset="exclude")["image_id"]) == dark and "too dark" in text(at)
    assert [b.label for b in at.button].count("Undo") == 3


def test_an_act_on_many_takes_a_tick_and_what_goes_wrong_is_said(app_store: Store) -> None:
    def script() -> None:
        import streamlit as st

        from dashboard import audit_views
        from dashboard.state import session
        from fercore.errors import BadInput

        def act() -> None:
            if st.session_state.get("wrong"):
                raise BadInput("Not *done*")

        audit_views._confirm("Go", 501, act, "Done")
        st.text(str(session().said))

    at = AppTest.from_function(script).run()
    assert at.button[0].disabled and "all 501" in at.checkbox[0].label
    at.checkbox[0].check().run()
    at.button[0].click().run()
    assert at.text[0].value == "('success', 'Done')"
    at.session_state["wrong"] = True
    at.button[0].click().run()
    assert at.text[0].value.startswith("('error', 'Not *done*")


def test_a_kind_or_a_page_of_it_is_sent_to_a_review_queue_and_taken_back(audited: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_views, "PAGE", 2)
    at = does(app_as("rosa", "audit", kind="dark"), "All", f"Review {n_of(audited, 'dark')}", "Send ")
    does(at, "This page", "Review 2", "Send 2 faces")
    made = {c.name: (c.finding, len(c.images), state) for c, state in cache.all_campaigns().values() if c.name.startswith("Review")}
    assert made == {"Review: dark": ("dark", 0, "open"), "Review: dark, 2": (None, 2, "open")}
    button(at, "Undo").click().run()
    assert "Taken back: queue Review: dark, 2" in said(at) and cache.all_campaigns()["review-dark-2"][1] == "closed"


def test_findings_about_the_whole_set_link_to_where_one_acts(store: Store) -> None:
    rows = [{"kind": "class_imbalance", "group_id": "disgust", "score": 0.1, "evidence": '{"rows": 12, "equal_shares": 0.1}'},
            {"kind": "undecodable", "group_id": "fer2013", "score": 3, "evidence": '{"rows": 3}'}]
    findings.settle(store, ["class_imbalance", "undecodable"], pd.DataFrame(rows))
    links = {link.proto.label: (link.proto.page, link.proto.query_string) for link in app_as("dana", "audit").get("page_link")}
    assert links["Disgust: 12 rows, 0.1 equal shares"] == ("explore", "given=Disgust") and links["fer2013: 3 rows"] == ("import_data", "")
    reader = app_as("ann", "audit")
    assert "fer2013: 3 rows" in text(reader) and "import_data" not in [link.proto.page for link in reader.get("page_link")]
    assert "No face has this finding" not in text(app_as("dana", "audit", kind="undecodable"))
    assert app_as("dana", "explore", given="Disgust").multiselect(key="given").value == ["disgust"]


@pytest.mark.parametrize("kind", ["near_duplicate", "dark", "disputed"])
def test_how_a_bound_does_is_drawn_on_request(audited: Store, kind: str) -> None:
    assert not app_as("rosa", "audit", kind=kind).get("plotly_chart")
    assert app_as("rosa", "audit", kind=kind, calibration="true").get("plotly_chart")


def test_outliers_are_drawn_as_box_and_whiskers(audited: Store) -> None:
    at = app_as("dana", "audit", kind="mean_outlier")
    numbers = audit.five_numbers(audited)
    assert numbers and f"Five numbers: {numbers['least']:.1f}, {numbers['q1']:.1f}" in text(at) and at.get("plotly_chart")


@pytest.mark.parametrize("view", list(explore_views.VIEWS))
@pytest.mark.parametrize("person", ["ann", "dana"])
def test_every_view_of_explore_opens_by_its_url(audited: Store, view: str, person: str) -> None:
    at = app_as(person, "explore", view=view)
    assert at.segmented_control(key="view").value == view and "**62** faces" in text(at)
    assert at.get("plotly_chart") or view in ("Faces", "Samples", "Mean faces", "Duplicates") or "read results" in text(at)


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
