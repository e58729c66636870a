"""Bring faces and labels in from the browser; the same services as `fercore import` and `fercore label`."""

import streamlit as st

from dashboard import access, import_forms
from fercore.domain import Permission

KINDS = ("FER-2013 file", "Folder or archive", "Listing of files", "Labels made elsewhere")
person = access.actor()
person.require(Permission.IMPORT)

st.title("Import")
kind = st.segmented_control("What", KINDS, default=KINDS[0], key="kind", required=True, label_visibility="collapsed")
if kind == KINDS[0]:
    import_forms.faces_form(person)
elif kind == KINDS[3]:
    import_forms.labels_form(person)
else:
    import_forms.pictures_form(person, by_listing=kind == KINDS[2])
import_forms.outcome()
if kind == KINDS[0]:
    import_forms.tags_form(person)

st.subheader("Sources in this workspace")
import_forms.sources_table()
