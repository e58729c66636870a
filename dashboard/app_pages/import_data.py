"""Bring faces and labels in from the browser; the same services as `fercore import` and `fercore label`."""

import tempfile

import streamlit as st

from dashboard import access, cache, import_forms
from dashboard.import_forms import kept, told
from fercore import audit, ingest
from fercore.domain import Permission
from fercore.errors import BadInput, FerError

KINDS = ("FER-2013 file", "Folder or archive", "Listing of files", "Labels made elsewhere")
ARCHIVES = ["zip", "tar", "gz", "tgz", "bz2", "xz"]
person = access.actor()
person.require(Permission.IMPORT)

st.title("Import")
kind = st.segmented_control("What", KINDS, default=KINDS[0], key="kind", required=True, label_visibility="collapsed")

if kind == "FER-2013 file":
    with st.form("import"):
        st.subheader("FER-2013 file")
        faces_file = st.file_uploader("fer2013.csv or fer2013.csv.gz (emotion,pixels,Usage)", type=["csv", "gz"], key="faces")
        votes_file = st.file_uploader("FER+ votes for the same rows (fer2013new.csv), optional", type=["csv"], key="votes")
        left, right = st.columns(2)
        name = left.text_input("Name of the source", "fer2013", max_chars=60)
        licence = right.text_input("Licence, as the source states it", placeholder="not stated", max_chars=200)
        start = st.form_submit_button("Import", type="primary", icon=":material/upload_file:")
    with st.form("tags"):
        st.subheader("Age and gender tags")
        tags_file = st.file_uploader("CSV with csv_row, age_group (or age_band) and gender", type=["csv"], key="tags")
        onto = st.selectbox("Onto the rows of", cache.options()["sources"], placeholder="import faces first")
        tag = st.form_submit_button("Import tags", icon=":material/sell:")
    if start or tag:
        bar = st.progress(0.0, "Reading")
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = kept(faces_file if start else tags_file, folder)
                if path is None or (tag and onto is None):
                    raise BadInput("Choose a file first" if start else "Choose a file, and a source that is here")
                if start:
                    report = ingest.import_fer2013(
                        cache.store(), person, path, ferplus=kept(votes_file, folder), name=name, licence=licence or None,
                        progress=lambda done, total: bar.progress(done / max(total, 1), f"Reading {done / 1e6:,.0f} of {total / 1e6:,.0f} MB"))
                    bar.progress(1.0, "Auditing")
                    audit.run(cache.store(), person)
                else:
                    report = ingest.import_tags(cache.store(), person, path, source=onto or "")
            told(report)
            st.page_link("app_pages/explore.py", label="Look at the faces", icon=":material/grid_view:")
        except FerError as error:
            st.error(access.plain(str(error)), icon=":material/error:")
        bar.empty()
elif kind == "Labels made elsewhere":
    import_forms.labels_form(person)
else:
    with st.form("pictures"):
        listing = import_forms.given("Listing", ["csv", "tsv", "txt", "lst"], "listing") if kind == "Listing of files" else None
        pictures = import_forms.given("Folder, ZIP or TAR", ARCHIVES, "pictures")
        chosen = [st.text_input(f"Column of {c}", placeholder="recognised; a name or a number from 1") or None
                  for c in ("file names", "labels", "splits")] if listing else []
        stated = import_forms.about()
        preview = st.form_submit_button("Preview", icon=":material/preview:")
        go = st.form_submit_button("Import", type="primary", icon=":material/upload_file:")
    if preview or go:
        import_forms.run(person, stated, pictures, listing, ingest.Columns(*chosen) if listing else None, dry_run=preview)

st.subheader("Sources in this workspace")
import_forms.sources_table()
