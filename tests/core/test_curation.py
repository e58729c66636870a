"""Label events: recorded once, folded as said, refused with a reason, blind to other people's answers."""

import hashlib
import itertools
import json
from datetime import datetime
from typing import Any

import pytest
from helpers import ANNOTATOR, LEAD, REVIEWER, some_faces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uuid_utils import uuid7

from fercore import curation, ingest
from fercore.domain import Permission, Person, Role, image_id
from fercore.errors import NotAllowed
from fercore.store import Store, labels

FACES = [image_id(f) for f in some_faces(70)]


def event(op: str, face: str, field: str | None = "expression", value: str | None = None, target: str | None = None) -> dict[str, Any]:
    return {"event_id": str(uuid7()), "op": op, "image_id": face, "field": field, "value": value, "target": target, "gesture": str(uuid7()),
            "lead_ms": 400, "shown_at": 1_790_000_000_000, "decided_at": 1_790_000_000_400, "mode": "single"}


@pytest.fixture
def filled(store: Store, small_file) -> Store:
    ingest.import_fer2013(store, LEAD, small_file)
    return store


def label_of(store: Store, face: str) -> tuple[Any, ...]:
    return store.rows("SELECT DISTINCT given_label, current_label, flags FROM samples WHERE image_id = $i", {"i": face})[0]


def test_a_vote_changes_the_current_label_and_not_the_given_one(filled: Store) -> None:
    receipt = curation.record(filled, ANNOTATOR, [event("set", FACES[3], value="fear")])
    assert len(receipt.acked) == 1 and not receipt.refused
    assert label_of(filled, FACES[3]) == ("happy", "fear", "")
    stored = filled.rows("SELECT person_id, role, authentication, lead_ms, mode FROM label_events")
    assert stored == [("ann", "annotator", "local, not authenticated", 400, "single")]


def test_resending_records_nothing_twice_and_acknowledges_again(filled: Store) -> None:
    events = [event("set", f, value="sad") for f in FACES[3:6]]
    first = curation.record(filled, ANNOTATOR, events)
    again = curation.record(filled, ANNOTATOR, events + events[:1])
    assert sorted(first.acked) == sorted(again.acked) == sorted(e["event_id"] for e in events)
    assert filled.value("SELECT count(*) FROM facts.label_event") == 3


def test_duplicates_share_their_votes(filled: Store) -> None:
    curation.record(filled, ANNOTATOR, [event("set", FACES[0], value="neutral")])
    assert filled.rows("SELECT source_row, current_label FROM samples WHERE image_id = $i ORDER BY source_row", {"i": FACES[0]}) == [
        (0, "neutral"), (7, "neutral")]


def test_a_tie_keeps_the_given_label_and_a_third_vote_decides(filled: Store) -> None:
    for person, value in ((ANNOTATOR, "fear"), (REVIEWER, "sad")):
        curation.record(filled, person, [event("set", FACES[3], value=value)])
    assert label_of(filled, FACES[3])[1] == "happy"
    curation.record(filled, LEAD, [event("set", FACES[3], value="sad")])
    assert label_of(filled, FACES[3])[1] == "sad"


def test_undo_and_redo_bring_back_what_stood_before(filled: Store) -> None:
    first, second = event("set", FACES[3], value="fear"), event("set", FACES[3], value="sad")
    curation.record(filled, ANNOTATOR, [first, second])
    curation.record(filled, ANNOTATOR, [event("undo", FACES[3], None, target=second["event_id"])])
    assert label_of(filled, FACES[3])[1] == "fear"
    curation.record(filled, ANNOTATOR, [event("undo", FACES[3], None, target=first["event_id"])])
    assert label_of(filled, FACES[3])[1] == "happy"
    curation.record(filled, ANNOTATOR, [event("redo", FACES[3], None, target=first["event_id"])])
    assert label_of(filled, FACES[3])[1] == "fear"
    assert filled.value("SELECT count(*) FROM label_events") == 5  # nothing was deleted


def test_flags_are_votes_that_can_be_taken_back(filled: Store) -> None:
    curation.record(filled, ANNOTATOR, [event("set", FACES[3], "flag_dark", "yes"), event("set", FACES[3], "flag_non_face", "yes")])
    assert label_of(filled, FACES[3])[2] == "dark,non_face"
    curation.record(filled, ANNOTATOR, [event("unset", FACES[3], "flag_dark")])
    assert label_of(filled, FACES[3])[2] == "non_face"


@pytest.mark.parametrize(("change", "part"), [
    ({"image_id": "0" * 64}, "unknown image"), ({"image_id": "../etc"}, "image_id"), ({"value": "contented"}, "no value of expression"),
    ({"field": "mood"}, "cannot be labelled"), ({"field": None}, "names no field"), ({"op": "drop"}, "op"), ({"op": "undo", "target": None}, "no target"),
    ({"op": "undo", "target": "00000000-0000-7000-8000-000000000000"}, "not yours"), ({"event_id": "1"}, "event_id"), ({"lead_ms": -1}, "lead_ms"),
    ({"shown_at": 10**18}, "shown_at"), ({"field": "flag_dark", "value": "happy"}, "no value of flag_dark"),
])
def test_bad_events_are_refused_with_a_reason_and_the_good_part_is_kept(filled: Store, change: dict[str, Any], part: str) -> None:
    good, bad = event("set", FACES[4], value="sad"), {**event("set", FACES[5], value="sad"), **change}
    receipt = curation.record(filled, ANNOTATOR, [good, bad])
    assert receipt.acked == [good["event_id"]] and list(receipt.refused) == [bad["event_id"]] and part in receipt.refused[bad["event_id"]]
    assert filled.value("SELECT count(*) FROM label_events") == 1


def test_nobody_undoes_or_takes_over_another_persons_act(filled: Store) -> None:
    mine = event("set", FACES[3], value="fear")
    curation.record(filled, ANNOTATOR, [mine])
    undo, stolen = event("undo", FACES[3], None, target=mine["event_id"]), {**event("set", FACES[3], value="sad"), "event_id": mine["event_id"]}
    receipt = curation.record(filled, REVIEWER, [undo, stolen])
    assert set(receipt.refused) == {undo["event_id"], mine["event_id"]} and not receipt.acked
    assert label_of(filled, FACES[3])[1] == "fear"


def test_a_role_without_the_right_is_refused(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(curation.Person.require.__globals__["PERMISSIONS"], Role.ANNOTATOR, frozenset({Permission.LOOK}))
    with pytest.raises(NotAllowed, match="You may not label"):
        curation.record(filled, ANNOTATOR, [event("set", FACES[3], value="fear")])


def test_other_peoples_decision_is_hidden_until_one_has_answered(filled: Store) -> None:
    curation.record(filled, REVIEWER, [event("set", FACES[3], value="fear")])
    faces = filled.frame("SELECT * FROM samples WHERE image_id = $i", {"i": FACES[3]})
    assert curation.seen_by(filled, ANNOTATOR, faces)[["current_label", "open"]].values.tolist() == [["happy", False]]
    assert curation.seen_by(filled, REVIEWER, faces)[["current_label", "open"]].values.tolist() == [["fear", True]]
    curation.record(filled, ANNOTATOR, [event("set", FACES[3], value="fear")])
    assert curation.seen_by(filled, ANNOTATOR, faces)[["current_label", "open"]].values.tolist() == [["fear", True]]


def test_tags_of_others_stay_hidden_until_one_has_tagged(filled: Store) -> None:
    curation.record(filled, REVIEWER, [event("set", FACES[3], "age_band", "senior"), event("set", FACES[3], "gender", "female")])
    curation.record(filled, ANNOTATOR, [event("set", FACES[3], value="fear")])
    faces = filled.frame("SELECT * FROM samples WHERE image_id = $i", {"i": FACES[3]})
    seen = curation.seen_by(filled, ANNOTATOR, faces).iloc[0]
    assert seen["open"] and not seen["open_tags"] and not isinstance(seen["age_band"], str) and not isinstance(seen["gender"], str)
    curation.record(filled, ANNOTATOR, [event("set", FACES[3], "age_band", "young"), event("set", FACES[3], "gender", "male")])
    assert curation.seen_by(filled, ANNOTATOR, faces).iloc[0]["open_tags"]


def test_odd_values_of_one_event_do_not_take_the_others_with_them(filled: Store) -> None:
    good = event("set", FACES[3], value="fear")
    odd = [{**event("set", FACES[4], value="fear"), "lead_ms": float("inf")}, event("skip", FACES[4], "a\x00b"), event("set", FACES[4], value="\udcff")]
    receipt = curation.record(filled, ANNOTATOR, [*odd, good])
    assert receipt.acked == [good["event_id"]] and len(receipt.refused) == 3


def test_an_undo_of_a_refused_act_or_of_another_face_is_refused(filled: Store) -> None:
    bad, good = event("set", "0" * 64, value="sad"), event("set", FACES[4], value="sad")
    undo_bad, undo_elsewhere = event("undo", FACES[4], None, target=bad["event_id"]), event("undo", FACES[5], None, target=good["event_id"])
    receipt = curation.record(filled, ANNOTATOR, [bad, undo_bad, good, undo_elsewhere])
    assert receipt.acked == [good["event_id"]] and set(receipt.refused) == {e["event_id"] for e in (bad, undo_bad, undo_elsewhere)}


def test_ids_are_acknowledged_as_they_were_spelled(filled: Store) -> None:
    loud = {**event("set", FACES[3], value="fear"), "lead_ms": 12.5}
    loud["event_id"] = loud["event_id"].upper()
    assert curation.record(filled, ANNOTATOR, [loud]).acked == [loud["event_id"]]


def test_one_non_face_flag_does_not_outvote_those_who_name_an_expression(filled: Store) -> None:
    curation.record(filled, ANNOTATOR, [event("set", FACES[3], "flag_non_face", "yes")])
    assert label_of(filled, FACES[3])[2] == "non_face"
    curation.record(filled, REVIEWER, [event("set", FACES[3], value="fear")])
    assert label_of(filled, FACES[3])[2] == ""  # one against one: no decision
    curation.record(filled, REVIEWER, [event("set", FACES[3], "flag_non_face", "yes"), event("unset", FACES[3])])
    assert label_of(filled, FACES[3])[2] == "non_face"


def test_a_second_expression_is_a_field_of_its_own(filled: Store) -> None:
    assert curation.record(filled, ANNOTATOR, [event("set", FACES[3], "expression_2", "fear")]).acked
    assert label_of(filled, FACES[3])[1] == "happy"
    assert curation.record(filled, ANNOTATOR, [event("set", FACES[3], "expression_2", "cannot_tell")]).refused


def test_events_out_of_order_and_ten_thousand_at_once_are_absorbed(filled: Store) -> None:
    one = event("set", FACES[3], value="fear")
    undo = event("undo", FACES[3], None, target=one["event_id"])
    assert len(curation.record(filled, ANNOTATOR, [undo, one]).acked) == 2 and label_of(filled, FACES[3])[1] == "happy"
    many = [event("set", FACES[12 + i % 47], value=("sad", "fear")[i % 2]) for i in range(10_000)]
    receipt = curation.record(filled, REVIEWER, many)
    assert len(receipt.acked) == 10_000 and not receipt.refused
    last = {e["image_id"]: e["value"] for e in many}
    assert dict(filled.rows("SELECT image_id, value FROM standing WHERE person_id = 'rosa'")) == last


def test_an_event_from_an_older_page_is_recorded_and_an_invented_person_is_not_believed(filled: Store) -> None:
    old = {k: v for k, v in event("set", FACES[3], value="fear").items() if k not in ("mode", "lead_ms", "shown_at", "decided_at")}
    assert curation.record(filled, ANNOTATOR, [{**old, "person_id": "dana", "role": "data_lead", "round": "adjudication"}]).acked
    assert filled.rows("SELECT person_id, role, round FROM label_events") == [("ann", "annotator", "vote")]


@pytest.mark.parametrize(("statement", "what"), [
    ("UPDATE facts.label_event SET value = 'happy' WHERE seq = (SELECT max(seq) - 2 FROM facts.label_event)", "changed"),
    ("DELETE FROM facts.label_event WHERE seq = (SELECT min(seq) + 1 FROM facts.label_event)", "missing"),
    ("DELETE FROM facts.event_block WHERE block = 2", "missing"),
    ("INSERT INTO facts.label_event (event_id, seq, op, image_id) VALUES (uuid(), 999, 'set', 'x')", "outside"),
    ("INSERT INTO facts.label_event (event_id, seq, op, image_id) VALUES (uuid(), -5, 'set', 'x')", "outside"),
    ("INSERT INTO facts.label_event (event_id, op, image_id) VALUES (uuid(), 'set', 'x')", "outside"),
])
def test_the_hash_chain_names_what_was_tampered_with(filled: Store, statement: str, what: str) -> None:
    for start in range(12, 21, 3):
        curation.record(filled, ANNOTATOR, [event("set", f, value="sad") for f in FACES[start:start + 3]])
    assert labels.broken_block(filled) is None and labels.chain_head(filled)[0] == 9
    with filled.write("labels") as w:
        w.run(statement)
    found = labels.broken_block(filled)
    assert found is not None and what in found["what"]


def test_the_chain_can_be_recomputed_without_the_database(filled: Store) -> None:
    for start in range(12, 21, 3):
        curation.record(filled, ANNOTATOR, [event("set", f, value="sad") for f in FACES[start:start + 3]])
    names = ["event_id", "seq", "op", "image_id", "field", "value", "target", "gesture", "person_id", "role", "authentication", "mode", "lead_ms",
             "shown_at", "decided_at", "recorded_at", "round", "scheme_id", "campaign_id", "lease_id", "reason", "inclusion", "suggested",
             "suggested_by", "addressee"]
    head = ""
    for first, last in filled.rows("SELECT first_seq, last_seq FROM facts.event_block ORDER BY block"):
        texts = []
        for row in filled.rows(f"SELECT {', '.join(names)} FROM facts.label_event WHERE seq BETWEEN $a AND $b ORDER BY seq", {"a": first, "b": last}):
            plain = [None if v is None else str(round((v - datetime(1970, 1, 1)).total_seconds() * 1e6)) if isinstance(v, datetime) else str(v)
                     for v in row]
            texts.append(json.dumps(plain, separators=(",", ":")))
        head = hashlib.sha256((head + "\n".join(texts)).encode()).hexdigest()
    assert labels.chain_head(filled) == (9, head)


ACTS = st.lists(st.tuples(st.sampled_from(["ann", "rosa"]), st.sampled_from(["set", "unset", "undo", "redo", "skip"]), st.integers(0, 2),
                          st.sampled_from(["angry", "happy", "cannot_tell"]), st.integers(0, 30)), max_size=30)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=ACTS, cuts=st.lists(st.integers(0, 30), max_size=4))
def test_replaying_events_gives_the_standing_votes(filled: Store, acts: list[Any], cuts: list[int]) -> None:
    """The SQL fold against a plain re-computation, sent in any batches, each twice."""
    with filled.write("labels") as w:
        for table in ("facts.label_event", "facts.event_block", "projection.standing"):
            w.run(f"DELETE FROM {table}")
    people = {p.person_id: p for p in (ANNOTATOR, REVIEWER)}
    sent: list[tuple[Person, dict[str, Any]]] = []
    for who, op, face, value, back in acts:
        own = [e for p, e in sent if p.person_id == who and e["op"] in ("set", "unset", "skip")]
        if op in ("undo", "redo"):
            if own:
                target = own[back % len(own)]
                sent.append((people[who], event(op, target["image_id"], None, target=target["event_id"])))
        else:
            sent.append((people[who], event(op, FACES[face], value=value if op == "set" else None)))
    edges = sorted({0, len(sent), *(c for c in cuts if c < len(sent))})
    for start, stop in itertools.pairwise(edges):
        for person in people.values():  # each person's events arrive in their own order
            batch = [e for p, e in sent[start:stop] if p is person]
            for _ in range(2):
                assert not curation.record(filled, person, batch).refused
    expected: dict[tuple[str, str], str] = {}
    for person in people.values():
        mine = [e for p, e in sent if p is person]
        off = {}
        for e in mine:
            if e["target"]:
                off[e["target"]] = e["op"] == "undo"
        for e in mine:
            if e["op"] in ("set", "unset") and not off.get(e["event_id"]):
                expected[e["image_id"], person.person_id] = e["value"] if e["op"] == "set" else ""
    stands = {(i, p): v for i, p, v in filled.rows("SELECT image_id, person_id, value FROM standing WHERE op = 'set'")}
    assert stands == {k: v for k, v in expected.items() if v}
    assert labels.standing_differences(filled) == 0 and labels.broken_block(filled) is None
