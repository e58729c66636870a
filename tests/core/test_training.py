import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fercore.domain import Workspace
from fercore.errors import BadInput, NotFound, TrainingError
from fercore.schemes import FER7
from fercore.training.config import RunConfig, run_config
from fercore.training.data import VersionData, read_version
from fercore.training.folds import k_folds
from fercore.training.loop import pick_device
from fercore.training.rundir import Status, list_runs, read_metrics, read_status, write_model
from fercore.training.worker import run
from tests.core.version_files import SHA, make_version, write_version

HOLD_OUT: dict[str, object] = {"version_id": "blobs-1", "manifest_sha256": SHA, "epochs": 5, "batch_size": 16, "device": "cpu"}
K_FOLD = HOLD_OUT | {"protocol": "k_fold", "folds": 3, "epochs": 2}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_version(tmp_path_factory.mktemp("workspace"))


def train(workspace: Workspace, name: str, **changes: object) -> Path:
    """Train in this process, as the worker does; returns the run directory."""
    run_dir = workspace.runs / name
    run_dir.mkdir(parents=True)
    write_model(run_dir / "config.json", run_config(HOLD_OUT | {"run_id": name} | changes))
    run(run_dir)
    return run_dir


def predictions(run_dir: Path) -> pd.DataFrame:
    return pd.read_parquet(run_dir / "predictions.parquet")


@pytest.fixture(scope="module")
def finished(workspace: Workspace) -> Path:
    return train(workspace, "finished")


def test_it_learns_separable_classes_and_reads_the_test_rows_once(workspace: Workspace, finished: Path) -> None:
    status = read_status(finished)
    assert (status.state, status.error, status.test_reads, status.device) == ("finished", None, 1, "cpu")
    assert (status.progress.fraction, status.progress.eta_s) == (1.0, 0.0)
    out = predictions(finished)
    data = read_version(workspace.versions / "blobs-1", SHA)
    assert list(out["sample_id"]) == list(data.samples["sample_id"].iloc[data.rows("test")])
    assert (out["predicted"] == out["label"]).mean() > 0.9
    assert set(out["split"]) == {"test"} and set(out["fold"]) == {0} and out["fold"].dtype == np.int32
    assert out["out_of_fold"].all()
    chances = np.stack(out["probabilities"].to_list())
    assert chances.dtype == np.float32 and np.allclose(chances.sum(1), 1, atol=1e-5)
    assert [FER7.ids[i] for i in chances.argmax(1)] == list(out["predicted"])


def test_the_best_epoch_is_the_one_with_the_lowest_validation_loss(finished: Path) -> None:
    epochs = read_metrics(finished)
    losses = [e["val_loss"] for e in epochs]
    assert [e["epoch"] for e in epochs] == list(range(1, len(epochs) + 1))
    assert [e["best"] for e in epochs] == [loss == min(losses[:i + 1]) for i, loss in enumerate(losses)]
    best = safetensors.torch.load_file(finished / "best.safetensors")
    last = torch.load(finished / "last.ckpt", weights_only=True)
    assert last["best_epoch"] == 1 + losses.index(min(losses))
    same = all(torch.equal(best[key], last["model"][key]) for key in best)
    assert same == (last["best_epoch"] == last["epoch"])
    assert any((finished / "tensorboard").rglob("events.out.tfevents*"))


def test_training_stops_after_patience_epochs_without_a_lower_loss(workspace: Workspace) -> None:
    run_dir = train(workspace, "patience", epochs=30, patience=1, learning_rate=0.05, seed=1)
    losses = [e["val_loss"] for e in read_metrics(run_dir)]
    assert len(losses) < 30 and losses[-1] >= min(losses[:-1])
    best = torch.load(run_dir / "last.ckpt", weights_only=True)["best_epoch"]
    assert best == len(losses) - 1


def test_equal_seeds_give_equal_predictions_and_other_seeds_do_not(workspace: Workspace, finished: Path) -> None:
    pd.testing.assert_frame_equal(predictions(train(workspace, "again")), predictions(finished))
    other = predictions(train(workspace, "other", seed=7, epochs=1))
    assert not np.array_equal(*(np.stack(p["probabilities"].to_list()) for p in (other, predictions(finished))))


def test_mirroring_changes_what_is_learned_and_is_off_unless_asked(workspace: Workspace, finished: Path) -> None:
    assert not predictions(train(workspace, "mirrored", flip=True)).equals(predictions(finished))
    assert predictions(train(workspace, "not-mirrored", flip=False)).equals(predictions(finished))


def test_k_fold_predicts_every_train_and_val_row_once_out_of_fold(workspace: Workspace) -> None:
    run_dir = train(workspace, "k-fold", **K_FOLD)
    data, out = read_version(workspace.versions / "blobs-1", SHA), predictions(run_dir)
    assert read_status(run_dir).state == "finished" and read_status(run_dir).test_reads == 0
    assert sorted(out["sample_id"]) == list(data.samples["sample_id"].iloc[data.rows("train", "val")])
    assert set(out["split"]) == {"held_out"} and set(out["fold"]) == {0, 1, 2} and out["out_of_fold"].all()
    assert all((run_dir / f"best-fold{k}.safetensors").exists() for k in range(3))


def version(groups: list[int], labels: list[int], order: list[int] | None = None) -> VersionData:
    """An in-memory version without pixels; sample ids follow the position."""
    samples = pd.DataFrame({"sample_id": [f"{i:04}" for i in range(len(groups))], "label": [FER7.ids[i] for i in labels],
                            "split": "train", "duplicate_group": [f"g{g}" for g in groups]})
    return VersionData("v", FER7.ids[:3], samples, np.empty((len(groups), 0, 0), np.uint8), np.array(labels))


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 5), min_size=24, max_size=70), folds=st.integers(2, 5), seed=st.integers(0, 2**32 - 1))
def test_duplicates_never_cross_folds(sizes: list[int], folds: int, seed: int) -> None:
    groups = [g for g, size in enumerate(sizes) for _ in range(size)]
    data = version(groups, [g % 3 for g in groups])
    made = k_folds(data, folds, seed)
    group = data.samples["duplicate_group"].to_numpy()
    for fold in made:
        parts = [set(group[rows]) for rows in (fold.fit, fold.stop, fold.held_out)]
        assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
        assert sorted([*fold.fit, *fold.stop, *fold.held_out]) == list(range(len(groups)))
    assert sorted(row for fold in made for row in fold.held_out) == list(range(len(groups)))


def test_folds_follow_sample_ids_and_not_the_order_of_rows(workspace: Workspace, tmp_path: Path) -> None:
    source = workspace.versions / "blobs-1"
    manifest, pixels = pd.read_parquet(source / "manifest.parquet"), np.load(source / "pixels.npy")
    position = np.full(len(manifest), -1)
    position[manifest["exclusion"].isna()] = np.arange(len(pixels))
    order = np.random.default_rng(3).permutation(len(manifest))
    write_version(tmp_path / "blobs-1", manifest.iloc[order], pixels[[p for p in position[order] if p >= 0]])
    a, b = read_version(source, SHA), read_version(tmp_path / "blobs-1", SHA)
    assert np.array_equal(a.pixels, b.pixels)
    for one, two in zip(k_folds(a, 3, 5), k_folds(b, 3, 5), strict=True):
        assert all(np.array_equal(getattr(one, part), getattr(two, part)) for part in ("fit", "stop", "held_out"))
    assert not np.array_equal(k_folds(a, 3, 5)[0].held_out, k_folds(a, 3, 6)[0].held_out)


def test_folds_keep_the_share_of_every_class(workspace: Workspace) -> None:
    data = read_version(workspace.versions / "blobs-1", SHA)
    for fold in k_folds(data, 4, 0):
        shares = np.bincount(data.y[fold.held_out], minlength=7) / len(fold.held_out)
        assert np.abs(shares - 1 / 7).max() < 0.06
        assert 0.05 < len(fold.stop) / (len(fold.stop) + len(fold.fit)) < 0.18


def test_folds_of_the_version_are_the_folds_of_training(workspace: Workspace, tmp_path: Path) -> None:
    source = workspace.versions / "blobs-1"
    manifest, pixels = pd.read_parquet(source / "manifest.parquet").reset_index(drop=True), np.load(source / "pixels.npy")
    groups = {g: i % 4 for i, g in enumerate(sorted(set(manifest["duplicate_group"])))}
    manifest["fold"] = pd.Series([groups[g] if s in ("train", "val") else None for g, s in zip(
        manifest["duplicate_group"], manifest["split"], strict=True)], dtype="Int64")
    write_version(tmp_path / "versions" / "blobs-1", manifest, pixels)
    data = read_version(tmp_path / "versions" / "blobs-1", SHA)
    said = manifest.set_index("sample_id")["fold"].dropna().astype(int).to_dict()
    for seed in (0, 1):
        made = k_folds(data, 4, seed)
        assert {i: f.number for f in made for i in data.samples["sample_id"].iloc[f.held_out]} == said
        assert sorted([*made[0].fit, *made[0].stop, *made[0].held_out]) == list(data.rows("train", "val"))
    with pytest.raises(TrainingError, match="blobs-1 is in 4 folds, the run asks for 3.*Use folds=4"):
        k_folds(data, 3, 0)
    out = predictions(train(Workspace(tmp_path), "own", **K_FOLD | {"folds": 4, "epochs": 1}))
    assert dict(zip(out["sample_id"], out["fold"], strict=True)) == said and out["out_of_fold"].all()
    manifest.loc[manifest.index[manifest["split"] == "test"][0], "fold"] = 1
    write_version(tmp_path / "versions" / "blobs-1", manifest, pixels)
    with pytest.raises(BadInput, match="folds are not those of the train and val rows"):
        read_version(tmp_path / "versions" / "blobs-1", SHA)


def test_too_few_faces_for_the_folds_are_refused() -> None:
    with pytest.raises(TrainingError, match="Too few faces of class fear"):
        k_folds(version(list(range(22)), [0] * 10 + [1] * 10 + [2] * 2), 3, 0)


Damage = Callable[[pd.DataFrame, np.ndarray], tuple[pd.DataFrame, np.ndarray]]


def leak(m: pd.DataFrame, pixels: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    train_row, test_row = m.index[m["split"] == "train"][0], m.index[m["split"] == "test"][0]
    m.loc[[train_row, test_row], "duplicate_group"] = "same-face"
    return m, pixels


def unlabel(m: pd.DataFrame, pixels: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    m.loc[m.index[m["split"] == "train"][0], "label"] = None
    return m, pixels


@pytest.mark.parametrize(("damage", "error", "says"), [
    (leak, TrainingError, "same-face is in (train and test|test and train)"),
    (unlabel, BadInput, "lacks a label"),
    (lambda m, p: (m, p[1:]), BadInput, r"pixels.npy is uint8 \[209, 48, 48\], the manifest includes 210"),
    (lambda m, p: (m, p.astype(np.float32)), BadInput, "float32"),
    (lambda m, p: (m.assign(label=m["label"].replace("sad", "bored")), p), BadInput, "bored"),
    (lambda m, p: (pd.concat([m, m.tail(1)]), np.concatenate([p, p[-1:]])), BadInput, "listed twice"),
])
def test_damaged_versions_are_refused(workspace: Workspace, tmp_path: Path, damage: Damage, error: type[Exception],
                                      says: str) -> None:
    source = workspace.versions / "blobs-1"
    manifest = pd.read_parquet(source / "manifest.parquet").reset_index(drop=True)
    write_version(tmp_path / "blobs-1", *damage(manifest, np.load(source / "pixels.npy")))
    with pytest.raises(error, match=says):
        read_version(tmp_path / "blobs-1", SHA)


def test_a_version_with_other_counts_or_without_files_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    source = workspace.versions / "blobs-1"
    manifest, pixels = pd.read_parquet(source / "manifest.parquet"), np.load(source / "pixels.npy")
    write_version(tmp_path / "v", manifest, pixels, counts={"train": 1, "val": 1, "test": 1, "excluded": 2})
    with pytest.raises(BadInput, match="counts"):
        read_version(tmp_path / "v", SHA)
    (tmp_path / "v" / "pixels.npy").unlink()
    with pytest.raises(NotFound, match="pixels.npy"):
        read_version(tmp_path / "v", SHA)
    (tmp_path / "v" / "manifest.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(BadInput, match="cannot be read"):
        read_version(tmp_path / "v", SHA)


def test_another_manifest_fails_the_run_and_says_so(workspace: Workspace) -> None:
    status = read_status(train(workspace, "mismatch", manifest_sha256="6" * 64))
    assert status.state == "failed" and status.error and "not the one this run was made for" in status.error.title
    assert status.test_reads == 0


def test_a_class_without_training_rows_fails_the_run(tmp_path: Path) -> None:
    workspace = make_version(tmp_path)
    directory = workspace.versions / "blobs-1"
    manifest, pixels = pd.read_parquet(directory / "manifest.parquet"), np.load(directory / "pixels.npy")
    manifest.loc[(manifest["label"] == "fear") & (manifest["split"] == "train"), "split"] = "val"
    groups = manifest.groupby("duplicate_group")["split"].nunique()
    assert groups.max() == 1
    write_version(directory, manifest, pixels)
    error = read_status(train(workspace, "no-fear")).error
    assert error and error.title == "No training rows for fear"


def test_a_loss_that_is_no_number_fails_the_run(workspace: Workspace) -> None:
    run_dir = train(workspace, "nan", learning_rate=1e20)
    status = read_status(run_dir)
    assert status.state == "failed" and status.error and status.error.title == "The loss is no longer a number"
    assert "nan" in status.error.detail and "learning_rate" in status.error.remedy
    assert not (run_dir / "predictions.parquet").exists() and status.test_reads == 0


class Planted:
    """What a checkpoint from elsewhere may hold: unpickling it runs code."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("planted",)


def test_a_damaged_checkpoint_fails_the_run_and_runs_no_code(workspace: Workspace, finished: Path, tmp_path: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    whole = (finished / "last.ckpt").read_bytes()
    planted = tmp_path / "planted.ckpt"
    torch.save(Planted(), planted)
    for n, damaged in enumerate((b"", b"no checkpoint", whole[:len(whole) // 2], whole[:-1], planted.read_bytes(), pickle.dumps(Planted()))):
        run_dir = workspace.runs / f"damaged-{n}"
        run_dir.mkdir()
        write_model(run_dir / "config.json", run_config(HOLD_OUT))
        (run_dir / "last.ckpt").write_bytes(damaged)
        assert run(run_dir) == "failed"
        error = read_status(run_dir).error
        assert error and error.title == "The checkpoint cannot be read", (n, error)
        assert "last.ckpt" in error.detail and "Start a new run" in error.remedy
        assert (run_dir / "last.ckpt").read_bytes() == damaged and not (run_dir / "predictions.parquet").exists()
    assert not (tmp_path / "planted").exists()


def test_every_slot_has_its_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_device("cpu", 3) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(pick_device(wanted, slot)) for wanted, slot in (("auto", 0), ("auto", 1), ("cuda", 2), ("cpu", 1))] == [
        "cuda:0", "cuda:1", "cuda:0", "cpu"]


def test_an_unexpected_error_keeps_its_traceback_in_the_log_only(workspace: Workspace) -> None:
    run_dir = workspace.runs / "blocked"
    (run_dir / "last.ckpt").mkdir(parents=True)  # in the way of the file
    write_model(run_dir / "config.json", run_config(HOLD_OUT))
    assert run(run_dir) == "failed"
    error = read_status(run_dir).error
    assert error and error.title == "Training stopped with an error"
    assert "last.ckpt" in error.detail and "Traceback" not in error.detail
    assert "Traceback" in (run_dir / "log.txt").read_text()


def test_a_full_disk_fails_the_run_and_leaves_no_torn_file(workspace: Workspace) -> None:
    run_dir = workspace.runs / "full"
    run_dir.mkdir(parents=True)
    write_model(run_dir / "config.json", run_config(HOLD_OUT | {"epochs": 1}))
    limited = ("import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6)); "
               "sys.argv = ['fercore.training', sys.argv[1]]; runpy.run_module('fercore.training', run_name='__main__')")
    done = subprocess.run([sys.executable, "-c", limited, str(run_dir)], capture_output=True, check=False, timeout=60)
    error = read_status(run_dir).error
    assert done.returncode == 1 and error and error.title == "The disk is full"
    assert not list(run_dir.glob(".*.tmp")) and not (run_dir / "last.ckpt").exists()


def test_settings_come_from_values_and_overrides() -> None:
    config = run_config({"version_id": "v-1"}, ["epochs=3", "learning_rate=1e-2", "protocol=k_fold", "folds=5"])
    assert (config.epochs, config.learning_rate, config.folds) == (3, 0.01, 5)


@pytest.mark.parametrize(("values", "overrides", "says"), [
    ({"epoch": 3}, [], "'epoch' is not a setting.*Choose one of .*epochs"),
    ({}, ["epoch=3"], "'epoch' is not a setting.*Choose one of .*epochs"),
    ({}, ["created_by=me"], "'created_by' is not a setting"),
    ({}, ["epochs"], "'epochs' has no '='"),
    ({}, ["epochs=many"], "epochs = 'many'"),
    ({}, ["learning_rate=nan"], "learning_rate"),
    ({}, ["model=vgg99"], "choose one of simple_cnn"),
    ({}, ["protocol=k_fold"], "k_fold needs folds"),
    ({"folds": 3}, [], "hold_out folds=0"),
    ({"version_id": "../elsewhere"}, [], "version_id"),
])
def test_wrong_settings_are_refused_by_name(values: dict[str, object], overrides: list[str], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        run_config({"version_id": "v-1"} | values, overrides)


def test_a_torn_last_line_of_metrics_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"fold": 0, "epoch": 1}\n{"fold": 0, "epo')
    assert read_metrics(tmp_path) == [{"fold": 0, "epoch": 1}]
    assert read_metrics(tmp_path / "nowhere") == []


def test_a_broken_run_does_not_hide_the_others(tmp_path: Path) -> None:
    for name, config in (("good", RunConfig(version_id="v").model_dump_json()), ("bad", "{")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(config)
        write_model(tmp_path / name / "status.json", Status(state="finished"))
    runs = {r.run_id: r for r in list_runs(tmp_path)}
    assert runs["good"].status.state == "finished" and runs["bad"].config is None
    assert runs["bad"].status.error and "settings cannot be read" in runs["bad"].status.error.title


def test_the_worker_loads_neither_database_nor_dashboard() -> None:
    code = ("import sys, json, fercore.training.__main__, fercore.training.loop; "
            "print(json.dumps([m for m in sys.modules if m.startswith(('duckdb', 'streamlit', 'fercore.store'))]))")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert json.loads(found.stdout) == []


def test_watching_runs_does_not_load_torch() -> None:
    code = "import sys, fercore.jobs, fercore.training.worker; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
