"""Accounts, sessions and sign-in: real store, real argon2, a clock that the tests move."""

import json
import os
import pty
import subprocess
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from helpers import ANNOTATOR, FERCORE, LEAD, REVIEWER, SECOND_LEAD, fercore, refused
from hypothesis import given, settings
from hypothesis import strategies as st

from fercore import accounts, people
from fercore.domain import Role, Workspace
from fercore.errors import BadInput, Conflict, FerError, NotAllowed, NotFound
from fercore.store import Store
from fercore.store import people as table

GOOD = "correct horse battery"
ISSUER = "https://id.example.org"


class Clock:
    def __init__(self) -> None:
        self.at = datetime(2031, 5, 4, 8)

    def __call__(self) -> datetime:
        self.at += timedelta(microseconds=1)
        return self.at

    def pass_(self, **time: float) -> None:
        self.at += timedelta(**time)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(accounts, "now", clock)
    monkeypatch.setattr(table, "now", clock)
    return clock


@pytest.fixture
def team(store: Store, clock: Clock) -> Store:
    for person in (LEAD, ANNOTATOR):
        accounts.set_password(store, LEAD, person.name, GOOD)
    return store


def claims(clock: Clock, **changed: Any) -> dict[str, Any]:
    return {"iss": ISSUER, "sub": "s1", "iat": int(clock.at.replace(tzinfo=UTC).timestamp()), "nonce": "n1", "email": "Ann@Example.org",
            "email_verified": True} | changed


def whose(store: Store, token: str) -> str | None:
    person = accounts.check(store, accounts.digest(token))
    return person and person.person_id


def test_a_password_opens_a_session_and_only_hashes_are_kept(team: Store) -> None:
    token = accounts.sign_in(team, " ann ", GOOD)
    person = accounts.check(team, accounts.digest(token))
    assert person == replace(ANNOTATOR, authentication="password")
    assert len(token) == 43 and accounts.sign_in(team, "Ann", GOOD) != token
    kept = json.dumps([team.rows(f"SELECT * FROM facts.{t}") for t in ("account", "session", "sign_in", "person_change")], default=str)
    assert GOOD not in kept and token not in kept and "$argon2id$" in kept
    assert whose(team, token + "x") is None and whose(team, accounts.digest(token)) is None


def test_wrong_names_and_passwords_look_the_same(team: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    verified = list[str]()

    class Watched(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Any:
            verified.append(str(hash))
            return super().verify(hash, password)

    monkeypatch.setattr(accounts, "_HASHER", Watched())
    accounts.disable(team, LEAD, "Rosa")
    told = set()
    for name in ("Ann", "Nobody", "Lee", "Rosa", "***", ""):  # wrong password, unknown, without a password, disabled, no name at all
        with pytest.raises(NotAllowed) as refused:
            accounts.sign_in(team, name, "not the password")
        told.add(str(refused.value))
    assert len(told) == 1 and len(verified) == 6  # one real verification each, with the same parameters
    assert len({h.split("$")[3] for h in verified}) == 1
    typed = [who for who, in team.rows("SELECT who FROM facts.sign_in")]
    assert "ann" in typed and not any("Nobody" in who for who in typed)


def test_five_failures_close_a_name_until_the_window_has_passed(team: Store, clock: Clock) -> None:
    for name in ("Ann", "Nobody"):
        for _ in range(5):
            with pytest.raises(NotAllowed, match="Not signed in"):
                accounts.sign_in(team, name, "wrong password")
            clock.pass_(minutes=1)
    with pytest.raises(NotAllowed, match=r"Too many attempts.*Wait 5 min"):  # the first failure of Ann was 10 minutes ago
        accounts.sign_in(team, "Ann", GOOD)
    with pytest.raises(NotAllowed, match="Too many attempts"):
        accounts.sign_in(team, "Nobody", GOOD)
    accounts.sign_in(team, "Dana", GOOD)  # others go on
    clock.pass_(minutes=5, seconds=1)  # refused attempts do not make it longer
    assert whose(team, accounts.sign_in(team, "Ann", GOOD)) == "ann"
    for _ in range(4):  # and success starts the count anew
        with pytest.raises(NotAllowed, match="Not signed in"):
            accounts.sign_in(team, "Ann", "wrong password")
    assert accounts.sign_in(team, "Ann", GOOD)


def test_a_new_password_opens_a_closed_name(team: Store) -> None:
    for _ in range(5):
        with pytest.raises(NotAllowed):
            accounts.sign_in(team, "Ann", "wrong password")
    accounts.set_password(team, LEAD, "Ann", "another password")
    assert accounts.sign_in(team, "Ann", "another password")


def test_a_session_ends_after_two_idle_hours_or_twelve(team: Store, clock: Clock) -> None:
    idle, busy = accounts.sign_in(team, "Ann", GOOD), accounts.sign_in(team, "Ann", GOOD)
    for _ in range(7):
        clock.pass_(hours=1, minutes=40)
        assert whose(team, busy) == "ann"
    assert whose(team, idle) is None
    clock.pass_(minutes=19)
    assert whose(team, busy) == "ann"
    clock.pass_(minutes=2)  # 12 hours and a minute after sign-in
    assert whose(team, busy) is None
    assert team.value("SELECT count(*) FROM facts.session") < 12  # not a row each time somebody looks


@settings(deadline=None, max_examples=30)
@given(steps=st.lists(st.integers(1, 150), max_size=25))
def test_sessions_by_an_independent_clock(tmp_path_factory: pytest.TempPathFactory, steps: list[int]) -> None:
    clock, start = Clock(), datetime(2031, 5, 4, 8)
    with pytest.MonkeyPatch.context() as patch, Store(Workspace(tmp_path_factory.mktemp("s"))) as store:
        patch.setattr(accounts, "now", clock)
        patch.setattr(table, "now", clock)
        table.add(store, ANNOTATOR)
        token = accounts._start(store, ANNOTATOR)
        seen, alive = start, True
        for minutes in steps:
            clock.pass_(minutes=minutes)
            idle = (clock.at - seen).total_seconds() / 60
            alive = alive and clock.at - start < timedelta(hours=12) and idle < 120
            found = whose(store, token) is not None
            # Activity is written down every 5 minutes: a session may end up to 5 minutes early for want of it, never late.
            assert found == alive or (not found and idle > 115)
            alive = found
            seen = clock.at if alive else seen


def test_sign_out_and_disabling_end_sessions_and_work_stays(team: Store) -> None:
    one, two, lead = (accounts.sign_in(team, n, GOOD) for n in ("Ann", "Ann", "Dana"))
    accounts.sign_out(team, accounts.digest(one))
    assert [whose(team, t) for t in (one, two, lead)] == [None, "ann", "dana"]
    accounts.disable(team, LEAD, "Ann")
    assert whose(team, two) is None and whose(team, lead) == "dana"
    with pytest.raises(NotAllowed, match="Not signed in"):
        accounts.sign_in(team, "Ann", GOOD)
    with pytest.raises(NotAllowed, match="disabled"):
        people.find(team, "ann")
    assert "ann" in team.frame("SELECT person_id FROM people")["person_id"].tolist() and "Ann" not in [p.name for p in people.everyone(team)]
    accounts.enable(team, LEAD, "Ann")
    assert whose(team, two) is None and whose(team, accounts.sign_in(team, "Ann", GOOD)) == "ann"


def test_a_new_password_ends_sessions_and_a_role_takes_effect_at_once(team: Store) -> None:
    token, before = accounts.sign_in(team, "Ann", GOOD), team.revision("people")
    accounts.set_role(team, LEAD, "Ann", Role.REVIEWER)
    assert accounts.check(team, accounts.digest(token)) == replace(ANNOTATOR, role=Role.REVIEWER, authentication="password")
    assert team.revision("people") > before  # what the dashboard's cache is keyed by
    accounts.set_password(team, LEAD, "Ann", "another password")
    assert whose(team, token) is None
    assert team.rows("SELECT change, value, made_by FROM facts.person_change") == [("role", "reviewer", "dana")]


def test_a_one_time_password_must_be_changed(team: Store) -> None:
    once = accounts.reset_password(team, LEAD, "Ann")
    assert len(once) == 19 and accounts.reset_password(team, LEAD, "Rosa") != once
    with pytest.raises(Conflict, match="of your own"):
        accounts.sign_in(team, "Ann", once)
    with pytest.raises(BadInput, match="another password"):
        accounts.change_password(team, "Ann", once, once)
    with pytest.raises(NotAllowed, match="Not signed in"):
        accounts.change_password(team, "Ann", "wrong password", "my own password")
    assert whose(team, accounts.change_password(team, "Ann", once, "my own password")) == "ann"
    assert accounts.sign_in(team, "Ann", "my own password")
    with pytest.raises(NotAllowed):
        accounts.sign_in(team, "Ann", once)


@pytest.mark.parametrize("bad", ["", "123456789", "x" * 1001])
def test_length_of_a_password(team: Store, bad: str) -> None:
    with pytest.raises(BadInput, match="Password cannot be used"):
        accounts.set_password(team, LEAD, "Ann", bad)
    accounts.set_password(team, LEAD, "Ann", "é" * 200)
    assert accounts.sign_in(team, "Ann", unicodedata.normalize("NFD", "é" * 200))


def test_an_old_hash_is_made_anew(team: Store) -> None:
    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(GOOD)
    table.set_password(team, "ann", "dana", weak, False)
    token = accounts.sign_in(team, "Ann", GOOD)
    found = table.password_of(team, "ann")
    assert found and found[0] != weak and not accounts._HASHER.check_needs_rehash(found[0])
    assert whose(team, token) == "ann" and accounts.sign_in(team, "Ann", GOOD)


def test_only_data_leads_manage_people(team: Store) -> None:
    for act in (lambda who: accounts.add(team, who, "New", Role.ANNOTATOR), lambda who: accounts.set_role(team, who, "Ann", Role.DATA_LEAD),
                lambda who: accounts.set_password(team, who, "Ann", GOOD), lambda who: accounts.reset_password(team, who, "Ann"),
                lambda who: accounts.set_email(team, who, "Ann", "a@b.org"), lambda who: accounts.disable(team, who, "Lee"),
                lambda who: accounts.enable(team, who, "Lee"), lambda who: accounts.listing(team, who)):
        for person in (ANNOTATOR, REVIEWER):
            with pytest.raises(NotAllowed, match="manage people"):
                act(person)
        act(LEAD)
    with pytest.raises(NotFound):
        accounts.disable(team, LEAD, "Nobody")


def test_the_last_data_lead_stays(store: Store, clock: Clock) -> None:
    accounts.disable(store, LEAD, "Lee")
    for act in (lambda: accounts.disable(store, LEAD, "Dana"), lambda: accounts.set_role(store, LEAD, "Dana", Role.REVIEWER)):
        with pytest.raises(Conflict, match="last data lead"):
            act()
    accounts.enable(store, LEAD, "Lee")
    accounts.set_password(store, LEAD, "Dana", GOOD)
    with pytest.raises(Conflict, match="last data lead"):  # Lee is one too, and cannot sign in
        accounts.disable(store, LEAD, "Dana")
    accounts.set_password(store, LEAD, "Lee", GOOD)
    accounts.set_role(store, SECOND_LEAD, "Dana", Role.ANNOTATOR)
    assert accounts.leads(store) == ["Lee"]


def test_modes_and_the_first_password(store: Store, clock: Clock) -> None:
    assert accounts.mode(store, False) == "local" and accounts.mode(store, True) == "oidc"
    with pytest.raises(Conflict, match="A data lead needs a password first"):
        accounts.set_password(store, LEAD, "Ann", GOOD)
    assert accounts.mode(store, False) == "local"
    accounts.set_password(store, LEAD, "Dana", GOOD)
    assert accounts.mode(store, False) == "password" and accounts.mode(store, True) == "oidc"
    with pytest.raises(NotAllowed, match="People sign in here"):
        people.add(store, "Anybody", Role.DATA_LEAD)


@pytest.mark.parametrize(("host", "own"), [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("[::1]", True), ("localhost", True),
                                           ("0.0.0.0", False), ("::", False), ("192.168.1.4", False), ("example.org", False), (None, False),
                                           ("", False), ("127.0.0.1.example.org", False), ("localhost.example.org", False)])
def test_what_is_loopback(host: str | None, own: bool) -> None:
    assert accounts.is_loopback(host) is own


# ---- provider -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def expected(store: Store, clock: Clock) -> Iterator[Store]:
    accounts.set_email(store, LEAD, "Ann", "ann@example.org")
    accounts.set_email(store, LEAD, "Rosa", "rosa@example.org")
    yield store


def test_the_first_sign_in_binds_and_later_only_issuer_and_subject_count(expected: Store, clock: Clock) -> None:
    assert accounts.by_provider(expected, claims(clock)) == replace(ANNOTATOR, authentication=f"oidc {ISSUER}")
    changed = accounts.by_provider(expected, claims(clock, email="rosa@example.org", email_verified=False, nonce="n2"))
    assert changed and changed.person_id == "ann"
    for other in ({"sub": "s2"}, {"iss": "https://other.example.org"}):  # the same e-mail, another account
        with pytest.raises(NotAllowed, match="not registered"):
            accounts.by_provider(expected, claims(clock, **other, nonce="n3"))
    assert expected.rows("SELECT who, ok FROM facts.sign_in") == [("ann", True), ("ann", True)]


@pytest.mark.parametrize("changed", [{"email_verified": False}, {"email_verified": None}, {"email_verified": "false"}, {"email": "x@example.org"},
                                     {"email": None}, {"email": ""}])
def test_unverified_and_unknown_people_are_refused_and_told_whom_to_ask(expected: Store, clock: Clock, changed: dict[str, Any]) -> None:
    with pytest.raises(NotAllowed, match=r"not registered.*Dana, Lee"):
        accounts.by_provider(expected, claims(clock, **changed))
    assert expected.value("SELECT count(*) FROM facts.session") == 0


@pytest.mark.parametrize("missing", ["iss", "sub", "iat"])
def test_a_token_that_names_nobody_is_refused(expected: Store, clock: Clock, missing: str) -> None:
    with pytest.raises(NotAllowed, match="did not say who"):
        accounts.by_provider(expected, claims(clock, **{missing: ""}))


def test_a_cookie_of_thirty_days_gives_no_session_of_thirty_days(expected: Store, clock: Clock) -> None:
    token = claims(clock)
    assert accounts.by_provider(expected, token)
    clock.pass_(hours=2, minutes=1)
    assert accounts.by_provider(expected, token) is None  # idle: the provider must be asked again
    late = claims(clock, nonce="n2")
    clock.pass_(hours=12)
    assert accounts.by_provider(expected, late) is None  # older than a session when it is first seen
    assert expected.value("SELECT count(*) FROM facts.sign_in") == 1  # and that was no sign-in
    again = claims(clock, nonce="n3")
    assert accounts.by_provider(expected, again)
    accounts.sign_out(expected, accounts.provider_token(again))
    assert accounts.by_provider(expected, again) is None


def test_a_disabled_person_cannot_come_in_through_the_provider(expected: Store, clock: Clock) -> None:
    known = claims(clock)
    accounts.by_provider(expected, known)
    for name in ("Ann", "Rosa"):
        accounts.disable(expected, LEAD, name)
    assert accounts.by_provider(expected, known) is None
    for person in ({}, {"sub": "s2", "email": "rosa@example.org"}):
        with pytest.raises(NotAllowed, match="disabled"):
            accounts.by_provider(expected, claims(clock, **person, nonce="n2"))


def test_e_mails_are_unique_and_a_new_one_binds_anew(expected: Store, clock: Clock) -> None:
    accounts.by_provider(expected, claims(clock))
    for bad in ("ann@example.org", " ANN@example.org", "no address", "a@b@c", "@"):
        with pytest.raises(BadInput):
            accounts.set_email(expected, LEAD, "Dana", bad)
    accounts.set_email(expected, LEAD, "Ann", "ann@new.org")
    with pytest.raises(NotAllowed):
        accounts.by_provider(expected, claims(clock, nonce="n2"))
    found = accounts.by_provider(expected, claims(clock, sub="s9", email="ann@new.org", nonce="n3"))
    assert found and found.person_id == "ann"


# ---- command line ---------------------------------------------------------------------------------------------------------------


def test_people_from_the_shell(tmp_path: Path) -> None:
    ws = tmp_path / "ws"
    refused(fercore("people", "add", "Dana", "--role", "data_lead", workspace=ws), "no terminal to ask on")
    refused(fercore("people", "add", "Dana", "--role", "data_lead", "--password-stdin", given="short\n", workspace=ws), "It has 5 characters")
    added = fercore("people", "add", "Dana", "--role", "data_lead", "--password-stdin", "--json", given=f"{GOOD}\n", workspace=ws)
    assert [(p["person"], p["role"], p["password"]) for p in json.loads(added.stdout)] == [("dana", "data_lead", "own")]
    refused(fercore("people", "add", "Ann", "--email", "ann@example.org", workspace=ws), "Name a data lead with --as")
    lead = ("--as", "dana")
    assert json.loads(fercore("people", "add", "Ann", "--email", "ann@example.org", "--json", *lead, workspace=ws).stdout)[0]["email"] == "ann@example.org"
    refused(fercore("people", "role", "Ann", "reviewer", "--as", "ann", workspace=ws), "You may not manage people")
    assert fercore("people", "role", "Ann", "reviewer", *lead, workspace=ws).returncode == 0
    assert fercore("people", "password", "Ann", "--password-stdin", *lead, given=f"{GOOD}\n", workspace=ws).returncode == 0
    refused(fercore("people", "disable", "Dana", *lead, workspace=ws), "The last data lead stays")
    assert fercore("people", "disable", "Ann", *lead, workspace=ws).returncode == 0
    refused(fercore("people", "disable", "Nobody", *lead, workspace=ws), "Unknown person")
    listed = {p["person"]: p for p in json.loads(fercore("people", "list", "--json", *lead, workspace=ws).stdout)}
    assert (listed["ann"]["active"], listed["ann"]["role"], listed["ann"]["password"]) == (False, "reviewer", "own")
    assert GOOD not in added.stdout + added.stderr
    with Store(Workspace(ws)) as store:
        assert whose(store, accounts.sign_in(store, "Dana", GOOD)) == "dana"


def test_a_password_is_asked_for_twice_and_not_shown(tmp_path: Path) -> None:
    ws = tmp_path / "ws"
    for again, code in (("something else", 2), (GOOD, 0)):
        master, slave = pty.openpty()
        process = subprocess.Popen([FERCORE, "people", "add", "Dana", "--role", "data_lead"], stdin=slave, stdout=slave, stderr=slave,
                                   start_new_session=True, env=os.environ | {"FERCORE_WORKSPACE": str(ws)})
        os.close(slave)
        shown = b""
        for prompt, typed in ((b"Password: ", GOOD), (b"Again: ", again)):
            while not shown.endswith(prompt):
                shown += os.read(master, 1000)
            os.write(master, f"{typed}\n".encode())
        try:
            while more := os.read(master, 1000):
                shown += more
        except OSError:  # Linux says so when the other end is closed
            pass
        os.close(master)
        assert process.wait(timeout=60) == code and GOOD.encode() not in shown and again.encode() not in shown, shown


def test_serve_refuses_to_be_reached_while_nobody_signs_in(tmp_path: Path) -> None:
    ws, broken = tmp_path / "ws", tmp_path / "secrets.toml"
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        refused(fercore("serve", "--host", host, "--no-browser", workspace=ws), "Nobody signs in here yet")
    broken.write_text("[auth\n")
    refused(fercore("serve", "--host", "0.0.0.0", "--no-browser", "--secrets", str(broken), workspace=ws), "The secrets cannot be read")
    broken.write_text("other = 1\n")
    refused(fercore("serve", "--host", "0.0.0.0", "--no-browser", "--secrets", str(broken), workspace=ws), "Nobody signs in here yet")


def test_errors_never_carry_a_password(team: Store) -> None:
    for act in (lambda: accounts.sign_in(team, "Ann", "hunter2hunter2"), lambda: accounts.set_password(team, LEAD, "Ann", "hunter2")):
        with pytest.raises(FerError) as error:
            act()
        assert "hunter2" not in str(error.value)
