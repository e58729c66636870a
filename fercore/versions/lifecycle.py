"""States of a version and who may move it. Every act is appended and bound to the manifest hash."""

from contextlib import suppress
from typing import Any

import pyarrow as pa
from uuid_utils import uuid7

from fercore.domain import Permission, Person
from fercore.errors import BadInput, Conflict, NotAllowed
from fercore.store import Store
from fercore.store import versions as table
from fercore.versions import files
from fercore.versions.build import build
from fercore.versions.recipe import Recipe


def freeze(store: Store, actor: Person, recipe: Recipe, name: str) -> str:
    """Builds a version from what the store holds now and returns its id. Nothing changes it afterwards.

    Raises:
        NotAllowed: the actor may not freeze. BadInput: the recipe does not fit the data; nothing is written.
    """
    actor.require(Permission.FREEZE)
    built = build(store, actor, recipe)
    rows, card = built.made.rows, built.card(actor, name)
    columns = ["sample_id", "image_id", "label", "split", "exclusion"]
    listed = pa.Table.from_pandas(rows[columns], preserve_index=False, schema=pa.schema([(c, pa.string()) for c in columns]))

    def number(n: int) -> tuple[dict[str, Any], pa.Table, dict[str, Any]]:
        card.update(number=n, version_id=f"{card['name']}-v{n}")
        return card, listed, _event(card["version_id"], "freeze", "frozen", built.sha256, actor, None)

    def publish() -> None:
        files.sweep(store.workspace, set(table.table(store)["version_id"]))
        files.write(store.workspace.versions / card["version_id"], rows, built.pixels, card)

    table.insert(store, card["name"], actor, number, publish)
    files.write_state(store.workspace, card["version_id"], "frozen")
    return str(card["version_id"])


def recover(store: Store) -> None:
    """Finishes or clears away what a killed build left between its files and the database. Only while no build is under way."""
    known = table.table(store)
    files.sweep(store.workspace, set(known["version_id"]))
    for version_id, state in zip(known["version_id"], known["state"], strict=True):
        folder = store.workspace.versions / version_id
        if (folder / "version.json").exists() and not (folder / "state.json").exists():
            with suppress(BadInput):  # a damaged version.json; verify names it
                files.write_state(store.workspace, version_id, state)


def submit(store: Store, actor: Person, version_id: str) -> None:
    """Asks for review. Raises: NotAllowed, NotFound, Conflict (not frozen)."""
    actor.require(Permission.FREEZE)
    _move(store, actor, version_id, "submit", "frozen", "in_review", None)


def approve(store: Store, actor: Person, version_id: str, reason: str = "") -> None:
    """Approves a version in review. Raises: NotAllowed (role, or the actor made it), NotFound, Conflict (not in review, or the files
    no longer match the hash)."""
    _decide(store, actor, version_id, "approve", "approved", reason or None)


def reject(store: Store, actor: Person, version_id: str, reason: str) -> None:
    """Rejects a version in review. Raises: BadInput (no reason), and as `approve`."""
    if not reason.strip():
        raise BadInput("A reason is needed", "A rejection without a reason helps nobody", "Say what must change")
    _decide(store, actor, version_id, "reject", "rejected", reason)


def _decide(store: Store, actor: Person, version_id: str, act: str, state: str, reason: str | None) -> None:
    actor.require(Permission.APPROVE)
    found = table.one(store, version_id)
    if found["person_id"] == actor.person_id:
        raise NotAllowed("You made this version", f"{version_id} was frozen by {actor.name}", "Another data lead must decide on it")
    if act == "approve" and (problems := files.verify(store.workspace, version_id, found["manifest_sha256"])):
        raise Conflict("The files do not match the version", f"{version_id}: {problems[0]}", "Freeze it anew")
    _move(store, actor, version_id, act, "in_review", state, reason)


def _move(store: Store, actor: Person, version_id: str, act: str, old: str, new: str, reason: str | None) -> None:
    found = table.one(store, version_id)
    event = _event(version_id, act, new, found["manifest_sha256"], actor, reason)
    if not table.append_event(store, event, old):
        state = table.one(store, version_id)["state"]
        raise Conflict(f"Cannot {act} {version_id}", f"It is {state.replace('_', ' ')}, not {old.replace('_', ' ')}")
    files.write_state(store.workspace, version_id, new)


def _event(version_id: str, act: str, state: str, sha: str, actor: Person, reason: str | None) -> dict[str, Any]:
    return {"event_id": str(uuid7()), "version_id": version_id, "act": act, "state": state, "manifest_sha256": sha,
            "person_id": actor.person_id, "role": actor.role.value, "authentication": actor.authentication, "reason": reason}
