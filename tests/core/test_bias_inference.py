"""Tests between groups, parity, association and power, against Fairlearn, SciPy, statsmodels, worked examples and simulation."""

import json

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import MetricFrame, demographic_parity_difference, equalized_odds_difference
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, hypergeom
from sklearn.metrics import accuracy_score, f1_score
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import power_proportions_2indep, proportion_effectsize

from fercore.bias import bias_table
from fercore.bias.association import association, cramers_v, npmi
from fercore.bias.inference import adjusted, contrasts, group_tests, parity, parse_contrast, permutation
from fercore.bias.power import detectable, faces_needed, needs
from fercore.bias.report import grouped
from fercore.bias.slices import full
from fercore.errors import BadInput
from fercore.evaluation.calibration import calibration_error
from fercore.evaluation.estimate import difference, mid_p_limits, proportion, to_json
from fercore.evaluation.metrics import macro
from tests.core.prediction_frames import CLASSES, faces, scored

TWO = ["happy", "sad"]


def test_groups_and_gaps_agree_with_fairlearn():
    frame = faces(1200, seed=3)
    table = bias_table(frame, CLASSES, by=["age x gender"], minimum=1)
    macro = {"average": "macro", "zero_division": 0}
    accuracies = MetricFrame(metrics=accuracy_score, y_true=frame["label"], y_pred=frame["predicted"], sensitive_features=frame[["age_band", "gender"]])
    for row in (r for r in table.rows if r.kind == "group" and r.n):
        age, gender = row.value.split(" x ")
        part = frame[(frame["age_band"] == age) & (frame["gender"] == gender)]
        assert row.accuracy.value == pytest.approx(accuracies.by_group[age, gender])
        assert row.macro_f1.value == pytest.approx(f1_score(part["label"], part["predicted"], **macro))
    assert table.gaps[0].difference.value == pytest.approx(accuracies.difference())


def test_parity_and_odds_agree_with_fairlearn():
    frame = faces(1500, seed=1)
    found = parity(grouped(frame, CLASSES, by=["gender"], minimum=20))
    for row in found[1:]:
        true, made = frame["label"] == row.class_id, frame["predicted"] == row.class_id
        assert row.parity.value == pytest.approx(demographic_parity_difference(true, made, sensitive_features=frame["gender"]))
        assert row.odds.value == pytest.approx(equalized_odds_difference(true, made, sensitive_features=frame["gender"]))
        assert row.parity.low <= row.parity.value <= row.parity.high and row.parity.n == 1500
    assert found[0].class_id == "" and found[0].odds.value == max(r.odds.value for r in found[1:])
    assert found[0].parity.value == max(r.parity.value for r in found[1:])


def test_largest_differences_of_equal_groups_reach_zero():
    """4 groups, 400 faces, 3 classes, once with copies: the interval starts at 0 in about 95 %, and above it where a group is treated otherwise."""
    rng, names, low = np.random.default_rng(2), np.array(["happy", "sad", "fear"]), {(1, 0): [], (2, 0): [], (1, 0.5): []}
    for copies, planted in list(low) * 40:
        n, unit = 400 // copies, np.repeat(np.arange(400 // copies), copies)
        true, age = rng.integers(0, 3, n), rng.integers(0, 4, n)
        made = np.where(rng.random(n) < 0.7, true, rng.integers(0, 3, n))
        made[(age == 0) & (rng.random(n) < planted)] = 0
        frame = scored((true == made)[unit], unit, age_band=np.array(["child", "young", "middle_aged", "senior"])[age][unit])
        frame = frame.assign(label=names[true][unit], predicted=names[made][unit])
        low[copies, planted].append([e.low == 0 for r in parity(grouped(frame, list(names), by=["age"], minimum=5)) for e in (r.parity, r.odds)])
    for copies in (1, 2):
        assert np.mean(low[copies, 0]) >= 0.93 and np.mean(low[copies, 0], axis=0).min() >= 0.85
    assert np.mean(low[1, 0.5], axis=0)[:2].max() <= 0.1


def test_a_class_that_a_group_lacks_is_explained():
    frame = faces(900).assign(gender=lambda f: f["gender"].mask((f["gender"] == "male") & (f["label"] == "disgust"), "female"))
    found = grouped(frame, CLASSES, by=["gender"])
    disgust = next(r for r in parity(found) if r.class_id == "disgust")
    assert disgust.odds.points() == disgust.true_positive.points() == "Male: n = 0 < 20" and disgust.parity.value is not None
    wrong = (frame["label"] != "disgust") & (frame["predicted"] == "disgust")  # the false positive rate needs faces of other classes only
    rate = {sex: wrong[frame["gender"] == sex].sum() / ((frame["gender"] == sex) & (frame["label"] != "disgust")).sum() for sex in ("female", "male")}
    assert disgust.false_positive.value == pytest.approx(abs(rate["female"] - rate["male"]))
    assert disgust.true_positive.n == (frame["label"] == "disgust").sum()
    only = grouped(frame.assign(gender="male"), CLASSES, by=["gender"])
    assert parity(only) == [] and contrasts(only) == [] and group_tests(only)[0].note == "fewer than two groups to compare"
    assert group_tests(only)[0].p_value is None and group_tests(only)[0].p_holm is None


@given(*[st.integers(1, 30)] * 2, st.data())
def test_two_groups_without_duplicates_are_tested_by_the_hypergeometric(n1, n2, data):
    k1, k2 = data.draw(st.integers(0, n1)), data.draw(st.integers(0, n2))
    hits = np.r_[np.arange(n1) < k1, np.arange(n2) < k2]
    p = permutation(hits, np.arange(n1 + n2), np.repeat([0, 1], [n1, n2]), draws=4000)
    k = np.arange(n1 + 1)
    gap = np.abs(k / n1 - (k1 + k2 - k) / n2)
    exact = hypergeom(n1 + n2, k1 + k2, n1).pmf(k)[gap >= abs(k1 / n1 - k2 / n2) - 1e-9].sum()
    assert p == pytest.approx(exact, abs=0.035)


def test_copies_add_no_evidence():
    hits, group = np.r_[np.arange(60) < 50, np.arange(60) < 43], np.repeat([0, 1], 60)
    alone = permutation(hits, np.arange(120), group)
    thrice = permutation(np.repeat(hits, 3), np.repeat(np.arange(120), 3), np.repeat(group, 3))
    as_rows = permutation(np.repeat(hits, 3), np.arange(360), np.repeat(group, 3))
    assert thrice == pytest.approx(alone, abs=0.01) and as_rows < alone / 3


def test_levels_and_power_of_one_declared_contrast():
    """2,000 data sets: coverage of the gap's interval 93-97 %, a null of no gap rejected 3-7 %, 85 against 77 % at n = 500 a group found >= 85 %."""
    rng, n, draws = np.random.default_rng(11), 500, 2000
    unit, group = np.arange(2 * n), np.repeat([0, 1], n)
    known: dict[tuple[int, int], tuple[float, float, float]] = {}

    def seen(first: int, second: int) -> tuple[float, float, float]:
        if (first, second) not in known:
            hits = np.r_[np.arange(n) < first, np.arange(n) < second]
            gap = difference(proportion(hits[:n], unit[:n]), proportion(hits[n:], unit[:n]))
            known[first, second] = (permutation(hits, unit, group, draws=999), gap.low, gap.high)
        return known[first, second]

    planted = np.array([seen(*pair) for pair in rng.binomial(n, [0.85, 0.77], (draws, 2))])
    null = np.array([seen(*pair) for pair in rng.binomial(n, [0.8, 0.8], (draws, 2))])
    assert 0.93 <= np.mean((planted[:, 1] <= 0.08) & (planted[:, 2] >= 0.08)) <= 0.97
    assert 0.93 <= np.mean((null[:, 1] <= 0) & (null[:, 2] >= 0)) <= 0.97
    assert 0.03 <= np.mean(null[:, 0] < 0.05) <= 0.07
    assert np.mean(planted[:, 0] < 0.05) >= 0.85


def test_level_and_coverage_with_duplicates():
    """Every face three times in one half: the interval and the test still hold their level."""
    rng, covered, rejected = np.random.default_rng(5), [], []
    sizes = np.tile([1, 3], 150)
    unit, group = np.repeat(np.arange(300), sizes), np.repeat(np.repeat([0, 1], 150), sizes)
    for _ in range(400):
        hits = np.repeat(rng.random(300) < 0.75, sizes)
        gap = difference(*(proportion(hits[group == g], np.unique(unit[group == g], return_inverse=True)[1]) for g in (0, 1)))
        covered.append(gap.low <= 0 <= gap.high)
        rejected.append(permutation(hits, unit, group, draws=499) < 0.05)
    assert 0.92 <= np.mean(covered) <= 0.98 and 0.025 <= np.mean(rejected) <= 0.08


def test_corrections_agree_with_statsmodels_and_skip_what_is_missing():
    p = [0.01, None, 0.04, 0.03]
    holm, bh = adjusted(p)
    known = [x for x in p if x is not None]
    assert holm[1] is bh[1] is None
    assert [x for x in holm if x is not None] == pytest.approx(multipletests(known, method="holm")[1])
    assert [x for x in bh if x is not None] == pytest.approx(multipletests(known, method="fdr_bh")[1])
    assert adjusted([None]) == ([None], [None])


def test_a_declared_contrast_stands_alone():
    age = np.repeat(["young", "middle_aged", "senior"], 200)
    frame = scored(np.r_[np.arange(200) < 170, np.arange(200) < 160, np.arange(200) < 140], age_band=age)
    everything = contrasts(grouped(frame, TWO, by=["age"]))
    one = contrasts(grouped(frame, TWO, by=["age"]), ("age_band", "young", "senior"))
    same = next(c for c in everything if (c.first, c.second) == ("young", "senior"))
    assert len(everything) == 3 and len(one) == 1 and one[0].declared
    assert one[0].p_value == one[0].p_holm == same.p_value < same.p_holm
    assert one[0].difference.value == pytest.approx(0.15)
    assert contrasts(grouped(frame, TWO, by=["age"]), ("age_band", "YOUNG", "Senior")) == one
    with pytest.raises(BadInput, match=r"'child' of perceived age n = 0 < 20\. Choose two of Young, Middle-aged, Senior"):
        contrasts(grouped(frame, TWO, by=["age"]), ("age_band", "child", "senior"))
    with pytest.raises(BadInput, match="'Middle-aged' of perceived age is named twice"):
        contrasts(grouped(frame, TWO, by=["age"]), ("age_band", "Middle-aged", "middle_aged"))
    assert parse_contrast("age: young, senior") == ("age", "young", "senior") and parse_contrast("filter: men:in,out") == ("filter: men", "in", "out")
    assert [full(name) for name in ("Age", "Perceived gender", "gender x CLASS", "filter: Men")] == ["age_band", "gender", "gender x label", "filter: Men"]
    with pytest.raises(BadInput, match="'not_tagged' of perceived age is not compared"):
        contrasts(grouped(frame.assign(age_band=frame["age_band"].replace({"young": None})), TWO, by=["age"]), ("age_band", "senior", "not_tagged"))
    for bad in ("", "age", "age:young", "age:young,senior,child", ":a,b", "age:young,young"):
        with pytest.raises(BadInput, match="names two groups"):
            parse_contrast(bad)


def test_calibration_error_by_hand():
    """10 faces at confidence 0.70, 8 of them right; 10 at 0.90, 6 right: (10 * 0.1 + 10 * 0.3) / 20."""
    frame = scored(np.r_[np.arange(10) < 8, np.arange(10) < 6]).assign(confidence=np.repeat([0.7, 0.9], 10))
    found = calibration_error(frame)[0]
    assert found.value == pytest.approx(0.2) and found.low < 0.2 < found.high and found.n == 20
    rng, outside = np.random.default_rng(1), []
    for _ in range(200):  # one bin, far from 0: the error is a plain mean
        hits = rng.random(300) < 0.6
        e = calibration_error(scored(hits).assign(confidence=0.9))[0]
        outside.append(not e.low <= 0.3 <= e.high)
    assert 0.02 <= np.mean(outside) <= 0.08


def test_copies_do_not_narrow_the_interval_of_faces_without_error():
    once, copied = (macro(scored(np.ones(60, bool), group), TWO)["macro_recall"] for group in (None, np.arange(60) // 3))
    assert [once.high - once.low, copied.high - copied.low] == pytest.approx([high - low for low, high in (mid_p_limits(once.value, 60), mid_p_limits(copied.value, 20))])


def test_cramers_v_by_hand_and_against_scipy():
    counts = np.array([[30, 10, 10], [10, 25, 15]])
    chi2, n = chi2_contingency(counts, correction=False)[0], 100
    phi2 = max(0, chi2 / n - 2 / 99)
    assert cramers_v(counts) == pytest.approx(np.sqrt(phi2 / (min(2 - 1 / 99, 3 - 4 / 99) - 1)))
    assert cramers_v(np.array([[50, 0], [0, 50]])) == pytest.approx(1, abs=0.01) and cramers_v(np.array([[25, 25], [25, 25]])) == 0
    assert npmi(np.array([[50, 0], [0, 50]]))[0].tolist() == pytest.approx([1, -1])
    assert npmi(np.array([[25, 25], [25, 25]])) == pytest.approx(np.zeros((2, 2)))
    assert npmi(counts)[0, 0] == pytest.approx(np.log(0.3 / (0.5 * 0.4)) / -np.log(0.3))


def test_intervals_of_association_cover():
    rng, truth, v, pmi, none = np.random.default_rng(3), np.array([[0.30, 0.10, 0.10], [0.10, 0.25, 0.15]]), [], [], []
    true_v = cramers_v(np.round(truth * 10**7))
    true_pmi = npmi(truth)[0, 0]
    for _ in range(150):
        for p, out in ((truth, v), (np.full((2, 3), 1 / 6), none)):
            cell = rng.choice(6, 400, p=p.ravel() / p.sum())
            rows = pd.DataFrame({"sample_id": np.arange(400), "duplicate_group": np.arange(400), "label": np.array(["happy", "sad", "fear"])[cell % 3],
                                 "gender": np.array(["female", "male"])[cell // 3], "age_band": None})
            found = association(rows, ["happy", "sad", "fear"], by=["gender"])[0]
            out.append(found.cramers_v)
            if out is v:
                pmi.append(found.cells[0].npmi)
    assert 0.90 <= np.mean([e.low <= true_v <= e.high for e in v]) <= 0.99
    assert 0.90 <= np.mean([e.low <= true_pmi <= e.high for e in pmi]) <= 0.99
    assert np.mean([e.low == 0 for e in none]) >= 0.93
    assert np.median([e.high for e in none if e.value == 0]) > 0.05  # what chance alone may hide at n = 400


def test_representation_counts_distinct_faces_and_masks_small_cells():
    rows = pd.DataFrame({"sample_id": range(130), "duplicate_group": [*range(100), *range(30)], "label": ["happy"] * 60 + ["sad"] * 40 + ["happy"] * 30,
                         "gender": ["female"] * 50 + ["male"] * 45 + [None] * 5 + ["female"] * 30, "age_band": None})
    both, none = association(rows, TWO, by=["gender", "age", "age x class"], minimum=20)
    assert both.n == 95 and [(c.group, c.class_id, c.n) for c in both.cells] == [
        ("Female", "happy", 50), ("Female", "sad", 0), ("Male", "happy", 10), ("Male", "sad", 35)]
    assert both.cells[1].npmi.note == "n = 0 < 20" and both.cells[1].of_group.value == 0 and both.cells[0].of_class.value == pytest.approx(50 / 60)
    assert none.n == 0 and none.cells == [] and none.cramers_v.note == "fewer than two groups or classes"
    assert (both.untagged, none.untagged) == (5, 100)


def test_one_group_alone_is_associated_with_nothing_and_is_no_average():
    rows = pd.DataFrame({"sample_id": range(60), "duplicate_group": range(60), "label": ["happy"] * 40 + ["sad"] * 20, "gender": "female"})
    alone, = association(rows, TWO, by=["gender"])
    note = "fewer than two groups or classes"
    assert {c.npmi.note for c in alone.cells} == {c.of_class.note for c in alone.cells} == {alone.cramers_v.note} == {note}
    assert alone.cells[0].of_group.value == pytest.approx(2 / 3) and alone.cells[0].npmi.value is None
    one_class, = association(rows.assign(label="happy", gender=["female", "male"] * 30), TWO, by=["gender"])
    assert {c.npmi.note for c in one_class.cells} == {c.of_group.note for c in one_class.cells} == {note} and one_class.cells[0].of_class.value == 0.5
    young = scored(np.arange(60) < 40, age_band="young", gender="male")
    table = {r.kind: r for r in bias_table(young, TWO, by=["age", "gender"]).rows}
    assert table["average"].accuracy.points() == "only one group" and table["average"].n == 60
    assert table["overall"].macro_f1.points() == "only one group of each attribute"
    two = bias_table(young.assign(gender=["female", "male"] * 30), TWO, by=["age", "gender"]).rows
    assert [r.accuracy.value is None for r in two if r.kind in ("average", "overall")] == [True, False, False]


def test_faces_needed_are_those_of_the_notes_and_give_the_power():
    assert [faces_needed(a, a - b) for a, b in ((0.77, 0.71), (0.754, 0.571), (0.70, 0.65), (0.73, 0.70))] == [837, 104, 1376, 3553]
    for reference in (0.6, 0.8, 0.9):
        n = faces_needed(reference)
        assert n == np.ceil(NormalIndPower().solve_power(proportion_effectsize(reference, reference - 0.05), alpha=0.05, power=0.8))
        effect = NormalIndPower().solve_power(nobs1=50, ratio=8, alpha=0.05, power=0.8)
        assert proportion_effectsize(reference, reference - detectable(reference, 50, 400)) == pytest.approx(effect, rel=1e-4)
        assert power_proportions_2indep(-0.05, reference, n).power == pytest.approx(0.8, abs=0.02)
        assert detectable(reference, n, n) == pytest.approx(0.05, abs=0.0005)
    assert detectable(0.5, 3, 3) is None and faces_needed(0.04) is None and faces_needed(0) is None


def test_what_each_group_lacks():
    age = ["young"] * 900 + ["senior"] * 100 + [None] * 400
    need = {n.value: n for n in needs(grouped(scored(np.arange(1400) % 10 < 8, age_band=age), TWO, by=["age", "gender"]))}
    senior = need["senior"]
    assert senior.reference.value == pytest.approx(0.8) and senior.needed == faces_needed(0.8) and senior.more == senior.needed - 100
    assert (senior.untagged, senior.to_tag, senior.note) == (400, 400, "more than are untagged") and 0.12 < senior.detectable < 0.16
    assert need["child"].to_tag is None and need["child"].detectable is None and need["child"].note == "none of it tagged yet"
    assert senior.more_others == max(0, senior.needed - 900) and need["young"].more_others == need["young"].needed - 100 > 0
    more = grouped(scored(np.arange(21_000) % 10 < 8, age_band=age[:1000] + [None] * 20_000), TWO, by=["age"])
    senior, young = (next(n for n in needs(more) if n.value == v) for v in ("senior", "young"))
    assert (senior.to_tag, senior.note) == (senior.more * 10, "") and young.to_tag == young.more_others * 10 > young.more
    assert need["male"].reference.note == "n = 0 < 20" and need["male"].needed is None
    copies = needs(grouped(scored(np.repeat(np.arange(700) % 10 < 8, 2), np.arange(1400) // 2, age_band=age), TWO, by=["age"]))
    assert next(n.needed for n in copies if n.value == "senior") == pytest.approx(2 * senior.needed, rel=0.01)
    assert json.dumps(to_json(copies), allow_nan=False)
    wrong = needs(grouped(scored(np.zeros(1400, bool), age_band=age), TWO, by=["age"]))
    assert {(n.needed, n.more, n.more_others, n.to_tag, n.detectable) for n in wrong} == {(None,) * 5}
