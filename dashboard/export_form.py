"""A version for other tools: which form, where to, whose licence, with progress and a way to stop."""

from pathlib import Path

import streamlit as st

from dashboard import access, cache
from fercore import versions
from fercore.domain import Permission
from fercore.errors import FerError


@st.fragment
def export_popover(version_id: str) -> None:
    """A button that opens the form."""
    with st.popover("Export", icon=":material/output:", width="content"):
        _form(version_id)


def _form(version_id: str) -> None:
    person, workspace = access.actor(), cache.workspace()
    form = st.selectbox("Form", list(versions.export.FORMATS), format_func=lambda f: f"{f}: {versions.export.FORMATS[f].about}")
    st.caption(access.plain(f"Left out: {versions.export.FORMATS[form].left_out}."))
    to = st.text_input("New folder on this server", str(workspace.root / "exports" / f"{version_id}-{form}"), key=f"export-to-{form}")
    why = versions.export.blocked(versions.card(workspace, version_id), cache.store())
    accepted = False
    if why:
        st.warning(access.plain("The licence forbids an export: " + "; ".join(f"{name}: {text}" for name, text in why.items()) + "."),
                   icon=":material/gavel:")
        accepted = st.checkbox("I may answer for this, as a data lead; it is recorded under my name", disabled=not person.may(Permission.FREEZE))
    force = st.checkbox("Replace an earlier export in this folder")
    if not st.button("Write the export", type="primary", icon=":material/output:", disabled=bool(why) and not accepted):
        return
    bar = st.progress(0.0, "Checking the version")
    st.button("Stop", icon=":material/stop:")  # any press ends this run, and with it the export: nothing is left
    try:
        made = versions.export.write(workspace, version_id, Path(to), form, person, store=cache.store(), accept_licence=accepted, force=force,
                                     progress=lambda done, total: bar.progress(done / max(total, 1), f"{done:,} of {total:,} faces"))
    except FerError as error:
        st.error(access.plain(str(error)))
    else:
        st.success(access.plain(f"{made.faces:,} faces in {made.path}"), icon=":material/check:")
