"""Every page with AppTest: on an empty workspace, on the demo workspace, one act each; and who may open what."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote_plus

import pytest
from app_helpers import text
from streamlit.testing.v1 import AppTest

from dashboard import access, cache
from fercore import people
from fercore.domain import Permission, Role, Workspace
from fercore.store import Store

APP = str(Path(__file__).parents[2] / "dashboard" / "app.py")
PAGES = [spec.file for spec in access.PAGES]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """use(root) makes root the workspace of the app and returns its store, which is closed at the end."""
    opened: list[Store] = []

    def start(root: Path) -> Store:
        monkeypatch.setenv("FERCORE_WORKSPACE", str(root))
        opened.append(cache.store())
        return opened[-1]

    yield start
    for store in opened:
        store.close()
    cache._open.clear()


def app_as(name: str, store: Store, **query: str) -> AppTest:
    """The app, with the profile of this name chosen on the first page."""
    at = AppTest.from_file(APP, default_timeout=60)
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    person = next(p for p in people.everyone(store) if p.name == name)
    at.button(key=f"profile-{person.person_id}").click().run()
    assert not at.exception
    return at


def opened(at: AppTest, page: str) -> AppTest:
    at.switch_page(f"app_pages/{page}.py").run()
    assert not at.exception, at.exception
    return at


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_on_an_empty_workspace_and_says_what_to_do(use, tmp_path: Path, page: str) -> None:
    store = use(tmp_path / "empty")
    people.add(store, "Dana", Role.DATA_LEAD)
    at = opened(app_as("Dana", store), page)
    assert at.title[0].value
    assert at.info or page in ("import_data", "models")  # a step that mends it; those two lack nothing


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_on_the_demo_workspace(use, demo_workspace: Path, page: str) -> None:
    at = opened(app_as("Ada (demo)", use(demo_workspace)), page)
    assert at.title[0].value and not at.error


def test_a_new_workspace_asks_for_a_profile_and_takes_one(use, tmp_path: Path) -> None:
    store = use(tmp_path / "new")
    at = AppTest.from_file(APP, default_timeout=60).run()
    assert "Who is working?" in text(at)
    at.text_input[0].set_value("Mia")
    at.button[-1].click().run()
    assert not at.exception and [p.name for p in people.everyone(store)] == ["Mia"]
    assert "Overview" in text(at)


def test_an_annotator_sees_no_page_of_the_others(use, demo_workspace: Path) -> None:
    at = app_as("Kim (demo)", use(demo_workspace))
    for page in ("import_data", "versions", "train", "results", "bias"):
        shown = opened(at, page)
        assert "You may not" in text(shown) and "signed in as annotator" in text(shown) and not shown.dataframe and not shown.file_uploader


def test_what_a_role_may_do_is_told_in_one_table() -> None:
    needed = {spec.file: spec.needs for spec in access.PAGES}
    assert needed["label"] is Permission.LABEL and needed["import_data"] is Permission.IMPORT and needed["bias"] is Permission.READ_RESULTS


def test_overview_counts_what_is_here(use, demo_workspace: Path) -> None:
    store = use(demo_workspace)
    at = opened(app_as("Ada (demo)", store), "overview")
    counts = {m.label: m.value for m in at.metric}
    assert counts["Faces"] == f"{store.value('SELECT count(*) FROM samples'):,}"
    assert counts["Distinct images"] == f"{store.value('SELECT count(*) FROM images'):,}"


def test_explore_filters_and_counts(use, demo_workspace: Path) -> None:
    store = use(demo_workspace)
    at = opened(app_as("Rosa (demo)", store), "explore")
    at.multiselect(key="label").set_value(["happy"]).run()
    n = store.value("SELECT count(*) FROM samples WHERE current_label = 'happy'")
    assert not at.exception and f"**{n:,}** faces" in text(at)
    at.multiselect(key="finding").set_value(["dark", "bright"]).run()
    n = store.value("SELECT count(*) FROM samples WHERE current_label = 'happy' AND sample_id IN (SELECT sample_id FROM findings "
                    "WHERE kind IN ('dark', 'bright'))")
    assert (f"**{n:,}** faces" if n else "No face matches") in text(at)


def test_an_annotator_cannot_filter_by_what_others_decided(use, demo_workspace: Path) -> None:
    at = opened(app_as("Kim (demo)", use(demo_workspace)), "explore")
    assert {"given", "finding"} <= {m.key for m in at.multiselect} and "label" not in {m.key for m in at.multiselect}
    assert not at.toggle


def test_links_from_the_overview_open_the_faces_they_name(use, demo_workspace: Path) -> None:
    store = use(demo_workspace)
    at = opened(app_as("Kim (demo)", store), "overview")
    link = next(p for p in at.get("page_link") if p.value.startswith("Dark"))
    shown = AppTest.from_file(APP, default_timeout=60)
    for part in link.proto.query_string.split("&"):
        key, _, value = part.partition("=")
        shown.query_params[key] = unquote_plus(value)
    shown.run()
    shown.button(key="profile-kim-demo").click().run()
    opened(shown, "explore")
    n = store.value("SELECT count(*) FROM findings WHERE kind = 'dark'")
    assert n and f"**{n:,}** faces" in text(shown)


def test_a_reviewer_reads_versions_and_cannot_release(use, demo_workspace: Path) -> None:
    at = opened(app_as("Rosa (demo)", use(demo_workspace)), "versions")
    assert not {"Release demo-v1", "Revoke demo-v1", "Submit for review"} & {b.label for b in at.button}
    assert "Freeze a version" not in {p.label for p in at.get("page_link")}
    at = opened(at, "train")
    assert "Launch training" not in [b.label for b in at.button]


def test_results_show_each_number_with_n_and_interval(use, demo_workspace: Path) -> None:
    store = use(demo_workspace)
    at = opened(app_as("Rosa (demo)", store), "results")
    runs = at.selectbox[0].options
    assert len(runs) == 2
    for run in runs:
        at.selectbox[0].set_value(run).run()
        assert run in at.query_params["run"]  # the URL names the run, also the newest
        n = store.value("SELECT count(*) FROM predictions WHERE run_id = $r", {"r": run})
        assert not at.exception and text(at).count(f"n = {n:,}") >= 4
    for view in ("Classes", "Folds", "Curves"):
        at.segmented_control(key="view").set_value(view).run()
        assert not at.exception


def test_a_link_to_an_unknown_run_says_so(use, demo_workspace: Path) -> None:
    at = opened(app_as("Rosa (demo)", use(demo_workspace), run="gone"), "results")
    assert "The run of this link is not in this workspace" in text(at)


def test_names_are_shown_as_written(use, tmp_path: Path) -> None:
    store = use(tmp_path / "ws")
    name = "**x** [a](www.e) `b` :red[c] <i>"
    people.add(store, name, Role.DATA_LEAD)
    shown = text(app_as(name, store))
    assert "\\*\\*x\\*\\* \\[a\\]\\(www\u2060\\.e\\) \\`b\\` \\:red\\[c\\] \\<i\\>" in shown


def test_bias_shows_support_intervals_and_averages(use, demo_workspace: Path) -> None:
    at = opened(app_as("Rosa (demo)", use(demo_workspace)), "bias")
    table = at.dataframe[0].value
    assert {"group", "faces", "accuracy"} <= set(table.columns)
    assert {"Young", "Senior", "Female", "Male", "Average", "Overall System Average"} <= set(table["group"])
    assert table.loc[table["faces"] >= 20, "accuracy"].str.contains(r"% \[").all()
    assert table.loc[table["faces"] < 20, "accuracy"].str.contains("< 20|no group").all()
    assert at.selectbox(key="before").disabled  # the demo's hold-out and k-fold run share no face


def test_bias_compares_two_runs_on_the_same_faces(use, demo_workspace: Path) -> None:
    runs = Workspace(demo_workspace).runs
    first = next(p for p in runs.iterdir() if (p / "config.json").is_file() and '"hold_out"' in (p / "config.json").read_text())
    twin = runs / f"{first.name}-twin"
    shutil.copytree(first, twin)
    (twin / "config.json").write_text((twin / "config.json").read_text().replace(first.name, twin.name))
    at = opened(app_as("Rosa (demo)", use(demo_workspace), run=first.name, before=twin.name, view="Before and after"), "bias")
    assert at.selectbox[0].value == first.name and at.selectbox(key="before").value == twin.name
    change = next(d.value for d in at.dataframe if "McNemar p" in d.value.columns)
    assert set(change.loc[change["faces"] >= 20, "McNemar p"]) == {"1.000"} and (change["before"] == change["after"]).all()


def test_runs_land_in_the_database_once(use, demo_workspace: Path) -> None:
    store = use(demo_workspace)
    with store.write("runs") as w:
        for name in ("run", "epoch", "prediction"):
            w.run(f"DELETE FROM facts.{name}")
    at = opened(app_as("Rosa (demo)", store), "results")
    first = store.rows("SELECT run_id, count(*) FROM predictions GROUP BY run_id ORDER BY ALL")
    assert len(first) == 2
    opened(at, "bias")
    assert store.rows("SELECT run_id, count(*) FROM predictions GROUP BY run_id ORDER BY ALL") == first


def test_a_held_workspace_is_explained_and_not_a_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ws").write_text("a file")
    monkeypatch.setenv("FERCORE_WORKSPACE", str(tmp_path / "ws"))
    at = AppTest.from_file(APP, default_timeout=60).run()
    assert not at.exception and "not a folder" in text(at)


