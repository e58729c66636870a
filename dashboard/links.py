"""What a page is about stands in its URL, so that every view can be sent to a colleague."""

from collections.abc import Collection, Mapping

import streamlit as st


def named_in_url(parameter: str, ids: Collection[str], missing: str = "is not in this workspace", instead: str = "the newest one") -> str:
    """The id that the URL names under `parameter`; the first of `ids` (`instead`) when it names none, or, with a warning, an unknown one."""
    wanted = st.query_params.get(parameter)
    if wanted in ids:
        return str(wanted)
    if wanted:
        st.warning(f"The {parameter} of this link {missing}; {instead} is shown.")
    st.query_params[parameter] = first = next(iter(ids))
    return first


def choose_in_url(parameter: str, names: Mapping[str, str], *, label: str, width: int) -> str:
    """A select box over ids (id -> name) whose choice stands in the URL under `parameter`; an id of the URL that is not there gives way to the
    first, with a warning."""
    key = f"choose-{parameter}"
    wanted = named_in_url(parameter, names, "is not open to you here", "another one")
    st.session_state[key] = wanted  # a link, another page, or a new name of the same id; the box itself writes the URL first

    def turn() -> None:
        st.query_params[parameter] = st.session_state[key]

    return st.selectbox(label, list(names), format_func=names.__getitem__, key=key, on_change=turn, label_visibility="collapsed", width=width)
