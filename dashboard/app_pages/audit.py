"""What is wrong with the data, and acts that mend it. Nothing here changes a face: every act is a label event that can be undone."""

import streamlit as st

from dashboard import access, audit_views, cache, tasks
from dashboard.state import session
from fercore import audit
from fercore.domain import Permission
from fercore.errors import FerError

person = access.actor()
person.require(Permission.LOOK)

st.title("Audit")
if not cache.options()["sources"]:
    access.no_faces_yet()
state = cache.audit_state()
place = st.empty()  # always there: else what is below would be made anew by each message, and lose the focus
if said := session().said:
    how, what = said
    (place.error if how == "error" else place.success)(access.plain(what), icon=":material/error:" if how == "error" else ":material/check:")
    session().said = None
kinds = audit.kinds_for(person)
wanted = st.query_params.get("kind")
if wanted in set(state.of_set["kind"]):  # on no face: its card says it all
    wanted = None
if person.may(Permission.IMPORT):
    if tasks.shown("audit"):
        tasks.dismiss("audit")
    if wanted not in kinds and not tasks.running("audit"):
        with st.container(horizontal=True, vertical_alignment="center"):
            started = st.button("Run the audit", type="primary", icon=":material/troubleshoot:")
            st.caption(f"{state.stale:,} images have not been compared with the others yet." if state.stale else "Every image has been looked at.")
        if started:
            store = cache.store()
            try:
                tasks.start("audit", "Audit", person, lambda progress: audit.run(store, person, deep=True, progress=progress))
            except FerError as error:  # somebody else was faster
                st.error(access.plain(str(error)), icon=":material/error:")
            else:
                st.rerun()
if wanted in kinds:
    audit_views.one(person, wanted, state)
else:
    audit_views.cards(person, kinds, state)
