"""Whole runs in this process: every way to train ends, can be interrupted, and predicts what its weights say."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from fercore import evaluation, jobs
from fercore.domain import Person, Role, Workspace
from fercore.errors import BadInput, Conflict, FerError, NotAllowed
from fercore.evaluation.estimate import difference
from fercore.evaluation.study import factors, pair
from fercore.models import MODELS, build
from fercore.schemes import FER7
from fercore.training import predict
from fercore.training.config import run_config
from fercore.training.data import read_version
from fercore.training.ensemble import config_of
from fercore.training.presets import PRESETS, settings_of
from fercore.training.rundir import Status, read_config, read_metrics, read_status, write_model
from fercore.training.soft import shares
from fercore.training.worker import Cancelled, Report, run
from tests.core.version_files import SHA, make_version, write_version

LEAD, REVIEWER = Person("lena", "Lena", Role.DATA_LEAD), Person("rui", "Rui", Role.REVIEWER)
BASE: dict[str, object] = {"version_id": "blobs-1", "manifest_sha256": SHA, "epochs": 2, "batch_size": 32, "device": "cpu", "exploratory": True}


def with_votes(workspace: Workspace) -> None:
    """Ten votes a face: six for its label, four for the next class, and every fifth face a weight of 3."""
    directory = workspace.versions / "blobs-1"
    manifest, pixels = pd.read_parquet(directory / "manifest.parquet"), np.load(directory / "pixels.npy")
    place = pd.Index(FER7.ids).get_indexer(manifest["label"])
    votes = 6 * np.eye(7, dtype=int)[place] + 4 * np.eye(7, dtype=int)[(place + 1) % 7]
    manifest["votes"] = [",".join(map(str, row)) for row in votes]
    manifest["age_band"] = manifest["gender"] = None
    manifest["mean"] = 100.0
    manifest["weight"] = np.where(np.arange(len(manifest)) % 5 == 0, 3.0, 1.0)
    write_version(directory, manifest, pixels, name="blobs", number=1, created_by="Lena", created_at="2026-01-01T00:00:00+00:00")
    (directory / "state.json").write_text(json.dumps({"state": "frozen", "manifest_sha256": SHA}))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = make_version(tmp_path_factory.mktemp("protocols"))
    with_votes(workspace)
    return workspace


def train(workspace: Workspace, name: str, **changes: object) -> Path:
    run_dir = workspace.runs / name
    run_dir.mkdir(parents=True)
    write_model(run_dir / "config.json", run_config(BASE | {"run_id": name} | changes))
    run(run_dir)
    return run_dir


def done(workspace: Workspace, name: str, **changes: object) -> Path:
    run_dir = train(workspace, name, **changes)
    status = read_status(run_dir)
    assert status.state == "finished", status.error
    return run_dir


def failure(workspace: Workspace, name: str, **changes: object) -> str:
    status = read_status(train(workspace, name, **changes))
    assert status.state == "failed" and status.error and status.error.title != "Training stopped with an error"
    return f"{status.error.title}. {status.error.detail}. {status.error.remedy}"


@pytest.fixture(scope="module")
def plain(workspace: Workspace) -> Path:
    return done(workspace, "plain", epochs=3)


WAYS: dict[str, dict[str, object]] = {
    "plateau, drawn faces": {"schedule": "plateau", "plateau_patience": 0, "learning_rate": 0.02, "monitor": "val_accuracy", "balance": "weighted_sampler"},
    "cosine, class weights": {"schedule": "cosine", "optimizer": "adamw", "weight_decay": 0.01, "label_smoothing": 0.1, "balance": "class_weights"},
    "one cycle, views": {"schedule": "one_cycle", "optimizer": "sgd", "learning_rate": 0.05, "test_views": "flip"},
    "augmented": {"flip": True, "rotation": 10, "translate": 0.1, "zoom_min": 0.9, "zoom_max": 1.1, "noise": 0.02, "erasing": 0.5, "optimizer": "radam"},
    "made faces, half": {"balance": "smote", "precision": "bfloat16"}, "drawn labels": {"labels": "probability"},
    "soft labels": {"labels": "cross_entropy", "sample_weights": True}, "several labels": {"labels": "multi_target"},
    "leaky": {"protocol": "leaky", "balance": "ros"}}


@pytest.mark.parametrize("way", WAYS)
def test_an_interrupted_run_ends_as_if_it_had_not_been(workspace: Workspace, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"epochs": 3, "patience": 9} | WAYS[way]
    whole = done(workspace, f"whole {way}", **settings)
    steps = iter(range(10**6))
    looked = Report.stop_if_cancelled

    def stop_late(report: Report) -> None:
        looked(report)
        if len(read_metrics(report.run_dir)) == 2 and next(steps) > 1:  # in the middle of the third epoch
            raise Cancelled

    monkeypatch.setattr(Report, "stop_if_cancelled", stop_late)
    cut = train(workspace, f"cut {way}", **settings)
    assert read_status(cut).state == "cancelled" and len(read_metrics(cut)) == 2
    monkeypatch.undo()
    assert run(cut) == "finished"
    pd.testing.assert_frame_equal(*(pd.read_parquet(d / "predictions.parquet") for d in (whole, cut)))
    figures = [[{k: v for k, v in e.items() if k not in ("seconds", "images_per_s")} for e in read_metrics(d)] for d in (whole, cut)]
    assert figures[0] == figures[1]
    for name in ("best.safetensors",):
        one, other = (safetensors.torch.load_file(d / name) for d in (whole, cut))
        assert all(torch.equal(one[k], other[k]) for k in one)


def test_every_preset_and_model_makes_settings_that_are_valid_and_say_what_is_published() -> None:
    for name in [*PRESETS, *MODELS]:
        assert run_config({"version_id": "v", **settings_of(name)}).model in MODELS
    vgg = run_config({"version_id": "v", **settings_of("s4_vgg")})
    assert (vgg.optimizer, vgg.momentum, vgg.learning_rate, vgg.weight_decay, vgg.batch_size, vgg.epochs) == ("sgd", 0.9, 0.01, 1e-4, 64, 300)
    assert (vgg.train_views, vgg.test_views, vgg.plateau_factor, vgg.plateau_patience, vgg.erasing) == ("ten_crop", "ten_crop", 0.75, 5, 0.5)
    lstm = run_config({"version_id": "v", **settings_of("s2_cnn_lstm")})
    assert (lstm.learning_rate, lstm.schedule, lstm.plateau_factor, lstm.plateau_patience, lstm.patience) == (2e-3, "plateau", 0.1, 2, 5)
    assert settings_of("b32_n8_fc2_k7_ap20") == settings_of("s1_focus4") | {"model": "b32_n8_fc2_k7_ap20"}
    assert {m.preset for m in MODELS.values()} <= set(PRESETS)
    with pytest.raises(FerError, match="Choose one of"):
        settings_of("nothing")


@pytest.mark.parametrize(("settings", "says"), [
    ({"protocol": "leaky"}, "leaky balances before it splits"),
    ({"zoom_min": 1.5}, "zoom_min=1.5 is above zoom_max"),
    ({"labels": "multi_target", "label_smoothing": 0.1}, "neither class weights nor label smoothing"),
    ({"labels": "probability", "balance": "smote"}, "have no votes"),
    ({"weights": "a.pt", "warm_start": "b"}, "give one"),
    ({"option": {"depth": 3}}, "simple_cnn has no option 'depth'"),
    ({"balance": "magic"}, "balance = 'magic'"),
])
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        run_config({"version_id": "v"} | settings)


def test_options_of_the_network_come_from_the_command_line() -> None:
    config = run_config({"version_id": "v", "model": "vggnet"}, ["option.dropout=0.4"])
    assert config.option == {"dropout": 0.4}
    assert build(config.model, 7, config.option)
    assert run_config({"version_id": "v", "model": "s3_cnn"}, ["option.channels=8,16,32,64"]).option == {"channels": "8,16,32,64"}


def test_votes_become_shares_without_single_votes(workspace: Workspace) -> None:
    data = read_version(workspace.versions / "blobs-1", SHA)
    assert data.votes is not None and data.weight is not None
    found = shares(data)
    assert np.allclose(found[np.arange(len(found)), data.y], 0.6) and np.allclose(found.sum(1), 1)
    votes = np.zeros((len(data.y), 7), np.int64)
    votes[0, :3], votes[1, 4] = (5, 1, 4), 1
    odd = shares(type(data)(data.version_id, data.classes, data.samples, data.pixels, data.y, votes))
    assert np.allclose(odd[0], [5 / 9, 0, 4 / 9, 0, 0, 0, 0]) and odd[1, data.y[1]] == 1  # a slip counts nothing; no votes: the label


def test_soft_labels_need_votes_and_weights_need_weights(tmp_path: Path) -> None:
    bare = make_version(tmp_path)
    assert "has no votes" in failure(bare, "soft", labels="cross_entropy")
    assert "has no weights" in failure(bare, "weighted", sample_weights=True)


def test_weights_of_faces_change_what_is_learned(workspace: Workspace) -> None:
    one, other = (pd.read_parquet(done(workspace, f"weights {w}", sample_weights=w) / "predictions.parquet") for w in (True, False))
    assert not one.equals(other)


def test_a_predictor_gives_the_probabilities_of_its_run(workspace: Workspace, plain: Path) -> None:
    data = read_version(workspace.versions / "blobs-1", SHA)
    for run_dir in (plain, done(workspace, "ten crops", test_views="ten_crop", model="simple_cnn_v1", epochs=1)):
        found = predict.load(run_dir)
        assert found.classes == FER7.ids
        expected = np.stack(pd.read_parquet(run_dir / "predictions.parquet")["probabilities"].to_list())
        np.testing.assert_allclose(found.probabilities(data.pixels[data.rows("test")]), expected, atol=1e-5)
    assert predict.load(plain).probabilities(data.pixels[:0]).shape == (0, 7)


def test_a_predictor_of_folds_is_their_mean_and_damaged_weights_are_refused(workspace: Workspace) -> None:
    run_dir = done(workspace, "two folds", protocol="k_fold", folds=2)
    pixels = read_version(workspace.versions / "blobs-1", SHA).pixels[:5]
    found = predict.load(run_dir)
    each = [type(found)(found.run_id, found.classes, (n,), found.device).probabilities(pixels) for n in found.networks]
    np.testing.assert_allclose(found.probabilities(pixels), np.mean(each, axis=0), atol=1e-6)
    assert not np.allclose(*each)
    (run_dir / "best-fold1.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(BadInput, match="weights cannot be read"):
        predict.load(run_dir)


def test_an_ensemble_is_the_mean_of_its_members_and_reads_the_test_once_more(workspace: Workspace, plain: Path) -> None:
    other = done(workspace, "other seed", seed=5, epochs=1)
    run_id = jobs.ensemble(workspace, ["plain", "other seed"], LEAD)
    frame = pd.read_parquet(workspace.runs / run_id / "predictions.parquet")
    each = [np.stack(pd.read_parquet(d / "predictions.parquet")["probabilities"].to_list()) for d in (plain, other)]
    mean = np.stack(frame["probabilities"].to_list())
    np.testing.assert_allclose(mean, (each[0] + each[1]) / 2, atol=1e-6)
    assert list(frame["predicted"]) == [FER7.ids[i] for i in mean.argmax(1)]
    status, config = read_status(workspace.runs / run_id), read_config(workspace.runs / run_id)
    assert (status.state, status.test_reads, config.protocol, config.members) == ("finished", 1, "ensemble", ("plain", "other seed"))
    pixels = read_version(workspace.versions / "blobs-1", SHA)
    np.testing.assert_allclose(predict.load(workspace.runs / run_id).probabilities(pixels.pixels[pixels.rows("test")]), mean, atol=1e-5)
    for members, says in ((["plain"], "1 runs"), (["plain", "plain"], "1 different"), (["plain", run_id], "is ensemble")):
        with pytest.raises(BadInput, match=says):
            config_of(workspace.runs, members)
    with pytest.raises(NotAllowed):
        jobs.ensemble(workspace, ["plain", "other seed"], REVIEWER)


def test_runs_in_other_folds_make_no_ensemble(workspace: Workspace) -> None:
    for seed in (1, 2):
        done(workspace, f"folds {seed}", protocol="k_fold", folds=2, seed=seed, epochs=1)
    with pytest.raises(BadInput, match="seed"):
        config_of(workspace.runs, ["folds 1", "folds 2"])


def test_a_warm_start_begins_where_the_other_run_ended(workspace: Workspace, plain: Path) -> None:
    warm = done(workspace, "warm", warm_start="plain", epochs=1, learning_rate=1e-12)
    one, other = (safetensors.torch.load_file(d / "best.safetensors") for d in (plain, warm))
    assert all(torch.allclose(one[k], other[k], atol=1e-6) for k in one)


def test_a_warm_start_from_a_run_that_has_seen_the_test_faces_is_refused(workspace: Workspace, plain: Path) -> None:
    assert "has seen the faces it would be judged by" in failure(workspace, "seen", warm_start="plain", protocol="k_fold", folds=2)
    done(workspace, "warm once", warm_start="plain", epochs=1)
    assert "warm once was trained on" in failure(workspace, "seen twice", warm_start="warm once", protocol="k_fold", folds=2)
    assert "another model" in failure(workspace, "other model", warm_start="plain", model="simple_cnn_v1")
    shutil.copytree(plain, workspace.runs / "gone version")
    config = read_config(plain).model_copy(update={"version_id": "nowhere"})
    write_model(workspace.runs / "gone version" / "config.json", config)
    assert "is not known" in failure(workspace, "of unknown past", warm_start="gone version")
    write_model(workspace.runs / "gone version" / "status.json", Status(state="cancelled"))
    assert "is cancelled. Resume it" in failure(workspace, "of a cancelled one", warm_start="gone version")


def test_leaky_counts_copies_as_published_and_is_kept_apart(workspace: Workspace, plain: Path) -> None:
    run_dir = done(workspace, "leaky", protocol="leaky", balance="ros")
    found = evaluation.leak(workspace, "leaky")
    frame = pd.read_parquet(run_dir / "predictions.parquet")
    assert frame["sample_id"].is_unique and not frame["out_of_fold"].all()
    assert found.copied.value is not None and found.copied.n == json.loads((run_dir / "leak.json").read_text())["n_test"]
    beside = evaluation.leak(workspace, "leaky", "plain")
    assert (beside.clean.n == 42 - 0 and beside.clean_from == "plain") or beside.clean_from == "plain"
    assert 0 < beside.predicted.low < beside.predicted.value <= beside.predicted.high <= 1 and beside.inflation == difference(beside.leaky, beside.clean)
    assert beside.predicted.value == pytest.approx(beside.copied.value + (1 - beside.copied.value) * beside.clean.value)  # type: ignore[operator]
    with pytest.raises(BadInput, match="Not a leaky run"):
        evaluation.leak(workspace, "plain")
    with pytest.raises(BadInput, match="Not a clean run"):
        evaluation.leak(workspace, "leaky", "leaky")
    with pytest.raises(FerError, match="trained"):
        evaluation.require_unseen(evaluation.predictions(workspace, "leaky"))
    with pytest.raises(BadInput, match="leaky run is no match"):
        evaluation.require_clean(workspace, ["plain", "leaky"])
    assert evaluation.marks(workspace, "leaky")[0] == "leaky, for comparison only" and "leaky" not in "".join(evaluation.marks(workspace, "plain"))


@pytest.fixture
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "own_net.py").write_text(
        "from torch import nn\n"
        "def small(n): return nn.Sequential(nn.Flatten(), nn.Linear(2304, n))\n"
        "def large(n): return nn.Sequential(nn.Flatten(), nn.Linear(64 * 64, n))\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield


@pytest.mark.usefixtures("own_code")
def test_a_network_of_ones_own_trains_and_one_of_another_size_is_refused(workspace: Workspace) -> None:
    assert predict.load(done(workspace, "own", model="own_net:small")).classes == FER7.ids
    assert "needs another input size" in failure(workspace, "too large", model="own_net:large")


def test_code_and_files_are_for_the_command_line(workspace: Workspace) -> None:
    for settings in ({"model": "os:system"}, {"weights": "/etc/passwd"}):
        with pytest.raises(NotAllowed, match="command line"):
            jobs.start(workspace, run_config(BASE | settings), LEAD)
    with pytest.raises(BadInput, match="not trained"):
        jobs.start(workspace, run_config(BASE | {"protocol": "ensemble"}), LEAD)
    with pytest.raises(Conflict, match="not approved"):
        jobs.start(workspace, run_config(BASE | {"exploratory": False}), LEAD)


def test_weights_of_ones_own_are_the_file_that_was_named(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: Path) -> None:
    monkeypatch.setenv("FERCORE_DEVICES", "0")
    path = shutil.copy(plain / "best.safetensors", tmp_path / "mine.safetensors")
    run_id = jobs.start(workspace, run_config(BASE | {"weights": str(path)}), LEAD, own_code=True)
    assert run(workspace.runs / run_id, 0) == "finished"
    again = jobs.start(workspace, run_config(BASE | {"weights": str(path)}), LEAD, own_code=True)
    Path(path).write_bytes(b"other")
    assert run(workspace.runs / again, 0) == "failed"
    error = read_status(workspace.runs / again).error
    assert error and error.title == "The weights have changed"


def test_a_study_starts_each_run_once_and_averages_over_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = make_version(tmp_path)
    with_votes(workspace)
    monkeypatch.setenv("FERCORE_DEVICES", "0")
    configs = [run_config(BASE | {"epochs": 1, "seed": s, "flip": f}) for s in (0, 1) for f in (True, False)]
    first = jobs.start_study(workspace, "Flips", configs[:2], LEAD)
    assert len(first) == 2 and len(jobs.start_study(workspace, "Flips", [*configs, configs[3]], LEAD)) == 2
    assert jobs.start_study(workspace, "Flips", configs, LEAD) == []
    for run_dir in workspace.runs.iterdir():
        if run_dir.name[0] != ".":
            assert run(run_dir, 0) == "finished"
    found = evaluation.study(workspace, "flips")
    assert evaluation.studies(workspace) == ["flips"] and sorted(found.varied) == ["flip", "seed"] and len(found.rows) == 4
    for flip, part in found.rows.groupby("flip"):
        values = [e.value for e in part["accuracy"]]
        row = found.cells[found.cells["flip"] == flip].iloc[0]
        assert row["n"] == 2 and row["mean"] == pytest.approx(np.mean(values)) and row["sd"] == pytest.approx(np.std(values, ddof=1))
    assert factors(found) == ["flip"] and len(pair(found, "flip", None)) == 2
    with pytest.raises(FerError, match="No such study"):
        evaluation.study(workspace, "nothing")
    with pytest.raises(BadInput, match="0 runs"):
        jobs.start_study(workspace, "x", [], LEAD)


def test_a_status_file_of_an_older_release_is_still_read(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text('{"state": "finished", "progress": {"fold": 0, "epoch": 3}}')
    assert read_status(tmp_path) == Status(state="finished", progress={"epoch": 3})  # type: ignore[arg-type]
