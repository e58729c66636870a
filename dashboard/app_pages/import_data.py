"""Bring faces in from the browser; the same services as `fercore import`."""

import tempfile
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard import access, cache
from fercore import audit, ingest
from fercore.domain import Permission
from fercore.errors import FerError

person = access.actor()
person.require(Permission.IMPORT)


def kept(upload: Any, folder: str) -> Path | None:
    """The upload as a file under its own bare name."""
    if upload is None:
        return None
    path = Path(folder) / Path(upload.name).name
    path.write_bytes(upload.getbuffer())
    return path


def told(report: ingest.ImportReport) -> None:
    st.success(report.sentence(), icon=":material/check_circle:")
    if report.rejected:
        rows, lines, reasons = zip(*report.rejected, strict=True)
        st.dataframe({"row": rows, "line": lines, "reason": reasons}, hide_index=True)


st.title("Import")
with st.form("import"):
    st.subheader("FER-2013 file")
    faces_file = st.file_uploader("fer2013.csv or fer2013.csv.gz (emotion,pixels,Usage)", type=["csv", "gz"], key="faces")
    votes_file = st.file_uploader("FER+ votes for the same rows (fer2013new.csv), optional", type=["csv"], key="votes")
    left, right = st.columns(2)
    name = left.text_input("Name of the source", "fer2013", max_chars=60)
    licence = right.text_input("Licence, as the source states it", placeholder="not stated", max_chars=200)
    start = st.form_submit_button("Import", type="primary", icon=":material/upload_file:")

if start:
    if faces_file is None:
        st.error("Choose a file first.")
    else:
        bar = st.progress(0.0, "Reading")

        def show(done: int, total: int) -> None:
            bar.progress(done / max(total, 1), f"Reading {done / 1e6:,.0f} of {total / 1e6:,.0f} MB")

        with tempfile.TemporaryDirectory() as folder:
            try:
                path, votes = kept(faces_file, folder), kept(votes_file, folder)
                assert path is not None
                report = ingest.import_fer2013(cache.store(), person, path, ferplus=votes, name=name, licence=licence or None, progress=show)
                bar.progress(1.0, "Auditing")
                audit.run(cache.store(), person)
            except FerError as error:
                bar.empty()
                st.error(str(error), icon=":material/error:")
            else:
                bar.empty()
                told(report)
                st.page_link("app_pages/explore.py", label="Look at the faces", icon=":material/grid_view:")

with st.form("tags"):
    st.subheader("Age and gender tags")
    tags_file = st.file_uploader("CSV with csv_row, age_group (or age_band) and gender", type=["csv"], key="tags")
    onto = st.selectbox("Onto the rows of", cache.options()["sources"], placeholder="import faces first")
    if st.form_submit_button("Import tags", icon=":material/sell:"):
        if tags_file is None or onto is None:
            st.error("Choose a file, and a source that is here.")
        else:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    path = kept(tags_file, folder)
                    assert path is not None
                    report = ingest.import_tags(cache.store(), person, path, source=onto)
                except FerError as error:
                    st.error(str(error), icon=":material/error:")
                else:
                    told(report)

st.subheader("Sources in this workspace")
listed = cache.sources()
if listed.empty:
    st.caption("None yet.")
else:
    st.dataframe(listed.assign(licence=listed["licence"].fillna("not stated")), hide_index=True,
                 column_config={"recorded_at": st.column_config.DatetimeColumn("last import (UTC)", format="YYYY-MM-DD HH:mm")})
