"""Results, Compare and Studies on runs of a small version: every view, a fold, a scoring on another version, and what cannot be compared."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from app_helpers import app_as, text
from helpers import LEAD, REVIEWER
from streamlit.testing.v1 import AppTest

from dashboard import cache
from fercore import evaluation, jobs
from fercore.domain import Workspace
from fercore.store import Store
from fercore.store import people as people_table
from fercore.training.config import run_config
from fercore.training.worker import run
from tests.core.test_protocols import BASE, with_votes
from tests.core.version_files import SHA, make_version

VIEWS = ("Metrics", "Classes", "Calibration", "Folds", "Curves", "Published", "Confusion")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two seeds, a 2-fold run and the same with another id, and a version with other labels on which the first run is scored."""
    workspace = make_version(tmp_path_factory.mktemp("results"))
    with_votes(workspace)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FERCORE_DEVICES", "0")
        jobs.start_study(workspace, "seeds", [run_config(BASE | {"epochs": 1, "seed": s, "flip": s < 1}) for s in (0, 1)], LEAD)
        jobs.start(workspace, run_config(BASE | {"epochs": 1, "protocol": "k_fold", "folds": 2}), LEAD)
        for found in jobs.list_runs(workspace):
            assert run(found.path, 0) == "finished"
    relabelled = shutil.copytree(workspace.versions / "blobs-1", workspace.versions / "relabelled")
    rows = pd.read_parquet(relabelled / "manifest.parquet")
    rows.assign(label=rows["label"].where(rows.index % 4 > 0, "happy")).to_parquet(relabelled / "manifest.parquet", index=False)
    about = json.loads((relabelled / "version.json").read_text())
    (relabelled / "version.json").write_text(json.dumps(about | {"version_id": "relabelled", "manifest_sha256": SHA[:-1] + "6"}))
    evaluation.score(workspace, of(workspace, "hold_out")[0], "relabelled")
    return workspace.root


def of(workspace: Workspace, protocol: str) -> list[str]:
    return sorted(r.run_id for r in jobs.list_runs(workspace) if r.config and r.config.protocol == protocol)


@pytest.fixture
def trained(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    shutil.copytree(template, tmp_path / "ws")
    monkeypatch.setenv("FERCORE_WORKSPACE", str(tmp_path / "ws"))
    store: Store = cache.store()
    for person in (REVIEWER, LEAD):
        people_table.add(store, person)
    with store.write("versions") as w:
        for number, version in enumerate(("blobs-1", "relabelled")):
            w.run("INSERT INTO facts.version VALUES ($id, $id, $number, $sha, '{}', '{}', $person, now())",
                  {"id": version, "number": number, "sha": SHA, "person": LEAD.person_id})
    yield store.workspace
    store.close()
    cache._open.clear()


def view(at: AppTest, name: str) -> AppTest:
    at.segmented_control(key="view").set_value(name).run()
    assert not at.exception, at.exception
    return at


def test_results_show_every_view_of_a_fold_and_the_ceiling(trained: Workspace) -> None:
    run_id = of(trained, "k_fold")[0]
    frame = evaluation.predictions(trained, run_id)
    at = app_as(REVIEWER.person_id, "results", run=run_id, fold="2")
    part = frame[frame["fold"] == 1]
    assert evaluation.accuracy(part).percent().partition(" % ")[2] in text(at) and "fold 2 alone" in text(at) and "Ceiling by the votes" in text(at)
    shown = {name: text(view(at, name)) for name in VIEWS}
    metrics = view(at, "Metrics").dataframe[0].value.set_index("metric")
    assert set(metrics["faces"]) == {len(part)} and metrics.loc["Top-3 accuracy", "95 % interval"].startswith("[")
    assert "A perfectly calibrated run would show" in shown["Calibration"] and "Does not fit together in the source" in shown["Folds"]
    folds = view(at, "Folds").dataframe[0].value
    assert folds["fold"].tolist() == ["1", "2", "Average", "Standard deviation"] and at.dataframe[1].value["table"].tolist()[0] == "this run"
    at.selectbox(key="fold").set_value("all folds").run()
    assert f"n = {len(frame):,}" in text(at) and "fold 2 alone" not in text(at)
    view(at, "Published").selectbox(key="published").set_value("s2_related_work").run()
    table = at.dataframe[0].value
    assert not at.exception and table["network"].iloc[0] == "this run" and (table["95 % interval (ours)"] == "n not known").sum() == 7


def test_results_show_what_a_run_was_scored_on(trained: Workspace) -> None:
    run_id = of(trained, "hold_out")[0]
    at = app_as(REVIEWER.person_id, "results", run=run_id, on="relabelled")
    n = len(evaluation.predictions(trained, run_id, "relabelled"))
    assert "scored on version **relabelled**" in text(at) and f"{n:,} faces that it has not seen" in text(at) and "judged by this version 1 time" in text(at)
    assert "exploratory: the version was not approved" in text(at)
    at.selectbox(key="on").set_value("blobs-1").run()
    assert not at.exception and "runs have read it 3 times" in text(at)  # two runs, and the scoring on the same faces


def test_compare_shows_pairs_and_refuses_what_has_no_common_face(trained: Workspace) -> None:
    first, second = of(trained, "hold_out")
    at = app_as(REVIEWER.person_id, "compare", runs=first)
    assert "Choose two finished runs or more" in text(at)
    at.multiselect(key="runs").set_value([first, second]).run()
    pair = evaluation.compare({i: evaluation.predictions(trained, i) for i in (first, second)}).pairs[0]
    assert not at.exception and at.dataframe[1].value["pair"].tolist() == ["B − A"]
    assert at.dataframe[1].value["accuracy"][0] == pair.difference.points().partition(", n =")[0]
    assert f"{int(pair.p_holm < 0.05)} of 1 pair" in text(at)
    for name in ("Disagreements", "Difference"):
        at.query_params["a"], at.query_params["b"] = "happy", "sad"
        assert "**" in text(view(at, name))
    assert "Both times the labels of blobs-1" in text(view(at, "Labels and models"))
    at.selectbox(key="labels-Second-blobs-1").set_value("relabelled").run()
    effect = evaluation.label_effect(*(evaluation.predictions(trained, i) for i in (first, second)),
                                     [evaluation.labels_of(trained, v) for v in ("blobs-1", "relabelled")])
    assert at.dataframe[2].value["labels of relabelled"].tolist() == [effect.cells[m, 1].percent() for m in (0, 1)]
    assert not [s for s in at.selectbox if s.key == "on"]  # only one of the two was scored on the other version
    at.multiselect(key="runs").set_value([first, of(trained, "k_fold")[0]]).run()
    assert not at.exception and "No common images" in text(at)


def test_a_lead_scores_a_run_on_another_version_and_compares_there(trained: Workspace) -> None:
    first, second = of(trained, "hold_out")
    assert "Score" not in [b.label for b in app_as(REVIEWER.person_id, "results", run=second).button]
    at = app_as(LEAD.person_id, "results", run=second)
    assert at.selectbox(key=f"score-on-{second}").options == ["relabelled"]
    next(b for b in at.button if b.label == "Score").click().run()
    for thread in threading.enumerate():
        if thread.name == f"task-score-{second}":
            thread.join(120)
    at.run()
    scored = evaluation.predictions(trained, second, "relabelled")
    assert f"Scored on relabelled: {len(scored):,} faces" in text(at)
    at = app_as(REVIEWER.person_id, "compare", runs=first)
    at.multiselect(key="runs").set_value([first, second]).run()
    at.selectbox(key="on").set_value("relabelled").run()
    found = evaluation.compare({i: evaluation.predictions(trained, i, "relabelled") for i in (first, second)})
    assert not at.exception and at.dataframe[0].value["accuracy"].tolist() == [a.percent() for a in found.accuracy.values()]


def test_a_study_says_what_is_noise(trained: Workspace) -> None:
    at = app_as(REVIEWER.person_id, "studies")
    said = text(at)
    assert "after Holm" in said and "(binomial)" in said and "what the seed does is not known" in said
