"""The predictions of a finished run, on its own version or another, joined with what its version knows about each face."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from fercore.domain import Workspace
from fercore.errors import BadInput, Conflict, FerError, NotFound
from fercore.training.rundir import read_status, remedy

_ABOUT = ["sample_id", "image_id", "source_id", "duplicate_group", "label", "split", "age_band", "gender", "flags", "mean"]
_MADE = ["sample_id", "fold", "split", "label", "predicted", "probabilities", "out_of_fold"]


def predictions(workspace: Workspace, run_id: str, on: str | None = None) -> pd.DataFrame:
    """One row a predicted face, ordered by sample_id.

    Columns: sample_id, image_id, source_id, duplicate_group, label, predicted, correct (bool), confidence (probability of the
    predicted class, 0-1), p_<class id> in class order (float32, 0-1), split, fold, out_of_fold (bool), age_band, gender
    (null when not tagged), flags, mean (0-255).

    Args:
        on: another version that the run was scored on (see `fercore.evaluation.scoring`); only faces the run has not seen.

    Raises:
        NotFound: the run, or its version, is not in the workspace, or it was not scored on `on`.
        Conflict: the run is not finished, or the version is not the one it was trained on or scored on.
        BadInput: a file cannot be read, or the rows do not match the version's one to one.
    """
    run = workspace.runs / run_id
    if Path(run_id).name != run_id or not (run / "config.json").is_file():
        raise NotFound("Unknown run", f"{run_id!r} is not in this workspace", "List the runs with: fercore runs")
    config, state = _json(run / "config.json"), read_status(run).state
    if state != "finished":
        raise Conflict("Run not finished", f"{run_id} is {state}", remedy(run_id, state))
    if on not in (None, config["version_id"]):
        return _scored(workspace, run_id, str(on))
    directory = workspace.versions / str(config["version_id"])
    if not (directory / "version.json").is_file():
        raise NotFound("Version missing", f"{run_id} was trained on {config['version_id']}, which is not in this workspace",
                       "Restore the version, or train again")
    if _json(directory / "version.json")["manifest_sha256"] != config["manifest_sha256"]:
        raise Conflict("Version changed", f"{run_id} was trained on another manifest than {config['version_id']} has now",
                       "Verify the version: fercore version verify V")
    included, classes = version_rows(workspace, directory.name)
    return _join(_parquet(run / "predictions.parquet", _MADE), included, classes, whole=config.get("protocol") != "leaky")


def scored_path(workspace: Workspace, run_id: str, version_id: str) -> Path:
    """Where the predictions of a run on another version lie."""
    return workspace.runs / run_id / "evaluations" / f"{version_id}.parquet"


def scored_on(workspace: Workspace, run_id: str) -> dict[str, dict[str, Any]]:
    """What a run was scored on besides its own version: version id -> facts of the scoring (see `scoring.Scoring`), by name."""
    return {path.stem: scoring_facts(path) for path in scorings_in(workspace, run_id)}


def scorings_in(workspace: Workspace, run_id: str) -> list[Path]:
    """The files of a run's scorings on other versions, each named after its version."""
    return sorted((workspace.runs / run_id / "evaluations").glob("[!.]*.parquet"))


def scored_faces(path: Path) -> "pd.Series[str]":
    """Sample ids of the faces that a run was judged by in a scoring. Raises: BadInput."""
    made = _parquet(path, ["sample_id", "out_of_fold"])
    found: pd.Series[str] = made.loc[made["out_of_fold"], "sample_id"]
    return found


def predicted_faces(workspace: Workspace, run_id: str) -> "pd.Series[str]":
    """Sample ids of the faces that a run was judged by when its training had ended. Raises: BadInput."""
    found: pd.Series[str] = _parquet(workspace.runs / run_id / "predictions.parquet", ["sample_id"])["sample_id"]
    return found


def scoring_facts(path: Path) -> dict[str, Any]:
    """What a scoring says of itself (see `scoring.Scoring`). Raises: BadInput."""
    try:
        return dict(json.loads((pq.read_schema(path).metadata or {})[b"fercore"]))
    except (OSError, ValueError, KeyError, TypeError) as error:  # pyarrow's errors are ValueErrors
        raise BadInput("File cannot be read", f"{path}: {error}", "Delete it, and score the run on the version again") from error


def _scored(workspace: Workspace, run_id: str, version_id: str) -> pd.DataFrame:
    path = scored_path(workspace, run_id, version_id)
    if path.parent.parent.name != run_id or path.name != f"{version_id}.parquet" or not path.is_file():
        raise NotFound("Not scored on this version", f"{run_id} has no predictions on {version_id}",
                       f"Score it: fercore evaluate {run_id} --version {version_id}")
    included, classes = version_rows(workspace, version_id)
    if _json(workspace.versions / version_id / "version.json")["manifest_sha256"] != scoring_facts(path)["manifest_sha256"]:
        raise Conflict("Version changed", f"{run_id} was scored on another manifest than {version_id} has now",
                       f"Score it again: fercore evaluate {run_id} --version {version_id}")
    made = _parquet(path, _MADE)
    return _join(made[made["out_of_fold"]], included, classes, whole=False)


def version_rows(workspace: Workspace, version_id: str, more: Sequence[str] = ()) -> tuple[pd.DataFrame, list[str]]:
    """(rows a version includes, with columns _ABOUT and those of `more` that it has; its class ids). Raises: NotFound, BadInput."""
    directory = workspace.versions / version_id
    if Path(version_id).name != version_id or not (directory / "version.json").is_file():
        raise NotFound("Unknown version", f"{version_id!r} is not in this workspace", "List them with fercore version list")
    path = directory / "manifest.parquet"
    try:
        there = pq.read_schema(path).names
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise BadInput("File cannot be read", f"{path}: {error}", "Restore it from a backup") from error
    manifest = _parquet(path, [*_ABOUT, "exclusion", *(c for c in more if c in there)])
    return manifest[manifest["exclusion"].isna()].drop(columns="exclusion"), list(_json(directory / "version.json")["classes"])


def labels_of(workspace: Workspace, version_id: str) -> "pd.Series[str]":
    """Label by sample_id of every row a version includes. Raises: NotFound, BadInput."""
    rows, _ = version_rows(workspace, version_id)
    return rows.set_index("sample_id")["label"]


def classes_of(frame: pd.DataFrame) -> list[str]:
    """The class ids of a frame of predictions, in class order."""
    return [c.removeprefix("p_") for c in frame.columns if c.startswith("p_")]


def require_unseen(frame: pd.DataFrame) -> None:
    """Raises: FerError: some faces (or their duplicates) were trained on by the model that predicts them."""
    seen = int((~frame["out_of_fold"].to_numpy(dtype=bool)).sum())
    if seen:
        raise FerError("Predictions on trained faces", f"{seen:,} of {len(frame):,} faces, or duplicates of them, were "
                       "trained on by the model that predicts them (honesty rule 4)", "Use test or out-of-fold predictions only")


def require_faces(frame: pd.DataFrame, run_id: str) -> pd.DataFrame:
    """The frame. Raises: BadInput: it has no rows."""
    if frame.empty:
        raise BadInput("No face to judge this run by", f"{run_id} has no prediction", "Train again on a version with val or test faces")
    return frame


def marks(workspace: Workspace, run_id: str) -> list[str]:
    """What must stand beside every figure of a run: leaky, exploratory, synthetic; empty for none of these. Raises: BadInput."""
    config = _json(workspace.runs / run_id / "config.json")
    return [text for text, told in (("leaky, for comparison only", config.get("protocol") == "leaky"),
                                    ("exploratory: the version was not approved", config.get("exploratory")),
                                    ("synthetic demo faces", (workspace.root / "demo.json").is_file())) if told]


def require_clean(workspace: Workspace, run_ids: Iterable[str]) -> None:
    """Raises: BadInput: one of these runs is leaky, and a comparison would take its figures for clean ones. NotFound: it is not here."""
    for run_id in run_ids:
        if not (path := workspace.runs / run_id / "config.json").is_file():
            raise NotFound("Unknown run", f"{run_id!r} is not in this workspace", "List the runs with: fercore runs")
        if _json(path).get("protocol") == "leaky":
            raise BadInput("A leaky run is no match for others", f"{run_id} balanced before it split: its test rows have copies in training",
                           f"Leave it out; what leaking did: fercore leak {run_id} --against CLEAN_RUN")


def _join(made: pd.DataFrame, included: pd.DataFrame, classes: list[str], whole: bool = True) -> pd.DataFrame:
    """`whole`: every row of the splits that occur must be predicted; a leaky run makes a test part of its own from all of them, and a run is
    not judged by faces of another version that it has seen."""
    joined = made.merge(included, on="sample_id", how="left", suffixes=("", "_manifest"), indicator=True)
    expected = included["split"].isin(joined["split_manifest"].dropna().unique()).sum()
    problems = {"are predicted twice": int(joined["sample_id"].duplicated().sum()),
                "are not in the version": int((joined["_merge"] != "both").sum()),
                "have another label than in the version": int((joined["label"] != joined["label_manifest"]).sum()),
                "are predicted as no class of the version": int((~made["predicted"].isin(classes)).sum()),
                "of the splits used have no prediction": int(expected - made["sample_id"].nunique()) if whole else 0,
                "have no probability for each class": int((made["probabilities"].map(len) != len(classes)).sum())}
    for problem, n in problems.items():
        if n:
            raise BadInput("Predictions do not match the version", f"{n:,} faces {problem}", "Train again on this version")
    p = np.stack(list(made["probabilities"])) if len(made) else np.zeros((0, len(classes)), dtype=np.float32)
    if not (np.isfinite(p).all() and (p >= 0).all() and np.allclose(p.sum(axis=1), 1, atol=1e-3)):
        raise BadInput("Predictions are not probabilities", "Some rows are negative or do not sum to 1", "Train again")
    index = pd.Index(classes).get_indexer(pd.Index(made["predicted"]))
    joined = joined.assign(correct=joined["label"] == joined["predicted"], confidence=p[np.arange(len(p)), index],
                           **{f"p_{c}": p[:, i] for i, c in enumerate(classes)})
    columns = ["sample_id", "image_id", "source_id", "duplicate_group", "label", "predicted", "correct", "confidence",
               *(f"p_{c}" for c in classes), "split", "fold", "out_of_fold", "age_band", "gender", "flags", "mean"]
    return joined[columns].sort_values("sample_id", ignore_index=True)


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise BadInput("File cannot be read", f"{path}: {error}", "Restore it from a backup, or train again") from error


def _parquet(path: Path, columns: list[str]) -> pd.DataFrame:
    try:
        return pd.read_parquet(path, columns=columns)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise BadInput("File cannot be read", f"{path}: {error}", "Restore it from a backup, or train again") from error
