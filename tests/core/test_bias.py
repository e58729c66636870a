"""Bias tables, gaps and before-and-after comparisons, against hand-worked and published figures and simulation."""

import json

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from fercore.bias import before_after, bias_table, slices
from fercore.bias.compare import mcnemar
from fercore.bias.report import METRICS, OVERALL, averages
from fercore.errors import BadInput, FerError
from fercore.evaluation import Estimate, accuracy, published
from fercore.evaluation.estimate import paired_difference
from tests.core.prediction_frames import CLASSES, faces, scored

TWO = ["happy", "sad"]


def row(table, group):
    return next(r for r in table.rows if r.group == group)


def test_every_group_agrees_with_scikit_learn():
    frame = faces(900, copies=0.05)
    table = bias_table(frame, CLASSES)
    assert [r.group for r in table.rows] == [
        "Child", "Young", "Middle-aged", "Senior", "Average", "Female", "Male", "Average", OVERALL]
    for name, column, value in (("Young", "age_band", "young"), ("Senior", "age_band", "senior"), ("Male", "gender", "male")):
        part, got = frame[frame[column] == value], row(table, name)
        y, z = part["label"], part["predicted"]
        assert got.n == len(part) and got.accuracy == accuracy(part)
        assert [got.macro_precision.value, got.macro_recall.value, got.macro_f1.value] == pytest.approx(
            [f(y, z, average="macro") for f in (sk.precision_score, sk.recall_score, sk.f1_score)])
        assert all(getattr(got, m).low < getattr(got, m).value < getattr(got, m).high for m in METRICS)
    five = [row(table, g).accuracy.value for g in ("Young", "Middle-aged", "Senior", "Female", "Male")]
    assert table.rows[4].accuracy.value == pytest.approx(np.mean(five[:3]))
    assert row(table, OVERALL).accuracy.value == pytest.approx(np.mean(five)) and row(table, OVERALL).n == 900


@pytest.mark.parametrize("name", ["s0_bias_before", "s0_bias_after"])
def test_published_averages_are_reproduced(name):
    printed = published(name)
    groups = printed[~printed["group"].str.contains("Average")].reset_index(drop=True)
    for attribute, at in averages(groups["attribute"].tolist(), [True] * len(groups)).items():
        theirs = printed[(printed["group"] == OVERALL) | ((printed["group"] == "Average") & (printed["attribute"] == attribute))]
        theirs = theirs[theirs["attribute"] == ("" if attribute == OVERALL else attribute)]
        for figure in ("accuracy", "precision", "recall", "f1"):
            assert groups[figure].iloc[at].mean() == pytest.approx(theirs[figure].iloc[0], abs=0.0051), (attribute, figure)
    ages = groups.loc[groups["attribute"] == "age", "accuracy"]
    assert round(ages.max() - ages.min(), 2) == {"s0_bias_before": 18.33, "s0_bias_after": 2.36}[name]


def test_untagged_faces_are_listed_but_not_averaged():
    age = ["young"] * 30 + ["senior"] * 40 + ["cannot_tell"] * 25 + [None] * 6
    hits = np.r_[np.ones(30), np.zeros(40), np.ones(31)].astype(bool)
    table = bias_table(scored(hits, age_band=age, gender=np.nan), TWO)
    assert [(r.group, r.kind, r.n) for r in table.rows] == [
        ("Child", "group", 0), ("Young", "group", 30), ("Middle-aged", "group", 0), ("Senior", "group", 40),
        ("cannot tell", "listed", 25), ("not tagged", "listed", 6), ("Average", "average", 70),
        ("Female", "group", 0), ("Male", "group", 0), ("not tagged", "listed", 101), ("Average", "average", 0),
        (OVERALL, "overall", 70)]
    assert table.rows[6].accuracy.value == 0.5 and row(table, "cannot tell").accuracy.value == 1
    assert row(table, "Child").accuracy.percent() == "n = 0 < 20" and table.rows[5].macro_f1.percent() == "n = 6 < 20"
    assert table.rows[10].macro_f1.percent() == "no group with n >= 20"
    gap = table.gaps[0]
    assert (gap.highest, gap.lowest, gap.difference.value) == ("young", "senior", 1.0)
    assert (gap.difference.low, gap.difference.high) == pytest.approx(
        confint_proportions_2indep(30, 30, 0, 40, method="newcomb", compare="diff"))
    assert table.gaps[1].difference.points() == "fewer than two groups to compare"
    assert json.dumps(table.records(), allow_nan=False) and table.frame().loc[0, "accuracy"] is pd.NA
    assert bias_table(scored(hits[:0]), TWO).rows[0].accuracy.note == "n = 0 < 20"


def test_the_picked_gap_of_three_groups_takes_a_wider_level():
    age = np.repeat(["young", "middle_aged", "senior"], 100)
    hits = np.r_[np.arange(100) < 80, np.arange(100) < 70, np.arange(100) < 60]
    gap = bias_table(scored(hits, age_band=age), TWO, by=["age"]).gaps[0]
    limits = confint_proportions_2indep(80, 100, 60, 100, method="newcomb", compare="diff", alpha=0.05 / 3)
    assert (gap.attribute, gap.highest, gap.lowest) == ("age_band", "young", "senior")
    assert (gap.difference.value, gap.difference.low, gap.difference.high) == pytest.approx((0.2, *limits))


def test_crossed_groups_part_the_faces():
    frame = faces(600).assign(age_band=lambda f: f["age_band"].mask(f.index < 20),
                              gender=lambda f: f["gender"].mask(f.index % 50 == 0, "cannot_tell"))
    groups = slices(frame, ["age x gender"])
    assert np.sum([s.mask for s in groups], axis=0).tolist() == [1] * 600
    assert {s.value: s.n for s in groups if s.listed_only} == {"cannot_tell": 11, "not_tagged": 20}
    young_men = next(s for s in groups if s.name == "Young x Male")
    assert (young_men.mask == ((frame["age_band"] == "young") & (frame["gender"] == "male"))).all()
    table = bias_table(frame, CLASSES, by=["age", "gender", "age x gender"])
    alone = bias_table(frame, CLASSES, by=["age", "gender"])
    assert row(table, OVERALL).accuracy.value == row(alone, OVERALL).accuracy.value
    with pytest.raises(BadInput, match="'race'"):
        slices(frame, ["race"])
    with pytest.raises(BadInput, match="'old'"):
        slices(frame.assign(age_band="old"), ["age"])


def test_predictions_on_trained_faces_are_refused():
    frame = faces(100)
    seen = frame.assign(out_of_fold=frame.index > 2)
    with pytest.raises(FerError, match="3 of 100 faces.*honesty rule 4"):
        bias_table(seen, CLASSES)
    with pytest.raises(FerError, match="honesty rule 4"):
        before_after(frame, seen, CLASSES)


def test_interval_of_the_average_covers():
    rates, size = np.array([0.9, 0.7, 0.5]), 60
    rng, covered = np.random.default_rng(4), []
    age = np.repeat(["young", "middle_aged", "senior"], 2 * size)
    group = np.arange(6 * size) // 2  # every face twice
    for _ in range(300):
        hits = np.repeat((rng.random((3, size)) < rates[:, None]).ravel(), 2)
        average = bias_table(scored(hits, group, age_band=age), TWO, by=["age"]).rows[-1].accuracy
        covered.append(average.low <= rates.mean() <= average.high)
    assert 0.92 <= np.mean(covered) <= 0.98


@given(*[st.integers(0, 30)] * 2)
@settings(deadline=None)
def test_mcnemar_mid_p(gained, lost):
    before, after = np.repeat([False, True, True], [gained, lost, 9]), np.repeat([True, False, True], [gained, lost, 9])
    p = mcnemar(before, after, np.arange(len(before)))
    n, fewer = gained + lost, min(gained, lost)
    assert p == pytest.approx(2 * binom.cdf(fewer, n, 0.5) - binom.pmf(fewer, n, 0.5))
    exact = statsmodels_mcnemar([[9, lost], [gained, 0]], exact=True).pvalue
    assert p == pytest.approx(1.0 if gained == lost else exact - binom.pmf(fewer, n, 0.5))
    twice = (np.repeat(x, 2) for x in (before, after))
    assert mcnemar(*twice, np.arange(2 * len(before)) // 2) == pytest.approx(p)  # copies add no evidence


def test_paired_interval_covers():
    rng, plain, copied = np.random.default_rng(2), [], []
    group = np.repeat(np.arange(80), rng.integers(1, 4, 80))
    for _ in range(300):
        base = rng.random(200)
        before, after = base < 0.6, np.where(rng.random(200) < 0.7, base, rng.random(200)) < 0.7  # agree more than by chance
        plain.append(paired_difference(before, after, np.arange(200)))
        copied.append(paired_difference(before[:80][group], after[:80][group], group))
    for estimates in (plain, copied):
        assert 0.92 <= np.mean([e.low <= 0.1 <= e.high for e in estimates]) <= 0.985


def test_before_and_after_by_hand():
    """40 young: 26 right twice, 4 lost, 6 gained, 4 wrong twice; 40 seniors: 8, 2, 20, 10; 3 children: right twice."""
    age, counts = ["young"] * 40 + ["senior"] * 40 + ["child"] * 3, [26, 4, 6, 4, 8, 2, 20, 10, 3]
    old = np.repeat([True, True, False, False, True, True, False, False, True], counts)
    new = np.repeat([True, False, True, False, True, False, True, False, True], counts)
    before, after = scored(old, age_band=age), scored(new, age_band=age)
    after = after.assign(label=after["label"].where(after.index != 82, "sad"))  # one child relabelled: no longer comparable
    before = pd.concat([before, scored(np.ones(5, dtype=bool)).assign(sample_id=list("vwxyz"))])
    result = before_after(before.sample(frac=1, random_state=0), after, TWO, by=["age"])
    assert (result.n, result.left_out_before, result.left_out_after, result.retagged) == (82, 6, 1, 0)
    young, senior, child = row(result, "Young"), row(result, "Senior"), row(result, "Child")
    assert (young.n, young.before.value, young.after.value) == (40, 0.75, 0.8)
    assert (senior.before.value, senior.after.value, senior.difference.value) == (0.25, 0.7, pytest.approx(0.45))
    assert senior.p_value == pytest.approx(2 * binom.cdf(2, 22, 0.5) - binom.pmf(2, 22, 0.5))
    assert senior.p_value < 0.001 < young.p_value
    assert senior.difference.low > 0 > young.difference.low
    assert child.difference.points() == "n = 2 < 20" and child.p_value is None
    assert (result.rows[0].group, result.rows[0].n, result.rows[0].before.value) == ("All", 82, pytest.approx(42 / 82))
    gap = result.gaps[0]
    assert (gap.before.highest, gap.before.lowest, gap.before.difference.value) == ("young", "senior", 0.5)
    assert (gap.after.difference.value, gap.change.value) == (pytest.approx(0.1), pytest.approx(-0.4))
    assert (young.before.low, young.before.high) == pytest.approx(proportion_confint(30, 40, method="wilson"))
    assert gap.change.low < -0.4 < gap.change.high < 0
    assert result.before.rows[1].accuracy == young.before and json.dumps(result.records(), allow_nan=False)
    retagged = before_after(before, after.assign(age_band="young"), TWO, by=["age"])
    assert retagged.retagged == 42 and row(retagged, "Young").n == 82
    assert retagged.gaps[0].change == Estimate(None, None, None, 82, "fewer than two groups to compare")


def test_runs_without_common_faces_cannot_be_compared():
    before = scored(np.ones(30, dtype=bool))
    for other in (before.assign(sample_id=before["sample_id"] + "x"), before.assign(label="sad")):
        with pytest.raises(FerError, match="No common images"):
            before_after(before, other, TWO)
