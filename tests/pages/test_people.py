"""The People page, and what the sign-in pages say, with AppTest."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard import access, cache
from fercore import accounts, people
from fercore.domain import Person, Role
from fercore.store import Store

APP = str(Path(__file__).parents[2] / "dashboard" / "app.py")
GOOD = "correct horse battery"


@pytest.fixture(autouse=True)
def cookies(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the browser sent; AppTest has no cookies of its own."""
    jar: dict[str, str] = {}
    monkeypatch.setattr(type(st.context), "cookies", property(lambda self: jar))
    return jar


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    monkeypatch.setenv("FERCORE_WORKSPACE", str(tmp_path / "ws"))
    opened = cache.store()
    for name, role in (("Dana", Role.DATA_LEAD), ("Ann", Role.ANNOTATOR)):
        people.add(opened, name, role)
    yield opened
    opened.close()
    cache._open.clear()


def people_page(name: str) -> AppTest:
    at = AppTest.from_file(APP, default_timeout=60).run()
    at.button(key=f"profile-{name}").click().run()
    return at.switch_page("app_pages/people.py").run()


def text(at: AppTest) -> str:
    return "\n".join(str(e.value) for kind in (at.title, at.markdown, at.caption, at.info, at.error, at.success) for e in kind)


def act(at: AppTest, label: str) -> AppTest:
    next(b for b in at.button if b.label == label).click().run()
    assert not at.exception, at.exception
    return at


def test_a_data_lead_adds_changes_and_disables(store: Store) -> None:
    at = people_page("dana")
    at.text_input[0].set_value("Mia <b>")
    act(at, "Add")
    assert "Mia \\<b\\> was added" in text(at) and {p.name for p in people.everyone(store)} == {"Ann", "Dana", "Mia <b>"}
    act(at, "Add")
    assert "The name is taken" in text(at)
    at.selectbox[1].set_value("ann")
    at.selectbox(key="new-role").set_value(Role.REVIEWER)
    act(at, "Change role")
    assert people.find(store, "ann").role is Role.REVIEWER
    act(at, "Disable")
    assert "Ann" not in {p.name for p in people.everyone(store)} and not at.dataframe[0].value.set_index("person").loc["ann", "active"]
    at.selectbox[1].set_value("dana")
    act(at, "Disable")
    assert "The last data lead stays" in text(at)


def test_the_first_password_turns_the_chooser_off(store: Store) -> None:
    at = people_page("dana")
    at.selectbox[1].set_value("ann")
    act(at, "Reset password")
    assert "A data lead needs a password first" in text(at) and not at.code
    at.selectbox[1].set_value("dana")
    act(at, "Reset password")
    password = at.code[0].value
    assert "shown only now" in text(at)
    at.run()
    assert "Sign in" in text(at) and not at.code and "profile-dana" not in [b.key for b in at.button]
    own = accounts.change_password(store, "Dana", password, GOOD)
    assert accounts.check(store, accounts.digest(own)) == Person("dana", "Dana", Role.DATA_LEAD, "password")


def test_a_one_time_password_is_shown_once(store: Store, cookies: dict[str, str]) -> None:
    accounts.set_password(store, people.find(store, "dana"), "Dana", GOOD)
    cookies["fercore_session"] = accounts.sign_in(store, "Dana", GOOD)
    at = AppTest.from_file(APP, default_timeout=60).run().switch_page("app_pages/people.py").run()
    at.text_input[0].set_value("Mia")
    act(at, "Add")
    once = at.code[0].value
    at.run()
    assert not at.code
    accounts.change_password(store, "Mia", once, GOOD)
    assert store.rows("SELECT made_by, authentication FROM facts.person_change WHERE person_id = 'mia'") == [("dana", "password")]


def test_a_role_change_or_disabling_reaches_a_page_that_is_open(store: Store, cookies: dict[str, str]) -> None:
    lead = people.find(store, "dana")
    accounts.set_password(store, lead, "Dana", GOOD)
    accounts.add(store, lead, "Lee", Role.DATA_LEAD, password=GOOD)
    cookies["fercore_session"] = accounts.sign_in(store, "Lee", GOOD)
    at = AppTest.from_file(APP, default_timeout=60).run().switch_page("app_pages/people.py").run()
    assert [b for b in at.button if b.label == "Add"]
    accounts.set_role(store, lead, "Lee", Role.ANNOTATOR)
    at.run()
    assert "You may not manage people" in text(at) and not [b for b in at.button if b.label == "Add"]
    accounts.disable(store, lead, "Lee")
    at.run()
    assert at.title[0].value == "Sign in" and "Overview" not in text(at)


def test_a_session_is_looked_up_at_most_every_thirty_seconds(store: Store, cookies: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    accounts.set_password(store, people.find(store, "dana"), "Dana", GOOD)
    token, asked, check = accounts.sign_in(store, "Dana", GOOD), list[str](), accounts.check
    cookies["fercore_session"] = token
    monkeypatch.setattr(accounts, "check", lambda store, token: asked.append(token) or check(store, token))
    at = AppTest.from_file(APP, default_timeout=60)
    for _ in range(4):
        at.run()
    assert asked == [accounts.digest(token)] and "Dana" in text(at)


def test_the_profile_cookie_is_not_trusted_once_people_sign_in(store: Store, cookies: dict[str, str]) -> None:
    cookies["fercore_profile"] = "dana"
    at = AppTest.from_file(APP, default_timeout=60).run()
    assert "**Dana**" in text(at)
    accounts.set_password(store, people.find(store, "dana"), "Dana", GOOD)
    assert AppTest.from_file(APP, default_timeout=60).run().title[0].value == "Sign in"
    at.run()  # also in a session that was open
    assert at.title[0].value == "Sign in" and "**Dana**" not in text(at)


@pytest.mark.parametrize("address", ["0.0.0.0", "192.0.2.7", None])
def test_local_mode_refuses_every_page_when_others_can_reach_it(store: Store, monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    option = st.get_option
    monkeypatch.setattr(st, "get_option", lambda name: address if name == "server.address" else option(name))
    at = AppTest.from_file(APP, default_timeout=60).run()
    assert "Nobody signs in here yet" in text(at) and "fercore people password" in text(at)
    assert not at.button and not at.title
    accounts.set_password(store, people.find(store, "dana"), "Dana", GOOD)
    assert AppTest.from_file(APP, default_timeout=60).run().title[0].value == "Sign in"


def test_secrets_that_cannot_be_read_close_the_app(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secrets.toml").write_text("[auth\n")
    option = st.get_option
    monkeypatch.setattr(st, "get_option", lambda name: [str(tmp_path / "secrets.toml")] if name == "secrets.files" else option(name))
    at = AppTest.from_file(APP, default_timeout=60).run()
    assert "The secrets cannot be read" in text(at) and not at.button


def test_an_unknown_person_of_the_provider_is_told_whom_to_ask(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    auth: dict[str, Any] = {"redirect_uri": "http://localhost/oauth2callback", "cookie_secret": "x" * 32}
    monkeypatch.setattr(access, "_auth", lambda: auth)
    at = AppTest.from_file(APP, default_timeout=60)
    at.user = {"is_logged_in": True, "iss": "https://id.example.org", "sub": "s", "iat": int(datetime.now(UTC).timestamp()),
               "email": "*x*@example.org", "email_verified": True}
    at.run()
    assert "You are not registered here" in text(at) and "Dana" in text(at) and "\\*x\\*\u2060\\@example\\.org" in text(at)
    assert [b.label for b in at.button] == ["Use another account"]
    accounts.set_email(store, people.find(store, "dana"), "Ann", "*x*@example.org")
    at.run()
    assert "**Ann**" in text(at)


def test_every_named_provider_has_a_button(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_auth", lambda: {"cookie_secret": "x" * 32, "one": {"client_id": "a"}, "two": {"client_id": "b"}})
    at = AppTest.from_file(APP, default_timeout=60)
    at.user = {"is_logged_in": False}
    assert [b.label for b in at.run().button] == ["Sign in with one", "Sign in with two"]
