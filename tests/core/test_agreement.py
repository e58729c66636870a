"""Agreement: against published examples, other packages, and the bootstrap done the long way."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise, permutations

import krippendorff as partner
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import fleiss_kappa

from fercore.curation import agreement as ag
from fercore.errors import BadInput


def votes_of(table: np.ndarray) -> pd.DataFrame:
    """Votes from [people, images] of values; "" is no vote."""
    return pd.DataFrame([(f"i{i:05}", f"p{p}", str(v)) for p, row in enumerate(table) for i, v in enumerate(row) if v != ""],
                        columns=["image_id", "person_id", "value"])


# Krippendorff 2011, section C: four observers, twelve units, nominal data with missing values.
KRIPPENDORFF = np.array([row.replace(".", " ").split(",") for row in ("1,2,3,3,2,1,4,1,2,,,", "1,2,3,3,2,2,4,1,2,5,,3", ",3,3,3,2,3,4,2,2,5,1,",
                                                                    "1,2,3,3,2,4,4,1,2,5,1,")])
# Fleiss 1971, table 1: 30 patients, 6 psychiatrists each, five diagnoses.
FLEISS = np.array([[0, 0, 0, 6, 0], [0, 3, 0, 0, 3], [0, 1, 4, 0, 1], [0, 0, 0, 0, 6], [0, 3, 0, 3, 0], [2, 0, 4, 0, 0], [0, 0, 4, 0, 2],
                   [2, 0, 3, 1, 0], [2, 0, 0, 4, 0], [0, 0, 0, 0, 6], [1, 0, 0, 5, 0], [1, 1, 0, 4, 0], [0, 3, 3, 0, 0], [1, 0, 0, 5, 0],
                   [0, 2, 0, 3, 1], [0, 0, 5, 0, 1], [3, 0, 0, 1, 2], [5, 1, 0, 0, 0], [0, 2, 0, 4, 0], [1, 0, 2, 0, 3], [0, 0, 0, 0, 6],
                   [0, 1, 0, 5, 0], [0, 2, 0, 1, 3], [2, 0, 0, 4, 0], [1, 0, 0, 4, 1], [0, 5, 0, 1, 0], [4, 0, 0, 0, 2], [0, 2, 0, 4, 0],
                   [1, 0, 5, 0, 0], [0, 0, 0, 0, 6]])


def people_of(counts: np.ndarray) -> np.ndarray:
    """[people, images] of values that give these counts [images, values], each image with the same number of votes."""
    return np.array([np.repeat(np.arange(len(row)), row) for row in counts]).T.astype(str)


def noisy(images: int, people: int, values: int, seed: int, missing: float = 0.3, right: float = 0.6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, values, images)
    table = np.where(rng.random((people, images)) < right, truth, rng.integers(0, values, (people, images))).astype(str)
    return np.where(rng.random((people, images)) < missing, "", table)


def test_alpha_of_krippendorffs_example_with_missing_values() -> None:
    found = ag.krippendorff(votes_of(KRIPPENDORFF))
    assert found.value == pytest.approx(0.743, abs=5e-4) and found.n == 11  # the twelfth unit has one value
    assert found.low < found.value < found.high


def test_alpha_of_krippendorffs_example_with_two_observers() -> None:
    """Same paper, section B: 12 articles, nominal, no missing values."""
    table = np.array([list("aabbdcccedda"), list("babbbccceddd")])
    assert ag.krippendorff(votes_of(table)).value == pytest.approx(0.692, abs=5e-4)


def test_alpha_of_the_example_with_three_coders_and_many_gaps() -> None:
    """The worked example of the encyclopaedia article on the coefficient, which the package `krippendorff` also carries: 0.691."""
    rows = ("     34121133 3", "1 213343", "  21344 21133 4")
    table = np.array([[c.strip() for c in row.ljust(15)] for row in rows])
    assert ag.krippendorff(votes_of(table)).value == pytest.approx(0.691, abs=5e-4)


def test_kappa_of_fleiss_example() -> None:
    found, votes = ag.fleiss(votes_of(people_of(FLEISS)))
    assert found.value == pytest.approx(0.430, abs=5e-4) and votes == 6 and found.n == 30
    classes = ag.agreement(votes_of(people_of(FLEISS))).fleiss_classes
    assert [round(classes[str(i)].value, 3) for i in range(5)] == [0.245, 0.245, 0.520, 0.471, 0.566]  # his table 2


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), people=st.integers(2, 6), values=st.integers(2, 8), missing=st.floats(0, 0.6))
def test_all_three_equal_other_packages(seed: int, people: int, values: int, missing: float) -> None:
    table = noisy(40, people, values, seed, missing)
    votes = votes_of(table)
    found = ag.agreement(votes, resamples=20)
    numbers = np.where(table == "", -1, np.where(table == "", "0", table).astype(int)).astype(float)
    numbers[numbers < 0] = np.nan
    if found.alpha.value is not None:
        assert found.alpha.value == pytest.approx(partner.alpha(reliability_data=numbers, level_of_measurement="nominal"))
        for value, estimate in found.classes.items():
            if estimate.value is not None:
                rest = np.where(np.isnan(numbers), np.nan, numbers == int(value))
                assert estimate.value == pytest.approx(partner.alpha(reliability_data=rest, level_of_measurement="nominal"))
    counts = np.array([[(column == str(v)).sum() for v in range(values)] for column in table.T])
    if found.fleiss.value is not None:
        same = counts[counts.sum(axis=1) == found.fleiss_votes]
        assert len(same) == found.fleiss.n == np.bincount(counts.sum(axis=1))[2:].max()
        assert found.fleiss.value == pytest.approx(fleiss_kappa(same))
    for (a, b), estimate in found.pairs.items():
        both = [(x, y) for x, y in zip(table[int(a[1:])], table[int(b[1:])], strict=True) if "" not in (x, y)]
        assert estimate.n == len(both)
        if estimate.value is not None:
            assert estimate.value == pytest.approx(cohen_kappa_score(*zip(*both, strict=True)))


@pytest.mark.parametrize(("images", "values"), [(400, 2), (60, 6)])  # few patterns of votes, and about as many as images: the two ways to draw
def test_intervals_equal_a_bootstrap_that_draws_images(images: int, values: int) -> None:
    table = noisy(images, 3, values, seed=5, missing=0.1)
    votes, rng = votes_of(table), np.random.default_rng(1)
    found = ag.agreement(votes)
    numbers = np.where(table == "", np.nan, np.where(table == "", "0", table).astype(float))
    numbers = numbers[:, (~np.isnan(numbers)).sum(axis=0) >= 2]
    both = ~np.isnan(numbers[:2]).any(axis=0)
    alphas, kappas = [], []
    for _ in range(600):
        drawn = numbers[:, rng.integers(0, numbers.shape[1], numbers.shape[1])]
        alphas.append(partner.alpha(reliability_data=drawn, level_of_measurement="nominal"))
        some = numbers[:2, both][:, rng.integers(0, both.sum(), both.sum())]
        kappas.append(cohen_kappa_score(some[0], some[1]))
    for estimate, draws in ((found.alpha, alphas), (found.pairs[("p0", "p1")], kappas)):
        low, high = np.quantile(draws, [0.025, 0.975])
        width = high - low
        assert estimate.low == pytest.approx(low, abs=0.12 * width) and estimate.high == pytest.approx(high, abs=0.12 * width)


def test_the_same_votes_give_the_same_interval_in_any_order() -> None:
    votes = votes_of(noisy(80, 4, 5, seed=3))
    assert ag.agreement(votes) == ag.agreement(votes)
    shuffled = ag.agreement(votes.sample(frac=1, random_state=1))
    assert shuffled.alpha.value == pytest.approx(ag.agreement(votes).alpha.value)


def test_what_is_undefined_is_none_with_a_reason() -> None:
    same = ag.agreement(votes_of(np.array([["a"] * 5, ["a"] * 5])))
    for estimate in (same.alpha, same.fleiss, same.pairs[("p0", "p1")], same.classes["a"]):
        assert (estimate.value, estimate.low, estimate.note) == (None, None, ag.ONE_ANSWER)
    apart = ag.agreement(votes_of(np.array([["a", "b", "", ""], ["", "", "a", "b"]])))
    assert (apart.alpha.note, apart.fleiss.note, apart.fleiss_votes) == (ag.NO_PAIR, ag.NO_PAIR, None)
    assert apart.pairs[("p0", "p1")].note == "no face was answered by both"
    alone = ag.agreement(votes_of(np.array([["a", "b", "x"], ["a", "b", ""]])))
    assert alone.classes["x"].note == "no face with two votes has it"
    empty = ag.agreement(votes_of(np.zeros((0, 0), dtype=str)).assign(week=pd.Series(dtype="datetime64[us]")))
    assert empty.alpha.note == ag.NO_PAIR and empty.pairs == {} and empty.weeks == {} and empty.alpha.n == 0
    rare = ag.agreement(votes_of(np.array([["a"] * 4, ["a"] * 3 + ["b"]])))
    assert rare.alpha.value is None and "too few different answers" in rare.alpha.note  # three in ten resamples hold one answer only


def test_two_votes_of_one_person_on_one_face_are_refused() -> None:
    votes = votes_of(KRIPPENDORFF)
    for bad in (pd.concat([votes, votes[:1]]), votes.assign(value=votes["value"].mask(votes.index == 3)), votes.assign(person_id=None)):
        with pytest.raises(BadInput, match="Votes not usable"):
            ag.agreement(bad)


def test_a_face_belongs_to_the_week_of_its_last_vote() -> None:
    votes = votes_of(np.array([list("ab" * 20), list("ab" * 10 + "ba" * 10)]))  # one half agrees, the other does not
    week = {"2026-W01": pd.Timestamp("2025-12-29"), "2026-W02": pd.Timestamp("2026-01-05")}
    late = (votes["image_id"] >= "i00020") & (votes["person_id"] == "p1")
    found = ag.agreement(votes.assign(week=np.where(late, week["2026-W02"], week["2026-W01"])))
    assert list(found.weeks) == ["2026-W01", "2026-W02"]
    assert found.weeks["2026-W01"].value == 1 and found.weeks["2026-W01"].n == 20
    assert found.weeks["2026-W02"].value < -0.8 and found.weeks["2026-W02"].n == 20


def test_shares_have_wilson_intervals() -> None:
    found = ag.shares(pd.Series(["ann"] * 10 + ["bo"]), pd.Series([True] * 8 + [False] * 2 + [True]))
    assert (found["ann"].value, found["ann"].n) == (0.8, 10)
    assert (found["ann"].low, found["ann"].high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))  # Wilson 1927, by hand
    assert found["bo"].value == 1 and found["bo"].low < 0.25


def test_confusion_leaves_the_person_out_of_what_most_chose() -> None:
    #                        clear   own vote breaks the tie   tie   alone
    table = np.array([["a", "b", "a", "a"], ["a", "a", "a", ""], ["a", "b", "b", ""], ["b", "b", "", ""]])
    votes = votes_of(table)
    found = ag.others_choice(votes, "p0")
    assert found.to_dict() == {"i00000": "a", "i00001": "b"}  # the third is a tie of others, on the fourth nobody else voted
    assert ag.others_choice(votes, "p3").to_dict() == {"i00000": "a", "i00001": "b"}
    counts = ag.confusion(votes, "p3", ag.others_choice(votes, "p3"))
    assert counts.to_numpy().tolist() == [[0, 1], [0, 1]] and list(counts.index) == list(counts.columns) == ["a", "b"]
    assert ag.others_choice(votes, "nobody").empty


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_confusion_equals_a_loop(seed: int) -> None:
    votes = votes_of(noisy(30, 4, 3, seed))
    expected: dict[tuple[str, str], int] = {}
    for row in votes[votes["person_id"] == "p1"].itertuples():
        others = votes[(votes["image_id"] == row.image_id) & (votes["person_id"] != "p1")]["value"].value_counts()
        if len(others) and (others == others.iloc[0]).sum() == 1:
            expected[others.index[0], row.value] = expected.get((others.index[0], row.value), 0) + 1
    counts = ag.confusion(votes, "p1", ag.others_choice(votes, "p1"))
    assert {k: int(v) for k, v in counts.stack().items() if v} == expected


def test_serial_dependence_against_every_order() -> None:
    values = list("aaabbc")
    orders = [np.mean([x == y for x, y in pairwise(o)]) for o in set(permutations(values))]
    found = ag.serial_dependence(pd.Series(values))
    assert found.observed == pytest.approx(3 / 5) and found.chance.value == pytest.approx(np.mean(orders)) and found.chance.n == 6
    assert (found.chance.low, found.chance.high) == (pytest.approx(np.quantile(orders, 0.025)), pytest.approx(np.quantile(orders, 0.975)))


def test_serial_dependence_tells_a_sticky_annotator_from_a_fair_one() -> None:
    rng = np.random.default_rng(0)
    fair = rng.integers(0, 7, 2000).astype(str)
    sticky = fair.copy()
    for i in range(1, len(sticky)):
        if rng.random() < 0.1:
            sticky[i] = sticky[i - 1]
    assert ag.serial_dependence(pd.Series(sticky)).observed > ag.serial_dependence(pd.Series(sticky)).chance.high
    plain = ag.serial_dependence(pd.Series(fair))
    assert plain.chance.low <= plain.observed <= plain.chance.high
    assert ag.serial_dependence(pd.Series(["a"] * 9)).chance.note == ag.ONE_ANSWER
    assert ag.serial_dependence(pd.Series(["a"])).observed is None and ag.serial_dependence(pd.Series(dtype=str)).chance.n == 0


def test_a_break_is_due_after_25_minutes_without_a_pause() -> None:
    from fercore.curation.quality import break_due

    at = datetime(2026, 3, 2, 12, tzinfo=UTC).replace(tzinfo=None)

    def acts(*minutes: float) -> pd.Series:
        return pd.Series([pd.Timestamp(at) - timedelta(minutes=m) for m in sorted(minutes, reverse=True)], dtype="datetime64[us]")

    steady = [m / 2 for m in range(52)]
    assert break_due(acts(*steady), at)
    assert not break_due(acts(*[m for m in steady if not 10 < m < 12.5]), at)  # a pause of 2.5 minutes
    assert not break_due(acts(*[m for m in steady if m < 24]), at)  # began 24 minutes ago
    assert not break_due(acts(*steady) - timedelta(minutes=3), at)  # stopped 3 minutes ago
    assert not break_due(acts(), at)
