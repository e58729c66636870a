"""Acts on findings: each is one gesture or one campaign, undone as one, and never touches a face."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
from helpers import ANNOTATOR, LEAD, REVIEWER, some_faces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uuid_utils import uuid7

from fercore import curation, ingest
from fercore.audit import actions
from fercore.curation import campaigns, quality
from fercore.curation import schemes as book
from fercore.domain import image_id
from fercore.errors import BadInput, NotAllowed, NotFound
from fercore.store import Store, findings, labels, samples
from fercore.store import quality as quality_table

# The file has row 7 as a copy of row 0, 65 of 1, and 10 of 2.
FACES = [image_id(f) for f in some_faces(70)]


@pytest.fixture
def filled(store: Store, small_file: Path) -> Store:
    ingest.import_fer2013(store, LEAD, small_file)
    return store


def found(store: Store, kind: str, groups: dict[str | None, list[int]]) -> None:
    """Plants findings of a kind: group -> rows."""
    rows = dict(store.rows("SELECT source_row, sample_id FROM samples"))
    findings.settle(store, [kind], pd.DataFrame([
        {"kind": kind, "sample_id": rows[i], "image_id": FACES[{7: 0, 65: 1, 10: 2}.get(i, i)], "group_id": group, "score": i / 100, "evidence": "{}"}
        for group, members in groups.items() for i in members]))


def edits(store: Store) -> dict[str, tuple[str | None, str | None]]:
    return {r.image_id: (r.exclude, r.transform) for r in findings.edits(store).astype(object).replace({float("nan"): None}).itertuples()}


def test_all_faces_of_a_kind_or_of_a_group_are_distinct_images(filled: Store) -> None:
    found(filled, "exact_duplicate", {"a": [0, 7], "b": [1, 65]})
    assert sorted(actions.images(filled, REVIEWER, "exact_duplicate")) == sorted(FACES[:2])
    assert actions.images(filled, REVIEWER, "exact_duplicate", ["b"]) == [FACES[1]] and actions.images(filled, REVIEWER, "dark") == []
    actions.mark(filled, LEAD, FACES[3:6], "flag_dark", "yes")
    actions.mark(filled, LEAD, FACES[5:6], "flag_dark", "no")
    assert actions.flagged(filled, REVIEWER, "dark") == sorted(FACES[3:5])
    for act in (lambda: actions.images(filled, ANNOTATOR, "dark"), lambda: actions.flagged(filled, ANNOTATOR, "dark"),
                lambda: actions.keep_one(filled, ANNOTATOR, ["a"]), lambda: actions.queue(filled, ANNOTATOR, "dark"),
                lambda: actions.undo(filled, ANNOTATOR, "x")):
        with pytest.raises(NotAllowed):
            act()
    with pytest.raises(NotFound):
        actions.images(filled, LEAD, "nothing")


def test_of_each_group_the_sharpest_stays_whatever_its_number_of_rows(filled: Store) -> None:
    found(filled, "near_duplicate", {"a": [20, 21, 22], "b": [0, 7, 30], "c": [40, 41]})
    pixels = some_faces(70)
    keep = []
    for members in ([20, 21, 22], [0, 30], [40, 41]):
        keep.append(max(members, key=lambda i: float(actions.measure(pixels[i:i + 1])["sharpness"][0])))
    act = actions.keep_one(filled, REVIEWER, ["a", "b", "c"])
    out = {i for i in (20, 21, 22, 0, 30, 40, 41) if i not in keep}
    assert edits(filled) == {FACES[i]: ("duplicate", None) for i in out} and act.faces == len(out) == 4
    assert actions.undo(filled, REVIEWER, act.gesture) == 4 and not edits(filled)
    with pytest.raises(NotFound, match="Unknown group"):
        actions.keep_one(filled, REVIEWER, ["a", "d"])
    assert not edits(filled)


def test_of_a_group_a_face_stays_that_is_not_excluded_for_another_reason(filled: Store) -> None:
    found(filled, "near_duplicate", {"a": [20, 21, 22], "b": [40, 41]})
    actions.keep_one(filled, REVIEWER, ["a"])
    best = (set(FACES[20:23]) - edits(filled).keys()).pop()
    with pytest.raises(BadInput, match="one face left"):
        actions.keep_one(filled, LEAD, ["a"])
    actions.undo(filled, REVIEWER, actions.last(filled, REVIEWER)[0]["gesture"])
    actions.mark(filled, LEAD, [best], "exclude", "dark")
    act = actions.keep_one(filled, REVIEWER, ["a", "b"])
    assert act.faces == 2 and edits(filled)[best] == ("dark", None) and len(edits(filled).keys() & set(FACES[20:23])) == 2


def test_two_people_undo_only_their_own_acts_and_edits_that_differ_are_told(filled: Store) -> None:
    one, two = actions.mark(filled, LEAD, FACES[20:23], "exclude", "dark"), actions.mark(filled, REVIEWER, FACES[22:24], "exclude", "blurred")
    actions.mark(filled, LEAD, FACES[30:31], "transform", "brighten_1.5")
    actions.mark(filled, REVIEWER, FACES[30:31], "transform", "gamma_0.5")
    assert edits(filled)[FACES[22]] == ("several", None) and edits(filled)[FACES[30]] == (None, "several")
    assert samples.table(filled).set_index("image_id").at[FACES[30], "transform"] is None
    with pytest.raises(NotFound, match="not yours"):
        actions.undo(filled, LEAD, two.gesture)
    actions.undo(filled, LEAD, one.gesture)
    assert {i: e for i, (e, _) in edits(filled).items() if e} == dict.fromkeys(FACES[22:24], "blurred")


def test_example_faces_are_left_as_they_are_and_said(filled: Store) -> None:
    campaigns.set_gold(filled, LEAD, FACES[50:51], "expression", ["happy"])
    assert sum(book.choose_examples(filled, REVIEWER, "fer7@1").values()) == 1
    act = actions.mark(filled, LEAD, FACES[49:52], "exclude", "dark")
    assert act.faces == 2 and act.left == {"this face is an example and takes no votes": 1} and set(edits(filled)) == {FACES[49], FACES[51]}
    with pytest.raises(BadInput, match="example"):
        actions.mark(filled, LEAD, FACES[50:51], "exclude", "dark")


def test_queues_are_named_apart_and_closed_by_undo(filled: Store) -> None:
    found(filled, "dark", {None: list(range(20, 50))})
    first, second = actions.queue(filled, REVIEWER, "dark"), actions.queue(filled, REVIEWER, "dark", FACES[20:23])
    whole, picked = (campaigns.find(filled, c)[0] for c in (first, second))
    assert (whole.name, whole.finding, whole.images, picked.name, picked.finding) == ("Review: dark", "dark", (), "Review: dark, 2", None)
    assert set(picked.images) == set(FACES[20:23])
    assert set(curation.block(filled, ANNOTATOR, second, "tab", 1).faces["image_id"]) == set(FACES[20:23])
    marked = actions.mark(filled, REVIEWER, FACES[20:21], "exclude", "dark")
    assert [(a["field"], a["value"], a["faces"]) for a in actions.last(filled, REVIEWER)] == [
        ("exclude", "dark", 1), ("queue", "Review: dark, 2", None), ("queue", "Review: dark", None)]
    assert [a["gesture"] for a in actions.last(filled, REVIEWER, 1)] == [marked.gesture] and actions.last(filled, LEAD) == []
    with pytest.raises(NotFound):
        actions.undo(filled, LEAD, first)  # not the lead's
    found(filled, "dark", {})  # nobody has the finding any more
    actions.undo(filled, REVIEWER, first)
    assert [campaigns.find(filled, c)[1] for c in (first, second)] == ["closed", "open"]
    assert first not in [a["gesture"] for a in actions.last(filled, REVIEWER)]
    with pytest.raises(NotFound):
        actions.undo(filled, REVIEWER, first)
    with pytest.raises(BadInput, match="5,001 are chosen"):
        actions.queue(filled, REVIEWER, "dark", FACES[:1] * 5001)


def test_queues_opened_at_the_same_moment_are_campaigns_of_their_own(filled: Store) -> None:
    found(filled, "dark", {None: list(range(20, 30))})
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda i: actions.queue(filled, (LEAD, REVIEWER)[i % 2], "dark", [FACES[20 + i]]), range(8)))
    assert {c: campaigns.find(filled, c)[0].images for c in made} == {c: (FACES[20 + i],) for i, c in enumerate(made)} and len(set(made)) == 8


def test_marks_on_many_are_no_answers_in_agreement_or_progress(filled: Store) -> None:
    actions.mark(filled, REVIEWER, FACES[20:30], "exclude", "dark")
    actions.mark(filled, REVIEWER, FACES[20:30], "flag_dark", "yes")
    assert quality.choices(filled, REVIEWER)[0] == [] == quality.my_fields(filled, REVIEWER)
    curation.record(filled, REVIEWER, [{"event_id": str(uuid7()), "op": "set", "image_id": FACES[40], "field": "flag_dark", "value": "no",
                                        "gesture": str(uuid7())}])
    assert quality.choices(filled, REVIEWER)[0] == ["flag_dark"] == quality.my_fields(filled, REVIEWER)
    assert len(quality_table.votes(filled, "flag_dark", None, [])) == len(quality_table.own_answers(filled, REVIEWER, "flag_dark")) == 1


@pytest.mark.parametrize(("kind", "asked", "claim"), [
    ("non_face", "flag_non_face", "no"), ("dark", "flag_dark", "yes"), ("artificial", "flag_artificial", "no"),
    ("extreme_pose", "flag_extreme_pose", "no"), ("blurred", "fer7@1", None)])
def test_flags_are_reviewed_on_a_wall_and_other_kinds_face_by_face(filled: Store, monkeypatch: pytest.MonkeyPatch, kind: str, asked: str,
                                                                   claim: str | None) -> None:
    monkeypatch.setattr(actions, "CHECKS", dict.fromkeys([kind]))
    monkeypatch.setattr(actions, "KINDS", {kind: kind})
    spec = campaigns.find(filled, actions.queue(filled, REVIEWER, kind, FACES[20:23]))[0]
    assert (spec.ask, spec.grid, spec.claim) == ((asked,), claim is not None, claim)


def test_the_name_of_a_queue_tells_annotators_nothing_of_others_votes(filled: Store) -> None:
    for kind in ("disputed", "votes_against_label"):
        found(filled, kind, {None: [20, 21]})
        name = campaigns.find(filled, actions.queue(filled, REVIEWER, kind))[0].name
        assert name.startswith("Review: a second look")


FIELDS = {"exclude": ["dark", "blurred"], "transform": ["brighten_1.5", "gamma_0.5"]}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["exclude", "transform", "undo"]), st.integers(0, 1), st.sets(st.integers(20, 24), min_size=1)), max_size=8))
def test_what_stands_is_what_a_list_of_acts_says(filled: Store, plan: list[tuple[str, int, set[int]]]) -> None:
    """Each act a line of a list; undo strikes one out; the last line on a face and field stands."""
    acts: list[tuple[str, str, str, set[int]]] = []
    for what, which, on in plan:
        if what == "undo" and acts:
            gesture, *_ = acts.pop(-1 - which % len(acts))
            actions.undo(filled, REVIEWER, gesture)
        elif what != "undo":
            value = FIELDS[what][which]
            acts.append((actions.mark(filled, REVIEWER, [FACES[i] for i in sorted(on)], what, value).gesture, what, value, on))
    stands = {(i, field): value for _, field, value, on in acts for i in on}
    expected = {FACES[i]: (stands.get((i, "exclude")), stands.get((i, "transform"))) for i, _ in stands}
    assert edits(filled) == expected
    some = [FACES[20], FACES[21]]
    assert set(findings.edits(filled, some)["image_id"]) == expected.keys() & set(some)
    assert [a["gesture"] for a in actions.last(filled, REVIEWER, 20)] == [gesture for gesture, *_ in reversed(acts)]
    assert labels.standing_differences(filled) == 0
    for gesture, *_ in acts:
        actions.undo(filled, REVIEWER, gesture)
    assert not edits(filled)
