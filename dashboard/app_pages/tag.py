"""Tag perceived age and gender, in a pass of their own."""

import streamlit as st

from dashboard import access, cache, labeling
from fercore.domain import Permission
from fercore.schemes import AGE_BANDS, GENDERS

access.actor().require(Permission.LABEL)
if not cache.options()["sources"]:
    st.title("Tag")
    access.no_faces_yet()
with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Tag")
    queue = labeling.choose_queue(("age_band", "gender"))
st.caption("How old does the person look, and how do they present? It is what you perceive; key 0 says that you cannot tell.")
labeling.labeling(queue, (labeling.question(AGE_BANDS), labeling.question(GENDERS)), labeling.FLAG_BUTTONS)
