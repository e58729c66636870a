"""The audit: every check finds what was planted and keeps its counts; findings have a life; nothing changes a face."""

import gzip
import json
import statistics
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from helpers import ANNOTATOR, LEAD, REVIEWER, SHARED_DATA, fer_line, needs_real_data, some_faces, write_fer, write_votes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from skimage.data import lfw_subset

from fercore import audit, curation, ingest, versions
from fercore.audit import actions, near, ranks
from fercore.audit.checks import CHECKS, fences, measure
from fercore.audit.transforms import transform
from fercore.curation import campaigns
from fercore.demo_faces import draw_demo
from fercore.domain import Pixels, image_id, sample_id
from fercore.errors import BadInput, NotAllowed, NotFound
from fercore.store import Store, findings, labels, samples
from fercore.store import campaigns as campaign_table


@pytest.fixture(scope="module")
def faces() -> Pixels:
    """Drawn faces, smooth as photographs are, none of them alike: uint8 [300, 48, 48]."""
    rng = np.random.default_rng(3)
    waves = rng.normal(size=(300, 7, 7))
    out = np.stack([cv2.resize(w, (48, 48), interpolation=cv2.INTER_CUBIC) for w in waves])
    out += 0.15 * rng.normal(size=out.shape)
    return np.clip(128 + 45 * out, 0, 255).astype(np.uint8)


def brought(store: Store, tmp_path: Path, pixels: Pixels, name: str = "f", splits: list[str] | None = None) -> None:
    lines = [fer_line(i % 7, p, (splits or ["Training"] * len(pixels))[i]) for i, p in enumerate(pixels)]
    ingest.import_fer2013(store, LEAD, write_fer(tmp_path / f"{name}.csv", lines), name=name)


def rows_of(store: Store, kind: str) -> list[int]:
    return [r[0] for r in store.rows("SELECT s.source_row FROM findings AS f JOIN samples AS s USING (sample_id) WHERE f.kind = $k ORDER BY ALL",
                                     {"k": kind})]


# ---- measures -------------------------------------------------------------------------------------------------------------------


def test_measures_are_what_they_say(faces: Pixels) -> None:
    from scipy.ndimage import laplace

    some = faces[:20]
    found = measure(np.concatenate([some, np.full((1, 48, 48), 90, np.uint8)]))
    flat = some.reshape(20, -1).astype(float)
    assert found["contrast"][:20] == pytest.approx(np.percentile(flat, 95, axis=1) - np.percentile(flat, 5, axis=1), abs=1)
    expected = [laplace(f.astype(float), mode="mirror").var() / f.astype(float).var() for f in some]
    assert found["sharpness"][:20] == pytest.approx(expected, rel=1e-3)
    assert found["contrast"][20] == found["sharpness"][20] == 0
    assert [len(v) for v in measure(faces[:0]).values()] == [0, 0]


def test_sharpness_falls_with_blur_and_not_with_light_or_contrast(faces: Pixels) -> None:
    rng, face = np.random.default_rng(0), faces[:1]
    sharp = measure(face)["sharpness"][0]
    assert measure(near.blur(face[0], rng)[None])["sharpness"][0] < 0.5 * sharp
    paler = (100 + face.astype(float) * 0.4).astype(np.uint8)
    assert measure(paler)["sharpness"][0] == pytest.approx(sharp, rel=0.1)


@given(st.lists(st.floats(0, 255), min_size=1, max_size=60))
def test_fences_are_tukeys_by_the_definition_of_percentiles(values: list[float]) -> None:
    ordered = sorted(values)

    def percentile(p: float) -> float:
        at = p * (len(ordered) - 1)
        low = int(at)
        return ordered[low] + (at - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])

    q1, q3 = percentile(0.25), percentile(0.75)
    found = fences(np.array(values))
    expected = {"least": min(values), "q1": q1, "median": statistics.median(values), "q3": q3, "greatest": max(values),
                "lower": q1 - 1.5 * (q3 - q1), "upper": q3 + 1.5 * (q3 - q1)}
    assert found == pytest.approx(expected, abs=1e-9)


def test_dim_pale_and_blank_faces_are_found(store: Store, tmp_path: Path, faces: Pixels) -> None:
    some = faces[:60].copy()
    some[0] //= 8
    some[1] = 225 + some[1] // 9
    some[2] = 120
    some[3] = (110 + some[3] / 10).astype(np.uint8)
    for _ in range(4):
        some[4] = near.blur(some[4], np.random.default_rng(0))
    brought(store, tmp_path, some)
    audit.run(store, LEAD)
    assert rows_of(store, "dark") == [0] and rows_of(store, "bright") == [1] and 2 in rows_of(store, "flat")
    assert set(rows_of(store, "low_contrast")) == {0, 1, 2, 3} and {2, 4} <= set(rows_of(store, "blurred"))
    assert set(rows_of(store, "mean_outlier")) == {0, 1}
    evidence = json.loads(store.value("SELECT evidence FROM findings WHERE kind = 'dark'"))
    assert evidence["mean"] < evidence["lower"] == 40


def test_the_registry_says_what_each_kind_means() -> None:
    for check in CHECKS.values():
        assert check.name and check.meaning.endswith(".") and (check.bound is None or check.fitted)
        assert check.bound is None or check.slider[0] <= check.bound <= check.slider[1]


# ---- the life of a finding ------------------------------------------------------------------------------------------------------


def test_findings_keep_when_they_were_seen_and_are_marked_gone(store: Store, tmp_path: Path, faces: Pixels) -> None:
    some = faces[:30].copy()
    some[0] //= 8
    some[1] = (some[1] / 2.7).astype(np.uint8)  # mean above 40
    brought(store, tmp_path, some)
    audit.run(store, LEAD)
    first = store.value("SELECT recorded_at FROM findings WHERE kind = 'dark'")
    audit.set_bound(store, LEAD, "dark", 60)
    assert rows_of(store, "dark") == [0, 1]
    audit.run(store, LEAD)
    kept, = store.rows("SELECT recorded_at, seen_at FROM findings WHERE kind = 'dark' AND sample_id = $s", {"s": sample_id("f", 0)})
    assert kept[0] == first < kept[1]
    audit.set_bound(store, LEAD, "dark", 40)
    assert rows_of(store, "dark") == [0]
    assert store.rows("SELECT count(*), count(gone_at) FROM finding_history WHERE kind = 'dark'") == [(2, 1)]


def test_an_audit_without_depth_leaves_the_deep_findings(store: Store, tmp_path: Path, faces: Pixels) -> None:
    brought(store, tmp_path, np.concatenate([faces[:40], faces[:1, :, ::-1]]))
    audit.run(store, LEAD)
    assert rows_of(store, "near_duplicate") == [] and audit.stale(store) == 41
    steps: list[tuple[str, float]] = []
    audit.run(store, LEAD, deep=True, progress=lambda what, share: steps.append((what, share)))
    assert rows_of(store, "near_duplicate") == [0, 40] and audit.stale(store) == 0
    assert [s for _, s in steps] == sorted(s for _, s in steps) and steps[-1] == ("Done", 1.0)
    audit.run(store, LEAD)
    assert rows_of(store, "near_duplicate") == [0, 40]


Plan = list[tuple[set[str], dict[tuple[str, str | None, str | None], float]]]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])  # the test empties what it uses
@given(plan=st.lists(st.tuples(st.sets(st.sampled_from(["dark", "flat"]), min_size=1), st.dictionaries(
    st.tuples(st.sampled_from(["dark", "flat"]), st.sampled_from(["a", "b", None]), st.sampled_from(["g", None])), st.floats(0, 1), max_size=6)),
    min_size=1, max_size=6))
def test_findings_come_stay_go_and_come_back_as_a_plain_list_says(store: Store, plan: Plan) -> None:
    with store.write("findings") as w:
        w.run("DELETE FROM facts.finding")
    rows: list[dict[str, Any]] = []
    for step, (kinds, given_) in enumerate(plan):
        found = {key: score for key, score in given_.items() if key[0] in kinds}
        findings.settle(store, sorted(kinds), pd.DataFrame([(k, s, s, g, score, "{}") for (k, s, g), score in found.items()],
                                                           columns=list(findings.COLUMNS)))
        for row in (r for r in rows if r["gone"] is None and r["key"][0] in kinds):
            row |= {"score": found[row["key"]], "seen": step} if row["key"] in found else {"gone": step}
        known = {r["key"] for r in rows if r["gone"] is None}
        rows += [{"key": key, "score": score, "first": step, "seen": step, "gone": None} for key, score in found.items() if key not in known]
    here = store.rows("SELECT kind, sample_id, group_id, score, recorded_at, seen_at, gone_at FROM finding_history")
    order = {t: i for i, t in enumerate(sorted({t for r in here for t in r[4:] if t}))}
    steps = {step: i for i, step in enumerate(sorted({v for r in rows for v in (r["first"], r["seen"], r["gone"]) if v is not None}))}
    assert Counter((*r[:4], *(order.get(t) for t in r[4:])) for r in here) == Counter(
        (*r["key"], r["score"], *(steps.get(r[k]) for k in ("first", "seen", "gone"))) for r in rows)


@pytest.mark.parametrize("after", ["Measuring the pixels", "Comparing faces with each other", "Ranking candidates", "Settling the findings"])
def test_an_audit_that_is_cancelled_leaves_nothing_half_written_and_goes_on_later(store: Store, tmp_path: Path, faces: Pixels, after: str) -> None:
    class Stop(Exception): ...

    def stop(what: str, share: float) -> None:
        if what.startswith(after):
            raise Stop

    dim = faces[:160].copy()
    dim[0] //= 8
    brought(store, tmp_path, np.concatenate([dim, faces[5:7, :, ::-1]]))
    with pytest.raises(Stop):
        audit.run(store, LEAD, deep=True, progress=stop)
    assert findings.summary(store).empty
    assert store.rows("SELECT count(*) FROM facts.measure GROUP BY name HAVING count(*) <> 162") == []  # all images or none
    assert audit.stale(store) == (0 if after in ("Ranking candidates", "Settling the findings") else 162)
    audit.run(store, LEAD, deep=True)
    assert rows_of(store, "dark") == [0] and rows_of(store, "near_duplicate") == [5, 6, 160, 161]


def test_only_new_images_are_measured_and_compared(store: Store, tmp_path: Path, faces: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    brought(store, tmp_path, faces[:200])
    audit.run(store, LEAD, deep=True)
    brought(store, tmp_path, np.concatenate([faces[200:220], faces[5:7, :, ::-1]]), name="g", splits=["PublicTest"] * 22)
    measured: list[int] = []
    compared: list[int] = []
    real, looked = measure, near.pairs
    monkeypatch.setattr(audit, "measure", lambda p: (measured.append(len(p)), real(p))[1])
    monkeypatch.setattr(near, "pairs", lambda p, new, progress: (compared.append(int(new.sum())), looked(p, new, progress))[1])
    audit.run(store, LEAD, deep=True)
    assert sum(measured) == 22 and compared == [22]
    groups = store.rows("SELECT list(source_id || source_row ORDER BY source_id) FROM findings AS f JOIN samples AS s USING (sample_id) "
                        "WHERE kind = 'near_cross_split' GROUP BY group_id ORDER BY ALL")
    assert groups == [(["f5", "g20"],), (["f6", "g21"],)]
    audit.run(store, LEAD, deep=True)
    assert sum(measured) == 22 and compared == [22]


def test_who_may_audit_and_set_bounds(store: Store, tmp_path: Path, faces: Pixels) -> None:
    brought(store, tmp_path, faces[:10])
    for act in (lambda p: audit.run(store, p), lambda p: audit.set_bound(store, p, "dark", 50)):
        for person in (ANNOTATOR, REVIEWER):
            with pytest.raises(NotAllowed):
                act(person)
    for kind, bound in (("dark", 256), ("dark", float("nan")), ("exact_duplicate", 1)):
        with pytest.raises(BadInput):
            audit.set_bound(store, LEAD, kind, bound)
    with pytest.raises(NotFound):
        audit.set_bound(store, LEAD, "nothing", 1)


def test_an_empty_workspace_has_nothing_to_find(store: Store) -> None:
    assert audit.run(store, LEAD, deep=True).empty and audit.five_numbers(store) is None


# ---- duplicates and votes -------------------------------------------------------------------------------------------------------


def test_classes_far_from_an_equal_share_and_rejected_rows_are_told(store: Store, tmp_path: Path, faces: Pixels) -> None:
    labels = [3] * 40 + [0] * 15 + [1] * 2
    lines = [fer_line(label, f) for label, f in zip(labels, faces, strict=False)] + ["3,1 2 3,Training"]
    ingest.import_fer2013(store, LEAD, write_fer(tmp_path / "f.csv", lines))
    audit.run(store, LEAD)
    found = findings.of_set(store).set_index(["kind", "subject"])["score"].round(3).to_dict()
    assert found == {("class_imbalance", "happy"): round(40 * 3 / 57, 3), ("class_imbalance", "disgust"): round(2 * 3 / 57, 3),
                     ("undecodable", "fer2013"): 1}
    assert not {"class_imbalance", "undecodable"} & set(findings.summary(store)["kind"])


def test_divided_votes_and_votes_against_the_label(store: Store, tmp_path: Path, faces: Pixels) -> None:
    # neutral, happiness, surprise, sadness, anger, disgust, fear, contempt, unknown, NF
    votes = [[10, 0, 0, 0, 0, 0, 0, 0, 0, 0], [2, 2, 2, 2, 2, 0, 0, 0, 0, 0], [0, 6, 4, 0, 0, 0, 0, 0, 0, 0], [5, 5, 0, 0, 0, 0, 0, 0, 0, 0]]
    lines = [fer_line(6, f) for f in faces[:4]]  # all given as neutral
    ingest.import_fer2013(store, LEAD, write_fer(tmp_path / "f.csv", lines), ferplus=write_votes(tmp_path / "v.csv", votes, ["Training"] * 4))
    audit.run(store, LEAD)
    assert rows_of(store, "disputed") == [1] and rows_of(store, "votes_against_label") == [2]
    assert store.value("SELECT score FROM findings WHERE kind = 'disputed'") == pytest.approx(np.log2(5))


# ---- near duplicates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edit", near.EDITS, ids=lambda e: e.__name__)
def test_every_edit_is_seen_through(faces: Pixels, edit) -> None:
    rng = np.random.default_rng(1)
    copies = np.stack([edit(f, rng) for f in faces[:60]])
    found = near.pairs(np.concatenate([faces, copies]))
    strong = found.similarity >= CHECKS["near_duplicate"].bound
    pairs = set(zip(found.first[strong].tolist(), found.second[strong].tolist(), strict=True))
    planted = {(i, 300 + i) for i in range(60)}
    assert len(pairs & planted) >= 55 and not pairs - planted
    turned = {(a, b) for a, b, m in zip(found.first.tolist(), found.second.tolist(), found.mirrored.tolist(), strict=True) if m}
    assert (planted & pairs <= turned) == (edit is near.mirror)


def test_other_faces_in_the_same_light_are_not_alike(faces: Pixels) -> None:
    side = np.linspace(0.1, 1.6, 48)[None, None, :]
    lit = np.clip(faces[:100] * 0.25 * side + 100 * side, 0, 255).astype(np.uint8)
    found = near.pairs(lit)
    plain = [np.corrcoef(lit[i].ravel(), lit[i + 1].ravel())[0, 1] for i in range(99)]
    assert np.median(plain) > 0.9 and not (found.similarity >= CHECKS["near_duplicate"].bound).any()


def test_a_crowd_of_copies_is_one_group_though_each_has_few_candidates(faces: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    crowd = np.stack([np.clip(faces[0] + rng.normal(0, 3, (48, 48)), 0, 255).astype(np.uint8) for _ in range(90)])
    monkeypatch.setattr(near, "MOST", 10)
    found = near.pairs(np.concatenate([crowd, faces[1:200]]))
    assert np.bincount(found.first).max() <= 10
    group = near.groups(found.first, found.second, 289)
    assert len(set(group[:90].tolist())) == 1 and len(set(group.tolist())) == 200


def test_a_comparison_that_is_cancelled_ends_at_once(faces: Pixels) -> None:
    class Stop(Exception): ...

    def stop(share: float) -> None:
        raise Stop

    with pytest.raises(Stop):
        near.pairs(faces, progress=stop)


def test_calibration_counts_planted_pairs(faces: Pixels) -> None:
    bounds = np.array([0.8, 0.9, 1.01])
    recall, precision = near.calibration(np.concatenate([faces[:200], faces[:2] // 2]), bounds)  # two true pairs that nobody planted
    assert recall[0] >= recall[1] > 0.9 and recall[2] == 0 and 0.95 < precision[1] < 1 and np.isnan(precision[2])


def test_flat_pictures_are_near_nothing(faces: Pixels) -> None:
    blank = np.stack([np.full((48, 48), v, np.uint8) for v in range(20)])
    found = near.pairs(np.concatenate([faces, blank]))
    assert not len(found.first)


def test_a_few_images_are_compared_pair_by_pair_with_the_same_result(faces: Pixels) -> None:
    some = np.concatenate([faces[:30], faces[:3, :, ::-1]])
    found = near.pairs(some)
    assert sorted(zip(found.first.tolist(), found.second.tolist(), strict=True)) == [(0, 30), (1, 31), (2, 32)] and found.mirrored.all()
    new = np.zeros(33, bool)
    new[31:] = True
    part = near.pairs(some, new)
    assert sorted(zip(part.first.tolist(), part.second.tolist(), strict=True)) == [(1, 31), (2, 32)]
    assert not len(near.pairs(some, np.zeros(33, bool)).first)


@given(st.integers(1, 30).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=40))))
def test_groups_are_what_can_be_reached_through_pairs(graph: tuple[int, list[tuple[int, int]]]) -> None:
    n, links = graph
    reached = {i: {i} for i in range(n)}
    for _ in range(n):
        for a, b in links:
            reached[a] |= reached[b]
            reached[b] |= reached[a]
    found = near.groups([a for a, _ in links], [b for _, b in links], n).tolist()
    assert all({j for j in range(n) if found[j] == found[i]} == reached[i] for i in range(n))


# ---- scores learned from answers, and ranks --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed() -> Pixels:
    """300 drawn faces, then 30 pictures of noise."""
    return np.concatenate([draw_demo(300, 5).pixels, np.random.default_rng(0).integers(0, 255, (30, 48, 48), dtype=np.uint8)])


def test_a_score_learned_from_answers_on_other_pictures_is_a_probability(mixed: Pixels) -> None:
    answers = np.concatenate([np.zeros(300), np.ones(24), np.full(6, np.nan)])  # nobody was asked about the last six
    found = ranks.scores("non_face", mixed, answers, np.arange(330), lambda: ranks.features(mixed))
    assert found.learned and found.score[324:].min() > 0.5 > np.quantile(found.score[:300], 0.99)
    assert found.score[:324].sum() == pytest.approx(24, abs=0.5)  # as many are expected as there are


def test_where_only_yes_was_said_pictures_nobody_was_asked_about_stand_for_no(mixed: Pixels) -> None:
    answers = np.concatenate([np.full(300, np.nan), np.ones(30)])
    assert ranks.scores("artificial", mixed, answers, np.arange(330), lambda: ranks.features(mixed)).learned
    answers[311:] = np.nan
    assert not ranks.scores("artificial", mixed, answers, np.arange(330), lambda: ranks.features(mixed)).learned  # eleven are too few


def test_a_picture_is_never_scored_by_a_model_that_saw_it_or_its_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[set[int], set[int]]] = []

    class Spy:
        def __init__(self, **_: object) -> None: ...

        def fit(self, x: np.ndarray, y: np.ndarray) -> "Spy":
            self.taught = set(x[:, 0].astype(int).tolist())
            return self

        def decision_function(self, x: np.ndarray) -> np.ndarray:
            seen.append((self.taught, set(x[:, 0].astype(int).tolist())))
            return np.zeros(len(x))

    groups = np.repeat(np.arange(60), 2)
    monkeypatch.setattr(ranks, "SVC", Spy)
    ranks.scores("non_face", np.zeros((120, 48, 48), np.uint8), (np.arange(120) % 8 < 2).astype(float), groups,
                 lambda: groups[:, None].astype(np.float32))
    assert len(seen) == 5 and all(not taught & tested for taught, tested in seen)


def test_without_answers_what_is_unusual_comes_first(mixed: Pixels) -> None:
    found = ranks.scores("non_face", mixed[:306], np.full(306, np.nan), np.arange(306), lambda: pytest.fail("nothing is learned"))
    assert not found.learned and (found.score[300:] > 0.9).all() and found.score.max() < 1


def test_the_faces_and_non_faces_of_scikit_image_are_told_apart() -> None:
    pixels = np.stack([cv2.resize(np.rint(255 * p).astype(np.uint8), (48, 48), interpolation=cv2.INTER_CUBIC) for p in lfw_subset()])
    answers = np.repeat([0.0, 1.0], 100)
    found = ranks.scores("non_face", pixels, answers, np.arange(200), lambda: ranks.features(pixels))
    assert found.learned and ((found.score > 0.5) == answers).mean() >= 0.97


def test_drawings_and_faces_turned_away_come_first(faces: Pixels) -> None:
    cartoon = (faces[:12] // 64 * 64).astype(np.uint8)  # four grey values
    even = ((faces[12:200].astype(int) + faces[12:200, :, ::-1]) // 2).astype(np.uint8)  # as alike left and right as fronts are
    for kind, marked in (("artificial", cartoon), ("extreme_pose", faces[:12])):
        found = ranks.scores(kind, np.concatenate([even, marked]), np.full(200, np.nan), np.arange(200), lambda: pytest.fail("nothing is learned"))
        assert (found.score[188:] > 0.9).all(), kind


def test_the_audit_takes_the_answers_of_people_before_imported_votes(store: Store, tmp_path: Path, faces: Pixels,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [fer_line(6, f) for f in faces[:5]]
    votes = [[10] + [0] * 9, [0] * 9 + [10], [6] + [0] * 8 + [4], [0] * 10, [0] * 9 + [10]]
    ingest.import_fer2013(store, LEAD, write_fer(tmp_path / "f.csv", lines), ferplus=write_votes(tmp_path / "v.csv", votes, ["Training"] * 5))
    actions.mark(store, REVIEWER, ids_of(faces[4:5]), "flag_non_face", "no")
    actions.mark(store, REVIEWER, ids_of(faces[:1]), "flag_artificial", "yes")
    asked: dict[str, dict[str, float]] = {}

    def answered(kind: str, pixels: Pixels, answers: np.ndarray, groups: np.ndarray, features: object) -> ranks.Scores:
        asked[kind] = dict(zip([image_id(p) for p in pixels], answers.tolist(), strict=True))
        return ranks.Scores(np.array([0.0, 0.2, 0.49, 0.51, 0.995]), kind == "non_face")

    monkeypatch.setattr(ranks, "scores", answered)
    audit.run(store, LEAD, deep=True)
    known = [asked["non_face"][i] for i in ids_of(faces[:5])]
    assert known[:3] == [0, 1, 0.4] and np.isnan(known[3]) and known[4] == 0
    assert [i for i, share in asked["artificial"].items() if share == 1] == ids_of(faces[:1]) and sum(map(np.isnan, asked["artificial"].values())) == 4
    # A probability from 0.5 on, a rank from 0.99 on.
    assert (len(rows_of(store, "non_face")), len(rows_of(store, "extreme_pose"))) == (2, 1)
    assert (audit.bound_of(store, "non_face"), audit.bound_of(store, "artificial")) == (0.5, 0.99)
    asked.clear()
    audit.run(store, LEAD, deep=True)
    assert not asked  # nothing new: not asked again
    actions.mark(store, REVIEWER, ids_of(faces[1:2]), "flag_extreme_pose", "yes")
    audit.run(store, LEAD, deep=True)
    assert list(asked) == ["extreme_pose"]


def test_candidates_are_hidden_from_who_has_yet_to_answer(store: Store) -> None:
    hidden = {"non_face", "artificial", "extreme_pose"}
    assert not hidden & set(audit.kinds_for(ANNOTATOR)) and hidden <= set(audit.kinds_for(REVIEWER))
    for kind in hidden:
        for read in (audit.calibration, audit.measured):
            with pytest.raises(NotAllowed):
                read(store, ANNOTATOR, kind)


def test_a_calibration_says_what_each_bound_would_do(store: Store, tmp_path: Path, faces: Pixels) -> None:
    some = faces[:200].copy()
    some[0] = 100  # on a bound is not below it
    brought(store, tmp_path, some)
    audit.run(store, LEAD)
    shown = audit.calibration(store, REVIEWER, "dark").set_index("bound")
    means = some.reshape(200, -1).mean(axis=1)
    assert len(shown) == 256 and shown["recall"].isna().all()
    assert all(shown.loc[b, "flagged"] == pytest.approx((means < b).mean()) for b in (0, 100, 128, 150, 255))
    alike = audit.calibration(store, REVIEWER, "near_duplicate").set_index("bound")
    assert alike.loc[0.9, "recall"] > 0.9 and alike.loc[0.9, "precision"] > 0.99 and alike["recall"].is_monotonic_decreasing
    assert audit.calibration(store, REVIEWER, "exact_duplicate").empty
    with pytest.raises(NotFound):
        audit.calibration(store, REVIEWER, "nothing")

    ids, score = ids_of(some), np.arange(200) / 200
    findings.save_measures(store, ids, {"artificial": score}, "ranks@1 learned")
    actions.mark(store, REVIEWER, ids[150:], "flag_artificial", "yes")
    actions.mark(store, REVIEWER, ids[80:150], "flag_artificial", "no")
    shown = audit.calibration(store, REVIEWER, "artificial").set_index("bound")
    assert shown.loc[0.5].tolist() == pytest.approx([1, 50 / 99, 99 / 200]) and shown.loc[0.75, "recall"] == pytest.approx(49 / 50)
    assert np.isnan(shown.loc[1.0, "precision"])


# ---- acts on findings -----------------------------------------------------------------------------------------------------------


def ids_of(pixels: Pixels) -> list[str]:
    return [image_id(p) for p in pixels]


def test_an_act_on_many_faces_is_one_gesture_and_undone_as_one(store: Store, tmp_path: Path, faces: Pixels) -> None:
    brought(store, tmp_path, faces[:20])
    own = actions.mark(store, REVIEWER, ids_of(faces[:1]), "flag_artificial", "no")
    act = actions.mark(store, REVIEWER, ids_of(faces[:5]), "flag_artificial", "yes")
    assert act.faces == 5 and store.rows("SELECT count(*), count(DISTINCT gesture), any_value(mode) FROM label_events WHERE gesture = $g::UUID",
                                         {"g": act.gesture}) == [(5, 1, "audit_bulk")]
    flagged = "SELECT count(*) FROM samples WHERE flags = 'artificial'"
    assert store.value(flagged) == 5
    done = actions.last(store, REVIEWER)
    assert [(d["gesture"], d["faces"], d["value"]) for d in done] == [(act.gesture, 5, "yes"), (own.gesture, 1, "no")]
    with pytest.raises(NotFound):
        actions.undo(store, LEAD, act.gesture)  # not the lead's
    assert actions.undo(store, REVIEWER, act.gesture) == 5 and store.value(flagged) == 0
    assert store.rows("SELECT value FROM standing") == [("no",)]  # what stood before stands again
    with pytest.raises(NotFound, match="Nothing to undo"):
        actions.undo(store, REVIEWER, act.gesture)
    assert labels.broken_block(store) is None and labels.standing_differences(store) == 0


def test_acts_that_cannot_be_are_refused_whole(store: Store, tmp_path: Path, faces: Pixels) -> None:
    brought(store, tmp_path, faces[:5])
    here = ids_of(faces[:2])
    for args in (([], "flag_dark", "yes"), (here, "expression", "sad"), (here, "exclude", "because"), (here, "transform", "brighten_9"),
                 ([*here, "0" * 64], "exclude", "dark")):
        with pytest.raises(BadInput):
            actions.mark(store, LEAD, *args)
    with pytest.raises(NotAllowed):
        actions.mark(store, ANNOTATOR, here, "exclude", "dark")
    with pytest.raises(NotFound):
        actions.keep_one(store, LEAD, ["nothing"])
    assert store.value("SELECT count(*) FROM label_events") == 0


def test_of_a_group_of_near_duplicates_the_sharpest_stays(store: Store, tmp_path: Path, faces: Pixels) -> None:
    rng = np.random.default_rng(0)
    dull = [near.blur(faces[i], rng) for i in range(3)]
    brought(store, tmp_path, np.concatenate([faces[:40], np.stack(dull)]))
    audit.run(store, LEAD, deep=True)
    groups = findings.group_ids(store, "near_duplicate")["group_id"].tolist()
    assert len(groups) == 3
    actions.keep_one(store, LEAD, groups)
    assert findings.edits(store).set_index("image_id")["exclude"].to_dict() == dict.fromkeys(ids_of(np.stack(dull)), "duplicate")


def test_a_review_queue_hands_out_the_most_marked_first(store: Store, tmp_path: Path, faces: Pixels) -> None:
    some = faces[:40].copy()
    for i in range(30):
        some[i] = (some[i].astype(float) * (0.05 + 0.007 * i)).astype(np.uint8)
    brought(store, tmp_path, some)
    audit.run(store, LEAD)
    campaign = actions.queue(store, REVIEWER, "low_contrast")
    spec, state = campaigns.find(store, campaign)
    assert state == "open" and spec.priority == "finding" and spec.finding == "low_contrast" and spec.votes == 3
    scores = store.frame(campaign_table._SCORE["finding"], {"finding": "dark"}).merge(store.frame("SELECT image_id, mean FROM images"))
    assert len(scores) > 3 and (scores.sort_values("score", ascending=False)["mean"].diff().dropna() >= 0).all()  # the darkest first
    wall = campaigns.find(store, actions.queue(store, REVIEWER, "dark"))[0]
    assert wall.ask == ("flag_dark",) and wall.grid and wall.claim == "yes"
    block = curation.block(store, ANNOTATOR, campaign, "client", 1).faces  # a block is a part of what is open, the most marked of it
    most = findings.of_kind(store, "low_contrast", limit=len(block))["image_id"]
    assert 20 <= len(block) < len(rows_of(store, "low_contrast")) and set(block["image_id"]) == set(most)
    with pytest.raises(BadInput):
        actions.queue(store, REVIEWER, "bright")  # no face has it
    with pytest.raises(NotAllowed):
        actions.queue(store, ANNOTATOR, "dark")


def test_edits_of_pixels_are_those_of_pillow() -> None:
    ramp = np.arange(256, dtype=np.uint8)[None, :].repeat(2, axis=0)
    for name in ("brighten_1.25", "brighten_1.5", "brighten_2"):
        expected = np.asarray(ImageEnhance.Brightness(Image.fromarray(ramp)).enhance(float(name.partition("_")[2])))
        assert (transform(ramp, name) == expected).all()
    gamma = transform(ramp, "gamma_0.5")[0]
    assert gamma[0] == 0 and gamma[255] == 255 and gamma[64] == round(255 * (64 / 255) ** 0.5) and (np.diff(gamma.astype(int)) >= 0).all()
    with pytest.raises(BadInput):
        transform(ramp, "brighten_7")


def test_a_version_leaves_out_what_was_excluded_and_brightens_copies(store: Store, tmp_path: Path, small_file: Path) -> None:
    ingest.import_fer2013(store, LEAD, small_file)
    pixels = some_faces(70)
    out, dim = image_id(pixels[20]), image_id(pixels[21])
    actions.mark(store, REVIEWER, [out], "exclude", "blurred")
    actions.mark(store, LEAD, [out], "exclude", "dark")  # two reasons: out all the same
    brightened = actions.mark(store, LEAD, [dim], "transform", "brighten_1.5")
    made = versions.freeze(store, LEAD, versions.Recipe(transforms=("brighten",)), "a")
    rows = versions.manifest(store.workspace, made).sort_values("sample_id", ignore_index=True)
    assert rows.loc[rows["image_id"] == out, "exclusion"].tolist() == ["excluded: several reasons"]
    included = rows[rows["exclusion"].isna()].reset_index(drop=True)
    at = int(included.index[included["image_id"] == dim][0])
    assert (versions.pixels_of(store.workspace, made)[at] == transform(pixels[21], "brighten_1.5")).all()
    assert included.loc[at, "transform"] == "brighten_1.5" and included["transform"].notna().sum() == 1
    assert (samples.pixels(store, [dim])[0] == pixels[21]).all()  # the store keeps the face as it came
    assert versions.verify(store.workspace, made) == []
    path = store.workspace.versions / made / "pixels.npy"
    stack = np.load(path)
    stack[at] = pixels[21]
    np.save(path, stack)
    assert "images differ" in versions.verify(store.workspace, made)[0]
    plain = versions.manifest(store.workspace, versions.freeze(store, LEAD, versions.Recipe(drop_excluded=False), "b"))
    assert plain.loc[plain["image_id"] == out, "exclusion"].isna().all() and plain["transform"].isna().all()
    actions.undo(store, LEAD, brightened.gesture)
    again = versions.manifest(store.workspace, versions.freeze(store, LEAD, versions.Recipe(transforms=("brighten",)), "a"))
    assert again["transform"].isna().all()


# ---- the shared real file -------------------------------------------------------------------------------------------------------


@needs_real_data
def test_the_real_file_gives_the_audited_counts_recomputed_from_its_text(store: Store) -> None:
    """Nothing of fercore counts here: the pixel text of the CSV itself, and the votes file."""
    seen: dict[bytes, list[tuple[bytes, bytes]]] = defaultdict(list)
    emotions = []
    with gzip.open(SHARED_DATA / "fer2013.csv.gz", "rb") as file:
        next(file)
        for line in file:
            emotion, pixels, usage = line.rstrip().split(b",")
            seen[pixels].append((emotion, usage))
            emotions.append(int(emotion))
    conflicting = {p for p, rows in seen.items() if len({e for e, _ in rows}) > 1}
    across = {p for p, rows in seen.items() if len({u for _, u in rows}) > 1}
    bright = {p for p in seen if np.fromstring(p, sep=" ").mean() > 230}

    def rows(of: set[bytes]) -> int:
        return sum(len(seen[p]) for p in of)

    assert (rows(set(seen)) - len(seen), rows(conflicting), len(conflicting), rows(across), len(across)) == (1532, 129, 47, 631, 270)
    assert (rows(bright), rows(set(seen) - conflicting - bright)) == (24, 32_145)

    ingest.import_fer2013(store, LEAD, SHARED_DATA / "fer2013.csv.gz", ferplus=SHARED_DATA / "fer2013new.csv")
    audit.run(store, LEAD)
    found = findings.summary(store).set_index("kind")[["n_samples", "n_groups"]]
    copied = {p for p in seen if len(seen[p]) > 1}
    assert found.loc["exact_duplicate"].tolist() == [rows(copied), len(copied)] and rows(copied) - len(copied) == 1532
    assert found.loc["conflicting_duplicate"].tolist() == [129, 47] and found.loc["cross_split_duplicate"].tolist() == [631, 270]
    assert found.loc["bright", "n_samples"] == 24
    assert store.value("SELECT count(*) FROM samples WHERE sample_id NOT IN "
                       "(SELECT sample_id FROM findings WHERE kind IN ('bright', 'conflicting_duplicate'))") == 32_145

    votes = pd.read_csv(SHARED_DATA / "fer2013new.csv")
    answers = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF"]
    assert (int((votes["NF"] == 0).sum()), int(((votes["NF"] == 0) & (votes["unknown"] < 5)).sum())) == (32_021, 31_950)
    shares = votes[answers].div(votes[answers].sum(axis=1), axis=0)
    bits = -(shares * np.log2(shares.where(shares > 0, 1))).sum(axis=1)
    assert found.loc["disputed", "n_samples"] == int((bits > 2 + 1e-9).sum())
    names = ["neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt", "unknown", "non_face"]
    given = [["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"][e] for e in emotions]
    top = votes[answers].max(axis=1)
    clear = (votes[answers].eq(top, axis=0).sum(axis=1) == 1) & (votes[answers].idxmax(axis=1).map(dict(zip(answers, names, strict=True))) != given)
    assert found.loc["votes_against_label", "n_samples"] == int(clear.sum())
