"""The Import page: every kind of source, a preview that writes nothing, what was rejected, and where everything came from."""

import zipfile
from pathlib import Path

import pytest
from app_helpers import app_as, text
from helpers import some_faces
from PIL import Image

from fercore.store import Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures that come in, one of them with a label that no map knows, and one that does not."""
    root = tmp_path / "some *set*"
    for name, face in zip(("train/happy/a.png", "test/sad/b.png", "test/<b>odd/c.png"), some_faces(3, seed=4), strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(face).save(root / name)
    (root / "train/happy/broken.png").write_bytes(b"")
    return root


def pictures(kind: str, path: Path, listing: Path | None = None):
    at = app_as("dana", "import_data")
    at.segmented_control(key="kind").set_value(kind).run()
    at.text_input(key="pictures-path").set_value(str(path))
    if listing:
        at.text_input(key="listing-path").set_value(str(listing))
    at.text_input(key="name").set_value("My set")
    return at


def press(at, label: str):
    next(b for b in at.button if b.label == label).click().run()
    assert not at.exception, at.exception
    return at


def test_a_folder_is_previewed_then_imported_and_its_origin_is_shown(app_store: Store, folder: Path) -> None:
    at = pictures("Folder or archive", folder)
    next(t for t in at.text_input if t.label.startswith("Licence")).set_value("CC BY 4.0")
    press(at, "Preview")
    assert "3 added, 1 without a class, 1 rejected; nothing was written" in text(at)
    assert app_store.value("SELECT count(*) FROM samples") == 70 and app_store.rows("SELECT source_id FROM sources") == [("fer2013",)]
    labels, rejected = at.dataframe[0].value, at.dataframe[1].value
    assert sorted(zip(labels["label"], labels["class"], labels["rows"], strict=True)) == [
        ("<b>odd", "no class", 1), ("happy", "happy", 1), ("sad", "sad", 1)]
    assert rejected[["file", "reason"]].values.tolist() == [["train/happy/broken.png", "the file is empty"]]
    press(at, "Import")
    assert "3 added" in text(at) and app_store.value("SELECT count(*) FROM samples") == 73
    shown = at.dataframe[-1].value.set_index("source_id")
    assert shown.loc["my-set", "licence"] == "CC BY 4.0" and shown.loc["fer2013", "licence"] == "not stated"
    assert shown.loc["my-set", ["samples", "rejected", "imported_by", "kind"]].tolist() == [3, 1, "Dana", "folder"]
    press(at, "Import")
    assert "Nothing changed" in text(at)


def test_a_listing_with_chosen_columns_and_a_map(app_store: Store, folder: Path, tmp_path: Path) -> None:
    listing = tmp_path / "list.csv"
    listing.write_text("what;number\na.png;7\nb.png;1\nnone.png;1\n")
    at = pictures("Listing of files", folder, listing)
    press(at, "Preview")
    assert "2 added" in text(at) and at.dataframe[1].value["file"].tolist() == ["what", "none.png"]  # a header that is not recognised is a row
    columns = [t for t in at.text_input if t.label.startswith("Column of")]
    columns[0].set_value("what"), columns[1].set_value("number")
    at.selectbox(key="map").set_value("rafdb@1")
    press(at, "Import")
    assert app_store.rows("SELECT file_name, given_label FROM sample_files ORDER BY 1") == [("test/sad/b.png", "surprise"), ("train/happy/a.png", "neutral")]


def test_an_uploaded_archive_and_what_is_missing(app_store: Store, folder: Path, tmp_path: Path) -> None:
    packed = tmp_path / "up.zip"
    with zipfile.ZipFile(packed, "w") as out:
        out.write(folder / "test/sad/b.png", "sad/b.png")
    at = pictures("Folder or archive", Path("/nowhere/at *all*"))
    press(at, "Import")
    assert "/nowhere/at \\*all\\*" in at.error[0].value
    at.file_uploader(key="pictures-upload").set_value(("up.zip", packed.read_bytes(), "application/zip"))
    press(at, "Import")
    assert app_store.rows("SELECT file_name, given_label FROM sample_files") == [("sad/b.png", "sad")]


def test_labels_made_elsewhere(app_store: Store) -> None:
    at = app_as("dana", "import_data")
    at.segmented_control(key="kind").set_value("Labels made elsewhere").run()
    press(at, "Import labels")
    assert "Choose a file first" in at.error[0].value
    at.file_uploader(key="labels-file").set_value(("team.csv", b"csv_row,label\n0,happy\n1,sad\n99,sad\n", "text/csv"))
    at.selectbox(key="labels-source").set_value("fer2013")
    press(at, "Import labels")
    assert "2 imported votes of team, 1 rejected" in text(at)
    assert app_store.rows("SELECT value, origin FROM votes ORDER BY 1") == [("happy", "team"), ("sad", "team")]
    at.selectbox(key="labels-flag").set_value("dark")
    press(at, "Import labels")
    assert app_store.rows("SELECT DISTINCT person_id, field, value FROM label_events") == [("dana", "flag_dark", "yes")]
