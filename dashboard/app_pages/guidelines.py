"""What to look for in each class, with example faces that people agree on."""

import streamlit as st

from dashboard import access, cache, faces
from dashboard.components.face_grid import Tile, face_grid
from dashboard.scheme_forms import chip
from fercore.curation import schemes
from fercore.domain import Permission
from fercore.errors import FerError
from fercore.schemes import CANNOT_TELL, FLAGS

person, store = access.actor(), cache.store()
person.require(Permission.LABEL)


def keys(*codes: str) -> str:
    return " or ".join(k.removeprefix("Key").removeprefix("Digit").replace("Semicolon", ";") for k in codes)


def guideline(scheme_id: str, class_id: str, name: str, codes: tuple[str, ...], colour: str = "transparent") -> None:
    """Name, key, text, and for a data lead the way to change the text."""
    found = cache.guidelines(scheme_id)[class_id]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.html(f"<b>{chip(colour, name)}</b>", width="content")
        st.caption(f"key {keys(*codes)}", width="content")
        if person.may(Permission.SCHEMES):
            with st.popover("Edit", type="tertiary"):
                text = st.text_area(f"Guideline of {access.plain(name)}", found.text, max_chars=1000, height=200, key=f"text-{scheme_id}-{class_id}")
                if st.button(f"Save the guideline of {access.plain(name)}", type="primary"):
                    try:
                        schemes.write_guideline(store, person, scheme_id, class_id, text)
                    except FerError as error:
                        st.error(access.plain(str(error)))
                    else:
                        st.rerun()
    st.markdown(access.plain(found.text) or "No guideline yet.")
    if found.number:
        st.caption(f"Version {found.number}, by {access.plain(found.person)}")


with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Guidelines")
    latest = {s.scheme_id: s for s in cache.latest_schemes()}
    scheme = latest[st.selectbox("Scheme", list(latest), key="scheme", bind="query-params", label_visibility="collapsed", width=260)]
    choosing = False
    if person.may(Permission.PLAN):
        with st.popover("Choose example faces", icon=":material/select_check_box:"):
            st.markdown(f"Choose up to {schemes.EXAMPLES} faces a class on which people agree? They are shown here with their class to everybody who "
                        "labels, and are not handed out for first votes any more, also when others take their place.")
            choosing = st.button(f"Choose for {scheme.scheme_id}", type="primary")
st.caption(f"{access.plain(scheme.name)}. We record what is perceived in a picture; nobody's feelings, age or gender are known from it.")
if choosing:
    try:
        chosen = schemes.choose_examples(store, person, scheme.scheme_id)
        st.success(f"{sum(chosen.values())} example faces chosen.", icon=":material/check:")
        if missing := [scheme[c].name for c, n in chosen.items() if not n]:
            st.warning(f"No face is agreed on yet for {access.plain(', '.join(missing))}. Mark gold faces, or let two people label the same faces.")
    except FerError as error:
        st.warning(access.plain(str(error)), icon=":material/search_off:")

shown = cache.examples(person, scheme.scheme_id)
if shown.empty:
    st.info("No example faces yet. A reviewer or data lead chooses them once people agree on some faces.", icon=":material/face:")
for c in scheme.offered:
    with st.container(border=True):
        guideline(scheme.scheme_id, c.class_id, c.name, c.keys, c.colour)
        part = shown[shown["value"] == c.class_id]
        if len(part) and (opened := face_grid([Tile(r.sample_id, bytes(r.gray48), c.name, c.colour) for r in part.itertuples()],
                                              key=f"examples-{scheme.slug}-{c.class_id}")):
            faces.face_dialog(opened)
with st.container(border=True):
    guideline(scheme.scheme_id, CANNOT_TELL, "Cannot tell", ("Digit0",))
    for flag, (name, key) in FLAGS.items():
        guideline(schemes.FLAG_GUIDELINES, flag, name, (key,) if key else ())
