"""Saliency against a linear model worked by hand, against completeness, and on real runs of every protocol."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import LEAD

from fercore import jobs
from fercore.domain import Workspace
from fercore.errors import BadInput, Conflict, FerError, NotFound
from fercore.evaluation import predictions, saliency
from tests.core.test_training import K_FOLD, train
from tests.core.version_files import make_version


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = make_version(tmp_path_factory.mktemp("saliency"))
    train(made, "held", epochs=2)
    train(made, "folded", **K_FOLD | {"epochs": 1})
    return made


def linear(weights: np.ndarray):
    """A network whose second "probability" is the sum of pixel x weight, float [n, 48, 48] -> [n, 2]."""
    w = torch.from_numpy(weights).float()

    def network(faces: torch.Tensor) -> torch.Tensor:
        second = (faces * w).sum((1, 2)) / 255
        return torch.stack([1 - second, second], 1)

    return network


def test_of_a_linear_model_both_maps_are_pixel_times_weight() -> None:
    rng = np.random.default_rng(0)
    weights, face = rng.normal(size=(48, 48)).astype(np.float32), rng.integers(0, 256, (48, 48), dtype=np.uint8)
    by_hand = weights * face / 255
    value, occluded, gradients, black = saliency.maps(linear(weights), face, 1, patch=1, steps=8)
    assert (value, black) == pytest.approx((by_hand.sum(), 0), abs=1e-3)
    np.testing.assert_allclose(occluded, by_hand, atol=2e-4)  # float32 differences of a sum over 2,304 pixels
    np.testing.assert_allclose(gradients, by_hand, atol=1e-5)
    np.testing.assert_allclose(saliency.maps(linear(weights), face, 0, patch=1, steps=8)[2], -by_hand, atol=1e-5)


@pytest.mark.parametrize("patch", [4, 5, 48])
def test_a_patch_has_the_sum_of_its_pixels_at_each_of_them(patch: int) -> None:
    rng = np.random.default_rng(1)
    weights, face = rng.normal(size=(48, 48)).astype(np.float32), rng.integers(0, 256, (48, 48), dtype=np.uint8)
    occluded = saliency.maps(linear(weights), face, 1, patch=patch, steps=2)[1]
    part = (weights * face / 255)[patch * (47 // patch):, :patch]  # the last row of patches, cut where 48 is no multiple
    np.testing.assert_allclose(occluded[-1, 0], part.sum(), atol=1e-3)
    assert np.unique(occluded.round(5)).size <= (-(-48 // patch)) ** 2


@pytest.mark.parametrize("run", ["held", "folded"])
def test_integrated_gradients_add_up_and_each_face_is_explained_by_a_model_that_has_not_seen_it(workspace: Workspace, run: str) -> None:
    frame = predictions(workspace, run).groupby("fold").head(2)
    found = saliency.of_faces(workspace, run, frame["sample_id"].tolist(), steps=128)
    np.testing.assert_allclose(found.probability, frame["confidence"], atol=1e-5)  # what the fold's own model said out of fold
    np.testing.assert_allclose(found.gradients.sum((1, 2)), found.probability - found.black, atol=0.01)
    assert found.target == tuple(frame["predicted"]) and found.labels == tuple(frame["label"])


def test_a_model_that_looks_at_a_bar_is_shown_to_look_there(workspace: Workspace) -> None:
    """Faces of class k have a bright bar at rows 6 k + 2 to 6 k + 8."""
    found = saliency.of_class(workspace, "held", "happy")
    rows = found.mean()[1].sum(axis=1)
    assert set(found.labels) == {"happy"} and len(found.sample_ids) > 2
    assert rows[20:26].sum() > 3 * abs(np.delete(rows, np.s_[18:28])).max()


def test_of_an_ensemble_the_mean_is_explained(workspace: Workspace) -> None:
    train(workspace, "other", seed=1, epochs=1)
    both = jobs.ensemble(workspace, ["held", "other"], LEAD)
    one = predictions(workspace, both)["sample_id"].head(1).tolist()
    maps = [saliency.of_faces(workspace, run, one, target="sad").gradients for run in ("held", "other", both)]
    np.testing.assert_allclose(maps[2], (maps[0] + maps[1]) / 2, atol=1e-6)


def test_an_lstm_is_explained_too(workspace: Workspace) -> None:
    train(workspace, "lstm", model="cnn_lstm", epochs=1)
    found = saliency.of_faces(workspace, "lstm", predictions(workspace, "lstm")["sample_id"].head(1).tolist(), steps=8)
    assert np.isfinite(found.gradients).all() and found.gradients.any()


def test_what_cannot_be_explained_is_refused(workspace: Workspace) -> None:
    known = predictions(workspace, "held")["sample_id"].head(1).tolist()
    seen = next(i for i in predictions(workspace, "folded")["sample_id"] if i not in set(predictions(workspace, "held")["sample_id"]))
    with pytest.raises(NotFound, match="did not predict"):
        saliency.of_faces(workspace, "held", [seen])
    for wrong in ({"sample_ids": []}, {"sample_ids": known, "target": "contempt"}, {"sample_ids": known, "patch": 0}):
        with pytest.raises(BadInput, match="Nothing to explain"):
            saliency.of_faces(workspace, "held", **wrong)
    with pytest.raises(BadInput, match="Unknown class"):
        saliency.of_class(workspace, "held", "contempt")
    with pytest.raises(FerError):
        saliency.of_faces(workspace, "none", known)


def test_maps_are_saved_whole_and_nothing_is_overwritten(workspace: Workspace, tmp_path: Path) -> None:
    found = saliency.of_class(workspace, "held", "sad", most=2, steps=4)
    found.save(tmp_path / "maps.npz")
    with np.load(tmp_path / "maps.npz") as read:
        np.testing.assert_array_equal(read["gradients"], found.gradients)
        assert read["sample_ids"].tolist() == list(found.sample_ids) and read["patch"] == 4
    with pytest.raises(Conflict):
        found.save(tmp_path / "maps.npz")
    with pytest.raises(BadInput, match="npz"):
        found.save(tmp_path / "maps.png")
