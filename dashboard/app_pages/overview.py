"""What is here and what waits for me."""

import streamlit as st

from dashboard import access, cache, charts, faces, version_signing
from fercore import curation
from fercore.audit import KINDS
from fercore.domain import Permission

PLACES = {"label": ("label", "keyboard"), "tag": ("tag", "sell"), "verify": ("verify", "fact_check")}
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
    for place, (page, icon) in PLACES.items():
        for campaign_id, campaign in cache.campaigns_for(person, place).items():
            n = cache.campaign_counts(person, campaign_id)
            st.page_link(f"app_pages/{page}.py", label=f"{access.plain(campaign.name)}: {n['open'] + n['mine']:,} wait, {n['done']:,} done",
                         icon=f":material/{icon}:", query_params={"campaign": campaign_id})
    if person.may(Permission.ADJUDICATE) and (n := len(cache.disputed(person, "expression", 0.5))):
        st.page_link("app_pages/adjudicate.py", label=f"Adjudicate: {n:,} disputed expressions", icon=":material/gavel:")
    if person.may(Permission.APPROVE):
        listed = cache.version_table()
        for version_id in listed.loc[listed["state"] == "in_review", "version_id"]:
            if version_signing.may_decide(person, listed.set_index("version_id").loc[version_id], cache.signing(version_id)):
                st.page_link("app_pages/versions.py", label=f"Decide on {version_id}", icon=":material/rule:",
                             query_params={"version": version_id})
    if person.may(Permission.FREEZE):
        listed = cache.version_table()
        for row in listed[(listed["state"] == "draft") & (listed["person_id"] == person.person_id)].itertuples():
            st.page_link("app_pages/versions.py", label=f"Changes requested for {row.version_id}: {access.plain(str(row.last_reason))}",
                         icon=":material/edit_note:", query_params={"version": row.version_id})
    inbox = cache.comments(addressee=person.person_id)
    for row in inbox.head(10).itertuples():
        with st.container(horizontal=True, vertical_alignment="center"):
            # a comment can tell an answer
            told = person.may(Permission.READ_RESULTS) or cache.own_vote(person, row.image_id) is not None
            text = access.plain(row.text) if told else "on a face that you have not answered yet"
            st.markdown(f"**{access.plain(row.name)}** {text}", width="stretch")
            if st.button("Open the face", key=f"face-{row.event_id}", type="tertiary"):
                faces.face_dialog(cache.by_images(person, (row.image_id,))["sample_id"].iloc[0])
            if st.button("Done", key=f"seen-{row.event_id}", type="tertiary", icon=":material/check:"):
                curation.seen(cache.store(), person, row.event_id)
                st.rerun()
    if len(inbox) > 10:
        st.caption(f"and {len(inbox) - 10:,} more")
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
