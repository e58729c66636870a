"""Settle what annotators disagree on: slow on purpose, one face, anonymous votes."""

import streamlit as st

from dashboard import access, cache, charts, faces
from dashboard.state import session
from fercore import curation
from fercore.curation import adjudication
from fercore.curation.schemes import FLAG_GUIDELINES
from fercore.domain import Permission
from fercore.errors import FerError
from fercore.schemes import CANNOT_TELL, FLAGS

person = access.actor()
person.require(Permission.ADJUDICATE)
FIELDS = {s.field: s for s in cache.latest_schemes()} | {f"flag_{name}": None for name in FLAGS}
TITLES = {f: s.name if s else FLAGS[f.removeprefix("flag_")][0] for f, s in FIELDS.items()}

header = st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute")
header.title("Adjudicate")
if not cache.options()["sources"]:
    access.no_faces_yet()
with header.container(horizontal=True, width="content"):
    field = st.selectbox("Question", list(FIELDS), format_func=TITLES.__getitem__, key="field", label_visibility="collapsed", width=260)
    share = st.selectbox("Disputed", [0.5, 0.6, 0.75, 0.99], format_func=lambda s: "any disagreement" if s == 0.99 else f"at most {s:.0%} agree",
                         key="share", label_visibility="collapsed", width=190)
scheme = FIELDS[field]
waiting = cache.disputed(person, field, share)["image_id"].tolist()
passed = session().passed_over
waiting = [i for i in waiting if i not in passed] or waiting
st.caption("Votes are anonymous and stay as they are; what you decide goes before them. Faces on which you voted are left to other reviewers.")
if not waiting:
    st.info("No disagreement waits for you here: faces need two votes that differ, and none of them yours.", icon=":material/check:")
    st.stop()
face = st.query_params.get("face")
if face not in waiting:
    st.query_params["face"] = face = waiting[0]
found = adjudication.dispute(cache.store(), person, face, field)
row = cache.by_images(person, (face,)).iloc[0]
values = [*(scheme.ids if scheme else ("yes", "no")), *([CANNOT_TELL] if scheme else [])]


def settle(value: str | None) -> None:
    note = st.session_state.get("note", "")
    try:
        if value is None:
            passed.add(face)
        elif value == "ask":
            asked = adjudication.ask_again(cache.store(), person, face, field, note or f"Please look again: {TITLES[field]}")
            passed.add(face)
            st.toast(f"{asked} people are asked to look again")
        else:
            curation.adjudicate(cache.store(), person, face, field, value, note)
    except FerError as error:
        st.toast(f"Not settled. {error}", icon=":material/error:")
    st.session_state["note"] = ""
    st.query_params.pop("face", None)


left, middle, right = st.columns([7, 5, 7], gap="medium")
with left:
    st.html(faces.upscaled(bytes(row["gray48"]), 6))
with middle:
    charts.draw(charts.vote_bars(found.votes), f"votes-{face}", height=210)
    st.markdown(" · ".join(f"Vote {n}: **{charts.name_of(v)}**" for n, v in enumerate(found.each[:8], 1))
                + (f" · and {len(found.each) - 8} more" if len(found.each) > 8 else ""))
with right:
    ids, vectors = cache.looks()
    near = [ids[i] for i in adjudication.alike(vectors, vectors[ids.index(face)], 9) if ids[i] != face][:8]
    st.caption(f"Faces that look alike, with their current labels · {len(waiting):,} wait · given label: "
               f"{access.plain(charts.name_of(row['given_label']))}")
    faces.wall(cache.by_images(person, tuple(near)), f"alike-{face}", scale=1)
with st.container(horizontal=True, gap="xsmall"):
    for n, value in enumerate(values, 1):
        st.button(charts.name_of(value).capitalize(), key=f"settle-{value}", on_click=settle, args=(value,), shortcut=str(n) if n < 10 else None)
with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
    st.text_input("Note, or what to ask the annotators", key="note", max_chars=450, width="stretch")
    st.button("Pass over", key="pass", on_click=settle, args=(None,), icon=":material/skip_next:")
    st.button("Ask to look again", key="ask", on_click=settle, args=("ask",), icon=":material/forum:")
texts = cache.guidelines(scheme.scheme_id if scheme else FLAG_GUIDELINES)
with st.expander("Guidelines for the classes in dispute", expanded=True):
    for value in [v for v, _ in found.votes if v in texts] if scheme else [field.removeprefix("flag_")]:
        st.markdown(f"**{access.plain(charts.name_of(value))}** {access.plain(texts[value].text)}")
