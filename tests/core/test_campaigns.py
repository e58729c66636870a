"""Campaigns, leases, undo stacks and adjudication on a real store."""

from datetime import timedelta
from typing import Any

import pytest
from helpers import ANNOTATOR, LEAD, REVIEWER, some_faces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uuid_utils import uuid7

from fercore import curation, ingest
from fercore.curation import adjudication, campaigns, past
from fercore.domain import Person, Role, image_id
from fercore.errors import BadInput, Conflict, FerError, NotAllowed, NotFound
from fercore.store import Store, labels
from fercore.store import campaigns as table

FACES = [image_id(f) for f in some_faces(70)]
MANY = [Person(f"a{i}", f"A{i}", Role.ANNOTATOR) for i in range(4)]


def event(op: str, face: str, value: str | None = None, field: str | None = "expression", **more: Any) -> dict[str, Any]:
    return {"event_id": str(uuid7()), "op": op, "image_id": face, "field": field, "value": value, "gesture": str(uuid7()), **more}


@pytest.fixture
def filled(store: Store, small_file) -> Store:
    ingest.import_fer2013(store, LEAD, small_file)
    return store


def opened(store: Store, **values: Any) -> str:
    return campaigns.save(store, REVIEWER, {"name": "Test", "ask": ("fer7@1",), **values})


def asked(store: Store, person: Person, campaign: str) -> table.Ask:
    return curation.ask(store, person, campaign, campaigns.find(store, campaign)[0])


def faces(block: Any) -> list[str]:
    return block.faces["image_id"].tolist()


@pytest.fixture(autouse=True)
def whole_campaign(monkeypatch: pytest.MonkeyPatch) -> None:
    """70 faces are few: let one block hold them all, but where a test says otherwise."""
    monkeypatch.setattr(campaigns, "PART", 1)


def test_the_first_to_come_does_not_hold_a_small_campaign_alone(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaigns, "PART", 4)
    campaign = opened(filled)
    assert [len(faces(curation.block(filled, p, campaign, p.person_id, 1))) for p in MANY] == [20, 20, 20, 7]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaigns, "BLOCK", 20)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("votes", [1, 2])
def test_no_slot_of_a_face_is_held_twice_and_every_face_gets_its_votes(filled: Store, votes: int) -> None:
    campaign, done = opened(filled, votes=votes), dict.fromkeys((p.person_id for p in MANY), 0)
    number = dict.fromkeys(done, 0)
    for _ in range(20):
        for person in MANY:
            number[person.person_id] += 1
            block = curation.block(filled, person, campaign, f"tab-{person.person_id}", number[person.person_id])
            held = filled.rows("SELECT f.image_id, f.slot, count(*) FROM live.lease_face AS f GROUP BY ALL HAVING count(*) > 1")
            assert not held  # nothing expired here, so no slot may ever repeat
            events = [event("set", f, "sad", lease=block.lease_id) for f in faces(block)]
            assert not curation.record(filled, person, events).refused
            done[person.person_id] += len(events)
    counts = dict(filled.rows("SELECT n, count(*) FROM (SELECT image_id, count(*) AS n FROM standing GROUP BY image_id) GROUP BY n"))
    assert counts == {votes: 67} and sum(done.values()) == 67 * votes and table.double_holds(filled) == 0
    assert "have all the 2 answers" in curation.why_empty(filled, LEAD, campaign) or votes == 1


@pytest.mark.usefixtures("small_blocks")
def test_a_block_is_given_again_and_a_new_tab_takes_over_in_order(filled: Store) -> None:
    campaign = opened(filled)
    first = curation.block(filled, ANNOTATOR, campaign, "tab-1", 1)
    again = curation.block(filled, ANNOTATOR, campaign, "tab-1", 1)
    assert faces(first) == faces(again) and first.lease_id == again.lease_id and len(faces(first)) == 20
    second = curation.block(filled, ANNOTATOR, campaign, "tab-1", 2)
    assert not set(faces(first)) & set(faces(second))
    curation.record(filled, ANNOTATOR, [event("set", faces(first)[0], "sad", lease=first.lease_id)])
    moved = curation.block(filled, ANNOTATOR, campaign, "tab-2", 1)
    assert faces(moved) == faces(first)[1:] + faces(second)
    late = curation.record(filled, ANNOTATOR, [event("set", faces(first)[1], "sad", lease=first.lease_id)])  # the old tab sends what it had
    assert len(late.acked) == 1


@pytest.mark.usefixtures("small_blocks")
def test_another_persons_lease_and_faces_outside_the_lease_are_refused(filled: Store) -> None:
    campaign = opened(filled)
    mine, other = (curation.block(filled, p, campaign, p.person_id, 1) for p in MANY[:2])
    cases = {"not yours": event("set", faces(other)[0], "sad", lease=other.lease_id),
             "not handed out": event("set", faces(other)[0], "sad", lease=mine.lease_id),
             "not yours ": event("set", faces(mine)[0], "sad", lease="invented")}
    good = event("set", faces(mine)[0], "sad", lease=mine.lease_id)
    receipt = curation.record(filled, MANY[0], [*cases.values(), good])
    assert receipt.acked == [good["event_id"]]
    assert filled.rows("SELECT scheme_id, campaign_id, lease_id, reason FROM label_events") == [("fer7@1", campaign, mine.lease_id, "queue")]
    assert all(part.strip() in receipt.refused[e["event_id"]] for part, e in cases.items())


@pytest.mark.usefixtures("small_blocks")
def test_a_lease_that_ran_out_goes_to_others_and_a_late_answer_is_kept(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign, clock = opened(filled), [table.now()]
    monkeypatch.setattr(table, "now", lambda: clock[0])
    gone = curation.block(filled, MANY[0], campaign, "sleeper", 1)
    assert not set(faces(curation.block(filled, MANY[1], campaign, "b", 1))) & set(faces(gone))
    clock[0] += timedelta(minutes=campaigns.LEASE_MINUTES / 2 + 1)
    assert curation.heartbeat(filled, MANY[1], campaign, asked(filled, MANY[1], campaign), "b") == []  # kept by its heartbeat
    clock[0] += timedelta(minutes=campaigns.LEASE_MINUTES / 2)
    taken: set[str] = set()
    for number in range(2, 6):
        taken |= set(faces(curation.block(filled, MANY[1], campaign, "b", number)))
    assert set(faces(gone)) <= taken
    assert set(curation.heartbeat(filled, MANY[0], campaign, asked(filled, MANY[0], campaign), "sleeper")) == set(faces(gone))
    assert curation.record(filled, MANY[0], [event("set", faces(gone)[0], "sad", lease=gone.lease_id)]).acked


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("comeback", ["heartbeat", "new tab"])
def test_who_comes_back_after_a_lease_ran_out_gets_other_slots(filled: Store, monkeypatch: pytest.MonkeyPatch, comeback: str) -> None:
    campaign, clock = opened(filled, votes=2), [table.now()]
    monkeypatch.setattr(table, "now", lambda: clock[0])
    gone = curation.block(filled, MANY[0], campaign, "sleeper", 1)
    clock[0] += timedelta(minutes=campaigns.LEASE_MINUTES + 1)
    for number in range(1, 5):
        curation.block(filled, MANY[1], campaign, "b", number)
    if comeback == "heartbeat":
        assert curation.heartbeat(filled, MANY[0], campaign, asked(filled, MANY[0], campaign), "sleeper") == []
    else:
        assert set(faces(curation.block(filled, MANY[0], campaign, "later", 1))) == set(faces(gone))
    holds = filled.rows("SELECT f.image_id, f.slot, count(DISTINCT l.person_id) FROM live.lease_face AS f JOIN live.lease AS l "
                        "ON l.lease_id = f.lease_id WHERE l.ended_at IS NULL AND l.expires_at > $now AND f.slot IS NOT NULL GROUP BY ALL "
                        "HAVING count(DISTINCT l.person_id) > 1", {"now": clock[0]})
    assert not holds


@pytest.mark.usefixtures("small_blocks")
def test_an_old_tab_learns_that_a_new_one_took_its_faces(filled: Store) -> None:
    campaign = opened(filled)
    old = curation.block(filled, ANNOTATOR, campaign, "tab-1", 1)
    curation.block(filled, ANNOTATOR, campaign, "tab-2", 1)
    assert set(curation.heartbeat(filled, ANNOTATOR, campaign, asked(filled, ANNOTATOR, campaign), "tab-1")) == set(faces(old))
    assert curation.heartbeat(filled, ANNOTATOR, campaign, asked(filled, ANNOTATOR, campaign), "tab-2") == []


def test_flags_and_skips_elsewhere_do_not_empty_a_queue(filled: Store) -> None:
    for person in (ANNOTATOR, *MANY[:3]):
        for face in FACES[12:20]:
            curation.record(filled, person, [event("set", face, "yes", "flag_dark"), event("skip", face, None, "age_band")])
        curation.record(filled, person, [event("set", FACES[20], "yes", "flag_non_face")])
    left = set(faces(curation.block(filled, ANNOTATOR, opened(filled, votes=3), "a", 1)))
    assert set(FACES[12:20]) <= left and FACES[20] not in left


def test_an_empty_queue_says_why(filled: Store) -> None:
    campaign = opened(filled, label="disgust")
    held = curation.block(filled, MANY[0], campaign, "a", 1)
    assert "10 min" in curation.why_empty(filled, MANY[1], campaign) and f"{len(faces(held))} are with others" in curation.why_empty(
        filled, MANY[1], campaign)
    curation.record(filled, MANY[0], [event("set", f, "sad", lease=held.lease_id) for f in faces(held)])
    assert f"you have answered {len(faces(held))} of" in curation.why_empty(filled, MANY[0], campaign)
    assert "are answered" in curation.why_empty(filled, MANY[1], campaign)
    campaigns.save(filled, REVIEWER, campaigns.find(filled, campaign)[0], campaign, "closed")
    assert curation.why_empty(filled, MANY[1], campaign) == "This campaign is closed."
    assert not faces(curation.block(filled, MANY[1], campaign, "b", 1))
    nothing = opened(filled, name="None", label="contempt")
    assert "No face matches" in curation.why_empty(filled, MANY[1], nothing)


def test_votes_wanted_can_be_raised_at_any_time(filled: Store) -> None:
    campaign = opened(filled, label="disgust")
    block = curation.block(filled, MANY[0], campaign, "a", 1)
    curation.record(filled, MANY[0], [event("set", f, "sad", lease=block.lease_id) for f in faces(block)])
    assert not faces(curation.block(filled, MANY[1], campaign, "b", 1))
    campaigns.save(filled, REVIEWER, {"name": "Test", "ask": ("fer7@1",), "label": "disgust", "votes": 2}, campaign)
    assert set(faces(curation.block(filled, MANY[1], campaign, "b", 2))) == set(faces(block))


def test_what_is_handed_out_tells_nothing_of_others(filled: Store) -> None:
    campaign = opened(filled, votes=3)
    curation.record(filled, REVIEWER, [event("set", FACES[3], "fear"), event("set", FACES[3], "yes", "flag_dark")])
    block = curation.block(filled, ANNOTATOR, campaign, "a", 1)
    assert list(block.faces.columns) == ["image_id", "gray48", "round", "suggested", "place", "answers"]
    assert block.faces["suggested"].isna().all() and not any(bool(a) for a in block.faces["answers"] if isinstance(a, dict))


def test_members_only(filled: Store) -> None:
    campaign = opened(filled, members=("rosa",))
    assert campaign in curation.for_person(filled, REVIEWER, "label") and campaign not in curation.for_person(filled, ANNOTATOR, "label")
    with pytest.raises(NotAllowed, match="not in this campaign"):
        curation.block(filled, ANNOTATOR, campaign, "a", 1)


def test_the_random_part_is_fixed_and_its_inclusion_probability_is_the_share(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the priority empties the queue: which faces are handed out as random depends on the campaign and the face alone."""
    monkeypatch.setattr(campaigns, "BLOCK", 7)
    drawn = dict.fromkeys(FACES, 0)
    for n in range(60):
        campaign, number, seen, random = opened(filled, name=f"Draw {n}", random_share=0.3, priority="rarity"), 0, [], set()
        while n < 3 or number < 1:  # the first three to the end
            number += 1
            block = curation.block(filled, ANNOTATOR, campaign, f"t{n}", number)
            if not faces(block):
                break
            seen += faces(block)
            random |= {i for i, p in filled.rows("SELECT image_id, inclusion FROM live.lease_face WHERE lease_id = $l AND reason = 'random'",
                                                 {"l": block.lease_id}) if p == 0.3}
        assert len(seen) == len(set(seen)) and (n >= 3 or len(seen) == 67)
        wanted = dict(filled.rows("SELECT image_id, md5_number_lower(image_id || $c) % 1000000 < 300000 FROM images", {"c": campaign}))
        assert random <= {i for i, r in wanted.items() if r} and (n >= 3 or random == {i for i, r in wanted.items() if r})
        for face in (i for i, r in wanted.items() if r):
            drawn[face] += 1
    shares = [drawn[f] / 60 for f in drawn if drawn[f]]
    assert len(shares) == 67 and 0.25 < sum(shares) / 67 < 0.35 and max(shares) < 0.65  # a face is no likelier than another


def test_priorities_come_first(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaigns, "BLOCK", 3)
    for person, value in ((REVIEWER, "fear"), (MANY[0], "sad"), (MANY[1], "happy")):
        curation.record(filled, person, [event("set", FACES[5], value), event("set", FACES[6], "sad" if person is REVIEWER else "fear")])
    campaign = opened(filled, votes=9, priority="entropy")
    assert {FACES[5], FACES[6]} <= set(faces(curation.block(filled, ANNOTATOR, campaign, "a", 1)))


def test_gold_and_hidden_repeats_are_slipped_in_and_never_said(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    gold = FACES[20:24]
    campaigns.set_gold(filled, REVIEWER, gold, "expression", ["fear", "surprise"])
    campaign = opened(filled, votes=2, gold_share=0.2, repeat_share=0.2, repeat_hours=0)
    monkeypatch.setattr(campaigns, "BLOCK", 10)
    block = curation.block(filled, ANNOTATOR, campaign, "a", 1)
    assert len(set(gold) & set(faces(block))) == 2
    curation.record(filled, ANNOTATOR, [event("set", f, "sad", lease=block.lease_id) for f in faces(block)])
    second = curation.block(filled, ANNOTATOR, campaign, "a", 2)
    repeats = set(faces(second)) & set(faces(block))
    assert len(repeats) == 2 and all(not a for a in second.faces["answers"] if isinstance(a, dict))
    curation.record(filled, ANNOTATOR, [event("set", f, "fear", lease=second.lease_id) for f in faces(second)])
    for face in repeats:
        stands = dict(filled.rows("SELECT round, value FROM standing WHERE image_id = $i AND person_id = 'ann'", {"i": face}))
        assert stands == {"vote": "sad", "repeat": "fear"}
        assert filled.value("SELECT value FROM decisions WHERE image_id = $i", {"i": face}) == "sad"
    assert not repeats & set(faces(curation.block(filled, ANNOTATOR, campaign, "a", 3)))


def test_untouched_cells_of_a_grid_confirm_and_do_not_vote(filled: Store) -> None:
    campaign = opened(filled, grid=True, claim="disgust", claimed_by="given")
    block = curation.block(filled, REVIEWER, campaign, "a", 1)
    assert set(block.faces["suggested"]) == {"disgust"} and filled.value("SELECT count(*) FROM samples WHERE given_label = 'disgust'") >= len(block.faces)
    kept, changed = faces(block)[0], faces(block)[1]
    receipt = curation.record(filled, REVIEWER, [event("set", kept, "disgust", lease=block.lease_id, mode="grid_bulk"),
                                                 event("set", changed, "fear", lease=block.lease_id, mode="grid_exception")])
    assert len(receipt.acked) == 2
    assert filled.rows("SELECT image_id, value FROM votes WHERE origin = 'annotator'") == [(changed, "fear")]
    assert dict(filled.rows("SELECT image_id, how FROM decisions")) == {kept: "confirmed", changed: "votes"}
    assert filled.rows("SELECT DISTINCT suggested, suggested_by FROM label_events") == [("disgust", "given")]
    single = curation.block(filled, REVIEWER, opened(filled, name="Plain"), "b", 1)
    assert curation.record(filled, REVIEWER, [event("set", faces(single)[0], "sad", lease=single.lease_id, mode="grid_bulk")]).refused


def test_a_grid_takes_only_what_was_claimed_and_what_its_campaign_asks(filled: Store) -> None:
    campaign = opened(filled, grid=True, claim="disgust", claimed_by="given")
    block = curation.block(filled, REVIEWER, campaign, "a", 1)
    face, other = faces(block)[:2]
    forged = [event("set", face, "fear", lease=block.lease_id, mode="grid_bulk"),
              event("set", face, "yes", "flag_non_face", lease=block.lease_id, mode="grid_bulk"),
              event("set", face, "young", "age_band", lease=block.lease_id, mode="grid_bulk"),
              event("set", face, "young", "age_band", lease=block.lease_id)]
    agreed = event("set", other, "disgust", lease=block.lease_id, mode="grid_exception")  # what was claimed is no independent vote, however it is sent
    receipt = curation.record(filled, REVIEWER, [*forged, agreed])
    assert receipt.acked == [agreed["event_id"]] and len(receipt.refused) == 4
    assert filled.rows("SELECT DISTINCT round FROM label_events") == [("confirm",)]


def test_an_untouched_cell_does_not_outweigh_votes(filled: Store) -> None:
    for person in MANY[:3]:
        curation.record(filled, person, [event("set", FACES[12], "disgust")])
    campaign = opened(filled, name="Non-faces", ask=("flag_non_face",), grid=True, claim="yes")
    block = curation.block(filled, REVIEWER, campaign, "a", 1)
    assert curation.record(filled, REVIEWER, [event("set", FACES[12], "yes", "flag_non_face", lease=block.lease_id, mode="grid_bulk")]).acked
    assert filled.value("SELECT max(flags) FROM samples WHERE image_id = $i", {"i": FACES[12]}) == ""


def test_annotators_verify_an_expression_only_after_two_votes(filled: Store) -> None:
    campaign = opened(filled, grid=True, claim="disgust", claimed_by="given", votes=5)
    assert not faces(curation.block(filled, ANNOTATOR, campaign, "a", 1)) and "others have voted" in curation.why_empty(filled, ANNOTATOR, campaign)
    face = filled.value("SELECT image_id FROM samples WHERE given_label = 'disgust' LIMIT 1")
    for person in (REVIEWER, LEAD):
        curation.record(filled, person, [event("set", face, "disgust")])
    assert faces(curation.block(filled, ANNOTATOR, campaign, "a", 2)) == [face]


@pytest.mark.parametrize(("change", "part"), [
    ({"name": ""}, "name"), ({"ask": ()}, "ask"), ({"ask": ("moods@1",)}, "moods@1"), ({"votes": 0}, "votes"), ({"priority": "luck"}, "priority"),
    ({"claim": "happy"}, "grid"), ({"grid": True, "claim": "joy"}, "joy"), ({"finding": "ghosts"}, "ghosts"), ({"source": "nowhere"}, "nowhere"),
    ({"random_share": 0.9, "gold_share": 0.2}, "more than 1"), ({"priority": "disagreement"}, "run"), ({"colour": "red"}, "colour"), ({"grid": True}, "one face at a time"),
])
def test_bad_campaigns_are_refused(filled: Store, change: dict[str, Any], part: str) -> None:
    with pytest.raises(FerError, match=part):
        opened(filled, **change)
    assert not table.rows(filled)


def test_an_annotator_plans_nothing(filled: Store) -> None:
    with pytest.raises(NotAllowed):
        campaigns.save(filled, ANNOTATOR, {"name": "Test", "ask": ("fer7@1",)})
    with pytest.raises(NotAllowed):
        campaigns.set_gold(filled, ANNOTATOR, FACES[:1], "expression", ["sad"])
    with pytest.raises(BadInput):
        campaigns.set_gold(filled, REVIEWER, FACES[:1], "expression", ["joy"])
    with pytest.raises(NotFound):
        curation.block(filled, ANNOTATOR, "nowhere", "a", 1)


# ---- undo stacks ----------------------------------------------------------------------------------------------------------------

GESTURES = st.lists(st.tuples(st.sampled_from(["act", "act", "undo", "redo"]), st.integers(0, 4), st.integers(1, 3)), max_size=25)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=GESTURES, size=st.integers(1, 6))
def test_what_can_be_undone_is_what_a_plain_stack_holds(filled: Store, plan: list[tuple[str, int, int]], size: int) -> None:
    with filled.write("labels") as w:
        for name in ("facts.label_event", "facts.event_block", "projection.standing", "live.lease", "live.lease_face"):
            w.run(f"DELETE FROM {name}")
    campaign = opened(filled, name=str(uuid7()))
    block = curation.block(filled, ANNOTATOR, campaign, str(uuid7()), 1)
    ids, done, undone = faces(block), [], []
    answers: dict[str, str] = {}
    for what, start, n in plan:
        if what == "act":
            gesture = str(uuid7())
            events = [event("set", ids[(start + i) % 5], ("sad", "happy", "fear")[n - 1], lease=block.lease_id) | {"gesture": gesture} for i in range(n)]
            before = {e["image_id"]: answers.get(e["image_id"]) for e in events}
            answers.update({e["image_id"]: e["value"] for e in events})
            done.append((gesture, events, before))
            undone.clear()
        elif what == "undo" and done:
            unit = done.pop()
            undone.append(unit)
            events = [event("undo", e["image_id"], target=e["event_id"]) for e in reversed(unit[1])]
            answers.update({k: v for k, v in unit[2].items() if v is not None})
            for k in [k for k, v in unit[2].items() if v is None]:
                answers.pop(k, None)
        elif what == "redo" and undone:
            unit = undone.pop()
            done.append(unit)
            events = [event("redo", e["image_id"], target=e["event_id"]) for e in unit[1]]
            answers.update({e["image_id"]: e["value"] for e in unit[1]})
        else:
            continue
        assert not curation.record(filled, ANNOTATOR, events).refused
    found: list[list[past.Act]] = []
    number, more = 1, True
    while more:
        page, redo, more = past.page(filled, ANNOTATOR, campaign, ("expression",), number, size)
        assert sum(map(len, page)) <= size or len(page) == 1
        if number == 1:
            assert [u[0].gesture for u in redo] == [g for g, _, _ in undone][-size:]
        found, number = page + found, number + 1
    assert [u[0].gesture for u in found] == [g for g, _, _ in done]
    for unit, (_, _, before) in zip(found, done, strict=True):
        assert {a.image_id: a.before.get("expression") for a in unit} == before


def test_pages_keep_their_bounds_while_somebody_undoes(filled: Store) -> None:
    campaign = opened(filled)
    block = curation.block(filled, ANNOTATOR, campaign, "old", 1)
    events = [event("set", f, "sad", lease=block.lease_id) for f in faces(block)[:9]]
    curation.record(filled, ANNOTATOR, events)
    client = str(uuid7())
    first = past.page(filled, ANNOTATOR, campaign, ("expression",), 1, 3, before=client)[0]
    curation.record(filled, ANNOTATOR, [event("undo", e["image_id"], target=e["event_id"]) for e in reversed(events[6:])])
    second = past.page(filled, ANNOTATOR, campaign, ("expression",), 2, 3, before=client)[0]
    assert [u[0].gesture for u in second + first] == [e["gesture"] for e in events[3:]]


# ---- adjudication and comments --------------------------------------------------------------------------------------------------


def test_a_reviewer_settles_what_others_dispute_and_the_votes_stay(filled: Store) -> None:
    for person, value in ((MANY[0], "fear"), (MANY[1], "sad")):
        curation.record(filled, person, [event("set", FACES[3], value)])
    assert adjudication.disputed(filled, REVIEWER, "expression")["image_id"].tolist() == [FACES[3]]
    seen = adjudication.dispute(filled, REVIEWER, FACES[3], "expression")
    assert sorted(seen.votes) == [("fear", 1), ("sad", 1)] and not any(p.person_id in str(seen) for p in MANY[:2])
    curation.adjudicate(filled, REVIEWER, FACES[3], "expression", "surprise", "Brows are raised")
    assert filled.rows("SELECT value, how, votes FROM decisions WHERE image_id = $i", {"i": FACES[3]}) == [("surprise", "adjudicated", 2)]
    assert filled.value("SELECT count(*) FROM votes WHERE image_id = $i", {"i": FACES[3]}) == 2
    assert adjudication.disputed(filled, LEAD, "expression").empty
    curation.withdraw(filled, REVIEWER, FACES[3], "expression")
    assert not adjudication.disputed(filled, LEAD, "expression").empty


def test_whoever_voted_does_not_settle(filled: Store) -> None:
    for person, value in ((REVIEWER, "fear"), (MANY[1], "sad")):
        curation.record(filled, person, [event("set", FACES[3], value)])
    assert adjudication.disputed(filled, REVIEWER, "expression").empty and not adjudication.disputed(filled, LEAD, "expression").empty
    with pytest.raises(Conflict, match="no vote in it"):
        curation.adjudicate(filled, REVIEWER, FACES[3], "expression", "sad")
    with pytest.raises(NotAllowed):
        curation.adjudicate(filled, ANNOTATOR, FACES[3], "expression", "sad")


def test_who_took_a_vote_back_does_not_settle_and_who_settled_does_not_vote(filled: Store) -> None:
    mine = event("set", FACES[12], "fear")
    curation.record(filled, REVIEWER, [mine])
    curation.record(filled, REVIEWER, [event("undo", FACES[12], target=mine["event_id"])])
    with pytest.raises(Conflict):
        curation.adjudicate(filled, REVIEWER, FACES[12], "expression", "sad")
    curation.adjudicate(filled, LEAD, FACES[12], "expression", "sad")
    assert FACES[12] not in faces(curation.block(filled, LEAD, opened(filled, votes=9), "a", 1))
    settled = filled.value("SELECT event_id::VARCHAR FROM label_events WHERE round = 'adjudication'")
    assert curation.record(filled, LEAD, [event("undo", FACES[12], target=settled)]).refused


def test_what_a_member_who_was_removed_holds_runs_out(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign, clock = opened(filled, members=("ann", "rosa")), [table.now()]
    monkeypatch.setattr(table, "now", lambda: clock[0])
    curation.block(filled, ANNOTATOR, campaign, "a", 1)
    campaigns.save(filled, LEAD, {"name": "Test", "ask": ("fer7@1",), "members": ("rosa",)}, campaign)
    for _ in range(4):
        clock[0] += timedelta(minutes=4)
        curation.heartbeat(filled, ANNOTATOR, campaign, asked(filled, ANNOTATOR, campaign), "a")
    assert len(faces(curation.block(filled, REVIEWER, campaign, "b", 1))) == 67


def test_the_question_of_a_campaign_and_a_taken_name_stay(filled: Store) -> None:
    campaign = opened(filled)
    with pytest.raises(Conflict, match="name is taken"):
        opened(filled, name="test!")
    with pytest.raises(Conflict, match="question stays"):
        campaigns.save(filled, LEAD, {"name": "Test", "ask": ("fer8@1",)}, campaign)


def test_asking_again_reaches_the_inboxes_of_those_who_voted(filled: Store) -> None:
    for person, value in ((ANNOTATOR, "fear"), (LEAD, "sad")):
        curation.record(filled, person, [event("set", FACES[3], value)])
    assert adjudication.ask_again(filled, REVIEWER, FACES[3], "expression", "Look at the brows") == 2
    inbox = labels.comments(filled, addressee="ann")
    assert inbox[["name", "text"]].values.tolist() == [["Rosa", "Look at the brows"]]
    with pytest.raises(NotFound):
        curation.seen(filled, REVIEWER, inbox["event_id"].iloc[0])
    curation.seen(filled, ANNOTATOR, inbox["event_id"].iloc[0])
    assert labels.comments(filled, addressee="ann").empty and len(labels.comments(filled, image_id=FACES[3])) == 2
    curation.revise(filled, ANNOTATOR, FACES[3], "expression", "sad")
    assert filled.value("SELECT value FROM decisions WHERE image_id = $i", {"i": FACES[3]}) == "sad"
    with pytest.raises(Conflict):
        curation.revise(filled, MANY[2], FACES[3], "expression", "sad")


def test_faces_that_look_alike_are_found() -> None:
    faces_ = some_faces(20)
    faces_[7] = (faces_[3].astype(int) * 0.8 + 20).astype("uint8")  # the same face, darker
    vectors = adjudication.looks(faces_)
    assert adjudication.alike(vectors, vectors[3], 2).tolist() == [3, 7]


def test_hand_picked_faces_are_all_that_is_handed_out(filled: Store) -> None:
    campaign = opened(filled, images=(FACES[20], FACES[30], FACES[0]))
    assert set(faces(curation.block(filled, ANNOTATOR, campaign, "tab", 1))) == {FACES[20], FACES[30], FACES[0]}
    assert campaigns.counts(filled, REVIEWER, campaign)["faces"] == 3
    sad = opened(filled, name="Some of one class", images=tuple(FACES[20:40]), label="sad")
    assert set(faces(curation.block(filled, REVIEWER, sad, "tab", 1))) == {FACES[i] for i in range(20, 40) if i % 7 == 4}
    with pytest.raises(BadInput, match="share a field"):
        opened(filled, name="Twice", ask=("fer7@1", "fer8@1"))
    for wrong in (("0" * 64,), tuple(f"{i:064}" for i in range(5001))):
        with pytest.raises(BadInput):
            opened(filled, name="Others", images=wrong)
