"""Which page needs which permission, and who is at the keyboard. Services check permissions again."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard.cache import everyone, reader, store
from dashboard.state import forget_session, session
from fercore import accounts, people
from fercore.domain import Permission, Person, Role
from fercore.errors import FerError, NotAllowed, WorkspaceError
from fercore.store import Store

ROLE_NAMES = {Role.ANNOTATOR: "Annotator", Role.REVIEWER: "Reviewer", Role.DATA_LEAD: "Data lead"}
_PROFILE, _SESSION = "fercore_profile", "fercore_session"  # cookies; the first names a profile in local mode only, the second holds a token
_CHECK_EVERY = 30  # seconds
_ENDED = "Your sign-in has ended. Sign in again to go on; answers that were not saved yet are kept in this browser."


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
    PageSpec("verify", "Verify", "fact_check", "Label", Permission.LABEL),
    PageSpec("adjudicate", "Adjudicate", "gavel", "Label", Permission.ADJUDICATE),
    PageSpec("practice", "Practice", "school", "Label", Permission.LABEL),
    PageSpec("guidelines", "Guidelines", "menu_book", "Label", Permission.LABEL),
    PageSpec("my_progress", "My progress", "trending_up", "Label", Permission.LABEL),
    PageSpec("import_data", "Import", "upload_file", "Data", Permission.IMPORT),
    PageSpec("explore", "Explore", "grid_view", "Data", Permission.LOOK),
    PageSpec("audit", "Audit", "troubleshoot", "Data", Permission.LOOK),
    PageSpec("recipes", "Recipes", "receipt_long", "Data", Permission.FREEZE),
    PageSpec("versions", "Versions", "history", "Data", Permission.READ_RESULTS),
    PageSpec("train", "Train", "model_training", "Train", Permission.READ_RESULTS),
    PageSpec("models", "Models", "account_tree", "Train", Permission.READ_RESULTS),
    PageSpec("studies", "Studies", "grid_on", "Train", Permission.READ_RESULTS),
    PageSpec("try_model", "Try a model", "photo_camera", "Train", Permission.READ_RESULTS),
    PageSpec("results", "Results", "table_chart", "Evaluate", Permission.READ_RESULTS),
    PageSpec("compare", "Compare", "compare_arrows", "Evaluate", Permission.READ_RESULTS),
    PageSpec("bias", "Bias", "balance", "Evaluate", Permission.READ_RESULTS),
    PageSpec("gallery", "Look closer", "frame_inspect", "Evaluate", Permission.READ_RESULTS),
    PageSpec("suspects", "Suspect labels", "person_search", "Evaluate", Permission.READ_RESULTS),
    PageSpec("leaks", "Leaks and test sets", "water_drop", "Evaluate", Permission.READ_RESULTS),
    PageSpec("campaigns", "Campaigns", "campaign", "Team", Permission.PLAN),
    PageSpec("quality", "Quality", "handshake", "Team", Permission.READ_RESULTS),
    PageSpec("rules", "Rules", "rule", "Team", Permission.READ_RESULTS),
    PageSpec("schemes", "Schemes", "category", "Team", Permission.READ_RESULTS),
    PageSpec("people", "People", "group", "Team", Permission.PEOPLE),
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
    unlinked = re.sub(r"(?i)(?<=://)|(?<=\bwww)(?=\.)|(?=@)", "\u2060", text)  # a word joiner: else addresses become links
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", unlinked).replace("\n", "  \n")


def actor() -> Person:
    """The person of this session; app.py lets no page run without one, and a fragment whose sign-in has ended gives way to the app."""
    person = sign_in()
    if person is None:
        st.rerun()
    return person


def mode() -> accounts.Mode:
    """How people come in here. Raises: WorkspaceError: the secrets cannot be read, so that nobody knows."""
    return _mode(_auth() is not None)


@reader("people")
def _mode(store: Store, oidc: bool) -> accounts.Mode:
    return accounts.mode(store, oidc)


def _auth() -> Mapping[str, Any] | None:
    """Section [auth] of Streamlit's secrets."""
    if st.secrets.load_if_toml_exists():
        return st.secrets.get("auth") or None
    if any(Path(path).exists() for path in st.get_option("secrets.files")):
        raise WorkspaceError("The secrets cannot be read", "A secrets file is there and is not valid TOML", "Ask who runs this server to mend it")
    return None


def sign_in() -> Person | None:
    """Who acts in this session; None when somebody must sign in.

    Raises:
        WorkspaceError: nobody is asked to sign in, and others than this machine reach the server.
    """
    found, how = session(), mode()
    if how == "local":
        address = st.get_option("server.address")
        if not accounts.is_loopback(address):
            raise WorkspaceError("Nobody signs in here yet", f"The server listens on {address or 'every address'}; who reaches it could be anyone",
                                 "Serve it on 127.0.0.1, or give a data lead a password first: fercore people password NAME")
        chosen = found.person.person_id if found.person else None if found.switching else st.context.cookies.get(_PROFILE)
        found.person = next((p for p in everyone() if p.person_id == chosen), None)
    elif token := _token(how):
        try:
            found.person = _holder(str(store().workspace.root), store().revision("people"), token, _claims(how))
        except NotAllowed:  # the sign-in page says why
            found.person = None
    else:
        found.person = None
    return found.person


def _claims(how: accounts.Mode) -> dict[str, Any] | None:
    return st.user.to_dict() if how == "oidc" else None


def _token(how: accounts.Mode) -> str | None:
    """SHA-256 (hex) that names the session of this browser."""
    if how == "oidc":
        return accounts.provider_token(st.user.to_dict()) if st.user.is_logged_in else None
    token = st.context.cookies.get(_SESSION)
    return accounts.digest(token) if token else None


@st.cache_resource(ttl=_CHECK_EVERY, max_entries=1024, show_spinner=False)
def _holder(root: str, revision: int, token: str, _claims: dict[str, Any] | None) -> Person | None:
    return accounts.by_provider(store(), _claims) if _claims else accounts.check(store(), token)


def sign_out() -> None:
    """Ends the session in the store and in this browser, and the run."""
    how = mode()
    if how == "local":
        forget_session()
        st.rerun()
    if token := _token(how):
        accounts.sign_out(store(), token)
    if how == "oidc":
        st.logout()
    else:
        _BROWSER(data={"cookie": f"{_SESSION}=; path=/; max-age=0", "reload": True}, key="sign-out")
    st.stop()


# Keeps a cookie, and the page that was asked for while the provider is visited (in the tab; never another site).
_BROWSER = st.components.v2.component(
    "fercore_sign_in",
    js="""
export default function ({ data }) {
  const here = location.pathname + location.search
  if (data.cookie) document.cookie = data.cookie + "; SameSite=Strict" + (location.protocol === "https:" ? "; Secure" : "")
  if (data.leave) sessionStorage.setItem("fercore_page", here)
  if (data.back) {
    const page = sessionStorage.getItem("fercore_page")
    sessionStorage.removeItem("fercore_page")
    if (page && page !== here) location.replace(location.origin + page)
  }
  if (data.reload) location.reload()
}
""",
)


def remember(person: Person | None) -> None:
    """Keeps a profile in this browser, so that a reload does not ask again; after a provider, returns to the page that was asked for."""
    how = mode()
    if how == "local":
        text = f"{_PROFILE}={person.person_id}; path=/; max-age=2592000" if person else f"{_PROFILE}=; path=/; max-age=0"
        _BROWSER(data={"cookie": text}, key="remember" if person else "forget")
    elif how == "oidc" and person:
        _BROWSER(data={"back": True}, key="back")


def sign_in_page() -> None:
    """The page before all others."""
    how = mode()
    if how == "local":
        _choose_profile()
    elif how == "password":
        _ask_password()
    else:
        _ask_provider()


def _ask_password() -> None:
    st.title("Sign in")
    if st.context.cookies.get(_SESSION):
        st.info(_ENDED, icon=":material/lock_clock:")
    with st.form("sign-in", width=420):
        name = st.text_input("Name", max_chars=60, autocomplete="username")
        password = st.text_input("Password", type="password", max_chars=accounts.LONGEST, autocomplete="current-password")
        asked = st.form_submit_button("Sign in", type="primary")
    with st.expander("Change your password", width=420), st.form("change-password", border=False):
        whose = st.text_input("Name", max_chars=60, autocomplete="username", key="whose")
        old = st.text_input("Present password", type="password", max_chars=accounts.LONGEST, autocomplete="current-password")
        new = st.text_input("New password", type="password", max_chars=accounts.LONGEST, autocomplete="new-password",
                            help=f"At least {accounts.SHORTEST} characters")
        again = st.text_input("New password again", type="password", max_chars=accounts.LONGEST, autocomplete="new-password")
        changed = st.form_submit_button("Change and sign in")
    try:
        if asked:
            _keep(accounts.sign_in(store(), name, password))
        elif changed and new != again:
            st.error("The new password was not repeated as it was given.")
        elif changed:
            _keep(accounts.change_password(store(), whose, old, new))
    except FerError as error:
        st.error(str(error))


def _keep(token: str) -> None:
    """The token lives in the browser only; the page is loaded anew with it."""
    _BROWSER(data={"cookie": f"{_SESSION}={token}; path=/; max-age={int(accounts.SESSION.total_seconds())}", "reload": True}, key="keep")


def _ask_provider() -> None:
    st.title("Sign in")
    if st.user.is_logged_in:
        try:
            accounts.by_provider(store(), st.user.to_dict())
        except NotAllowed as error:
            st.error(f"**{plain(error.title)}.** {plain(error.detail)}. {plain(error.remedy)}.", icon=":material/person_off:")
            if st.button("Use another account", icon=":material/logout:"):
                st.logout()
            return
        st.info(_ENDED, icon=":material/lock_clock:")
    _BROWSER(data={"leave": True}, key="leave")
    named = [name for name, section in (_auth() or {}).items() if isinstance(section, Mapping) and name != "client_kwargs"]
    for provider in named or [None]:
        if st.button(f"Sign in with {plain(provider)}" if provider else "Sign in", type="primary", icon=":material/login:"):
            st.login(provider)


def _choose_profile() -> None:
    """Choose or add a local profile."""
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
