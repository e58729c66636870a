"""Settle what annotators disagree on: slow on purpose, one face, anonymous votes."""

import streamlit as st

from dashboard import access, cache, charts, faces
from dashboard.state import session
from fercore import curation
from fercore.curation import adjudication
from fercore.curation.schemes import FLAG_GUIDELINES
from fercore.domain import Permission
from fercore.errors import FerError
from fercore.schemes import CANNOT_TELL, FLAGS, Scheme

person = access.actor()
person.require(Permission.ADJUDICATE)
SCHEMES: dict[str, list[Scheme]] = {f"flag_{name}": [] for name in FLAGS}
for found in cache.latest_schemes():
    SCHEMES[found.field] = [*SCHEMES.get(found.field, []), found]
TITLES = {f: " and ".join(s.name for s in asked) if asked else FLAGS[f.removeprefix("flag_")][0] for f, asked in sorted(
    SCHEMES.items(), key=lambda item: (item[0].startswith("flag_"), item[0] != "expression"))}

header = st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute")
header.title("Adjudicate")
if not cache.options()["sources"]:
    access.no_faces_yet()
with header.container(horizontal=True, width="content"):
    field = st.selectbox("Question", list(TITLES), format_func=TITLES.__getitem__, key="field", label_visibility="collapsed", width=260)
    share = st.selectbox("Disputed", [0.5, 0.6, 0.75, 0.99], format_func=lambda s: "any disagreement" if s == 0.99 else f"at most {s:.0%} agree",
                         key="share", label_visibility="collapsed", width=190)
classes = {c.class_id: c.name for scheme in SCHEMES[field] for c in scheme.offered}  # of every scheme that asks this
names = {**classes, CANNOT_TELL: "Cannot tell"} if classes else {"yes": "Yes", "no": "No"}
mine = session()
left_open = cache.disputed(person, field, share)["image_id"].tolist()
waiting = [i for i in left_open if i not in mine.passed_over] or left_open
st.caption("Votes are anonymous and stay as they are; what you decide goes before them. Faces on which you voted are left to other reviewers.")


def settle(face: str, value: str | None) -> None:
    """One press, one face: a held key or a second press before the next face is drawn finds it settled already."""
    if (face, field) in mine.settled:
        return
    note = st.session_state.get("note", "")
    try:
        if value is None:
            mine.passed_over.add(face)
        elif value == "ask":
            asked = adjudication.ask_again(cache.store(), person, face, field, note or f"Please look again: {TITLES[field]}")
            mine.passed_over.add(face)
            st.toast(f"{asked} people are asked to look again")
        else:
            curation.adjudicate(cache.store(), person, face, field, value, note)
            mine.settled[face, field] = value
    except FerError as error:
        st.toast(f"Not settled. {error}", icon=":material/error:")
    st.session_state["note"] = ""
    st.query_params.pop("face", None)


def undo() -> None:
    (face, where), _ = mine.settled.popitem()
    curation.withdraw(cache.store(), person, face, where)
    st.query_params["face"] = face


if mine.settled:
    value = next(reversed(mine.settled.values()))
    st.button(f"Undo: {access.plain(names.get(value, value))}", key="undo", on_click=undo, icon=":material/undo:", type="tertiary")
if not waiting:
    st.info("No disagreement waits for you here: faces need two votes that differ, and none of them yours.", icon=":material/check:")
    st.stop()
face = st.query_params.get("face")
if face not in left_open:
    if face:
        st.warning("The face of this link is settled, not disputed, or one on which you voted; another one is shown.")
    st.query_params["face"] = face = waiting[0]
found = adjudication.dispute(cache.store(), person, face, field)
row = cache.by_images(person, (face,)).iloc[0]
left, middle, right = st.columns([7, 5, 7], gap="medium")
with left:
    st.html(faces.upscaled(bytes(row["gray48"]), 6))
with middle:
    charts.draw(charts.vote_bars(found.votes, names), f"votes-{face}", height=210)
    st.markdown(" · ".join(f"Vote {n}: **{access.plain(names.get(v, v))}**" for n, v in enumerate(found.each[:8], 1))
                + (f" · and {len(found.each) - 8} more" if len(found.each) > 8 else ""))
with right:
    ids, vectors = cache.looks()
    near = [ids[i] for i in adjudication.alike(vectors, vectors[ids.index(face)], 9) if ids[i] != face][:8]
    st.caption(f"Faces that look alike, with their current labels · {len(waiting):,} wait · given label: "
               f"{access.plain(charts.name_of(row['given_label']))}")
    faces.wall(cache.by_images(person, tuple(near)), f"alike-{face}", scale=1)
with st.container(horizontal=True, gap="xsmall"):
    for n, (value, name) in enumerate(names.items(), 1):
        st.button(access.plain(name), key=f"settle-{value}", on_click=settle, args=(face, value), shortcut=str(n) if n < 10 else None)
with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
    st.text_input("Note, or what to ask the annotators", key="note", max_chars=450, width="stretch")
    st.button("Pass over", key="pass", on_click=settle, args=(face, None), icon=":material/skip_next:")
    st.button("Ask to look again", key="ask", on_click=settle, args=(face, "ask"), icon=":material/forum:")
texts = {k: v for scheme_id in [s.scheme_id for s in SCHEMES[field]] or [FLAG_GUIDELINES] for k, v in cache.guidelines(scheme_id).items()}
with st.expander("Guidelines for the classes in dispute", expanded=True):
    for value in [v for v, _ in found.votes if v in texts] if classes else [field.removeprefix("flag_")]:
        st.markdown(f"**{access.plain(names.get(value, TITLES[field]))}** {access.plain(texts[value].text)}")
