"""Who works here: add people, change roles, give passwords, disable."""

import streamlit as st

from dashboard import access, cache
from fercore import accounts
from fercore.domain import Permission, Role
from fercore.errors import FerError

lead = access.actor()
lead.require(Permission.PEOPLE)
store, how = cache.store(), access.mode()


def shown_once(name: str, password: str) -> None:
    st.success(f"One-time password of {access.plain(name)}, shown only now; it must be changed at the first sign-in:", icon=":material/key:")
    st.code(password, language=None)


st.title("People")
if how == "local":
    st.info("Nobody signs in here: every act is recorded as local, not authenticated. Once a data lead has a password, everybody signs in.",
            icon=":material/lock_open:")
elif how == "oidc":
    st.caption("People sign in through your provider. The first sign-in with a verified e-mail binds the provider's account to the person.")
done = st.container()
with st.form("add", border=True):
    st.subheader("Add a person")
    left, middle, right = st.columns(3)
    name = left.text_input("Name", max_chars=60)
    role = middle.selectbox("Role", list(Role), format_func=access.ROLE_NAMES.__getitem__)
    email = right.text_input("E-mail" + ("" if how == "oidc" else " (for sign-in through a provider)"), max_chars=255)
    adding = st.form_submit_button("Add", type="primary", icon=":material/person_add:")
with done:
    try:
        if adding and how == "oidc" and not email.strip():
            st.error("An e-mail is needed: people sign in with it here.")
        elif adding:
            password = accounts.generated() if how == "password" else ""
            added = accounts.add(store, lead, name, role, email=email, password=password, one_time=True)
            st.success(f"{access.plain(added.name)} was added.", icon=":material/check_circle:")
            if password:
                shown_once(added.name, password)
    except FerError as error:
        st.error(access.plain(str(error)), icon=":material/error:")

listed = accounts.listing(store, lead).set_index("person")
st.subheader("Change a person")
with st.form("change", border=True):
    left, middle, right = st.columns(3)
    whom = left.selectbox("Person", listed.index.tolist(), format_func=lambda p: f"{listed['name'][p]}, {access.ROLE_NAMES[listed['role'][p]]}")
    new_role = middle.selectbox("New role", list(Role), format_func=access.ROLE_NAMES.__getitem__, key="new-role")
    new_email = right.text_input("New e-mail", max_chars=255, key="new-email")
    with st.container(horizontal=True):
        acts = {act: st.form_submit_button(act) for act in ("Change role", "Reset password", "Register e-mail", "Disable", "Enable")}
with done:
    try:
        if any(acts.values()):
            person = listed["name"][whom]
            if acts["Change role"]:
                accounts.set_role(store, lead, whom, new_role)
            elif acts["Reset password"]:
                shown_once(person, accounts.reset_password(store, lead, whom))
            elif acts["Register e-mail"]:
                accounts.set_email(store, lead, whom, new_email)
            else:
                (accounts.disable if acts["Disable"] else accounts.enable)(store, lead, whom)
            st.success(f"{next(a for a, on in acts.items() if on)}: done for {access.plain(person)}.", icon=":material/check_circle:")
    except FerError as error:
        st.error(access.plain(str(error)), icon=":material/error:")
after = accounts.listing(store, lead)
st.dataframe(after.assign(role=[access.ROLE_NAMES[Role(r)] for r in after["role"]]), hide_index=True, column_config={
    "last_sign_in": st.column_config.DatetimeColumn("last sign-in (UTC)", format="YYYY-MM-DD HH:mm"), "bound": "bound to the provider"})
