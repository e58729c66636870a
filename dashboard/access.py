"""Which page needs which permission, and who is at the keyboard. Services check permissions again."""

import re
from dataclasses import dataclass
from typing import Any

import streamlit as st

from dashboard.cache import everyone, store
from dashboard.state import session
from fercore import people
from fercore.domain import Permission, Person, Role
from fercore.errors import FerError

ROLE_NAMES = {Role.ANNOTATOR: "Annotator", Role.REVIEWER: "Reviewer", Role.DATA_LEAD: "Data lead"}
_COOKIE = "fercore_profile"


@dataclass(frozen=True)
class PageSpec:
    file: str
    title: str
    icon: str
    group: str
    needs: Permission


PAGES = (
    PageSpec("overview", "Overview", "dashboard", "", Permission.LOOK),
    PageSpec("label", "Label", "keyboard", "Label", Permission.LABEL),
    PageSpec("tag", "Tag", "sell", "Label", Permission.LABEL),
    PageSpec("import_data", "Import", "upload_file", "Data", Permission.IMPORT),
    PageSpec("explore", "Explore", "grid_view", "Data", Permission.LOOK),
    PageSpec("versions", "Versions", "history", "Data", Permission.READ_RESULTS),
    PageSpec("train", "Train", "model_training", "Train", Permission.READ_RESULTS),
    PageSpec("results", "Results", "table_chart", "Evaluate", Permission.READ_RESULTS),
    PageSpec("bias", "Bias", "balance", "Evaluate", Permission.READ_RESULTS),
)


def pages(person: Person | None) -> dict[str, list[Any]]:
    """All pages by navigation group; those this person may not open are hidden, and say why when their address is opened."""
    out: dict[str, list[Any]] = {}
    for spec in PAGES:
        page = st.Page(f"app_pages/{spec.file}.py", title=spec.title, icon=f":material/{spec.icon}:", default=spec.file == "overview",
                       visibility="visible" if person and person.may(spec.needs) else "hidden")
        out.setdefault(spec.group, []).append(page)
    return out


def no_faces_yet() -> None:
    """Says that nothing is imported, offers the step to who may take it, and ends the page."""
    st.info("No faces yet. A data lead imports a FER-2013 file to begin.", icon=":material/upload_file:")
    if actor().may(Permission.IMPORT):
        st.page_link("app_pages/import_data.py", label="Import faces", icon=":material/upload_file:")
    st.stop()


def plain(text: str) -> str:
    """Text of a person, so that Markdown shows it as it was written."""
    return re.sub(r"([\\`*_\[\]()$:~<>#|{}!])", r"\\\1", text)


def actor() -> Person:
    """The person of this session; app.py lets no page run without one."""
    person = session().person
    if person is None:
        raise FerError("Nobody is signed in", "This page was opened without a profile", "Reload and choose one")
    return person


def sign_in() -> Person | None:
    """The chosen profile of this session, or of this browser from an earlier visit."""
    found = session()
    if found.person is None and not found.switching and (remembered := st.context.cookies.get(_COOKIE)):
        found.person = next((p for p in everyone() if p.person_id == remembered), None)
    return found.person


_REMEMBER = st.components.v2.component(
    "fercore_remember",
    js="""
export default function ({ data }) {
  document.cookie = data.cookie
}
""",
)


def remember(person: Person | None) -> None:
    """Keeps the choice in this browser, so that a reload does not ask again."""
    text = f"{_COOKIE}={person.person_id}; path=/; SameSite=Strict; max-age=2592000" if person else f"{_COOKIE}=; path=/; max-age=0"
    _REMEMBER(data={"cookie": text}, key="remember" if person else "forget")


def choose_profile() -> None:
    """The page before all others: choose or add a local profile."""
    st.title("Who is working?")
    st.caption("Local profiles: this machine asks for no password, and every act is recorded as local, not authenticated.")
    remember(None)
    known = everyone()
    for role in Role:
        members = [p for p in known if p.role is role]
        if members:
            st.subheader(ROLE_NAMES[role])
            with st.container(horizontal=True):
                for person in members:
                    if st.button(plain(person.name), key=f"profile-{person.person_id}", icon=":material/person:"):
                        session().person = person
                        st.rerun()
    if not known:
        st.info("This workspace has no profile yet. Add yourself as data lead to import faces; annotators and reviewers can follow.")
    with st.form("new-profile", width=420):
        st.subheader("Add a profile")
        name = st.text_input("Name", max_chars=60)
        role = st.selectbox("Role", list(Role), index=0 if known else list(Role).index(Role.DATA_LEAD), format_func=ROLE_NAMES.__getitem__)
        if st.form_submit_button("Add and continue", type="primary"):
            try:
                session().person = people.add(store(), name, role)
            except FerError as error:
                st.error(str(error))
            else:
                st.rerun()
