"""Pictures of any kind: canonical pixels, one standard image, hostile files refused one by one, the same again changes nothing."""

import hashlib
import io
import itertools
import os
import stat
import struct
import tarfile
import threading
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ANNOTATOR, LEAD, fer_line, some_faces, write_fer
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from fercore import ingest
from fercore.domain import Pixels, image_id
from fercore.errors import BadInput, Conflict, NotAllowed, NotFound, WorkspaceError
from fercore.ingest import archive, fer2013, images, pictures
from fercore.ingest.images import MID_GRAY, Method, decode, standard
from fercore.store import Store, samples, sources

ABOUT = ingest.Provenance("faces", authors="A. Author", licence="CC0", url="https://example.org")


def coded(image: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def png(pixels: Pixels) -> bytes:
    return coded(Image.fromarray(pixels))


def folder_of(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def reasons(report: ingest.PictureReport) -> dict[str, str]:
    return {name: reason for _, _, reason, name in report.rejected}


def rows(store: Store) -> list[tuple[Any, ...]]:
    return store.rows("SELECT f.file_name, f.raw_label, s.given_label, s.source_split, f.gone FROM sample_files AS f "
                      "JOIN samples AS s ON s.sample_id = f.sample_id ORDER BY 1, 2")


# ---- decoding -------------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["PNG", "BMP", "TIFF", "PPM"]))
def test_a_48_by_48_gray_picture_comes_out_byte_for_byte(seed: int, kind: str) -> None:
    face = np.random.default_rng(seed).integers(0, 256, (48, 48), dtype=np.uint8)
    pixels, mode, found = decode(coded(Image.fromarray(face), kind))
    assert (mode, found) == ("L", kind) and (pixels == face).all() and standard(pixels, Method()).tobytes() == face.tobytes()


def png_of(width: int, height: int, depth: int, colour: int, data: bytes) -> bytes:
    """A PNG chunk by chunk."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)) + chunk(
        b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def bomb(width: int, height: int) -> bytes:
    """A small PNG that says it is large; its pixels are never all there."""
    return png_of(width, height, 8, 0, bytes(1000))


def rgb16(pixels: Pixels) -> bytes:
    deep = pixels.astype(">u2") * 256 + 77
    return png_of(pixels.shape[1], pixels.shape[0], 16, 2, b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep))


COLOUR = np.random.default_rng(5).integers(0, 256, (20, 30, 3), dtype=np.uint8)
GRAY = some_faces(1)[0]
ALPHA = np.random.default_rng(6).integers(0, 256, (20, 30), dtype=np.uint8)


CMYK_JPEG = coded(Image.fromarray(COLOUR).convert("CMYK"), "JPEG", quality=100, subsampling=0)


def over_gray(colour: Pixels, alpha: Pixels) -> Pixels:
    """Alpha over mid gray, by its definition."""
    share = alpha[..., None] / 255
    return colour * share + MID_GRAY * (1 - share)


@pytest.mark.parametrize(("data", "expected", "mode", "tolerance"), [
    (coded(Image.fromarray(COLOUR)), COLOUR, "RGB", 0),
    (coded(Image.fromarray(np.dstack([COLOUR, ALPHA]))), over_gray(COLOUR, ALPHA), "RGB", 1),
    (coded(Image.fromarray(np.dstack([COLOUR, np.full_like(ALPHA, 255)]))), COLOUR, "RGB", 0),
    (coded(Image.fromarray(np.dstack([GRAY, np.full_like(GRAY, 255)]), "LA")), GRAY, "L", 0),
    (coded(Image.fromarray(np.dstack([GRAY] * 3))), GRAY, "L", 0),
    (coded(Image.fromarray(GRAY), transparency=int(GRAY[0, 0])), np.where(np.equal(GRAY, GRAY[0, 0]), MID_GRAY, GRAY), "L", 0),
    (coded(Image.fromarray(COLOUR).quantize(256)), np.asarray(Image.fromarray(COLOUR).quantize(256).convert("RGB")), "RGB", 0),
    (coded(Image.fromarray(COLOUR).convert("CMYK"), "TIFF"), np.asarray(Image.fromarray(COLOUR).convert("CMYK").convert("RGB")), "RGB", 0),
    (coded(Image.fromarray(GRAY.astype(np.uint16) * 256 + 77)), GRAY, "L", 0),
    (coded(Image.fromarray(GRAY.astype(np.uint16) * 256 + 77), "TIFF"), GRAY, "L", 0),
    (CMYK_JPEG, np.asarray(Image.open(io.BytesIO(CMYK_JPEG)).convert("RGB")), "RGB", 0),
    (rgb16(COLOUR), COLOUR, "RGB", 0),
    (coded(Image.fromarray((GRAY.astype(np.uint16) * 256 + 77).astype(">u2")), "TIFF"), GRAY, "L", 0),
    (coded(Image.fromarray(GRAY > 99), "PNG"), np.where(GRAY > 99, 255, 0), "L", 0),
    (coded(Image.fromarray(GRAY), "GIF", save_all=True, append_images=[Image.fromarray(255 - GRAY)]), GRAY, "L", 0),
], ids=["RGB", "RGBA", "opaque RGBA", "LA", "gray RGB", "L with a transparent value", "P", "CMYK", "16 bit PNG", "16 bit TIFF", "CMYK JPEG", "16 bit RGB", "16 bit TIFF of the other end",
        "1 bit", "animation"])
def test_every_mode_has_one_meaning(data: bytes, expected: Pixels, mode: str, tolerance: int) -> None:
    pixels, found, _ = decode(data)
    assert found == mode and pixels.dtype == np.uint8 and pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_pictures_are_turned_as_exif_says(orientation: int, kind: str) -> None:
    face, exif = np.random.default_rng(1).integers(0, 256, (10, 20), dtype=np.uint8), Image.Exif()
    exif[0x0112] = orientation
    turned = {1: face, 2: face[:, ::-1], 3: face[::-1, ::-1], 4: face[::-1], 5: face.T, 6: np.rot90(face, -1), 7: face[::-1, ::-1].T,
              8: np.rot90(face)}[orientation]
    assert (decode(coded(Image.fromarray(face), kind, exif=exif))[0] == turned).all()


def test_a_cmyk_jpeg_looks_as_it_did_and_is_turned() -> None:
    """Adobe writes CMYK inverted; close to the colours that went in, not to their negative."""
    smooth = np.asarray(Image.fromarray(COLOUR[:4, :4]).resize((32, 24), Image.Resampling.BICUBIC))
    exif = Image.Exif()
    exif[0x0112] = 3
    found, mode, kind = decode(coded(Image.fromarray(smooth).convert("CMYK"), "JPEG", quality=95, exif=exif))
    assert (mode, kind) == ("RGB", "JPEG") and np.abs(found.astype(int) - smooth[::-1, ::-1]).mean() < 6


def test_standard_images_are_squashed_padded_or_cropped() -> None:
    wide = np.zeros((30, 90), np.uint8)
    wide[:, 30:60] = 200
    square = {fit: standard(wide, Method("nearest", fit)) for fit in images.FITS}
    assert (square["crop"] == 200).all()
    assert (square["squash"][:, 16:32] == 200).all() and (square["squash"][:, :16] == 0).all()
    assert (square["pad"][:16] == MID_GRAY).all() and (square["pad"][32:] == MID_GRAY).all() and (square["pad"][16:32, 16:32] == 200).all()
    luma = standard(COLOUR, Method("box"))
    assert (luma == np.asarray(Image.fromarray(COLOUR).convert("L").resize((48, 48), Image.Resampling.BOX))).all()
    with pytest.raises(BadInput, match="Unknown method"):
        Method("mean")


def test_a_face_box_is_cut_out_and_clipped_to_the_picture() -> None:
    data = coded(Image.fromarray(COLOUR))
    assert (decode(data, (5, 2, 15, 12))[0] == COLOUR[2:12, 5:15]).all()
    assert (decode(data, (-5, -5, 10, 10))[0] == COLOUR[:10, :10]).all()
    with pytest.raises(BadInput, match="lies outside"):
        decode(data, (40, 0, 50, 10))


NOISY_JPEG = coded(Image.fromarray(np.random.default_rng(2).integers(0, 256, (200, 200), dtype=np.uint8)), "JPEG")
HOSTILE = {
    "empty.png": (b"", "the file is empty"),
    "cut.jpg": (NOISY_JPEG[: len(NOISY_JPEG) // 2], "damaged: "),
    "cut.png": (png(some_faces(1, 3)[0])[:900], "damaged: "),
    "text.png": (b"not a picture", "not a picture of a known format"),
    "page.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a picture of a known format"),
    "bomb60.png": (bomb(9_000, 6_000), "9,000 x 6,000"),
    "bomb100.png": (bomb(9_999, 9_999), "million"),
    "bomb400.png": (bomb(60_000, 60_000), "million pixels"),
    "long.png": (png(np.zeros((3, 10_000), np.uint8)), "10,000 x 3"),
    "float.tiff": (coded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "floating-point"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pictures_are_refused_with_the_reason(name: str) -> None:
    data, reason = HOSTILE[name]
    with pytest.raises(BadInput) as refused:
        decode(data)
    assert reason in refused.value.title


def test_a_bomb_is_refused_also_where_warnings_only_print() -> None:
    with warnings.catch_warnings(record=True) as told, pytest.raises(BadInput, match="million"):
        warnings.resetwarnings()
        decode(bomb(9_999, 9_999))
    assert not [w for w in told if not issubclass(w.category, Image.DecompressionBombWarning)]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([png(GRAY), NOISY_JPEG, coded(Image.fromarray(COLOUR), "TIFF"), coded(Image.fromarray(COLOUR), "GIF")]),
       st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8), st.integers(0, 10_000))
def test_any_damage_is_a_picture_or_a_reason(data: bytes, changes: list[tuple[int, int]], end: int) -> None:
    broken = bytearray(data[: max(1, end)])
    for at, value in changes:
        broken[at % len(broken)] = value
    try:
        pixels, mode, _ = decode(bytes(broken))
    except BadInput:
        return
    assert pixels.dtype == np.uint8 and pixels.ndim == (2 if mode == "L" else 3)


# ---- folders --------------------------------------------------------------------------------------------------------------------


def test_a_folder_comes_in_with_labels_splits_pixels_and_its_bytes(store: Store, tmp_path: Path) -> None:
    faces, big = some_faces(3), Image.fromarray(COLOUR)
    root = folder_of(tmp_path / "set", {"train/happy/a.png": png(faces[0]), "TEST/Sadness/b.png": png(faces[1]), "Validation/c.png": png(faces[2]),
                                        "train/calm/d.jpg": coded(big, "JPEG"), ".DS_Store": b"x", "train/happy/Thumbs.db": b"x"})
    report = ingest.import_pictures(store, LEAD, root, ABOUT, method=Method("lanczos", "pad"))
    assert (report.read, report.added, report.rejected, report.unmapped) == (4, 4, [], 2)
    assert report.labels == [(None, None, 1), ("Sadness", "sad", 1), ("calm", None, 1), ("happy", "happy", 1)]
    assert rows(store) == [("TEST/Sadness/b.png", "Sadness", "sad", "test", False), ("Validation/c.png", None, None, "val", False),
                           ("train/calm/d.jpg", "calm", None, "train", False), ("train/happy/a.png", "happy", "happy", "train", False)]
    held = {r[0]: r[1:] for r in store.rows("SELECT f.file_name, i.image_id, i.height, i.width, i.mode, i.gray48, i.mean, i.sd, f.file_sha256 "
                                            "FROM sample_files AS f JOIN images AS i ON i.image_id = f.image_id")}
    assert held["train/happy/a.png"][:5] == (image_id(faces[0]), 48, 48, "L", faces[0].tobytes())
    assert held["train/happy/a.png"][5:7] == pytest.approx((faces[0].mean(), faces[0].std()))
    decoded = np.asarray(Image.open(root / "train/calm/d.jpg"))
    assert held["train/calm/d.jpg"][:4] == (image_id(decoded, "RGB"), 20, 30, "RGB")
    assert held["train/calm/d.jpg"][4] == ImageOps.pad(Image.fromarray(decoded).convert("L"), (48, 48), Image.Resampling.LANCZOS,
                                                       color=MID_GRAY).tobytes()
    for name, values in held.items():
        data = (root / name).read_bytes()
        assert values[-1] == hashlib.sha256(data).hexdigest() and sources.original(store, values[-1]) == data
    about = sources.table(store).iloc[0]
    assert (about["licence"], about["authors"], about["url"], about["imported_by"], about["samples"], about["unlabelled"]) == (
        "CC0", "A. Author", "https://example.org", "Dana", 4, 2)
    assert '"fit": "pad"' in about["method"] and '"resize": "lanczos"' in about["method"] and about["label_map"] == "generic@1"


def test_a_dry_run_says_the_same_and_writes_nothing(store: Store, tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", {"happy/a.png": png(GRAY), "happy/b.png": b"", "odd/c.png": png(255 - GRAY)})
    without = ingest.import_pictures(None, LEAD, root, ABOUT, dry_run=True)
    before = ingest.import_pictures(store, LEAD, root, ABOUT, dry_run=True)
    assert store.rows("FROM facts.sample") == store.rows("FROM facts.import") == [] and not sources.originals(store.workspace).exists()
    done = ingest.import_pictures(store, LEAD, root, ABOUT)
    for report in (without, before):
        assert (report.labels, report.rejected, report.counts) == (done.labels, done.rejected, done.counts) and "nothing was written" in report.sentence()
    (root / "odd/c.png").rename(root / "happy/c.png")
    assert ingest.import_pictures(store, LEAD, root, ABOUT, dry_run=True).counts == {"relabelled": 1}


def test_the_same_again_changes_nothing_whatever_files_are_called(store: Store, tmp_path: Path) -> None:
    faces = some_faces(6)
    root = folder_of(tmp_path / "set", {f"happy/{i}.png": png(f) for i, f in enumerate(faces)} | {"sad/copy.png": png(faces[0])})
    ingest.import_pictures(store, LEAD, root, ABOUT)
    held, packs = store.rows("FROM facts.sample ORDER BY ALL"), sorted(sources.originals(store.workspace).iterdir())
    assert ingest.import_pictures(store, LEAD, root, ABOUT).unchanged
    assert store.rows("SELECT count(*) FROM facts.import") == [(1,)] and sorted(sources.originals(store.workspace).iterdir()) == packs
    for i in range(6):
        (root / f"happy/{i}.png").rename(root / f"happy/new-{9 - i}.png")
    report = ingest.import_pictures(store, LEAD, root, ABOUT)
    assert report.counts == {"moved": 6} and "0 added, 6 renamed or moved" in report.sentence()
    assert store.rows("FROM facts.sample ORDER BY ALL") == held
    assert ingest.import_pictures(store, LEAD, root, ABOUT).unchanged


def test_a_changed_folder_tells_what_is_new_gone_relabelled_and_back(store: Store, tmp_path: Path) -> None:
    faces = some_faces(6)
    root = folder_of(tmp_path / "set", {f"train/happy/{i}.png": png(f) for i, f in enumerate(faces[:4])})
    ingest.import_pictures(store, LEAD, root, ABOUT)
    ids = dict(store.rows("SELECT file_name, sample_id FROM sample_files"))
    (root / "train/sad").mkdir()
    (root / "train/happy/0.png").rename(root / "train/sad/0.png")
    (root / "train/happy/1.png").unlink()
    (root / "train/happy/2.png").write_bytes(coded(Image.fromarray(faces[2]), "PNG", compress_level=0))
    (root / "train/happy/3.png").write_bytes(b"broken now")
    folder_of(root, {"test/fear/5.png": png(faces[5])})
    report = ingest.import_pictures(store, LEAD, root, ABOUT)
    assert report.counts == {"added": 1, "relabelled": 1, "gone": 1, "rewritten": 1} and list(reasons(report)) == ["train/happy/3.png"]
    held = {r[0]: r[2:] for r in rows(store)}
    assert held == {"train/sad/0.png": ("sad", "train", False), "train/happy/1.png": ("happy", "train", True), "train/happy/2.png": ("happy", "train", False),
                    "train/happy/3.png": ("happy", "train", False), "test/fear/5.png": ("fear", "test", False)}
    assert ids["train/happy/0.png"] == store.value("SELECT sample_id FROM sample_files WHERE file_name = 'train/sad/0.png'")
    assert store.rows("SELECT change, given_label FROM facts.sample_file WHERE sample_id = $i ORDER BY recorded_at", {"i": ids["train/happy/0.png"]}) == [
        ("added", "happy"), ("relabelled", "sad")]
    assert store.rows("SELECT rows_added, rows_gone, rows_relabelled FROM imports ORDER BY recorded_at") == [(4, 0, 0), (1, 1, 1)]
    assert sources.table(store).iloc[0]["gone"] == 1
    folder_of(root, {"train/happy/1.png": png(faces[1]), "train/happy/3.png": png(faces[3])})
    assert ingest.import_pictures(store, LEAD, root, ABOUT).counts == {"back": 1}
    assert not any(r[4] for r in rows(store))


def test_a_part_of_a_source_marks_nothing_as_gone(store: Store, tmp_path: Path) -> None:
    faces = some_faces(2)
    ingest.import_pictures(store, LEAD, folder_of(tmp_path / "a", {"happy/a.png": png(faces[0])}), ABOUT, split="train")
    report = ingest.import_pictures(store, LEAD, folder_of(tmp_path / "b", {"sad/b.png": png(faces[1])}), ABOUT, split="test", partial=True)
    assert report.counts == {"added": 1} and [r[2:] for r in rows(store)] == [("happy", "train", False), ("sad", "test", False)]
    assert ingest.import_pictures(store, LEAD, tmp_path / "b", ABOUT, split="test").counts == {"gone": 1}


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_two_states_of_a_folder_are_told_apart_by_counting(data: st.DataObject) -> None:
    """Added, gone and kept against a count of images by hand; the second state again changes nothing."""
    some = st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from(["x", "y", "z", "w"]), st.sampled_from(["happy", "sad"])), max_size=6,
                    unique_by=lambda f: (f[1], f[2]))

    def row(place: int, image: str, name: str, label: str) -> pictures._Row:
        return pictures._Row(place, f"{label}/{name}", image, image, 48, 48, "L", label, label, None, (), None)

    def step(known: dict[str, tuple[Any, ...]], files: list[tuple[str, str, str]]) -> tuple[dict[str, tuple[Any, ...]], dict[str, int]]:
        report = ingest.PictureReport("s", "folder", "m", False)
        changes, ids = pictures._compare(report, [row(i, *f) for i, f in enumerate(files)], list(known.values()), False)
        assert len(set(ids.values())) == len(files)
        out = dict(known)
        images_of = {ids[i]: f[0] for i, f in enumerate(files)}
        counts: dict[str, int] = {}
        for c in changes:
            counts[c.change] = counts.get(c.change, 0) + 1
            image = images_of.get(c.sample_id) or known[c.sample_id][0]
            out[c.sample_id] = (image, c.sample_id, c.file_name, c.file_sha256, c.raw_label, c.given_label, c.source_split, c.change == "gone")
        return out, counts

    known: dict[str, tuple[Any, ...]] = {}
    for files in data.draw(st.lists(some, min_size=1, max_size=4)):
        here = [s for s in known.values() if not s[7]]
        after, counts = step(known, files)
        for image in "ABC":
            assert sum(s[0] == image and not s[7] for s in after.values()) == sum(f[0] == image for f in files)
        assert {(s[2], s[4]) for s in after.values() if not s[7]} == {(f"{f[2]}/{f[1]}", f[2]) for f in files}
        assert len(after) == len(known) + counts.get("added", 0)
        assert len(here) - counts.get("gone", 0) + counts.get("added", 0) + counts.get("back", 0) == len(files)
        same = sum(min(sum(s[0] == i and s[4] == label for s in here), sum(f[0] == i and f[2] == label for f in files))
                   for i in "ABC" for label in ("happy", "sad"))
        assert counts.get("relabelled", 0) <= len(files) - same
        assert step(after, files)[1] == {}
        known = after


def test_another_kind_of_source_is_not_mixed_in(store: Store, tmp_path: Path) -> None:
    ingest.import_fer2013(store, LEAD, write_fer(tmp_path / "f.csv", [fer_line(1, GRAY)]), name="faces")
    root = folder_of(tmp_path / "set", {"happy/a.png": png(GRAY)})
    for dry_run in (True, False):
        with pytest.raises(Conflict, match="of another kind"):
            ingest.import_pictures(store, LEAD, root, ABOUT, dry_run=dry_run)
    assert ingest.import_pictures(store, LEAD, root, ingest.Provenance("other")).added == 1
    assert store.rows("SELECT count(*), count(DISTINCT image_id) FROM samples") == [(2, 1)]  # the same pixels are one image


def test_a_failure_or_a_cancel_leaves_nothing(store: Store, tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", {f"happy/{i}.png": png(f) for i, f in enumerate(some_faces(200))})

    class Cancelled(BaseException):
        pass

    def cancelling(number: int) -> Callable[[int, int], None]:
        calls = itertools.count(1)

        def progress(done: int, total: int) -> None:
            if next(calls) == number:
                raise Cancelled

        return progress

    told: list[int] = []
    ingest.import_pictures(store, LEAD, root, ABOUT, dry_run=True, progress=lambda done, total: told.append(done))
    for number in range(1, len(told) + 2):  # at every call, and once more while it is written
        with pytest.raises(Cancelled):
            ingest.import_pictures(store, LEAD, root, ABOUT, progress=cancelling(number))
    for nothing in ({}, {"a/readme.txt": b"hello"}):
        with pytest.raises(BadInput, match="No picture could be used"):
            (tmp_path / "none").mkdir(exist_ok=True)
            ingest.import_pictures(store, LEAD, folder_of(tmp_path / "none", nothing), ABOUT)
    assert store.rows("FROM facts.image") == store.rows("FROM facts.original") == [] and not list(sources.originals(store.workspace).iterdir())
    seen: list[tuple[int, int]] = []
    ingest.import_pictures(store, LEAD, root, ABOUT, progress=lambda *p: seen.append(p))
    assert seen[-1] == (200, 200) and seen == sorted(seen)


def test_a_write_that_fails_leaves_nothing(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(samples, "record_import", full)
    with pytest.raises(WorkspaceError, match="disk is full"):
        ingest.import_pictures(store, LEAD, folder_of(tmp_path / "set", {"happy/a.png": png(GRAY)}), ABOUT)
    assert store.rows("FROM facts.sample") == [] and not list(sources.originals(store.workspace).iterdir())


def test_large_pictures_go_through_several_threads_in_order(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_SMALL_S", 0.0)
    faces = some_faces(300)
    root = folder_of(tmp_path / "set", {f"happy/{i:03}.png": png(f) for i, f in enumerate(faces)} | {"happy/150x.png": b"no"})
    report = ingest.import_pictures(store, LEAD, root, ABOUT)
    assert report.added == 300 and reasons(report) == {"happy/150x.png": "not a picture of a known format"}
    held = store.rows("SELECT image_id FROM sample_files ORDER BY file_name")
    assert [r[0] for r in held] == [image_id(f) for f in faces]


@pytest.mark.parametrize("after", [None, 0, 2])
def test_helper_processes_see_the_same_and_may_end_at_any_time(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int | None) -> None:
    monkeypatch.setattr(pictures, "_MANY", 1)
    monkeypatch.setattr(pictures, "_CHUNK", 8)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    asked: list[list[object]] = []
    real, alone = pictures.Helper.see, threading.Event()

    def ends(helper: pictures.Helper, some: list[Any], method: Method) -> list[Any]:
        asked.append(some)
        if after is not None and len(asked) > after:
            helper._process.kill()
        found = real(helper, some, method)
        alone.set()
        return found

    here = pictures.see

    def waits(*args: Any) -> Any:
        if after is None:
            alone.wait()  # a helper has answered before this process sees anything
        return here(*args)

    monkeypatch.setattr(pictures.Helper, "see", ends)
    monkeypatch.setattr(pictures, "see", waits)
    faces = some_faces(120)
    files = {f"happy/{i:03}.png": png(f) for i, f in enumerate(faces)} | {f"happy/{i:03}x.png": b"no" for i in range(0, 120, 7)}
    report = ingest.import_pictures(store, LEAD, folder_of(tmp_path / "set", files), ABOUT)
    assert asked and report.added == 120 and len(reasons(report)) == 18
    assert [r[0] for r in store.rows("SELECT image_id FROM sample_files ORDER BY file_name")] == [image_id(f) for f in faces]
    for sha, name in store.rows("SELECT file_sha256, file_name FROM sample_files"):
        assert sources.original(store, sha) == files[name]
    assert not [t for t in threading.enumerate() if "keep_busy" in t.name]


def test_a_cancel_ends_the_helpers(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_MANY", 1)
    monkeypatch.setattr(pictures, "_CHUNK", 8)
    made: list[pictures.Helper] = []
    real = pictures.Helper.__init__

    def noted(helper: pictures.Helper) -> None:
        real(helper)
        made.append(helper)

    monkeypatch.setattr(pictures.Helper, "__init__", noted)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)

    def cancel(done: int, total: int) -> None:
        if done > 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest.import_pictures(store, LEAD, folder_of(tmp_path / "set", {f"happy/{i}.png": png(f) for i, f in enumerate(some_faces(120))}), ABOUT,
                               progress=cancel)
    assert made and all(h._process.returncode is not None for h in made) and store.rows("FROM facts.sample") == []


def test_the_standard_image_that_is_here_stays_and_it_is_said(store: Store, tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", {"happy/a.png": coded(Image.fromarray(COLOUR)), "happy/b.png": png(GRAY)})
    ingest.import_pictures(store, LEAD, root, ABOUT)
    before = store.rows("SELECT image_id, gray48 FROM images ORDER BY ALL")
    report = ingest.import_pictures(store, LEAD, root, ingest.Provenance("other"), method=Method("nearest", "pad"))
    assert report.notes == [("", "1 images are here with a 48x48 image made another way; that one stays")]
    assert store.rows("SELECT image_id, gray48 FROM images ORDER BY ALL") == before


def test_an_original_that_was_changed_is_not_given_out(store: Store, tmp_path: Path) -> None:
    ingest.import_pictures(store, LEAD, folder_of(tmp_path / "set", {"happy/a.png": png(GRAY)}), ABOUT)
    sha = store.value("SELECT file_sha256 FROM sample_files")
    pack = next(sources.originals(store.workspace).iterdir())
    line, _, rest = pack.read_bytes().partition(b"\n")
    assert line.decode() == f"{sha} {len(rest)}" and hashlib.sha256(rest).hexdigest() == sha  # a pack can be read without the database
    pack.write_bytes(line + b"\n" + rest[:-1] + b"!")
    with pytest.raises(NotFound, match="damaged or gone"):
        sources.original(store, sha)


def test_an_annotator_may_not_import_pictures(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotAllowed):
        ingest.import_pictures(store, ANNOTATOR, tmp_path, ABOUT)


# ---- hostile folders and archives -----------------------------------------------------------------------------------------------


def test_hostile_files_are_rejected_one_by_one_and_the_rest_comes_in(store: Store, tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", {f"happy/{n}": data for n, (data, _) in HOSTILE.items()} | {
        "happy/good.png": png(GRAY), "happy/jpeg.png": coded(Image.fromarray(GRAY), "JPEG"), "happy/no_suffix": png(255 - GRAY)})
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(some_faces(1, 9)[0]))
    (root / "happy/link.png").symlink_to(secret)
    (root / "linked").symlink_to(tmp_path)
    os.mkfifo(root / "happy/pipe.png")
    (root / "happy").joinpath(os.fsdecode(b"caf\xe9\n.png")).write_bytes(b"")
    report = ingest.import_pictures(store, LEAD, root, ABOUT)
    told = reasons(report)
    assert report.added == 3 and len(told) == len(HOSTILE) + 4
    for name, (_, reason) in HOSTILE.items():
        assert reason in told[f"happy/{name}"]
    assert "links are not followed" in told["happy/link.png"] and "links are not followed" in told["linked"]
    assert told["happy/pipe.png"] == "not a plain file" and told["happy/caf\\xe9\\n.png"] == "the file is empty"
    assert dict(report.notes) == {"happy/jpeg.png": "PNG by its name, JPEG by its content", "happy/no_suffix": "no picture by its name, PNG by its content"}
    kept = samples.rejected(store, "faces")
    assert dict(zip(kept["file_name"], kept["reason"], strict=True)) == told


def zip_of(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in members.items():
            packed.writestr(name, data)
        for name, target in (links or {}).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            packed.writestr(info, target)
    return path


def tar_of(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:" + path.suffix[1:].removesuffix("tar"), format=tarfile.PAX_FORMAT) as tape:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tape.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tape.addfile(info)
            info.name, info.type = "happy/hard.png", tarfile.LNKTYPE
            tape.addfile(info)
        device = tarfile.TarInfo("happy/device.png")
        device.type = tarfile.CHRTYPE
        tape.addfile(device)
    return path


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz"])
def test_an_archive_is_read_in_place_and_nothing_leads_out_of_it(store: Store, tmp_path: Path, suffix: str) -> None:
    faces = some_faces(4)
    members = {"set/train/happy/a.png": png(faces[0]), "set/test/sad/b.png": png(faces[1]), "../out.png": png(faces[2]), "/abs.png": png(faces[2]),
               "set/../../out2.png": png(faces[2]), "C:\\out3.png": png(faces[2]), "set/test/sad/empty.png": b"", "__MACOSX/x.png": b"x"}
    folder = tmp_path / "in"
    folder.mkdir()
    path = (zip_of if suffix == ".zip" else tar_of)(folder / f"set{suffix}", members, {"happy/link.png": "/etc/passwd"})
    before = sorted(p.name for p in tmp_path.rglob("*") if "ws" not in p.parts)
    report = ingest.import_pictures(store, LEAD, path, ABOUT)
    assert rows(store) == [("set/test/sad/b.png", "sad", "sad", "test", False), ("set/train/happy/a.png", "happy", "happy", "train", False)]
    told = reasons(report)
    assert sum("leads out of the archive" in r for r in told.values()) == 4 and "links are not followed" in told["happy/link.png"]
    assert told["set/test/sad/empty.png"] == "the file is empty" and (suffix == ".zip" or told["happy/device.png"] == "not a plain file")
    assert suffix == ".zip" or "links are not followed" in told["happy/hard.png"]
    assert sorted(p.name for p in tmp_path.rglob("*") if "ws" not in p.parts) == before
    assert ingest.import_pictures(store, LEAD, path, ABOUT).unchanged
    unpacked = folder_of(tmp_path / "unpacked", {n: d for n, d in members.items() if n.startswith("set/t")})
    assert ingest.import_pictures(store, LEAD, unpacked, ABOUT).unchanged  # the same pictures, out of the archive


def test_archives_that_unpack_to_too_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zip_of(tmp_path / "a.zip", {"happy/a.png": png(GRAY), "happy/b.png": bytes(5_000)})
    monkeypatch.setattr(archive, "MAX_BYTES", 4_000)
    report = ingest.import_pictures(None, LEAD, path, ABOUT, dry_run=True)
    assert report.added == 1 and "larger than" in reasons(report)["happy/b.png"]
    monkeypatch.setattr(archive, "MAX_TOTAL", 6_000)
    with pytest.raises(BadInput, match="too large"):
        ingest.import_pictures(None, LEAD, path, ABOUT, dry_run=True)


def test_a_member_that_is_larger_than_its_header_says_is_damaged(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", {"happy/a.png": png(GRAY), "happy/b.png": bytes(50_000)})
    data = bytearray(path.read_bytes())
    place = data.rfind(b"PK\x01\x02")  # the last entry of the central directory
    data[place + 24:place + 28] = struct.pack("<I", 100)
    path.write_bytes(bytes(data))
    report = ingest.import_pictures(None, LEAD, path, ABOUT, dry_run=True)
    assert report.added == 1 and "damaged" in reasons(report)["happy/b.png"]


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_a_second_file_of_a_name_is_refused(tmp_path: Path, suffix: str) -> None:
    path, faces = tmp_path / f"a{suffix}", some_faces(2)
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as packed, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile says that the name is there already
            for name, face in zip(("happy/a.png", "happy//a.png"), faces, strict=True):
                packed.writestr(name, png(face))
            packed.writestr("happy/a.png", b"")
    else:
        with tarfile.open(path, "w") as tape:
            for name, face in zip(("happy/a.png", "happy/./a.png"), faces, strict=True):
                info = tarfile.TarInfo(name)
                info.size = len(png(face))
                tape.addfile(info, io.BytesIO(png(face)))
    report = ingest.import_pictures(None, LEAD, path, ABOUT, dry_run=True)
    assert report.added == 1 and set(reasons(report).items()) == {("happy/a.png", "a second file of this name")}


def test_encrypted_and_bloated_members_are_refused_one_by_one(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", {"happy/a.png": png(GRAY), "happy/b.png": png(255 - GRAY), "happy/c.png": bytes(70 << 20)})
    data = bytearray(path.read_bytes())
    second = data.find(b"PK\x01\x02", data.find(b"PK\x01\x02") + 4)
    data[second + 8] |= 1
    path.write_bytes(bytes(data))
    report = ingest.import_pictures(None, LEAD, path, ABOUT, dry_run=True)
    assert report.added == 1 and reasons(report) == {"happy/b.png": "encrypted", "happy/c.png": "larger than 64 MiB"}


def test_a_member_may_not_declare_more_than_the_archive_may_unpack_to(tmp_path: Path) -> None:
    info = tarfile.TarInfo("happy/a.png")
    info.size = 1 << 50
    (tmp_path / "a.tar").write_bytes(info.tobuf() + bytes(10240))
    with pytest.raises(BadInput, match="too large"):
        ingest.import_pictures(None, LEAD, tmp_path / "a.tar", ABOUT, dry_run=True)


def test_names_that_are_no_utf_8_come_out_of_an_archive_as_escapes(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tape:
        info = tarfile.TarInfo("happy/caf\xe9.png")
        info.size = len(png(GRAY))
        tape.addfile(info, io.BytesIO(png(GRAY)))
        tape.addfile(tarfile.TarInfo("happy/\xe8.png"))
    report = ingest.import_pictures(None, LEAD, tmp_path / "a.tar", ABOUT, dry_run=True)
    assert report.added == 1 and reasons(report) == {"happy/\\xe8.png": "the file is empty"}


def test_a_tar_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 33
    path = tmp_path / "a.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    with pytest.raises(BadInput, match="8,589,934,592 bytes"):
        ingest.import_pictures(None, LEAD, path, ABOUT, dry_run=True)


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04 broken", b"\x1f\x8b broken"])
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(data)
    with pytest.raises(BadInput, match="Not a folder, ZIP or TAR|No picture") as caught:
        ingest.import_pictures(None, LEAD, path, ABOUT, dry_run=True)
    assert "\n" not in str(caught.value)


# ---- what names say -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("age", "band"), [(1, "child"), (12, "child"), (13, "young"), (35, "young"), (36, "middle_aged"), (60, "middle_aged"),
                                           (61, "senior"), (116, "senior")])
def test_utkface_names_give_age_and_gender_and_no_race(store: Store, tmp_path: Path, age: int, band: str) -> None:
    name = f"{age}_1_3_20170116174525125.jpg"
    report = ingest.import_pictures(store, LEAD, folder_of(tmp_path / "set", {name: coded(Image.fromarray(COLOUR), "JPEG"), f"9_0_4_2017{'0' * 13}.jpg": b""}),
                                    ABOUT)
    assert report.tags_added == 2 and store.rows("SELECT age_band, gender, given_label FROM samples") == [(band, "female", None)]
    everything = "\n".join(str(store.rows(f"FROM facts.{t}")) for t in ("sample", "sample_file", "import", "rejected_row", "imported_vote"))
    assert f"{age}_1_2017" in everything and f"{age}_1_3" not in everything and "9_0_4" not in everything


def test_ck_plus_folders(store: Store, tmp_path: Path) -> None:
    words = {"anger": "angry", "contempt": "contempt", "disgust": "disgust", "fear": "fear", "happy": "happy", "sadness": "sad", "surprise": "surprise"}
    files = {f"CK+48/{w}/S0{i}_00{i}_0000001{i}.png": png(f) for i, (w, f) in enumerate(zip(words, some_faces(7), strict=True))}
    report = ingest.import_pictures(store, LEAD, folder_of(tmp_path / "set", files), ABOUT)
    assert report.unmapped == 0 and [r[1:3] for r in rows(store)] == sorted(words.items())


def test_hugging_face_metadata_that_names_what_is_not_there(store: Store, tmp_path: Path) -> None:
    root = folder_of(tmp_path / "set", {"a.png": png(GRAY), "metadata.csv": b"file_name,label\na.png,h\xe4ppy\n\nnone.png,sad\n../out.png,sad\n"})
    report = ingest.import_pictures(store, LEAD, root, ABOUT)
    assert rows(store) == [("a.png", "h\\xe4ppy", None, None, False)]
    assert [r[1:] for r in report.rejected] == [(4, "no such file", "none.png"), (5, "no such file", "../out.png")]


def test_hugging_face_metadata_names_labels_and_splits(store: Store, tmp_path: Path) -> None:
    faces = some_faces(3)
    root = folder_of(tmp_path / "set", {"train/0.png": png(faces[0]), "train/sub/1.png": png(faces[1]), "2.png": png(faces[2]),
                                        "train/metadata.csv": b"file_name,label\n0.png,Happy\nsub/1.png,Surprised\n",
                                        "metadata.csv": b"\xef\xbb\xbffile_name,split,label\n2.png,validation,fear\n"})
    report = ingest.import_pictures(store, LEAD, root, ABOUT)
    assert report.rejected == [] and [r[:4] for r in rows(store)] == [
        ("2.png", "fear", "fear", "val"), ("train/0.png", "Happy", "happy", "train"), ("train/sub/1.png", "Surprised", "surprise", "train")]


def test_a_listing_in_another_order_than_its_tar_reads_the_tar_forwards(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faces = some_faces(100)
    path = tar_of(tmp_path / "a.tar.gz", {f"{i:03}.png": png(f) for i, f in enumerate(faces)})
    listing = tmp_path / "l.csv"
    listing.write_text("file,label\n" + "".join(f"{i:03}.png,{'happy' if i % 2 else 'sad'}\n" for i in reversed(range(100))) + "no.png,sad\n")
    read, real = list[str](), archive._untar
    monkeypatch.setattr(archive, "_untar", lambda tape, info: (read.append(info.name), real(tape, info))[1])
    report = ingest.import_pictures(store, LEAD, path, ABOUT, list_file=listing)
    assert read == sorted(read) and len(read) == 100
    assert store.rows("SELECT file_name, source_row, given_label FROM sample_files ORDER BY source_row") == [
        (f"{i:03}.png", row, "happy" if i % 2 else "sad") for row, i in enumerate(reversed(range(100)), 1)]  # row 0 is the device that is refused
    assert [(r[0], r[3]) for r in report.rejected] == [(0, "happy/device.png"), (101, "no.png")]
    for i, face in enumerate(faces[:5]):
        assert store.value("SELECT i.gray48 FROM images AS i JOIN sample_files AS f USING (image_id) WHERE file_name = $n", {"n": f"{i:03}.png"}) == face.tobytes()


def test_headers_that_never_end_and_names_that_lie_are_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 4
    chain, lying = tmp_path / "a.tar", zip_of(tmp_path / "a.zip", {"happy/\xe9.png": png(GRAY)})
    chain.write_bytes((info.tobuf(tarfile.GNU_FORMAT) + b"abc\0".ljust(512, b"\0")) * 3000 + bytes(1024))
    lying.write_bytes(lying.read_bytes().replace("\xe9".encode(), b"\xff\xfe"))  # its header says that names are UTF-8
    for path in (chain, lying):
        with pytest.raises(BadInput, match="Not a folder, ZIP or TAR"):
            ingest.import_pictures(None, LEAD, path, ABOUT, dry_run=True)
    with pytest.raises(BadInput, match="damaged"):
        list(fer2013.read_fer2013(chain))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_disk_that_fills_while_pictures_are_read_is_said(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = pictures._Pack.__enter__

    def entered(pack: pictures._Pack) -> pictures._Pack:
        real(pack)
        pack._file.close()
        pack._file = Path("/dev/full").open("wb")  # noqa: SIM115
        return pack

    monkeypatch.setattr(pictures._Pack, "__enter__", entered)
    with pytest.raises(WorkspaceError, match="disk is full"):
        ingest.import_pictures(store, LEAD, folder_of(tmp_path / "set", {"happy/a.png": png(GRAY)}), ABOUT)
    assert not list(sources.originals(store.workspace).iterdir())


def test_what_a_killed_import_left_is_swept_and_nothing_else(store: Store, tmp_path: Path) -> None:
    ingest.import_pictures(store, LEAD, folder_of(tmp_path / "set", {"happy/a.png": png(GRAY)}), ABOUT)
    place = sources.originals(store.workspace)
    named, = place.iterdir()
    for name in ("1.half", "2.pack", "notes.txt"):
        (place / name).write_bytes(b"x")
    assert sources.sweep(store) == 2 and sources.sweep(store) == 0 and sorted(place.iterdir()) == sorted([named, place / "notes.txt"])
    assert sources.damaged_originals(store) == (1, [])
