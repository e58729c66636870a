"""Forms of the Import page: files from the browser or the server, what a source states of itself, and what an import did or would do."""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard import access, cache
from fercore import audit, ingest
from fercore.domain import Person
from fercore.errors import BadInput, FerError
from fercore.ingest import images
from fercore.schemes import FLAGS

OWN_MAP = "a file of my own"


def kept(upload: Any, folder: str) -> Path | None:
    """The upload as a file under its own bare name."""
    if upload is None:
        return None
    path = Path(folder) / Path(upload.name).name
    path.write_bytes(upload.getbuffer())
    return path


def told(report: ingest.ImportReport | ingest.LabelReport) -> None:
    st.success(access.plain(report.sentence()), icon=":material/check_circle:")
    if report.rejected:
        names = ("row", "line", "reason") if isinstance(report, ingest.ImportReport) else ("line", "reason", "name")
        st.dataframe(dict(zip(names, zip(*report.rejected, strict=True), strict=True)), hide_index=True)


def told_pictures(report: ingest.PictureReport) -> None:
    """The sentence, which text becomes which class, and what was rejected or is remarkable, one by one."""
    if report.dry_run:
        st.info(access.plain(report.sentence()), icon=":material/preview:")
    else:
        st.success(access.plain(report.sentence()), icon=":material/check_circle:")
    st.dataframe({"label": [t or "(none)" for t, _, _ in report.labels], "class": [c or "no class" for _, c, _ in report.labels],
                  "rows": [n for _, _, n in report.labels]}, hide_index=True)
    if report.rejected:
        st.caption(f"{len(report.rejected):,} rejected")
        _, lines, reasons, names = zip(*report.rejected, strict=True)
        st.dataframe({"file": names, "line": lines, "reason": reasons}, hide_index=True)
    if report.notes:
        st.caption("Remarks")
        st.dataframe({"file": [n for n, _ in report.notes], "remark": [r for _, r in report.notes]}, hide_index=True)


def given(label: str, kinds: list[str], key: str) -> Callable[[str], Path]:
    """Asks for a path on the server or an upload; the function returned gives the path, an upload being kept in a folder."""
    left, right = st.columns(2)
    typed = left.text_input(f"{label}: path on the server", key=f"{key}-path")
    upload = right.file_uploader(f"{label}: or upload", type=kinds, key=f"{key}-upload")

    def path(folder: str) -> Path:
        found = kept(upload, folder) or (Path(typed.strip()).expanduser() if typed.strip() else None)
        if found is None:
            raise BadInput("Nothing was chosen", f"{label} is needed", "Type a path on the server or choose a file")
        if not found.exists():
            raise BadInput("No such file", str(found), "Check the path; it is one of the server")
        return found

    return path


@dataclass(frozen=True)
class Stated:
    """What the fields of `about` hold."""

    about: ingest.Provenance
    map_name: str
    own_map: Any
    method: ingest.Method
    split: str | None
    partial: bool

    def label_map(self, folder: str) -> ingest.LabelMap | None:
        """Raises: BadInput, NotFound: the map cannot be used."""
        if self.map_name != OWN_MAP:
            return ingest.find_map(self.map_name) if self.map_name else None
        path = kept(self.own_map, folder)
        if path is None:
            raise BadInput("No label map", "A file of your own was chosen and none was given", "Choose a YAML or JSON file of text: class id")
        return ingest.find_map(str(path), cache.store())


def about() -> Stated:
    """Fields on the source, its labels and the standard image."""
    left, middle, right = st.columns(3)
    name = left.text_input("Name of the source", max_chars=60, key="name")
    map_name = middle.selectbox("What labels mean", ["", *ingest.MAPS, OWN_MAP], format_func=lambda m: m or "recognise common words", key="map")
    split = right.text_input("Split of every picture", placeholder="as paths or the listing say", max_chars=40, key="split")
    with st.expander("Where it comes from"):
        left, right = st.columns(2)
        authors, organisation = left.text_input("Authors", max_chars=500), right.text_input("Organisation", max_chars=200)
        licence = left.text_input("Licence, as the source states it", placeholder="not stated", max_chars=200)
        url = right.text_input("Address", max_chars=500)
        note = st.text_input("Note", max_chars=500)
    with st.expander("More"):
        left, right = st.columns(2)
        resize = left.selectbox("Filter that makes pictures 48x48", list(images.RESIZE))
        fit = right.selectbox("Pictures that are not square are", list(images.FITS), format_func={
            "squash": "squashed", "pad": "padded with mid gray", "crop": "cropped to the middle square"}.__getitem__)
        own_map = st.file_uploader("Label map of your own (text: class id)", type=["yaml", "yml", "json"])
        partial = st.checkbox("This is only a part of the source: mark nothing as gone")
    return Stated(ingest.Provenance(name, *(t.strip() or None for t in (authors, organisation, licence, url, note))), map_name, own_map,
                  ingest.Method(resize, fit), split.strip() or None, partial)


def run(person: Person, stated: Stated, pictures: Callable[[str], Path], listing: Callable[[str], Path] | None, columns: ingest.Columns | None,
        dry_run: bool) -> None:
    """Previews or imports with a progress bar, and tells what came of it."""
    with ExitStack() as stack:
        bar = st.progress(0.0, "Reading")
        stack.callback(bar.empty)
        folder = [stack.enter_context(tempfile.TemporaryDirectory()) for _ in range(3)]
        try:
            report = ingest.import_pictures(
                cache.store(), person, pictures(folder[0]), stated.about, list_file=listing(folder[1]) if listing else None, columns=columns,
                split=stated.split, label_map=stated.label_map(folder[2]), method=stated.method, partial=stated.partial, dry_run=dry_run,
                progress=lambda done, total: bar.progress(done / max(total, 1), f"Reading {done:,} of {total:,} files"))
            if not (dry_run or report.unchanged):
                bar.progress(1.0, "Auditing")
                audit.run(cache.store(), person)
        except FerError as error:
            st.error(access.plain(str(error)), icon=":material/error:")
            return
    told_pictures(report)
    if not dry_run:
        st.page_link("app_pages/explore.py", label="Look at the faces", icon=":material/grid_view:")


def labels_form(person: Person) -> None:
    """Labels made elsewhere, onto faces that are here: imported votes, or answers of this person."""
    with st.form("labels"):
        file = st.file_uploader("CSV or text of file names, rows or sample ids with labels, or Label Studio's JSON",
                                type=["csv", "tsv", "txt", "json"], key="labels-file")
        left, middle, right = st.columns(3)
        source = left.selectbox("Faces of", [None, *cache.options()["sources"]], format_func=lambda s: s or "any source", key="labels-source")
        origin = middle.text_input("Whose votes", placeholder="name of the file", max_chars=60)
        flag = right.selectbox("The file lists faces that are", [None, *FLAGS], format_func=lambda f: FLAGS[f][0].lower() if f else "labelled",
                               key="labels-flag")
        mine = st.checkbox("These are my own answers: record label events of mine instead of imported votes")
        if not st.form_submit_button("Import labels", type="primary", icon=":material/label:"):
            return
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = kept(file, folder)
            if path is None:
                raise BadInput("Choose a file first")
            told(ingest.import_labels(cache.store(), person, path, source=source, origin=origin.strip() or None, by=person if mine else None,
                                      flag=flag))
    except FerError as error:
        st.error(access.plain(str(error)), icon=":material/error:")


def sources_table() -> None:
    """Every source with its provenance."""
    listed = cache.sources()
    if listed.empty:
        st.caption("None yet.")
        return
    st.dataframe(listed.assign(licence=listed["licence"].fillna("not stated")), hide_index=True, column_config={
        "recorded_at": st.column_config.DatetimeColumn("last import (UTC)", format="YYYY-MM-DD HH:mm"), "url": st.column_config.TextColumn("address"),
        "file_sha256": st.column_config.TextColumn("SHA-256 of the files"), "file_name": st.column_config.TextColumn("file")})
