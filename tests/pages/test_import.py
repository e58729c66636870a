"""The Import page: every kind of source, a preview that writes nothing, what was rejected, and where everything came from."""

import io
import tempfile
import threading
import zipfile
from pathlib import Path

import pytest
import streamlit as st
from app_helpers import APP, app_as, text
from helpers import LEAD, some_faces, write_votes
from PIL import Image
from streamlit.testing.v1 import AppTest

from dashboard import access, import_forms
from fercore import accounts, audit, ingest
from fercore.errors import BadInput, NotAllowed, WorkspaceError
from fercore.store import Store, sources


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where uploads are kept; empty in the end."""
    place = tmp_path / "uploads"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


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


def finished(at):
    """The page once its import is over."""
    for thread in threading.enumerate():
        if thread.name == "task-import":
            thread.join()
    at.run()
    assert not at.exception, at.exception
    return at


def press(at, label: str):
    """Presses the last button of that name, and waits for what it started."""
    [b for b in at.button if b.label == label][-1].click().run()
    assert not at.exception, at.exception
    return finished(at) if "Cancel" in [b.label for b in at.button] else at


def test_a_folder_is_previewed_then_imported_and_its_origin_is_shown(app_store: Store, folder: Path) -> None:
    at = pictures("Folder or archive", folder)
    next(t for t in at.text_input if t.label.startswith("Licence")).set_value("CC BY 4.0")
    press(at, "Preview")
    assert access.plain("3 added, 1 without a class, 1 rejected; nothing was written") in text(at)
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
    press(at, "Dismiss")
    assert "Nothing changed" not in text(at) and len(at.dataframe) == 1


def test_a_listing_with_chosen_columns_and_a_map(app_store: Store, folder: Path, tmp_path: Path) -> None:
    listing = tmp_path / "list.csv"
    listing.write_text("what;number\na.png;7\nb.png;1\nnone.png;1\n")
    at = pictures("Listing of files", folder, listing)
    press(at, "Preview")
    assert "2 added" in text(at) and at.dataframe[1].value["file"].tolist() == ["what", "none.png"]  # a header that is not recognised is a row
    at.text_input(key="column-file names").set_value("what"), at.text_input(key="column-labels").set_value("number")
    at.selectbox(key="map").set_value("rafdb@1")
    press(at, "Import")
    assert app_store.rows("SELECT file_name, given_label FROM sample_files ORDER BY 1") == [("test/sad/b.png", "surprise"), ("train/happy/a.png", "neutral")]


def test_an_uploaded_archive_and_what_is_missing(app_store: Store, folder: Path, tmp_path: Path) -> None:
    packed = tmp_path / "up.zip"
    with zipfile.ZipFile(packed, "w") as out:
        out.write(folder / "test/sad/b.png", "sad/b.png")
    at = pictures("Folder or archive", Path("/nowhere/at *all*"))
    press(at, "Import")
    assert access.plain("/nowhere/at *all*") in at.error[0].value
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
    press(at, "Preview")
    assert access.plain("1 rejected; nothing was written") in text(at) and app_store.rows("FROM votes") == []
    assert at.dataframe[0].value.values.tolist() == [["happy", "happy", 1], ["sad", "sad", 1]]
    press(at, "Import labels")
    assert access.plain("2 imported votes of team, 1 rejected") in text(at)
    assert app_store.rows("SELECT value, origin FROM votes ORDER BY 1") == [("happy", "team"), ("sad", "team")]
    at.selectbox(key="labels-flag").set_value("dark")
    press(at, "Import labels")
    assert app_store.rows("SELECT DISTINCT person_id, field, value FROM label_events") == [("dana", "flag_dark", "yes")]


def test_a_fer_file_is_previewed_and_votes_come_in_alone(app_store: Store, small_file: Path, tmp_path: Path, places: Path) -> None:
    at = app_as("dana", "import_data")
    at.file_uploader(key="faces").set_value(("f.csv", small_file.read_bytes(), "text/csv"))
    at.text_input[0].set_value("again")
    at.button(key="faces-preview").click().run()
    finished(at)
    assert access.plain("70 rows read, 70 added, 0 rejected; nothing was written") in text(at)
    assert at.dataframe[0].value["rows"].sum() == 70 and app_store.value("SELECT count(*) FROM samples") == 70
    at.text_input[0].set_value("fer2013")
    next(t for t in at.text_input if t.label == "Authors").set_value("A. Author")
    at.file_uploader(key="faces").set_value(("f.csv", small_file.read_bytes(), "text/csv"))
    at.button(key="faces-go").click().run()
    finished(at)
    assert app_store.rows("SELECT authors, licence FROM sources") == [("A. Author", None)]
    votes = write_votes(tmp_path / "v.csv", [[10] + [0] * 9] * 70, ["Training"] * 56 + ["PublicTest"] * 14)
    at.file_uploader(key="tags").set_value(("v.csv", votes.read_bytes(), "text/csv"))
    press(at, "Import tags")
    assert access.plain("70 imported votes") in text(at)
    assert app_store.rows("SELECT value, count(*) FROM votes GROUP BY 1") == [("neutral", 70)]
    assert list(places.iterdir()) == []


def test_a_cancelled_import_leaves_nothing(app_store: Store, folder: Path, places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, go_on = threading.Event(), threading.Event()
    real = ingest.import_pictures

    def slow(*args, progress, **more):
        def wait(done: int, total: int) -> None:
            progress(done, total)
            reading.set()
            go_on.wait(30)

        return real(*args, progress=wait, **more)

    monkeypatch.setattr(ingest, "import_pictures", slow)
    at = pictures("Folder or archive", folder)
    next(b for b in at.button if b.label == "Import").click().run()
    assert reading.wait(30)
    at.run()
    assert all(b.disabled for b in at.button if b.label in ("Import", "Preview"))
    next(b for b in at.button if b.label == "Cancel").click().run()
    go_on.set()
    finished(at)
    assert access.plain("Import of My set was cancelled; nothing was written.") in text(at)
    assert app_store.value("SELECT count(*) FROM samples") == 70 and list(sources.originals(app_store.workspace).iterdir()) == list(places.iterdir()) == []


def test_an_audit_that_is_cancelled_does_not_undo_the_import(app_store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(store, person, *, progress):
        next(iter(import_forms.tasks._tasks().values())).stop.set()
        progress("Measuring", 0.5)

    monkeypatch.setattr(audit, "run", stopped)
    at = press(pictures("Folder or archive", folder), "Import")
    assert access.plain("3 added") in text(at) and "audit was cancelled" in text(at) and app_store.value("SELECT count(*) FROM samples") == 73


def test_who_signs_in_uploads_and_reads_no_file_of_the_server(app_store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert import_forms.on_server(str(folder)) == folder
    jar: dict[str, str] = {}
    monkeypatch.setattr(type(st.context), "cookies", property(lambda self: jar))
    accounts.set_password(app_store, LEAD, "Dana", "correct horse battery")
    jar["fercore_session"] = accounts.sign_in(app_store, "Dana", "correct horse battery")
    with pytest.raises(NotAllowed, match="files of the server"):
        import_forms.on_server(str(folder))
    at = AppTest.from_file(APP, default_timeout=60).run().switch_page("app_pages/import_data.py").run()
    at.segmented_control(key="kind").set_value("Folder or archive").run()
    assert not at.exception and not [t for t in at.text_input if t.key == "pictures-path"]
    at.text_input(key="name").set_value("My set")
    press(at, "Import")
    assert "Nothing was chosen" in text(at)


def test_an_audit_that_fails_does_not_hide_that_the_import_is_complete(app_store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(store, person, *, progress):
        raise WorkspaceError("The disk is full")

    monkeypatch.setattr(audit, "run", full)
    at = press(pictures("Folder or archive", folder), "Import")
    assert access.plain("3 added") in text(at) and access.plain("The import is complete; its audit is not. The disk is full.") in text(at)


def test_many_lines_are_told_in_part(app_store: Store, tmp_path: Path) -> None:
    sheet = "file,label\n" + "".join(f"{i}.png,x\n" for i in range(1500)) + f"{app_store.value('SELECT min(sample_id) FROM samples')},happy\n"
    path = tmp_path / "l.csv"
    path.write_text(sheet)
    report = ingest.import_labels(app_store, LEAD, path, dry_run=True)
    import_forms.tasks._tasks()[import_forms.KIND] = import_forms.tasks.Task("Preview", "Dana", result=import_forms._Outcome(report), over=True)
    at = app_as("dana", "import_data")
    assert access.plain("1,500 rejected; the first 1,000") in access.plain(text(at)) and len(at.dataframe[1].value) == 1000


@pytest.mark.parametrize("typed", ["~nobody-of-this-name/x", "a" * 5000, "no\0thing"])
def test_paths_that_cannot_be_are_said_to_be_missing(app_store: Store, typed: str) -> None:
    with pytest.raises(BadInput, match="No such file"):
        import_forms.on_server(typed)


def test_an_upload_with_a_name_too_long_for_this_machine_is_kept(tmp_path: Path) -> None:
    upload = io.BytesIO(b"x")
    upload.name = "\u6587" * 200 + ".zip"
    kept = import_forms.kept(upload, tmp_path, "pictures")
    assert kept is not None and kept.read_bytes() == b"x" and kept.suffix == ".zip"
