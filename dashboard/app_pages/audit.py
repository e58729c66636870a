"""What is wrong with the data, and acts that mend it. Nothing here changes a face: every act is a label event that can be undone."""

import streamlit as st

from dashboard import access, audit_views, cache
from fercore import audit
from fercore.domain import Permission
from fercore.errors import FerError

person = access.actor()
person.require(Permission.LOOK)

st.title("Audit")
if not cache.options()["sources"]:
    access.no_faces_yet()
state = cache.audit_state()
if person.may(Permission.IMPORT):
    with st.container(horizontal=True, vertical_alignment="center"):
        started = st.button("Run the audit", type="primary", icon=":material/troubleshoot:")
        st.caption(f"{state.stale:,} images have not been compared with the others yet." if state.stale else "Every image has been looked at.")
    if started:
        bar = st.progress(0.0, "Starting")
        try:
            audit.run(cache.store(), person, deep=True, progress=lambda what, share: bar.progress(share, what))
        except FerError as error:
            st.error(str(error), icon=":material/error:")
        else:
            st.rerun()
kinds = audit.kinds_for(person)
wanted = st.query_params.get("kind")
if wanted in kinds:
    audit_views.one(person, wanted, state)
else:
    audit_views.cards(kinds, state)
