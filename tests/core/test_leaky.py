import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fercore.errors import BadInput, TrainingError
from fercore.schemes import FER7
from fercore.training.data import VersionData
from fercore.training.leaky import LeakyFold, Share, leak_report, leaky_split

FER2013 = {"angry": 4953, "disgust": 547, "fear": 5121, "happy": 8989, "sad": 6077, "surprise": 4002, "neutral": 6198}


def version(sizes: list[int]) -> VersionData:
    """Distinct 2 x 2 pictures that count upwards."""
    y = np.repeat(np.arange(len(sizes)), sizes)
    pixels = np.arange(len(y), dtype=np.uint32).view(np.uint8).reshape(-1, 2, 2)
    samples = pd.DataFrame({"sample_id": [f"s{i:05}" for i in range(len(y))], "label": [FER7.ids[i] for i in y],
                            "split": ["train", "val", "test"] * (len(y) // 3) + ["train"] * (len(y) % 3),
                            "duplicate_group": [f"g{i}" for i in range(len(y))]})
    return VersionData("v-1", FER7.ids[:len(sizes)], samples, pixels, y)


@pytest.fixture(scope="module")
def fer2013() -> LeakyFold:
    return leaky_split(version([FER2013[name] for name in FER7.ids]), "ros", 0)


def test_over_sampling_fer2013_before_the_split_copies_58_percent_of_the_test_rows(fer2013: LeakyFold) -> None:
    assert [len(rows) for rows in (fer2013.fit, fer2013.stop, fer2013.held_out)] == pytest.approx([50338, 6292, 6293], abs=1)
    right = fer2013.y[fer2013.held_out]
    report = leak_report(fer2013, right, Share(6576, 10000))
    assert 100 * report.share_copied.value == pytest.approx(58, abs=2)
    expected = {"disgust": 100, "surprise": 80, "angry": 67, "fear": 64, "sad": 49, "neutral": 47, "happy": 0}
    assert {name: 100 * share.value for name, share in report.share_copied_by_class.items()} == pytest.approx(expected, abs=3)
    assert report.share_copied_by_class["happy"] == Share(0, 899)
    assert report.predicted == pytest.approx(0.857, abs=0.007)  # S4 published 85.97, S2's clean 63.6 and its 82.7 fit too
    assert (report.accuracy, report.clean_from) == (Share(6293, 6293), "clean run")


def test_all_splits_are_balanced_together_and_a_run_without_balancing_has_no_copies() -> None:
    data = version([60, 40, 30])
    fold = leaky_split(data, "none", 0)
    assert sorted(np.r_[fold.fit, fold.stop, fold.held_out]) == list(range(130))
    assert leak_report(fold, fold.y[fold.held_out]).share_copied == Share(0, 13)
    repeated = leaky_split(data, "ros", 0)
    assert np.bincount(data.y[np.r_[repeated.fit, repeated.stop, repeated.held_out]]).tolist() == [60, 60, 60]


@given(sizes=st.lists(st.integers(15, 60), min_size=2, max_size=4), method=st.sampled_from(["none", "ros", "rus", "smote"]),
       seed=st.integers(0, 2**32 - 1))
def test_classes_keep_their_shares_and_one_seed_gives_one_split(sizes: list[int], method: str, seed: int) -> None:
    data = version(sizes)
    fold, again = (leaky_split(data, method, seed, 0.2, 0.2) for _ in range(2))
    whole = np.bincount(fold.y[np.r_[fold.fit, fold.stop, fold.held_out]])
    for part, share in (("fit", 0.6), ("stop", 0.2), ("held_out", 0.2)):
        rows = getattr(fold, part)
        assert np.array_equal(rows, getattr(again, part))
        assert np.abs(np.bincount(fold.y[rows]) - share * whole).max() < 2.01
    assert len(fold.pixels) == len(fold.y) and fold.originals == len(data.y)
    assert np.array_equal(fold.pixels[:fold.originals], data.pixels)
    if method != "ros":
        assert sorted(np.r_[fold.fit, fold.stop, fold.held_out]) == (
            sorted(set(fold.fit) | set(fold.stop) | set(fold.held_out)) if method == "rus" else list(range(len(fold.y))))
    assert (method == "smote" and len(set(sizes)) > 1) == (len(fold.y) > fold.originals)


def small_fold() -> LeakyFold:
    """Six test rows: two copies (0 trained on itself, 4 equals trained 1), a made face, and three fresh ones."""
    pixels = np.arange(9, dtype=np.uint8).reshape(9, 1, 1)
    pixels[4] = pixels[1]
    return LeakyFold("smote", ("a", "b"), 8, pixels, np.array([0, 0, 0, 1, 1, 1, 0, 1, 1]),
                     np.array([0, 0, 1, 2]), np.array([3]), np.array([0, 4, 8, 5, 6, 7]))


def test_the_report_parts_test_rows_into_copied_made_and_fresh() -> None:
    report = leak_report(small_fold(), np.array([0, 1, 0, 1, 1, 1]))  # right: both copies, not the made one, two of three fresh
    assert (report.n_test, report.n_fresh, report.share_copied) == (6, 3, Share(2, 6))
    assert report.share_copied_by_class == {"a": Share(1, 2), "b": Share(1, 4)}
    assert (report.accuracy, report.accuracy_copied, report.accuracy_made, report.accuracy_fresh) == (
        Share(4, 6), Share(2, 2), Share(0, 1), Share(2, 3))
    assert (report.clean, report.clean_from) == (Share(2, 3), "fresh rows")
    assert report.predicted == pytest.approx(2 / 6 + 4 / 6 * 2 / 3)
    assert json.loads(json.dumps(asdict(report)))["accuracy_fresh"] == {"k": 2, "n": 3}


def test_a_made_face_that_equals_a_trained_one_counts_as_copied_only() -> None:
    fold = small_fold()
    fold.pixels[8] = fold.pixels[2]
    report = leak_report(fold, np.zeros(6, np.int64))
    assert (report.share_copied, report.accuracy_made.n, report.n_fresh) == (Share(3, 6), 0, 3)


def test_a_clean_run_gives_the_accuracy_of_the_rest() -> None:
    report = leak_report(small_fold(), np.array([0, 1, 0, 1, 1, 1]), Share(1, 4))
    assert (report.clean, report.clean_from) == (Share(1, 4), "clean run")
    assert report.predicted == pytest.approx(2 / 6 + 4 / 6 / 4)


def test_without_fresh_rows_and_clean_run_nothing_is_predicted() -> None:
    fold = small_fold()
    copies = LeakyFold(fold.method, fold.classes, fold.originals, fold.pixels, fold.y, fold.fit, fold.stop, fold.held_out[:2])
    report = leak_report(copies, np.array([0, 0]))
    assert (report.predicted, report.accuracy_fresh.value, report.accuracy) == (None, None, Share(1, 2))


@pytest.mark.parametrize("method", ["class_weights", "weighted_sampler"])
def test_methods_that_change_no_row_are_refused(method: str) -> None:
    with pytest.raises(BadInput, match=f"{method} only weighs rows"):
        leaky_split(version([9, 9]), method, 0)


def test_too_few_rows_to_split_are_refused() -> None:
    with pytest.raises(TrainingError, match="Too few rows to split.*v-1 after rus"):
        leaky_split(version([30, 2]), "rus", 0)
