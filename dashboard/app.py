"""The dashboard's entry point: page config, profile, navigation by role."""

from pathlib import Path

import streamlit as st

from dashboard import access
from dashboard.cache import workspace
from dashboard.state import session
from fercore.errors import FerError

st.set_page_config(page_title="fercore", page_icon=Path(__file__).parent / "favicon.png", layout="wide", initial_sidebar_state=232)

try:
    person = access.sign_in()
    if person is None:
        st.navigation([st.Page(access.choose_profile, title="Profile", icon=":material/person:")], position="hidden").run()
        st.stop()
    page = st.navigation(access.pages(person), expanded=True)
    with st.sidebar:
        access.remember(person)
        st.caption(f"**{person.name}** · {access.ROLE_NAMES[person.role]}  \nworkspace {workspace().root.name}")
        if st.button("Switch profile", icon=":material/logout:", type="tertiary"):
            session().person, session().switching = None, True
            session().handed.clear()
            st.rerun()
    page.run()
except FerError as error:
    st.error(f"**{error.title}.** {error.detail}", icon=":material/error:")
    if error.remedy:
        st.info(error.remedy, icon=":material/lightbulb:")
