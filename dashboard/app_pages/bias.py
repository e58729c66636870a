"""How a run differs between perceived groups, what that stands on, and how it can be mended."""

import streamlit as st

from dashboard import access, bias_views, cache
from dashboard.runs import basis, choose, finished_or_stop
from fercore import bias
from fercore.bias import document
from fercore.domain import Permission
from fercore.errors import FerError
from fercore.training.rundir import Run

access.actor().require(Permission.READ_RESULTS)


def kind(run: Run) -> str | None:
    return run.config.protocol if run.config else None


st.title("Bias")
runs = finished_or_stop()
view = st.segmented_control("View", list(bias_views.VIEWS), default="Groups", required=True, key="view", bind="query-params",
                            label_visibility="collapsed")
with st.container(horizontal=True, vertical_alignment="bottom"):
    run_id = choose(runs)
    # A hold-out run and a k-fold run predict different faces: only runs of one kind can be compared.
    others = [i for i, r in runs.items() if i != run_id and kind(r) == kind(runs[run_id])]
    before_id = st.selectbox("Compare with an earlier run", others, index=None, key="before", bind="query-params",
                             placeholder="none" if others else "no other run of this kind", disabled=not others)
    minimum = st.number_input("Least faces in a cell", 1, 1000, 20, key="minimum", bind="query-params", width=150)
with st.container(horizontal=True, vertical_alignment="bottom"):
    by = tuple(st.multiselect("Groups", bias.offered(cache.saved_filters()), ["age_band", "gender"], format_func=bias.said, key="by",
                              bind="query-params"))
    mine = runs[run_id].config
    versions = [v for v in cache.version_table()["version_id"] if mine and v != mine.version_id]
    tags_of = st.selectbox("Tags of", versions, index=None, key="tags", bind="query-params", placeholder="the run's own version",
                           help="Another version, frozen after more faces were tagged", disabled=not versions, width=240)
with st.container(horizontal=True, vertical_alignment="bottom"):
    declared = bias_views.contrast(run_id, tags_of)
if not by:
    st.info("Choose at least one grouping.")
    st.stop()
try:
    found = cache.examined(run_id, by, int(minimum), before_id, declared, tags_of)
except FerError as error:
    st.info(access.plain(str(error)), icon=":material/info:")
    st.stop()
st.caption(f"Age and gender are perceived, by people who looked at the faces · {basis(runs[run_id])}")
st.caption(" ".join(document.basis(found)[1:]))
if found.untagged and view in ("Groups", "Tests"):
    st.info(access.plain(document.in_short(found)[0]), icon=":material/sell:")
    view = "Missing tags"
bias_views.VIEWS[view](found)
