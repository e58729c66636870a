"""Filters of the Explore page under a name, as groups of a bias report. Members are those of the day of saving, so that a report stays what it is."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from fercore.domain import Filter, Permission, Person, Workspace, slug
from fercore.errors import BadInput, Conflict
from fercore.store import Store, now, reports, samples


@dataclass(frozen=True)
class SavedFilter:
    name: str
    said: dict[str, Any]
    sample_ids: tuple[str, ...]
    saved_by: str
    saved_at: str


def save(store: Store, actor: Person, name: str, chosen: Filter) -> SavedFilter:
    """Keeps the samples that match now under `name` (see `slug`).

    Raises:
        NotAllowed: the actor may not read results. BadInput: no filter, or no face matches. Conflict: the name is taken, also by a file of other
            members that a killed process left.
    """
    actor.require(Permission.READ_RESULTS)
    if chosen == Filter():
        raise BadInput("Nothing is filtered", "Every face would be in this group", "Choose a filter first")
    ids = tuple(sorted(samples.matching(samples.members(store), samples.found(store), chosen)["sample_id"]))
    if not ids:
        raise BadInput("No face matches", "A group without a face cannot be reported on", "Clear one of the filters")
    said = {k: v for k, v in dataclasses.asdict(chosen).items() if v not in ((), None)}
    made = SavedFilter(slug(name), said, ids, actor.name, now().isoformat(timespec="seconds"))
    path = store.workspace.slices / f"{made.name}.json"

    def publish() -> None:
        path.parent.mkdir(exist_ok=True)
        if path.exists() and saved(store.workspace, made.name).sample_ids != ids:
            raise Conflict("The name is taken", f"{path} holds other faces and is not recorded", "Give another name, or delete the file")
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(dataclasses.asdict(made), indent=1), encoding="utf-8")
        temporary.replace(path)

    row = {"name": made.name, "filter": json.dumps(said), "faces": len(ids), "members_sha256": hashlib.sha256("\n".join(ids).encode()).hexdigest()}
    if not reports.save_filter(store, actor, row, publish):
        raise Conflict("The name is taken", f"{made.name!r} is a saved filter of this workspace", "Give another name; saved filters never change")
    return made


def names(workspace: Workspace) -> list[str]:
    """Of every saved filter; needs no database."""
    return sorted(path.stem for path in workspace.slices.glob("*.json"))


def saved(workspace: Workspace, name: str) -> SavedFilter:
    """Needs no database. Raises: BadInput: it cannot be read."""
    path = workspace.slices / f"{name}.json"
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        return SavedFilter(read["name"], read["said"], tuple(read["sample_ids"]), read["saved_by"], read["saved_at"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput("A saved filter cannot be read", f"{path}: {error}", "Restore it from a backup, or delete it") from error
