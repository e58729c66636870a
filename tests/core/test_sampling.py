import subprocess
import sys
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from imblearn.over_sampling import SMOTE
from imblearn.under_sampling import EditedNearestNeighbours, TomekLinks
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.class_weight import compute_class_weight

from fercore.errors import BadInput, TrainingError
from fercore.schemes import FER7
from fercore.training import sampling
from fercore.training.data import Rows, VersionData
from fercore.training.sampling import BALANCES, Balance, TrainingRows, balanced, nearest, refuse_derived

SIZES = st.lists(st.integers(2, 12), min_size=3, max_size=3)
ENOUGH = st.lists(st.integers(7, 14), min_size=3, max_size=3)  # at least four of each class in some_rows: three neighbours of its own


def version(sizes: list[int], seed: int = 0, spread: int = 60, shift: int = 60) -> VersionData:
    """An in-memory version in mixed order: classes of different brightness that overlap when `spread` is large and `shift` small."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    pixels = (rng.integers(0, spread, (len(y), 8, 8)) + shift * y[:, None, None]).clip(0, 255).astype(np.uint8)
    samples = pd.DataFrame({"sample_id": [f"s{i:04}" for i in range(len(y))], "label": [FER7.ids[i] for i in y],
                            "split": "train", "duplicate_group": [f"g{i}" for i in range(len(y))]})
    return VersionData("v-1", FER7.ids[:len(sizes)], samples, pixels, y)


def some_rows(data: VersionData) -> Rows:
    """Two of each class and about half of the others."""
    order = data.y.argsort(kind="stable")
    rank = np.arange(len(order)) - np.searchsorted(data.y[order], data.y[order])
    return np.sort(order[(rank < 2) | (rank % 2 == 0)])


def counts(data: VersionData, rows: TrainingRows) -> list[int]:
    return np.bincount(np.concatenate([data.y[rows.rows], rows.made_y]), minlength=len(data.classes)).tolist()


def flat(faces: np.ndarray) -> np.ndarray:
    return faces.reshape(len(faces), faces[0].size if len(faces) else 0).astype(np.float32)


def same(one: TrainingRows, two: TrainingRows) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(two, name)) for name in ("rows", "made", "made_y"))


@settings(max_examples=60)
@given(sizes=ENOUGH, method=st.sampled_from(BALANCES), seed=st.integers(0, 2**32 - 1))
def test_only_the_given_rows_are_looked_at_and_one_seed_gives_one_answer(sizes: list[int], method: str, seed: int) -> None:
    data = version(sizes)
    rows = some_rows(data)
    out = balanced(data, rows, method, seed)
    assert np.isin(out.rows, rows).all()
    assert out.rows.dtype == np.int64 and out.made.dtype == np.uint8 and out.made_y.dtype == np.int64
    assert out.made.shape == (len(out.made_y), 8, 8)
    assert method in ("ros",) or len(np.unique(out.rows)) == len(out.rows)
    hidden = data.pixels.copy()
    others = np.setdiff1d(np.arange(len(data.y)), rows)
    hidden[others] = 255 - hidden[others]
    assert same(out, balanced(VersionData("v-1", data.classes, data.samples, hidden, data.y), rows, method, seed))


@pytest.mark.parametrize("method", ["ros", "rus", "smote", "smote_tomek"])
def test_another_seed_gives_another_answer(method: str) -> None:
    data = version([40, 20, 10])
    assert not same(*(balanced(data, np.arange(70), method, seed) for seed in (0, 1)))


@given(sizes=SIZES, seed=st.integers(0, 2**32 - 1))
def test_resampling_makes_all_classes_as_large_as_the_largest_or_smallest(sizes: list[int], seed: int) -> None:
    data = version(sizes)
    rows = some_rows(data)
    n = np.bincount(data.y[rows])
    assert counts(data, ros := balanced(data, rows, "ros", seed)) == [n.max()] * 3
    assert set(ros.rows) == set(rows) and not len(ros.made)
    assert counts(data, balanced(data, rows, "rus", seed)) == [n.min()] * 3
    assert counts(data, smote := balanced(data, rows, "smote", seed)) == [n.max()] * 3
    assert np.array_equal(smote.rows, rows)


@given(sizes=ENOUGH)
def test_weights_are_those_of_scikit_learn_and_draws_make_classes_equal(sizes: list[int]) -> None:
    data = version(sizes)
    rows = some_rows(data)
    weights = balanced(data, rows, "class_weights", 0).class_weights
    assert weights is not None and weights.dtype == np.float32
    assert weights == pytest.approx(compute_class_weight("balanced", classes=np.arange(3), y=data.y[rows]), rel=1e-6)
    draws = balanced(data, rows, "weighted_sampler", 0).draw_weights
    assert draws is not None and np.bincount(data.y[rows], draws) == pytest.approx([1 / 3] * 3)
    for method in set(BALANCES) - {"class_weights"}:
        assert balanced(data, rows, method, 0).class_weights is None
    for method in set(BALANCES) - {"weighted_sampler"}:
        assert balanced(data, rows, method, 0).draw_weights is None


@settings(max_examples=20)
@given(sizes=SIZES, seed=st.integers(0, 2**32 - 1))
def test_made_faces_lie_between_two_faces_of_their_class(sizes: list[int], seed: int) -> None:
    data = version(sizes, spread=200)
    rows = some_rows(data)
    out = balanced(data, rows, "smote", seed)
    for face, c in zip(flat(out.made), out.made_y, strict=True):
        ends = flat(data.pixels[rows[data.y[rows] == c]])
        a, b = ends[:, None], (ends[None] - ends[:, None])
        step = ((face - a) * b).sum(-1, keepdims=True) / np.maximum((b * b).sum(-1, keepdims=True), 1)
        off = np.abs(face - (a + step.clip(0, 1) * b)).max(-1)  # from the nearest point of every segment
        assert off.min() <= 1  # rounding moves each pixel by half a step, and the nearest point a little


def test_smote_is_that_of_imbalanced_learn() -> None:
    data = version([40, 20, 10], spread=250)
    x, y = SMOTE(random_state=5).fit_resample(flat(data.pixels), data.y)
    out = balanced(data, np.arange(70), "smote", 5)
    assert np.array_equal(flat(out.made), np.rint(x[70:])) and np.array_equal(out.made_y, y[70:])


@pytest.mark.parametrize("seed", [0, 3, 4])
def test_cleaning_keeps_what_imbalanced_learn_keeps(seed: int) -> None:
    data = version([90, 60, 30], seed, spread=200, shift=15)
    rows = np.sort(np.random.default_rng(seed).permutation(180)[:150])
    x, y = flat(data.pixels[rows]), data.y[rows]
    direct = TomekLinks()
    direct.fit_resample(x, y)
    out = balanced(data, rows, "tomek", seed)
    assert np.array_equal(out.rows, rows[direct.sample_indices_]) and len(out.rows) < 150
    more, every = SMOTE(random_state=seed).fit_resample(x, y)
    for method, cleaner in (("smote_tomek", TomekLinks(sampling_strategy="all")), ("smote_enn", EditedNearestNeighbours(sampling_strategy="all"))):
        cleaner.fit_resample(np.rint(more), every)
        kept = np.sort(cleaner.sample_indices_)
        out = balanced(data, rows, method, seed)
        assert np.array_equal(out.rows, rows[kept[kept < 150]]) and 0 < len(out.rows) < 150
        assert np.array_equal(flat(out.made), np.rint(more)[kept[kept >= 150]]) and np.array_equal(out.made_y, every[kept[kept >= 150]])


@pytest.mark.parametrize("processor", ["AVX2", "other"])
@pytest.mark.parametrize("n", [2, 128, 300])
def test_nearest_faces_are_exact_on_every_processor(processor: str, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: processor)
    faces = np.random.default_rng(n).choice(np.array([0, 1, 127, 128, 254, 255], np.uint8), (n, 48, 48))
    k = min(4, n - 1)
    expected = NearestNeighbors(n_neighbors=k).fit(flat(faces)).kneighbors(return_distance=False)
    assert np.array_equal(nearest(faces, 4), expected)


def test_of_copies_the_other_one_is_nearest_and_ties_go_to_the_lower_position() -> None:
    faces = np.random.default_rng(0).integers(0, 256, (6, 48, 48), dtype=np.uint8)
    faces[[3, 5]] = faces[1]
    assert nearest(faces, 2)[[1, 3, 5]].tolist() == [[3, 5], [1, 5], [1, 3]]


def test_one_face_twice_with_two_labels_is_a_tomek_link() -> None:
    data = version([8, 5])
    a, b = np.flatnonzero(data.y == 0)[0], np.flatnonzero(data.y == 1)[0]
    data.pixels[b] = data.pixels[a]
    kept = balanced(data, np.arange(13), "tomek", 0).rows
    assert a not in kept and b in kept


def test_a_tiny_class_has_fewer_neighbours_and_a_single_face_is_refused() -> None:
    data = version([9, 2, 3])
    out = balanced(data, np.arange(14), "smote", 0)
    assert counts(data, out) == [9, 9, 9]
    for method in ("smote", "smote_tomek", "smote_enn"):
        with pytest.raises(TrainingError, match="SMOTE needs two faces of class disgust"):
            balanced(version([9, 1, 3]), np.arange(13), method, 0)
    assert counts(version([9, 1, 3]), balanced(version([9, 1, 3]), np.arange(13), "ros", 0)) == [9, 9, 9]


@pytest.mark.parametrize("method", BALANCES)
def test_a_class_without_rows_is_refused(method: str) -> None:
    data = version([5, 5, 5])
    with pytest.raises(TrainingError, match=r"No training rows for fear.*\(v-1\)"):
        balanced(data, np.flatnonzero(data.y != 2), method, 0)


def test_a_class_that_cleaning_empties_is_refused() -> None:
    data = version([20, 20, 2], spread=200)
    alike = np.flatnonzero(data.y == 2)
    data.pixels[alike] = data.pixels[np.flatnonzero(data.y == 0)[:2]]
    near = np.flatnonzero(data.y == 0)[2:6]
    data.pixels[near[:2]], data.pixels[near[2:]] = data.pixels[alike[0]], data.pixels[alike[1]]
    with pytest.raises(TrainingError, match="No training rows for .*smote_enn leaves none"):
        balanced(data, np.r_[alike, near, np.flatnonzero(data.y == 1)[:2]], "smote_enn", 0)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(BadInput, match="'adasyn'.*smote_enn"):
        balanced(version([2, 2]), np.arange(4), "adasyn", 0)
    assert get_args(Balance) == BALANCES


def test_what_few_runs_need_is_loaded_only_by_those() -> None:
    code = ("import sys, fercore.training.loop, fercore.training.worker; "
            "print([m for m in sys.modules if m in ('imblearn', 'sklearn', 'scipy', 'torch._inductor')])")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def guarded() -> tuple[VersionData, Rows, Rows]:
    data = version([12, 8, 6])
    return data, np.arange(18), np.arange(18, 26)


@pytest.mark.parametrize("method", BALANCES)
def test_the_guard_lets_balanced_rows_pass(method: str) -> None:
    data, given_rows, evaluated = guarded()
    refuse_derived(data, balanced(data, given_rows, method, 0), given_rows, evaluated)


def test_the_guard_refuses_a_row_that_is_not_given() -> None:
    data, given_rows, evaluated = guarded()
    training = TrainingRows(np.r_[given_rows, 20, 20], data.pixels[:0], data.y[:0])
    with pytest.raises(TrainingError, match=r"sample s0020 is trained on but is not a training row of the split \(1 such\)"):
        refuse_derived(data, training, given_rows, evaluated)


def test_the_guard_refuses_a_copy_by_group() -> None:
    data, given_rows, evaluated = guarded()
    data.samples.loc[[3, 21], "duplicate_group"] = "same"
    with pytest.raises(TrainingError, match=r"sample s0003 is trained on, sample s0021 of its duplicate group is evaluated \(1 such\)"):
        refuse_derived(data, balanced(data, given_rows, "none", 0), given_rows, evaluated)


@pytest.mark.parametrize("method", ["none", "ros"])
def test_the_guard_refuses_equal_pixels_in_another_group(method: str) -> None:
    data, given_rows, evaluated = guarded()
    data.pixels[4] = data.pixels[25]
    with pytest.raises(TrainingError, match=r"sample s0004 is trained on, sample s0025 with the same pixels is evaluated \(1 such\)"):
        refuse_derived(data, balanced(data, given_rows, method, 0), given_rows, evaluated)
    refuse_derived(data, TrainingRows(given_rows[given_rows != 4], data.pixels[:0], data.y[:0]), given_rows, evaluated)


def test_the_guard_refuses_a_made_face_that_is_evaluated() -> None:
    data, given_rows, evaluated = guarded()
    training = balanced(data, given_rows, "smote", 0)
    data.pixels[22] = training.made[-1]
    with pytest.raises(TrainingError, match=r"a made face has the pixels of sample s0022, which is evaluated \(1 such\)"):
        refuse_derived(data, training, given_rows, evaluated)


def test_the_widest_pixels_stay_exact_without_avx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "other")
    a = torch.full((2, 4096), -128, dtype=torch.int8)
    a[0, ::7] = 127
    assert torch.equal(sampling._dots(a, a).long(), a.long() @ a.long().T)
