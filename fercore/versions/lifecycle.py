"""States of a version and who may move it. Every act is appended and bound to the manifest hash."""

from typing import Any

import numpy as np
import pyarrow as pa
from uuid_utils import uuid7

from fercore.audit.transforms import transformed
from fercore.curation import rules
from fercore.domain import SPLITS, Permission, Person, image_id, slug
from fercore.errors import BadInput, Conflict, NotAllowed
from fercore.schemes import SCHEMES
from fercore.store import Store, now, samples
from fercore.store import versions as table
from fercore.versions import files
from fercore.versions.recipe import Recipe, apply


def freeze(store: Store, actor: Person, recipe: Recipe, name: str) -> str:
    """Builds a version from what the store holds now and returns its id. Nothing changes it afterwards.

    Raises:
        NotAllowed: the actor may not freeze. BadInput: the recipe does not fit the data; nothing is written.
    """
    actor.require(Permission.FREEZE)
    table_of_samples = samples.table(store)
    if recipe.votes:
        table_of_samples["votes"] = _votes(store, actor, recipe)
    rows = apply(recipe, table_of_samples)
    pixels = samples.pixels(store, rows.loc[rows["exclusion"].isna(), "image_id"].tolist())
    if recipe.transforms:
        pixels = transformed(pixels, rows.loc[rows["exclusion"].isna(), "transform"].tolist())
        rows["pixel_id"] = None
        rows.loc[rows["exclusion"].isna(), "pixel_id"] = [image_id(p) for p in pixels]
    stated = recipe.model_dump(mode="json")
    sha = files.manifest_sha256(rows, stated)
    included = rows[rows["exclusion"].isna()]
    columns = ["sample_id", "image_id", "label", "split", "exclusion"]
    listed = pa.Table.from_pandas(rows[columns], preserve_index=False, schema=pa.schema([(c, pa.string()) for c in columns]))
    card: dict[str, Any] = {
        "name": slug(name), "manifest_sha256": sha, "scheme_id": recipe.scheme, "classes": list(SCHEMES[recipe.scheme].ids),
        "recipe": stated, "created_by": actor.name, "created_at": now().isoformat(timespec="seconds"),
        "counts": {**dict.fromkeys(SPLITS, 0), **included["split"].value_counts().to_dict(), "excluded": len(rows) - len(included)}}

    def make(number: int) -> tuple[dict[str, Any], pa.Table, dict[str, Any]]:
        card.update(number=number, version_id=f"{card['name']}-v{number}")
        return card, listed, _event(card["version_id"], "freeze", "frozen", sha, actor, None)

    table.insert(store, card["name"], actor, make, lambda: files.write(store.workspace.versions / card["version_id"], rows, pixels, card))
    files.write_state(store.workspace, card["version_id"], "frozen")
    return str(card["version_id"])


def _votes(store: Store, actor: Person, recipe: Recipe) -> list[str]:
    """Counts for the classes of the scheme, comma-separated, a text a sample in sample order; 0 for classes that FER+ does not ask for."""
    held = rules.ballots(store, actor, "both")
    place = {name: i for i, name in enumerate(rules.COLUMNS)}
    counts = np.column_stack([held.counts[:, place[c]] if c in place else np.zeros(len(held.counts), np.int64) for c in SCHEMES[recipe.scheme].ids])
    return [",".join(map(str, row)) for row in counts.tolist()]


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
