"""Sign-in of a team: accounts with a password or an OpenID Connect identity, sessions that expire, and who may manage people."""

import hashlib
import ipaddress
import re
import secrets
import threading
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Literal

import pandas as pd
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from fercore import people
from fercore.domain import Permission, Person, Role, slug
from fercore.errors import BadInput, Conflict, NotAllowed, NotFound, WorkspaceError
from fercore.store import Store, now
from fercore.store import people as table

Mode = Literal["local", "password", "oidc"]
SESSION, IDLE = timedelta(hours=12), timedelta(hours=2)
WINDOW, ATTEMPTS = timedelta(minutes=15), 5
SHORTEST, LONGEST = 10, 1000  # characters of a password
_NOTE_EVERY = timedelta(minutes=5)  # how finely idleness is recorded: a row each time
_READABLE = "abcdefghjkmnpqrstuvwxyz23456789"  # without look-alikes
_HASHER = PasswordHasher()
_LOCK = threading.Lock()  # guesses are counted one after the other, and one at a time takes the memory of a hash


# ---- modes ----------------------------------------------------------------------------------------------------------------------


def mode(store: Store, oidc: bool) -> Mode:
    """How people come in: through a provider when one is configured, else by password once anybody has one, else by choosing a profile.

    Raises:
        WorkspaceError: people sign in through a provider here, and none is configured: nobody is let in without.
    """
    kinds = table.account_kinds(store)
    if not oidc and kinds and "password" not in kinds:
        raise WorkspaceError("The sign-in is not configured", "People of this workspace sign in through a provider; the server knows of none",
                             "Start it with fercore serve --secrets FILE, or give a data lead a password")
    return "oidc" if oidc else "password" if kinds else "local"


def in_use(store: Store) -> bool:
    """Whether anybody has an account of any kind."""
    return bool(table.account_kinds(store))


def is_loopback(host: str | None) -> bool:
    """Whether a server that listens on `host` is reached from its own machine only; None means every address."""
    if host is None or host == "localhost":
        return host == "localhost"
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


# ---- people, by a data lead -----------------------------------------------------------------------------------------------------


def listing(store: Store, actor: Person) -> pd.DataFrame:
    """Everybody: person, name, role, active, email, password ("", "one-time" or "own"), bound, last_sign_in (UTC). Raises: NotAllowed."""
    actor.require(Permission.PEOPLE)
    return table.listing(store)


def add(store: Store, actor: Person, name: str, role: Role, *, email: str = "", password: str = "", one_time: bool = False) -> Person:
    """Adds a person who signs in with a password, through a provider with this e-mail, or (neither) not at all.

    Raises:
        NotAllowed: the actor may not manage people. BadInput: name, e-mail or password cannot be used. Conflict: see `set_password`.
    """
    actor.require(Permission.PEOPLE)
    person = people.new(store, name, role)
    rows = ([{"kind": "oidc", "email": _email(store, email, person)}] if email else []) + (
        [_password_row(store, person, password, one_time)] if password else [])
    table.change(store, actor, person, "add", *rows)
    return person


def set_role(store: Store, actor: Person, name: str, role: Role) -> None:
    """Takes effect at the person's next step. Raises: NotAllowed, NotFound, Conflict: the last data lead."""
    actor.require(Permission.PEOPLE)
    person = _named(store, name)
    with store.write("people"):  # two leads must not demote each other at the same moment
        if role is not Role.DATA_LEAD:
            _keep_a_lead(store, person)
        table.change(store, actor, replace(person, role=role), "role")


def set_password(store: Store, actor: Person, name: str, password: str, *, one_time: bool = False) -> None:
    """Gives a person a password and ends the person's sessions. A one-time password must be changed at the first sign-in.

    Raises:
        NotAllowed, NotFound. BadInput: too short or too long. Conflict: the first password of a workspace is not a data lead's, so that
        nobody could manage people from then on.
    """
    actor.require(Permission.PEOPLE)
    person = _named(store, name)
    table.change(store, actor, person, "account", _password_row(store, person, password, one_time))


def reset_password(store: Store, actor: Person, name: str) -> str:
    """Sets a generated one-time password and returns it; it is stored nowhere. Raises: as `set_password`."""
    password = generated()
    set_password(store, actor, name, password, one_time=True)
    return password


def set_email(store: Store, actor: Person, name: str, email: str) -> None:
    """Registers a person for the provider under another e-mail; the next sign-in with it is bound anew. Raises: NotAllowed, NotFound, BadInput."""
    actor.require(Permission.PEOPLE)
    person = _named(store, name)
    table.change(store, actor, person, "account", {"kind": "oidc", "email": _email(store, email, person)})


def disable(store: Store, actor: Person, name: str) -> None:
    """Ends the sessions of a person for good; what the person did stays. Raises: NotAllowed, NotFound, Conflict: the last data lead."""
    actor.require(Permission.PEOPLE)
    person = _named(store, name)
    with store.write("people"):  # as in set_role
        _keep_a_lead(store, person)
        table.change(store, actor, person, "disable")


def enable(store: Store, actor: Person, name: str) -> None:
    """Lets a disabled person act again. Raises: NotAllowed, NotFound."""
    actor.require(Permission.PEOPLE)
    table.change(store, actor, _named(store, name), "enable")


def generated() -> str:
    """A random password that can be read aloud, 79 bits."""
    return "-".join("".join(secrets.choice(_READABLE) for _ in range(4)) for _ in range(4))


# ---- sign-in --------------------------------------------------------------------------------------------------------------------


def sign_in(store: Store, name: str, password: str) -> str:
    """Starts a session and returns its token, 32 random bytes as text, of which the store keeps only the SHA-256.

    Raises:
        NotAllowed: name and password do not fit, or too many attempts. Conflict: a one-time password must be changed first.
    """
    person, one_time = _verified(store, name, password)
    if one_time:
        raise Conflict("Choose a password of your own", "The one that you were given is for one use", "Change it with the form below")
    return _start(store, person)


def change_password(store: Store, name: str, password: str, new: str) -> str:
    """Replaces one's own password, ends all sessions and returns the token of a new one. Raises: as `sign_in`; BadInput: `new` cannot be used."""
    person, _ = _verified(store, name, password)
    if _normal(new) == _normal(password):
        raise BadInput("Choose another password", "The new one is the old one")
    table.change(store, person, person, "account", _password_row(store, person, new, False))
    return _start(store, person)


def check(store: Store, token_sha256: str) -> Person | None:
    """Whose session this is, None when it is unknown or has ended. Being asked counts as activity."""
    found = table.session(store, token_sha256)
    at = now()
    if found is None or found[3] is not None or found[2] <= at:
        return None
    person, started, expires, _ = found
    longer = min(started + SESSION, at + IDLE)
    if longer - expires >= _NOTE_EVERY or longer == started + SESSION > expires:
        table.start_session(store, token_sha256, person, started, longer)
    return person


def by_provider(store: Store, claims: Mapping[str, Any]) -> Person | None:
    """Whose verified id token this is; None when its session has ended, so that the provider must be asked again.

    The first sign-in with a verified e-mail that a data lead registered binds issuer and subject to the person; later only these two count.

    Args:
        claims: iss, sub, iat, nonce, email, email_verified of a token whose signature was checked.

    Raises:
        NotAllowed: nobody here is registered for it, or the person is disabled.
    """
    token = provider_token(claims)
    at = now()
    with _LOCK:
        if table.session(store, token) is None:
            person = _bound(store, str(claims["iss"]), str(claims["sub"]), str(claims.get("email") or ""), claims.get("email_verified") is True)
            started = min(datetime.fromtimestamp(float(claims["iat"]), UTC).replace(tzinfo=None), at)
            if started + SESSION > at:
                table.record_attempt(store, person.person_id, True)
                table.start_session(store, token, person, started, min(started + SESSION, at + IDLE))
    return check(store, token)


def provider_token(claims: Mapping[str, Any]) -> str:
    """SHA-256 (hex) that names one sign-in at a provider. Raises: NotAllowed: a claim is missing."""
    if any(not claims.get(name) for name in ("iss", "sub", "iat")):
        raise NotAllowed("The provider did not say who you are", "Its token lacks iss, sub or iat", "Ask who runs this server to check the provider")
    return digest("\n".join(str(claims.get(name)) for name in ("iss", "sub", "iat", "nonce")))


def sign_out(store: Store, token_sha256: str) -> None:
    """Ends a session; an unknown one is left alone."""
    if (found := table.session(store, token_sha256)) and found[3] is None:
        table.start_session(store, token_sha256, found[0], found[1], found[2], now())


def digest(token: str) -> str:
    """SHA-256 (hex) of a token: what the store keeps of it."""
    return hashlib.sha256(token.encode()).hexdigest()


def leads(store: Store) -> list[str]:
    """Names of the data leads: whom to ask."""
    return [p.name for p in people.everyone(store) if p.may(Permission.PEOPLE)]


def _start(store: Store, person: Person) -> str:
    token, at = secrets.token_urlsafe(32), now()
    table.start_session(store, digest(token), person, at, at + IDLE)
    return token


def _verified(store: Store, name: str, password: str) -> tuple[Person, bool]:
    """(person, whether the password is a one-time one); takes as long for a name that nobody has."""
    with _LOCK:
        key = name
        try:
            person = people.find(store, key := slug(name))
        except (BadInput, NotFound, NotAllowed):
            person = None
        account = table.password_of(store, person.person_id) if person else None
        who = person.person_id if person else f"unknown {digest(key)[:16]}"
        failed = table.failures(store, who, now() - WINDOW)
        if len(failed) >= ATTEMPTS:
            minutes = -(-(failed[-ATTEMPTS] + WINDOW - now()) // timedelta(minutes=1))
            raise NotAllowed("Too many attempts", f"{ATTEMPTS} wrong passwords were given for this name within 15 minutes",
                             f"Wait {minutes} min, or ask a data lead for a new password")
        typed = _normal(password)[: LONGEST + 1]
        try:
            _HASHER.verify(account[0] if account else _nobodys(), typed)
        except (VerificationError, InvalidHashError):
            account = None
        table.record_attempt(store, who, account is not None)
        if person is None or account is None:
            raise NotAllowed("Not signed in", "Name and password do not fit", "Try again, or ask a data lead for a new password")
        if _HASHER.check_needs_rehash(account[0]):
            table.set_password(store, person.person_id, person.person_id, _HASHER.hash(typed), account[1])
    return replace(person, authentication="password"), account[1]


def _bound(store: Store, issuer: str, subject: str, email: str, verified: bool) -> Person:
    known = table.oidc_accounts(store)
    person_id = next((p for p, i, s, _ in known if (i, s) == (issuer, subject)), None)
    if person_id is None and verified:
        person_id = next((p for p, _, s, e in known if s is None and e == email.casefold()), None)
        if person_id:
            people.find(store, person_id)
            table.bind(store, person_id, issuer, subject, email.casefold())
    if person_id is None:
        raise NotAllowed("You are not registered here", f"Nobody in this workspace is expected as {email or subject}"
                         + ("" if verified else ", an e-mail that the provider has not verified"),
                         f"Ask a data lead to register your e-mail: {', '.join(leads(store)) or 'none yet'}")
    return replace(people.find(store, person_id), authentication=f"oidc {issuer}")


# ---- rules ----------------------------------------------------------------------------------------------------------------------


@cache
def _nobodys() -> str:
    return _HASHER.hash(secrets.token_urlsafe(32))


def _normal(password: str) -> str:
    """The same text from every keyboard: an accent may arrive as one character or two."""
    return unicodedata.normalize("NFKC", password)


def _password_row(store: Store, person: Person, password: str, one_time: bool) -> dict[str, Any]:
    typed = _normal(password)
    if not SHORTEST <= len(typed) <= LONGEST:
        raise BadInput("Password cannot be used", f"It has {len(typed)} characters", f"Give {SHORTEST} to {LONGEST:,}")
    if person.role is not Role.DATA_LEAD and "password" not in table.account_kinds(store):
        raise Conflict("A data lead needs a password first", "From the first password on everybody must sign in, and only a data lead adds people",
                       "Give a data lead a password, then the others")
    return {"kind": "password", "hash": _HASHER.hash(typed), "one_time": one_time}


def _email(store: Store, email: str, person: Person) -> str:
    plain = email.strip().casefold()
    if not re.fullmatch(r"[^@\s]{1,64}@[^@\s]{1,190}", plain):
        raise BadInput("E-mail cannot be used", f"{email[:40]!r} is no address", "Give one such as ann@example.org")
    if plain in {e for p, _, _, e in table.oidc_accounts(store) if p != person.person_id}:
        raise BadInput("The e-mail is taken", f"{plain} belongs to somebody in this workspace", "Give another")
    return plain


def _named(store: Store, name: str) -> Person:
    """A person by name or id, also who is disabled."""
    known = table.all_people(store)
    for person in known:
        if person.person_id in (name, slug(name)):
            return person
    raise NotFound("Unknown person", f"{name!r} is not in this workspace", f"Known: {', '.join(p.person_id for p in known) or 'nobody yet'}")


def _keep_a_lead(store: Store, person: Person) -> None:
    """Raises: Conflict: without this person no data lead could act, or none could sign in."""
    listed = table.listing(store).query("active and role == 'data_lead'")
    able = listed[listed["email"].ne("") | listed["password"].ne("")]
    if any(set(group["person"]) == {person.person_id} for group in (listed, able)):
        raise Conflict("The last data lead stays", f"Without {person.name} nobody could manage people here", "Make somebody else data lead first")
