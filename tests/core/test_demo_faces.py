"""The demo set holds the problems it says it holds, and is the same on every call."""

import numpy as np
import pandas as pd
import pytest

from fercore.demo_faces import COPIES, PROBLEMS, USAGES, DemoSet, draw_demo
from fercore.domain import Pixels
from fercore.errors import BadInput
from fercore.schemes import AGE_BANDS, FER7, FERPLUS_COLUMNS, GENDERS

N = 400


@pytest.fixture(scope="module")
def demo() -> DemoSet:
    return draw_demo(N, seed=7)


@pytest.fixture(scope="module")
def table(demo: DemoSet) -> pd.DataFrame:
    return demo.rows.merge(demo.truth, on="row", validate="1:1").assign(mean=demo.pixels.mean((1, 2)))


def planted(table: pd.DataFrame, problem: str) -> pd.DataFrame:
    found = table[table["problem"] == problem]
    assert len(found) == max(1, round(N * PROBLEMS[problem]))
    return found


def test_equal_seeds_draw_equal_bytes_and_other_seeds_do_not(demo: DemoSet) -> None:
    again, other = draw_demo(N, seed=7), draw_demo(N, seed=8)
    assert demo.pixels.tobytes() == again.pixels.tobytes()
    pd.testing.assert_frame_equal(demo.rows, again.rows)
    pd.testing.assert_frame_equal(demo.truth, again.truth)
    assert not (demo.pixels == other.pixels).all((1, 2)).any()
    assert not demo.rows.equals(other.rows)


def test_shapes_types_and_values(demo: DemoSet) -> None:
    rows, truth = demo.rows, demo.truth
    assert demo.pixels.shape == (N, 48, 48) and demo.pixels.dtype == np.uint8
    assert list(rows.columns) == ["row", "label", "usage", "age_band", "gender", *FERPLUS_COLUMNS]
    assert list(truth.columns) == ["row", "true_label", "intensity", "problem", "copy_of", "cross_split"]
    assert rows["row"].tolist() == truth["row"].tolist() == list(range(N))
    assert set(rows["label"]) == set(FER7.ids) == set(truth["true_label"].dropna())
    assert set(rows["age_band"].dropna()) == {"young", "middle_aged", "senior"} < set(AGE_BANDS.ids)
    assert set(rows["gender"].dropna()) == set(GENDERS.ids)
    for usage, share in USAGES.items():
        assert (rows["usage"] == usage).mean() == pytest.approx(share, abs=0.03)


def test_only_non_faces_lack_a_truth(table: pd.DataFrame) -> None:
    without = table["problem"] == "non_face"
    planted(table, "non_face")
    for column in ("true_label", "intensity", "age_band", "gender"):
        assert table[column].isna().tolist() == without.tolist()
    assert (table.loc[without, "NF"] >= 6).all()


def test_votes_sum_to_ten_and_mostly_name_the_truth(table: pd.DataFrame) -> None:
    votes = table[list(FERPLUS_COLUMNS)]
    assert (votes.sum(axis=1) == 10).all() and (votes >= 0).all(axis=None)
    winner = votes.idxmax(axis=1).map(FERPLUS_COLUMNS)
    assert (winner == table["true_label"].fillna("non_face")).mean() > 0.9
    assert (votes.max(axis=1) < 10).mean() > 0.3  # people disagree


def test_labels_are_wrong_only_where_planted(table: pd.DataFrame) -> None:
    assert len(planted(table, "wrong_label")) / N == pytest.approx(0.05, abs=0.005)
    wrong = (table["label"] != table["true_label"]) & table["true_label"].notna()
    assert wrong.tolist() == table["problem"].isin(["wrong_label", "conflicting_duplicate"]).tolist()


def test_exact_and_conflicting_duplicates_have_the_bytes_of_their_source(demo: DemoSet, table: pd.DataFrame) -> None:
    for problem, same_label in (("exact_duplicate", True), ("conflicting_duplicate", False)):
        for copy in planted(table, problem).itertuples():
            assert demo.pixels[copy.row].tobytes() == demo.pixels[copy.copy_of].tobytes()
            assert (copy.label == table["label"][copy.copy_of]) is same_label
    assert len(np.unique(demo.pixels, axis=0)) == N - table["problem"].isin(["exact_duplicate", "conflicting_duplicate"]).sum()


def likeness(copy: Pixels, source: Pixels) -> float:
    """Highest correlation with `source` moved by up to one pixel, straight or mirrored."""
    inner = copy[1:-1, 1:-1].ravel()
    moved = [s[y:y + 46, x:x + 46].ravel() for s in (source, source[:, ::-1]) for y in range(3) for x in range(3)]
    return float(max(np.corrcoef(inner, m)[0, 1] for m in moved))


def test_near_duplicates_are_close_but_not_equal(demo: DemoSet, table: pd.DataFrame) -> None:
    for copy in planted(table, "near_duplicate").itertuples():
        pixels, source = demo.pixels[copy.row], demo.pixels[copy.copy_of]
        assert (pixels != source).any()
        assert likeness(pixels, source) > 0.9 > likeness(pixels, demo.pixels[copy.copy_of - 1])
        assert copy.label == table["label"][copy.copy_of]


def test_copies_point_at_distinct_sound_sources(table: pd.DataFrame) -> None:
    copies = table[table["problem"].isin(COPIES)]
    assert table["copy_of"].notna().tolist() == table["problem"].isin(COPIES).tolist()
    assert copies["copy_of"].is_unique
    assert (table["problem"][copies["copy_of"]] == "none").all()


def test_cross_split_copies_lie_in_the_other_split(table: pd.DataFrame) -> None:
    copies = table[table["problem"].isin(COPIES)]
    source_usage = table["usage"][copies["copy_of"]].to_numpy()
    assert ((copies["usage"] != source_usage) == copies["cross_split"]).all()
    crossing = copies[copies["cross_split"]]
    assert set(crossing["usage"]) | set(table["usage"][crossing["copy_of"]]) == {"Training", "PublicTest"}
    assert len(crossing) == -(-len(copies) // 2)
    assert not table.loc[~table["problem"].isin(COPIES), "cross_split"].any()


def test_only_planted_images_are_dark_or_bright(table: pd.DataFrame) -> None:
    assert (planted(table, "dark")["mean"] < 40).all() and (planted(table, "bright")["mean"] > 230).all()
    assert table.loc[~table["problem"].isin(["dark", "bright"]), "mean"].between(50, 225).all()


def test_seniors_show_weaker_expressions(table: pd.DataFrame) -> None:
    mean = table.groupby("age_band")["intensity"].mean()
    assert mean["senior"] + 0.3 < mean["middle_aged"] < mean["young"]


@pytest.mark.parametrize(("n", "seed"), [(99, 7), (400, -1)])
def test_what_cannot_be_drawn_is_refused(n: int, seed: int) -> None:
    with pytest.raises(BadInput):
        draw_demo(n, seed)
