"""One run examined: every table of the bias report, from files alone, the same again each time."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fercore.bias.association import Association, association
from fercore.bias.compare import BeforeAfter, before_after
from fercore.bias.inference import Contrast, GroupTest, Parity, contrasts, group_tests, parity
from fercore.bias.power import Need, needs
from fercore.bias.report import MINIMUM, BiasTable, grouped, table_of
from fercore.bias.saved import names, saved
from fercore.bias.slices import CROSS, SAVED, TAGS, full, with_saved
from fercore.domain import Workspace
from fercore.errors import BadInput, Conflict
from fercore.evaluation.estimate import to_json
from fercore.evaluation.read import classes_of, predictions
from fercore.versions import files

_ABOUT = ["sample_id", "image_id", "source_id", "duplicate_group", "label", "split", "age_band", "gender", "mean"]


@dataclass(frozen=True)
class Scope:
    """What the figures stand on.

    Attributes:
        tested: predicted faces that no model which predicts them was trained on: all figures are about these. tagged: those of them with a tag.
        trained_on: predicted faces left out, as the model knew them. tags_left_out: tagged faces of the version without a prediction that counts,
            by why (see `left_out`).
        tags_of: the version whose tags are used; retagged, relabelled: faces whose tags differ from, or that are left out for another label than
            in, the run's own version.
        saved: name -> SHA-256 of the members of each saved filter in use.
    """

    run_id: str
    model: str
    protocol: str
    folds: int
    seed: int
    version_id: str
    manifest_sha256: str
    predictions_sha256: str
    code_version: str
    exploratory: bool
    synthetic: bool
    tested: int
    tagged: int
    trained_on: int
    tags_left_out: dict[str, int]
    tags_of: str
    retagged: int
    relabelled: int
    saved: dict[str, str]


@dataclass(frozen=True)
class Examination:
    """Every table; `change` is that against an earlier run, on the same faces."""

    scope: Scope
    classes: list[str]
    by: list[str]
    minimum: int
    table: BiasTable
    tests: list[GroupTest]
    contrasts: list[Contrast]
    parity: list[Parity]
    association: list[Association]
    needs: list[Need]
    change: BeforeAfter | None
    against: Scope | None
    trained_on_by_other: int

    @property
    def bare(self) -> list[str]:
        """Attributes asked for of which no tested face has the tag."""
        known = {row.attribute for row in self.table.rows if row.kind == "group" and row.n}
        return [a for a in self.by if a not in known and any(part in TAGS for part in a.split(CROSS))]

    @property
    def untagged(self) -> bool:
        """No tested face has a tag that was asked for, and nothing else was: there is nothing to compare, only faces to tag."""
        return self.bare == self.by

    def records(self) -> dict[str, Any]:
        """As JSON values without NaN."""
        return dict(to_json(self))


def examine(workspace: Workspace, run_id: str, by: Sequence[str] = ("age_band", "gender"), minimum: int = MINIMUM, *, against: str | None = None,
            declared: tuple[str, str, str] | None = None, tags_of: str | None = None) -> Examination:
    """Everything about a run.

    Args:
        against: an earlier run, compared on the faces that neither run was trained on.
        declared: (attribute, group, group), a contrast chosen before looking, tested alone.
        tags_of: a version whose tags to use, frozen after more faces were tagged; default: the run's own.

    Raises:
        NotFound, Conflict, BadInput: as `evaluation.predictions`. BadInput: an attribute is unknown, or no face is left.
        Conflict: the runs have different classes.
    """
    by = list(dict.fromkeys(full(name) for name in by))
    if declared:
        declared = (full(declared[0]), *declared[1:])
        by += [declared[0]] * (declared[0] not in by)
    scope, frame, rows = _read(workspace, run_id, by, tags_of)
    classes = classes_of(frame)
    found = grouped(frame, classes, by, minimum)
    change, earlier, others = None, None, 0
    if against:
        (earlier, before), (_, after), others = pair(workspace, against, run_id, by, tags_of)
        change = before_after(before, after, classes, by, minimum)
    return Examination(scope, classes, by, minimum, table_of(found), group_tests(found), contrasts(found, declared), parity(found),
                       association(rows, classes, by, minimum), needs(found), change, earlier, others)


def pair(workspace: Workspace, before_id: str, after_id: str, by: Sequence[str] = (),
         tags_of: str | None = None) -> tuple[tuple[Scope, pd.DataFrame], tuple[Scope, pd.DataFrame], int]:
    """Both runs' predictions of faces that neither was trained on, and how many tested faces of the first the second was trained on.

    Raises: as `examine`.
    """
    before, old, old_rows = _read(workspace, before_id, by, tags_of)
    after, new, new_rows = _read(workspace, after_id, by, tags_of)
    if classes_of(old) != classes_of(new):
        raise Conflict("Runs of different classes", f"{before_id} knows {', '.join(classes_of(old))}; {after_id} knows {', '.join(classes_of(new))}",
                       "Compare runs on versions of one scheme")
    others = int(old["image_id"].isin(_trained(after, new_rows)).sum())
    return (before, _unknown_to(old, after, new_rows, old_rows)), (after, _unknown_to(new, before, old_rows, new_rows)), others


def unseen(workspace: Workspace, run_id: str, by: Sequence[str] = (), tags_of: str | None = None) -> pd.DataFrame:
    """The predictions that all figures are about (see `Scope.tested`), with a column for each saved filter of `by`. Raises: as `examine`."""
    return _read(workspace, run_id, by, tags_of)[1]


def left_out(workspace: Workspace, run_id: str, tags_of: str | None = None) -> pd.DataFrame:
    """Tagged faces of the run's version that are in no bias test: sample_id, split, age_band, gender, why. Raises: as `examine`."""
    _, frame, rows = _read(workspace, run_id, (), tags_of)
    return _left_out(_config(workspace, run_id), rows, frame)


def _read(workspace: Workspace, run_id: str, by: Sequence[str], tags_of: str | None) -> tuple[Scope, pd.DataFrame, pd.DataFrame]:
    """(scope, tested faces, included rows of the version); tags of both are those of `tags_of`."""
    everything = predictions(workspace, run_id)
    config, path = _config(workspace, run_id), workspace.runs / run_id / "predictions.parquet"
    unseen = everything["out_of_fold"].to_numpy(dtype=bool)
    frame, rows, retagged, relabelled = everything[unseen].reset_index(drop=True), _rows(workspace, config["version_id"]), 0, 0
    if tags_of and tags_of != config["version_id"]:
        frame, retagged, relabelled = _retagged(frame, _rows(workspace, tags_of))
        rows, _, _ = _retagged(rows, _rows(workspace, tags_of))
    asked = {part.removeprefix(SAVED) for attribute in by for part in attribute.split(CROSS) if part.startswith(SAVED)}
    if unknown := sorted(asked - set(there := names(workspace))):
        raise BadInput("No such filter", f"{unknown[0]!r} is not saved in this workspace",
                       f"Saved are: {', '.join(there)}" if there else "Save one on the Explore page")
    ids = {name: saved(workspace, name).sample_ids for name in sorted(asked)}
    frame, rows = with_saved(frame, ids), with_saved(rows, ids)
    tagged = int(frame[list(TAGS)].notna().any(axis=1).sum())
    if frame.empty:
        raise BadInput("No face to test", f"{run_id} predicts {len(everything):,} faces, and was trained on all of them or has none",
                       "Use a run with test or out-of-fold predictions")
    out = _left_out(config, rows, frame)
    scope = Scope(run_id, config["model"], config["protocol"], config["folds"], config["seed"], config["version_id"], config["manifest_sha256"],
                  hashlib.sha256(path.read_bytes()).hexdigest(), config["code_version"] or "not recorded", bool(config.get("exploratory")),
                  (workspace.root / "demo.json").is_file(), len(frame), tagged, int((~unseen).sum()),
                  {str(k): int(v) for k, v in out["why"].value_counts().items()}, tags_of or config["version_id"], retagged, relabelled,
                  {name: hashlib.sha256("\n".join(i).encode()).hexdigest() for name, i in ids.items()})
    return scope, frame, rows


def _left_out(config: dict[str, Any], rows: pd.DataFrame, tested: pd.DataFrame) -> pd.DataFrame:
    tagged = rows[rows[list(TAGS)].notna().any(axis=1) & ~rows["sample_id"].isin(tested["sample_id"])]
    told = ({"test": "test was not read"} if config["folds"] else {}) | {"val": "used to choose the model"}
    leaky = config["protocol"] == "leaky"  # it drew its own parts, whatever the split of the version
    why = "not in the leaky run's own test rows, or known to its model" if leaky else tagged["split"].map(told).fillna("trained on")
    return tagged[["sample_id", "split", *TAGS]].assign(why=why)


def _rows(workspace: Workspace, version_id: str) -> pd.DataFrame:
    rows = files.manifest(workspace, version_id)
    return rows.loc[rows["exclusion"].isna(), _ABOUT].reset_index(drop=True)


def _retagged(frame: pd.DataFrame, rows: pd.DataFrame) -> tuple[pd.DataFrame, int, int]:
    """(faces with the tags of `rows`, how many tags changed, how many faces are left out as their label did). A face that is not in `rows` keeps
    its tags."""
    other = rows.drop_duplicates("image_id").set_index("image_id").reindex(frame["image_id"])
    here = other["label"].notna().to_numpy()
    same = ~here | (other["label"].to_numpy() == frame["label"].to_numpy())
    tags = {t: frame[t].where(~here, other[t].to_numpy()) for t in TAGS}
    changed = pd.concat([tags[t].fillna("") != frame[t].fillna("") for t in TAGS], axis=1).any(axis=1)
    return frame.assign(**tags)[same].reset_index(drop=True), int((changed & same).sum()), int((~same).sum())


def _trained(scope: Scope, rows: pd.DataFrame) -> set[str]:
    """Images that a run knew before it predicted; none of a k-fold run, whose predictions are out of fold."""
    return set() if scope.folds else set(rows.loc[rows["split"] != "test", "image_id"])


def _unknown_to(frame: pd.DataFrame, other: Scope, other_rows: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Faces of which neither the image nor a duplicate by the rule of the own version was trained on in the other run."""
    known = _trained(other, other_rows)
    groups = set(rows.loc[rows["image_id"].isin(known), "duplicate_group"])
    return frame[~(frame["image_id"].isin(known) | frame["duplicate_group"].isin(groups))]


def _config(workspace: Workspace, run_id: str) -> dict[str, Any]:
    try:
        read = dict(json.loads((workspace.runs / run_id / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise BadInput("The run cannot be read", f"{run_id}: {error}", "List the runs with: fercore runs") from error
    return {"folds": 0, "seed": 0, "model": "", "protocol": "", "code_version": ""} | read
