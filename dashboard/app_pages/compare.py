"""Runs on exactly the same faces: which differences are more than noise, where they lie, and what new labels alone do."""

from math import comb

import streamlit as st

from dashboard import access, cache, compare_views
from dashboard.runs import finished_or_stop, marks
from fercore.domain import Permission
from fercore.errors import FerError

person = access.actor()
person.require(Permission.READ_RESULTS)

st.title("Compare")
runs = finished_or_stop()
chosen = tuple(st.multiselect("Runs", list(runs), key="runs", bind="query-params", max_selections=12, placeholder="Choose two runs or more"))
if len(chosen) < 2:
    st.info("Choose two finished runs or more. They are compared on the faces that all of them predict without having been trained on, with the "
            "same label in all.", icon=":material/compare_arrows:")
    st.stop()
own = {run_id: config.version_id for run_id in chosen if (config := runs[run_id].config)}
shared = set.intersection(*({version, *cache.scored_on(run_id)} for run_id, version in own.items()))
on = None
if len(shared | set(own.values())) > 1 and shared:  # where all share one version, there is nothing to choose
    each = "each on its own version"
    told = st.selectbox("Compared on", [each, *sorted(shared)], key="on", bind="query-params", width=280)
    on = None if told == each else told
try:
    with st.spinner(f"Comparing {comb(len(chosen), 2)} pair{'s' * (len(chosen) > 2)}", show_time=True):
        found = cache.compared(chosen, on)
except FerError as error:
    compare_views.refusal(error)
    st.stop()
st.caption(f"{found.n:,} common faces, with the same label in all runs; other faces of a run are left out{marks(*chosen)}")
compare_views.table(found)

pair = found.pairs[0]
if len(found.pairs) > 1:
    short = compare_views.letters(found.accuracy)
    by_name = {f"{short[p.second]} − {short[p.first]}": p for p in found.pairs}
    pair = by_name[st.selectbox("A pair in detail", list(by_name), key="pair", bind="query-params", width=200)]
view = st.segmented_control("View", ["Difference", "Disagreements", "Labels and models"], default="Difference", required=True, key="view",
                            bind="query-params", label_visibility="collapsed")
if view == "Labels and models":
    compare_views.labels_and_models((pair.first, pair.second), (own[pair.first], own[pair.second]), on)
else:
    compare_views.cells(person, pair, found.frames[pair.first], found.frames[pair.second], by_label=view == "Difference")
