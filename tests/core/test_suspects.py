"""Suspect labels: the joint against cleanlab, planted errors, duplicate groups, and a queue with its realised gain."""


import numpy as np
import pandas as pd
import pytest
from cleanlab.count import compute_confident_joint
from cleanlab.rank import get_label_quality_scores
from helpers import ANNOTATOR, LEAD
from uuid_utils import uuid7

from fercore import audit, curation
from fercore.domain import Workspace
from fercore.errors import BadInput, FerError, NotAllowed, NotFound
from fercore.evaluation import suspects
from fercore.evaluation.record import record_finished
from fercore.store import Store
from tests.core.prediction_frames import CLASSES
from tests.core.test_training import K_FOLD, train
from tests.core.version_files import make_version


def planted(n: int, share: float, seed: int = 0, kappa: float = 3.0) -> tuple[pd.DataFrame, np.ndarray]:
    """(out-of-fold predictions of a middling model for faces of seven classes, which labels are wrong): a share of the labels goes to the next class."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 7, n)
    wrong = rng.random(n) < share
    y = np.where(wrong, (true + 1) % 7, true)
    p = rng.dirichlet(np.ones(7), n) + kappa * rng.random(n)[:, None] * ((1 - share) * np.eye(7)[true] + share * np.eye(7)[(true + 1) % 7])
    p /= p.sum(axis=1, keepdims=True)
    names = np.array(CLASSES)
    frame = pd.DataFrame({"sample_id": [f"s{i:05}" for i in range(n)], "image_id": [f"i{i:05}" for i in range(n)], "label": names[y],
                          "duplicate_group": [f"g{i:05}" for i in range(n)], "predicted": names[p.argmax(axis=1)], "fold": np.arange(n) % 5,
                          "out_of_fold": True, **{f"p_{c}": p[:, i].astype(np.float32) for i, c in enumerate(CLASSES)}})
    return frame, wrong


def test_the_confident_joint_is_cleanlabs() -> None:
    frame, _ = planted(3000, 0.2)
    p, y = frame[[f"p_{c}" for c in CLASSES]].to_numpy(float), pd.Index(CLASSES).get_indexer(frame["label"])
    p = p / p.sum(axis=1, keepdims=True)
    joint = compute_confident_joint(y, p, calibrate=False).astype(float)
    joint *= (np.bincount(y) / joint.sum(axis=1))[:, None]
    expected = joint.T / joint.T.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(suspects.noise(y, p), expected, atol=1e-12)
    assert np.diag(np.roll(expected, -1, axis=1)).mean() > 0.1  # true class c is given as c + 1


def test_a_label_is_judged_by_bayes_rule() -> None:
    """Two classes; 8 of 10 faces of each look like it to the model (0.9), and one of each is labelled as the other: by hand."""
    frame = pd.DataFrame({"sample_id": list("abcdefghij"), "image_id": list("abcdefghij"), "duplicate_group": list("abcdefghij"), "out_of_fold": True,
                          "label": ["happy"] * 4 + ["sad"] + ["sad"] * 4 + ["happy"], "p_happy": [0.9] * 5 + [0.1] * 5, "p_sad": [0.1] * 5 + [0.9] * 5})
    ranked = suspects.ranked(frame).set_index("sample_id")
    assert set(ranked.index[:2]) == {"e", "j"}  # of each true class, 4 of 5 are labelled as it, so that 0.2 and 0.8 are what a label says
    assert ranked.at["e", "p_label"] == pytest.approx(0.1 * 0.8 / (0.1 * 0.8 + 0.9 * 0.2)) and ranked.at["e", "suggested"] == "happy"
    assert ranked.at["a", "p_label"] == pytest.approx(0.9 * 0.8 / (0.9 * 0.8 + 0.1 * 0.2))
    own, other = 0.1 * 0.8**0.5, 0.9 * 0.2**0.5  # in the score, what a label says counts half
    assert ranked.at["e", "score"] == pytest.approx((other - own) / (other + own))


def test_planted_errors_come_first_more_of_them_than_by_cleanlabs_margin_and_their_share_is_foretold() -> None:
    hits = np.zeros((8, 2))
    expected = []
    for seed in range(8):
        frame, wrong = planted(4000, 0.2, seed)
        p, y = frame[[f"p_{c}" for c in CLASSES]].to_numpy(float), pd.Index(CLASSES).get_indexer(frame["label"])
        theirs = np.argsort(get_label_quality_scores(y, p / p.sum(axis=1, keepdims=True), method="normalized_margin"))[:200]
        ours = suspects.ranked(frame)
        first = pd.Index(frame["sample_id"]).get_indexer(ours["sample_id"].head(200))
        hits[seed] = wrong[first].mean(), wrong[theirs].mean()
        expected.append(1 - float(ours["p_label"].mean()))
    assert hits[:, 0].mean() > hits[:, 1].mean() > 0.2
    assert np.mean(expected) == pytest.approx(0.2, abs=0.1)


def test_a_group_counts_once_by_its_mean_and_the_odd_label_out_is_the_suspect() -> None:
    frame, _ = planted(2000, 0.1)
    p = [f"p_{c}" for c in CLASSES]
    group = frame.index[:3]
    frame.loc[group, "duplicate_group"], frame.loc[group, "image_id"] = "same", "same"
    frame.loc[group, p] = np.float32(0.5) * np.eye(7, dtype=np.float32)[[0, 1, 0]] + np.float32(0.5 / 7)
    frame.loc[group, "label"] = ["angry", "disgust", "angry"]
    ranked = suspects.ranked(frame)
    row = ranked[ranked["duplicate_group"] == "same"]
    assert len(row) == 1 and len(ranked) == 1998 and ranked["duplicate_group"].is_unique
    assert (row["label"].iloc[0], row["suggested"].iloc[0], row["copies"].iloc[0]) == ("disgust", "angry", 3)
    alone = frame.drop(index=[0, 2]).assign(duplicate_group=lambda d: d["sample_id"])
    alone.loc[1, p] = frame.loc[group, p].mean().to_numpy()  # without the copies' labels there is less against it
    lonely = suspects.ranked(alone).set_index("sample_id").loc["s00001"]
    assert lonely["score"] < row["score"].iloc[0]


def test_predictions_on_trained_faces_rank_nothing() -> None:
    frame, _ = planted(50, 0.1)
    with pytest.raises(FerError, match="trained"):
        suspects.ranked(frame.assign(out_of_fold=np.arange(50) > 0))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A k-fold run on seven patterns of which ten have another label, as out-of-fold predictions of one epoch."""
    workspace = make_version(tmp_path_factory.mktemp("suspects"), per_class=24, copies=2)
    train(workspace, "folded", **K_FOLD | {"epochs": 2})
    train(workspace, "held", epochs=1)
    return workspace


def test_pixels_are_a_second_opinion_of_models_that_have_not_seen_the_fold() -> None:
    rng = np.random.default_rng(0)
    y, fold = np.arange(210) % 3, np.arange(210) // 3 % 3
    pixels = rng.integers(0, 90, (210, 48, 48), dtype=np.uint8)
    for k in range(3):
        pixels[y == k, 12 * k + 2:12 * k + 10] += 120
    p = suspects.of_pixels(pixels, y, fold, 3)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert (p.argmax(axis=1) == y).mean() > 0.95
    flipped = y.copy()
    flipped[fold == 0] = (y[fold == 0] + 1) % 3
    again = suspects.of_pixels(pixels, flipped, fold, 3)[fold == 0]
    assert (again.argmax(axis=1) == y[fold == 0]).mean() > 0.9  # its own labels teach a fold nothing


def test_a_ranking_is_kept_and_found_again(trained: Workspace) -> None:
    found = suspects.rank(trained, "folded")
    assert len(found) and found["score"].is_monotonic_decreasing and found["duplicate_group"].is_unique
    pd.testing.assert_frame_equal(suspects.rank(trained, "folded"), found, check_dtype=False)
    assert suspects.known(trained, "held") is None


def test_a_kept_ranking_is_of_these_predictions_and_this_version_or_none(trained: Workspace) -> None:
    found, kept = suspects.rank(trained, "folded"), suspects.path_of(trained, "folded")
    for path in suspects.stands_on(trained, "folded"):
        before = path.read_bytes()
        pd.read_parquet(path).iloc[::-1].to_parquet(path)  # the same rows in another order: another file
        assert suspects.known(trained, "folded") is None
        path.write_bytes(before)
        assert suspects.known(trained, "folded") is not None
    found.head(3).to_parquet(kept, index=False)  # nobody knows of what
    assert suspects.known(trained, "folded") is None and len(suspects.rank(trained, "folded")) == len(found)
    kept.write_bytes(b"torn")
    for read in (suspects.known, suspects.rank):
        with pytest.raises(BadInput, match="ranking cannot be read") as raised:
            read(trained, "folded")
        assert "Delete this file" in raised.value.remedy
    kept.unlink()


def test_runs_without_out_of_fold_predictions_are_refused(trained: Workspace) -> None:
    with pytest.raises(BadInput, match="No out-of-fold"):
        suspects.rank(trained, "held")
    run = trained.runs / "folded"
    made = pd.read_parquet(run / "predictions.parquet")
    made[made["fold"] > 0].to_parquet(run / "predictions.parquet")
    with pytest.raises(BadInput, match="no prediction"):  # whatever ranking is kept
        suspects.rank(trained, "folded")
    made.iloc[:0].to_parquet(run / "predictions.parquet")
    with pytest.raises(BadInput, match="Folds are missing"):
        suspects.rank(trained, "folded")
    made.to_parquet(run / "predictions.parquet")
    with pytest.raises(NotFound):
        suspects.rank(trained, "none")


def test_a_chosen_number_goes_to_people_and_what_they_decide_is_set_beside_what_was_expected(store: Store) -> None:
    """Ten faces sent; people decide on four: two as labelled, one otherwise, and one cannot tell."""
    workspace = make_version(store.workspace.root, per_class=12, copies=0)
    known(store, workspace)
    train(workspace, "folded", **K_FOLD | {"epochs": 1})
    record_finished(store)
    with pytest.raises(NotFound, match="Not ranked"):
        suspects.send(store, LEAD, "folded", 10)
    ranked = suspects.rank(workspace, "folded")
    with pytest.raises(NotAllowed):
        suspects.send(store, ANNOTATOR, "folded", 10)
    with pytest.raises(BadInput, match="Not a number"):
        suspects.send(store, LEAD, "folded", len(ranked) + 1)
    early = ranked["image_id"].iloc[9]  # answered before anybody sent it
    assert curation.record(store, ANNOTATOR, [{"event_id": str(uuid7()), "op": "set", "image_id": early, "field": "expression", "value": "neutral",
                                               "gesture": str(uuid7())}]).acked
    campaign = suspects.send(store, LEAD, "folded", 10)
    by_hand = {"name": "by hand", "ask": made_of(store, campaign).ask, "images": tuple(ranked["image_id"].tail(3)), "run_id": "folded"}
    curation.campaigns.save(store, LEAD, by_hand)
    made = curation.campaigns.find(store, campaign)[0]
    assert set(made.images) == set(ranked["image_id"].head(10)) and made.run_id == "folded" and made.votes == 3 and "suspect" not in made.name.lower()
    assert store.value("SELECT count(DISTINCT image_id) FROM findings WHERE kind = 'suspect'") == 10
    audit.run(store, LEAD)
    assert store.value("SELECT count(DISTINCT image_id) FROM findings WHERE kind = 'suspect'") == 10  # an audit leaves them
    before, = suspects.gains(store, LEAD)
    assert (before.sent, before.realised.value, before.predicted_decided) == (10, None, None)
    first = ranked.head(10)
    for row, value in zip(first.head(4).itertuples(), ("same", "same", "other", "cannot_tell"), strict=True):
        value = {"same": row.label, "other": row.suggested}.get(value, value)
        assert curation.record(store, ANNOTATOR, [{"event_id": str(uuid7()), "op": "set", "image_id": row.image_id, "field": "expression",
                                                   "value": value, "gesture": str(uuid7())}]).acked
    found = suspects.gains(store, LEAD)[0]
    assert found.campaign_id == campaign and found.predicted == pytest.approx(1 - first["p_label"].mean())
    assert found.predicted_decided == pytest.approx(1 - first["p_label"].head(3).mean())
    assert found.realised.percent().startswith("33.3 % [6.1, 79.2], n = 3")  # Wilson's interval of one in three, by hand
    with pytest.raises(NotAllowed):
        suspects.gains(store, ANNOTATOR)


def made_of(store: Store, campaign: str) -> curation.Campaign:
    return curation.campaigns.find(store, campaign)[0]


def known(store: Store, workspace: Workspace) -> None:
    """The faces of a made version as samples of the store."""
    rows = pd.read_parquet(workspace.versions / "blobs-1" / "manifest.parquet").query("exclusion.isna()")
    pixels = np.load(workspace.versions / "blobs-1" / "pixels.npy")
    with store.write("samples") as w:
        for row, face in zip(rows.itertuples(), pixels, strict=True):
            w.run("INSERT INTO facts.image (image_id, height, width, mode, gray48, mean, sd) VALUES ($i, 48, 48, 'L', $g, $m, 1)",
                  {"i": row.image_id, "g": face.tobytes(), "m": float(face.mean())})
            w.run("INSERT INTO facts.sample (sample_id, source_id, source_row, image_id, given_label, source_split) VALUES ($s, 'blobs', $r, $i, $l, $p)",
                  {"s": row.sample_id, "r": row.source_row, "i": row.image_id, "l": row.label, "p": row.split})
