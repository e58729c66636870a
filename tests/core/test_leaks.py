"""Faces that crossed a split, by hand; inflation against a simulation; and the ledger of test sets."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import ANNOTATOR, LEAD
from uuid_utils import uuid7

from fercore import cli, curation, evaluation, ingest, versions
from fercore.domain import Workspace
from fercore.errors import BadInput, NotAllowed, NotFound
from fercore.evaluation import gallery, ledger
from fercore.evaluation.estimate import proportion
from fercore.evaluation.leakage import inflation
from fercore.evaluation.read import scored_path
from fercore.evaluation.study import factors, noise, pair, plots, study
from fercore.store import Store
from fercore.training.config import run_config
from fercore.training.rundir import Status, append_metrics, read_metrics, write_model
from tests.core.prediction_frames import CLASSES, faces
from tests.core.version_files import SHA

IDS = list("abcdefgh")


def workspace_of(root: Path, rows: list[tuple[str, str, str, str]], version_id: str = "v-1") -> Workspace:
    """A version of rows (image, pixels, group, split), named a, b, ... in order; "" for pixels is the image itself."""
    folder = root / "versions" / version_id
    folder.mkdir(parents=True)
    frame = pd.DataFrame(rows, columns=["image_id", "pixel_id", "duplicate_group", "split"]).assign(
        sample_id=IDS[:len(rows)], source_id="s", label="happy", given_label="happy", exclusion=None, age_band=None, gender=None, flags="", mean=9.0)
    frame["pixel_id"] = frame["pixel_id"].where(frame["pixel_id"] != "", frame["image_id"])
    frame.to_parquet(folder / "manifest.parquet")
    counts = frame["split"].value_counts().to_dict()
    (folder / "version.json").write_text(json.dumps({"version_id": version_id, "manifest_sha256": SHA, "classes": CLASSES, "scheme_id": "fer7@1",
                                                     "counts": {"train": 0, "val": 0, "test": 0, "excluded": 0} | counts, "created_at": version_id}))
    (folder / "state.json").write_text(json.dumps({"state": "frozen", "manifest_sha256": SHA}))
    return Workspace(root)


def run_of(workspace: Workspace, name: str, predicted: dict[str, tuple[int, bool]], **changes: object) -> None:
    """A finished run that predicted these samples: (fold, right)."""
    run = workspace.runs / name
    run.mkdir(parents=True)
    config = {"version_id": "v-1", "manifest_sha256": SHA, "run_id": name} | changes
    write_model(run / "config.json", run_config(config).model_copy(update={"members": tuple(changes.get("members", ()))}))
    write_model(run / "status.json", Status(state="finished", test_reads=0 if changes.get("folds") else 1, started_at="2026-01-01T00:00:00+00:00",
                                            finished_at="2026-01-02T00:00:00+00:00"))
    rows = [(i, fold, "test", "happy", "happy" if right else "sad", [0.0] * 3 + [0.9, 0.1] + [0.0] * 2 if right else [0.0] * 3 + [0.1, 0.9] + [0.0] * 2,
             True) for i, (fold, right) in predicted.items()]
    pd.DataFrame(rows, columns=["sample_id", "fold", "split", "label", "predicted", "probabilities", "out_of_fold"]).to_parquet(
        run / "predictions.parquet")


CROSSED = [("1", "", "g1", "train"), ("2", "", "g2", "train"), ("3", "", "g3", "train"),
           ("1", "", "g1", "test"),  # d: exactly a
           ("2", "2-bright", "g4", "test"),  # e: an edited copy of b
           ("5", "", "g3", "test"),  # f: in the group of c
           ("6", "", "g6", "test"), ("7", "", "g7", "test")]  # g: a near duplicate of 1 by the audit; h: clean
PAIRS = pd.DataFrame({"image_a": ["1"], "image_b": ["6"]})
NONE = PAIRS.iloc[:0]  # all looked up, none found


def test_each_way_across_a_split_is_found_and_named(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path, CROSSED)
    found = evaluation.leaks(workspace, "v-1", pairs=PAIRS)
    assert dict(zip(found.faces["sample_id"], found.faces["kind"], strict=True)) == {"d": "exact", "e": "derivative", "f": "near", "g": "near"}
    assert found.counts() == {"exact": 1, "near": 2, "derivative": 1} and found.judged == 5 and found.near_known
    assert not evaluation.leaks(workspace, "v-1", pairs=PAIRS, waiting=3).near_known
    assert set(evaluation.leaks(workspace, "v-1").faces["sample_id"]) == {"d", "e", "f"}  # nobody looked for near duplicates
    assert evaluation.leaks(workspace_of(tmp_path / "clean", CROSSED[1:3] + CROSSED[6:]), "v-1").faces.empty
    with pytest.raises(NotFound):
        evaluation.leaks(workspace, "v-2")


def test_a_run_is_judged_with_and_without_the_faces_it_has_met(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path, CROSSED)
    run_of(workspace, "r", {"d": (0, True), "e": (0, True), "f": (0, True), "g": (0, False), "h": (0, True)})
    found = evaluation.leaks(workspace, "v-1", "r", NONE)
    assert set(found.faces["sample_id"]) == {"d", "e", "f"} and set(found.faces["via"]) == {"r"}
    assert (found.all_faces.value, found.without.value, found.on_leaked.value) == (0.8, 0.5, 1.0)
    assert (found.all_faces.n, found.without.n, found.on_leaked.n) == (5, 2, 3)
    assert found.inflation.value == pytest.approx(0.3) and found.inflation.low < 0.3 < found.inflation.high


def test_what_a_run_started_from_and_the_members_of_an_ensemble_count_too(tmp_path: Path) -> None:
    clean = [("1", "", "g1", "train"), ("2", "", "g2", "val"), ("3", "", "g3", "test"), ("4", "", "g4", "test")]
    workspace = workspace_of(tmp_path, clean)
    workspace_of(tmp_path, [("3", "", "x", "train"), ("9", "", "y", "test")], "v-0")
    run_of(workspace, "parent", {"b": (0, True)}, version_id="v-0")
    run_of(workspace, "child", {"c": (0, True), "d": (0, True)}, warm_start="parent")
    run_of(workspace, "fresh", {"c": (0, True), "d": (0, True)})
    run_of(workspace, "both", {"c": (0, True), "d": (0, True)}, protocol="ensemble", members=("fresh", "child"))
    unknown, looked = (evaluation.leaks(workspace, "v-1", "fresh", pairs) for pairs in (None, NONE))
    assert unknown.faces.empty and looked.faces.empty and looked.inflation.value == looked.counts()["near"] == 0
    assert unknown.inflation.points() == evaluation.NEAR_UNKNOWN and unknown.counts()["near"] is None  # not +0.0 of what nobody looked for
    for name in ("child", "both"):
        found = evaluation.leaks(workspace, "v-1", name).faces
        assert found[["sample_id", "kind", "via"]].values.tolist() == [["c", "exact", "parent"]]
    run_of(workspace, "lost", {"c": (0, True), "d": (0, True)}, warm_start="gone")
    with pytest.raises(NotFound, match="gone"):
        evaluation.leaks(workspace, "v-1", "lost")


def test_folds_are_judged_against_the_other_folds(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path, [("1", "", "g1", "train"), ("1", "", "g1", "train"), ("2", "", "g2", "train"), ("3", "", "g3", "val")])
    run_of(workspace, "apart", {"a": (0, True), "b": (0, True), "c": (1, True), "d": (1, True)}, protocol="k_fold", folds=2)
    run_of(workspace, "across", {"a": (0, True), "b": (1, True), "c": (0, True), "d": (1, True)}, protocol="k_fold", folds=2)
    assert evaluation.leaks(workspace, "v-1", "apart").faces.empty
    assert set(evaluation.leaks(workspace, "v-1", "across").faces["sample_id"]) == {"a", "b"}


def test_runs_that_cannot_be_asked_are_refused(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path, CROSSED)
    workspace_of(tmp_path, CROSSED, "v-2")
    run_of(workspace, "r", dict.fromkeys("defgh", (0, True)))
    run_of(workspace, "leaky", dict.fromkeys("de", (0, True)), protocol="leaky", balance="ros")
    with pytest.raises(BadInput, match="another version"):
        evaluation.leaks(workspace, "v-2", "r")
    with pytest.raises(BadInput, match="by design"):
        evaluation.leaks(workspace, "v-1", "leaky")


def test_inflation_covers_the_truth_as_often_as_it_says() -> None:
    rng, n, k, inside = np.random.default_rng(0), 600, 150, 0
    groups = pd.Series([f"g{i}" for i in range(n)])
    leaked = np.arange(n) < k
    for _ in range(400):
        found = inflation(rng.random(n) < np.where(leaked, 0.9, 0.6), leaked, groups)
        inside += found.low <= k / n * 0.3 <= found.high
    assert 0.92 < inside / 400 < 0.98
    correct = rng.random(n) < 0.5
    assert inflation(correct, leaked, groups).value == pytest.approx(correct.mean() - correct[~leaked].mean())
    assert inflation(correct, leaked | True, groups).value is None and inflation(correct[:0], leaked[:0], groups[:0]).note == "no faces"


def test_versions_with_the_same_test_faces_share_one_ledger(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path, CROSSED)
    workspace_of(tmp_path, [*CROSSED[1:], ("9", "", "g9", "train")], "v-2")  # the letters shift: other test faces
    same = [(*row[:3], row[3]) for row in CROSSED]
    workspace_of(tmp_path, [("x", "", "x", "train"), *same[1:]], "v-3")
    run_of(workspace, "r1", dict.fromkeys("defgh", (0, True)))
    run_of(workspace, "r2", dict.fromkeys("defgh", (0, True)), version_id="v-3")
    run_of(workspace, "k", {"a": (0, True)}, protocol="k_fold", folds=2)
    read = ledger.reads(workspace).sets.sort_values("own", ascending=False)
    assert read["own"].tolist() == [2, 0] and read["faces"].tolist() == [5, 5]
    assert sorted(read["versions"].iloc[0]) == ["v-1", "v-3"] and read["runs"].iloc[0] == ["r2", "r1"] and read["last"].iloc[0].startswith("2026-01-02")
    scored_by(workspace, "r1", "v-2", "g", times=3)  # on another version than its own: a reading as well
    again = ledger.reads(workspace).sets.sort_values("own", ascending=False)
    assert again["own"].tolist() == [3, 2] and again["last"].iloc[0].startswith("2026-01-05")
    assert ledger.test_set(workspace, "v-1")[0] == ledger.test_set(workspace, "v-3")[0] != ledger.test_set(workspace, "v-2")[0]
    assert ledger.reads(Workspace(tmp_path / "none")).sets.empty
    workspace_of(tmp_path, [("1", "", "g", "train")], "v-4")
    with pytest.raises(BadInput, match="No test faces"):
        ledger.test_set(workspace, "v-4")


def scored_by(workspace: Workspace, run: str, version: str, seen_not: str, times: int = 1) -> None:
    """The scoring of a run on a version by these samples."""
    path = scored_path(workspace, run, version)
    path.parent.mkdir(exist_ok=True)
    made = pa.table({"sample_id": IDS, "out_of_fold": [i in seen_not for i in IDS]})
    facts = {"test_reads": times, "at": "2026-01-05T00:00:00+00:00"}
    pq.write_table(made.replace_schema_metadata({"fercore": json.dumps(facts)}), path)


def test_readings_count_by_faces_whatever_the_set_or_version(tmp_path: Path) -> None:
    """v-2 has one test face less, v-3 the same images imported anew, v-4 holds them in train; v-5 has nothing to do with them."""
    rows = [("1", "", "1", "train"), ("3", "", "3", "test"), ("4", "", "4", "test"), ("5", "", "5", "test")]
    workspace = workspace_of(tmp_path, rows)
    workspace_of(tmp_path, rows[:3], "v-2")
    workspace_of(tmp_path, rows[1:], "v-3")
    workspace_of(tmp_path, [(*row[:3], "train") for row in rows], "v-4")
    workspace_of(tmp_path, [("3", "", "3", "train"), ("9", "", "9", "test")], "v-5")
    run_of(workspace, "one", dict.fromkeys("bcd", (0, True)))
    run_of(workspace, "less", dict.fromkeys("bc", (0, True)), version_id="v-2")
    assert [ledger.reads(workspace).times_read(v) for v in ("v-1", "v-2", "v-3", "v-4", "v-5")] == [2, 2, 2, 0, 0]  # a face less resets nothing
    run_of(workspace, "folds", dict.fromkeys("abcd", (0, True)), version_id="v-4", protocol="k_fold", folds=2)
    run_of(workspace, "queued", {}, version_id="v-5")
    write_model(workspace.runs / "queued" / "status.json", Status(state="queued"))
    scored_by(workspace, "less", "v-4", "d")  # by the face that v-2 lacks
    assert [ledger.reads(workspace).times_read(v) for v in ("v-1", "v-2", "v-3", "v-4", "v-5")] == [3, 2, 3, 0, 0]
    read = ledger.reads(workspace).sets.set_index(ledger.reads(workspace).sets["versions"].str[0])
    assert read["own"].to_dict() == {"v-1": 1, "v-2": 1, "v-3": 0, "v-5": 0}
    assert {(s["versions"][0], s["faces"], s["own"]) for s in read.at["v-1", "shared"]} == {("v-2", 2, 1), ("v-3", 3, 0)}
    assert read.at["v-1", "trained"] == [{"version_id": "v-4", "part": "folds", "faces": 3, "runs": ["folds"]}] and read.at["v-5", "trained"] == []
    told = ledger.told(read)
    assert told.at["v-2", "faces also trained on"] == "2 in folds of v-4 by 1 run" and told.at["v-5", "faces in other test sets"] == "none"
    assert "2 with v-2, itself read 1 time" in told.at["v-1", "faces in other test sets"] and told.at["v-5", "first read (UTC)"] == "never"
    run_of(workspace, "leaky", dict.fromkeys("bcd", (0, True)), protocol="leaky", balance="ros")
    assert ["every split", 3] in [[t["part"], t["faces"]] for t in ledger.reads(workspace).sets["trained"][0]]


def test_a_killed_run_and_a_damaged_version_do_not_hide_readings(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path, CROSSED)
    workspace_of(tmp_path, CROSSED, "v-0")
    run_of(workspace, "r", dict.fromkeys("defgh", (0, True)))
    run_of(workspace, "killed", dict.fromkeys("defgh", (0, True)))
    write_model(workspace.runs / "killed" / "status.json", Status(state="failed", test_reads=1))
    (workspace.versions / "v-0" / "manifest.parquet").write_bytes(b"")
    run_of(workspace, "torn", {})
    (workspace.runs / "torn" / "config.json").write_text("{")
    found = ledger.reads(workspace)
    assert found.times_read("v-1") == 2 and found.told_reads("v-1") == "its faces were read at least 2 times"
    assert (found.versions, found.left_out, found.lost) == (["v-1"], ["v-0"], ["torn"])
    with pytest.raises(BadInput, match="cannot be read"):
        ledger.test_set(workspace, "v-0")
    for version in ("v-0", "none"):  # never 0 of what nobody could look at
        assert found.times_read(version) is None and "is not known" in found.told_reads(version)
        with pytest.raises(NotFound, match="not in the ledger"):
            found.of(version)


def test_a_scoring_that_cannot_be_read_costs_its_own_reading_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = workspace_of(tmp_path, CROSSED)
    workspace_of(tmp_path, CROSSED, "v-2")
    run_of(workspace, "r1", dict.fromkeys("defgh", (0, True)))
    run_of(workspace, "r2", dict.fromkeys("defgh", (0, True)))
    scored_by(workspace, "r1", "v-2", "d")
    scored_by(workspace, "r2", "v-2", "d")
    scored_path(workspace, "r1", "v-3").write_bytes(b"PAR1")
    found = ledger.reads(workspace)
    assert found.times_read("v-1") == 4 and found.lost == ["r1 on v-3"]
    assert found.gaps() == ["1 of the runs and scorings could not be read and so is not counted: r1 on v-3."]
    with pytest.raises(SystemExit) as done:
        cli.app(["ledger", "--workspace", str(tmp_path), "--json"])
    said = capsys.readouterr()
    assert done.value.code == 0 and [row["reads"] for row in json.loads(said.out)] == [4] and found.gaps()[0] in said.err
    with pytest.raises(SystemExit):
        cli.app(["evaluate", "r2", "--workspace", str(tmp_path)])
    assert "its faces were read at least 4 times" in capsys.readouterr().out
    with pytest.raises(BadInput, match="v-3"):  # the run itself says what is wrong
        evaluation.scored_on(workspace, "r1")


def test_readings_outlive_the_version_they_went_through(tmp_path: Path) -> None:
    """v-2 has the same samples and one more, and goes: what its runs read is known by their predictions, what they were trained on is not."""
    rows = [("1", "", "1", "train"), ("3", "", "3", "test"), ("4", "", "4", "test")]
    workspace = workspace_of(tmp_path, rows)
    workspace_of(tmp_path, [*rows, ("5", "", "5", "test")], "v-2")
    run_of(workspace, "on-2", dict.fromkeys("bcd", (0, True)), version_id="v-2")
    run_of(workspace, "only-d", {"d": (0, True)}, version_id="v-2")  # no face of a version that is held
    run_of(workspace, "lost", {}, version_id="v-2")
    run_of(workspace, "on-1", dict.fromkeys("bc", (0, True)))
    scored_by(workspace, "on-1", "v-2", "c")
    before = ledger.reads(workspace)
    shutil.rmtree(workspace.versions / "v-2")
    (workspace.runs / "lost" / "predictions.parquet").unlink()
    found = ledger.reads(workspace)
    assert before.times_read("v-1") == 5 and set(found.sets["runs"][0]) == {"on-1", "on-2"} and found.times_read("v-1") == 3
    assert found.lost == ["lost"] and sorted(found.gone) == ["lost", "on-2", "only-d"] and found.sets["own"].tolist() == [1]
    assert found.gaps()[1].startswith("3 runs on versions that are gone or cannot be read are not looked at for faces also trained on: ")


def test_identical_images_are_one_face_and_ensembles_train_nothing(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path, [("1", "", "1", "train"), ("3", "", "3", "test"), ("3", "", "3", "test"), ("4", "", "4", "test")])
    workspace_of(tmp_path, [("3", "", "3", "test"), ("3", "", "3", "train"), ("9", "", "9", "test")], "v-2")
    run_of(workspace, "m", {"a": (0, True), "c": (0, True)}, version_id="v-2")
    run_of(workspace, "both", {"a": (0, True), "c": (0, True)}, version_id="v-2", protocol="ensemble", members=("m",))
    sets = ledger.reads(workspace).sets.set_index(ledger.reads(workspace).sets["versions"].str[0])
    assert sets["faces"].to_dict() == {"v-1": 2, "v-2": 2}  # three rows, two faces
    assert sets.at["v-1", "shared"][0]["faces"] == sets.at["v-2", "shared"][0]["faces"] == 1  # the same from both sides
    assert sets.at["v-1", "trained"] == [{"version_id": "v-2", "part": "train or val", "faces": 1, "runs": ["m"]}]


def test_a_study_over_an_option_counts_the_runs_that_can_be_read(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path, CROSSED)
    for name, dropout, seed in (("a", 0.3, 0), ("b", 0.3, 1), ("c", 0.5, 0), ("d", 0.5, 1)):
        run_of(workspace, name, {i: (0, i in "dg") for i in "defgh"}, study="s", model="vggnet", option={"dropout": dropout}, seed=seed)
    (workspace.runs / "d" / "predictions.parquet").unlink()
    found = study(workspace, "s")
    assert sorted(found.varied) == ["option.dropout", "seed"] and factors(found) == ["option.dropout"] and found.caution() == ""
    assert found.cells["n"].tolist() == [2, 1] and [e.percent() for e in found.cells["accuracy"]] == [accuracy_of(2, 5)] * 2
    chance = noise(workspace, found)
    assert (chance.seed_df, chance.seed_sd, chance.pairs) == (1, 0, 2) and pair(found, "option.dropout", None)["runs"].tolist() == [2, 1]
    run_of(workspace, "leaky", dict.fromkeys("de", (0, True)), study="s", protocol="leaky", balance="rus", model="vggnet")
    found = study(workspace, "s")
    assert "A leaky run is no match" in noise(workspace, found).sentence() and found.rows["marks"].iloc[-1].startswith("leaky")
    assert set(pair(found, "option.dropout", None)["across"]) == {0.3, 0.5, "none"}


def test_runs_of_a_study_on_different_versions_are_told_apart(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path, CROSSED)
    workspace_of(tmp_path, CROSSED[:7], "v-2")  # h is not in it
    for name, version, judged, right in (("a", "v-1", "defgh", "degh"), ("b", "v-1", "defgh", "degh"), ("c", "v-2", "defg", ""), ("d", "v-2", "defg", "")):
        run_of(workspace, name, {i: (0, i in right) for i in judged}, study="s", version_id=version, seed="abcd".index(name) % 2)
    found, chance = study(workspace, "s"), noise(workspace, study(workspace, "s"))
    assert found.varied == ["version", "seed"] and found.cells[["version", "n"]].values.tolist() == [["v-1", 2], ["v-2", 2]]
    assert (chance.n, chance.pairs, chance.seed_df, chance.seed_sd) == (4, 4, 2, 0)
    assert "differ in the seed only" not in chance.sentence() and "on the faces they share" in found.caution()
    assert [(plot.across, plot.points["across"].tolist()) for plot in plots(found)] == [("version", ["v-1", "v-2"])]
    run_of(workspace, "e", dict.fromkeys("defg", (0, True)), study="s", version_id="v-2", epochs=3)
    run_of(workspace, "f", dict.fromkeys("defg", (0, True)), study="s", version_id="v-2", epochs=3, flip=True)
    assert {(plot.across, plot.lines) for plot in plots(study(workspace, "s"))} == {("epochs", "version"), ("flip", "version")}  # none pools versions
    workspace_of(tmp_path, [("1", "", "g1", "train"), ("2", "", "g2", "train"), ("3", "", "g3", "test")], "v-3")
    run_of(workspace, "x", {"c": (0, True)}, study="s", version_id="v-3")
    apart = noise(workspace, study(workspace, "s"))
    assert apart.pairs == 0 and "No common images" in apart.sentence()


def accuracy_of(k: int, n: int) -> str:
    return proportion(np.arange(n) < k, np.arange(n)).percent()


def test_who_changed_test_labels_is_told_by_person_day_and_way(store: Store, small_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ingest.import_fer2013(store, LEAD, small_file)
    first = versions.freeze(store, LEAD, versions.Recipe(), "before")
    rows = versions.manifest(store.workspace, first)
    test = rows.loc[(rows["split"] == "test") & (rows["label"] == "happy"), "image_id"].unique().tolist()
    n = int((rows["split"] == "test").sum())

    def vote(image: str, value: str) -> None:
        receipt = curation.record(store, ANNOTATOR, [{"event_id": str(uuid7()), "op": "set", "image_id": image, "field": "expression",
                                                      "value": value, "gesture": str(uuid7())}])
        assert receipt.acked

    vote(test[0], "sad"), vote(test[1], "happy"), vote(rows.loc[rows["split"] == "train", "image_id"].iloc[0], "sad")
    second = versions.freeze(store, LEAD, versions.Recipe(), "after")
    found = ledger.edits(store, LEAD, second)
    assert found.changed[["image_id", "before", "after"]].values.tolist() == [[test[0], "happy", "sad"]] and found.rows == n
    assert found.acts[["person", "field", "round", "acts", "faces", "standing"]].values.tolist() == [["Ann", "expression", "vote", 2, 2, 2]]
    assert ledger.edits(store, LEAD, second, first).changed["after"].tolist() == ["sad"]
    vote(test[1], "angry")  # after the version was frozen
    assert ledger.edits(store, LEAD, second).acts["acts"].tolist() == [2] and ledger.edits(store, LEAD, first).acts.empty
    mapped = versions.freeze(store, LEAD, versions.Recipe.model_validate({"scheme": "engaged4@1", "labels": {"map": {"sad": "engaged"}}}), "mapped")
    assert ledger.edits(store, LEAD, mapped).changed["image_id"].tolist() == [test[0]]  # what the map renames, nobody edited
    with pytest.raises(NotAllowed):
        ledger.edits(store, ANNOTATOR, second)
    (store.workspace.versions / second / "state.json").unlink()  # as a killed freeze leaves it
    assert ledger.reads(store.workspace).times_read(second) is None
    place = store.workspace.root
    store.close()
    with pytest.raises(SystemExit) as done:
        cli.app(["ledger", second, "--workspace", str(place), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert done.value.code == 0 and told["rows"] == n and told["reads"] == 0 and told["faces"] <= n
    with pytest.raises(NotFound, match="Unknown version"):
        cli.app(["ledger", "nothing", "--workspace", str(place)])


def test_the_gallery_is_sorted_as_it_says() -> None:
    frame = faces(400, seed=2).assign(confidence=lambda d: d[[f"p_{c}" for c in CLASSES]].max(axis=1))
    wrong = gallery.faces("mistakes", frame)
    assert len(wrong) == (~frame["correct"]).sum() and wrong["confidence"].is_monotonic_decreasing
    near = gallery.faces("near", frame)
    p = frame.set_index("sample_id")
    by_hand = {i for i, r in p.iterrows() if r["label"] == sorted(CLASSES, key=lambda c: -r[f"p_{c}"])[1] and not r["correct"]}
    assert set(near["sample_id"]) == by_hand and near["margin"].is_monotonic_increasing and (near["margin"] >= 0).all()
    sad = gallery.faces("mistakes", frame, labelled=["sad"], predicted=["happy", "angry"])
    assert set(sad["label"]) == {"sad"} and set(sad["predicted"]) == {"happy", "angry"}
    other = faces(400, seed=3).assign(confidence=0.5)
    apart = gallery.faces("apart", frame, other)
    assert set(apart["sample_id"]) == set(frame.loc[frame["predicted"] != other["predicted"], "sample_id"])
    with pytest.raises(BadInput, match="Unknown class. bored"):
        gallery.faces("near", frame, labelled=["bored"])
    for wrong_other, says in ((None, "Two runs"), (other.drop(columns="p_sad"), "other classes"), (other.iloc[:0], "No face in common")):
        with pytest.raises(BadInput, match=says):
            gallery.faces("apart", frame, wrong_other)


def test_the_commands_print_what_the_functions_find(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = workspace_of(tmp_path, CROSSED)
    run_of(workspace, "r", {i: (0, i != "h") for i in "defgh"})
    place = ["--workspace", str(tmp_path), "--json"]

    def said(*command: str) -> dict | list:
        with pytest.raises(SystemExit) as done:
            cli.app([*command, *place])
        assert done.value.code == 0
        return json.loads(capsys.readouterr().out)

    found = said("leaks", "v-1", "--run", "r")
    assert found["counts"] == {"exact": 1, "near": None, "derivative": 1} and found["near_known"] is False
    assert found["inflation"]["value"] == pytest.approx(0.8 - 0.5)
    assert [row["reads"] for row in said("ledger")] == [1]
    with pytest.raises(SystemExit):
        cli.app(["leaks", "v-1", "--run", "r", *place[:2]])
    lines = {line[:26].strip(): line[26:] for line in capsys.readouterr().out.splitlines()}
    assert (lines["of these also trained on"], lines["near"]) == ("3 that are known", evaluation.NEAR_UNKNOWN)
    assert lines["inflation"].endswith("(of the known leaks alone)")
    (tmp_path / "demo.json").touch()
    told = said("evaluate", "r")
    assert (told["marks"], told["leak"], told["test_reads"], told["n"]) == (["synthetic demo faces"], None, 1, 5)
    assert [row["table"][:2] for row in told["beside_published"]] == ["S0", "S0", "S1"]  # a hold-out run has no row among folds
    append_metrics(workspace.runs / "r", {"fold": 0, "epoch": 1, "loss": 2.0, "accuracy": 0.25, "val_loss": 1.5, "val_accuracy": 0.5, "best": True})
    assert said("runs", "show", "r")["epochs"] == read_metrics(workspace.runs / "r")
    run_of(workspace, "q", {i: (0, i in "dh") for i in "defgh"}, study="s", seed=1)
    run_of(workspace, "leaky", {"d": (0, True)}, protocol="leaky", balance="rus")
    looked = said("gallery", "r", "--view", "apart", "--other", "q", "--predicted", "happy", "--limit", "2")
    assert (looked["n"], looked["found"], [row["sample_id"] for row in looked["faces"]]) == (5, 3, ["e", "f"])
    assert looked["marks"] == {"r": ["synthetic demo faces"], "q": ["synthetic demo faces"]}
    matrices = said("compare", "r", "q")["matrices"][0]
    happy, sad = (matrices["classes"].index(c) for c in ("happy", "sad"))
    assert (matrices["change"][happy][sad], matrices["moved"][happy][sad], matrices["moved"][happy][happy]) == (2, 4, 4)
    assert matrices["disagreements"][happy][sad] == 3 and matrices["disagreements"][sad][happy] == 1
    run_of(workspace, "p", dict.fromkeys("defgh", (0, True)), study="s", epochs=3)
    assert [(plot["across"], [p["runs"] for p in plot["points"]]) for plot in said("study", "s")["plots"]] == [("epochs", [1, 1])]
    for command, says in ((("gallery", "r", "--view", "apart", "--other", "leaky"), "A leaky run is no match"),
                          (("gallery", "r", "--other", "q"), "One run is looked at"), (("gallery", "r", "--view", "odd"), "Unknown view"),
                          (("compare", "r", "q", "--labels", "v-1", "--labels", "v-1"), "The same labels twice")):
        with pytest.raises(BadInput, match=says):
            cli.app([*command, *place])
    with pytest.raises(BadInput, match="map needs a version"):
        cli.app(["evaluate", "r", "--map", "happy=happy", *place])
    run_of(workspace, "empty", {})
    for command in (["evaluate", "empty"], ["leaks", "v-1", "--run", "empty"]):
        with pytest.raises(BadInput, match="No face to judge this run by"):
            cli.app([*command, *place])
    with pytest.raises(BadInput, match="No out-of-fold"):
        cli.app(["suspects", "r", *place])
    with pytest.raises(BadInput, match="What is to be explained"):
        cli.app(["saliency", "r", *place])
