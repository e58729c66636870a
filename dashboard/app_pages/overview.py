"""What is here and what waits for me."""

import streamlit as st

from dashboard import access, cache, charts
from fercore.audit import KINDS
from fercore.curation import Queue
from fercore.domain import Permission

person = access.actor()


st.title("Overview")
counts, classes, found = cache.overview()
if not counts["samples"]:
    access.no_faces_yet()

with st.container(horizontal=True):
    for label, key in {"Faces": "samples", "Distinct images": "images", "Relabelled": "relabelled", "Flagged": "flagged", "Tagged": "tagged"}.items():
        st.metric(label, f"{counts[key]:,}", border=True)

left, right = st.columns([2, 3], gap="medium")
with left:
    st.subheader("What waits for you")
    labelled, to_label = cache.progress(person, Queue(("expression",)))
    st.page_link("app_pages/label.py", label=f"Label: {to_label:,} faces wait, {labelled:,} done by you", icon=":material/keyboard:")
    tagged, to_tag = cache.progress(person, Queue(("age_band", "gender")))
    st.page_link("app_pages/tag.py", label=f"Tag age and gender: {to_tag:,} faces wait, {tagged:,} done by you", icon=":material/sell:")
    if person.may(Permission.APPROVE):
        listed = cache.version_table()
        for version_id in listed.loc[(listed["state"] == "in_review") & (listed["person_id"] != person.person_id), "version_id"]:
            st.page_link("app_pages/versions.py", label=f"Decide on {version_id}", icon=":material/rule:", query_params={"version": version_id})
    st.subheader("Findings")
    if found.empty:
        st.caption("Nothing was found, or no audit has run. It runs with every import and with `fercore audit`.")
    for row in found.itertuples():
        groups = f" faces, {row.n_groups:,} groups" if row.n_groups != row.n_samples else " faces"
        st.page_link("app_pages/explore.py", label=f"{KINDS[row.kind]}: {row.n_samples:,}{groups}", icon=":material/search:",
                     query_params={"finding": KINDS[row.kind]})
with right:
    st.subheader("Current labels")
    charts.draw(charts.class_bars(classes), "classes", height=330)
