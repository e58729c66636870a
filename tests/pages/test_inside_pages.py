"""The pages Look closer, Suspect labels, and Leaks and test sets, on the demo workspace."""

import threading
from pathlib import Path

import pandas as pd
import pytest
from app_helpers import app_as, text
from streamlit.testing.v1 import AppTest

from dashboard import cache, charts, faces
from dashboard.runs import basis
from fercore import evaluation, people
from fercore.domain import Workspace
from fercore.evaluation import suspects
from fercore.evaluation.read import scored_path
from fercore.training.rundir import read_config


def run_of(workspace: Path, folds: bool) -> str:
    return next(r.name for r in sorted((workspace / "runs").iterdir()) if r.name[0] != "." and bool(read_config(r).folds) is folds)


def opened(page: str, name: str = "Rosa (demo)", **query: str) -> AppTest:
    """The page, with the profile of this name."""
    return app_as(next(p.person_id for p in people.everyone(cache.store()) if p.name == name), page, **query)


def finished() -> None:
    """Waits until no work is under way beside the pages."""
    for thread in threading.enumerate():
        if thread.name.startswith("task-"):
            thread.join(120)


def pressed(at: AppTest, start: str) -> AppTest:
    next(b for b in at.button if b.label.startswith(start)).click().run()
    assert not at.exception, at.exception
    return at


def test_labels_are_ranked_beside_the_page_and_a_number_of_them_goes_to_review(demo: Path) -> None:
    run = run_of(demo, folds=True)
    at = opened("suspects", run=run)
    assert "Nobody has ranked" in text(at)
    pressed(at, "Rank the labels")
    finished()
    at.run()
    ranked = suspects.known(cache.workspace(), run)
    assert ranked is not None and f"{len(ranked):,} faces, the most suspect first" in text(at)
    at.number_input(key="number").set_value(7).run()
    assert f"about {100 * (1 - ranked['p_label'].head(7).mean()):.0f} %" in text(at)
    pressed(at, "Send the first 7")
    assert "7 faces wait in the campaign" in text(at) and at.dataframe[0].value["faces"].tolist() == [7]
    assert at.dataframe[0].value["realised"].tolist() == ["n = 0"]
    at.multiselect(key="label").set_value([ranked["label"].iloc[0]]).run()
    assert f"{(ranked['label'] == ranked['label'].iloc[0]).sum():,} faces, the most suspect first" in text(at)


def test_a_run_without_folds_is_not_offered_for_suspects(demo: Path) -> None:
    at = opened("suspects", run=run_of(demo, folds=False))
    assert run_of(demo, folds=False) not in at.selectbox[0].options and "is not in this workspace" in text(at)


def test_a_face_of_the_link_is_explained_on_click(demo: Path) -> None:
    run = run_of(demo, folds=True)
    frame = cache.predictions(run)
    face = frame[~frame["correct"]].sort_values(["confidence", "sample_id"], ascending=[False, True]).iloc[0]
    at = opened("gallery", run=run, face=face["sample_id"])
    assert f"Predicted **{face['predicted'].capitalize()}**, {100 * face['confidence']:.1f} %" in text(at)
    assert not at.get("plotly_chart")
    pressed(at, "Show where the network looks")
    finished()
    at.run()
    assert len(at.get("plotly_chart")) == 2 and "Vermillion speaks for the class" in text(at)
    at.segmented_control(key="view").set_value("Near misses").run()
    near = frame[~frame["correct"]]
    assert not at.exception and f"of {len(frame):,} faces wrong with the label in second place" in text(at) and len(near)
    at.segmented_control(key="view").set_value("Disagreements").run()
    assert "No face in common" in text(at)  # the other run is a hold-out run: an explanation in place of the wall


def test_a_face_of_a_cell_opens_with_every_probability_of_the_run(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(demo, folds=True)
    frame = cache.predictions(run)
    face = frame.sort_values("confidence", ascending=False).iloc[0]
    monkeypatch.setattr(faces, "face_grid", lambda tiles, **_: tiles[0].sample_id)  # a click on the first: AppTest runs no browser
    said = text(opened("results", run=run, true=face["label"], predicted=face["predicted"])).replace("\\", "")
    told = next(line for line in said.splitlines() if line.startswith(f"**{run}** "))
    p = {c: 100 * face[f"p_{c}"] for c in evaluation.classes_of(frame)}
    assert all(f"{charts.name_of(c)} {share:.1f} %" in told for c, share in p.items())
    assert told.startswith(f"**{run}** {charts.name_of(face['predicted'])} ")


def test_a_class_is_averaged_with_its_n(demo: Path) -> None:
    at = opened("gallery", run=run_of(demo, folds=False), view="Average of a class", patch="8")
    pressed(at, "Average over 50 faces")
    finished()
    at.run()
    assert "Mean over n = " in text(at) or "No face to average over" in text(at)


def test_leaks_and_the_ledger_name_run_and_reads(demo: Path, files: dict[str, pd.DataFrame]) -> None:
    run = run_of(demo, folds=False)
    version = read_config(demo / "runs" / run).version_id
    at = opened("leaks", version=version, run=run)
    found = cache.leaks(version, run)
    assert f"**{len(found.faces):,}** of {found.judged:,} faces" in text(at) and "Inflation" in text(at)
    rows = files[f"leaks-{run}"].set_index("accuracy")
    assert found.all_faces and rows.loc["all faces", ["value", "low", "high", "n"]].tolist() == pytest.approx(list(vars(found.all_faces).values())[:4])
    assert "inflation" in rows.index and files["test-sets"]["reads"].tolist() == cache.test_sets().sets["reads"].tolist()
    assert (evaluation.NEAR_UNKNOWN in text(at)) is not found.near_known
    sets = next(d.value for d in at.dataframe if "reads" in d.value)
    assert sets["reads"].max() >= 1 and len(sets) == len(cache.test_sets().sets) and (sets["faces also trained on"] != "").all()
    assert "in test have another label than the source gives" in text(at) and "could not be read" not in text(at)


def test_what_the_ledger_could_not_read_is_said_beside_its_figures(demo: Path) -> None:
    run = run_of(demo, folds=False)
    reads = cache.test_sets().sets["reads"].tolist()
    torn = scored_path(Workspace(demo), run, "gone-v1")
    torn.parent.mkdir(exist_ok=True)
    torn.write_bytes(b"PAR1")
    try:
        at = opened("leaks", version=read_config(demo / "runs" / run).version_id)
        told = cache.test_sets()
        line = basis(next(r for r in cache.finished_runs() if r.run_id == run))
    finally:
        torn.unlink()
    assert told.sets["reads"].tolist() == reads and told.lost == [f"{run} on gone-v1"]
    assert f"{run} on gone-v1" in text(at).replace("\\", "") and "could not be read and so is not counted" in text(at)
    assert "its faces were read at least" in line and cache.test_sets().lost == []
