"""What a page is about stands in its URL, so that every view can be sent to a colleague."""

from collections.abc import Collection

import streamlit as st


def named_in_url(parameter: str, ids: Collection[str], missing: str = "is not in this workspace") -> str:
    """The id that the URL names under `parameter`; the first of `ids` (the newest) when it names none, or, with a warning, an unknown one."""
    wanted = st.query_params.get(parameter)
    if wanted in ids:
        return str(wanted)
    if wanted:
        st.warning(f"The {parameter} of this link {missing}; the newest one is shown.")
    st.query_params[parameter] = newest = next(iter(ids))
    return newest
