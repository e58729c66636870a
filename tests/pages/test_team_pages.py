"""Campaigns, Adjudicate, Practice, the inbox and the face dialog's comments, with AppTest: each act changes what the store says."""

from typing import Any

import pandas as pd
import pytest
from app_helpers import app_as, text
from helpers import ANNOTATOR, LEAD, REVIEWER, some_faces
from uuid_utils import uuid7

from fercore import curation
from fercore.curation import adjudication, campaigns
from fercore.curation import schemes as book
from fercore.domain import Person, Role, image_id
from fercore.errors import BadInput
from fercore.store import Store, findings
from fercore.store import people as people_table

FACES = [image_id(f) for f in some_faces(70)]
SECOND = Person("bea", "Bea", Role.ANNOTATOR)


def vote(store: Store, person: Person, face: str, value: str, field: str = "expression") -> None:
    event: dict[str, Any] = {"event_id": str(uuid7()), "op": "set", "image_id": face, "field": field, "value": value, "gesture": str(uuid7())}
    assert curation.record(store, person, [event]).acked


@pytest.fixture
def disputed(app_store: Store) -> Store:
    people_table.add(app_store, SECOND)
    vote(app_store, ANNOTATOR, FACES[3], "fear")
    vote(app_store, SECOND, FACES[3], "sad")
    return app_store


def test_a_reviewer_opens_a_campaign_and_annotators_find_it(app_store: Store) -> None:
    at = app_as("rosa", "campaigns")
    at.text_input[0].set_value("Disgust again")
    at.selectbox(key=next(s.key for s in at.selectbox if s.key and s.key.startswith("ask-"))).set_value("fer8@1")
    at.run()
    next(s for s in at.selectbox if s.label == "Labelled by the source as").set_value("disgust")
    at.number_input[0].set_value(2)
    at.text_input[0].set_value("Disgust again")
    next(b for b in at.button if b.label == "Open campaign").click().run()
    assert not at.exception, at.exception
    found, state = campaigns.find(app_store, "disgust-again")
    assert (found.ask, found.label, found.votes, state) == (("fer8@1",), "disgust", 2, "open")
    label = app_as("ann", "label", campaign="disgust-again")
    assert next(s for s in label.selectbox if s.label == "Campaign").value == "disgust-again"
    assert "disgust-again" in curation.for_person(app_store, ANNOTATOR, "label")


def test_a_campaign_of_others_is_not_offered(app_store: Store) -> None:
    campaigns.save(app_store, REVIEWER, {"name": "Only Rosa", "ask": ("fer7@1",), "members": ("rosa",)})
    at = app_as("ann", "label", campaign="only-rosa")
    assert "is not open to you here" in text(at) and next(s for s in at.selectbox if s.label == "Campaign").value == "expression"


def test_a_bad_campaign_says_what_is_wrong_and_saves_nothing(app_store: Store) -> None:
    at = app_as("rosa", "campaigns")
    next(b for b in at.button if b.label == "Open campaign").click().run()
    assert "cannot be used" in text(at) and len(campaigns.listed(app_store)) == len(campaigns.BUILT_IN)


def test_a_campaign_keeps_what_it_names_after_that_is_gone(app_store: Store) -> None:
    rows = app_store.rows("SELECT sample_id, image_id FROM samples ORDER BY source_row LIMIT 2")
    findings.settle(app_store, ["dark"], pd.DataFrame([{"kind": "dark", "sample_id": s, "image_id": i, "score": 1.0} for s, i in rows]))
    made = campaigns.save(app_store, REVIEWER, {"name": "Dim", "ask": ("fer7@1",), "finding": "dark", "images": tuple(i for _, i in rows)})
    findings.settle(app_store, ["dark"], pd.DataFrame())
    at = app_as("rosa", "campaigns", campaign=made)
    assert "Of 2 faces chosen by hand" in text(at)
    next(c for c in at.checkbox if c.label == "Closed").check()
    next(b for b in at.button if b.label == "Save campaign").click().run()
    assert not at.exception and not at.error
    found, state = campaigns.find(app_store, made)
    assert (found.finding, len(found.images), state) == ("dark", 2, "closed")
    with pytest.raises(BadInput, match="Unknown finding"):
        campaigns.save(app_store, REVIEWER, {"name": "Dim again", "ask": ("fer7@1",), "finding": "dark"})


def test_a_reviewer_settles_a_dispute_without_learning_who_voted(disputed: Store) -> None:
    at = app_as("rosa", "adjudicate")
    assert "Vote 1" in text(at) and "Ann" not in text(at) and "Bea" not in text(at)
    at.button(key="settle-surprise").click().run()
    assert not at.exception
    assert disputed.rows("SELECT value, how FROM decisions WHERE image_id = $i AND field = 'expression'", {"i": FACES[3]}) == [
        ("surprise", "adjudicated")]
    assert "No disagreement waits" in text(at)


def test_what_was_settled_can_be_undone(disputed: Store) -> None:
    at = app_as("rosa", "adjudicate")
    at.button(key="settle-surprise").click().run()
    assert at.button(key="undo").label == "Undo: Surprise"
    at.button(key="undo").click().run()
    assert not at.exception and adjudication.disputed(disputed, REVIEWER, "expression")["image_id"].tolist() == [FACES[3]]
    assert at.query_params["face"] in (FACES[3], [FACES[3]])
    at.button(key="settle-fear").click().run()
    assert disputed.value("SELECT value FROM decisions WHERE image_id = $i AND field = 'expression'", {"i": FACES[3]}) == "fear"


def test_passing_over_and_asking_again_leave_the_face_open(disputed: Store) -> None:
    at = app_as("rosa", "adjudicate")
    at.text_input(key="note").set_value("Look at the brows").run()
    at.button(key="ask").click().run()
    assert not adjudication.disputed(disputed, REVIEWER, "expression").empty
    inbox = app_as("ann")
    assert "Look at the brows" in text(inbox)
    next(b for b in inbox.button if b.label == "Done").click().run()
    assert "Look at the brows" not in text(inbox)


def test_whoever_voted_finds_nothing_to_settle(disputed: Store) -> None:
    vote(disputed, REVIEWER, FACES[3], "happy")
    assert "No disagreement waits" in text(app_as("rosa", "adjudicate"))
    assert "Vote 1" in text(app_as("dana", "adjudicate"))


def test_an_annotator_neither_plans_nor_settles(app_store: Store) -> None:
    for page in ("campaigns", "adjudicate"):
        assert "You may not" in text(app_as("ann", page))


def test_practice_needs_examples_and_then_starts(app_store: Store) -> None:
    assert "No example faces are chosen yet" in text(app_as("ann", "practice"))
    campaigns.set_gold(app_store, LEAD, FACES[20:27], "expression", ["happy"])
    book.choose_examples(app_store, REVIEWER, "fer7@1")
    at = app_as("ann", "practice")
    assert "Nothing here counts as a vote" in text(at) and next(s for s in at.selectbox if s.label == "Scheme").value == "fer7"
    handed = curation.block(app_store, ANNOTATOR, "expression", "t", 1).faces["image_id"].tolist()
    assert handed and not set(handed) & set(book.example_images(app_store, "fer7@1"))
