"""People and their roles. Append-only: a later row of a person replaces an earlier one in the view."""

from fercore.domain import Person, Role
from fercore.store.connection import Store, now


def add(store: Store, person: Person) -> None:
    with store.write("people") as w:
        w.run("INSERT INTO facts.person VALUES ($id, $name, $role, $at)",
              {"id": person.person_id, "name": person.name, "role": person.role.value, "at": now()})


def all_people(store: Store) -> list[Person]:
    return [Person(i, name, Role(role)) for i, name, role in store.rows("SELECT person_id, name, role FROM people ORDER BY name")]
