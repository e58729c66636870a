"""Who acts in this workspace: profiles, and whom a command acts as. Sign-in is in `fercore.accounts`."""

from fercore.domain import Person, Role, slug
from fercore.errors import BadInput, NotAllowed, NotFound
from fercore.store import Store
from fercore.store import people as table

LOCAL_LEAD = "local-data-lead"


def new(store: Store, name: str, role: Role) -> Person:
    """A person who is not in the store yet.

    Raises:
        BadInput: the name is empty, too long or taken.
    """
    name = " ".join(name.split())
    if not 1 <= len(name) <= 60:
        raise BadInput("Name needed", f"{name[:20]!r} has {len(name)} characters", "Give 1 to 60")
    person = Person(slug(name), name, role)
    if person.person_id == LOCAL_LEAD and role is not Role.DATA_LEAD:
        raise BadInput("The name is reserved", f"{name!r} is what commands act as", "Choose another name")
    if person.person_id in {p.person_id for p in table.all_people(store)}:
        raise BadInput("The name is taken", f"{name!r} is a profile of this workspace", "Choose it, or add a last name")
    return person


def add(store: Store, name: str, role: Role) -> Person:
    """Adds a local profile; an id that exists is refused. While nobody has an account, anybody at this machine may.

    Raises:
        BadInput: the name is empty, too long or taken. NotAllowed: people sign in here.
    """
    if table.account_kinds(store):
        raise NotAllowed("People sign in here", "A profile without an account is of no use in this workspace", "Ask a data lead to add you")
    person = new(store, name, role)
    table.add(store, person)
    return person


def everyone(store: Store) -> list[Person]:
    """Everybody who may act, by name."""
    gone = table.disabled(store)
    return [p for p in table.all_people(store) if p.person_id not in gone]


def find(store: Store, person_id: str) -> Person:
    """Raises: NotFound, naming who there is. NotAllowed: the person is disabled."""
    person = next((p for p in table.all_people(store) if p.person_id == person_id), None)
    if person is None:
        known = ", ".join(p.person_id for p in everyone(store))
        raise NotFound("Unknown person", f"{person_id!r} has no profile", f"Known: {known or 'nobody yet'}")
    if person_id in table.disabled(store):
        raise NotAllowed("This person is disabled", f"{person.name} may not act any more", "Act as somebody else")
    return person


def local(store: Store) -> Person:
    """Who a command acts as when nobody is named: the data lead of this machine. Raises: NotAllowed: a data lead disabled it."""
    if LOCAL_LEAD not in {p.person_id for p in table.all_people(store)}:
        table.add(store, Person(LOCAL_LEAD, "Local data lead", Role.DATA_LEAD))
    return find(store, LOCAL_LEAD)
