"""Listings and label maps in every spelling, and labels made elsewhere."""

import contextlib
import csv
import hashlib
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from helpers import ANNOTATOR, LEAD, fer_line, some_faces, write_fer
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_ingest_pictures import folder_of, png, reasons

from fercore import ingest
from fercore.domain import PERMISSIONS, Permission, Role
from fercore.errors import BadInput, Conflict, NotAllowed, NotFound
from fercore.ingest import label_maps
from fercore.ingest.folder import Refused, shown
from fercore.ingest.listing import NAMES, Columns, Line, _plain, read_lines
from fercore.schemes import CLASSES
from fercore.store import Store

ABOUT = ingest.Provenance("listed")


def listed(store: Store) -> list[tuple[object, ...]]:
    return store.rows("SELECT f.file_name, f.raw_label, f.given_label, f.source_split FROM sample_files AS f ORDER BY ALL")


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# ---- listings -------------------------------------------------------------------------------------------------------------------

CELL = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=12).map(lambda t: " ".join(t.split())).filter(bool)
SPELLED = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Z"), blacklist_characters="\t,;\"\ufeff"), min_size=1, max_size=12)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=8), st.sampled_from(",;\t"), st.booleans(), st.sampled_from(["\n", "\r\n"]),
       st.booleans(), st.permutations([0, 1, 2]))
def test_what_is_written_as_a_csv_is_read_again(tmp_path: Path, rows: list[tuple[str, str, str]], delimiter: str, header: bool, end: str, bom: bool,
                                                order: list[int]) -> None:
    names = ["file_name", "Emotion", "split"]
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    if header:
        writer.writerow([names[i] for i in order])
    writer.writerows([[row[i] for i in order] for row in rows])
    path = written(tmp_path / "list.txt", ("\ufeff" if bom else "") + out.getvalue())
    chosen = None if header else Columns(*(str(order.index(i) + 1) for i in range(3)))
    if not header and any(_plain(c) in NAMES["image"] | NAMES["row"] | NAMES["sample"] for c in rows[0]):
        return
    first = out.getvalue().splitlines()[0]
    if next(d for d in "\t,;" if d in first) != delimiter:
        return  # a cell of the first row holds another delimiter
    lines = read_lines(path, chosen)
    assert [(line.image, line.label, line.split) for line in lines if isinstance(line, Line)] == rows
    assert [line.number for line in lines if isinstance(line, Line)] == list(range(1 + header, len(rows) + 1 + header))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(SPELLED, st.integers(1, 7)), min_size=1, max_size=8))
def test_what_is_written_with_blanks_is_read_again(tmp_path: Path, rows: list[tuple[str, int]]) -> None:
    path = written(tmp_path / "list.txt", "\n\n" + "".join(f"{n}.jpg {v}\n" for n, v in rows))
    assert [(line.image, line.label, line.number) for line in read_lines(path) if isinstance(line, Line)] == [
        (f"{n}.jpg", str(v), i) for i, (n, v) in enumerate(rows, 3)]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_lines_or_a_refusal(tmp_path: Path, data: bytes) -> None:
    path = written(tmp_path / "junk.txt", data)
    try:
        found = read_lines(path)
    except BadInput:
        return
    assert all(isinstance(item, Line | Refused) for item in found)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40))
def test_any_file_name_can_be_shown_and_stored(name: bytes) -> None:
    text = shown(os.fsdecode(name.replace(b"\0", b"")))
    assert text.isprintable() and text.encode("utf-8").decode() == text and shown(text) == text


def test_rafdb_lists_with_numbers_and_aligned_files(store: Store, tmp_path: Path) -> None:
    words = ["surprise", "fear", "disgust", "happy", "sad", "angry", "neutral"]
    faces = some_faces(8)
    root = folder_of(tmp_path / "aligned", {f"{'train' if i < 5 else 'test'}_{i:05}_aligned.png": png(f) for i, f in enumerate(faces)})
    text = "".join(f"{'train' if i < 5 else 'test'}_{i:05}.png {i + 1}\n" for i in range(8))
    report = ingest.import_pictures(store, LEAD, root, ABOUT, list_file=written(tmp_path / "list_partition_label.txt", text))
    assert report.label_map == "rafdb@1" and report.rejected == [] and report.unmapped == 1
    assert [r[1:] for r in sorted(listed(store), key=lambda r: str(r[1]))] == [
        (str(i + 1), (words + [None])[i], "train" if i < 5 else "test") for i in range(8)]


def test_a_legend_with_mixed_case_repeats_missing_and_unlisted_files(store: Store, tmp_path: Path) -> None:
    faces = some_faces(4)
    root = folder_of(tmp_path / "images", {f"Anna_{i}.png": png(f) for i, f in enumerate(faces)})
    legend = written(tmp_path / "legend.csv", "user.id,image,emotion\n628,Anna_0.png,anger\n628,Anna_1.png,SURPRISE\ndwdii,Anna_0.png,anger\n"
                     "x,Anna_1.png,HAPPINESS\nx,nobody.png,fear\nx,../secret.png,fear\nx,/etc/passwd,fear\nx,Anna_2.png,Calm\nx\n")
    report = ingest.import_pictures(store, LEAD, root, ABOUT, list_file=legend)
    assert [(line, reason) for _, line, reason, _ in report.rejected] == [
        (4, "repeats line 2"), (6, "no such file"), (7, "names a file outside the folder"), (8, "names a file outside the folder"), (10, "1 of 3 columns")]
    assert listed(store) == [("Anna_0.png", "anger", "angry", None), ("Anna_1.png", "HAPPINESS", "happy", None), ("Anna_1.png", "SURPRISE", "surprise", None),
                             ("Anna_2.png", "Calm", None, None)]
    assert ingest.import_pictures(store, LEAD, root, ABOUT, list_file=legend).unchanged
    more = ingest.import_pictures(store, LEAD, root, ABOUT, list_file=legend, unlisted=True)
    assert more.counts == {"added": 1} and ("Anna_3.png", None, None, None) in listed(store)


def test_a_listing_changes_labels_without_moving_samples(store: Store, tmp_path: Path) -> None:
    same = png(some_faces(1)[0])
    root = folder_of(tmp_path / "images", {"a.png": same, "b.png": same})
    ingest.import_pictures(store, LEAD, root, ABOUT, list_file=written(tmp_path / "l.csv", "file,label\na.png,happy\nb.png,sad\n"))
    before = dict(store.rows("SELECT file_name, sample_id FROM sample_files"))
    report = ingest.import_pictures(store, LEAD, root, ABOUT, list_file=written(tmp_path / "l.csv", "file,label\nb.png,happy\na.png,sad\n"))
    assert report.counts == {"relabelled": 2} and dict(store.rows("SELECT file_name, sample_id FROM sample_files")) == before
    assert dict(store.rows("SELECT f.file_name, s.given_label FROM samples AS s JOIN sample_files AS f USING (sample_id)")) == {"a.png": "sad", "b.png": "happy"}


def test_affectnet_columns_boxes_and_eight_classes(store: Store, tmp_path: Path) -> None:
    big = np.random.default_rng(0).integers(0, 256, (60, 80), dtype=np.uint8)
    root = folder_of(tmp_path / "images", {"1/a.png": png(big), "2/a.png": png(255 - big)})
    text = ("subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence\n"
            "1/a.png,10,5,48,48,1;2,1,0.1\n2/a.png,0,0,20,20,1;2,7,0.1\na.png,0,0,20,20,1;2,1,0\n1/a.png,x,0,20,20,1;2,1,0\n1/a.png,90,0,20,20,1;2,1,0\n")
    report = ingest.import_pictures(store, LEAD, root, ABOUT, list_file=written(tmp_path / "l.csv", text), label_map=ingest.find_map("affectnet"),
                                    columns=Columns(box=ingest.box_of("face_x, face_y,face_width,face_height")))
    assert [r[2] for r in report.rejected] == ["2 files have this name", "the face box is not four numbers", "the face box 90, 0, 110, 20 lies outside the picture"]
    assert report.labels == [("1", "happy", 1), ("7", None, 1)]
    assert bytes(store.value("SELECT i.gray48 FROM images AS i JOIN sample_files AS f USING (image_id) WHERE raw_label = '1'")) == big[5:53, 10:58].tobytes()


def test_expw_lists_with_corners_and_several_faces_a_picture(store: Store, tmp_path: Path) -> None:
    big = np.random.default_rng(0).integers(0, 256, (60, 120), dtype=np.uint8)
    root = folder_of(tmp_path / "origin", {"crowd_1.jpg": png(big), "crowd_2.jpg": png(255 - big)})
    text = "crowd_1.jpg 0 5 10 58 53 48.3 3\ncrowd_1.jpg 1 6 60 108 54 22.0 6\ncrowd_2.jpg 0 0 70 200 300 9.1 0\ncrowd_2.jpg 1 9 50 20 40 9.1 0\n"
    columns = Columns(box=ingest.box_of("4,3,5,6"), corners=True)  # name, face, top, left, right, bottom, confidence, label
    report = ingest.import_pictures(store, LEAD, root, ABOUT, list_file=written(tmp_path / "label.lst", text), columns=columns,
                                    label_map=ingest.find_map("expw"))
    assert [(r[1], r[2]) for r in report.rejected] == [(4, "the face box 50, 9, 20, 40 lies outside the picture")]
    assert listed(store) == [("crowd_1.jpg", "3", "happy", None), ("crowd_1.jpg", "6", "neutral", None), ("crowd_2.jpg", "0", "angry", None)]
    pixels = dict(store.rows("SELECT f.raw_label, i.gray48 FROM images AS i JOIN sample_files AS f USING (image_id)"))
    assert bytes(pixels["3"]) == big[5:53, 10:58].tobytes() and bytes(pixels["6"]) == big[6:54, 60:108].tobytes()
    assert store.rows("SELECT i.height, i.width FROM images AS i JOIN sample_files AS f USING (image_id) WHERE f.raw_label = '0'") == [(60, 50)]


@pytest.mark.parametrize(("text", "columns", "part"), [
    ("", None, "The file is empty"), ("\0\0", None, "Not a text file"), ("a,b\n", Columns(image="file"), "No such column"),
    ("a.png happy\n", Columns(label="3"), "No such column"), ("a.png,1\n", Columns(label="0"), "No such column")])
def test_unusable_listings_are_refused(tmp_path: Path, text: str, columns: Columns | None, part: str) -> None:
    with pytest.raises(BadInput, match=part):
        read_lines(written(tmp_path / "l.csv", text), columns)


# ---- label maps -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "text", "class_id"), [
    ("generic", "ANGER", "angry"), ("generic@1", "surprised", "surprise"), ("generic", " Scared ", "fear"), ("generic", "calm", None), ("generic", "1", None),
    ("fer2013", "0", "angry"), ("fer2013", "6", "neutral"), ("rafdb", "1", "surprise"), ("rafdb", "7", "neutral"), ("rafdb", "0", None), ("expw", "0", "angry"),
    ("affectnet", "0", "neutral"), ("affectnet", "6", "angry"), ("affectnet", "7", None), ("affectnet", "contempt", None), ("generic", "contempt", "contempt"),
    ("fed", "Agree", "amenability"), ("fed", "Think", "concentration"), ("oahega", "Happy", "happy"), ("oahega", "Ahegao", None), ("oahega", "Fear", None)])
def test_built_in_maps(name: str, text: str, class_id: str | None) -> None:
    assert ingest.find_map(name)(text) == class_id


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(list(ingest.MAPS.values())), st.text(max_size=20))
def test_a_map_gives_a_class_or_nothing_in_any_case(chosen: ingest.LabelMap, text: str) -> None:
    assert chosen(text) is None or chosen(text) in CLASSES
    for word in list(chosen.classes)[:5]:
        assert chosen(f"  {word.upper()}\t") == chosen(word) == chosen.classes[word]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.sampled_from(["happy", "Happy", "calm", "sad"])), max_size=30))
def test_a_preview_counts_every_row_once(labels: list[str | None]) -> None:
    counted = label_maps.preview(labels, ingest.find_map("generic"))
    assert sorted((t or "", n) for t, _, n in counted) == sorted((t or "", labels.count(t)) for t in set(labels))
    assert {t: c for t, c, _ in counted if t} == {t: {"happy": "happy", "Happy": "happy", "sad": "sad"}.get(t) for t in set(labels) if t}


def test_a_map_of_ones_own_and_what_is_wrong_with_it(tmp_path: Path) -> None:
    good = written(tmp_path / "mine.yaml", "labels:\n  1: happy\n  'no': neutral\n  Very Sad: sad\n  odd: null\n")
    chosen = ingest.find_map(str(good))
    assert [chosen(t) for t in ("1", "NO", "very_sad", "odd", "x")] == ["happy", "neutral", "sad", None, None]
    assert chosen.map_id.startswith("mine@") and ingest.find_map(str(written(tmp_path / "mine.json", '{"1": "sad"}'))).map_id != chosen.map_id
    for text, part in (("a: cheerful", "cheerful"), ("no: neutral", "quotes"), ("a: [1]", "label map cannot"), ("A: sad\na: happy", "twice"), ("- a", "Not a mapping")):
        with pytest.raises(BadInput, match=part):
            ingest.find_map(str(written(tmp_path / "bad.yaml", text)))
    with pytest.raises(NotFound, match="Built in: generic@1"):
        ingest.find_map("nothing")


# ---- labels made elsewhere ------------------------------------------------------------------------------------------------------


@pytest.fixture
def faces(store: Store, tmp_path: Path) -> Store:
    """Four pictures of one source, two with one name."""
    files = {f"train/{n}.png": png(f) for n, f in zip("abc", some_faces(3), strict=True)} | {"test/c.png": png(some_faces(1, 9)[0])}
    ingest.import_pictures(store, LEAD, folder_of(tmp_path / "set", files), ABOUT)
    return store


def votes(store: Store) -> list[tuple[object, ...]]:
    return store.rows("SELECT f.file_name, v.field, v.value, v.votes, v.origin FROM votes AS v JOIN sample_files AS f USING (sample_id) ORDER BY ALL")


def test_a_spreadsheet_becomes_imported_votes_of_its_origin(faces: Store, tmp_path: Path) -> None:
    sample = faces.value("SELECT sample_id FROM sample_files WHERE file_name = 'test/c.png'")
    sheet = written(tmp_path / "Anna 2.csv", f"image;emotion\na.png;Happiness\ntrain\\b.png;sad\nb.png;angry\n{sample};fear\nc.png;sad\nz.png;sad\na.png;jolly\n")
    report = ingest.import_labels(faces, LEAD, sheet)
    assert votes(faces) == [("test/c.png", "expression", "fear", 1, "anna-2"), ("train/a.png", "expression", "happy", 1, "anna-2"),
                            ("train/b.png", "expression", "angry", 1, "anna-2"), ("train/b.png", "expression", "sad", 1, "anna-2")]
    assert [(line, why) for line, why, _ in report.rejected] == [(6, "several pictures have this name"), (7, "no such picture here"), (8, "unknown label 'jolly'")]
    assert report.votes_added == 4 and "4 imported votes of anna-2" in report.sentence()
    assert ingest.import_labels(faces, LEAD, sheet).votes_added == 0 and len(votes(faces)) == 4
    with pytest.raises(Conflict, match="other labels"):
        ingest.import_labels(faces, LEAD, written(tmp_path / "Anna 2.csv", "image,emotion\na.png,sad\n"))
    assert ingest.import_labels(faces, LEAD, written(tmp_path / "Anna 2.csv", "image,emotion\na.png,sad\n"), origin="Ben").votes_added == 1
    assert faces.rows("SELECT kind FROM sources") == [("folder",)]


def test_rows_are_named_with_their_source(store: Store, tmp_path: Path) -> None:
    ingest.import_fer2013(store, LEAD, write_fer(tmp_path / "f.csv", [fer_line(1, f) for f in some_faces(3)]))
    sheet = written(tmp_path / "s.csv", "csv_row,label\n0,happy\n2,sad\n3,sad\n")
    with pytest.raises(BadInput, match="together with a source"):
        ingest.import_labels(store, LEAD, sheet)
    assert ingest.import_labels(store, LEAD, sheet, source="fer2013").votes_added == 2
    assert store.rows("SELECT s.source_row, v.value FROM votes AS v JOIN samples AS s USING (sample_id) ORDER BY 1") == [(0, "happy"), (2, "sad")]


def test_a_person_s_answers_become_label_events_once(faces: Store, tmp_path: Path) -> None:
    sheet = written(tmp_path / "s.csv", "file,label\na.png,happy\nb.png,sad\nb.png,angry\n")
    report = ingest.import_labels(faces, LEAD, sheet, by=ANNOTATOR)
    assert report.events == 2 and report.rejected == [(4, "an earlier line says otherwise of the same face", "b.png")]
    ingest.import_labels(faces, LEAD, sheet, by=ANNOTATOR)
    assert faces.rows("SELECT f.file_name, e.value, e.person_id FROM label_events AS e JOIN sample_files AS f USING (image_id) ORDER BY ALL") == [
        ("train/a.png", "happy", "ann"), ("train/b.png", "sad", "ann")]
    assert faces.rows("SELECT current_label FROM samples AS s JOIN sample_files AS f USING (sample_id) WHERE file_name = 'train/a.png'") == [("happy",)]


def test_answers_of_somebody_else_need_who_manages_people(faces: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sheet = written(tmp_path / "s.csv", "file,label\na.png,happy\n")
    monkeypatch.setitem(PERMISSIONS, Role.DATA_LEAD, PERMISSIONS[Role.DATA_LEAD] - {Permission.PEOPLE})
    with pytest.raises(NotAllowed, match="manage people"):
        ingest.import_labels(faces, LEAD, sheet, by=ANNOTATOR)
    assert faces.rows("FROM label_events") == []
    assert ingest.import_labels(faces, LEAD, sheet, by=LEAD).events == 1


def test_a_text_of_dark_pictures_flags_them(faces: Store, tmp_path: Path) -> None:
    report = ingest.import_labels(faces, LEAD, written(tmp_path / "dark.txt", "a.png\n\ntrain/c.png\nmissing.png\n"), flag="dark")
    assert report.events == 2 and [r[0] for r in report.rejected] == [4]
    assert faces.rows("SELECT f.file_name FROM samples AS s JOIN sample_files AS f USING (sample_id) WHERE flags = 'dark' ORDER BY 1") == [("train/a.png",), ("train/c.png",)]
    with pytest.raises(NotFound, match="Unknown field"):
        ingest.import_labels(faces, LEAD, tmp_path / "dark.txt", flag="ugly")


def test_label_studio_exports_in_both_forms(faces: Store, tmp_path: Path) -> None:
    def annotation(*choices: str, **more: object) -> dict[str, object]:
        return {"result": [{"type": "choices", "value": {"choices": list(choices)}}], **more}

    tasks = [{"data": {"image": "/data/upload/3/0a1b2c3d-a.png"}, "annotations": [annotation("Happy"), annotation("Happy"), annotation("Sad"),
                                                                                  annotation("Fear", was_cancelled=True)]},
             {"data": {"image": "/data/local-files/?d=train/b.png"}, "annotations": [annotation("Surprise")]},
             {"data": {"image": "train/c.png"}, "annotations": []}, {"data": 5, "annotations": 7}]
    report = ingest.import_labels(faces, LEAD, written(tmp_path / "team.json", json.dumps(tasks)))
    assert votes(faces) == [("train/a.png", "expression", "happy", 2, "team"), ("train/a.png", "expression", "sad", 1, "team"),
                            ("train/b.png", "expression", "surprise", 1, "team")]
    assert report.rejected == [(3, "no choice was made", "train/c.png"), (4, "no choice was made", "")]
    ingest.import_labels(faces, LEAD, written(tmp_path / "min.json", json.dumps([{"image": "train/c.png", "choice": "Neutral", "annotator": 1}])))
    assert ("train/c.png", "expression", "neutral", 1, "min") in votes(faces)
    for bad in ("{", '{"a": 1}', "[1]", "[" * 100_000):
        with pytest.raises(BadInput):
            ingest.import_labels(faces, LEAD, written(tmp_path / "bad.json", bad))


def test_labels_that_fit_nothing_and_people_who_may_not(faces: Store, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No label could be used"):
        ingest.import_labels(faces, LEAD, written(tmp_path / "s.csv", "image,label\nzzz.png,happy\n"))
    with pytest.raises(NotAllowed):
        ingest.import_labels(faces, ANNOTATOR, tmp_path / "s.csv")


def test_a_tsv_without_header_and_splits_of_the_listing(store: Store, tmp_path: Path) -> None:
    root = folder_of(tmp_path / "i", {f"{n}.png": png(f) for n, f in zip("ab", some_faces(2), strict=True)})
    report = ingest.import_pictures(store, LEAD, root, ABOUT, list_file=written(tmp_path / "l.tsv", "Training\ta.png\tjoy\nheld out\tb.png\tsad\n"),
                                    columns=Columns(split="1"))
    assert reasons(report) == {} and listed(store) == [("a.png", "joy", "happy", "train"), ("b.png", "sad", "sad", "held out")]


def test_answers_that_are_given_again_after_others_count_again(faces: Store, tmp_path: Path) -> None:
    happy, sad = (written(tmp_path / f"{label}.csv", f"file,label\na.png,{label}\n") for label in ("happy", "sad"))
    told = [ingest.import_labels(faces, LEAD, sheet, by=ANNOTATOR).events for sheet in (happy, happy, sad, happy)]
    assert told == [1, 0, 1, 1] and faces.value("SELECT value FROM standing WHERE person_id = 'ann'") == "happy"
    assert "Nothing changed" in ingest.import_labels(faces, LEAD, happy, by=ANNOTATOR, dry_run=True).sentence()


def test_who_recorded_answers_of_another_person_and_from_what_is_kept(faces: Store, tmp_path: Path) -> None:
    sheet = written(tmp_path / "s.csv", "file,label\na.png,happy\n")
    ingest.import_labels(faces, LEAD, sheet, by=ANNOTATOR)
    ingest.import_labels(faces, LEAD, sheet)
    sha = hashlib.sha256(sheet.read_bytes()).hexdigest()
    assert faces.rows("SELECT file_name, file_sha256, person_id, note, votes_added FROM imports WHERE kind = 'labels' ORDER BY recorded_at") == [
        ("s.csv", sha, LEAD.person_id, f"1 label events of {ANNOTATOR.person_id}", 0), ("s.csv", sha, LEAD.person_id, None, 1)]


@pytest.mark.parametrize("origin", ["annotator", "FERplus", "tags"])
def test_a_file_does_not_pose_as_votes_of_another_kind(faces: Store, tmp_path: Path, origin: str) -> None:
    sheet = written(tmp_path / f"{origin}.csv", "file,label\na.png,happy\n")
    with pytest.raises(BadInput, match="need another name"):
        ingest.import_labels(faces, LEAD, sheet)
    assert votes(faces) == [] and ingest.import_labels(faces, LEAD, sheet, origin="Ben").votes_added == 1


def test_a_name_whose_file_is_gone_means_the_file_that_has_it_now(store: Store, tmp_path: Path) -> None:
    old, new = some_faces(2)
    for face in (old, new):
        ingest.import_pictures(store, LEAD, folder_of(tmp_path / "i", {"a.png": png(face)}), ABOUT)
    ingest.import_labels(store, LEAD, written(tmp_path / "s.csv", "file,label\na.png,happy\n"))
    assert store.rows("SELECT f.gone, v.value FROM votes AS v JOIN sample_files AS f USING (sample_id)") == [(False, "happy")]


def test_a_listed_file_that_was_deleted_is_gone(store: Store, tmp_path: Path) -> None:
    root = folder_of(tmp_path / "i", {f"{n}.png": png(f) for n, f in zip("ab", some_faces(2), strict=True)})
    listing = written(tmp_path / "l.csv", "file,label\na.png,happy\nb.png,sad\n")
    ingest.import_pictures(store, LEAD, root, ABOUT, list_file=listing)
    (root / "b.png").unlink()
    assert ingest.import_pictures(store, LEAD, root, ABOUT, list_file=listing).counts["gone"] == 1


def test_columns_of_any_script_and_headers_without_end(tmp_path: Path) -> None:
    read = read_lines(written(tmp_path / "l.csv", "文件名,表情\na.png,happy\n"), Columns("文件名", "表情"))
    assert [(line.image, line.label) for line in read] == [("a.png", "happy")]
    wide = written(tmp_path / "w.csv", ",".join(f"c{i}" for i in range(5000)) + "\n")
    for columns in (Columns(label="c1"), Columns("zz")):
        with pytest.raises(BadInput, match="and 4,980 more") as error:
            read_lines(wide, columns)
        assert len(str(error.value)) < 500


def test_aliases_are_refused_in_maps(tmp_path: Path) -> None:
    bomb = "happy: happy\nb0: &b0 {x: happy}\n" + "".join(f"b{i}: &b{i} {{<<: [{', '.join([f'*b{i - 1}'] * 20)}]}}\n" for i in range(1, 12))
    with pytest.raises(BadInput, match="line 3: aliases are not read"):
        ingest.find_map(str(written(tmp_path / "m.yaml", bomb)))
    with pytest.raises(BadInput, match="too large"):
        ingest.find_map(str(written(tmp_path / "m.yaml", "a" * (2 << 20))))


json_values = st.recursive(st.none() | st.integers() | st.text(st.characters(), max_size=5), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
    st.sampled_from(["data", "image", "annotations", "result", "value", "choices", "choice", "was_cancelled"]), inner, max_size=4), max_leaves=12)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.sampled_from(["data", "image", "annotations", "choice"]), json_values, max_size=4), max_size=3))
@example([{"image": "\ud800.png", "choice": "happy"}])
@example([{"image": "a.png", "choice": "\ud800"}])
@example([{"image": "a.png", "annotations": [{"result": 5}, {"result": [{"value": {"choices": 5}}]}]}])
def test_any_json_is_labels_or_a_refusal(faces: Store, tmp_path: Path, tasks: list[dict[str, object]]) -> None:
    with contextlib.suppress(BadInput):
        ingest.import_labels(faces, LEAD, written(tmp_path / "t.json", json.dumps(tasks)), dry_run=True)
