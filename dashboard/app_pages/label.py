"""Relabel: one face, one key."""

import streamlit as st

from dashboard import access, cache, labeling
from fercore.domain import Permission
from fercore.schemes import FER7

access.actor().require(Permission.LABEL)
if not cache.options()["sources"]:
    st.title("Label")
    access.no_faces_yet()
with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Label")
    queue = labeling.choose_queue(("expression",))
st.caption("Which expression do you perceive? The given label and other people's votes are not shown.")
labeling.labeling(queue, (labeling.question(FER7),), labeling.FLAG_BUTTONS)
