"""Runs on exactly the same faces: which differences are more than noise, where they lie, and what new labels alone do."""

import pandas as pd
import streamlit as st

from dashboard import access, cache, compare_views
from dashboard.runs import finished_or_stop
from fercore.domain import Permission
from fercore.errors import FerError

person = access.actor()
person.require(Permission.READ_RESULTS)


def named(run_id: str) -> str:
    """A run by its id, version and seed."""
    config = runs[run_id].config
    return f"{run_id} · on {config.version_id}, seed {config.seed}" if config else run_id


st.title("Compare")
runs = finished_or_stop()
chosen = tuple(st.multiselect("Runs", list(runs), key="runs", bind="query-params", format_func=named, max_selections=12,
                              placeholder="Choose two runs or more; the others are compared with the first"))
if len(chosen) < 2:
    st.info("Choose two finished runs or more. They are compared on the faces that all of them predict without having been trained on, with the "
            "same label in all.", icon=":material/compare_arrows:")
    st.stop()
try:
    found = cache.compared(chosen)
except FerError as error:
    compare_views.refusal(error)
    st.stop()
st.caption(f"{found.n:,} common faces with the same label in all runs; left out: " + ", ".join(f"{run} {n:,}" for run, n in found.left_out.items()))
st.dataframe(pd.DataFrame([{"run": run, "accuracy": value.percent()} for run, value in found.accuracy.items()]), hide_index=True)
compare_views.table(found.pairs)

pair = found.pairs[0]
if len(found.pairs) > 1:
    by_name = {f"{p.second} against {p.first}": p for p in found.pairs}
    pair = by_name[st.selectbox("A pair in detail", list(by_name), key="pair", bind="query-params")]
view = st.segmented_control("View", ["Difference", "Disagreements", "Labels and models"], default="Difference", required=True, key="view",
                            bind="query-params", label_visibility="collapsed")
if view == "Labels and models":
    first, second = (config.version_id for config in (runs[pair.first].config, runs[pair.second].config) if config)
    compare_views.labels_and_models((pair.first, pair.second), (first, second))
else:
    compare_views.cells(person, pair, found.frames[pair.first], found.frames[pair.second], by_label=view == "Difference")
