"""How often the faces of each test set were read and where they were trained on, and who changed labels on them."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fercore.domain import Permission, Person, Workspace
from fercore.errors import BadInput, FerError
from fercore.evaluation.read import scored_faces, scored_on
from fercore.schemes import SCHEMES
from fercore.store import Store, labels
from fercore.store import versions as version_table
from fercore.training.rundir import Run, list_runs
from fercore.versions import files
from fercore.versions.rows import rows_of


@dataclass(frozen=True)
class _Set:
    """The test faces that some versions share; a face is a number that identical images have in common."""

    versions: list[str]
    faces: "pd.Series[int]"


@dataclass(frozen=True)
class _Reading:
    """Faces that a run was judged by."""

    run_id: str
    version_id: str
    times: int
    at: str
    faces: "pd.Series[int]"


def test_set(workspace: Workspace, version_id: str) -> tuple[str, list[str]]:
    """(SHA-256 over the sorted sample ids of the test split, these ids): the same for every version with the same test faces.

    Raises:
        NotFound: no such version. BadInput: it has no test faces.
    """
    rows = rows_of(workspace, version_id, "sample_id", "split", "exclusion")
    ids = sorted(rows.loc[(rows["exclusion"] == "") & (rows["split"] == "test"), "sample_id"])
    if not ids:
        raise BadInput("No test faces", f"{version_id} has none", "Choose a version with a test split")
    return _key(ids), ids


def _key(ids: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def reads(workspace: Workspace) -> pd.DataFrame:
    """One row a test set, the most read first. What read any of its faces counts, of whatever set or version it was a reading. From files alone;
    versions whose files cannot be read are left out.

    Columns: test_set (hash), faces, versions, reads (by runs of any state, also by one that was killed after it), own (of these, readings of this
    very set), first, last (ISO times, "" for none), runs (ids), shared (of each other set that has faces of this one: test_set, versions, how many
    faces, and own), trained (where runs were trained on or stopped by faces of this set: version_id, part of it, how many faces, runs).
    """
    held, runs, sets = _held(workspace), list_runs(workspace.runs), dict[str, _Set]()  # runs: the newest first
    for version_id, rows in held.items():
        test = rows[rows["split"] == "test"]
        if len(test):
            sets.setdefault(_key(test["sample_id"]), _Set([], test["face"])).versions.append(version_id)
    readings, pools = [r for run in runs for r in _readings(workspace, run, held)], _pools(runs, held)
    out = list[dict[str, Any]]()
    for key, one in sets.items():
        met = [r for r in readings if one.faces.isin(r.faces).any()]
        out.append({"test_set": key, "faces": len(one.faces), "versions": one.versions, "reads": sum(r.times for r in met),
                    "own": sum(r.times for r in met if r.version_id in one.versions), "first": min((r.at for r in met if r.at), default=""),
                    "last": max((r.at for r in met), default=""), "runs": list(dict.fromkeys(r.run_id for r in met)),
                    "trained": [{"version_id": version_id, "part": part, "faces": n, "runs": ids}
                                for (version_id, part), (faces, ids) in pools.items() if (n := int(one.faces.isin(faces).sum()))]})
    for row in out:
        row["shared"] = [{**{name: other[name] for name in ("test_set", "versions", "own")}, "faces": n} for other in out if other is not row
                         and (n := int(sets[row["test_set"]].faces.isin(sets[other["test_set"]].faces).sum()))]
    found = pd.DataFrame(out, columns=["test_set", "faces", "versions", "reads", "own", "first", "last", "runs", "shared", "trained"])
    return found.sort_values(["reads", "test_set"], ascending=[False, True], ignore_index=True)


def _held(workspace: Workspace) -> dict[str, pd.DataFrame]:
    """What each version includes: sample_id, split, and face, a number that identical images have in common over all versions."""
    held = dict[str, pd.DataFrame]()
    for version in files.listed(workspace):
        try:
            rows = rows_of(workspace, version["version_id"], "sample_id", "image_id", "split", "exclusion")
        except (FerError, OSError, ValueError):  # the version says itself what is wrong; pyarrow's errors are ValueErrors
            continue
        held[version["version_id"]] = rows[rows["exclusion"] == ""]
    number = pd.factorize(pd.concat([rows["image_id"] for rows in held.values()]))[0] if held else []
    ends = np.cumsum([len(rows) for rows in held.values()])
    return {name: rows.assign(face=part) for (name, rows), part in zip(held.items(), np.split(number, ends[:-1]), strict=True)} if held else {}


def _readings(workspace: Workspace, run: Run, held: Mapping[str, pd.DataFrame]) -> Iterator[_Reading]:
    """The reading at the end of a run's training, and those of its scorings on other versions."""
    if run.config and run.status.test_reads and (rows := held.get(run.config.version_id)) is not None:
        faces = rows.loc[rows["split"] == "test", "face"]
        yield _Reading(run.run_id, run.config.version_id, run.status.test_reads, run.status.finished_at or "", faces)
    for version_id, facts in scored_on(workspace, run.run_id).items():
        if (rows := held.get(version_id)) is not None:
            judged = rows["sample_id"].isin(scored_faces(workspace, run.run_id, version_id))
            yield _Reading(run.run_id, version_id, facts["test_reads"], facts["at"], rows.loc[judged, "face"])


def _pools(runs: Sequence[Run], held: Mapping[str, pd.DataFrame]) -> dict[tuple[str, str], tuple["pd.Series[int]", list[str]]]:
    """(version, part of it) -> (faces that runs were trained on or stopped by there, these runs)."""
    pools = dict[tuple[str, str], tuple["pd.Series[int]", list[str]]]()
    for run in runs:
        if run.config and run.status.started_at and (rows := held.get(run.config.version_id)) is not None:
            leaky = run.config.protocol == "leaky"
            part = "every split" if leaky else "folds" if run.config.folds else "train or val"
            faces = rows.loc[leaky | (rows["split"] != "test"), "face"]
            pools.setdefault((run.config.version_id, part), (faces, []))[1].append(run.run_id)
    return pools


def told(sets: pd.DataFrame) -> pd.DataFrame:
    """What `reads` gives, in words, for a table."""
    shared = [[f"{s['faces']:,} with {', '.join(s['versions'])}, itself read {many(s['own'], 'time')}" for s in row] for row in sets["shared"]]
    trained = [[f"{t['faces']:,} in {t['part']} of {t['version_id']} by {many(len(t['runs']), 'run')}" for t in row] for row in sets["trained"]]
    return pd.DataFrame({"test set": sets["test_set"].str[:12], "faces": sets["faces"], "versions": sets["versions"].map(", ".join),
                         "reads": sets["reads"], "of this very set": sets["own"],
                         **{f"{end} read (UTC)": sets[end].str[:16].str.replace("T", " ").replace("", "never") for end in ("first", "last")},
                         "faces in other test sets": ["; ".join(s) or "none" for s in shared],
                         "faces also trained on": ["; ".join(s) or "none" for s in trained]})


def many(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


def times_read(workspace: Workspace, version_id: str, sets: pd.DataFrame | None = None) -> int:
    """How often any test face of a version was read; 0 where it has none. Args: sets: as `reads` gives them, where they are known."""
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
