"""Where a run was sure and wrong, nearly right, or at odds with another one, and which pixels a prediction hangs on."""

import streamlit as st

from dashboard import access, cache, charts, faces, saliency_views
from dashboard.components import face_grid
from dashboard.runs import basis, choose, finished_or_stop
from fercore import evaluation
from fercore.domain import Permission
from fercore.errors import FerError
from fercore.evaluation import gallery

person = access.actor()
person.require(Permission.READ_RESULTS)
VIEWS: dict[str, tuple[gallery.View, str]] = {
    "Confident mistakes": ("mistakes", "predicted otherwise than labelled, the surest first"),
    "Near misses": ("near", "wrong with the label in second place, the smallest margin first"),
    "Disagreements": ("apart", "on which the two runs differ, the surest first"),
}

st.title("Look closer")
runs = finished_or_stop()
run_id = choose(runs)
frame = cache.predictions(run_id)
classes = evaluation.classes_of(frame)
st.caption(f"Perceived expression · {basis(runs[run_id])}")
view = st.segmented_control("View", [*VIEWS, "Average of a class"], default="Confident mistakes", required=True, key="view", bind="query-params",
                            label_visibility="collapsed")
if view == "Average of a class":
    saliency_views.average(person, run_id, classes)
    st.stop()
with st.container(horizontal=True, vertical_alignment="bottom"):
    labelled = st.multiselect("Labelled", classes, format_func=charts.name_of, key="label", bind="query-params")
    predicted = st.multiselect("Predicted", classes, format_func=charts.name_of, key="predicted", bind="query-params")
    other = None
    if view == "Disagreements":
        other = st.selectbox("Other run", [r for r in runs if r != run_id], key="other", bind="query-params")
if other:
    st.caption(f"Other run: {basis(runs[other])}")
kind, meaning = VIEWS[view]
try:
    if other:
        evaluation.require_clean(cache.workspace(), (run_id, other))
    found = gallery.faces(kind, frame, cache.predictions(other) if other else None, labelled, predicted)
except FerError as error:
    st.info(access.plain(str(error)), icon=":material/info:")
    st.stop()
if found.empty:
    st.info("No such face.", icon=":material/search_off:")
    st.stop()
left, right = st.columns(2, gap="medium")
with left:
    start = faces.pager(len(found), 24, "page", charts.many(len(found)))
    part = found.iloc[start:start + 24]
    key = f"gallery-{run_id}-{kind}-{start}"
    notes = {r.sample_id: f"{100 * r.confidence:.0f} %" + (f", {charts.name_of(r.runner_up)} {100 * (r.confidence - r.margin):.0f} %"
                                                           if kind == "near" else "") for r in part.itertuples()}
    if kind == "apart":
        notes |= {r.sample_id: f"other: {charts.name_of(r.other_predicted)} {100 * r.other_confidence:.0f} %" for r in part.itertuples()}
    faces.wall(cache.by_ids(person, tuple(part["sample_id"])), key, notes=notes, select=True,
               second=dict(zip(part["sample_id"], part["predicted"], strict=True)),
               predicted={run_id: frame} | ({other: cache.predictions(other)} if other else {}))
    st.caption(f"{len(found):,} of {len(frame):,} faces {meaning}. A click selects a face for the right side, a double click opens it.")
chosen = [i for i in face_grid.selected(key) if i in set(part["sample_id"])]
if chosen and st.query_params.get("face") != chosen[0]:
    st.query_params["face"] = chosen[0]
with right:
    saliency_views.face(person, run_id, frame, st.query_params.get("face"))
