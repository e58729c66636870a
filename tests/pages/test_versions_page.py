"""The Versions page: who sees which act, gates, diff, datasheet, timeline; what a person writes is shown as written."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from app_helpers import app_as, text
from helpers import ANNOTATOR, LEAD, REVIEWER, SECOND_LEAD
from uuid_utils import uuid7

from fercore import curation, ingest, versions
from fercore.store import Store
from fercore.store import people as people_table
from fercore.store import versions as table
from fercore.versions import Recipe, datasheet, policy


@pytest.fixture
def signed_store(peopled: Store, small_file: Any) -> Iterator[Store]:
    people_table.add(peopled, SECOND_LEAD)
    ingest.import_fer2013(peopled, LEAD, small_file, licence="made for tests")
    return peopled


def made(store: Store, *, answered: bool = True, seed: int = 0) -> str:
    version_id = versions.freeze(store, LEAD, Recipe(seed=seed), "fer7")
    for field, question in datasheet.QUESTIONS.items():
        if answered and question.needed:
            versions.answer(store, LEAD, version_id, field, "For <b>tests</b>")
    versions.submit(store, LEAD, version_id)
    return version_id


def said(at: Any) -> str:
    """What a person reads, without the backslashes that keep it from becoming markup."""
    return re.sub(r"\\(\W)", r"\1", text(at))


def buttons(at: Any) -> set[str]:
    return {b.label for b in at.button}


def press(at: Any, label: str) -> Any:
    next(b for b in at.button if b.label == label).click().run()
    assert not at.exception, at.exception
    return at


def shown(person: Any, version_id: str, view: str, **query: str) -> Any:
    return app_as(person.person_id, "versions", version=version_id, view=view, **query)


def test_a_version_is_signed_by_a_reviewer_and_another_lead(signed_store: Store) -> None:
    version_id = made(signed_store)
    own = app_as(LEAD.person_id, "versions", version=version_id)
    assert "somebody else must decide" in said(own) and not {f"Approve {version_id}", f"Ask for changes to {version_id}"} & buttons(own)
    first = app_as(REVIEWER.person_id, "versions", version=version_id)
    press(first, f"Ask for changes to {version_id}")
    assert "A reason is needed" in said(first) and versions.state(signed_store.workspace, version_id) == "in_review"
    press(first, f"Approve {version_id}")
    assert "still needs 1 data lead" in said(first) and f"Approve {version_id}" not in buttons(first)
    second = press(app_as(SECOND_LEAD.person_id, "versions", version=version_id), f"Approve {version_id}")
    assert versions.state(signed_store.workspace, version_id) == "approved"
    told = said(second)
    assert "approved by Rosa (reviewer) and Lee (data lead)" in told and "local, not authenticated" in told
    assert table.one(signed_store, version_id)["manifest_sha256"] in told and "1 reviewer and 1 data lead, not the creator" in told
    assert "When it was approved, 11 passed and 0 were waived" in said(shown(REVIEWER, version_id, "Gates"))
    press(second, f"Release {version_id}")
    assert "A reason is needed" in said(second)
    second.text_area(key=f"reason-Release-{version_id}-").set_value("For the report")
    press(second, f"Release {version_id}")
    assert versions.state(signed_store.workspace, version_id) == "released" and f"Deprecate {version_id}" in buttons(second)
    assert not {f"Revoke {version_id}", f"Deprecate {version_id}"} & buttons(app_as(REVIEWER.person_id, "versions", version=version_id))


def test_an_approved_version_whose_files_changed_is_shown_as_broken(signed_store: Store) -> None:
    version_id = made(signed_store)
    for person in (REVIEWER, SECOND_LEAD):
        versions.approve(signed_store, person, version_id)
    at = shown(REVIEWER, version_id, "Gates")
    assert not at.error and "0 of 11 gates fail" in said(at)
    path = signed_store.workspace.versions / version_id / "manifest.parquet"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b"x")
    at.run()
    assert "Broken: this is not what was approved" in said(at) and "manifest.parquet is not the file that was written" in said(at)
    assert "1 of 2 gates fail" in said(at)
    path.write_bytes(good)
    at.run()
    assert not at.error and "0 of 11 gates fail" in said(at)


def test_an_annotator_reads_no_version(signed_store: Store) -> None:
    made(signed_store)
    assert "You may not" in text(app_as(ANNOTATOR.person_id, "versions"))


def test_a_request_for_changes_says_that_another_manifest_is_another_version(signed_store: Store) -> None:
    version_id = made(signed_store)
    versions.reject(signed_store, REVIEWER, version_id, "Too few **seniors**")
    at = app_as(LEAD.person_id, "versions", version=version_id)
    assert "Too few \\*\\*seniors\\*\\*" in text(at) and "another version" in said(at) and "Submit for review" in buttons(at)
    assert f"Changes requested for {version_id}" in " ".join(p.label for p in app_as(LEAD.person_id).get("page_link"))


def test_a_failed_gate_is_waived_by_another_lead_with_a_reason(signed_store: Store) -> None:
    version_id = made(signed_store, answered=False)
    label = "Waive: Datasheet is complete"
    assert label not in buttons(shown(LEAD, version_id, "Gates")) | buttons(shown(REVIEWER, version_id, "Gates"))
    at = shown(SECOND_LEAD, version_id, "Gates")
    assert "1 of 11 gates fail" in said(at) and "not answered: Purpose" in said(at)
    press(at, label)
    assert "A reason is needed" in said(at)
    at.text_area(key=f"reason-Waive-{version_id}-datasheet").set_value("A trial")
    press(at, label)
    assert "All 11 gates pass or are waived" in said(at) and "Waived by Lee: A trial" in said(at)


def test_a_gate_shows_its_faces(signed_store: Store) -> None:
    face = signed_store.rows("SELECT image_id FROM samples WHERE source_row = 60")[0][0]
    curation.record(signed_store, ANNOTATOR, [{"event_id": str(uuid7()), "op": "set", "image_id": face, "field": "expression", "value": "neutral",
                                               "gesture": str(uuid7())}])
    at = shown(SECOND_LEAD, made(signed_store), "Gates", gate="test_edits")
    assert "1 of 1 test labels that people changed have one vote" in said(at) and "the first 1 faces" in said(at)


def test_the_policy_is_changed_with_a_reason_by_a_lead_only(signed_store: Store) -> None:
    version_id = made(signed_store)
    assert not shown(REVIEWER, version_id, "Gates").radio
    at = shown(LEAD, version_id, "Gates")
    at.radio[0].set_value(1)
    press(at, "Change the policy")
    assert "A reason is needed" in said(at) and not policy.current(signed_store).small_team
    at.radio[0].set_value(1)
    next(t for t in at.text_input if t.label == "Reason for the change").set_value("I am alone")
    press(at, "Change the policy")
    assert policy.current(signed_store).small_team and "Small-team policy" in said(at) and f"Approve {version_id}" in buttons(at)


def test_the_diff_opens_its_faces_and_stands_in_the_url(signed_store: Store) -> None:
    first = made(signed_store)
    face = signed_store.rows("SELECT image_id FROM samples WHERE source_row = 5")[0][0]
    curation.record(signed_store, ANNOTATOR, [{"event_id": str(uuid7()), "op": "set", "image_id": face, "field": "expression", "value": "neutral",
                                               "gesture": str(uuid7())}])
    second = made(signed_store)
    at = shown(REVIEWER, second, "Diff", against=first, **{"from": "surprise", "to": "neutral"})
    assert "**1 relabelled**" in said(at) and "Surprise → Neutral**: 1 faces" in said(at)
    moved = shown(REVIEWER, second, "Diff", against=first, kind="moved")
    assert moved.segmented_control(key="kind").value == "moved" and re.search(r"\*\*\d+ moved\*\*", said(moved))
    same = shown(REVIEWER, second, "Diff", against=second)
    assert "relabelled" in text(same) and not same.error and not same.warning
    alone = made(signed_store)
    assert "holds the same faces" in text(shown(REVIEWER, alone, "Diff", against=second))


def test_the_datasheet_is_answered_in_place_and_downloaded(signed_store: Store) -> None:
    version_id = made(signed_store, answered=False)
    at = shown(REVIEWER, version_id, "Datasheet")
    assert "not answered, needed" in said(at) and "Art. 5(1)(f)" in said(at)
    at.text_area(key=f"answer-{version_id}-purpose").set_value("<script>x</script> **bold**")
    at.button(key="save-purpose").click().run()
    assert not at.exception and "\\<script\\>x\\<\\/script\\> \\*\\*bold\\*\\*" in text(at)
    assert len(at.get("download_button")) == 2


@pytest.mark.parametrize("view", ["Composition", "Gates", "Diff", "Datasheet", "Timeline"])
@pytest.mark.parametrize("person", [LEAD, REVIEWER])
def test_every_view_has_an_address(signed_store: Store, view: str, person: Any) -> None:
    version_id = made(signed_store)
    at = shown(person, version_id, view)
    assert not at.error and at.segmented_control(key="view").value == view
    if view == "Timeline":
        acts = at.dataframe[0].value
        assert acts["act"].tolist() == ["freeze", *["datasheet"] * 4, "round trip", "submit"] and "For <b>tests</b>" in acts["said"].iloc[1]
