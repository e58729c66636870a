"""Read dataset versions, compare them, and sign them."""

import streamlit as st

from dashboard import access, cache, version_diff, version_signing, version_views
from dashboard.export_form import export_popover
from dashboard.links import choose_in_url
from fercore.domain import Permission

person = access.actor()
person.require(Permission.READ_RESULTS)
table = cache.version_table()
with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Versions", width="content")
    if not table.empty:
        version_id = choose_in_url("version", {r.version_id: f"{r.version_id} ({r.state.replace('_', ' ')})" for r in table.itertuples()},
                                   label="Version", width=320)
    if person.may(Permission.FREEZE):
        st.page_link("app_pages/recipes.py", label="Freeze a version", icon=":material/ac_unit:", width="content")
if table.empty:
    st.info("No version yet. A data lead freezes one when the labels are ready.", icon=":material/ac_unit:")
    st.stop()

version = table.set_index("version_id").loc[version_id]
timeline, _ = cache.version_detail(version_id)
version_signing.head(person, version, timeline, cache.signing(version_id))
export_popover(version_id)
view = st.segmented_control("View", ["Composition", "Gates", "Diff", "Datasheet", "Timeline"], default="Composition", required=True, key="view",
                            bind="query-params", label_visibility="collapsed")
if view == "Gates":
    version_views.gates(person, version)
elif view == "Diff":
    same, others = ([v for v in table["version_id"] if v != version_id and (table.set_index("version_id").loc[v, "name"] == version["name"]) is here]
                    for here in (True, False))
    version_diff.view(person, version_id, [*same, *others])
elif view == "Datasheet":
    version_views.datasheet(person, version)
elif view == "Timeline":
    version_views.timeline(version)
else:
    version_views.composition(person, version)
