"""The Bias page: each view, a saved filter from Explore, a campaign, a signature and a plan, on a demo workspace."""

import json
from pathlib import Path

import pytest
from app_helpers import text
from streamlit.testing.v1 import AppTest

from fercore.domain import Workspace
from fercore.store import Store
from fercore.versions import files
from tests.pages.test_pages import app_as, opened, use

__all__ = ["use"]


@pytest.fixture
def page(use, demo_workspace: Path) -> tuple[AppTest, Store]:
    store = use(demo_workspace)
    return opened(app_as("Ada (demo)", store), "bias"), store


def shown(at: AppTest, view: str) -> AppTest:
    at.segmented_control(key="view").set_value(view).run()
    assert not at.exception, at.exception
    return at


def test_the_views_show_tables_that_say_what_they_stand_on(page) -> None:
    at, _ = page
    assert "faces are tested" in text(at) and "the worst group is" in text(at) and "of the version are in no test" in text(at)
    assert "ECE" in at.dataframe[0].value.columns
    assert {"p (Holm)", "equalised odds"} <= {c for d in shown(at, "Tests").dataframe for c in d.value.columns}
    assert {"Cramér's V", "NPMI"} <= {c for d in shown(at, "Version").dataframe for c in d.value.columns}
    assert "Choose an earlier run above" in text(shown(at, "Before and after"))
    at.selectbox(key="contrast").set_value("age_band").run()
    assert at.selectbox(key="first").options[:2] == ["Young", "Middle-aged"] and len(shown(at, "Tests").dataframe[1].value) > 1
    at.selectbox(key="first").set_value("young").run()
    assert "Young" not in at.selectbox(key="second").options
    at.selectbox(key="second").set_value("middle_aged").run()
    assert at.dataframe[1].value["groups"].tolist() == ["Young minus Middle-aged"] and "declared before looking" in text(at)
    at.selectbox(key="contrast").set_value("gender").run()
    assert not at.exception and at.selectbox(key="first").value is None and len(at.dataframe[1].value) > 1


def test_missing_tags_open_a_campaign(page) -> None:
    at, store = page
    before = store.value("SELECT count(*) FROM campaigns")
    next(b for b in shown(at, "Missing tags").button if b.label.startswith("Have ")).click().run()
    assert not at.exception and "is open on the Tag page" in text(at) and store.value("SELECT count(*) FROM campaigns") == before + 1
    at.multiselect(key="by").set_value(["label", "brightness"]).run()
    assert not at.exception and "choose one of them" in text(at) and not [b for b in at.button if b.label.startswith("Have ")]


def test_a_report_is_signed_once(page) -> None:
    at, store = page
    at = shown(at, "Report")
    assert "Nobody has signed this report." in text(at)
    next(t for t in at.text_input if t.label == "What you checked").set_value("The gaps")
    next(b for b in at.button if b.label == "Sign this report").click().run()
    assert not at.exception and store.value("SELECT count(*) FROM report_signatures") == 1
    assert at.dataframe[0].value["authentication"].tolist() == ["local, not authenticated"] and not [b for b in at.button if b.label.startswith("Sign this")]
    at.number_input(key="minimum").set_value(5).run()  # another report of the run: its own signature, but that of the first is found
    assert not at.exception and "Nobody has signed this report." in text(at) and at.dataframe[0].value["this_report"].tolist() == ["no"]
    assert "--minimum 20" in at.dataframe[0].value["command"][0] and [b for b in at.get("download_button") if "What was signed" in b.proto.label]


def test_a_plan_is_built_on_a_click_only(page, monkeypatch: pytest.MonkeyPatch) -> None:
    at, store = page
    count = store.value("SELECT count(*) FROM versions")
    at.number_input(key="minimum").set_value(5).run()
    at = shown(at, "Mitigation")
    assert {"in training", "wanted", "missing"} <= set(at.dataframe[0].value.columns) and store.value("SELECT count(*) FROM versions") == count
    monkeypatch.setattr("fercore.training.queue.push", lambda *_, **__: None)
    next(n for n in at.number_input if n.label == "Seeds").set_value(1)
    next(b for b in at.button if b.label == "Build and train").click().run()
    assert not at.exception and "is built, 2 runs of study mitigation-demo-v1-even-v1-" in text(at)
    assert "has both its runs yet" in text(at)


def test_a_filter_of_explore_becomes_a_group(use, demo_workspace: Path) -> None:
    at = opened(app_as("Rosa (demo)", use(demo_workspace)), "explore")
    assert not [b for b in at.button if b.label == "Save"]
    at.multiselect(key="gender").set_value(["male"]).run()
    at.text_input(key="save-filter").set_value("Men")
    next(b for b in at.button if b.label == "Save").click().run()
    assert not at.exception and "men: " in text(at)
    at = opened(at, "bias")
    at.multiselect(key="by").set_value(["filter: men"]).run()
    assert not at.exception and "in men" in at.dataframe[0].value["group"].tolist()


def test_without_tags_the_page_explains(use, demo_workspace: Path) -> None:
    place = Workspace(demo_workspace)
    version = json.loads((demo_workspace / "demo.json").read_text())["version"]
    files.manifest(place, version).assign(age_band=None, gender=None).to_parquet(place.versions / version / "manifest.parquet")
    at = opened(app_as("Rosa (demo)", use(demo_workspace)), "bias")
    assert "No predicted face has a tag" in text(at) and [b for b in at.button if b.label.startswith("Have ")]
    assert "accuracy" not in {c for d in at.dataframe for c in d.value.columns}
    assert "not tagged" in shown(at, "Version").dataframe[0].value.columns
    next(b for b in shown(at, "Missing tags").button if b.label.startswith("Have ")).click().run()
    assert not at.exception and "is open on the Tag page" in text(at)
