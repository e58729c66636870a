"""The pages about schemes with AppTest: guidelines with example faces, making and changing a scheme, a map with its preview."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import ANNOTATOR, LEAD, REVIEWER, write_votes
from streamlit.testing.v1 import AppTest

from dashboard import cache
from fercore import ingest
from fercore.curation import schemes as book
from fercore.domain import Person
from fercore.schemes import FER7, SCHEMES
from fercore.store import Store
from fercore.store import people as people_table

APP = str(Path(__file__).parents[2] / "dashboard" / "app.py")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_file: Path) -> Iterator[Store]:
    """The app's store with four people and 70 faces, of which every one but the disgust faces has 10 of 10 votes."""
    monkeypatch.setenv("FERCORE_WORKSPACE", str(tmp_path / "ws"))
    store = cache.store()
    for person in (LEAD, REVIEWER, ANNOTATOR):
        people_table.add(store, person)
    columns = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt", "unknown", "non_face")
    votes = [[10 * (c == FER7.ids[r % 7]) if FER7.ids[r % 7] != "disgust" else 1 for c in columns] for r in range(70)]
    ingest.import_fer2013(store, LEAD, small_file, ferplus=write_votes(tmp_path / "v.csv", votes, ["Training"] * 56 + ["PublicTest"] * 14))
    yield store
    store.close()
    cache._open.clear()


def app_as(person: Person, page: str, **query: str) -> AppTest:
    at = AppTest.from_file(APP, default_timeout=60)
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    at.button(key=f"profile-{person.person_id}").click().run()
    at.switch_page(f"app_pages/{page}.py").run()
    assert not at.exception, at.exception
    return at


def press(at: AppTest, label: str) -> AppTest:
    next(b for b in at.button if b.label == label).click().run()
    assert not at.exception, at.exception
    return at


def fill(at: AppTest, label: str, value: str) -> None:
    next(e for e in (*at.text_input, *at.text_area) if e.label == label).set_value(value)


def text(at: AppTest) -> str:
    return "\n".join(str(e.value) for kind in (at.title, at.markdown, at.caption, at.info, at.error, at.warning, at.success) for e in kind)


def labels(at: AppTest) -> set[str]:
    return {b.label for b in at.button}


def test_an_annotator_reads_guidelines_and_changes_nothing(store: Store) -> None:
    at = app_as(ANNOTATOR, "guidelines")
    assert at.selectbox(key="scheme").options == list(SCHEMES) and "No example faces yet" in text(at)
    assert "corners of the mouth drawn down" in text(at) and "No human face" in text(at)
    assert not [b for b in labels(at) if b.startswith(("Choose for", "Save the guideline"))]
    at.selectbox(key="scheme").set_value("focus4@1").run()
    assert "Lids half closed" in text(at) and "White above the iris" not in text(at)


def test_a_reviewer_chooses_example_faces_and_is_told_what_is_missing(store: Store) -> None:
    at = press(app_as(REVIEWER, "guidelines"), "Choose for fer7@1")
    assert "example faces chosen" in text(at) and "agreed on yet for Disgust." in text(at) and "No example faces yet" not in text(at)
    shown = book.examples(store, ANNOTATOR, "fer7")
    assert set(shown["value"]) == set(FER7.ids) - {"disgust"} and (shown["value"].value_counts() <= 8).all()
    assert f"{len(shown)} example faces chosen" in text(at)
    assert "No example faces yet" not in text(app_as(ANNOTATOR, "guidelines"))
    at = app_as(REVIEWER, "guidelines", scheme="gender@1")
    assert "No face is agreed on yet" in text(press(at, "Choose for gender@1"))


def test_a_lead_rewrites_a_guideline_and_it_is_shown_as_written(store: Store) -> None:
    at = app_as(LEAD, "guidelines")
    fill(at, "Guideline of Happy", "<b>Smile</b> *only*")
    press(at, "Save the guideline of Happy")
    assert r"\<b\>Smile\<\/b\> \*only\*" in text(at) and "Version 1, by Dana" in text(at)
    fill(at, "Guideline of Happy", " ")
    assert "cannot be used" in text(press(at, "Save the guideline of Happy"))


def test_a_lead_makes_and_changes_a_scheme(store: Store) -> None:
    at = app_as(LEAD, "schemes")
    assert "Only built-in schemes" in text(at) and at.dataframe[0].value["scheme"].tolist() == list(SCHEMES)
    fill(at, "Name", "Mood")
    fill(at, "Classes, one a line", "Happy\n\nTired\nTense\n")
    press(at, "Create")
    assert "mood@1" in at.query_params["scheme"] and "Only built-in schemes" not in text(at)
    at.segmented_control(key="part").set_value("Change").run()
    fill(at, "Name of the class", "tense")
    assert "The same id twice" in text(press(at, "Add"))
    fill(at, "Name of the class", "<i>Calm</i>")
    press(at, "Add")
    assert "mood@2" in at.query_params["scheme"] and book.find(store, "mood").classes[-1].name == "<i>Calm</i>"
    press(at, "Retire")  # the first class
    assert [c.class_id for c in book.find(store, "mood").classes if c.retired] == ["happy"]
    assert any("happy, retired" in h.proto.body and "&lt;i&gt;Calm" in h.proto.body for h in at.get("html"))
    at.segmented_control(key="part").set_value("History").run()
    history = at.dataframe[1].value
    assert history["scheme_id"].tolist() == ["mood@3", "mood@2", "mood@1"] and set(history["person"]) == {"Dana"}
    older = app_as(LEAD, "schemes", scheme="mood@1", part="Change")
    assert "Only the newest version" in text(older) and "Retire" not in labels(older)


def test_a_built_in_scheme_is_copied_first(store: Store) -> None:
    at = app_as(LEAD, "schemes", scheme="fer8@1", part="Change")
    assert "Add" not in labels(at)
    fill(at, "Name of the copy", "Classroom")
    at.checkbox[0].check()
    press(at, "Copy fer8@1")
    assert "classroom@1" in at.query_params["scheme"] and book.find(store, "classroom").field == "expression"


def test_a_reviewer_previews_a_map_and_sees_the_faces_of_a_cell(store: Store) -> None:
    at = app_as(REVIEWER, "schemes", scheme="fer8@1", part="Map")
    assert not {"Create", "Save", "Copy fer8@1"} & labels(at) and "Change" not in at.segmented_control(key="part").options
    next(s for s in at.selectbox if s.label == "Map to").set_value("focus4@1").run()
    next(s for s in at.selectbox if s.label == "Sad becomes").set_value("bored")
    next(s for s in at.selectbox if s.label == "Neutral becomes").set_value("look again")
    next(s for s in at.selectbox if s.label == "Happy becomes").set_value("leaves").run()
    preview: Any = at.dataframe[1].value.set_index("class")
    assert preview["kind"].to_dict() == {"angry": "same", "disgust": "unmapped", "fear": "unmapped", "happy": "drop", "sad": "rename",
                                         "surprise": "unmapped", "neutral": "split", "contempt": "unmapped"}
    given = dict(store.rows("SELECT given_label, count(DISTINCT image_id) FROM samples GROUP BY given_label"))
    assert preview.loc["sad", "moved"] == given["sad"] and preview.loc["neutral", "relabel"] == given["neutral"]
    assert preview.loc["happy", "dropped"] == given["happy"] and preview.loc["fear", "unmapped"] == given["fear"]
    pills = next(g for g in at.button_group if g.label == "Show the faces of")
    pills.set_value("contempt").run()
    assert "No face is of this class now" in text(at)
    next(g for g in at.button_group if g.label == "Show the faces of").set_value("sad").run()
    assert not at.exception and "No face is of this class now" not in text(at)


def test_a_lead_saves_a_map(store: Store) -> None:
    at = app_as(LEAD, "schemes", scheme="fer7@1", part="Map")
    fill(at, "Name of the map", "Plus contempt")
    press(at, "Save")
    assert r"plus\-contempt (fer7@1 to fer8@1)" in text(at) and len(book.maps(store)[0].steps) == 7
    fill(at, "Name of the map", "Plus contempt")
    assert "is taken" in text(press(at, "Save"))


def test_an_annotator_may_not_open_schemes(store: Store) -> None:
    assert "You may not" in text(app_as(ANNOTATOR, "schemes"))
