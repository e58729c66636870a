"""Files of versions and exports: one changed byte is found, a kill leaves the old or the new state, and what leaves can come back."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from helpers import ANNOTATOR, LEAD, REVIEWER, fer_line, some_faces, write_fer, write_votes
from PIL import Image
from uuid_utils import uuid7

from fercore import audit, curation, ingest, versions
from fercore.audit import actions
from fercore.domain import Person, Role, Workspace, image_id
from fercore.errors import BadInput, Conflict, NotAllowed, NotFound
from fercore.schemes import FER7
from fercore.store import Store, labels
from fercore.store import people as people_table
from fercore.store import versions as version_table
from fercore.versions.export import README
from fercore.versions.recipe import Recipe

KIM = Person("kim", "Kim Secret", Role.ANNOTATOR)
FACES = some_faces(70)
RECIPE = """
exclude:
- gone: true
- marked: true
- flag: non_face
- votes: unknown >= 5
- finding: exact_duplicate
- quality: {measure: sharpness, below: 0}
labels: current
transforms: [marked, {do: brighten_1.5, flag: dark}]
split: {by: ratios, folds: 2}
targets:
- {at_least: 9, by: weight}
votes: true
seed: 3
"""


def event(face: int, value: str, field: str = "expression", **more: Any) -> dict[str, Any]:
    return {"event_id": str(uuid7()), "op": "set", "image_id": image_id(FACES[face]), "field": field, "value": value, "gesture": str(uuid7()), **more}


@pytest.fixture
def filled(store: Store, tmp_path: Path) -> Store:
    """70 faces with votes of all kinds: imported, annotators' (one of whom took one back), a tie, flags, marks, tags, findings and measures."""
    people_table.add(store, KIM)
    FACES[7] = FACES[0]
    lines = [fer_line(i % 7, f, "Training" if i % 5 else "PublicTest") for i, f in enumerate(FACES)]
    rows = [[i % 9, i % 4, 0, 0, 3, 0, 0, 0, i % 6, 0] for i in range(70)]
    votes = write_votes(tmp_path / "votes.csv", rows, ["Training" if i % 5 else "PublicTest" for i in range(70)])
    ingest.import_fer2013(store, LEAD, write_fer(tmp_path / "f.csv", lines), ferplus=votes, licence="free for tests")
    (tmp_path / "tags.csv").write_text("csv_row,age_group,gender\n5,young,male\n9,senior,female\n")
    ingest.import_tags(store, LEAD, tmp_path / "tags.csv")
    taken_back = event(20, "fear")
    for person, events in ((ANNOTATOR, [event(5, "neutral"), event(6, "fear"), event(13, "yes", "flag_dark"), event(12, "yes", "flag_non_face"), taken_back]),
                           (KIM, [event(5, "neutral"), event(6, "sad"), event(13, "yes", "flag_dark")])):
        assert len(curation.record(store, person, events).acked) == len(events)
    undo = {"event_id": str(uuid7()), "op": "undo", "image_id": image_id(FACES[20]), "target": taken_back["event_id"], "gesture": str(uuid7())}
    assert curation.record(store, ANNOTATOR, [undo]).acked
    curation.comment(store, KIM, image_id(FACES[5]), "a private word", None)
    actions.mark(store, LEAD, [image_id(FACES[30])], "exclude", "blurred")
    actions.mark(store, LEAD, [image_id(FACES[31])], "transform", "gamma_0.5")
    audit.run(store, LEAD, deep=False)
    return store


@pytest.fixture
def frozen(filled: Store) -> tuple[Store, str]:
    return filled, versions.freeze(filled, LEAD, versions.parse_recipe(RECIPE), "a")


# ---- tampering --------------------------------------------------------------------------------------------------------------------


def test_one_changed_byte_in_any_file_is_found(frozen: tuple[Store, str]) -> None:
    store, version_id = frozen
    folder = store.workspace.versions / version_id
    draw = random.Random(0)
    assert versions.verify(store.workspace, version_id) == []
    names = sorted(p.name for p in folder.iterdir() if p.name != "state.json")
    assert names == ["SHA256SUMS", "manifest.parquet", "pixels.npy", "version.json"]
    for name in names:
        path = folder / name
        good = path.read_bytes()
        for place in [0, len(good) - 1, *(draw.randrange(len(good)) for _ in range(60))]:
            bad = bytearray(good)
            bad[place] ^= 1 << draw.randrange(8)
            path.write_bytes(bad)
            problems = versions.verify(store.workspace, version_id)
            assert problems, (name, place)
        path.write_bytes(good)
    assert versions.verify(store.workspace, version_id) == []


def test_what_differs_is_named(frozen: tuple[Store, str]) -> None:
    store, version_id = frozen
    folder = store.workspace.versions / version_id
    card = json.loads((folder / "version.json").read_text())
    rows = versions.manifest(store.workspace, version_id)
    here = rows.index[rows["exclusion"].isna()]

    def problems(changed: pd.DataFrame, **facts: Any) -> str:
        """All files are written anew, consistent in themselves."""
        said = {**card, **facts, "manifest_sha256": versions.manifest_sha256(changed, card["recipe"])}
        pixels = versions.pixels_of(store.workspace, version_id).copy()
        shutil.rmtree(folder)
        versions.files.write(folder, changed, pixels, said)
        return " | ".join(versions.verify(store.workspace, version_id))

    copy = rows.copy()
    copy.loc[here[:2], "duplicate_group"] = "g"
    copy.loc[here[:2], "split"], copy.loc[here[:2], "fold"] = ["train", "test"], [0, 1]
    found = problems(copy)
    assert "identical faces lie in several splits, the first are group g" in found and "several folds" in found
    copy = rows.copy()
    copy.loc[here[0], "label"] = "bored"
    assert "bored is no class of the version" in problems(copy)
    copy = rows.copy()
    copy.loc[here[0], "exclusion"] = "why not"
    assert "images, the manifest includes" in problems(copy)
    assert "counts in version.json" in problems(rows, counts={**card["counts"], "train": 3})
    assert "was recorded when the version was frozen" in " ".join(versions.verify(store.workspace, version_id, "0" * 64))
    pixels = versions.pixels_of(store.workspace, version_id).copy()
    shutil.rmtree(folder)
    versions.files.write(folder, rows, pixels, card)
    assert versions.verify(store.workspace, version_id) == []
    (folder / "SHA256SUMS").unlink()
    assert "cannot be read" in versions.verify(store.workspace, version_id)[0]


# ---- kills ------------------------------------------------------------------------------------------------------------------------

_DIE = """
import os, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from helpers import LEAD
from fercore import versions
from fercore.domain import Workspace
from fercore.store import Store, exchange
from fercore.store import versions as table
from fercore.versions import export, files, lifecycle
from fercore.versions.recipe import Recipe
die = lambda *a, **k: os.kill(os.getpid(), 9)
def after(real):
    return lambda *a, **k: (real(*a, **k), die())[0]
store = Store(Workspace(Path({root!r})))
{step}
{act}
"""


def killed(root: Path, step: str, act: str) -> None:
    code = _DIE.format(tests=str(Path(__file__).parents[1]), root=str(root), step=step, act=act)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.fixture
def place(filled: Store) -> Iterator[Path]:
    """The closed workspace with one version."""
    versions.freeze(filled, LEAD, Recipe(split="ratios"), "a")
    filled.close()
    yield filled.workspace.root


@pytest.mark.parametrize("step", [
    "files.Path.mkdir = die", "files.pq.write_table = die", "files.pq.write_table = after(files.pq.write_table)", "files.np.save = die",
    "files.np.save = after(files.np.save)", "files.Path.write_text = die", "files.Path.write_text = after(files.Path.write_text)",
    "files.sha256_of = die", "files.Path.rename = die", "files.Path.rename = after(files.Path.rename)", "table._append = after(table._append)",
    "files.write = after(files.write)", "table.insert = after(table.insert)", "files.write_state = die",
    "files.Path.replace = die", "files.write_state = after(files.write_state)",
])
def test_a_build_killed_at_any_step_leaves_the_old_or_the_new_state(place: Path, step: str) -> None:
    killed(place, step, "versions.freeze(store, LEAD, Recipe(split='ratios', seed=1), 'a')")
    with Store(Workspace(place)) as store:
        versions.recover(store)
        known = sorted(version_table.table(store)["version_id"])
        listed = sorted(c["version_id"] for c in versions.listed(store.workspace))
        folders = sorted(p.name for p in store.workspace.versions.iterdir())
        assert known == listed == folders and known in (["a-v1"], ["a-v1", "a-v2"])
        for version_id in known:
            assert versions.verify(store.workspace, version_id, version_table.one(store, version_id)["manifest_sha256"]) == []
            assert versions.state(store.workspace, version_id) == version_table.one(store, version_id)["state"] == "frozen"
        again = versions.freeze(store, LEAD, Recipe(split="ratios", seed=1), "a")
        assert again == f"a-v{len(known) + 1}" and versions.verify(store.workspace, again) == []


def test_before_recovery_a_version_without_a_row_in_the_database_is_not_listed(place: Path) -> None:
    killed(place, "files.Path.rename = after(files.Path.rename)", "versions.freeze(store, LEAD, Recipe(split='ratios', seed=1), 'a')")
    assert (place / "versions" / "a-v2").is_dir() and [c["version_id"] for c in versions.listed(Workspace(place))] == ["a-v1"]


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(("step", "form"), [
    ("export.shutil.copyfile = die", "parquet"), ("export.np.savez = die", "npz"), ("export.Image.Image.save = die", "folder"),
    *((step, "parquet") for step in (
        "export.Path.mkdir = die", "export._readme = die", "exchange.record_export = die", "exchange.record_export = after(exchange.record_export)",
        "export.Path.rename = die; export._exchange = die",
        "export.Path.rename = after(export.Path.rename); export._exchange = after(export._exchange)")),
])
def test_an_export_killed_at_any_step_leaves_the_old_or_the_new_folder(place: Path, tmp_path: Path, step: str, form: str, old: bool) -> None:
    to = tmp_path / "out" / "e"
    if old:
        versions.export.write(Workspace(place), "a-v1", to, "fer2013", LEAD)
    before = {p.name for p in to.iterdir()} if old else set()
    killed(place, step, f"versions.export.write(store.workspace, 'a-v1', Path({str(to)!r}), {form!r}, LEAD, store=store, force=True)")
    now = {p.name for p in to.iterdir()} if to.exists() else set()
    if now == before:
        assert not now or (to / README).read_text().startswith("Exported by fercore in the form fer2013")
    else:
        assert f"in the form {form}" in (to / README).read_text() and "fer2013.csv" not in now
    with Store(Workspace(place)) as store:
        versions.export.write(store.workspace, "a-v1", to, form, LEAD, store=store, force=True)
    assert [p.name for p in to.parent.iterdir()] == ["e"] and f"in the form {form}" in (to / README).read_text()


# ---- exports ------------------------------------------------------------------------------------------------------------------------


def test_a_parquet_export_comes_back_as_the_same_version(frozen: tuple[Store, str], tmp_path: Path) -> None:
    store, version_id = frozen
    sha = versions.card(store.workspace, version_id)["manifest_sha256"]
    rows = versions.manifest(store.workspace, version_id)
    assert set(rows["exclusion"].dropna()) == {"excluded: blurred", "flagged non face", "votes: unknown >= 5", f"audit: {audit.KINDS['exact_duplicate']}"}
    assert {"brighten_1.5", "gamma_0.5"} <= set(rows["transform"]) and rows["weight"].notna().any()
    curation.record(store, KIM, [event(40, "fear")])  # what comes after the version does not leave with it
    out = tmp_path / "out"
    versions.export.write(store.workspace, version_id, out, "parquet", LEAD, store=store)
    events = pq.read_table(out / "events.parquet").to_pandas()
    tables = " ".join(pq.read_table(p).drop_columns([c for c in ("gray48",) if c in pq.read_schema(p).names]).to_pandas().to_csv() for p in
                      sorted(out.glob("*.parquet")))
    texts = tables + "".join(p.read_text() for p in out.iterdir() if p.suffix in (".txt", ".json"))
    assert not [secret for secret in ("kim", "Kim Secret", ",ann,", "Dana", "dana", "a private word") if secret in texts]
    assert events["person_id"].str.fullmatch(r"voter-[0-9a-f]{8}-[123]").all() and not {e["event_id"] for e in events.to_dict("records")} & {
        r[0] for r in store.rows("SELECT event_id::VARCHAR FROM label_events")}
    with Store(Workspace(tmp_path / "other")) as other:
        people_table.add(other, LEAD)
        dry = ingest.import_export(other, LEAD, out, dry_run=True)
        assert dry.added["samples"] == 70 and other.value("SELECT count(*) FROM samples") == 0
        report = ingest.import_export(other, LEAD, out)
        assert report.manifest_sha256 == sha and report.added["events"] == len(events) > 5
        again = versions.freeze(other, LEAD, versions.read_recipe(out / "recipe.json"), "b")
        assert versions.card(other.workspace, again)["manifest_sha256"] == sha
        assert versions.card(other.workspace, again)["sources"][0]["licence"] == "free for tests"
        assert labels.broken_block(other) is None and labels.standing_differences(other) == 0
        versions.export.write(store.workspace, version_id, tmp_path / "second", "parquet", LEAD, store=store)
        assert ingest.import_export(other, LEAD, tmp_path / "second").unchanged  # under other pseudonyms
        assert versions.build.recomputed(other, LEAD, again) == []
        voters = [p for p in people_table.all_people(other) if p.person_id.startswith("voter-")]
        assert voters and {p.person_id for p in voters} <= people_table.disabled(other)


def test_a_round_trip_says_what_comes_back_otherwise(frozen: tuple[Store, str]) -> None:
    store, version_id = frozen
    assert versions.export.round_trip(store, version_id) == []
    with store.write("samples") as w:
        w.run("UPDATE facts.sample SET given_label = 'sad' WHERE source_row = 40")
    assert "given_label" in versions.export.round_trip(store, version_id)[0]
    with store.write("samples") as w:
        w.run("UPDATE facts.image SET gray48 = repeat('x', 2304)::BLOB WHERE image_id = $i", {"i": image_id(FACES[40])})
    assert "it cannot be imported and built" in versions.export.round_trip(store, version_id)[0]


def test_a_changed_or_foreign_export_is_not_imported(frozen: tuple[Store, str], tmp_path: Path) -> None:
    store, version_id = frozen
    out = tmp_path / "out"
    versions.export.write(store.workspace, version_id, out, "parquet", LEAD, store=store)
    with Store(Workspace(tmp_path / "other")) as other:
        people_table.add(other, LEAD)
        lines = [fer_line((i + 1) % 7, f, "Training" if i % 5 else "PublicTest") for i, f in enumerate(FACES)]
        ingest.import_fer2013(other, LEAD, write_fer(tmp_path / "o.csv", lines))
        before = other.value("SELECT count(*) FROM images")
        with pytest.raises(Conflict, match="Row 0 of out is here with another label"):
            ingest.import_export(other, LEAD, out)
        assert other.value("SELECT count(*) FROM images") == before and other.value("SELECT count(*) FROM votes") == 0
        path = out / "votes.parquet"
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        with pytest.raises(BadInput, match="votes.parquet is not the file that was exported"):
            ingest.import_export(other, LEAD, out)
        for wrong in (tmp_path / "nowhere", tmp_path):
            with pytest.raises(BadInput):
                ingest.import_export(other, LEAD, wrong)
        with pytest.raises(NotAllowed):
            ingest.import_export(other, ANNOTATOR, out)


def test_every_form_says_what_it_leaves_out_and_holds_the_faces(frozen: tuple[Store, str], tmp_path: Path) -> None:
    store, version_id = frozen
    rows = versions.manifest(store.workspace, version_id)
    kept = rows[rows["exclusion"].isna()].reset_index(drop=True)
    pixels = versions.pixels_of(store.workspace, version_id)
    told: list[tuple[int, int]] = []
    for form in versions.export.FORMATS:
        made = versions.export.write(store.workspace, version_id, tmp_path / form, form, LEAD, store=store, progress=lambda n, total: told.append((n, total)))
        text = (tmp_path / form / README).read_text()
        assert made.faces == len(kept) and "Left out: " in text and versions.card(store.workspace, version_id)["manifest_sha256"] in text
        assert "Article 5(1)(f)" in text and "Dana" not in text and told[-1][0] == told[-1][1]
    csv = pd.read_csv(tmp_path / "fer2013" / "fer2013.csv")
    assert [FER7.ids[e] for e in csv["emotion"]] == kept["label"].tolist()
    assert (np.stack([np.array(p.split(), np.uint8) for p in csv["pixels"]]).reshape(-1, 48, 48) == pixels).all()
    votes = pd.read_csv(tmp_path / "ferplus" / "fer2013new.csv")
    assert votes["Usage"].tolist() == csv["Usage"].tolist() and votes["neutral"].max() == 8 and votes["unknown"].max() == 4
    with np.load(tmp_path / "npz" / f"{version_id}.npz", allow_pickle=False) as held:
        assert (held["images"] == pixels).all() and [held["classes"][i] for i in held["labels"]] == kept["label"].tolist()
        assert held["sample_id"].tolist() == kept["sample_id"].tolist() and held["weight"].min() > 0 and set(held["fold"]) == {-1, 0, 1}
    assert sum(1 for _ in (tmp_path / "folder").rglob("*.png")) == len(kept)
    lines = [json.loads(line) | {"part": p.parent.name} for p in (tmp_path / "imagefolder").rglob("metadata.jsonl") for line in p.read_text().splitlines()]
    assert {line["sample_id"] for line in lines} == set(kept["sample_id"]) and {line["part"] for line in lines} == {"train", "validation", "test"}
    face = next(line for line in lines if line["sample_id"] == kept["sample_id"][0])
    assert (np.asarray(Image.open(tmp_path / "imagefolder" / face["part"] / face["file_name"])) == pixels[0]).all()
    with Store(Workspace(tmp_path / "again")) as other:  # what class folders leave: pixels, split and label
        people_table.add(other, LEAD)
        ingest.import_pictures(other, LEAD, tmp_path / "folder", ingest.Provenance("back"))
        assert other.value("SELECT count(*) FROM samples") == len(kept)


def test_licences_block_an_export_until_a_data_lead_answers_for_them(frozen: tuple[Store, str], tmp_path: Path) -> None:
    store, version_id = frozen
    assert versions.export.blocked(versions.card(store.workspace, version_id), store) == {}
    for licence, part in ((None, "states no licence"), ("CC BY-NC-SA 4.0", "its licence is 'CC BY-NC-SA 4.0'"), ("research use only", "research"),
                          ("Non commercial", "Non commercial")):
        with Store(Workspace(tmp_path / str(licence))) as other:
            people_table.add(other, LEAD)
            ingest.import_fer2013(other, LEAD, tmp_path / "f.csv", licence=licence)
            made = versions.freeze(other, LEAD, Recipe(split="ratios"), "n")
            out = tmp_path / f"out {licence}"
            for actor in (LEAD, REVIEWER):
                with pytest.raises(NotAllowed, match=f"(?s)licence forbids.*fer2013: .*{part}.*--accept-licence"):
                    versions.export.write(other.workspace, made, out, "npz", actor, store=other)
            with pytest.raises(NotAllowed, match="Ask a data lead"):
                versions.export.write(other.workspace, made, out, "npz", REVIEWER, store=other, accept_licence=True)
            assert not out.exists()
            versions.export.write(other.workspace, made, out, "npz", LEAD, accept_licence=True, store=other)
            assert "A data lead accepted the licence: fer2013" in (out / README).read_text()
            row = other.frame("SELECT * FROM exports").iloc[0]
            assert row["person_id"] == "dana" and "fer2013" in row["accepted"] and row["format"] == "npz"


def test_nothing_is_overwritten_and_a_cancelled_export_leaves_nothing(frozen: tuple[Store, str], tmp_path: Path) -> None:
    store, version_id = frozen
    out = tmp_path / "out"
    versions.export.write(store.workspace, version_id, out, "npz", REVIEWER)
    with pytest.raises(Conflict, match="--force"):
        versions.export.write(store.workspace, version_id, out, "fer2013", LEAD)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("x")
    with pytest.raises(Conflict, match="holds something else"):
        versions.export.write(store.workspace, version_id, mine, "npz", LEAD, force=True)
    with pytest.raises(Conflict, match="holds something else"):
        versions.export.write(store.workspace, version_id, mine / "thesis.txt", "npz", LEAD, force=True)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    for to in (out, tmp_path / "new"):
        with pytest.raises(KeyboardInterrupt):
            versions.export.write(store.workspace, version_id, to, "folder", LEAD, force=True, progress=stop)
    assert "in the form npz" in (out / README).read_text() and not (tmp_path / "new").exists() and not list(tmp_path.glob(".*"))
    assert (mine / "thesis.txt").read_text() == "x"
    with pytest.raises(BadInput, match="Choose one of folder"):
        versions.export.write(store.workspace, version_id, tmp_path / "x", "coco", LEAD)
    with pytest.raises(BadInput, match="carries votes"):
        versions.export.write(store.workspace, version_id, tmp_path / "x", "ferplus", LEAD)
    with pytest.raises(NotAllowed):
        versions.export.write(store.workspace, version_id, tmp_path / "x", "npz", ANNOTATOR)
    with pytest.raises(NotFound):
        versions.export.write(store.workspace, "b-v1", tmp_path / "x", "npz", LEAD)


def test_a_damaged_version_is_not_exported(frozen: tuple[Store, str], tmp_path: Path) -> None:
    store, version_id = frozen
    path = store.workspace.versions / version_id / "pixels.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(Conflict, match="do not match"):
        versions.export.write(store.workspace, version_id, tmp_path / "x", "npz", LEAD)
    shutil.rmtree(path.parent)
    with pytest.raises(NotFound):
        versions.export.write(store.workspace, version_id, tmp_path / "x", "npz", LEAD)
