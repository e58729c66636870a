"""How often each set of test faces was read, and who changed labels on it."""

import hashlib
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fercore.domain import Permission, Person, Workspace
from fercore.errors import BadInput, FerError
from fercore.evaluation.read import scored_on
from fercore.schemes import SCHEMES
from fercore.store import Store, labels
from fercore.store import versions as version_table
from fercore.training.rundir import list_runs
from fercore.versions import files
from fercore.versions.rows import rows_of


def test_set(workspace: Workspace, version_id: str) -> tuple[str, list[str]]:
    """(SHA-256 over the sorted sample ids of the test split, these ids): the same for every version with the same test faces.

    Raises:
        NotFound: no such version. BadInput: it has no test faces.
    """
    rows = rows_of(workspace, version_id, "sample_id", "split", "exclusion")
    ids = sorted(rows.loc[(rows["exclusion"] == "") & (rows["split"] == "test"), "sample_id"])
    if not ids:
        raise BadInput("No test faces", f"{version_id} has none", "Choose a version with a test split")
    return hashlib.sha256("\n".join(ids).encode()).hexdigest(), ids


def reads(workspace: Workspace) -> pd.DataFrame:
    """One row a test set, the most read first: test_set (hash), faces, versions, reads (by runs of any state, on their own or another
    version, also by one that was killed after it), first, last (ISO times, "" for none) and runs (ids). From files alone; versions whose files
    cannot be read are left out."""
    of, sets = dict[str, str](), dict[str, dict[str, Any]]()
    for version in files.listed(workspace):
        if version["counts"].get("test"):
            try:
                key, ids = test_set(workspace, version["version_id"])
            except (FerError, OSError, ValueError):  # the version says itself what is wrong; pyarrow's errors are ValueErrors
                continue
            of[version["version_id"]] = key
            sets.setdefault(key, {"test_set": key, "faces": len(ids), "versions": [], "reads": 0, "first": "", "last": "", "runs": []})
            sets[key]["versions"].append(version["version_id"])
    for run in list_runs(workspace.runs):  # the newest first
        made = [(run.config.version_id, run.status.test_reads, run.status.finished_at or "")] if run.config else []
        made += [(version, facts["test_reads"], facts["at"]) for version, facts in scored_on(workspace, run.run_id).items()]
        for version_id, n, at in made:
            if n and version_id in of:
                held = sets[of[version_id]]
                held.update(reads=held["reads"] + n, first=min(held["first"] or at, at), last=max(held["last"], at))
                if run.run_id not in held["runs"]:
                    held["runs"].append(run.run_id)
    rows = pd.DataFrame(list(sets.values()), columns=["test_set", "faces", "versions", "reads", "first", "last", "runs"])
    return rows.sort_values(["reads", "test_set"], ascending=[False, True], ignore_index=True)


def times_read(workspace: Workspace, version_id: str, sets: pd.DataFrame | None = None) -> int:
    """How often the test faces of a version were read; 0 where it has none. Args: sets: as `reads` gives them, where they are known."""
    found = reads(workspace) if sets is None else sets
    return int(found.loc[found["versions"].map(lambda ids: version_id in ids), "reads"].sum())


@dataclass(frozen=True)
class Edits:
    """What happened to the labels of a version's test faces.

    Attributes:
        since: the earlier version that is compared with; "" for the given labels, as the recipe's map names them.
        rule: how the version takes its labels.
        changed: test faces whose label is another one: sample_id, image_id, before, after.
        acts: what people did on the test faces, by day, person and way: day, person, role, field, round, mode, acts, faces, standing (not undone);
            from when the earlier version was frozen until this one was.
    """

    version_id: str
    since: str
    test_set: str
    faces: int
    rule: str
    changed: pd.DataFrame
    acts: pd.DataFrame


def edits(store: Store, actor: Person, version_id: str, since: str = "") -> Edits:
    """Raises: NotAllowed. NotFound: no such version. BadInput: it has no test faces."""
    actor.require(Permission.READ_RESULTS)
    key, ids = test_set(store.workspace, version_id)
    card = files.card(store.workspace, version_id)
    taken = card["recipe"].get("labels") or {}
    rows = rows_of(store.workspace, version_id, "sample_id", "image_id", "given_label", "label").set_index("sample_id", drop=False).loc[ids]
    if since:
        earlier = rows_of(store.workspace, since, "sample_id", "label", "exclusion").set_index("sample_id")
        before = earlier.loc[earlier["exclusion"] == "", "label"].reindex(ids)
    else:
        renamed = taken.get("map") or {}
        before = rows["given_label"].map(lambda v: renamed.get(v, v))
    differs = before.notna() & (before != rows["label"])
    changed = rows.assign(before=before, after=rows["label"])[differs][["sample_id", "image_id", "before", "after"]].reset_index(drop=True)
    scheme = SCHEMES.get(card["scheme_id"])
    rule = f"rule {taken['rule']} on {taken['votes']} votes" if taken.get("rule") else f"{taken.get('take', 'current')} labels"
    acts = labels.acts_on(store, rows["image_id"].unique().tolist(), scheme.field if scheme else "expression",
                          version_table.one(store, since)["recorded_at"] if since else None, version_table.one(store, version_id)["recorded_at"])
    return Edits(version_id, since, key, len(ids), rule, changed, acts)
