"""The Recipes page: one document as a form and as text, a live funnel, the faces of a step, and Freeze."""

from pathlib import Path
from typing import Any

import pytest
from app_helpers import app_as, text
from helpers import LEAD

from dashboard import cache
from fercore import ingest, versions
from fercore.store import Store


def shown(at: Any) -> dict[str, int]:
    """step -> rows after it."""
    assert not at.exception, at.exception
    funnel = next(d.value for d in at.dataframe if "step" in d.value)
    return dict(zip(funnel["step"], funnel["after"], strict=True))


def widget(kind: Any, label: str) -> Any:
    return next(w for w in kind if w.label == label)


def test_the_form_changes_the_document_and_the_funnel_at_once(app_store: Store) -> None:
    at = app_as("dana", "recipes")
    first = shown(at)
    assert first["identical faces with different labels"] == 66 and first["duplicate of a kept face"] == first["included"] == 65
    widget(at.checkbox, "Keep one of each").uncheck().run()
    assert "duplicate of a kept face" not in shown(at) and shown(at)["included"] == 66
    widget(at.selectbox, "Split").set_value("ratios").run()
    assert shown(at)["included"] == 66
    widget(at.number_input, "Share of test").set_value(0.5).run()
    assert "ratios must sum to 1, not 1.35" in text(at).replace("\\", "") and "line" not in at.error[0].value and not at.metric
    widget(at.number_input, "Share of train").set_value(0.35).run()
    assert sum(int(m.value) for m in at.metric) == shown(at)["included"] == 66
    at.segmented_control(key="recipe-view").set_value("Text").run()
    written = at.text_area[0].value
    assert versions.parse_recipe(written).split.ratios == (0.35, 0.15, 0.5) and written.startswith("title: Seven classes")
    assert shown(at)["included"] == 66


def test_text_is_checked_with_its_line_and_the_form_reads_it(app_store: Store) -> None:
    at = app_as("dana", "recipes")
    at.segmented_control(key="recipe-view").set_value("Text").run()
    at.text_area[0].set_value("sources: []\nexclude:\n- flags: dark\n").run()
    assert "line 3, exclude" in text(at).replace("\\", "") and not at.metric and "Allowed keys" in text(at)
    at.text_area[0].set_value("exclude:\n- {quality: {measure: mean, below: 119}, reason: too dark}\nsplit: ratios\nduplicates: keep_all").run()
    assert shown(at)["too dark"] < 70
    before = shown(at)
    at.segmented_control(key="recipe-view").set_value("Form").run()
    assert shown(at) == before and "1. too dark" in text(at)
    widget(at.button, "Remove").click().run()
    assert "too dark" not in shown(at)


def test_an_exclusion_is_added_in_the_form_and_its_faces_open(app_store: Store) -> None:
    at = app_as("dana", "recipes", recipe="conflicts_outliers")
    assert "Choose a step of the funnel" in text(at)
    widget(at.selectbox, "Faces of which").set_value("quality").run()
    widget(at.number_input, "Below").set_value(119.0).run()
    widget(at.button, "Leave them out").click().run()
    n = app_store.value("SELECT count(*) FROM samples WHERE mean < 119")
    assert n and shown(at)["mean below 119"] == 70 - n
    at.query_params["step"] = "mean below 119"
    at.run()
    assert not at.exception and "Mean below 119" in text(at).replace("\\", "") and f"page 1 of 1, {n:,} faces" in text(at)
    widget(at.selectbox, "Faces of which").set_value("votes").run()
    widget(at.text_input, "Condition").set_value("sadness > 3").run()
    widget(at.button, "Leave them out").click().run()
    assert "unknown answer" in text(at)


def test_exclusions_change_places_and_the_first_reason_stands(app_store: Store) -> None:
    at = app_as("dana", "recipes")
    at.segmented_control(key="recipe-view").set_value("Text").run()
    at.text_area[0].set_value("exclude:\n- {quality: {measure: mean, below: 118.3}, reason: dark}\n- {quality: {measure: mean, below: 118.6}, reason: darker}").run()
    before = shown(at)
    at.segmented_control(key="recipe-view").set_value("Form").run()
    arrows = [b for b in at.button if b.label in ("Up", "Down")]
    assert [b.disabled for b in arrows] == [True, False, False, True]
    arrows[2].click().run()
    after = shown(at)
    assert "1. darker" in text(at) and list(after).index("darker") < list(after).index("dark") and after["darker"] < before["dark"]
    assert after["darker"] == after["dark"] == before["darker"]  # nothing is left for the second reason


def test_a_source_that_is_not_here_is_named_and_not_left_out_in_silence(app_store: Store) -> None:
    at = app_as("dana", "recipes", recipe="raf_fed_oahega")
    assert "Unknown source" in text(at) and "rafdb" in text(at) and widget(at.multiselect, "Sources").value == ["rafdb", "fed", "oahega"]
    assert not at.metric and "Freeze" not in {b.label for b in at.button}


def test_a_version_is_frozen_from_here_and_is_a_start_for_another(app_store: Store) -> None:
    at = app_as("dana", "recipes")
    widget(at.selectbox, "Labels").set_value("given").run()
    widget(at.text_input, "Name of the version").set_value("from the form")
    next(b for b in at.button if b.label == "Freeze").click().run()
    assert "from-the-form-v1 is frozen: 65 faces" in text(at).replace("\\", "")
    card = versions.card(app_store.workspace, "from-the-form-v1")
    assert card["recipe"]["labels"]["take"] == "given" and versions.verify(app_store.workspace, "from-the-form-v1") == []
    at.selectbox(key="start").set_value("recipe conflicts_outliers").run()
    assert "identical faces with different labels" in shown(at) and "brighter than 230" in shown(at)
    at.selectbox(key="start").set_value("version from-the-form-v1").run()
    assert "brighter than 230" not in shown(at) and widget(at.selectbox, "Labels").value == "given"
    widget(at.text_input, "Name of the version").set_value("!!")
    next(b for b in at.button if b.label == "Freeze").click().run()
    assert "Name needed" in text(at)


def test_what_is_missing_of_a_target_is_told(app_store: Store) -> None:
    at = app_as("dana", "recipes")
    at.segmented_control(key="recipe-view").set_value("Text").run()
    at.text_area[0].set_value("targets:\n- {classes: [happy], at_least: 40}").run()
    assert "of 40 training faces" in text(at) and "are missing" in text(at)


def test_only_who_may_freeze_writes_recipes(app_store: Store) -> None:
    assert "You may not freeze versions" in text(app_as("rosa", "recipes"))


@pytest.mark.parametrize("name", versions.shipped.names())
def test_each_shipped_recipe_opens_in_the_form_and_says_itself(app_store: Store, tmp_path: Path, name: str) -> None:
    ingest.import_fer2013(app_store, LEAD, tmp_path / "small.csv", name="rafdb")
    at = app_as("dana", "recipes", recipe=name)
    assert not at.exception
    at.segmented_control(key="recipe-view").set_value("Text").run()
    kept = at.text_area[0].value
    assert versions.parse_recipe(kept).model_dump() == versions.shipped.recipe(name).model_dump()
    assert cache.options()["sources"] == ["fer2013", "rafdb"]


def test_a_version_is_exported_from_its_page_once_the_licence_is_answered_for(app_store: Store, tmp_path: Path) -> None:
    version_id = versions.freeze(app_store, LEAD, versions.Recipe(), "a")
    at = app_as("dana", "versions", version=version_id)
    assert "fer2013: it states no licence" in text(at).replace("\\", "")
    at.text_input(key="export-to-folder").set_value(str(tmp_path / "out"))
    assert widget(at.button, "Write the export").disabled
    next(c for c in at.checkbox if "answer for this" in c.label).check().run()
    widget(at.button, "Write the export").click().run()
    assert not at.exception and "65 faces in" in text(at) and len(list((tmp_path / "out").rglob("*.png"))) == 65
    widget(at.button, "Write the export").click().run()
    assert "The export is there already" in text(at)
    assert app_store.value("SELECT count(*) FROM exports") == 1
