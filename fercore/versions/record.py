"""The record of acts on a version: in the database as a hash chain, copied beside the files, and checked against tampering."""

import hashlib
import json
from contextlib import suppress
from typing import Any

import pyarrow as pa
from uuid_utils import uuid7

from fercore.domain import Person, Workspace
from fercore.errors import BadInput, FerError
from fercore.store import Store
from fercore.store import versions as table
from fercore.versions import files
from fercore.versions.rows import rows_of

Acts = list[dict[str, Any]]
LONGEST = 4000  # characters of a reason or an answer


def event(version_id: str | None, act: str, state: str | None, sha: str | None, actor: Person, reason: str | None,
          detail: dict[str, Any] | None = None) -> dict[str, Any]:
    """An act for the store."""
    return {"event_id": str(uuid7()), "version_id": version_id, "act": act, "state": state, "manifest_sha256": sha,
            "person_id": actor.person_id, "role": actor.role.value, "authentication": actor.authentication, "reason": reason,
            "detail": None if detail is None else json.dumps(detail, sort_keys=True, ensure_ascii=False)}


def text_of(given: str, what: str, why: str) -> str:
    """A reason or an answer as it is kept: no control characters. Raises: BadInput: it is empty or too long."""
    clean = "".join(c for c in given if c in "\n\t" or c.isprintable()).strip()
    if not clean or len(clean) > LONGEST:
        raise BadInput(f"{what} is needed", why if not clean else f"It has {len(clean):,} characters", f"Write 1 to {LONGEST:,} characters")
    return clean


def details(acts: Acts, act: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(act, its detail) of every act of a kind, in order."""
    return [(a, json.loads(a["detail"] or "{}")) for a in acts if a["act"] == act]


def answers(acts: Acts) -> dict[str, str]:
    """What people wrote into the datasheet: field -> the last text."""
    return {d["field"]: d["text"] for _, d in details(acts, "datasheet")}


def waivers(acts: Acts) -> dict[str, dict[str, Any]]:
    """Gate -> the last act that waived it, with what was found then under "found"."""
    return {d["gate"]: {**a, "found": d["found"]} for a, d in details(acts, "waive")}


def round_trip(acts: Acts) -> list[str] | None:
    """What came back otherwise when the version was last exported, imported and built elsewhere; None where nobody did that with this manifest."""
    found = [d["differs"] for a, d in details(acts, "round_trip") if a["manifest_sha256"] == acts[0]["manifest_sha256"]]
    return list(found[-1]) if found else None


def subject(acts: Acts) -> str:
    """SHA-256 of what an approval is given to: manifest, answers of the datasheet, waived gates. Any change of these makes it stale."""
    held = [acts[0]["manifest_sha256"], answers(acts), {g: [w["found"], w["reason"]] for g, w in waivers(acts).items()}]
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()


def state_of(acts: Acts) -> str:
    found = next((str(a["state"]) for a in reversed(acts) if a["state"]), "frozen")
    return "draft" if found == "rejected" else found


def publish(store: Store, version_id: str) -> None:
    """Copies state and acts of a version beside its files."""
    acts = table.acts(store, version_id)
    files.write_state(store.workspace, version_id, state_of(acts), acts)


def mend(store: Store) -> list[str]:
    """Brings every copy that a killed process left behind up to date, and returns the ids of those versions."""
    behind = []
    for version_id in table.table(store)["version_id"]:
        copied, acts = files.copied_state(store.workspace, version_id).get("acts", []), table.acts(store, version_id)
        if copied == acts[:len(copied)] and len(copied) < len(acts):
            try:
                publish(store, version_id)
            except (FerError, OSError):  # files that cannot be read or written: verify says so
                continue
            behind.append(version_id)
    return behind


def copy_problems(workspace: Workspace, version_id: str) -> list[str]:
    """What is wrong with the copied acts, without the database: an act that is not what was hashed, or a state that is not that of the acts."""
    copied = files.copied_state(workspace, version_id)
    if not (workspace.versions / version_id / "state.json").exists():
        return []  # killed between freezing and copying
    if not {"state", "manifest_sha256"} <= set(copied) <= {"state", "manifest_sha256", "acts"}:
        return ["state.json cannot be read"]
    acts: Acts = copied.get("acts", [])  # none from before acts were copied
    try:
        stated = files.card(workspace, version_id)
    except FerError as error:
        return [f"version.json cannot be read: {error.detail}"]
    try:
        if copied["manifest_sha256"] != stated["manifest_sha256"]:
            return ["state.json is about another manifest"]
        wrong = [a["seq"] for a in acts if a["hash"] != hashlib.sha256((a["prev_hash"] + json.dumps(
            [a[c] for c in table.ACT], separators=(",", ":"), ensure_ascii=False)).encode()).hexdigest()]
        if wrong:
            return [f"state.json: act {wrong[0]} was changed"]
        if acts and (copied["state"] != state_of(acts) or {a["version_id"] for a in acts} != {version_id}):
            return ["state.json: the state or the version is not that of the acts"]
    except (KeyError, TypeError, AttributeError, BadInput):
        return ["state.json: an act was changed"]
    return []


def problems(store: Store, version_id: str) -> list[str]:
    """What is wrong with the acts on a version in the database and in their copy. Raises: NotFound."""
    found, acts = table.one(store, version_id), table.acts(store, version_id)
    broken = [f"act {seq}: {what}" for of, seq, what in table.broken_acts(store) if of in (version_id, None)]
    if not acts or (acts[0]["act"], acts[0]["manifest_sha256"], acts[0]["person_id"]) != ("freeze", found["manifest_sha256"], found["person_id"]):
        broken.append("hash or creator of the version are not those of its first act")
    if any(a["manifest_sha256"] != found["manifest_sha256"] for a in acts):
        broken.append("an act is bound to another manifest")
    with suppress(FerError):  # a card that cannot be read is found with the files
        card = files.card(store.workspace, version_id)
        if (json.loads(found["recipe"]), json.loads(found["counts"])) != (card.get("recipe"), card["counts"]):
            broken.append("recipe or counts in the database are not those of version.json")
        if (found["name"], found["number"]) != (card.get("name"), card.get("number")):
            broken.append("name or number in the database are not those of version.json")
        broken += _rows_problems(store, version_id)
    if acts and (at := json.loads(acts[0]["detail"] or "{}").get("at")) and at != found["recorded_at"].isoformat():
        broken.append("the time of the version is not that of its first act")
    copied = files.copied_state(store.workspace, version_id).get("acts", [])
    if copied != acts[:len(copied)]:
        broken.append("the acts beside the files are not those in the database")
    return broken + copy_problems(store.workspace, version_id)


def _rows_problems(store: Store, version_id: str) -> list[str]:
    """Rows of version_samples that are not those of the manifest."""
    columns = ["sample_id", "image_id", "label", "split", "exclusion"]
    try:
        said = rows_of(store.workspace, version_id, *columns).sort_values("sample_id", ignore_index=True)
    except (OSError, pa.ArrowException):  # a file that cannot be read is found with the files
        return []
    held = table.samples_of(store, version_id)[columns]
    if len(held) != len(said):
        return [f"the database lists {len(held):,} rows, the manifest {len(said):,}"]
    wrong = said.loc[(held != said).any(axis=1), "sample_id"]
    return [f"{len(wrong):,} rows in the database differ from the manifest, the first is {wrong.iloc[0]}"] if len(wrong) else []


def verify(store: Store, version_id: str) -> list[str]:
    """All that differs from what was frozen and decided: manifest, images, acts. Raises: NotFound."""
    return files.verify(store.workspace, version_id, table.one(store, version_id)["manifest_sha256"]) + problems(store, version_id)
