"""Versions: deterministic, grouped, immutable, decided on by somebody else."""

import itertools
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import ANNOTATOR, LEAD, REVIEWER, SECOND_LEAD, SHARED_DATA, fer_line, needs_real_data, some_faces, write_fer
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from uuid_utils import uuid7

from fercore import curation, ingest, versions
from fercore.domain import Workspace, image_id
from fercore.errors import BadInput, Conflict, NotAllowed, NotFound, WorkspaceError
from fercore.schemes import FER7
from fercore.store import Store, samples
from fercore.store import people as people_table
from fercore.store import versions as version_table
from fercore.versions.recipe import Recipe, apply

FACES = [image_id(f) for f in some_faces(70)]


@pytest.fixture
def filled(store: Store, small_file: Path) -> Store:
    ingest.import_fer2013(store, LEAD, small_file, licence="made for tests")
    return store


def described(store: Store, version_id: str) -> str:
    """The version with every needed answer in its datasheet, in review."""
    for field, question in versions.datasheet.QUESTIONS.items():
        if question.needed:
            versions.answer(store, LEAD, version_id, field, "For tests")
    versions.submit(store, LEAD, version_id)
    return version_id


def set_label(store: Store, face: str, value: str, field: str = "expression") -> None:
    receipt = curation.record(store, ANNOTATOR, [{"event_id": str(uuid7()), "op": "set", "image_id": face, "field": field, "value": value,
                                                  "gesture": str(uuid7())}])
    assert receipt.acked


def test_a_frozen_version_holds_what_the_recipe_says(filled: Store) -> None:
    set_label(filled, FACES[5], "neutral")
    set_label(filled, FACES[6], "yes", "flag_non_face")
    version_id = versions.freeze(filled, LEAD, Recipe(), "Seven classes")
    assert version_id == "seven-classes-v1"
    rows = versions.manifest(filled.workspace, version_id).set_index("source_row")
    assert rows["exclusion"].dropna().to_dict() == {
        2: "identical faces with different labels", 10: "identical faces with different labels", 1: "identical faces with different labels",
        65: "identical faces with different labels", 7: "duplicate of a kept face", 6: "flagged non face"}
    assert rows.loc[5, ["given_label", "label"]].tolist() == ["surprise", "neutral"]
    included = rows[rows["exclusion"].isna()]
    assert set(included.loc[included.index >= 56, "split"]) == {"test"} and set(included.loc[included.index < 56, "split"]) == {"train", "val"}
    ordered = included.sort_values("sample_id")
    faces = some_faces(70)
    assert all((p == faces[0 if row == 7 else row]).all() for p, row in zip(versions.pixels_of(filled.workspace, version_id), ordered.index, strict=True))


def test_a_duplicate_across_splits_stays_where_it_is_evaluated(store: Store, tmp_path: Path) -> None:
    faces = some_faces(35)
    lines = [fer_line(i % 7, f) for i, f in enumerate(faces)] + [fer_line(0, faces[0], "PublicTest"), fer_line(0, faces[0], "Training")]
    ingest.import_fer2013(store, LEAD, write_fer(tmp_path / "f.csv", lines))
    for duplicates in ("keep_one", "keep_all"):
        rows = apply(Recipe(duplicates=duplicates), samples.table(store)).set_index("source_row")
        assert rows.loc[[0, 35, 36], "split"].dropna().to_dict() == {35: "test"}


def test_the_same_facts_and_recipe_give_the_same_hash_elsewhere(filled: Store, tmp_path: Path, small_file: Path) -> None:
    versions.freeze(filled, LEAD, Recipe(), "a")
    lines = small_file.read_text().splitlines()
    tags = tmp_path / "tags.csv"
    tags.write_text("csv_row,age_group,gender\n0,young,male\n7,senior,male\n5,young,female\n")  # rows 0 and 7 are one face
    tags_backwards = tmp_path / "tags2.csv"
    tags_backwards.write_text("csv_row,age_group,gender\n7,senior,male\n5,young,female\n0,young,male\n")
    ingest.import_tags(filled, LEAD, tags)
    first = versions.card(filled.workspace, versions.freeze(filled, LEAD, Recipe(), "c"))
    with Store(Workspace(tmp_path / "elsewhere")) as other:
        people_table.add(other, LEAD)
        # The rows arrive in two files, so their order in the database differs.
        part = tmp_path / "part.csv"
        part.write_text("\n".join(lines[:31]) + "\n")
        ingest.import_fer2013(other, LEAD, part)
        ingest.import_fer2013(other, LEAD, small_file)
        ingest.import_tags(other, LEAD, tags_backwards)
        second = versions.card(other.workspace, versions.freeze(other, LEAD, Recipe(), "b"))
    assert first["manifest_sha256"] == second["manifest_sha256"] and first["counts"] == second["counts"]
    changed = versions.card(filled.workspace, versions.freeze(filled, LEAD, Recipe(seed=1), "a"))
    assert changed["manifest_sha256"] != first["manifest_sha256"] and changed["version_id"] == "a-v2"


def test_later_labels_do_not_change_a_frozen_version(filled: Store) -> None:
    version_id = versions.freeze(filled, LEAD, Recipe(), "a")
    before = versions.manifest(filled.workspace, version_id)
    set_label(filled, FACES[5], "neutral")
    assert versions.manifest(filled.workspace, version_id).equals(before) and versions.verify(filled.workspace, version_id) == []
    again = versions.card(filled.workspace, versions.freeze(filled, LEAD, Recipe(), "a"))
    assert again["manifest_sha256"] != versions.card(filled.workspace, version_id)["manifest_sha256"]


def test_approval_needs_a_reviewer_and_another_data_lead_and_is_recorded_as_local(filled: Store) -> None:
    version_id = versions.freeze(filled, LEAD, Recipe(), "a")
    with pytest.raises(Conflict, match="It is frozen, not in review"):
        versions.approve(filled, SECOND_LEAD, version_id)
    described(filled, version_id)
    for person, part in ((LEAD, "Somebody else must decide"), (ANNOTATOR, "Ask a reviewer or data lead")):
        with pytest.raises(NotAllowed, match=part):
            versions.approve(filled, person, version_id)
    assert versions.approve(filled, REVIEWER, version_id) == versions.state(filled.workspace, version_id) == "in_review"
    with pytest.raises(Conflict, match="approved it already.*still needs 1 data lead"):
        versions.approve(filled, REVIEWER, version_id)
    assert versions.approve(filled, SECOND_LEAD, version_id, "good") == versions.state(filled.workspace, version_id) == "approved"
    timeline = version_table.timeline(filled, version_id)
    assert timeline["act"].tolist() == ["freeze", *["datasheet"] * 4, "round_trip", "submit", "approve", "approve"]
    assert set(timeline["authentication"]) == {"local, not authenticated"}
    assert timeline["manifest_sha256"].nunique() == 1
    for act in (lambda: versions.approve(filled, SECOND_LEAD, version_id), lambda: versions.reject(filled, SECOND_LEAD, version_id, "no")):
        with pytest.raises(Conflict, match="It is approved"):
            act()


def test_a_request_for_changes_needs_a_reason_and_makes_a_draft(filled: Store) -> None:
    version_id = versions.freeze(filled, LEAD, Recipe(), "a")
    versions.submit(filled, LEAD, version_id)
    with pytest.raises(BadInput, match="reason"):
        versions.reject(filled, SECOND_LEAD, version_id, "  ")
    versions.reject(filled, SECOND_LEAD, version_id, "too few seniors")
    assert version_table.one(filled, version_id)["state"] == versions.state(filled.workspace, version_id) == "draft"
    versions.submit(filled, LEAD, version_id)  # where only the datasheet had to change
    assert version_table.one(filled, version_id)["state"] == "in_review"


def test_an_annotator_may_not_freeze_and_unknown_versions_are_named(filled: Store) -> None:
    with pytest.raises(NotAllowed):
        versions.freeze(filled, ANNOTATOR, Recipe(), "a")
    for name in ("nothing-v1", "..", "../x", ""):
        with pytest.raises(NotFound):
            versions.card(filled.workspace, name)


@pytest.mark.parametrize(("file", "expected"), [("manifest.parquet", "manifest"), ("pixels.npy", "images differ"), ("version.json", "hash")])
def test_a_changed_file_is_found_and_blocks_approval(filled: Store, file: str, expected: str) -> None:
    version_id = versions.freeze(filled, LEAD, Recipe(), "a")
    versions.submit(filled, LEAD, version_id)
    path = filled.workspace.versions / version_id / file
    if file == "version.json":
        path.write_text(path.read_text().replace('"keep_one"', '"keep_all"'))
    elif file == "pixels.npy":
        raw = bytearray(path.read_bytes())
        raw[-100] ^= 1
        path.write_bytes(raw)
    else:
        rows = pd.read_parquet(path)
        rows.loc[3, "label"] = "disgust" if rows.loc[3, "label"] != "disgust" else "sad"
        rows.to_parquet(path)
    problems = versions.verify(filled.workspace, version_id)
    assert problems and any(expected in p for p in problems)
    with pytest.raises(Conflict, match="do not match"):
        versions.approve(filled, SECOND_LEAD, version_id)


def test_files_changed_together_do_not_pass_for_what_was_frozen(filled: Store) -> None:
    version_id = versions.freeze(filled, LEAD, Recipe(), "a")
    versions.submit(filled, LEAD, version_id)
    folder = filled.workspace.versions / version_id
    rows = pd.read_parquet(folder / "manifest.parquet").astype(object)
    rows = rows.where(rows.notna(), None)
    rows.loc[3, "label"] = "disgust" if rows.loc[3, "label"] != "disgust" else "sad"
    card = json.loads((folder / "version.json").read_text())
    rows.to_parquet(folder / "manifest.parquet")
    (folder / "version.json").write_text(json.dumps({**card, "manifest_sha256": versions.manifest_sha256(rows, card["recipe"])}))
    with pytest.raises(Conflict, match="not the one that was recorded"):
        versions.approve(filled, SECOND_LEAD, version_id)


def test_other_classes_in_the_card_are_found(filled: Store) -> None:
    path = filled.workspace.versions / versions.freeze(filled, LEAD, Recipe(), "a") / "version.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps({**card, "classes": card["classes"][::-1]}))
    assert versions.verify(filled.workspace, "a-v1") == ["the id, scheme or classes in version.json are not those of the recipe"]
    path.write_text("{")
    assert "cannot be read" in versions.verify(filled.workspace, "a-v1")[0]


def test_versions_frozen_at_once_get_numbers_and_folders_of_their_own(filled: Store) -> None:
    made: list[str] = []
    errors: list[BaseException] = []

    def freeze(person: Any, seed: int) -> None:
        try:
            made.append(versions.freeze(filled, person, Recipe(seed=seed), "race"))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=freeze, args=(p, i)) for i, p in enumerate((LEAD, SECOND_LEAD, LEAD))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and sorted(made) == ["race-v1", "race-v2", "race-v3"]
    for name in made:
        assert versions.verify(filled.workspace, name, version_table.one(filled, name)["manifest_sha256"]) == []


def test_a_build_that_fails_at_its_last_step_leaves_nothing(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(versions.files.np, "save", full)
    with pytest.raises(WorkspaceError, match="The disk is full"):
        versions.freeze(filled, LEAD, Recipe(), "a")
    assert version_table.table(filled).empty and not any(filled.workspace.versions.iterdir())


def test_a_folder_that_somebody_put_there_stays_and_is_told(filled: Store, tmp_path: Path) -> None:
    versions.freeze(filled, LEAD, Recipe(), "a")
    backup = filled.workspace.versions / "b-v1"
    shutil.copytree(filled.workspace.versions / "a-v1", backup)
    (backup / "state.json").unlink()
    (filled.workspace.versions / ".hidden").mkdir()
    before = {p.name: p.read_bytes() for p in backup.iterdir()}
    versions.recover(filled)
    with pytest.raises(Conflict, match="A folder is in the way.*b-v1 is no version of this workspace"):
        versions.freeze(filled, LEAD, Recipe(), "b")
    assert {p.name: p.read_bytes() for p in backup.iterdir()} == before and len(version_table.table(filled)) == 1
    assert versions.files.strangers(filled.workspace, ["a-v1"]) == [".hidden", "b-v1"]
    assert versions.freeze(filled, LEAD, Recipe(), "a") == "a-v2"


def test_a_build_reads_what_the_workspace_held_at_one_time(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = versions.build.make

    def slow(*args: Any) -> Any:
        made = real(*args)
        set_label(filled, FACES[5], "yes", "flag_dark")  # while the build is under way
        return made

    monkeypatch.setattr(versions.build, "make", slow)
    version_id = versions.freeze(filled, LEAD, Recipe(transforms=[{"do": "standardise", "flag": "dark"}]), "a")
    monkeypatch.setattr(versions.build, "make", real)
    set_label(filled, FACES[6], "yes", "flag_dark")
    assert versions.manifest(filled.workspace, version_id)["flags"].fillna("").eq("").all() and samples.table(filled)["flags"].ne("").sum() == 2
    assert versions.export.round_trip(filled, version_id) == []


@pytest.mark.parametrize(("recipe", "part"), [
    (Recipe(sources=("nowhere",)), "Unknown source"), (Recipe(source_splits={"PrivateTest": "train"}), "would be empty"),
    (Recipe(source_splits={"Training": "train"}), "The test split would be empty"), (Recipe(scheme="fer8@1"), "contempt has no training row"),
])
def test_recipes_that_do_not_fit_write_nothing(filled: Store, recipe: Recipe, part: str) -> None:
    with pytest.raises(BadInput, match=part):
        versions.freeze(filled, LEAD, recipe, "a")
    assert not filled.workspace.versions.exists() and version_table.table(filled).empty


@pytest.mark.parametrize(("text", "part"), [
    ("splitt: source", "splitt.*Allowed keys: sources"), ("ratios: [0.5, 0.2, 0.2]\nsplit: ratios", "sum to 1"), ("labels: best", "labels"),
    ("a: [1", "line"), ("seed: 2024-99-99", "Not YAML"), ("ratios: [.nan, .nan, .nan]\nsplit: ratios", "above 0"), ("- 1", "Not a mapping"), ("exclude_flags: [blurry]", "unknown flag 'blurry'"), ("scheme: mood@1", "scheme must be"),
])
def test_recipe_files_are_refused_with_the_key_or_line(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(BadInput, match=part):
        versions.read_recipe(path)


def test_a_recipe_survives_its_own_json(tmp_path: Path) -> None:
    recipe = Recipe(labels="given", split="ratios", seed=5, exclude_flags=("dark",))
    path = tmp_path / "r.json"
    path.write_text(json.dumps(recipe.model_dump(mode="json")))
    assert versions.read_recipe(path) == recipe


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), copies=st.lists(st.integers(0, 209), max_size=40), shuffle=st.integers(0, 10**6),
       duplicates=st.sampled_from(["keep_one", "keep_all"]), split=st.sampled_from(["source", "ratios"]))
def test_groups_never_cross_splits_and_the_order_of_rows_does_not_matter(seed: int, copies: list[int], shuffle: int, duplicates: Any, split: Any) -> None:
    labels = [FER7.ids[i % 7] for i in range(210)]
    rows = pd.DataFrame({"sample_id": [f"s{i:04}" for i in range(210)], "image_id": [f"i{i}" for i in range(210)], "source_id": "x",
                         "source_row": range(210), "given_label": labels, "current_label": labels,
                         "source_split": ["Training" if i < 170 else "PublicTest" for i in range(210)], "flags": "", "age_band": None,
                         "gender": None, "mean": 100.0, "gone": False, "exclude": None, "transform": None})
    for i, j in itertools.pairwise(copies):
        if i % 7 == j % 7:
            rows.loc[j, "image_id"] = rows.loc[i, "image_id"]
    recipe = Recipe(seed=seed, duplicates=duplicates, split=split, drop_conflicting=False)
    made = apply(recipe, rows)
    included = made[made["exclusion"].isna()]
    assert included.groupby("duplicate_group")["split"].nunique().max() == 1
    assert duplicates == "keep_all" or included["duplicate_group"].is_unique
    shuffled = apply(recipe, rows.sample(frac=1, random_state=shuffle))
    pd.testing.assert_frame_equal(made, shuffled)
    if split == "ratios" and duplicates == "keep_one":
        assert np.allclose(included["split"].value_counts(normalize=True)[["train", "val", "test"]], [0.7, 0.15, 0.15], atol=0.06)


@needs_real_data
def test_the_real_file_freezes_without_a_leak(store: Store) -> None:
    ingest.import_fer2013(store, LEAD, SHARED_DATA / "fer2013.csv.gz")
    version_id = versions.freeze(store, LEAD, Recipe(), "fer7")
    assert versions.card(store.workspace, version_id)["counts"] == {"train": 24_454, "val": 2_716, "test": 3_549, "excluded": 1_579}
    assert versions.verify(store.workspace, version_id) == []


def test_a_folder_with_split_levels_freezes_as_it_is_and_without_what_left_its_source(store: Store, tmp_path: Path) -> None:
    for i, face in enumerate(some_faces(42)):
        path = tmp_path / "faces" / ("train" if i < 28 else "test") / FER7.ids[i % 7] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(face).save(path)
    about = ingest.Provenance("folder")
    ingest.import_pictures(store, LEAD, tmp_path / "faces", about)
    first = versions.manifest(store.workspace, versions.freeze(store, LEAD, Recipe(), "all"))
    assert first["exclusion"].isna().all() and first["split"].value_counts().loc["test"] == 14
    (tmp_path / "faces" / "test" / FER7.ids[0] / "28.png").unlink()
    ingest.import_pictures(store, LEAD, tmp_path / "faces", about)
    left = versions.manifest(store.workspace, versions.freeze(store, LEAD, Recipe(), "fewer"))
    out = left[left["exclusion"].notna()]
    assert out["image_id"].tolist() == [image_id(some_faces(42)[28])] and out["exclusion"].tolist() == ["no longer in its source"]
    kept = versions.manifest(store.workspace, versions.freeze(store, LEAD, Recipe(drop_gone=False), "same"))
    assert kept["exclusion"].isna().all()
