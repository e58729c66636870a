"""How often the faces of each test set were read and where they were trained on, and who changed labels on them."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fercore.domain import Permission, Person, Workspace
from fercore.errors import BadInput, FerError, NotFound
from fercore.evaluation.read import predicted_faces, scored_faces, scoring_facts, scorings_in
from fercore.schemes import SCHEMES
from fercore.store import Store, labels
from fercore.store import versions as version_table
from fercore.training.rundir import Run, list_runs
from fercore.versions import files
from fercore.versions.rows import rows_of

Faces = npt.NDArray[np.int64]  # each once: numbers that identical images have in common


@dataclass(frozen=True)
class Ledger:
    """How often the faces of each test set were read.

    Attributes:
        sets: one row a test set, the most read first. What read any of its faces counts, of whatever set or version it was a reading. Columns:
            test_set (hash), faces (identical images count once), versions, reads (by runs of any state, also by one that was killed after it),
            own (of these, readings of this very set), first, last (ISO times, "" for none), runs (ids), shared (of each other set that has faces of
            this one: test_set, versions, how many faces, and own), trained (where runs were trained on or stopped by faces of this set: version_id,
            part of it, how many faces, runs).
        versions: those that were looked at.
        left_out: versions that cannot be read, or are still being built.
        lost: what could not be read and so is not counted: runs, and scorings as "RUN on VERSION".
        gone: runs that were trained on versions that were not looked at.
    """

    sets: pd.DataFrame
    versions: list[str]
    left_out: list[str]
    lost: list[str]
    gone: list[str]

    def of(self, version_id: str) -> pd.DataFrame:
        """The row of a version's test set; none where it has no test faces. Raises: NotFound: the version was not looked at."""
        if version_id not in self.versions:
            raise NotFound("Version not in the ledger", f"The files of {version_id} are not here, cannot be read, or have no state.json yet",
                           f"See what is wrong with it: fercore version verify {version_id}")
        return self.sets[self.sets["versions"].map(lambda ids: version_id in ids)]

    def times_read(self, version_id: str) -> int | None:
        """How often any test face of a version was read; None where the version was not looked at."""
        return int(self.of(version_id)["reads"].sum()) if version_id in self.versions else None

    def told_reads(self, version_id: str) -> str:
        """The same in words, for a line on what the figures of a run stand on."""
        n = self.times_read(version_id)
        return ("how often its faces were read is not known, as the version is gone or cannot be read" if n is None
                else f"its faces were read {'at least ' * bool(self.lost)}{many(n, 'time')}")

    def gaps(self) -> list[str]:
        """What the figures do not cover, in sentences."""
        told = ((self.lost, f"{len(self.lost):,} of the runs and scorings could not be read and so {_be(self.lost)} not counted"),
                (self.gone, f"{many(len(self.gone), 'run')} on versions that are gone or cannot be read {_be(self.gone)} not looked at for "
                            "faces also trained on"),
                (self.left_out, f"{many(len(self.left_out), 'version')} {_be(self.left_out)} left out (not readable, or still being built)"))
        return [f"{text}: {', '.join(names)}." for names, text in told if names]


@dataclass(frozen=True)
class _Set:
    """The test faces that some versions share."""

    versions: list[str]
    faces: Faces


@dataclass(frozen=True)
class _Reading:
    """Faces that a run was judged by."""

    run_id: str
    version_id: str
    times: int
    at: str
    faces: Faces


def test_set(workspace: Workspace, version_id: str) -> tuple[str, list[str]]:
    """(SHA-256 over the sorted sample ids of the test split, these ids): the same for every version with the same test faces.

    Raises:
        NotFound: no such version. BadInput: it has no test faces, or cannot be read.
    """
    rows = _rows(workspace, version_id, "sample_id", "split", "exclusion")
    ids = sorted(rows.loc[(rows["exclusion"] == "") & (rows["split"] == "test"), "sample_id"])
    if not ids:
        raise BadInput("No test faces", f"{version_id} has none", "Choose a version with a test split")
    return _key(ids), ids


def _rows(workspace: Workspace, version_id: str, *columns: str) -> pd.DataFrame:
    """Raises: NotFound. BadInput: the files cannot be read."""
    try:
        return rows_of(workspace, version_id, *columns)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise BadInput("The version cannot be read", f"{version_id}: {error}", "Restore it from a backup") from error


def _key(ids: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def reads(workspace: Workspace) -> Ledger:
    """From files alone; one that cannot be read hides no other, and is named."""
    held, runs, sets = _held(workspace), list_runs(workspace.runs), dict[str, _Set]()  # runs: the newest first
    for version_id, rows in held.items():
        test = rows[rows["split"] == "test"]
        if len(test):
            sets.setdefault(_key(test["sample_id"]), _Set([], test["face"].unique())).versions.append(version_id)
    lost = list[str]()
    readings, pools = [r for run in runs for r in _readings(workspace, run, held, lost)], _pools(runs, held)
    out = list[dict[str, Any]]()
    for key, one in sets.items():
        met = [r for r in readings if _common(one.faces, r.faces)]
        out.append({"test_set": key, "faces": len(one.faces), "versions": one.versions, "reads": sum(r.times for r in met),
                    "own": sum(r.times for r in met if r.version_id in one.versions), "first": min((r.at for r in met if r.at), default=""),
                    "last": max((r.at for r in met), default=""), "runs": list(dict.fromkeys(r.run_id for r in met)),
                    "trained": [{"version_id": version_id, "part": part, "faces": n, "runs": ids}
                                for (version_id, part), (faces, ids) in pools.items() if (n := _common(one.faces, faces))]})
    for row in out:
        row["shared"] = [{**{name: other[name] for name in ("test_set", "versions", "own")}, "faces": n} for other in out if other is not row
                         and (n := _common(sets[row["test_set"]].faces, sets[other["test_set"]].faces))]
    found = pd.DataFrame(out, columns=["test_set", "faces", "versions", "reads", "own", "first", "last", "runs", "shared", "trained"])
    return Ledger(found.sort_values(["reads", "test_set"], ascending=[False, True], ignore_index=True), list(held),
                  [name for name in files.strangers(workspace, held) if name[0] != "."], lost,
                  [run.run_id for run in runs if run.config and _trained(run) and run.config.version_id not in held])


def _common(some: Faces, others: Faces) -> int:
    return len(np.intersect1d(some, others, assume_unique=True))


def _held(workspace: Workspace) -> dict[str, pd.DataFrame]:
    """What each version includes: sample_id, split, and face, a number that identical images have in common over all versions."""
    held = dict[str, pd.DataFrame]()
    for version in files.listed(workspace):
        try:
            rows = _rows(workspace, version["version_id"], "sample_id", "image_id", "split", "exclusion")
        except FerError:  # the version says itself what is wrong
            continue
        held[version["version_id"]] = rows[rows["exclusion"] == ""]
    number = pd.factorize(pd.concat([rows["image_id"] for rows in held.values()]))[0] if held else []
    ends = np.cumsum([len(rows) for rows in held.values()])
    return {name: rows.assign(face=part) for (name, rows), part in zip(held.items(), np.split(number, ends[:-1]), strict=True)} if held else {}


def _readings(workspace: Workspace, run: Run, held: Mapping[str, pd.DataFrame], lost: list[str]) -> Iterator[_Reading]:
    """The reading at the end of a run's training, and those of its scorings on other versions; what cannot be read comes into `lost`."""
    if not run.config:
        lost.append(run.run_id)
    elif run.status.test_reads:
        version_id = run.config.version_id
        try:
            faces = (held[version_id].loc[held[version_id]["split"] == "test", "face"].unique() if version_id in held
                     else _faces(held, version_id, predicted_faces(workspace, run.run_id)))
            yield _Reading(run.run_id, version_id, run.status.test_reads, run.status.finished_at or "", faces)
        except FerError:
            lost.append(run.run_id)
    for path in scorings_in(workspace, run.run_id):
        try:
            facts, judged = scoring_facts(path), scored_faces(path)
            yield _Reading(run.run_id, path.stem, facts["test_reads"], facts["at"], _faces(held, path.stem, judged))
        except FerError:
            lost.append(f"{run.run_id} on {path.stem}")


def _faces(held: Mapping[str, pd.DataFrame], version_id: str, sample_ids: "pd.Series[str]") -> Faces:
    """The faces of samples of a version; where it is gone, those that other versions hold too."""
    among = [held[version_id]] if version_id in held else held.values()
    found = [rows.loc[rows["sample_id"].isin(sample_ids), "face"] for rows in among]
    return pd.concat(found).unique() if found else np.empty(0, np.int64)


def _trained(run: Run) -> bool:
    """Whether a run has met faces in training; an ensemble only asks its members, which are runs themselves."""
    return bool(run.config and run.config.protocol != "ensemble" and run.status.started_at)


def _pools(runs: Sequence[Run], held: Mapping[str, pd.DataFrame]) -> dict[tuple[str, str], tuple[Faces, list[str]]]:
    """(version, part of it) -> (faces that runs were trained on or stopped by there, these runs)."""
    pools = dict[tuple[str, str], tuple[Faces, list[str]]]()
    for run in runs:
        if run.config and _trained(run) and (rows := held.get(run.config.version_id)) is not None:
            leaky = run.config.protocol == "leaky"
            part = "every split" if leaky else "folds" if run.config.folds else "train or val"
            faces = rows.loc[leaky | (rows["split"] != "test"), "face"].unique()
            pools.setdefault((run.config.version_id, part), (faces, []))[1].append(run.run_id)
    return pools


def told(sets: pd.DataFrame) -> pd.DataFrame:
    """The sets of a ledger in words, for a table."""
    shared = [[f"{s['faces']:,} with {', '.join(s['versions'])}, itself read {many(s['own'], 'time')}" for s in row] for row in sets["shared"]]
    trained = [[f"{t['faces']:,} in {t['part']} of {t['version_id']} by {many(len(t['runs']), 'run')}" for t in row] for row in sets["trained"]]
    return pd.DataFrame({"test set": sets["test_set"].str[:12], "faces": sets["faces"], "versions": sets["versions"].map(", ".join),
                         "reads": sets["reads"], "of this very set": sets["own"],
                         **{f"{end} read (UTC)": sets[end].str[:16].str.replace("T", " ").replace("", "never") for end in ("first", "last")},
                         "faces in other test sets": ["; ".join(s) or "none" for s in shared],
                         "faces also trained on": ["; ".join(s) or "none" for s in trained]})


def many(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


def _be(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


@dataclass(frozen=True)
class Edits:
    """What happened to the labels of a version's test faces.

    Attributes:
        rows: of its test split; identical images count each.
        since: the earlier version that is compared with; "" for the given labels, as the recipe's map names them.
        rule: how the version takes its labels.
        changed: test faces whose label is another one: sample_id, image_id, before, after.
        acts: what people did on the test faces, by day, person and way: day, person, role, field, round, mode, acts, faces, standing (not undone);
            from when the earlier version was frozen until this one was.
    """

    version_id: str
    since: str
    test_set: str
    rows: int
    rule: str
    changed: pd.DataFrame
    acts: pd.DataFrame


def edits(store: Store, actor: Person, version_id: str, since: str = "") -> Edits:
    """Raises: NotAllowed. NotFound: no such version. BadInput: it has no test faces, or cannot be read."""
    actor.require(Permission.READ_RESULTS)
    key, ids = test_set(store.workspace, version_id)
    card = files.card(store.workspace, version_id)
    taken = card["recipe"].get("labels") or {}
    rows = _rows(store.workspace, version_id, "sample_id", "image_id", "given_label", "label").set_index("sample_id", drop=False).loc[ids]
    if since:
        earlier = _rows(store.workspace, since, "sample_id", "label", "exclusion").set_index("sample_id")
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
