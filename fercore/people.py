"""Local profiles: who acts in this workspace."""

from fercore.domain import Person, Role, slug
from fercore.errors import BadInput, NotFound
from fercore.store import Store
from fercore.store import people as table

LOCAL_LEAD = "local-data-lead"


def add(store: Store, name: str, role: Role) -> Person:
    """Adds a local profile; an id that exists is refused. In local mode anybody at this machine may.

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
    table.add(store, person)
    return person


def everyone(store: Store) -> list[Person]:
    return table.all_people(store)


def find(store: Store, person_id: str) -> Person:
    """Raises: NotFound, naming who there is."""
    people = everyone(store)
    for person in people:
        if person.person_id == person_id:
            return person
    raise NotFound("Unknown person", f"{person_id!r} has no profile", f"Known: {', '.join(p.person_id for p in people) or 'nobody yet'}")


def local(store: Store) -> Person:
    """Who a command acts as when nobody is named: the data lead of this machine."""
    known = {p.person_id: p for p in everyone(store)}
    return known.get(LOCAL_LEAD) or add(store, "Local data lead", Role.DATA_LEAD)
