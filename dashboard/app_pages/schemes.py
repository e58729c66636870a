"""Label schemes: their versions and classes, changing them, and mapping one to another."""

import pandas as pd
import streamlit as st

from dashboard import access, cache, faces, scheme_forms
from dashboard.links import named_in_url
from fercore.domain import Permission
from fercore.schemes import SCHEMES

person = access.actor()
person.require(Permission.READ_RESULTS)
known, lead = cache.known_schemes(), person.may(Permission.SCHEMES)
newest = {s.slug: s for s in known.values()}
_WHEN = {"recorded_at": st.column_config.DatetimeColumn("when (UTC)", format="YYYY-MM-DD HH:mm:ss")}

with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Schemes")
    if lead:
        scheme_forms.create()
st.dataframe(pd.DataFrame([{"scheme": s.scheme_id, "name": s.name, "field": s.field, "versions": s.number,
                            "made": "built in" if s.scheme_id in SCHEMES else "here", "classes": ", ".join(c.name for c in s.offered)}
                           for s in newest.values()]), hide_index=True)
if len(known) == len(SCHEMES):
    st.info("Only built-in schemes so far. A data lead copies one or makes a new one; a version never changes.", icon=":material/category:")

named = named_in_url("scheme", list(known))
left, right = st.columns([1, 3], vertical_alignment="bottom")
scheme = known[left.selectbox("Version", list(known), index=list(known).index(named), key=f"scheme-{named}")]
st.query_params["scheme"] = scheme.scheme_id
right.html("".join(scheme_forms.chip(c.colour, c.name, c.class_id + ", retired" * c.retired) for c in scheme.classes))
view = st.segmented_control("Part", ["History", "Map", *(["Change"] if lead else [])], default="History", required=True, key="part",
                            bind="query-params", label_visibility="collapsed")
if view == "History":
    if scheme.scheme_id in SCHEMES:
        st.caption("Built in: the same in every workspace.")
    else:
        st.dataframe(cache.scheme_history(scheme.scheme_id), hide_index=True, column_config=_WHEN)
elif view == "Change":
    scheme_forms.change(scheme, scheme == newest[scheme.slug])
else:
    target = known[st.selectbox("Map to", [i for i in known if i != scheme.scheme_id], width=260)]
    steps = scheme_forms.mapping(scheme, target)
    preview = cache.map_preview(person, scheme.scheme_id, target.scheme_id, steps)
    st.dataframe(preview.assign(to=preview["to"].fillna("")).drop(columns="needs_relabel"), hide_index=True)
    st.caption("Faces of a class now: as annotators decided, else as a source says. A map edits no vote; recipes can use it.")
    scheme_forms.save(scheme, target, steps)
    if saved := cache.scheme_maps():
        st.caption("Saved maps: " + ", ".join(f"{access.plain(m.name)} ({m.source} to {m.target})" for m in saved))
    cell = st.pills("Show the faces of", [c.class_id for c in scheme.classes], format_func=lambda i: access.plain(scheme[i].name))
    if cell and (found := cache.scheme_cell(person, scheme.scheme_id, cell)):
        faces.wall(cache.by_ids(person, tuple(found)), key="cell-faces")
    elif cell:
        st.caption("No face is of this class now.")
