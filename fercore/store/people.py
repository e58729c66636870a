"""People, their accounts, sessions and attempts to sign in. Append-only: a later row replaces an earlier one in the view."""

from datetime import datetime
from typing import Any

import pandas as pd

from fercore.domain import Person, Role
from fercore.store.connection import Store, Writer, now

_ACCOUNT = "INSERT INTO facts.account VALUES ($person, $kind, $issuer, $subject, $email, $hash, $one_time, $by, $at)"


def add(store: Store, person: Person) -> None:
    """Adds a person, or gives a known one another name or role."""
    with store.write("people") as w:
        _person(w, person)


def add_silent(w: Writer, person: Person, actor: Person) -> None:
    """Adds somebody who stands for votes and may not act; known ids are left as they are."""
    if not w.run("SELECT 1 FROM facts.person WHERE person_id = $id LIMIT 1", {"id": person.person_id}):
        _person(w, person)
        w.run("INSERT INTO facts.person_change VALUES ($person, 'disable', $role, $by, $authentication, $at)",
              {"person": person.person_id, "role": person.role.value, "by": actor.person_id, "authentication": actor.authentication, "at": now()})


def all_people(store: Store) -> list[Person]:
    """Everybody, also who is disabled."""
    return [Person(i, name, Role(role)) for i, name, role in store.rows("SELECT person_id, name, role FROM people ORDER BY name")]


def disabled(store: Store) -> set[str]:
    """Ids of people who may not act any more."""
    return {row[0] for row in store.rows("SELECT person_id FROM facts.disabled")}


def account_kinds(store: Store) -> set[str]:
    """Kinds of accounts that anybody has: password, oidc."""
    return {row[0] for row in store.rows("SELECT DISTINCT kind FROM facts.account")}


def listing(store: Store) -> pd.DataFrame:
    """person, name, role, active, email, password ("", "one-time" or "own"), bound (to an account of the provider), last_sign_in (UTC)."""
    return store.frame("""
        SELECT p.person_id AS person, p.name, p.role, d.person_id IS NULL AS active, coalesce(o.email, '') AS email,
               CASE WHEN w.password_hash IS NULL THEN '' WHEN w.one_time THEN 'one-time' ELSE 'own' END AS password,
               o.subject IS NOT NULL AS bound, s.last_sign_in
        FROM people AS p
        LEFT JOIN facts.disabled AS d ON d.person_id = p.person_id
        LEFT JOIN facts.accounts AS o ON o.person_id = p.person_id AND o.kind = 'oidc'
        LEFT JOIN facts.accounts AS w ON w.person_id = p.person_id AND w.kind = 'password'
        LEFT JOIN (SELECT person_id, max(started_at) AS last_sign_in FROM facts.sessions GROUP BY person_id) AS s ON s.person_id = p.person_id
        ORDER BY p.name""")


def change(store: Store, actor: Person, person: Person, what: str, *accounts: dict[str, Any]) -> None:
    """One transaction: `what` is add, role, disable, enable or account. Disabling and a new account end the sessions of the person.

    Args:
        accounts: rows with kind and what the kind needs: email, or hash and one_time.
    """
    with store.write("people") as w:
        if what in ("add", "role"):
            _person(w, person)
        if what != "account":
            w.run("INSERT INTO facts.person_change VALUES ($person, $what, $role, $by, $authentication, $at)",
                  {"person": person.person_id, "what": what, "role": person.role.value, "by": actor.person_id,
                   "authentication": actor.authentication, "at": now()})
        for account in accounts:
            _account(w, person.person_id, actor.person_id, **account)
        if what == "disable" or accounts:
            w.run("INSERT INTO facts.session SELECT token_sha256, person_id, authentication, started_at, expires_at, $at FROM facts.sessions "
                  "WHERE person_id = $person AND ended_at IS NULL", {"person": person.person_id, "at": now()})


def password_of(store: Store, person_id: str) -> tuple[str, bool] | None:
    """(hash, whether it is a one-time password)."""
    found = store.rows("SELECT password_hash, one_time FROM facts.accounts WHERE person_id = $p AND kind = 'password'", {"p": person_id})
    return (str(found[0][0]), bool(found[0][1])) if found else None


def set_password(store: Store, person_id: str, made_by: str, password_hash: str, one_time: bool) -> None:
    """A new row of the account; sessions live on."""
    with store.write("people") as w:
        _account(w, person_id, made_by, kind="password", hash=password_hash, one_time=one_time)


def oidc_accounts(store: Store) -> list[tuple[str, str | None, str | None, str]]:
    """(person_id, issuer, subject, email) of people who sign in through a provider."""
    return [(row[0], row[1], row[2], row[3]) for row in
            store.rows("SELECT person_id, issuer, subject, email FROM facts.accounts WHERE kind = 'oidc' ORDER BY person_id")]


def bind(store: Store, person_id: str, issuer: str, subject: str, email: str) -> None:
    with store.write("people") as w:
        _account(w, person_id, person_id, kind="oidc", issuer=issuer, subject=subject, email=email)


def record_attempt(store: Store, who: str, ok: bool) -> None:
    with store.write() as w:
        w.run("INSERT INTO facts.sign_in VALUES ($who, $ok, $at)", {"who": who, "ok": ok, "at": now()})


def failures(store: Store, who: str, since: datetime) -> list[datetime]:
    """Times (UTC) of failed attempts after `since`, after the last that succeeded and after the last new password, oldest first."""
    return [row[0] for row in store.rows("""
        SELECT recorded_at FROM facts.sign_in WHERE who = $who AND NOT ok AND recorded_at > greatest($since,
            (SELECT max(recorded_at) FROM facts.sign_in WHERE who = $who AND ok),
            (SELECT max(recorded_at) FROM facts.account WHERE person_id = $who AND kind = 'password')) ORDER BY recorded_at""",
        {"who": who, "since": since})]


def start_session(store: Store, token_sha256: str, person: Person, started_at: datetime, expires_at: datetime,
                  ended_at: datetime | None = None) -> None:
    """Starts, prolongs or ends a session; the latest `expires_at` counts."""
    with store.write(*(["people"] if ended_at else [])) as w:
        w.run("INSERT INTO facts.session VALUES ($token, $person, $authentication, $started, $expires, $ended)",
              {"token": token_sha256, "person": person.person_id, "authentication": person.authentication, "started": started_at,
               "expires": expires_at, "ended": ended_at})


def session(store: Store, token_sha256: str) -> tuple[Person, datetime, datetime, datetime | None] | None:
    """(person, started, expires, ended) of a session, UTC; a disabled person's has ended."""
    found = store.rows("""
        SELECT p.person_id, p.name, p.role, s.authentication, s.started_at, s.expires_at,
               coalesce(s.ended_at, CASE WHEN d.person_id IS NOT NULL THEN s.started_at END)
        FROM facts.sessions AS s JOIN people AS p ON p.person_id = s.person_id LEFT JOIN facts.disabled AS d ON d.person_id = s.person_id
        WHERE s.token_sha256 = $token""", {"token": token_sha256})
    if not found:
        return None
    person_id, name, role, authentication, started, expires, ended = found[0]
    return Person(person_id, name, Role(role), authentication), started, expires, ended


def _person(w: Writer, person: Person) -> None:
    w.run("INSERT INTO facts.person VALUES ($id, $name, $role, $at)",
          {"id": person.person_id, "name": person.name, "role": person.role.value, "at": now()})


def _account(w: Writer, person_id: str, made_by: str, **row: Any) -> None:
    w.run(_ACCOUNT, {"issuer": None, "subject": None, "email": None, "hash": None, "one_time": False, **row,
                     "person": person_id, "by": made_by, "at": now()})
