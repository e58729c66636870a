"""What people set for themselves. Append-only: the last value of a name counts."""

import json
from typing import Any

from fercore.domain import Person
from fercore.store.connection import Store, now


def save(store: Store, person: Person, name: str, value: Any) -> None:
    """Keeps `value` as JSON."""
    with store.write("settings") as w:
        w.run("INSERT INTO facts.person_setting VALUES ($p, $name, $value, $at)",
              {"p": person.person_id, "name": name, "value": json.dumps(value), "at": now()})


def load(store: Store, person: Person, name: str) -> Any:
    """The last value; None when there is none."""
    found = store.value("SELECT arg_max(value, recorded_at) FROM facts.person_setting WHERE person_id = $p AND name = $name",
                        {"p": person.person_id, "name": name})
    return None if found is None else json.loads(found)
