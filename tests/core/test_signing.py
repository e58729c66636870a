"""Signing versions: policy, gates, diff, datasheet, and a record that neither a kill nor a changed byte passes for something else."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from helpers import ANNOTATOR, LEAD, REVIEWER, SECOND_LEAD, fercore, fercore_process, some_faces
from uuid_utils import uuid7

from fercore import curation, ingest, jobs, versions
from fercore.domain import Person, Role, Workspace, image_id
from fercore.errors import BadInput, Conflict, NotAllowed, NotFound
from fercore.store import Store, samples
from fercore.store import people as people_table
from fercore.store import versions as table
from fercore.training.config import run_config
from fercore.versions import Recipe, datasheet, diff, export, gates, policy, record
from fercore.versions.document import Labels
from fercore.versions.files import state, trainable, write_state

FACES = [image_id(f) for f in some_faces(70)]
SECOND = Person("kim", "Kim", Role.ANNOTATOR)


@pytest.fixture
def filled(store: Store, small_file: Path) -> Store:
    ingest.import_fer2013(store, LEAD, small_file, licence="made for tests")
    people_table.add(store, SECOND)
    return store


def described(store: Store, recipe: Recipe | None = None, name: str = "a") -> str:
    version_id = versions.freeze(store, LEAD, recipe or Recipe(), name)
    for field, question in datasheet.QUESTIONS.items():
        if question.needed:
            versions.answer(store, LEAD, version_id, field, "For tests")
    return version_id


def submitted(store: Store) -> str:
    version_id = described(store)
    versions.submit(store, LEAD, version_id)
    return version_id


def approved(store: Store) -> str:
    version_id = submitted(store)
    versions.approve(store, REVIEWER, version_id)
    versions.approve(store, SECOND_LEAD, version_id)
    return version_id


def vote(store: Store, person: Person, face: str, value: str, field: str = "expression") -> None:
    assert curation.record(store, person, [{"event_id": str(uuid7()), "op": "set", "image_id": face, "field": field, "value": value,
                                            "gesture": str(uuid7())}]).acked


def gate(store: Store, version_id: str, gate_id: str) -> gates.Gate:
    return gates.find(gates.check(store, LEAD, version_id), gate_id)


# ---- states and policy ----------------------------------------------------------------------------------------------------------


def test_a_version_goes_through_all_its_states(filled: Store) -> None:
    version_id = approved(filled)
    for act in (versions.release, versions.deprecate, versions.revoke):
        with pytest.raises(NotAllowed):
            act(filled, REVIEWER, version_id, "no")
        with pytest.raises(BadInput, match="A reason"):
            act(filled, LEAD, version_id, " \x00 ")
        act(filled, LEAD, version_id, "because")
    with pytest.raises(Conflict, match="It is revoked, not approved or released or deprecated"):
        versions.revoke(filled, LEAD, version_id, "again")
    states = [s for s in table.timeline(filled, version_id)["state"] if isinstance(s, str)]
    assert states == ["frozen", "in_review", "in_review", "approved", "released", "deprecated", "revoked"]
    assert record.verify(filled, version_id) == [] and versions.state(filled.workspace, version_id) == "revoked"


def test_what_may_be_trained_on() -> None:
    assert [s for s in ("draft", "frozen", "in_review", "approved", "released", "deprecated", "revoked") if trainable(s)] == ["approved", "released"]


def test_jobs_take_approved_and_released_versions_without_a_mark(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERCORE_DEVICES", "0")  # runs wait; nothing is trained
    version_id = submitted(filled)
    config = run_config({"version_id": version_id, "model": "simple_cnn", "epochs": 1})
    with pytest.raises(Conflict, match="The version is not approved.*is in review"):
        jobs.start(filled.workspace, config, LEAD)
    for person in (REVIEWER, SECOND_LEAD):
        versions.approve(filled, person, version_id)
    for act in (None, versions.release):
        if act:
            act(filled, LEAD, version_id, "because")
        run_id = jobs.start(filled.workspace, config.model_copy(update={"exploratory": True}), LEAD)
        assert json.loads((filled.workspace.runs / run_id / "config.json").read_text())["exploratory"] is False
    versions.deprecate(filled, LEAD, version_id, "old")
    with pytest.raises(Conflict, match="is deprecated"):
        jobs.start(filled.workspace, config, LEAD)


def test_jobs_take_the_folds_of_a_version_and_no_others(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERCORE_DEVICES", "0")
    version_id = versions.freeze(filled, LEAD, Recipe(split={"by": "folds", "folds": 3}), "a")
    config = run_config({"version_id": version_id, "model": "simple_cnn", "epochs": 1, "exploratory": True, "protocol": "k_fold", "folds": 3})
    jobs.start(filled.workspace, config, LEAD)
    with pytest.raises(Conflict, match="a-v1 was frozen in 3 folds, the run asks for 2.*Use folds=3"):
        jobs.start(filled.workspace, config.model_copy(update={"folds": 2}), LEAD)
    assert len(jobs.list_runs(filled.workspace)) == 1


def test_two_data_leads_can_sign_but_no_two_reviewers(filled: Store) -> None:
    rita, third = Person("rita", "Rita", Role.REVIEWER), Person("tess", "Tess", Role.DATA_LEAD)
    for person in (rita, third):
        people_table.add(filled, person)
    version_id = submitted(filled)
    assert versions.approve(filled, REVIEWER, version_id) == versions.approve(filled, rita, version_id) == "in_review"
    assert versions.approve(filled, third, version_id) == "approved"
    other = described(filled, name="b")
    versions.submit(filled, LEAD, other)
    assert versions.approve(filled, SECOND_LEAD, other) == "in_review" and versions.approve(filled, third, other) == "approved"


def test_a_team_of_one_signs_for_itself_and_the_version_says_so(filled: Store) -> None:
    version_id = submitted(filled)
    with pytest.raises(NotAllowed, match="policy for a team of one"):
        versions.approve(filled, LEAD, version_id)
    with pytest.raises(NotAllowed):
        policy.change(filled, REVIEWER, policy.TEAMS[1], "alone")
    with pytest.raises(BadInput, match="A reason"):
        policy.change(filled, LEAD, policy.TEAMS[1], "")
    assert policy.change(filled, LEAD, policy.TEAMS[1], "I am alone").small_team
    assert versions.approve(filled, LEAD, version_id) == "approved"
    told = datasheet.as_markdown(version_id, datasheet.sheet(filled, REVIEWER, version_id))
    assert "Small\\-team policy: 1 data lead, the creator may be one" in told and "local, not authenticated" in told
    policy.change(filled, LEAD, policy.TEAMS[3], "Two have joined")
    assert policy.history(filled)["reason"].tolist() == ["I am alone", "Two have joined"] and not policy.current(filled).small_team
    assert table.one(filled, version_id)["state"] == "approved"
    assert "Small\\-team" in datasheet.as_markdown(version_id, datasheet.sheet(filled, REVIEWER, version_id))  # the policy it was signed under


@pytest.mark.parametrize("changes", [{"leads": 0}, {"reviewers": -1}, {"alpha": 2}, {"speed": 1}, {"class_floor": "many"}])
def test_a_policy_out_of_bounds_is_refused_and_nothing_is_written(filled: Store, changes: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=f"{next(iter(changes))}.*Settings: reviewers"):
        policy.change(filled, LEAD, changes, "x")
    assert policy.history(filled).empty


def test_an_approval_goes_stale_when_datasheet_or_waivers_change(filled: Store) -> None:
    version_id = submitted(filled)
    versions.approve(filled, REVIEWER, version_id)
    versions.answer(filled, SECOND_LEAD, version_id, "uses", "Something else")
    valid, stale = policy.approvals(table.acts(filled, version_id))
    assert valid == [] and [a["person_id"] for a in stale] == ["rosa"]
    assert versions.approve(filled, SECOND_LEAD, version_id) == "in_review" and versions.approve(filled, REVIEWER, version_id) == "approved"
    with pytest.raises(Conflict, match="It is approved"):
        versions.answer(filled, LEAD, version_id, "uses", "Later")


def test_asking_for_changes_takes_approvals_back(filled: Store) -> None:
    version_id = submitted(filled)
    versions.approve(filled, REVIEWER, version_id)
    versions.reject(filled, SECOND_LEAD, version_id, "Name a contact")
    versions.submit(filled, LEAD, version_id)
    assert policy.approvals(table.acts(filled, version_id)) == ([], [])
    assert versions.approve(filled, SECOND_LEAD, version_id) == "in_review"


def test_an_approval_given_while_somebody_edits_is_refused(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    version_id, check = submitted(filled), gates.check

    def slow(*args: Any) -> list[gates.Gate]:
        found = check(*args)
        versions.answer(filled, SECOND_LEAD, version_id, "uses", "Changed meanwhile")
        return found

    monkeypatch.setattr(gates, "check", slow)
    with pytest.raises(Conflict, match="has just changed"):
        versions.approve(filled, REVIEWER, version_id)


# ---- gates ----------------------------------------------------------------------------------------------------------------------


def test_a_failed_gate_blocks_approval_until_a_lead_waives_it_with_a_reason(store: Store, small_file: Path) -> None:
    ingest.import_fer2013(store, LEAD, small_file)
    version_id = submitted(store)
    assert gate(store, version_id, "provenance").found == "fer2013 states no licence"
    with pytest.raises(Conflict, match="Provenance and licences.*fer2013 states no licence"):
        versions.approve(store, REVIEWER, version_id)
    for person, error, reason in ((REVIEWER, NotAllowed, "x"), (LEAD, NotAllowed, "x"), (SECOND_LEAD, BadInput, "")):
        with pytest.raises(error):
            versions.waive(store, person, version_id, "provenance", reason)
    versions.waive(store, SECOND_LEAD, version_id, "provenance", "For use in this room only")
    found = gate(store, version_id, "provenance")
    assert (found.result, found.waived_by, found.reason) == ("waived", "lee", "For use in this room only")
    with pytest.raises(Conflict, match="It is waived"):
        versions.waive(store, SECOND_LEAD, version_id, "provenance", "again")
    with pytest.raises(NotFound, match="Choose files, record, round_trip, duplicates"):
        versions.waive(store, SECOND_LEAD, version_id, "nothing", "x")
    assert versions.approve(store, REVIEWER, version_id) == "in_review"


def test_a_waiver_covers_what_was_found_and_nothing_worse(filled: Store) -> None:
    version_id = described(filled)
    for face in FACES[3:5]:
        vote(filled, ANNOTATOR, face, "sad")
        vote(filled, SECOND, face, "happy")
        if face == FACES[3]:
            found = gate(filled, version_id, "adjudications")
            assert found.result == "fail" and found.found == "1 disputed faces wait to be settled" and len(found.faces) == 1
            versions.waive(filled, SECOND_LEAD, version_id, "adjudications", "One is no harm")
            assert gate(filled, version_id, "adjudications").result == "waived"
    assert gate(filled, version_id, "adjudications").result == "fail"
    policy.change(filled, LEAD, {"open_adjudications": 2}, "A few are no harm")
    assert gate(filled, version_id, "adjudications").result == "pass"


def test_test_labels_that_people_changed_take_two_votes(filled: Store) -> None:
    changed = FACES[60]  # a test face, given "sad"
    vote(filled, ANNOTATOR, changed, "neutral")
    version_id = described(filled)
    found = gate(filled, version_id, "test_edits")
    assert found.result == "fail" and found.found == "1 of 1 test labels that people changed have one vote" and len(found.faces) == 1
    vote(filled, SECOND, changed, "neutral")
    found = gate(filled, version_id, "test_edits")
    assert found.result == "pass" and found.found.startswith("1 test labels were changed by people") and len(found.faces) == 1


_MAP = {"take": "current", "map": {"angry": "engaged"}}


@pytest.mark.parametrize(("how", "labels", "voted", "edits"), [
    (_MAP, {63: "engaged"}, {}, {}),  # renamed, and nobody voted
    (_MAP, {63: "engaged"}, {63: ["angry"]}, {}),  # somebody agreed with the source
    (_MAP, {63: "fear", 64: "engaged"}, {63: ["fear"], 64: ["angry", "angry"]}, {63: 1, 64: 4}),
    ({"take": "current"}, {64: "engaged"}, {64: ["=engaged"]}, {64: 1}),  # the scheme's own question
    ({"take": "given"}, {64: "engaged"}, {64: ["angry"]}, {}),
    ({"rule": "argmax@1", "votes": "both"}, {64: "angry"}, {64: ["angry"]}, {64: 3}),
    ({"rule": "argmax@1", "votes": "imported"}, {64: "angry"}, {64: ["angry"]}, {}),
])
def test_only_what_people_changed_is_an_edit_of_a_test_label(filled: Store, how: dict[str, Any], labels: dict[int, str], voted: dict[int, list[str]],
                                                             edits: dict[int, int]) -> None:
    with filled.write("labels") as w:  # row 63 is given angry, 64 disgust
        w.run("INSERT INTO facts.imported_vote SELECT sample_id, 'ferplus', 'expression', 'angry', 2 FROM facts.sample WHERE source_row IN (63, 64)")
    for row, values in voted.items():
        for person, value in zip((ANNOTATOR, SECOND), values, strict=False):
            vote(filled, person, FACES[row], value.removeprefix("="), "engaged4" if "=" in value else "expression")
    rows = samples.table(filled).set_index("source_row", drop=False).assign(label=lambda d: d["given_label"], split="test")
    for row, label in labels.items():
        rows.loc[row, "label"] = label
    if "map" not in how:
        rows = rows.drop(index=63)
    found = gates.test_edits(filled, rows, Labels.model_validate(how), "engaged4")
    assert found["votes"].to_dict() == edits and not found["settled"].any()


def test_the_round_trip_is_made_once_and_stands_in_the_record(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    version_id, real, made = described(filled), export.round_trip, list[str]()
    monkeypatch.setattr(export, "round_trip", lambda store, version, *more: (made.append(version), real(store, version, *more))[1])
    before = gate(filled, version_id, "round_trip")
    assert (before.result, before.waivable) == ("fail", False) and "not checked yet" in before.found and not made
    versions.submit(filled, LEAD, version_id)
    assert gate(filled, version_id, "round_trip").result == "pass" and made == [version_id]
    for person in (REVIEWER, SECOND_LEAD):
        versions.approve(filled, person, version_id)
    assert made == [version_id] and record.verify(filled, version_id) == []
    with filled.write("versions") as w:  # who writes a pass into the record is found
        w.run("UPDATE facts.version_event SET detail = '{\"differs\": [] }' WHERE act = 'round_trip'")
    assert "an act was changed" in " ".join(record.verify(filled, version_id))


def test_a_version_that_comes_back_otherwise_is_not_approved_unless_a_lead_answers_for_it(filled: Store) -> None:
    version_id = described(filled)
    with filled.write("samples") as w:
        w.run("UPDATE facts.sample SET given_label = 'sad' WHERE source_row = 40")
    with pytest.raises(RuntimeError, match="stopped"):  # whoever presses Stop leaves all as it was
        versions.submit(filled, LEAD, version_id, raising)
    assert table.one(filled, version_id)["state"] == "frozen"
    versions.submit(filled, LEAD, version_id)
    with pytest.raises(Conflict, match="Round trip verified: after export, import and build, given_label, label came back otherwise"):
        versions.approve(filled, REVIEWER, version_id)
    versions.waive(filled, SECOND_LEAD, version_id, "round_trip", "The source was corrected meanwhile")
    assert versions.approve(filled, REVIEWER, version_id) == "in_review" and gate(filled, version_id, "round_trip").result == "waived"
    seen = len(table.acts(filled, version_id))
    versions.check_round_trip(filled, LEAD, version_id)
    assert len(table.acts(filled, version_id)) == seen  # the same result is not recorded again
    with filled.write("samples") as w:
        w.run("UPDATE facts.sample SET given_label = 'surprise' WHERE source_row = 40")
    versions.check_round_trip(filled, LEAD, version_id)  # which failed before, so it is made again
    assert gate(filled, version_id, "round_trip").result == "pass"


def raising(*_: int) -> None:
    raise RuntimeError("stopped")


def test_floors_come_from_the_policy(filled: Store) -> None:
    version_id = described(filled)
    assert gate(filled, version_id, "floors").result == "pass"
    policy.change(filled, LEAD, {"class_floor": 2}, "More")
    found = gate(filled, version_id, "floors")
    assert found.result == "fail" and "angry has 1 faces in val" in found.found and "and 3 more" in found.found
    policy.change(filled, LEAD, {"class_floor": 1, "group_floor": 1}, "Groups")
    assert gate(filled, version_id, "floors").found.startswith("child has 0 faces in train")


def test_agreement_and_gold_have_limits(filled: Store) -> None:
    version_id, rng = described(filled), np.random.default_rng(0)
    for face in FACES[20:50]:
        for person in (ANNOTATOR, SECOND):
            vote(filled, person, face, str(rng.choice(["sad", "happy", "fear"])))
    found = gate(filled, version_id, "agreement")
    assert found.result == "fail" and "whose lower bound is below 0.4" in found.found
    policy.change(filled, LEAD, {"alpha": None}, "No limit")
    assert gate(filled, version_id, "agreement").result == "pass"
    with filled.write("campaigns") as w:
        w.run("INSERT INTO facts.gold SELECT unnest($ids), 'expression', ['neutral'], true, 'dana', now()::TIMESTAMP", {"ids": FACES[20:50]})
    assert gate(filled, version_id, "agreement").found == "2 annotators met fewer than 70% of the known answers"


def rewrite(store: Store, version_id: str, change: Callable[[pd.DataFrame], None]) -> None:
    """A manifest with a leak, frozen as such: files, card and database agree."""
    folder = store.workspace.versions / version_id
    rows = pd.read_parquet(folder / "manifest.parquet").astype(object)
    rows = rows.where(rows.notna(), None)
    change(rows)
    rows.to_parquet(folder / "manifest.parquet")


def test_duplicates_and_edited_faces_across_splits_are_found(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    version_id = described(filled)
    monkeypatch.setattr(gates.files, "verify", lambda *_: [])  # the manifest is what a faulty build would have frozen
    monkeypatch.setattr(record, "problems", lambda *_: [])

    def leak(rows: pd.DataFrame) -> None:
        held = rows.index[rows["exclusion"].isna()]
        train, test = (next(i for i in held if rows.loc[i, "split"] == s) for s in ("train", "test"))
        rows["pixel_id"] = None
        rows.loc[train, "pixel_id"] = rows.loc[test, "image_id"]  # an edited copy of the test face in training
        rows["fold"] = ["0" if i == held[0] else "1" for i in rows.index]
        rows.loc[held[1], "duplicate_group"] = rows.loc[held[0], "duplicate_group"]

    rewrite(filled, version_id, leak)
    found = gate(filled, version_id, "duplicates")
    assert found.result == "fail" and "several folds" in found.found and len(found.faces) >= 2
    assert gate(filled, version_id, "derived").result == "fail"


def test_files_and_record_cannot_be_waived(filled: Store) -> None:
    version_id = submitted(filled)
    path = filled.workspace.versions / version_id / "pixels.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert [g.gate_id for g in gates.check(filled, LEAD, version_id)] == ["files", "record"]
    with pytest.raises(Conflict, match="cannot be waived"):
        versions.waive(filled, SECOND_LEAD, version_id, "files", "x")
    with pytest.raises(Conflict, match="do not match the version"):
        versions.approve(filled, REVIEWER, version_id)


# ---- tampering ------------------------------------------------------------------------------------------------------------------


_CHANGES = ("reason = reason || 'x'", "person_id = 'x'", "role = 'data_leaD'", "authentication = 'oidc'", "state = 'approveD'", "act = 'submiT'",
            "detail = replace(detail, '1', '2')", "recorded_at = recorded_at + INTERVAL 1 MICROSECOND", "manifest_sha256 = 'x' || manifest_sha256[2:]",
            "hash = 'x' || hash[2:]", "prev_hash = 'x' || prev_hash[2:]", "version_id = version_id || 'x'", "seq = seq + 100")


@pytest.mark.parametrize("change", _CHANGES)
def test_a_changed_act_is_found(filled: Store, change: str) -> None:
    version_id = submitted(filled)
    versions.approve(filled, REVIEWER, version_id, "fine")
    versions.approve(filled, SECOND_LEAD, version_id, "fine 1")
    assert record.verify(filled, version_id) == []
    with filled.write("versions") as w:
        w.run(f"UPDATE facts.version_event SET {change} WHERE act = 'approve' AND person_id = 'rosa'")
    assert record.verify(filled, version_id) and table.broken_acts(filled)
    assert gates.check(filled, LEAD, version_id)[1].result == "fail"


@pytest.mark.parametrize("which", ["act = 'approve'", "act = 'submit'", "act = 'freeze'", "seq = (SELECT max(seq) FROM facts.version_event)"])
def test_an_act_that_was_taken_out_is_found(filled: Store, which: str) -> None:
    version_id = approved(filled)
    with filled.write("versions") as w:
        w.run(f"DELETE FROM facts.version_event WHERE {which}")
    assert record.verify(filled, version_id)
    record.mend(filled)  # which mends what a kill left behind, never this
    assert record.verify(filled, version_id)


@pytest.mark.parametrize(("change", "found"), [
    ("UPDATE facts.version_sample SET label = 'sad' WHERE label = 'happy' AND split = 'test'", "2 rows in the database differ"),
    ("UPDATE facts.version_sample SET split = 'train' WHERE sample_id = $sample", "1 rows in the database differ"),
    ("UPDATE facts.version_sample SET exclusion = 'why not' WHERE sample_id = $sample", "1 rows"),
    ("UPDATE facts.version_sample SET image_id = 'x' WHERE sample_id = $sample", "1 rows"),
    ("DELETE FROM facts.version_sample WHERE sample_id = $sample", "the database lists 69 rows, the manifest 70"),
    ("INSERT INTO facts.version_sample FROM facts.version_sample WHERE sample_id = $sample", "lists 71 rows"),
    ("UPDATE facts.version SET name = 'b'", "name or number"), ("UPDATE facts.version SET number = 7", "name or number"),
    ("UPDATE facts.version SET recorded_at = recorded_at + INTERVAL 1 MICROSECOND", "the time of the version"),
])
def test_a_changed_row_of_the_version_is_found_and_blocks_approval(filled: Store, change: str, found: str) -> None:
    version_id = described(filled)
    assert record.verify(filled, version_id) == []
    sample = filled.value("SELECT sample_id FROM version_samples WHERE split = 'test' AND exclusion IS NULL")
    with filled.write("versions") as w:
        w.run(change, {"sample": sample} if "$" in change else None)
    assert found in " ".join(record.verify(filled, version_id)) and gate(filled, version_id, "record").result == "fail"


def test_an_approved_version_whose_manifest_changed_is_not_trained_on(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERCORE_DEVICES", "0")  # runs wait; nothing is trained
    version_id = approved(filled)
    config = run_config({"version_id": version_id, "model": "simple_cnn", "epochs": 1})
    jobs.start(filled.workspace, config, LEAD)
    folder = filled.workspace.versions / version_id
    rows, kept = pd.read_parquet(folder / "manifest.parquet"), {p.name: p.read_bytes() for p in folder.iterdir()}
    rows.loc[rows["split"] == "train", "label"] = "sad"
    rows.to_parquet(folder / "manifest.parquet")
    assert versions.files.changed(filled.workspace, version_id, table.one(filled, version_id)["manifest_sha256"]) == [
        "manifest.parquet is not the file that was written"]
    with pytest.raises(Conflict, match="not what was approved.*manifest.parquet does not hash"):
        jobs.start(filled.workspace, config, LEAD)
    with pytest.raises(Conflict, match="does not verify"):
        versions.release(filled, LEAD, version_id, "now")
    for name, good in kept.items():
        (folder / name).write_bytes(good)
    jobs.start(filled.workspace, config, LEAD)
    path = folder / "state.json"
    path.write_text(path.read_text().replace("rosa", "rosb", 1))
    with pytest.raises(Conflict, match="act . was changed"):
        jobs.start(filled.workspace, config, LEAD)


def test_a_card_that_cannot_be_read_is_a_problem_and_no_crash(filled: Store) -> None:
    version_id, other = versions.freeze(filled, LEAD, Recipe(), "raw"), versions.freeze(filled, LEAD, Recipe(), "good")
    folder, sha = filled.workspace.versions / version_id, table.one(filled, version_id)["manifest_sha256"]
    whole = json.loads((folder / "version.json").read_text())
    for text in ("", "[]", "{}", json.dumps(whole | {"recipe": 3}), json.dumps({k: v for k, v in whole.items() if k != "recipe"}), None):
        if text is None:
            (folder / "version.json").unlink()
        else:
            (folder / "version.json").write_text(text)
        assert versions.files.changed(filled.workspace, version_id, sha) and record.verify(filled, version_id)
        assert gate(filled, version_id, "files").result == "fail" and other in {c["version_id"] for c in versions.listed(filled.workspace)}
    (folder / "state.json").write_text('{"acts": 5}')
    assert "state.json cannot be read" in " ".join(record.verify(filled, version_id))
    shutil.rmtree(folder)
    assert versions.files.changed(filled.workspace, version_id, sha) and gate(filled, version_id, "files").result == "fail"


def test_no_run_starts_on_changed_files_of_a_frozen_version(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERCORE_DEVICES", "0")
    version_id = versions.freeze(filled, LEAD, Recipe(), "raw")
    config = run_config({"version_id": version_id, "model": "simple_cnn", "epochs": 1, "exploratory": True})
    jobs.start(filled.workspace, config, LEAD)
    path = filled.workspace.versions / version_id / "pixels.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(Conflict, match="not what was frozen.*1 images differ"):
        jobs.start(filled.workspace, config, LEAD)


def test_a_creator_who_was_exchanged_is_found(filled: Store) -> None:
    version_id = submitted(filled)
    with filled.write("versions") as w:
        w.run("UPDATE facts.version SET person_id = 'lee'")
    assert record.problems(filled, version_id) == ["hash or creator of the version are not those of its first act"]
    with filled.write("versions") as w:
        w.run("UPDATE facts.version SET person_id = 'dana', counts = replace(counts, '1', '2')")
    assert record.problems(filled, version_id) == ["recipe or counts in the database are not those of version.json"]


def test_every_changed_byte_of_the_copied_acts_is_found_without_the_database(filled: Store) -> None:
    version_id = approved(filled)
    path, n = filled.workspace.versions / version_id / "state.json", 0
    whole = path.read_bytes()
    for place in range(0, len(whole), 23):
        byte = whole[place:place + 1]
        if not byte.isalnum():
            continue
        path.write_bytes(whole[:place] + (b"7" if byte != b"7" else b"8") + whole[place + 1:])
        assert record.copy_problems(filled.workspace, version_id) or state(filled.workspace, version_id) == "frozen", whole[place - 40:place + 40]
        assert record.verify(filled, version_id), whole[place - 40:place + 40]
        n += 1
    assert n > 100


# ---- killed at every step -------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(240)
def test_a_kill_at_any_step_of_approve_leaves_the_old_or_the_new_state(tmp_path: Path, small_file: Path) -> None:
    place = Workspace(tmp_path / "ws")
    with Store(place) as store:
        for person in (LEAD, SECOND_LEAD, REVIEWER):
            people_table.add(store, person)
        ingest.import_fer2013(store, LEAD, small_file, licence="made for tests")
        version_id = submitted(store)
        versions.approve(store, REVIEWER, version_id)
    before, kept = tmp_path / "before", list[str]()
    shutil.copytree(place.root, before)
    for at in itertools.count():
        code = subprocess.run([sys.executable, str(Path(__file__).parent / "dying_approve.py"), str(place.root), version_id, str(at)], timeout=60,
                              env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[1:3]))}).returncode
        assert code in (0, -signal.SIGKILL)
        assert record.copy_problems(place, version_id) == [] and versions.verify(place, version_id) == []
        with Store(place) as store:
            now = str(table.one(store, version_id)["state"])
            assert now in ("in_review", "approved") and versions.state(place, version_id) in ("in_review", now)
            assert record.verify(store, version_id) == [] and table.broken_acts(store) == []
            record.mend(store)
            assert versions.state(place, version_id) == now
            kept.append(now)
        if code == 0:
            break  # the act has no more steps
        if now == "approved":  # for the next step, back to where it was
            shutil.rmtree(place.root)
            shutil.copytree(before, place.root)
    assert {"in_review", "approved"} == set(kept) and len(kept) >= 7, kept


# ---- old workspaces -------------------------------------------------------------------------------------------------------------


def test_a_workspace_of_before_is_chained_and_its_versions_verify(filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = versions.freeze(filled, LEAD, Recipe(), "a"), versions.freeze(filled, LEAD, Recipe(seed=2), "a")
    root = filled.workspace.root
    filled.close()
    database = duckdb.connect(str(root / "fercore.duckdb"))  # as migration 6 left it
    database.execute("DROP VIEW version_acts; DROP VIEW facts.version_event_texts; DELETE FROM schema_migration WHERE number = 7")
    for column in ("detail", "prev_hash", "hash"):
        database.execute(f"ALTER TABLE facts.version_event DROP COLUMN {column}")
    for i, (version_id, act, new, reason) in enumerate(((first, "submit", "in_review", None), (first, "approve", "approved", "good «ü» \"q\"\n"),
                                                        (second, "submit", "in_review", None), (second, "reject", "rejected", "too few")), 10):
        database.execute("INSERT INTO facts.version_event SELECT uuid(), ?, ?, ?, ?, (SELECT any_value(manifest_sha256) FROM facts.version WHERE "
                         "version_id = ?), 'lee', 'data_lead', 'local, not authenticated', ?, now()::TIMESTAMP",
                         [i, version_id, act, new, version_id, reason])
    database.close()
    for version_id, old in ((first, "approved"), (second, "rejected")):
        write_state(Workspace(root), version_id, old)
    assert versions.state(Workspace(root), second) == "draft"
    with Store(Workspace(root)) as store:
        assert table.table(store).set_index("version_id")["state"].to_dict() == {first: "approved", second: "draft"}
        assert [record.verify(store, v) for v in (first, second)] == [[], []] and table.broken_acts(store) == []
        assert sorted(record.mend(store)) == [first, second] and record.mend(store) == []
        assert [record.verify(store, v) for v in (first, second)] == [[], []]
        versions.release(store, LEAD, first, "as before")
        versions.submit(store, LEAD, second)
        assert versions.state(store.workspace, first) == "released"


# ---- diff -----------------------------------------------------------------------------------------------------------------------


def test_a_diff_says_what_was_added_removed_relabelled_and_moved(filled: Store) -> None:
    first = versions.freeze(filled, LEAD, Recipe(), "a")
    vote(filled, ANNOTATOR, FACES[5], "neutral")
    vote(filled, ANNOTATOR, FACES[6], "yes", "flag_non_face")
    vote(filled, ANNOTATOR, FACES[8], "senior", "age_band")
    second = versions.freeze(filled, LEAD, Recipe(duplicates="keep_all"), "a")
    found = diff.compare(filled.workspace, first, second)
    assert found.counts() | {"moved": 0} == {"added": 1, "removed": 1, "relabelled": 1, "moved": 0, "tagged": 1, "edited": 0}
    assert found.matrix().loc["surprise", "neutral"] == 1 and found.matrix().to_numpy().sum() == 1
    assert found.faces("relabelled", "surprise", "neutral")["image_id"].tolist() == [FACES[5]]
    assert found.reasons().to_numpy().tolist() == [["flagged non face", 1]]
    assert found.faces("added")["image_id"].tolist() == [FACES[0]]  # the copy of face 0
    changes = found.distribution("label").set_index("value")
    assert changes.loc["surprise", "change"] == -1 and changes["a"].sum() == 65
    assert json.loads(json.dumps(versions.diff.compare(filled.workspace, second, second).counts())) == dict.fromkeys(diff.KINDS, 0)
    assert diff.compare(filled.workspace, second, second).text() == f"{second} has the same manifest as {second}"
    assert "surprise" in found.text() and "flagged non face" in found.text()
    with pytest.raises(NotFound):
        diff.compare(filled.workspace, first, "nothing-v1")
    with pytest.raises(BadInput):
        found.faces("other")


# ---- datasheet ------------------------------------------------------------------------------------------------------------------


def test_the_datasheet_is_complete_escaped_and_says_what_is_restricted(filled: Store) -> None:
    version_id = described(filled)
    hostile = "<script>alert(1)</script> [x](http://e) | **b** ![i](y)\n# no heading"
    versions.answer(filled, REVIEWER, version_id, "gaps", hostile)
    sections = datasheet.sheet(filled, REVIEWER, version_id)
    page, text = datasheet.as_html(version_id, sections), datasheet.as_markdown(version_id, sections)
    assert "<script" not in page and "&lt;script&gt;" in page and "src=" not in page and "href=" not in page
    assert "<script" not in text and "[x](" not in text and "\n# no heading" not in text
    for part in ("Art. 5(1)(f)", "made for tests", table.one(filled, version_id)["manifest_sha256"], "perceived"):
        assert part in page
    assert "Ann" not in page.replace("Annotators", "").replace("annotators", "") and "Dana" in page  # annotators are counted, signers are named
    with pytest.raises(NotFound, match="Choose purpose"):
        versions.answer(filled, LEAD, version_id, "mood", "x")
    with pytest.raises(NotAllowed):
        versions.answer(filled, ANNOTATOR, version_id, "uses", "x")
    with pytest.raises(BadInput, match="5,000 characters"):
        versions.answer(filled, LEAD, version_id, "uses", "x" * 5000)


def test_a_datasheet_counts_groups_and_names_what_is_too_small(filled: Store, tmp_path: Path) -> None:
    tags = tmp_path / "tags.csv"
    tags.write_text("csv_row,age_group,gender\n" + "".join(f"{i},{'senior' if i % 5 == 0 else 'young'},female\n" for i in range(70)))
    ingest.import_tags(filled, LEAD, tags)
    text = datasheet.as_markdown("a-v1", datasheet.sheet(filled, REVIEWER, described(filled)))
    assert "| Senior | Angry, Disgust, Fear, Happy, Neutral, Sad, Surprise |" in text and "| Female | 4" in text


# ---- command line ---------------------------------------------------------------------------------------------------------------


def command(store: Store, *args: str) -> tuple[int, str]:
    """Exit code and what was printed; the store is closed meanwhile."""
    done = fercore(*args, workspace=store.workspace.root)
    return done.returncode, done.stdout or done.stderr


def test_the_command_line_signs_compares_and_documents(filled: Store, tmp_path: Path) -> None:
    first, second = approved(filled), versions.freeze(filled, LEAD, Recipe(seed=2), "a")
    filled.close()
    assert command(filled, "version", "release", first)[0] == 2  # no reason
    assert command(filled, "version", "release", first, "--reason", "For the report")[0] == 0
    found = json.loads(command(filled, "version", "diff", first, second, "--json")[1])
    assert found["counts"]["moved"] == sum(sum(row.values()) for row in found["moved"].values()) > 0 and found["counts"]["relabelled"] == 0
    code, gated = command(filled, "version", "gates", second, "--json")
    assert code == 2 and {g["gate_id"]: g["result"] for g in json.loads(gated)["gates"]}["datasheet"] == "fail"
    assert command(filled, "version", "gates", second, "--waive", "datasheet", "--reason", "A draft", "--as", "lee")[0] == 0
    for form, name in (("html", "d.html"), ("markdown", "d.md")):
        path = tmp_path / name
        assert command(filled, "version", "datasheet", first, "--format", form, "--to", str(path))[0] == 0
        assert "Art. 5" in path.read_text() and command(filled, "version", "datasheet", first, "--to", str(path))[0] == 2
    acts = json.loads(command(filled, "version", "timeline", first, "--json")[1])
    assert [a["act"] for a in acts][-3:] == ["approve", "approve", "release"]
    assert command(filled, "version", "policy", "--team", "1")[0] == 2
    assert "creator: True" in command(filled, "version", "policy", "--team", "1", "--set", "alpha=null", "--reason", "Alone")[1]
    assert "alpha: None" in command(filled, "version", "policy")[1]
    assert command(filled, "version", "deprecate", first, "--reason", "Old")[0] == command(filled, "version", "revoke", first, "--reason", "Bad")[0] == 0


def test_verify_and_doctor_find_a_changed_act(filled: Store) -> None:
    version_id = approved(filled)
    filled.close()
    code, told = command(filled, "version", "verify", version_id, "--json")
    assert code == 0 and json.loads(told) == {"version": version_id, "verified": True, "acts": "database and copy", "problems": []}
    shutil.copytree(filled.workspace.versions / version_id, filled.workspace.versions / "b-v1")
    told = json.loads(command(filled, "doctor", "--json")[1])
    assert told["acts on versions"].endswith("verified") and told["not in the database"].startswith("b-v1 under versions/")
    with Store(filled.workspace) as store, store.write("versions") as w:
        w.run("UPDATE facts.version_event SET role = 'data_leae' WHERE act = 'approve' AND role = 'data_lead'")
    code, told = command(filled, "version", "verify", version_id, "--json")
    assert code == 2 and "an act was changed" in told
    code, told = command(filled, "doctor", "--json")
    assert code == 2 and "broken at act" in json.loads(told)["acts on versions"] and "changed" in json.loads(told)[f"version {version_id}"]


def test_verify_reads_the_copied_acts_while_somebody_holds_the_database(filled: Store) -> None:
    version_id = approved(filled)
    verify = partial(fercore_process, "version", "verify", version_id, "--json", workspace=filled.workspace.root)
    assert json.loads(verify().stdout)["acts"] == "copy only"
    path = filled.workspace.versions / version_id / "state.json"
    path.write_text(path.read_text().replace("rosa", "rosb", 1))
    assert verify().returncode == 2
