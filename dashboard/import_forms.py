"""Forms of the Import page: files from the browser or the server, what a source states of itself, and what an import did or would do."""

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import streamlit as st

from dashboard import access, cache, tasks
from fercore import audit, ingest
from fercore.domain import Person
from fercore.errors import BadInput, FerError, NotAllowed
from fercore.ingest import images
from fercore.schemes import FLAGS

KIND = "import"  # of the task: one import or preview at a time
ARCHIVES = ["zip", "tar", "gz", "tgz", "bz2", "xz"]
OWN_MAP = "a file of my own"
MOST = 1000  # lines of a table
Report = ingest.ImportReport | ingest.LabelReport | ingest.PictureReport
Work = Callable[[tasks.Progress], Report]


@dataclass(frozen=True)
class _Outcome:
    report: Report
    remark: str = ""


def kept(upload: Any, folder: Path, name: str) -> Path | None:
    """The upload as a file of `folder` under its own bare name, in a folder `name` of its own."""
    if upload is None:
        return None
    path = folder / name / Path(upload.name).name[-60:]  # a name may be longer than this machine takes
    path.parent.mkdir()
    path.write_bytes(upload.getbuffer())
    return path


def begin(what: str, person: Person, preview: bool, prepare: Callable[[Path], Work]) -> None:
    """Starts the work that `prepare` makes of files it keeps in a folder, then an audit of what came in. The folder goes when the work is over."""
    folder, store = Path(tempfile.mkdtemp()), cache.store()

    def run(progress: tasks.Progress) -> _Outcome:
        try:
            progress("Reading", 0.0)
            report = work(progress if preview else lambda doing, share: progress(doing, share / 2))
        finally:
            shutil.rmtree(folder)
        if report.dry_run or isinstance(report, ingest.LabelReport) or report.unchanged:
            return _Outcome(report)
        try:
            audit.run(store, person, progress=lambda doing, share: progress(doing, 0.5 + share / 2))
        except tasks.Cancelled:
            return _Outcome(report, "The import is complete; its audit was cancelled. Run it on the Audit page.")
        except FerError as error:
            return _Outcome(report, f"The import is complete; its audit is not. {error}")
        return _Outcome(report)

    try:
        work = prepare(folder)
        tasks.start(KIND, f"{'Preview' if preview else 'Import'} of {what}", person, run)
    except (FerError, OSError) as error:
        shutil.rmtree(folder)
        st.error(access.plain(str(error)), icon=":material/error:")
    except BaseException:
        shutil.rmtree(folder)
        raise
    else:
        st.rerun()


def counted(progress: tasks.Progress, unit: str, scale: float = 1) -> ingest.Progress:
    """Progress of an import in words, with its rate."""
    began = time.monotonic()

    def told(done: int, total: int) -> None:
        rate = done / scale / max(time.monotonic() - began, 0.001)
        progress(f"{done / scale:,.0f} of {total / scale:,.0f} {unit}, {rate:,.0f} a second", done / max(total, 1))

    return told


def outcome() -> None:
    """The bar of an import under way, or what came of the last one until it is dismissed."""
    task = tasks.shown(KIND)
    if task is None:
        return
    if isinstance(task.result, _Outcome):
        _told(task.result)
    elif not task.error:
        st.info(access.plain(f"{task.title} was cancelled; nothing was written."), icon=":material/cancel:")
    with st.container(horizontal=True, vertical_alignment="center"):
        if task.result and not task.result.report.dry_run:
            st.page_link("app_pages/explore.py", label="Look at the faces", icon=":material/grid_view:")
        if st.button("Dismiss", icon=":material/close:"):
            tasks.dismiss(KIND)
            st.rerun()


def _told(done: _Outcome) -> None:
    """The sentence, which text becomes which class, and what was rejected or is remarkable, one by one."""
    report = done.report
    if report.dry_run:
        st.info(access.plain(report.sentence()), icon=":material/preview:")
    else:
        st.success(access.plain(report.sentence()), icon=":material/check_circle:")
    if done.remark:
        st.warning(access.plain(done.remark), icon=":material/warning:")
    if report.labels:
        st.caption(_number(report.labels, "different labels"))
        texts, classes, counts = zip(*report.labels[:MOST], strict=True)
        st.dataframe({"label": [t or "(none)" for t in texts], "class": [c or "no class" for c in classes], "rows": counts}, hide_index=True)
    if report.rejected:
        st.caption(_number(report.rejected, "rejected"))
        names = ("row", "line", "reason") if isinstance(report, ingest.ImportReport) else (
            "line", "reason", "file") if isinstance(report, ingest.LabelReport) else ("place", "line", "reason", "file")
        columns = dict(zip(names, zip(*report.rejected[:MOST], strict=True), strict=True))
        st.dataframe(columns, hide_index=True, column_order=[c for c in ("file", "row", "line", "reason") if set(columns.get(c, ())) - {None, ""}])
    if isinstance(report, ingest.PictureReport) and report.notes:
        st.caption(_number(report.notes, "remarks"))
        files, remarks = zip(*report.notes[:MOST], strict=True)
        st.dataframe({"file": files, "remark": remarks}, hide_index=True)


def _number(lines: list[Any], what: str) -> str:
    return f"{len(lines):,} {what}" + (f"; the first {MOST:,}" if len(lines) > MOST else "")


def given(label: str, kinds: list[str], key: str) -> Callable[[Path], Path]:
    """Asks for an upload, or on a machine of one's own for a path on it; the function returned gives the path, an upload being kept in a folder."""
    left, right = st.columns(2)
    typed = left.text_input(f"{label}: path on this machine", key=f"{key}-path").strip() if access.mode() == "local" else ""
    upload = (right if access.mode() == "local" else st).file_uploader(f"{label}: or upload" if access.mode() == "local" else label, type=kinds,
                                                                       key=f"{key}-upload")

    def path(folder: Path) -> Path:
        found = kept(upload, folder, key) or (on_server(typed) if typed else None)
        if found is None:
            raise BadInput("Nothing was chosen", f"{label} is needed", "Choose a file")
        return found

    return path


def on_server(typed: str) -> Path:
    """A path of the server. Raises: NotAllowed: people sign in here, and the server's files are not theirs. BadInput: nothing is there."""
    if access.mode() != "local":
        raise NotAllowed("You may not read files of the server", "People sign in to this dashboard", "Upload the file")
    try:
        found = Path(typed).expanduser()
        if found.exists():
            return found
    except (OSError, RuntimeError):  # a name that is too long; the folder of somebody who is not there
        pass
    raise BadInput("No such file", typed, "Check the path; it is one of the machine that serves this page")


@dataclass(frozen=True)
class Stated:
    """What the fields of `about` hold."""

    about: ingest.Provenance
    map_name: str
    own_map: Any
    method: ingest.Method
    split: str | None
    partial: bool

    def label_map(self, folder: Path) -> ingest.LabelMap | None:
        """Raises: BadInput, NotFound: the map cannot be used."""
        if self.map_name != OWN_MAP:
            return ingest.find_map(self.map_name) if self.map_name else None
        path = kept(self.own_map, folder, "map")
        if path is None:
            raise BadInput("No label map", "A file of your own was chosen and none was given", "Choose a YAML or JSON file of text: class id")
        return ingest.find_map(str(path), cache.store())


def _map_name(map_id: str) -> str:
    return {"": "recognised by the list's name", "generic@1": "common words"}.get(map_id, map_id)


def about(by_listing: bool) -> Stated:
    """Fields on the source, its labels and the standard image."""
    left, middle, right = st.columns(3)
    name = left.text_input("Name of the source", max_chars=60, key="name")
    map_name = middle.selectbox("What labels mean", [*[""] * by_listing, *ingest.MAPS, OWN_MAP], format_func=_map_name, key="map")
    split = right.text_input("Split of every picture", placeholder="as paths or the listing say", max_chars=40, key="split")
    origin = _origin()
    with st.expander("More"):
        left, right = st.columns(2)
        resize = left.selectbox("Filter that makes pictures 48x48", list(images.RESIZE))
        fit = right.selectbox("Pictures that are not square are", list(images.FITS), format_func={
            "squash": "squashed", "pad": "padded with mid gray", "crop": "cropped to the middle square"}.__getitem__)
        own_map = st.file_uploader("Label map of your own (text: class id)", type=["yaml", "yml", "json"])
        partial = st.checkbox("This is only a part of the source: mark nothing as gone")
    return Stated(ingest.Provenance(name, **origin), map_name, own_map, ingest.Method(resize, fit), split.strip() or None, partial)


def _origin() -> dict[str, str | None]:
    """What a source states of itself, by the names of `Provenance`."""
    with st.expander("Where it comes from"):
        left, right = st.columns(2)
        told = {"authors": left.text_input("Authors", max_chars=500), "organisation": right.text_input("Organisation", max_chars=200),
                "licence": left.text_input("Licence, as the source states it", placeholder="not stated", max_chars=200),
                "url": right.text_input("Address", max_chars=500), "note": st.text_input("Note", max_chars=500)}
    return {k: t.strip() or None for k, t in told.items()}


def _pressed(label: str, key: str, kind: Literal["primary", "secondary"] = "primary") -> tuple[bool, bool]:
    """Whether Preview, and whether the other button of a form was pressed."""
    busy = tasks.running(KIND)
    with st.container(horizontal=True):
        return (st.form_submit_button("Preview", icon=":material/preview:", disabled=busy, key=f"{key}-preview"),
                st.form_submit_button(label, type=kind, icon=":material/upload_file:", disabled=busy, key=f"{key}-go"))


def faces_form(person: Person) -> None:
    """A FER-2013 file, with FER+ votes or without."""
    with st.form("import"):
        faces = st.file_uploader("fer2013.csv, also gzipped or in a ZIP or TAR (emotion,pixels,Usage)", type=["csv", *ARCHIVES], key="faces")
        votes = st.file_uploader("FER+ votes for the same rows (fer2013new.csv), optional", type=["csv"], key="votes")
        name = st.text_input("Name of the source", "fer2013", max_chars=60)
        origin = _origin()
        preview, go = _pressed("Import", "faces")
    if not (preview or go):
        return

    def prepare(folder: Path) -> Work:
        path, ferplus, store = kept(faces, folder, "faces"), kept(votes, folder, "votes"), cache.store()
        if path is None:
            raise BadInput("Choose a file first")
        return lambda progress: ingest.import_fer2013(store, person, path, ferplus=ferplus, name=name, **origin, dry_run=preview,
                                                      progress=counted(progress, "MB", 1e6))

    begin(name, person, preview, prepare)


def tags_form(person: Person) -> None:
    """Age and gender tags or FER+ votes, onto rows that are here."""
    with st.form("tags"):
        st.subheader("Tags or votes for faces that are here")
        file = st.file_uploader("Age and gender (csv_row, age_group or age_band, gender), or FER+ votes (fer2013new.csv)", type=["csv"], key="tags")
        onto = st.selectbox("Onto the rows of", cache.options()["sources"], placeholder="import faces first")
        preview, go = _pressed("Import tags", "tags", "secondary")
    if not (preview or go):
        return

    def prepare(folder: Path) -> Work:
        path, store = kept(file, folder, "tags"), cache.store()
        if path is None or onto is None:
            raise BadInput("Choose a file, and a source that is here")
        return lambda progress: ingest.import_tags(store, person, path, source=onto, dry_run=preview)

    begin("tags", person, preview, prepare)


def pictures_form(person: Person, by_listing: bool) -> None:
    """A folder or archive of pictures, by its paths or by a listing of its files."""
    with st.form("pictures"):
        listing = given("Listing", ["csv", "tsv", "txt", "lst"], "listing") if by_listing else None
        pictures = given("Folder, ZIP or TAR", ARCHIVES, "pictures")
        chosen, unlisted = _columns() if by_listing else (None, False)
        stated = about(by_listing)
        preview, go = _pressed("Import", "pictures")
    if not (preview or go):
        return

    def prepare(folder: Path) -> Work:
        store, path, listed, chosen_map = cache.store(), pictures(folder), listing(folder) if listing else None, stated.label_map(folder)
        columns = ingest.Columns(*chosen[:3], ingest.box_of(chosen[3]), chosen[4]) if chosen else None
        return lambda progress: ingest.import_pictures(
            store, person, path, stated.about, list_file=listed, columns=columns, split=stated.split, unlisted=unlisted, label_map=chosen_map,
            method=stated.method, partial=stated.partial, dry_run=preview, progress=counted(progress, "files"))

    begin(stated.about.name, person, preview, prepare)


def _columns() -> tuple[tuple[str | None, str | None, str | None, str | None, bool], bool]:
    """(columns of file names, labels, splits and the face box, whether the box has corners), and whether unlisted pictures are taken."""
    with st.expander("Columns of the listing"):
        cells = st.columns(3)
        image, label, split = (cell.text_input(f"Column of {what}", placeholder="recognised; a name or a number from 1", key=f"column-{what}")
                               for cell, what in zip(cells, ("file names", "labels", "splits"), strict=True))
        left, right = st.columns([2, 1], vertical_alignment="bottom")
        box = left.text_input("Columns of the face box to crop to", placeholder="whole pictures; left,top,width,height", key="column-box")
        corners = right.checkbox("The last two are right and bottom", key="column-corners")
        unlisted = st.checkbox("Also take pictures that no line names, without a label")
    return (image or None, label or None, split or None, box or None, corners), unlisted


def labels_form(person: Person) -> None:
    """Labels made elsewhere, onto faces that are here: imported votes, or answers of this person."""
    with st.form("labels"):
        file = st.file_uploader("CSV or text of file names, rows or sample ids with labels, or Label Studio's JSON",
                                type=["csv", "tsv", "txt", "json"], key="labels-file")
        left, middle, right, last = st.columns(4)
        source = left.selectbox("Faces of", [None, *cache.options()["sources"]], format_func=lambda s: s or "any source", key="labels-source")
        origin = middle.text_input("Whose votes", placeholder="name of the file", max_chars=60)
        flag = right.selectbox("The file lists faces that are", [None, *FLAGS], format_func=lambda f: FLAGS[f][0].lower() if f else "labelled",
                               key="labels-flag")
        map_name = last.selectbox("What labels mean", list(ingest.MAPS), format_func=_map_name, key="labels-map")
        mine = st.checkbox("These are my own answers: record label events of mine instead of imported votes")
        preview, go = _pressed("Import labels", "labels")
    if not (preview or go):
        return

    def prepare(folder: Path) -> Work:
        path, store = kept(file, folder, "labels"), cache.store()
        if path is None:
            raise BadInput("Choose a file first")
        return lambda progress: ingest.import_labels(store, person, path, source=source, origin=origin.strip() or None, by=person if mine else None,
                                                     flag=flag, label_map=ingest.MAPS[map_name], dry_run=preview, progress=counted(progress, "lines"))

    begin("labels", person, preview, prepare)


def sources_table() -> None:
    """Every source with its provenance."""
    listed = cache.sources()
    if listed.empty:
        st.caption("None yet.")
        return
    words = listed.drop(columns=["samples", "unlabelled", "gone", "rejected", "imports", "recorded_at"]).columns
    listed = listed.assign(licence=listed["licence"].fillna("not stated"),
                           method=[", ".join(json.loads(m)[k] for k in ("resize", "fit")) if m else "" for m in listed["method"].fillna("")])
    st.dataframe(listed.fillna(dict.fromkeys(words, "")), hide_index=True, column_config={
        "source_id": "source", "samples": st.column_config.NumberColumn(format="localized"),
        "unlabelled": "without a class", "url": "address", "label_map": "label map", "method": "made 48x48 by",
        "file_sha256": "SHA-256 of the files", "file_name": "file", "imported_by": "imported by",
        "recorded_at": st.column_config.DatetimeColumn("last import (UTC)", format="YYYY-MM-DD HH:mm")})
