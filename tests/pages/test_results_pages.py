"""Results, Compare and Studies on runs of a small version: every view, a fold, a scoring on another version, what cannot be compared, and the
tables as files."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from app_helpers import app_as, text
from helpers import LEAD, REVIEWER, fercore
from streamlit.testing.v1 import AppTest

from dashboard import cache, downloads
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
    assert not at.exception and "its faces were read 3 times" in text(at)  # two runs, and the scoring on the same faces


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


def test_a_study_is_read_once_for_its_table_and_its_noise(trained: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    read, study = [], evaluation.study
    monkeypatch.setattr(evaluation, "study", lambda *given: read.append(given) or study(*given))
    found, chance = cache.studied("seeds")
    assert len(read) == 1 and chance == evaluation.noise(trained, found)


def printed(workspace: Workspace, *command: str) -> dict:
    done = fercore(*command, "--json", workspace=workspace.root)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_table_of_results_is_a_file_of_what_the_command_prints(trained: Workspace, files: dict[str, pd.DataFrame]) -> None:
    run_id = of(trained, "k_fold")[0]
    at = app_as(REVIEWER.person_id, "results", run=run_id)
    told = printed(trained, "evaluate", run_id)
    for name in VIEWS:
        buttons = view(at, name).get("download_button")
        assert buttons and all(b.proto.label == "Data as CSV" and b.proto.ignore_rerun for b in buttons)
    metrics = files[f"metrics-{run_id}"].set_index("metric")
    assert {k: (v["value"], v["low"], v["high"], v["n"]) for k, v in told["metrics"].items()} == {
        k: pytest.approx((v["value"], v["low"], v["high"], v["n"])) for k, v in metrics.iterrows()}
    assert files[f"confusion-{run_id}"].drop(columns="label").values.tolist() == told["confusion"]["counts"]
    classes, bins = files[f"classes-{run_id}"], files[f"calibration-{run_id}"]
    assert classes["recall_low"].tolist() == pytest.approx([c["recall"]["low"] for c in told["classes"]]) and "recall_note" in classes
    assert bins["accuracy_n"].tolist() == [b["accuracy"]["n"] for b in told["calibration"]["bins"]]
    assert files[f"folds-{run_id}"]["accuracy"].tolist() == pytest.approx([f["accuracy"] for f in told["folds"]])
    assert files[f"folds-beside-published-{run_id}"]["accuracy"].tolist() == pytest.approx([f["accuracy"] for f in told["beside_published"]])
    assert files[f"curves-{run_id}"]["val_loss"].tolist() == pytest.approx([e["val_loss"] for e in printed(trained, "runs", "show", run_id)["epochs"]])
    view(at, "Published").selectbox(key="published").set_value("s2_related_work").run()
    benchmark = files["published-s2_related_work"]
    assert len(benchmark) == 11 and benchmark["low"][0] == pytest.approx(100 * metrics.loc["accuracy", "low"]) and benchmark["low"].notna().sum() == 4
    for row, shown in zip(benchmark.itertuples(), at.dataframe[0].value.itertuples(), strict=True):
        assert (row.network, str(row.accuracy)) == (shown.network, str(float(shown.accuracy)))


def test_compare_and_studies_are_files_of_what_the_commands_print(trained: Workspace, files: dict[str, pd.DataFrame]) -> None:
    first, second = of(trained, "hold_out")
    told = printed(trained, "compare", first, second)
    at = app_as(REVIEWER.person_id, "compare", runs=first)
    at.multiselect(key="runs").set_value([first, second]).run()
    view(at, "Disagreements")
    pair, matrices = told["pairs"][0], told["matrices"][0]
    row = files["compared-pairs"].iloc[0]
    assert (row["difference_value"], row["macro_f1_low"], row["p_holm"]) == pytest.approx((pair["difference"]["value"], pair["macro_f1"]["low"], pair["p_holm"]))
    assert row["corrected_t_note"] == "not two k-fold runs" and files["compared-runs"]["accuracy_n"].tolist() == [told["n"]] * 2
    for name, column, key in (("difference", "change", "change"), ("difference", "moved", "moved"), ("disagreements", "faces", "disagreements")):
        assert files[f"{name}-{first}-{second}"][column].tolist() == [n for line in matrices[key] for n in line]
    view(at, "Labels and models").selectbox(key="labels-Second-blobs-1").set_value("relabelled").run()
    effect = printed(trained, "compare", first, second, "--labels", "blobs-1", "--labels", "relabelled")["labels"]
    whole = [effect["cells"][m][v]["value"] for m in (0, 1) for v in (0, 1)]
    rows = files["labels-and-models"].set_index(["model", "labels"])
    assert [rows.loc[(m, v), "value"] for m in (first, second) for v in ("blobs-1", "relabelled")] == pytest.approx(whole)
    assert rows.loc[("second - first", "relabelled"), "p"] == pytest.approx(effect["p_model"][1])

    app_as(REVIEWER.person_id, "studies")
    study = printed(trained, "study", "seeds")
    assert files["seeds-over-seeds"]["accuracy_value"].tolist() == pytest.approx([c["accuracy"]["value"] for c in study["cells"]])
    assert files["seeds-plots"]["mean"].tolist() == pytest.approx([p["mean"] for plot in study["plots"] for p in plot["points"]])
    assert files["seeds-runs"]["run"].tolist() == [r["run"] for r in study["rows"]] and "macro_f1_low" in files["seeds-runs"]


def test_disagreements_mark_both_runs_and_take_no_leaky_one(trained: Workspace) -> None:
    first, second = of(trained, "hold_out")
    at = app_as(REVIEWER.person_id, "gallery", run=first, view="Disagreements")
    at.selectbox(key="other").set_value(second).run()
    assert not at.exception and text(at).count("exploratory: the version was not approved") == 2 and "Other run: version **blobs-1**" in text(at)
    assert "on which the two runs differ" in text(at) or "No such face" in text(at)
    config = trained.runs / second / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"protocol": "leaky", "balance": "rus"}))
    at.run()
    assert "A leaky run is no match for others" in text(at) and "leaky, for comparison only" in text(at)
    assert "on which the two runs differ" not in text(at)


def test_a_csv_keeps_every_column() -> None:
    rows = [{"a": 1, "b": None, "accuracy": evaluation.Estimate(0.5, 0.4, 0.6, 9), "c": None},
            {"a": 2, "b": None, "accuracy": evaluation.Estimate(None, None, None, 2, "n = 2 < 20"), "c": 3}]
    told = downloads.as_csv(rows).splitlines()
    assert told == ["a,b,accuracy_value,accuracy_low,accuracy_high,accuracy_n,accuracy_note,c", "1,,0.5,0.4,0.6,9,,", "2,,,,,2,n = 2 < 20,3"]
    assert downloads.as_csv(pd.DataFrame(columns=["x", "y"])) == "x,y\n"
