"""Calibration, comparison, ceiling, published tables, scoring on other versions and the noise of a study: against other packages, by hand, by simulation."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from helpers import LEAD
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from fercore import jobs
from fercore.errors import BadInput, Conflict, FerError, NotFound
from fercore.evaluation import (
    TABLES,
    accuracy,
    benchmark,
    beside_published,
    calibration,
    ceiling,
    compare,
    confusion,
    confusion_difference,
    disagreement,
    inconsistencies,
    kfold_table,
    label_effect,
    labels_of,
    noise,
    predictions,
    published,
    score,
    scored_on,
    scorings,
    study,
    summary,
    to_json,
)
from fercore.evaluation.calibration import calibration_error
from fercore.evaluation.ceiling import of_votes
from fercore.evaluation.compare import bootstrap, corrected_t, holm, mcnemar, t_of
from fercore.evaluation.estimate import average, codes, design_effect, wilson
from fercore.evaluation.metrics import bootstrapped, resample, scores
from fercore.training.config import run_config
from fercore.training.rundir import read_config
from fercore.training.worker import run
from tests.core.prediction_frames import CLASSES, faces, scored
from tests.core.version_files import SHA, make_version

TWO = ["happy", "sad"]


def with_p(frame: pd.DataFrame) -> pd.DataFrame:
    """Two-class faces with probabilities."""
    sure = (frame["predicted"] == "happy").astype(float)
    return frame.assign(p_happy=0.2 + 0.6 * sure, p_sad=0.8 - 0.6 * sure, confidence=0.8)


# ---- calibration ------------------------------------------------------------------------------------------------------------------


def test_reliability_bins_by_hand() -> None:
    frame = pd.DataFrame({"correct": [True, False, True, True], "confidence": [0.5, 0.55, 0.95, 1.0], "duplicate_group": list("abcd")})
    found = calibration(frame, bins=10)
    filled = found.bins[found.bins["n"] > 0]
    assert filled["low"].tolist() == [0.5, 0.9] and filled["n"].tolist() == [2, 2] and filled["confidence"].tolist() == [0.525, 0.975]
    assert [e.value for e in filled["accuracy"]] == [0.5, 1.0]
    assert found.ece.value == pytest.approx(0.5 * 0.025 + 0.5 * 0.025) and found.ece.low == 0  # so few faces tell nothing
    for few in (frame.iloc[:0], frame.iloc[:1]):
        assert calibration(few).ece.value is None and "< 2" in calibration(few).ece.note and calibration(few).floor is None
        assert json.dumps(to_json(calibration(few)), allow_nan=False)


@pytest.mark.parametrize("size", [1, 2])
def test_the_interval_of_the_calibration_error_covers(size: int) -> None:
    rng, bins = np.random.default_rng(size), 15
    for over in (0.0, 0.03, 0.1):
        found = []
        for _ in range(150):
            confidence = np.repeat(rng.uniform(0.2, 1, 800), size)
            hits = np.repeat(rng.random(800), size) < confidence - over
            found.append(calibration(pd.DataFrame({"correct": hits, "confidence": confidence, "duplicate_group": np.arange(800 * size) // size}), bins).ece)
        assert 0.90 <= np.mean([e.low <= over <= e.high for e in found]) <= 1, over


@pytest.mark.parametrize("n", [20, 50])
def test_few_sure_answers_are_no_proof_of_miscalibration(n: int) -> None:
    rng, inside = np.random.default_rng(n), []
    for _ in range(150):
        confidence = rng.uniform(0.9, 0.99, n)
        found = calibration_error(pd.DataFrame({"correct": rng.random(n) < confidence, "confidence": confidence, "duplicate_group": np.arange(n)}))[0]
        inside.append(found.low <= 0 <= found.high)
    assert np.mean(inside) >= 0.92
    one = pd.DataFrame({"correct": True, "confidence": 0.9, "duplicate_group": ["a"] * n})
    assert calibration_error(one)[0].note == "n = 1 < 2"


# ---- comparison -------------------------------------------------------------------------------------------------------------------


def test_a_comparison_by_hand_and_against_scikit_learn() -> None:
    first = faces(800, seed=1)
    second = faces(800, seed=1).assign(predicted=faces(800, seed=2)["predicted"].where(faces(800, seed=3).index % 5 == 0, first["predicted"]))
    second = second.assign(correct=second["label"] == second["predicted"])
    third = second.assign(predicted=first["predicted"], correct=first["correct"]).iloc[:700].sample(frac=1, random_state=1)
    found = compare({"a": first, "b": second, "c": third})
    assert (found.n, found.left_out) == (700, {"a": 100, "b": 100, "c": 0}) and len(found.pairs) == 3
    pair, one, two = found.pairs[0], first.iloc[:700], second.iloc[:700]
    assert found.accuracy["b"] == accuracy(two) and pair.n == 700
    assert (pair.gained, pair.lost) == (int((two.correct & ~one.correct).sum()), int((one.correct & ~two.correct).sum()))
    assert pair.difference.value == pytest.approx(pair.bootstrap.value) == pytest.approx(accuracy(two).value - accuracy(one).value)
    assert pair.macro_f1.value == pytest.approx(sk.f1_score(two.label, two.predicted, average="macro") - sk.f1_score(one.label, one.predicted, average="macro"))
    assert [pair.bootstrap.low, pair.bootstrap.high] == pytest.approx([pair.difference.low, pair.difference.high], abs=0.006)
    assert [p.p_holm for p in found.pairs] == pytest.approx(multipletests([p.p_value for p in found.pairs], method="holm")[1])
    same = found.pairs[1]  # a and c predict the same
    assert (same.p_value, same.macro_f1.value, same.gained, same.lost) == (1.0, 0.0, 0, 0) and same.macro_f1.low < 0 < same.macro_f1.high
    assert pair.p_folds is not None and json.dumps(to_json(found.pairs), allow_nan=False)
    change, moved = confusion_difference(found.frames["a"], found.frames["b"])
    assert (change.to_numpy() == (confusion(two, CLASSES) - confusion(one, CLASSES)).to_numpy()).all()
    assert moved.to_numpy().sum() == 2 * (one["predicted"] != two["predicted"]).sum() and (moved >= change.abs()).all(axis=None)
    assert np.trace(disagreement(found.frames["a"], found.frames["b"])) == (one["predicted"].to_numpy() == two["predicted"].to_numpy()).sum()


def test_the_paired_bootstrap_agrees_with_drawing_rows() -> None:
    first, second = faces(400, seed=4, copies=0.3), faces(400, seed=4, copies=0.3)
    second = second.assign(predicted=second["predicted"].where(second["duplicate_group"].str[-1].isin(list("0123456")), "happy"))
    second = second.assign(correct=second["label"] == second["predicted"])
    got = compare({"a": first, "b": second}).pairs[0].bootstrap
    rng, rows, drawn = np.random.default_rng(5), {g: np.flatnonzero(first["duplicate_group"] == g) for g in first["duplicate_group"].unique()}, []
    change = second["correct"].astype(int).to_numpy() - first["correct"].astype(int).to_numpy()
    groups = list(rows)
    for _ in range(2000):
        chosen = np.concatenate([rows[groups[i]] for i in rng.integers(0, len(groups), len(groups))])
        drawn.append(change[chosen].mean())
    assert [got.low, got.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.008)


def test_runs_that_cannot_be_compared_say_why() -> None:
    frame = faces(60)
    with pytest.raises(BadInput, match="One run"):
        compare({"a": frame})
    with pytest.raises(FerError, match="No common images"):
        compare({"a": frame, "b": frame.assign(label="happy", sample_id="x")})
    with pytest.raises(BadInput, match=r"Runs of different schemes.*a tells angry"):
        compare({"a": frame, "b": faces(60, classes=CLASSES[:3])})
    with pytest.raises(FerError, match="trained on"):
        compare({"a": frame, "b": frame.assign(out_of_fold=False)})


def test_one_group_of_copies_says_little_of_macro_f1() -> None:
    first = with_p(scored(np.arange(6) < 2)).assign(predicted=["happy"] * 2 + ["sad"] * 4, label=["happy"] * 3 + ["sad"] * 3, duplicate_group="g")
    first = first.assign(correct=first["predicted"] == first["label"])
    second = first.assign(predicted="happy", correct=first["label"] == "happy")
    got = bootstrap([first, second], TWO)[0]
    f1 = got["macro_f1"]
    assert got["accuracy"].low is not None and f1.low < f1.value < f1.high and f1.high - f1.low > 1


def test_the_corrected_t_by_hand_and_its_notes() -> None:
    by_fold = np.array([0.02, 0.01, 0.03, 0.00, 0.02])
    got, p = t_of(by_fold, 500)
    error = by_fold.std(ddof=1) * np.sqrt(1 / 5 + 1 / (0.9 * 4))  # a tenth of the other folds only stops the training
    assert got.value == pytest.approx(0.016) and got.high - got.value == pytest.approx(2.776445 * error, rel=1e-5)
    s = (got.value / error) ** 2 / 4  # Student's t with 4 degrees of freedom has a closed form
    assert p == pytest.approx(1 - 2 * (s / (1 + s)) ** 0.5 * 0.75 * (1 - s / (1 + s) / 3))
    frame = faces(100)
    assert corrected_t(frame.assign(fold=0), frame)[0].note == "not two k-fold runs"
    assert corrected_t(frame, frame.assign(fold=frame["fold"].to_numpy()[::-1]))[0].note == "the folds are not the same"
    assert corrected_t(frame, frame)[0].note == "the same difference in every fold"


def test_tests_and_intervals_keep_their_level_when_nothing_differs() -> None:
    """Two runs of one skill: rejected 3-7 %, the truth covered 93-97 %, with copies of faces and without."""
    rng, n, draws = np.random.default_rng(6), 400, 1500
    both = rng.random((draws, n)) < 0.5
    a, b = both | (rng.random((draws, n)) < 0.3), both | (rng.random((draws, n)) < 0.3)
    single = [mcnemar(x, y, np.arange(n)) for x, y in zip(a, b, strict=True)]
    group = np.repeat(np.arange(n), np.tile([1, 2, 3, 1], n // 4))
    copied = [mcnemar(x[group], y[group], group) for x, y in zip(a, b, strict=True)]
    for p in (single, copied):
        assert 0.03 <= np.mean(np.array(p) < 0.05) <= 0.07
    # Folds that share training faces: normal differences with correlation n_held_out / (n_held_out + n_training) (Nadeau & Bengio 2003).
    k, r = 10, 1 / (1 + 0.9 * 9)
    shared, own = rng.standard_normal((draws, 1)), rng.standard_normal((draws, k))
    folds = 0.01 * (np.sqrt(r) * shared + np.sqrt(1 - r) * own)
    found = [t_of(x, 1000) for x in folds]
    assert 0.03 <= np.mean([p < 0.05 for _, p in found]) <= 0.07
    assert 0.93 <= np.mean([e.low <= 0 <= e.high for e, _ in found]) <= 0.97
    assert np.mean([abs(x.mean()) / (x.std(ddof=1) / np.sqrt(k)) > 2.262 for x in folds]) > 0.1  # the plain t-test is too sure
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06]) and holm([]) == []


def test_the_paired_bootstrap_covers_a_difference_of_macro_f1() -> None:
    truth, found = None, []
    cells = np.random.default_rng(8).dirichlet(np.ones(12))  # of (label, first, second) over two labels, two and three answers
    names = [(t, a, b) for t in TWO for a in TWO for b in ("happy", "sad", "sad")]
    for seed, n in [(0, 300_000), *((s, 300) for s in range(1, 201))]:
        rows = pd.DataFrame(np.array(names)[np.random.default_rng(seed).choice(12, n, p=cells)], columns=["label", "a", "b"])
        frames = [rows.assign(predicted=rows[c], duplicate_group=np.arange(n))[["label", "predicted", "duplicate_group"]] for c in "ab"]
        counts, drawn = resample(pd.concat(frames), TWO, np.arange(2 * n) // n == np.array([[0], [1]]), 2 if seed == 0 else 400)
        value = np.diff(scores(counts)["macro_f1"])[0]
        if truth is None:
            truth = value
        else:
            found.append(bootstrapped(value, np.diff(scores(drawn)["macro_f1"], axis=1)[:, 0], n))
    assert 0.91 <= np.mean([e.low <= truth <= e.high for e in found]) <= 0.985


def test_two_label_versions_and_two_models_by_hand() -> None:
    """Ten faces; the second version relabels four, of which three as both models say."""
    ids, old = [f"s{i:05d}" for i in range(10)], ["happy"] * 10
    new = ["happy"] * 6 + ["sad"] * 4
    first = with_p(scored(np.arange(10) < 7)).assign(predicted=["happy"] * 7 + ["sad"] * 3)
    second = first.assign(predicted=["happy"] * 5 + ["sad"] * 5, label=new)
    labels = [pd.Series(told, index=ids) for told in (old, new)]
    got = label_effect(first, second, labels)
    assert (got.n, got.relabelled) == (10, 4)
    assert {key: e.value for key, e in got.cells.items()} == {(0, 0): 0.7, (0, 1): 0.9, (1, 0): 0.5, (1, 1): 0.9}
    assert [e.value for e in got.by_labels] == pytest.approx([0.2, 0.4]) and [e.value for e in got.by_model] == pytest.approx([-0.2, 0.0])
    part = label_effect(first.iloc[2:], second, [labels[0], labels[1].iloc[:8]])
    assert part.n == 6
    with pytest.raises(FerError, match="No common images"):
        label_effect(first, second, [labels[0].iloc[:0], labels[1]])
    with pytest.raises(BadInput, match="angry is none of happy, sad"):
        label_effect(first, second, [labels[0].replace("happy", "angry"), labels[1]])


# ---- ceiling ----------------------------------------------------------------------------------------------------------------------


def test_the_ceiling_by_hand() -> None:
    votes = np.array([[10, 0, 0], [5, 5, 0], [6, 3, 1], [1, 0, 0]])
    oracle, rater, following, labels = of_votes(votes, np.array([0, 1, 1, 0]), np.arange(4))
    assert oracle.value == pytest.approx((1 + 0.5 + 0 + 1) / 4) and rater.value == pytest.approx((1 + 0.5 + 0.6 + 1) / 4)
    # Without a vote of its own: the tie turns against it each time; 6 of 3, 1 stays first; three of four faces have two votes or more.
    assert following.n == 3 and following.value == pytest.approx((1 + 0 + 0.6) / 3)
    assert labels.value == pytest.approx((1 + 0.5 + 0.3 + 1) / 4) and labels.low <= labels.value <= labels.high


def test_the_ceiling_of_few_faces_stays_a_share() -> None:
    votes = np.tile([10, 0], (12, 1))
    for got in of_votes(votes, np.r_[np.zeros(11, int), 1], np.arange(12)):
        assert got.value - got.low > 0.1 and got.high <= 1  # and agreement of all few says little
    assert of_votes(votes, np.zeros(12, int), np.repeat(np.arange(3), 4))[0].low == pytest.approx(wilson(1, 3)[0])


def test_the_ceiling_brackets_the_best_possible_answer() -> None:
    rng = np.random.default_rng(0)
    chances = rng.dirichlet([0.6] * 5, 4000)
    votes = np.array([rng.multinomial(10, p) for p in chances])
    _, rater, following, _ = of_votes(votes, np.zeros(4000, int), np.arange(4000))
    assert following.value < chances.max(axis=1).mean() < rater.value


@given(st.integers(2, 400), st.integers(0, 1000))
@settings(max_examples=20)
def test_the_interval_of_a_mean_is_normal(n: int, seed: int) -> None:
    values = np.random.default_rng(seed).random(n)
    got = average(values, np.arange(n))
    assert (got.value, got.high) == pytest.approx((values.mean(), values.mean() + 1.959964 * values.std() / n**0.5))


# ---- published --------------------------------------------------------------------------------------------------------------------


def test_published_tables_that_contradict_themselves_are_marked() -> None:
    wrong = {name: inconsistencies(name) for name in TABLES}
    assert {name for name, found in wrong.items() if found} == {"s0_kfold_before", "s0_kfold_after", "s1_bias_after", "s3_models"}
    assert "Average: macro f1 is printed as 76.9, the mean of its rows is 76.66" in wrong["s0_kfold_after"]
    assert "1: accuracy 70.84 is no whole number of 315 or 316 faces" in wrong["s0_kfold_before"]
    assert any("micro precision" in text for text in wrong["s0_kfold_after"])
    assert wrong["s1_bias_after"] == ["male: macro F1 is above the harmonic mean of macro precision and recall, which it cannot be"]
    assert any("Variant 2: macro f1 is printed as 82.79, its classes give 79.88" in text for text in wrong["s3_models"])
    assert any("harmonic mean" in text for text in wrong["s3_models"])


@given(st.integers(2, 7), st.integers(0, 10**6))
@settings(max_examples=60)
def test_macro_f1_is_never_above_the_harmonic_mean_of_macro_precision_and_recall(k: int, seed: int) -> None:
    counts = np.random.default_rng(seed).integers(0, 30, (k, k)) + np.eye(k, dtype=int)
    got = scores(counts)
    p, r = got["macro_precision"], got["macro_recall"]
    assert got["macro_f1"] <= 2 * p * r / (p + r) + 1e-12


def test_the_benchmark_has_intervals_where_n_is_known() -> None:
    table = benchmark().set_index("network")
    assert len(table) == 10 and table["n"].notna().sum() == 3
    low, high = wilson(0.605, 7177)
    assert (table.loc["10-layer CNN", "low"], table.loc["10-layer CNN", "high"]) == pytest.approx((100 * low, 100 * high))
    assert table.loc["GoogLeNet", "low"] is pd.NA


def test_published_folds_stand_beside_ours() -> None:
    frame = faces(400)
    ours = kfold_table(frame, CLASSES)
    table = beside_published(ours).set_index("table")
    assert table.loc["this run", "accuracy"] == pytest.approx(frame.groupby("fold")["correct"].mean().mean()) and table["folds"].tolist() == [5, 10, 10, 10]
    s1 = published("s1_kfold_macro").iloc[:-1]
    assert table["accuracy"].iloc[-1] == pytest.approx(s1["accuracy"].mean()) and table["macro_f1"].iloc[-1] == pytest.approx(s1["f1"].mean())
    assert table["sd"].iloc[1] == pytest.approx(published("s0_kfold_before")["accuracy"].iloc[:-1].std() / 100)


# ---- runs on real files -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
    """Two hold-out runs of a study (seeds), one with another setting, two 2-fold runs, on a small version; and other versions of the same faces."""
    workspace = make_version(tmp_path_factory.mktemp("ws"))
    make_version(workspace.root, "others", seed=7)
    for version in workspace.versions.iterdir():  # what version_files leaves out and readers want
        rows = pd.read_parquet(version / "manifest.parquet").assign(age_band=None, gender=None, mean=99.0)
        rows.to_parquet(version / "manifest.parquet", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FERCORE_DEVICES", "0")
        base = {"version_id": "blobs-1", "model": "simple_cnn", "epochs": 2, "batch_size": 32, "device": "cpu", "exploratory": True}
        jobs.start_study(workspace, "grid", [run_config(base | {"seed": s, "flip": f}) for s, f in ((0, False), (1, False), (0, True))], LEAD)
        jobs.start(workspace, run_config(base | {"protocol": "k_fold", "folds": 2}), LEAD)
        for found in jobs.list_runs(workspace):
            assert run(found.path, 0) == "finished"
    copy_version(workspace, "relabelled", lambda m: m.assign(label=m["label"].where(m.index % 9 > 0, "happy")))
    folds = workspace.runs / ids(workspace, folds=2)[0]
    twin = shutil.copytree(folds, folds.with_name(f"{folds.name}-twin"))
    (twin / "config.json").write_text((twin / "config.json").read_text().replace(folds.name, twin.name))
    return workspace


def copy_version(workspace, name: str, change) -> None:
    old, new = workspace.versions / "blobs-1", workspace.versions / name
    shutil.copytree(old, new)
    change(pd.read_parquet(old / "manifest.parquet")).to_parquet(new / "manifest.parquet", index=False)
    (new / "version.json").write_text(json.dumps(json.loads((old / "version.json").read_text()) | {"version_id": name, "manifest_sha256": SHA[:-1] + "6"}))


def ids(workspace, **wanted: object) -> list[str]:
    return [r.run_id for r in jobs.list_runs(workspace)[::-1] if all(getattr(r.config, k) == v for k, v in wanted.items())]


def test_a_run_is_scored_on_new_faces_and_on_what_it_has_not_seen_of_old_ones(trained) -> None:
    run_id = ids(trained, study="grid")[0]
    own = predictions(trained, run_id)
    new = score(trained, run_id, "others")
    assert (new.n, new.seen, new.unmapped, new.test_reads) == (210, 0, 0, 1) and set(scored_on(trained, run_id)) >= {"others"}
    assert len(predictions(trained, run_id, "others")) == 210
    again = score(trained, run_id, "relabelled")
    frame = predictions(trained, run_id, "relabelled")
    assert again.n == len(own) == len(frame) and again.seen == 210 - len(own) and set(frame["split"]) == {"test"}
    assert frame["predicted"].tolist() == own["predicted"].tolist() and (frame["label"] != own["label"]).any()
    np.testing.assert_allclose(frame[[f"p_{c}" for c in CLASSES]], own[[f"p_{c}" for c in CLASSES]], atol=1e-5)
    assert score(trained, run_id, "relabelled") == again and [s.run_id for s in scorings(trained, "relabelled")] == [run_id]  # not read twice
    assert json.dumps(to_json(summary(frame, CLASSES)), allow_nan=False)
    effect = label_effect(own, predictions(trained, ids(trained, study="grid")[1]), [labels_of(trained, v) for v in ("blobs-1", "relabelled")])
    assert effect.cells[0, 1].value == accuracy(frame).value and effect.relabelled == (frame["label"] != own["label"]).sum()


def test_a_k_fold_run_answers_with_the_mean_of_its_folds(trained) -> None:
    run_id = ids(trained, folds=2)[0]
    found = score(trained, run_id, "others")
    assert found.n == 210 and predictions(trained, run_id, "others")["out_of_fold"].all()
    assert score(trained, run_id, "relabelled").seen == (pd.read_parquet(trained.versions / "blobs-1/manifest.parquet")["split"].isin(["train", "val"])).sum()


def test_scoring_refuses_what_has_no_meaning(trained) -> None:
    run_id = ids(trained, study="grid")[1]
    with pytest.raises(Conflict, match="own version"):
        score(trained, run_id, "blobs-1")
    with pytest.raises(NotFound, match="nowhere"):
        score(trained, run_id, "nowhere")
    with pytest.raises(NotFound, match="Score it: fercore evaluate"):
        predictions(trained, run_id, "others")
    four = ["angry", "engaged", "happy", "neutral"]
    copy_version(trained, "four", lambda m: m.assign(label=m["label"].where(m["label"].isin(four) | m["label"].isna(), "engaged")))
    about = trained.versions / "four/version.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"classes": four}))
    with pytest.raises(BadInput, match="Another scheme.*engaged"):
        score(trained, run_id, "four")
    with pytest.raises(BadInput, match="has no disgust, fear"):
        score(trained, run_id, "four", {"sad": "engaged"})
    with pytest.raises(BadInput, match="'bored' is no class"):
        score(trained, run_id, "four", {"sad": "bored"})
    told = dict.fromkeys(("disgust", "fear", "sad", "surprise"), "neutral")
    found = score(trained, run_id, "four", told)
    frame = predictions(trained, run_id, "four")
    assert found.unmapped == 120 and set(frame["predicted"]) <= set(four) and "engaged" not in set(frame["label"])
    own = predictions(trained, run_id).set_index("sample_id").loc[frame["sample_id"]]
    np.testing.assert_allclose(frame["p_neutral"], own[["p_neutral", *(f"p_{c}" for c in told)]].sum(axis=1), atol=1e-5)
    about.write_text(about.read_text().replace(SHA[:-1] + "6", SHA[:-1] + "7"))
    with pytest.raises(Conflict, match="Version changed"):
        predictions(trained, run_id, "four")


def test_a_study_says_which_differences_are_noise(trained) -> None:
    found = study(trained, "grid")
    got = noise(trained, found)
    frames = [predictions(trained, i) for i in ids(trained, study="grid")]
    assert (got.runs, got.pairs, got.n, got.seed_df) == (3, 2, len(frames[0]), 1)
    hits = [f["correct"].to_numpy() for f in frames]
    raw = [mcnemar(hits[0], hits[2], np.arange(got.n)), mcnemar(hits[1], hits[2], np.arange(got.n))]
    if frames[0]["duplicate_group"].is_unique:
        assert got.least_p == pytest.approx(min(holm(raw)))
    assert got.seed_sd == pytest.approx(np.std([h.mean() for h in hits[:2]], ddof=1))
    p = np.mean([h.mean() for h in hits])
    effect = np.mean([design_effect(h, codes(f["duplicate_group"])) for h, f in zip(hits, frames, strict=True)])
    assert got.binomial_sd == pytest.approx((p * (1 - p) * effect / got.n) ** 0.5)
    assert found.rows["marks"].eq("exploratory: the version was not approved").all() and got == noise(trained, study(trained, "grid"))
    seeds = found.cells.loc[found.cells["n"] == 2, "accuracy"].iloc[0]
    assert seeds.value == pytest.approx(np.mean([h.mean() for h in hits[:2]])) and (seeds.low, seeds.high) == pytest.approx(
        wilson(seeds.value, found.rows["effective"].iloc[:2].min()))
    assert ("within noise" in got.sentence()) and len(got.different) == sum(x < 0.05 for x in holm(raw))


def test_runs_with_the_same_folds_have_a_corrected_t(trained) -> None:
    a, b = ids(trained, folds=2)
    found = compare({i: predictions(trained, i) for i in (a, b)})
    assert found.pairs[0].p_value == 1 and found.pairs[0].corrected_t.note == "the same difference in every fold"
    with pytest.raises(FerError, match="No common images"):
        compare({i: predictions(trained, i) for i in (a, ids(trained, study="grid")[0])})


def test_the_ceiling_is_read_from_the_votes_of_a_version(trained) -> None:
    rows = pd.read_parquet(trained.versions / "blobs-1/manifest.parquet")
    test = rows.loc[rows["split"] == "test", "sample_id"]
    assert ceiling(trained, "blobs-1", test) is None  # it has no votes
    told = [None if pd.isna(c) else ",".join(str(7 if name == c else int(name == "sad")) for name in CLASSES) for c in rows["label"]]
    told[int(np.flatnonzero((rows["split"] == "test") & (rows["label"] == "happy"))[0])] = ",".join("0" * 7)
    copy_version(trained, "voted", lambda m: m.assign(votes=told))
    got = ceiling(trained, "voted", test)
    n = int((rows["split"] == "test").sum())
    sad = int(((rows["split"] == "test") & (rows["label"] == "sad")).sum())
    assert (got.n, got.without_votes, got.oracle.value) == (n - 1, 1, 1.0)
    assert got.against_rater.value == pytest.approx((sad + 7 / 8 * (n - 1 - sad)) / (n - 1)) and got.rater == got.against_rater
    copy_version(trained, "odd", lambda m: m.assign(votes="1,2"))
    with pytest.raises(BadInput, match="not one count"):
        ceiling(trained, "odd", test)
    assert read_config(trained.runs / ids(trained, study="grid")[0]).version_id == "blobs-1"
