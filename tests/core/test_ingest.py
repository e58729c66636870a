"""FER-2013 files: every row in or rejected with its reason, nothing half-written, the same again changes nothing."""

import gzip
import hashlib
import io
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers import ANNOTATOR, LEAD, SHARED_DATA, fer_line, needs_real_data, some_faces, write_fer, write_votes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fercore import audit, ingest
from fercore.domain import image_id, sample_id
from fercore.errors import BadInput, Conflict, NotAllowed
from fercore.ingest import fer2013
from fercore.ingest.fer2013 import FerRow, Rejected, read_fer2013
from fercore.store import Store, findings, samples


def test_rows_come_in_with_their_pixels_label_and_split(store: Store, small_file: Path) -> None:
    report = ingest.import_fer2013(store, LEAD, small_file)
    assert (report.read, report.added, report.rejected) == (70, 70, [])
    faces = some_faces(70)
    rows = store.rows("SELECT s.given_label, s.source_split, i.gray48, s.image_id FROM samples AS s JOIN images AS i USING (image_id) "
                      "WHERE sample_id = $id", {"id": sample_id("fer2013", 60)})
    assert rows == [("sad", "PublicTest", faces[60].tobytes(), image_id(faces[60]))]
    assert store.value("SELECT mean FROM images WHERE image_id = $i", {"i": image_id(faces[60])}) == pytest.approx(faces[60].mean())


def test_the_same_file_again_changes_nothing_and_says_so(store: Store, small_file: Path) -> None:
    ingest.import_fer2013(store, LEAD, small_file)
    imports = store.rows("FROM facts.import")
    packed = small_file.with_suffix(".csv.gz")
    packed.write_bytes(gzip.compress(small_file.read_bytes()))
    for path in (small_file, packed):
        report = ingest.import_fer2013(store, LEAD, path)
        assert report.unchanged and "Nothing changed" in report.sentence()
    assert store.value("SELECT count(*) FROM samples") == 70 and store.rows("FROM facts.import") == imports


def test_every_bad_row_is_named_with_its_reason_and_the_rest_comes_in(store: Store, tmp_path: Path) -> None:
    faces = some_faces(3)
    good = fer_line(3, faces[0])
    path = write_fer(tmp_path / "f.csv", [
        good, "3,1 2 3,Training", fer_line(3, faces[1]).replace(" 1", " 300", 1), fer_line(7, faces[1]), fer_line("x", faces[1]),
        fer_line(3, faces[1], "Train"), "3,1 2", fer_line(3, faces[1]) + ",extra", fer_line(3, faces[1]).replace(" 1", " -1", 1),
        fer_line(3, faces[1]).replace(" 1", " 1.5", 1), fer_line(0, faces[2], "PrivateTest")])
    report = ingest.import_fer2013(store, LEAD, path)
    assert report.added == 2 and report.read == 11
    assert [r[:2] for r in report.rejected] == [(i, i + 2) for i in range(1, 10)]
    reasons = [r[2] for r in report.rejected]
    for reason, part in zip(reasons, ["3 pixels instead of 2,304", "outside 0-255", "unknown emotion '7'", "unknown emotion 'x'",
                                      "unknown Usage 'Train'", "truncated line", "4 columns", "outside 0-255", "not whole numbers"], strict=True):
        assert part in reason
    kept = samples.rejected(store, "fer2013")
    assert kept["reason"].tolist() == reasons and kept["line"].tolist() == [r[1] for r in report.rejected]


@pytest.mark.parametrize(("make", "part"), [
    (lambda p: p, "No such file"),
    (lambda p: p.parent, "Not a file"),
    (lambda p: write_fer(p, [], header="") and p.write_bytes(b"") is not None and p, "The file is empty"),
    (lambda p: write_fer(p, []), "has a header but no row"),
    (lambda p: write_fer(p, ["1,2"], header="a,b"), "Not a FER-2013 CSV"),
    (lambda p: write_fer(p, ["1,2"]), "No row could be used"),
])
def test_unusable_files_are_refused_and_nothing_is_written(store: Store, tmp_path: Path, make, part: str) -> None:
    with pytest.raises(BadInput, match=part):
        ingest.import_fer2013(store, LEAD, make(tmp_path / "f.csv"))
    assert store.rows("SELECT count(*) FROM samples") == [(0,)] and store.rows("FROM facts.import") == []


def test_a_gzip_cut_short_is_refused_whole_even_after_full_batches(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fer2013, "BATCH", 16)
    faces = some_faces(8)
    lines = [fer_line(i % 7, faces[i % 8]) for i in range(100)]
    data = gzip.compress(("emotion,pixels,Usage\n" + "\n".join(lines)).encode())
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(data[: int(len(data) * 0.99)])
    with pytest.raises(BadInput, match="cut short"):
        ingest.import_fer2013(store, LEAD, path)
    assert store.rows("SELECT count(*) FROM images") == [(0,)] and store.rows("FROM facts.import") == []


def test_votes_join_by_row_and_come_in_later_too(store: Store, tmp_path: Path) -> None:
    faces = some_faces(3)
    # The middle row is rejected: the votes must not shift.
    path = write_fer(tmp_path / "f.csv", [fer_line(3, faces[0]), "3,1 2 3,Training", fer_line(4, faces[2], "PublicTest")])
    votes = write_votes(tmp_path / "v.csv", [[10] + [0] * 9, [0, 10] + [0] * 8, [0, 0, 0, 7, 0, 0, 0, 0, 1, 2]],
                        ["Training", "Training", "PublicTest"])
    assert ingest.import_fer2013(store, LEAD, path).votes_added == 0
    assert ingest.import_fer2013(store, LEAD, path, ferplus=votes).votes_added == 4
    assert ingest.import_fer2013(store, LEAD, path, ferplus=votes).unchanged
    assert store.rows("SELECT image_id, value, votes FROM votes ORDER BY ALL") == sorted(
        [(image_id(faces[0]), "neutral", 10), (image_id(faces[2]), "sad", 7), (image_id(faces[2]), "unknown", 1), (image_id(faces[2]), "non_face", 2)])


@pytest.mark.parametrize(("usages", "part"), [(["Training", "PublicTest"], "Row 1 is Training"), (["Training"], "has 1 rows, the faces 2"),
                                              (["Training"] * 3, "has 3 rows")])
def test_votes_of_another_file_are_refused(store: Store, tmp_path: Path, usages: list[str], part: str) -> None:
    path = write_fer(tmp_path / "f.csv", [fer_line(i, f) for i, f in enumerate(some_faces(2))])
    votes = write_votes(tmp_path / "v.csv", [[10] + [0] * 9] * len(usages), usages)
    with pytest.raises(BadInput, match=part):
        ingest.import_fer2013(store, LEAD, path, ferplus=votes)
    assert store.rows("SELECT count(*) FROM samples") == [(0,)]


def test_votes_alone_go_onto_rows_that_are_here(store: Store, tmp_path: Path) -> None:
    faces = some_faces(3)
    path = write_fer(tmp_path / "f.csv", [fer_line(3, faces[0]), "3,1 2 3,Training", fer_line(4, faces[2], "PublicTest")])
    counts, usages = [[10] + [0] * 9, [0, 10] + [0] * 8, [0, 0, 0, 7, 0, 0, 0, 0, 1, 2]], ["Training", "Training", "PublicTest"]
    votes = write_votes(tmp_path / "v.csv", counts, usages)
    with pytest.raises(BadInput, match="no FER-2013 file"):
        ingest.import_votes(store, LEAD, votes)
    ingest.import_fer2013(store, LEAD, path)
    for wrong in (write_votes(tmp_path / "w.csv", counts[:2], usages[:2]), write_votes(tmp_path / "w.csv", counts, ["Training"] * 3)):
        with pytest.raises(BadInput, match="belong to another file"):
            ingest.import_votes(store, LEAD, wrong)
    assert ingest.import_tags(store, LEAD, votes).votes_added == 4  # the same command as for tags
    assert store.rows("SELECT s.source_row, v.value, v.votes FROM votes AS v JOIN samples AS s USING (sample_id) ORDER BY ALL") == [
        (0, "neutral", 10), (2, "non_face", 2), (2, "sad", 7), (2, "unknown", 1)]
    assert ingest.import_votes(store, LEAD, votes).unchanged and ingest.import_fer2013(store, LEAD, path, ferplus=votes).unchanged
    with pytest.raises(Conflict, match="other votes"):
        ingest.import_votes(store, LEAD, write_votes(tmp_path / "w.csv", [[9, 1] + [0] * 8, *counts[1:]], usages))
    assert store.rows("SELECT kind FROM sources") == [("fer2013 csv",)]
    with pytest.raises(NotAllowed):
        ingest.import_votes(store, ANNOTATOR, votes)


def packed(path: Path, members: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
            for name, data in members.items():
                out.writestr(name, data)
    else:
        with tarfile.open(path, f"w:{path.suffix[1:]}") as tape:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tape.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("name", ["f.zip", "f.tar.gz"])
def test_the_file_may_come_in_an_archive(store: Store, small_file: Path, tmp_path: Path, name: str) -> None:
    ingest.import_fer2013(store, LEAD, small_file)
    data, beside = small_file.read_bytes(), {"fer2013/README": b"hello", "__MACOSX/._fer2013.csv": b"x"}
    path = packed(tmp_path / name, beside | {"fer2013/fer2013.csv": data})
    seen: list[tuple[int, int]] = []
    report = ingest.import_fer2013(store, LEAD, path, progress=lambda *p: seen.append(p))
    assert report.unchanged and report.read == 70 and seen[-1] == (path.stat().st_size,) * 2
    for members, count in ((beside, 0), ({"a.csv": data, "b.CSV": data}, 2)):
        with pytest.raises(BadInput, match=f"holds {count} CSV files"):
            ingest.import_fer2013(store, LEAD, packed(tmp_path / name, members), name="other")
    whole = packed(tmp_path / name, {"a.csv": data}).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match="damaged"):
        ingest.import_fer2013(store, LEAD, path, name="other")


def test_a_file_that_needs_a_password_is_refused(store: Store, small_file: Path, tmp_path: Path) -> None:
    path = packed(tmp_path / "f.zip", {"a.csv": small_file.read_bytes()})
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.rfind(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(data))
    with pytest.raises(BadInput, match="password"):
        ingest.import_fer2013(store, LEAD, path)


def test_another_file_under_the_same_name_is_refused(store: Store, tmp_path: Path) -> None:
    ingest.import_fer2013(store, LEAD, write_fer(tmp_path / "a.csv", [fer_line(1, some_faces(1)[0])]))
    other = write_fer(tmp_path / "b.csv", [fer_line(1, some_faces(1, seed=9)[0])])
    with pytest.raises(Conflict, match="Row 0 of b.csv differs in its pixels"):
        ingest.import_fer2013(store, LEAD, other)
    assert ingest.import_fer2013(store, LEAD, other, name="Other set").source_id == "other-set"


def test_what_the_file_states_of_itself_is_recorded_and_can_be_mended(store: Store, small_file: Path) -> None:
    def said() -> list[tuple[str | None, ...]]:
        return store.rows("SELECT licence, authors, organisation, url, note, imports FROM sources")

    ingest.import_fer2013(store, LEAD, small_file, licence="DbCL", authors="Goodfellow et al.")
    ingest.import_fer2013(store, LEAD, small_file)
    ingest.import_fer2013(store, LEAD, small_file, licence="DbCL")
    assert said() == [("DbCL", "Goodfellow et al.", None, None, None, 1)]
    assert ingest.import_fer2013(store, LEAD, small_file, organisation="A university", url="https://example.org", note="no PrivateTest").unchanged
    assert said() == [("DbCL", "Goodfellow et al.", "A university", "https://example.org", "no PrivateTest", 2)]


def test_an_annotator_may_not_import(store: Store, small_file: Path) -> None:
    with pytest.raises(NotAllowed, match="Ask a data lead"):
        ingest.import_fer2013(store, ANNOTATOR, small_file)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_after_the_header_are_rows_or_rejections(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "junk.csv"
    good = fer_line(2, some_faces(1)[0]).encode()
    path.write_bytes(b"emotion,pixels,Usage\n" + good + b"\n" + junk + b"\n" + good + b"\n")
    items = list(read_fer2013(path))
    assert all(isinstance(i, FerRow | Rejected) for i in items)
    assert isinstance(items[0], FerRow) and isinstance(items[-1], FerRow)
    assert [i.row for i in items] == sorted({i.row for i in items})


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, 6), st.sampled_from(["Training", "PublicTest", "PrivateTest"]), st.integers(0, 2**32 - 1), st.booleans())
def test_a_row_survives_writing_and_reading(tmp_path: Path, emotion: int, usage: str, seed: int, packed: bool) -> None:
    face = np.random.default_rng(seed).integers(0, 256, (48, 48), dtype=np.uint8)
    row, = read_fer2013(write_fer(tmp_path / ("f.csv.gz" if packed else "f.csv"), [fer_line(emotion, face, usage)]))
    assert isinstance(row, FerRow) and row.usage == usage and (row.pixels == face).all()


def test_tags_land_on_their_rows_and_bad_ones_are_named(store: Store, small_file: Path, tmp_path: Path) -> None:
    ingest.import_fer2013(store, LEAD, small_file)
    path = tmp_path / "tags.csv"
    path.write_text("csv_row,emotion,age_group,gender\n5,angry,old,male\n6,angry,young,female\n999,angry,young,female\nx,angry,young,male\n"
                    "8,angry,ancient,male\n")
    report = ingest.import_tags(store, LEAD, path)
    assert report.votes_added == 4 and [r[0] for r in report.rejected] == [999, -1, 8]
    assert store.rows("SELECT age_band, gender FROM samples WHERE source_row IN (5, 6) ORDER BY source_row") == [("senior", "male"), ("young", "female")]
    assert ingest.import_tags(store, LEAD, path).unchanged


def test_identical_faces_with_other_tags_are_decided_by_the_most_and_not_by_order(store: Store, tmp_path: Path) -> None:
    faces = some_faces(3)
    ingest.import_fer2013(store, LEAD, write_fer(tmp_path / "f.csv", [fer_line(1, faces[0])] * 3 + [fer_line(1, faces[1])] * 2))
    path = tmp_path / "tags.csv"
    path.write_text("csv_row,age_group,gender\n0,senior,male\n1,young,male\n2,young,male\n3,young,male\n4,senior,male\n")
    ingest.import_tags(store, LEAD, path)
    assert store.rows("SELECT DISTINCT image_id, age_band, gender FROM samples ORDER BY age_band") == [
        (image_id(faces[0]), "young", "male"), (image_id(faces[1]), None, "male")]


def test_facts_that_are_here_are_not_overwritten_in_silence(store: Store, small_file: Path, tmp_path: Path) -> None:
    ingest.import_fer2013(store, LEAD, small_file)
    path = tmp_path / "tags.csv"
    path.write_text("csv_row,age_group,gender\n5,young,male\n5,senior,male\n")
    assert "other tags in an earlier line" in ingest.import_tags(store, LEAD, path).rejected[0][2]
    path.write_text("csv_row,age_group,gender\n5,senior,male\n")
    with pytest.raises(Conflict, match="other tags"):
        ingest.import_tags(store, LEAD, path)
    usages = ["Training"] * 56 + ["PublicTest"] * 14
    ingest.import_fer2013(store, LEAD, small_file, ferplus=write_votes(tmp_path / "v.csv", [[10] + [0] * 9] * 70, usages))
    with pytest.raises(Conflict, match="other votes"):
        ingest.import_fer2013(store, LEAD, small_file, ferplus=write_votes(tmp_path / "w.csv", [[9, 1] + [0] * 8] * 70, usages))
    assert store.rows("SELECT DISTINCT kind FROM sources") == [("fer2013 csv",)]


def test_a_file_with_rejected_rows_is_recorded_once(store: Store, tmp_path: Path) -> None:
    path = write_fer(tmp_path / "f.csv", [fer_line(1, some_faces(1)[0]), "1,2 3,Training"])
    for _ in range(2):
        ingest.import_fer2013(store, LEAD, path)
    assert store.rows("SELECT count(*) FROM facts.import") == [(1,)] and len(samples.rejected(store, "fer2013")) == 1


@pytest.mark.parametrize("value", ["4294967303", "-4294967287", "9" * 30, "256", "-1"])
def test_no_number_wraps_into_a_pixel(store: Store, tmp_path: Path, value: str) -> None:
    faces = some_faces(2)
    line = fer_line(1, faces[1]).replace(" ", f" {value} ", 1).rsplit(" ", 1)
    path = write_fer(tmp_path / "f.csv", [fer_line(1, faces[0]), line[0] + "," + line[1].split(",")[1]])
    report = ingest.import_fer2013(store, LEAD, path)
    assert report.added == 1 and len(report.rejected) == 1, report


def test_the_audit_finds_what_was_planted(store: Store, small_file: Path) -> None:
    ingest.import_fer2013(store, LEAD, small_file)
    found = audit.run(store, LEAD).set_index("kind")
    assert found.loc["exact_duplicate", ["n_samples", "n_groups"]].tolist() == [6, 3]
    assert found.loc["conflicting_duplicate", ["n_samples", "n_groups"]].tolist() == [4, 2]  # rows 2 and 10; 1 and 65
    assert found.loc["cross_split_duplicate", ["n_samples", "n_groups"]].tolist() == [2, 1]
    assert audit.run(store, LEAD)["n_samples"].tolist() == found["n_samples"].tolist()  # again: the same


def test_dark_bright_and_flat_faces_are_found(store: Store, tmp_path: Path) -> None:
    noise = some_faces(3)
    dark, bright = (noise[0] // 8).astype(np.uint8), np.clip(noise[1].astype(int) // 10 + 230, 0, 255).astype(np.uint8)
    flat = np.full((48, 48), 120, dtype=np.uint8)
    ingest.import_fer2013(store, LEAD, write_fer(tmp_path / "f.csv", [fer_line(0, f) for f in (dark, bright, flat, noise[2])]))
    audit.run(store, LEAD)
    by_kind = dict(store.rows("SELECT kind, list(sample_id) FROM findings GROUP BY kind"))
    assert by_kind["dark"] == [sample_id("fer2013", 0)] and by_kind["bright"] == [sample_id("fer2013", 1)]
    assert sample_id("fer2013", 2) in by_kind["flat"] and sample_id("fer2013", 3) not in by_kind["flat"]


@needs_real_data
def test_the_real_file_gives_the_audited_counts(store: Store) -> None:
    report = ingest.import_fer2013(store, LEAD, SHARED_DATA / "fer2013.csv.gz", ferplus=SHARED_DATA / "fer2013new.csv")
    assert (report.added, len(report.rejected)) == (32_298, 0)
    audit.run(store, LEAD)
    found = findings.summary(store).set_index("kind")
    exact = found.loc["exact_duplicate"]
    assert exact["n_samples"] - exact["n_groups"] == 1_532
    assert found.loc["conflicting_duplicate", ["n_samples", "n_groups"]].tolist() == [129, 47]
    assert found.loc["cross_split_duplicate", ["n_samples", "n_groups"]].tolist() == [631, 270]
    assert found.loc["bright", "n_samples"] == 24
    non_face = "SELECT count(*) FROM samples AS s WHERE NOT EXISTS (FROM facts.imported_vote AS v WHERE v.sample_id = s.sample_id AND {})"
    assert store.value(non_face.format("v.value = 'non_face'")) == 32_021
    assert store.value(non_face.format("(v.value = 'non_face' OR v.value = 'unknown' AND v.votes >= 5)")) == 31_950


def test_labels_are_recorded_while_a_file_is_read(store: Store, small_file: Path) -> None:
    recorded = list[int]()

    def label() -> None:
        with store.write("labels"):
            recorded.append(1)

    def progress(done: int, total: int) -> None:
        if done < total:
            with ThreadPoolExecutor(1) as somebody:
                try:
                    somebody.submit(label).result(10)
                except TimeoutError:
                    store._lock.release()  # else the thread waits for ever
                    raise

    ingest.import_fer2013(store, LEAD, small_file, progress=progress)
    assert recorded


def test_any_file_name_can_be_recorded(store: Store, small_file: Path, tmp_path: Path) -> None:
    faces, tags = tmp_path / "f\udcff.csv", tmp_path / "t\udcff.csv"
    faces.write_bytes(small_file.read_bytes())
    tags.write_text("csv_row,age_group,gender\n0,young,male\n")
    ingest.import_fer2013(store, LEAD, faces)
    ingest.import_tags(store, LEAD, tags)
    assert store.rows("SELECT file_name, file_sha256 FROM imports ORDER BY recorded_at") == [
        ("f\\xff.csv", hashlib.sha256(faces.read_bytes()).hexdigest()), ("t\\xff.csv", hashlib.sha256(tags.read_bytes()).hexdigest())]
