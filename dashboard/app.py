"""The dashboard's entry point: page config, sign-in, navigation by role."""

from pathlib import Path

import streamlit as st

from dashboard import access
from dashboard.cache import synthetic, workspace
from fercore.errors import FerError

st.set_page_config(page_title="fercore", page_icon=Path(__file__).parent / "favicon.png", layout="wide", initial_sidebar_state=232)

try:
    person = access.sign_in()
    page = st.navigation(access.pages(person), expanded=True, position="sidebar" if person else "hidden")
    if person is None:  # in the place of the page, so that a link that was sent leads there afterwards
        access.sign_in_page()
        st.stop()
    with st.sidebar:
        access.remember(person)
        st.caption(f"**{access.plain(person.name)}** · {access.ROLE_NAMES[person.role]}  \nworkspace {access.plain(workspace().root.name)}")
        if synthetic():
            st.badge("synthetic demo faces", color="orange")
        if st.button("Switch profile" if access.mode() == "local" else "Sign out", icon=":material/logout:", type="tertiary"):
            access.sign_out()
    page.run()
except FerError as error:
    st.error(f"**{error.title}.** {error.detail}", icon=":material/error:")
    if error.remedy:
        st.info(error.remedy, icon=":material/lightbulb:")
