"""Recipes: documents whose mistakes are named with their line, a funnel that adds up, targets, folds, and one hash for the same facts."""

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import ANNOTATOR, LEAD, SHARED_DATA, fer_line, needs_real_data, some_faces, write_fer, write_votes
from hypothesis import given, settings
from hypothesis import strategies as st
from uuid_utils import uuid7

from fercore import audit, curation, ingest, versions
from fercore.audit.transforms import transformed
from fercore.curation import schemes
from fercore.curation.rules import COLUMNS, Ballots
from fercore.domain import SPLITS, Workspace, image_id, sample_id
from fercore.errors import BadInput, NotFound
from fercore.schemes import FER7, SCHEMES
from fercore.store import Store, samples
from fercore.store import people as people_table
from fercore.store import versions as version_table
from fercore.training.data import read_version
from fercore.versions.document import Exclude, Labels, Split, Target, restated, stated
from fercore.versions.expression import NAMES, Condition
from fercore.versions.recipe import Facts, Recipe, apply, make

N = 210


def table(n: int = N, **columns: Any) -> pd.DataFrame:
    """n rows of one source, 1 in 5 for testing, as the store gives them."""
    labels = [FER7.ids[i % 7] for i in range(n)]
    rows = pd.DataFrame({
        "sample_id": [f"s{i:05}" for i in range(n)], "image_id": [f"i{i:05}" for i in range(n)], "source_id": "x", "source_row": range(n),
        "given_label": labels, "current_label": labels, "source_split": ["PublicTest" if i % 5 == 4 else "Training" for i in range(n)], "flags": "",
        "age_band": None, "gender": None, "mean": 100.0, "sd": 30.0, "gone": False, "exclude": None, "transform": None})
    return rows.assign(**columns)


def reasons(made: Any) -> dict[str, int]:
    return dict(made.rows["exclusion"].value_counts())


def trained(made: Any) -> pd.DataFrame:
    return made.rows[made.rows["exclusion"].isna() & (made.rows["split"] == "train")]


def with_votes(rows: pd.DataFrame, **votes: Any) -> Facts:
    counts = np.zeros((len(rows), len(COLUMNS)), np.int64)
    for name, values in votes.items():
        counts[:, COLUMNS.index(name)] = values
    held = Ballots(rows[["sample_id", "image_id"]], counts, np.full(len(rows), -1))
    return Facts(rows, lambda _: held)


# ---- the document -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "part"), [
    ("seed: 1\nsteps: []", "line 2, steps: unknown key. Allowed keys: sources, exclude"),
    ("exclude:\n- flag: dark\n- flga: dark", "line 3, exclude.2.flga: unknown key. Allowed keys: gone, marked, flag"),
    ("exclude:\n- flag: blurry", "line 2, exclude.1.flag: unknown flag 'blurry': choose from non_face, dark"),
    ("exclude:\n- finding: spots", "unknown finding 'spots': choose from exact_duplicate"),
    ("exclude:\n- votes: unknwon > 3", "line 2, exclude.1.votes: unknown answer 'unknwon': choose from neutral"),
    ("exclude:\n- votes: unknown > 3 and unknown < 3", "never holds"), ("exclude:\n- votes: unknown >= 0", "always holds"),
    ("exclude:\n- votes: __import__('os').getcwd() > 1", "cannot stand in"), ("exclude:\n- votes: 'happy >'", "is no condition"),
    ("exclude:\n- votes: happy", "cannot stand in"), ("exclude:\n- votes: 3 > 2", "names no answer"), ("exclude:\n- votes: happy ** 2 > 1", "cannot"),
    ("exclude:\n- {flag: dark, gone: true}", "one condition, not gone and flag"), ("exclude:\n- reason: why", "one condition, not none"),
    ("exclude:\n- tag: {age_band: old}", "unknown age_band 'old': choose from child"), ("exclude:\n- tag: {hair: red}", "line 2.*age_band"),
    ("exclude:\n- quality: {measure: mean}", "give a bound"), ("exclude:\n- quality: {measure: mean, below: 9, above: 3}", "contradictory"),
    ("exclude:\n- flag: dark\n- flag: occluded\n- {flag: dark, reason: again}", "line 4, exclude.3: repeats exclude 1"),
    ("labels: best", "line 1, labels.take: Input should be 'given', 'current' or 'votes'"), ("labels: votes", "need a rule"),
    ("labels: {rule: best@1}", "unknown rule 'best@1': choose from ferplus_majority@1"), ("labels: {take: given, rule: argmax@1}", "need a rule"),
    ("labels: {rule: argmax@1, anger_over: 3}", "belong to the rule focus4@1"), ("labels: {rule: focus4@1, order: [angry]}", "each of angry"),
    ("labels:\n  map: {sad: happy, happy: sad}", "line 2, labels.map: circular: sad to happy to sad"),
    ("labels:\n  map: {sad: happy, happy: neutral}", "contradictory: sad becomes happy, and happy becomes neutral"),
    ("seed: 1\nscheme: mood@1", "line 2, scheme: unknown scheme 'mood@1': scheme must be one of fer7@1"), ("scheme: gender@1", "scheme must be"),
    ("transforms: [blur]", "unknown edit 'blur': choose from marked, standardise, brighten_1.25"),
    ("exclude: [{flag: dark}]\ntransforms:\n- {do: brighten_1.5, flag: dark}", "line 3, transforms.1: contradictory"),
    ("targets:\n- where: {age_band: senior}", "give at_least, at_most"), ("targets:\n- {at_least: 5, at_most: 3}", "contradictory: at least 5"),
    ("ratios: [0.5, 0.2, 0.2]", "ratios must sum to 1, not 0.9"),
    ("exclude: [{tag: {age_band: child}}]\ntargets:\n- {at_least: 9, where: {age_band: child, gender: male}}", "line 3, targets.1: contradictory: asks for child"),
    ("targets:\n- {at_least: 9, where: {age_band: senior}}\n- at_most: 5", "line 3, targets.2: contradictory: at most 5, where at least 9"),
    ("targets:\n- {at_least: 9, by: weight, candidates: {sources: [b]}}", "adds no faces"),
    ("targets:\n- {at_least: 9, candidates: {sources: [b]}}", "takes whole"), ("sources: [b]\ntargets:\n- {at_least: 9, candidates: {sources: [b]}}", "line 3"),
    ("exclude: [{samples: [a]}]\ntargets:\n- {at_least: 9, candidates: {samples: [a]}}", "picked to be excluded, and a candidate"),
    ("split: {by: ratios, ratios: [0.5, 0.2, 0.2]}", "ratios must sum to 1, not 0.9"), ("split: {by: ratios, ratios: [1, 0, 0]}", "above 0"),
    ("split: {by: folds}", "folds must be 2 or more"), ("split: {by: stratified}", "'source', 'ratios' or 'folds'"), ("split: {folds: 1}", "2 or more"),
    ("seed: 1\nseed: 2", "line 2: seed stands in line 1 already"), ("seed: {a: 1, a: 2}", "stands in line 1 already"), ("a: &x 1\nb: *x", "aliases"),
    ("duplicates: some", "'keep_one' or 'keep_all'"), ("exclude: 3", "line 1, exclude"), ("exclude_flags: [blurry]", "unknown flag"),
])
def test_mistakes_are_named_with_their_line_and_what_is_allowed(text: str, part: str) -> None:
    with pytest.raises(BadInput, match=part):
        versions.parse_recipe(text)


_KEYS = st.sampled_from([*Recipe.model_fields, *Exclude.model_fields, *Target.model_fields, *Labels.model_fields, *Split.model_fields, "ratios", "x"])
_VALUES = st.recursive(st.none() | st.booleans() | st.integers(-3, 99) | st.floats() | st.text(max_size=8) | st.sampled_from([
    "given", "ratios", "happy > 2", "dark", "argmax@1", "fer7@1", "keep_one", "brighten"]),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(_KEYS, v, max_size=3), max_leaves=8)


@settings(max_examples=300)
@given(document=st.dictionaries(_KEYS, _VALUES, max_size=4))
def test_whatever_a_document_says_it_is_read_or_refused_in_words(document: dict[str, Any]) -> None:
    try:
        recipe = versions.parse_recipe(json.dumps(document))
    except BadInput:
        return
    assert versions.parse_recipe(versions.as_yaml(recipe)) == recipe == restated(stated(recipe)).model_copy(
        update={k: getattr(recipe, k) for k in ("title", "about", "published")})


@settings(max_examples=150)
@given(text=st.text(st.sampled_from("abseed:[]{}-,'\"\n\t &*!|>#@%1?"), max_size=40))
def test_no_text_does_anything_but_read_or_be_refused(text: str) -> None:
    try:
        versions.parse_recipe(text)
    except BadInput as error:
        assert error.detail  # noqa: PT017


def test_keys_of_before_are_put_where_they_are_now() -> None:
    old = versions.parse_recipe("labels: given\nsplit: ratios\nratios: [0.6, 0.2, 0.2]\nexclude_flags: [dark]\ndrop_gone: false\ntransforms: [brighten]")
    assert [e.kind for e in old.exclude] == ["flag", "marked"] and old.split == Split(by="ratios", ratios=(0.6, 0.2, 0.2))
    assert old.transforms[0].do == "marked" and old.labels.take == "given" and versions.parse_recipe("") == Recipe()
    assert Recipe(exclude_flags=("dark",), drop_excluded=False).exclude == (Exclude(gone=True), Exclude(flag="dark"))  # type: ignore[call-arg]


@pytest.mark.parametrize("name", versions.shipped.names())
def test_shipped_recipes_read_print_and_state_themselves(name: str) -> None:
    recipe = versions.shipped.recipe(name)
    assert versions.parse_recipe(versions.as_yaml(recipe)).model_dump() == recipe.model_dump()
    assert restated(stated(recipe)).model_dump() == recipe.model_dump() and "title" not in stated(recipe)
    assert recipe.title and recipe.published and recipe.scheme in SCHEMES
    with pytest.raises(NotFound, match="engaged4"):
        versions.shipped.text("nothing")


@settings(max_examples=60)
@given(text=st.recursive(
    st.builds(lambda a, o, b: f"{a} {o} {b}", st.sampled_from(NAMES), st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), st.integers(0, 12)),
    lambda inner: st.builds(lambda a, j, b: f"({a}) {j} ({b})", inner, st.sampled_from(["and", "or"]), inner) | inner.map(lambda a: f"not ({a})"),
    max_leaves=4), seed=st.integers(0, 1000))
def test_a_condition_holds_where_python_says_so(text: str, seed: int) -> None:
    grid = [dict(zip(NAMES, (a, b, a, b, a, b, a, b, a, b, a, b), strict=True)) for a in range(14) for b in range(14)]
    found = {bool(eval(text, {}, g)) for g in grid}
    if len(found) == 1:
        return  # may be refused: it always or never holds
    condition = Condition(text)
    votes = {n: np.random.default_rng(seed + i).integers(0, 14, 30) for i, n in enumerate(NAMES)}
    expected = [bool(eval(text, {}, {n: int(v[k]) for n, v in votes.items()})) for k in range(30)]
    assert condition.holds(votes).tolist() == expected


# ---- what it makes ------------------------------------------------------------------------------------------------------------------


def test_every_exclusion_takes_what_it_says_and_the_funnel_adds_up() -> None:
    rows = table(flags=["dark,occluded" if i == 0 else "dark" if i == 7 else "" for i in range(N)],
                 age_band=["child" if i in (14, 21) else None for i in range(N)], mean=[240.0 if i == 28 else 5.0 if i == 35 else 100.0 for i in range(N)],
                 gone=[i == 42 for i in range(N)], exclude=["duplicate" if i == 49 else None for i in range(N)])
    facts = with_votes(rows, unknown=[5 if i == 56 else 0 for i in range(N)], non_face=[1 if i == 63 else 0 for i in range(N)])
    found = pd.DataFrame({"kind": ["blurred", "dark"], "sample_id": ["s00070", "s00077"]})
    facts = Facts(rows, facts.ballots, lambda: found, lambda name: pd.Series({"i00084": 0.1}))
    recipe = versions.parse_recipe("""
        exclude:
        - gone: true
        - marked: true
        - flag: occluded
        - {flag: dark, reason: too dark to judge}
        - tag: {age_band: child}
        - quality: {measure: mean, below: 10, above: 230}
        - quality: {measure: sharpness, below: 0.5}
        - votes: unknown >= 5
        - {votes: non_face > 0, of: both}
        - finding: blurred
        - samples: [s00091]
        """)
    made = make(recipe, facts)
    assert reasons(made) == {
        "no longer in its source": 1, "excluded: duplicate": 1, "flagged occluded": 1, "too dark to judge": 1, "tagged child": 2,
        "mean below 10 or above 230": 2, "sharpness below 0.5": 1, "votes: unknown >= 5": 1, "votes: non_face > 0": 1,
        f"audit: {audit.KINDS['blurred']}": 1, "picked by hand": 1}
    for before, after in itertools.pairwise(made.funnel):
        assert before.after == after.before
    for step in made.funnel[2:]:
        assert step.before - step.after == len(step.samples) == len(set(step.samples))
    assert made.funnel[-1].after == made.rows["exclusion"].isna().sum()
    assert next(s for s in made.funnel if s.name == "picked by hand").samples.tolist() == ["s00091"]


def test_labels_come_from_a_rule_a_map_or_the_answers_to_the_schemes_own_question() -> None:
    rows = table()
    made = make(Recipe(labels=Labels(take="given", map={"angry": "engaged"}), scheme="engaged4@1", split=Split(by="ratios")), Facts(rows))
    assert set(made.rows["label"][made.rows["exclusion"].isna()]) == {"engaged", "happy", "neutral", "surprise"}
    assert reasons(made) == {"label outside the scheme": 90}
    own = pd.Series({"i00004": "engaged", "i00003": "cannot_tell"})  # a sad and a happy face
    made = make(Recipe(labels=Labels(map={"angry": "engaged"}), scheme="engaged4@1", split=Split(by="ratios")), Facts(rows, decided=lambda _: own))
    assert made.rows["label"][[3, 4]].tolist() == ["happy", "engaged"]
    angry = (np.arange(N) % 7 == 0) * 5
    facts = with_votes(rows, angry=angry, neutral=[8 if i % 7 == 1 else 0 for i in range(N)])
    with pytest.raises(BadInput, match="neutral has no training row"):
        make(Recipe(labels=Labels(take="votes", rule="focus4@1"), scheme="focus4@1", split=Split(by="ratios")), facts)
    facts = with_votes(rows, angry=angry, **{c: [6 if i % 7 == k + 1 else 0 for i in range(N)] for k, c in enumerate(COLUMNS[:4] + COLUMNS[5:7])})
    made = make(Recipe(labels=Labels(take="votes", rule="argmax@1"), votes=True), facts)
    assert made.rows["label"][:3].tolist() == ["angry", "neutral", "happy"] and made.rows["votes"][0] == "5,0,0,0,0,0,0"
    assert made.rows["exclusion"].isna().all()


def test_focus4_reads_its_order() -> None:
    rows = table(40)
    votes = {"neutral": [8] * 20 + [5] * 20, "sad": [0] * 20 + [3] * 20}
    for order, first in ((("angry", "focused", "neutral", "bored"), "focused"), (("angry", "neutral", "focused", "bored"), "neutral")):
        recipe = Recipe(labels=Labels(take="votes", rule="focus4@1", order=order), scheme="focus4@1", split=Split(by="ratios"))
        label = {}
        with pytest.raises(BadInput, match="A class would be empty"):
            make(recipe, with_votes(rows, **votes))
        label = recipe.labels.decision().apply(with_votes(rows, **votes).ballots("both").counts)
        assert label.outcomes[0] == first and label.outcomes[20] == "bored"


def test_targets_add_candidates_take_the_excess_and_say_what_is_missing() -> None:
    rows = table(420, source_id=["a" if i < 280 else "b" for i in range(420)], age_band=["senior" if i % 3 == 0 else "middle_aged" for i in range(420)])
    rows.loc[300, "image_id"] = rows.loc[4, "image_id"]  # a candidate that is tested already
    base = Recipe(sources=("a",), drop_conflicting=False)
    before = trained(make(base, Facts(rows)))
    recipe = base.model_copy(update={"targets": (
        Target.model_validate({"where": {"age_band": "senior"}, "at_least": 13, "candidates": {"sources": ["b"], "samples": ["s00400"]}}),
        Target.model_validate({"where": {"age_band": "middle_aged"}, "at_most": 9}))})
    made = make(recipe, Facts(rows))
    after = trained(made)
    seniors = after[after["age_band"] == "senior"]["label"].value_counts()
    was = before[before["age_band"] == "senior"]["label"].value_counts()
    assert (after[after["age_band"] == "middle_aged"]["label"].value_counts() <= 9).all()
    short = {m["target"].removeprefix("senior "): m for m in made.missing}
    for name in FER7.ids:
        assert seniors[name] == 13 or short[name]["missing"] == 13 - seniors[name] > 0
        assert seniors[name] > was[name]
    assert made.rows.set_index("sample_id").loc["s00300", "exclusion"] is not None
    evaluated = made.rows[made.rows["split"].isin(["val", "test"])]
    pd.testing.assert_frame_equal(evaluated, make(base, Facts(rows)).rows.merge(evaluated[["sample_id"]]).set_index(evaluated.index))
    assert set(after["duplicate_group"]).isdisjoint(evaluated["duplicate_group"])
    pd.testing.assert_frame_equal(made.rows, make(recipe, Facts(rows)).rows)
    added = [s for s in made.funnel if s.name.startswith("added")]
    assert sum(s.after - s.before for s in added) == sum(len(s.samples) for s in added) == (seniors - was).sum()
    assert reasons(made)["candidate that no target needs"] > 0


def test_targets_by_weight_count_training_faces_more_or_less() -> None:
    rows = table(gender=["female" if i % 10 < 2 else "male" for i in range(N)])
    made = make(Recipe(targets=(Target(where={"gender": "female"}, at_least=30, by="weight"), Target(where={"gender": "male"}, at_most=10, by="weight"))),
                Facts(rows))
    after = trained(made)
    sums = after.assign(weight=after["weight"].astype(float)).groupby(["gender", "label"])["weight"].sum()
    assert np.allclose(sums["female"], 30, atol=1e-4) and np.allclose(sums["male"], 10, atol=1e-4)
    assert made.rows.loc[made.rows["exclusion"].isna() & (made.rows["split"] != "train"), "weight"].eq(1.0).all() and not made.missing


def test_folds_keep_groups_together_and_are_refused_where_they_cannot_be() -> None:
    rows = table()
    rows.loc[70:90, "image_id"] = rows.loc[0:20, "image_id"].to_numpy()
    made = make(Recipe(split=Split(by="folds", folds=5), duplicates="keep_all"), Facts(rows))
    inside = made.rows[made.rows["exclusion"].isna()]
    assert set(inside["split"]) == {"train"} and inside.groupby("duplicate_group")["fold"].nunique().max() == 1
    sizes = inside.drop_duplicates("duplicate_group").groupby(["fold", "label"]).size().unstack()
    assert (sizes.max() - sizes.min() <= 1).all() and sizes.sum(axis=1).max() - sizes.sum(axis=1).min() <= 1
    with pytest.raises(BadInput, match="angry has 27 distinct faces.*at most 27"):
        make(Recipe(split=Split(by="folds", folds=30)), Facts(rows))
    made = make(Recipe(split=Split(by="ratios", folds=3)), Facts(rows))
    assert made.rows.loc[made.rows["split"] == "test", "fold"].isna().all() and set(made.rows["fold"].dropna()) == {0, 1, 2}


def test_near_duplicates_stay_in_one_split_where_the_recipe_says_so() -> None:
    near = pd.Series({f"i{i:05}": "g" for i in (4, 7, 14)})  # tested, trained, tested
    made = make(Recipe(near_duplicates=True), Facts(table(), near=lambda: near))
    rows = made.rows.set_index("sample_id")
    assert rows.loc["s00007", "exclusion"] == "also in a split that is evaluated" and rows.loc[["s00004", "s00014"], "split"].tolist() == ["test", "test"]
    assert rows.loc["s00004", "duplicate_group"] == "g"


def test_edits_are_chained_and_standardised_faces_have_one_mean_and_spread() -> None:
    rows = table(flags=["dark" if i == 3 else "" for i in range(N)], transform=["gamma_0.5" if i == 3 else None for i in range(N)])
    made = make(Recipe(transforms=("marked", {"do": "brighten_1.5", "flag": "dark"}, "standardise")), Facts(rows))
    assert made.rows["transform"][[3, 4]].tolist() == ["gamma_0.5+brighten_1.5+standardise", "standardise"]
    faces = some_faces(3)
    faces[2] = 7
    out = transformed(faces, ["standardise", None, "standardise"])
    assert abs(out[0].mean() - 127.5) < 1 and abs(out[0].std() - 64) < 2 and (out[1:] == faces[1:]).all()


@pytest.mark.parametrize(("recipe", "part"), [
    (Recipe(sources=("nowhere",)), "Unknown source"), (Recipe(scheme="fer8@1"), "contempt has no training row"),
    (Recipe(scheme="mood@1"), "Unknown scheme"), (Recipe(exclude=(Exclude(samples=("gone",)),)), "Unknown sample"),
    (Recipe(targets=(Target(classes=("bored",), at_most=3),)), "Unknown class"),
    (Recipe(exclude=(Exclude(quality={"measure": "sharpness", "below": 1}),)), "needs the workspace"),
    (Recipe(exclude=(Exclude(quality={"measure": "mean", "below": 300}),)), "Every row is excluded"),
    (Recipe(sources=("x",), targets=(Target(at_least=3, candidates={"sources": ("lost",)}),)), "The recipe names 'lost'"),
])
def test_recipes_that_do_not_fit_the_facts_are_refused(recipe: Recipe, part: str) -> None:
    with pytest.raises(BadInput, match=part):
        make(recipe, Facts(table()))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), shuffle=st.integers(0, 10**6), duplicates=st.sampled_from(["keep_one", "keep_all"]),
       split=st.sampled_from([Split(), Split(by="ratios", folds=2), Split(by="folds", folds=3)]), conflicts=st.booleans(),
       weight=st.booleans(), copies=st.lists(st.integers(0, N - 1), max_size=40))
def test_same_facts_in_any_order_give_the_same_rows_hash_and_whole_groups(seed: int, shuffle: int, duplicates: Any, split: Split, conflicts: bool,
                                                                          weight: bool, copies: list[int]) -> None:
    rows = table(gender=["male" if i % 4 else "female" for i in range(N)])
    for i, j in itertools.pairwise(copies):
        if i % 7 == j % 7:
            rows.loc[j, "image_id"] = rows.loc[i, "image_id"]
    recipe = Recipe(seed=seed, duplicates=duplicates, split=split, drop_conflicting=conflicts,
                    targets=(Target(where={"gender": "male"}, at_most=12), Target(at_least=14, by="weight")) if weight else (Target(at_most=15),))
    made, again = (apply(recipe, r) for r in (rows, rows.sample(frac=1, random_state=shuffle)))
    pd.testing.assert_frame_equal(made, again)
    hashes = {versions.manifest_sha256(r.assign(pixel_id=None), stated(recipe)) for r in (made, again.sample(frac=1, random_state=seed))}
    inside = made[made["exclusion"].isna()]
    assert len(hashes) == 1 and inside.groupby("duplicate_group")[["split"]].nunique().max().max() == 1
    assert inside.groupby("duplicate_group")["fold"].nunique().max() <= 1 and set(inside["split"]) <= set(SPLITS)


# ---- over a workspace ---------------------------------------------------------------------------------------------------------------

_SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from helpers import LEAD
from fercore import versions
from fercore.domain import Workspace
from fercore.store import Store
with Store(Workspace(Path(sys.argv[1]))) as store:
    made = versions.build.build(store, LEAD, versions.read_recipe(Path(sys.argv[2])))
    print(made.sha256)
"""


def test_another_process_makes_the_same_hash(store: Store, small_file: Path, tmp_path: Path) -> None:
    ingest.import_fer2013(store, LEAD, small_file)
    path = tmp_path / "r.yaml"
    path.write_text("split: {by: ratios, folds: 3}\ntransforms: [standardise]\nseed: 5\ntargets: [{at_least: 20, by: weight}]")
    mine = versions.build.build(store, LEAD, versions.read_recipe(path)).sha256
    store.close()
    for seed in ("0", "77"):
        done = subprocess.run([sys.executable, "-c", _SCRIPT.format(tests=str(Path(__file__).parents[1])), str(store.workspace.root), str(path)],
                              capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])})
        assert done.stdout.strip() == mine


def test_a_version_of_before_still_verifies_and_its_recipe_still_builds(store: Store, small_file: Path) -> None:
    """As fercore wrote it before recipes became documents: files of format 1, with the hash that it computed then."""
    ingest.import_fer2013(store, LEAD, small_file)
    recipe = {"sources": [], "scheme": "fer7@1", "labels": "given", "exclude_flags": ["non_face"], "drop_gone": True, "drop_excluded": True,
              "transforms": [], "drop_conflicting": True, "duplicates": "keep_one", "split": "source", "source_splits": {
                  "Training": "train", "PublicTest": "test", "val": "val"}, "ratios": [0.7, 0.15, 0.15], "votes": False, "validation_share": 0.1, "seed": 0}
    faces = some_faces(14)
    rows = pd.DataFrame([{
        "sample_id": sample_id("x", i), "image_id": image_id(f), "source_id": "x", "source_row": i, "given_label": FER7.ids[i % 7],
        "label": FER7.ids[i % 7], "split": SPLITS[i % 3], "duplicate_group": image_id(f), "age_band": None, "gender": "male", "flags": "",
        "exclusion": None if i else "flagged dark", "mean": float(f.mean())} for i, f in enumerate(faces)]).sort_values("sample_id")
    rows = rows.astype(object).where(rows.notna(), None)
    kept = rows[rows["exclusion"].isna()]
    sha = OLD_SHA
    card = {"name": "old", "number": 1, "version_id": "old-v1", "manifest_sha256": sha, "scheme_id": "fer7@1", "classes": list(FER7.ids),
            "recipe": recipe, "created_by": "Ada", "created_at": "2026-01-01T00:00:00",
            "counts": {**{s: int((kept["split"] == s).sum()) for s in SPLITS}, "excluded": 1}}
    folder = store.workspace.versions / "old-v1"
    folder.mkdir(parents=True)
    rows.to_parquet(folder / "manifest.parquet", index=False)
    np.save(folder / "pixels.npy", faces[kept["source_row"].astype(int)])
    (folder / "version.json").write_text(json.dumps(card))
    assert versions.verify(store.workspace, "old-v1", sha) == []
    again = versions.card(store.workspace, versions.freeze(store, LEAD, restated(recipe), "new"))
    assert again["recipe"]["format"] == 2 and again["counts"]["test"] == 13


OLD_SHA = "0165285d9106d62b4b941174b94c4844e3bcfb1f15ea178f2420cab056076b33"


@pytest.mark.parametrize(("text", "part"), [
    ("sources: [small, gone]", "Unknown source"), ("split: {by: folds, folds: 10}", "Too many folds"), ("scheme: fer8@1", "contempt has no training row"),
    ("exclude: [{quality: {measure: mean, below: 256}}]", "Every row is excluded"), ("split: {source_splits: {Training: train}}", "test split would be"),
    ("exclude: [{finding: dark}, {samples: [nobody]}]", "Unknown sample"), ("targets: [{classes: [bored], at_most: 1}]", "Unknown class"),
    ("labels: {map: {happy: null}}", "happy has no training row"), ("labels: {map: {happy: joy}}", "The map makes 'joy' of a class"), ("labels: {rule: argmax@1}", "Every row is excluded"),
])
def test_what_does_not_fit_is_refused_before_anything_is_written(store: Store, small_file: Path, text: str, part: str) -> None:
    ingest.import_fer2013(store, LEAD, small_file)
    with pytest.raises(BadInput, match=part):
        versions.freeze(store, LEAD, versions.parse_recipe(text), "a")
    assert version_table.table(store).empty and not store.workspace.versions.exists() and store.value("SELECT count(*) FROM version_samples") == 0


def test_a_source_whose_files_are_all_gone_is_refused_when_named(store: Store, small_file: Path) -> None:
    ingest.import_fer2013(store, LEAD, small_file)
    ingest.import_fer2013(store, LEAD, small_file, name="other")
    with store.write("samples") as w:
        w.run("INSERT INTO facts.sample_file SELECT sample_id, 'i', 'gone', 'f', NULL, NULL, given_label, source_split, NULL, now()::TIMESTAMP "
              "FROM facts.sample WHERE source_id = 'other'")
    for text in ("sources: [fer2013, other]", "sources: [fer2013]\ntargets: [{at_least: 20, candidates: {sources: [other]}}]"):
        with pytest.raises(BadInput, match="A source has vanished. No file of 'other'"):
            versions.freeze(store, LEAD, versions.parse_recipe(text), "a")
    assert not store.workspace.versions.exists()
    assert versions.freeze(store, LEAD, versions.parse_recipe("sources: [fer2013, other]\nexclude: []"), "a") == "a-v1"  # which keeps what is gone


def test_training_reads_what_a_recipe_adds(store: Store, small_file: Path) -> None:
    ingest.import_fer2013(store, LEAD, small_file)
    for text in ("", "votes: true\ntargets: [{at_least: 20, by: weight}]", "split: {by: folds, folds: 3}\ntransforms: [standardise]"):
        version_id = versions.freeze(store, LEAD, versions.parse_recipe(text), "a")
        card = versions.card(store.workspace, version_id)
        data = read_version(store.workspace.versions / version_id, card["manifest_sha256"])
        assert len(data.samples) == 65 and (data.weight is not None) == (data.votes is not None) == ("weight" in text)
        if data.weight is not None:
            train = data.samples["split"] == "train"
            assert np.allclose(np.bincount(data.y[train], data.weight[train]), 20, atol=1e-3)


def answer(store: Store, face: str, value: str, field: str) -> None:
    assert curation.record(store, ANNOTATOR, [{"event_id": str(uuid7()), "op": "set", "image_id": face, "field": field, "value": value,
                                               "gesture": str(uuid7())}]).acked


def test_a_scheme_of_the_workspace_makes_a_version_from_its_own_answers(store: Store, small_file: Path) -> None:
    ingest.import_fer2013(store, LEAD, small_file)
    made = schemes.create(store, LEAD, "Mood", ["good", "bad"])
    good, bad = made.ids
    with pytest.raises(BadInput, match="unknown scheme 'mood@1'"):
        versions.parse_recipe("scheme: mood@1")
    recipe = versions.parse_recipe(f"scheme: mood@1\nlabels: {{map: {{happy: {good}, sad: {bad}}}}}\nsplit: ratios", schemes=schemes.known(store))
    answer(store, image_id(some_faces(70)[3]), bad, "mood")  # a happy face
    version_id = versions.freeze(store, LEAD, recipe, "mood")
    rows = versions.manifest(store.workspace, version_id).set_index("source_row")
    assert rows.loc[[3, 4, 17], "label"].tolist() == [bad, bad, good] and versions.verify(store.workspace, version_id) == []
    assert versions.card(store.workspace, version_id)["classes"] == [good, bad]


def test_what_the_facts_of_now_would_make_otherwise_is_told_apart_from_damage(store: Store, small_file: Path) -> None:
    ingest.import_fer2013(store, LEAD, small_file)
    version_id = versions.freeze(store, LEAD, Recipe(), "a")
    assert versions.build.recomputed(store, LEAD, version_id) == []
    answer(store, image_id(some_faces(70)[5]), "neutral", "expression")
    changes = versions.build.recomputed(store, LEAD, version_id)
    assert any(c.startswith("label differs in 1 rows") and c.endswith("surprise then, neutral now") for c in changes)
    assert versions.verify(store.workspace, version_id) == []


def test_measures_and_findings_of_the_audit_exclude(store: Store, small_file: Path) -> None:
    ingest.import_fer2013(store, LEAD, small_file)
    recipe = Recipe(exclude=(Exclude(quality={"measure": "sharpness", "below": -1}), Exclude(finding="exact_duplicate")))
    with pytest.raises(BadInput, match="No face has the measure 'sharpness'"):
        versions.freeze(store, LEAD, recipe, "a")
    assert version_table.table(store).empty and not store.workspace.versions.exists()
    audit.run(store, LEAD, deep=False)
    rows = versions.manifest(store.workspace, versions.freeze(store, LEAD, recipe, "a"))
    assert (rows["exclusion"] == f"audit: {audit.KINDS['exact_duplicate']}").sum() == len(samples.found(store).query("kind == 'exact_duplicate'")) == 6


def test_merging_sources_by_the_shipped_map(store: Store, tmp_path: Path) -> None:
    from PIL import Image
    faces = iter(some_faces(120, seed=9))
    for source, classes in (("rafdb", ("anger", "happiness", "neutral", "fear")), ("fed", ("Agree", "Think", "Confusion")), ("oahega", ("Anger", "Happy"))):
        for name in classes:
            for i in range(10):
                path = tmp_path / source / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(next(faces)).resize((60, 60) if source == "fed" else (48, 48)).save(path)
        ingest.import_pictures(store, LEAD, tmp_path / source, ingest.Provenance(source), label_map=ingest.find_map("fed" if source == "fed" else "generic"))
    version_id = versions.freeze(store, LEAD, versions.shipped.recipe("raf_fed_oahega"), "merged")
    card = versions.card(store.workspace, version_id)
    rows = versions.manifest(store.workspace, version_id)
    assert rows["label"][rows["exclusion"].isna()].value_counts().to_dict() == {"angry": 20, "engaged": 20, "happy": 20, "neutral": 10}
    assert [s["source_id"] for s in card["sources"]] == ["fed", "oahega", "rafdb"] and card["funnel"][-1]["after"] == 70
    assert versions.verify(store.workspace, version_id) == []  # resized faces, too, whose image id is of the original


@needs_real_data
def test_shipped_recipes_on_the_shared_file_give_the_published_counts(store: Store) -> None:
    ingest.import_fer2013(store, LEAD, SHARED_DATA / "fer2013.csv.gz", ferplus=SHARED_DATA / "fer2013new.csv")
    left = {}
    for name in ("conflicts_outliers", "focus4", "engaged4", "fer7"):
        made = versions.build.preview(store, LEAD, versions.shipped.recipe(name))
        left[name] = {s.name: s.after for s in made.funnel}
    assert left["conflicts_outliers"]["included"] == 32_145
    assert (left["focus4"]["somebody sees no face"], left["focus4"]["five or more cannot tell"], left["focus4"]["included"]) == (32_021, 31_950, 13_769)
    assert left["fer7"]["included"] == 30_719 and left["engaged4"]["included"] == 20_663


def test_the_same_rows_arriving_otherwise_give_the_same_hash(store: Store, tmp_path: Path) -> None:
    """Votes and findings, too, in another order of import."""
    faces = some_faces(70)
    lines = [fer_line(i % 7, f) for i, f in enumerate(faces)]
    votes = write_votes(tmp_path / "v.csv", [[i % 9, 0, 0, 0, 0, 0, 0, 0, i % 6, int(i == 3)] for i in range(70)], ["Training"] * 70)
    whole, part = write_fer(tmp_path / "w.csv", lines), write_fer(tmp_path / "p.csv", lines[:33])
    recipe = versions.parse_recipe("exclude: [{votes: unknown >= 5}, {votes: non_face > 0}, {finding: exact_duplicate}]\nsplit: ratios\nvotes: true")
    ingest.import_fer2013(store, LEAD, whole, ferplus=votes)
    audit.run(store, LEAD, deep=False)
    with Store(Workspace(tmp_path / "other")) as other:
        people_table.add(other, LEAD)
        ingest.import_fer2013(other, LEAD, part)
        ingest.import_fer2013(other, LEAD, whole)
        ingest.import_votes(other, LEAD, votes)
        audit.run(other, LEAD, deep=False)
        assert versions.build.build(store, LEAD, recipe).sha256 == versions.build.build(other, LEAD, recipe).sha256
