"""Test faces that a model has met in training, and what they do to an accuracy.

`leak` explains a run whose protocol leaks by design ("balance, then split"); `leaks` looks for faces that crossed a split although none should.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from fercore.domain import Workspace
from fercore.errors import BadInput, NotFound
from fercore.evaluation.estimate import Estimate, Masks, codes, difference, proportion, wilson
from fercore.evaluation.metrics import accuracy
from fercore.evaluation.read import predictions, require_faces
from fercore.training.rundir import read_config
from fercore.versions.files import card
from fercore.versions.rows import rows_of

KINDS = {"exact": "the very pixels", "near": "a near duplicate", "derivative": "an edited copy, or what it was made from"}
NEAR_UNKNOWN = "near duplicates not known: run fercore audit"
_ROWS = ("sample_id", "image_id", "pixel_id", "duplicate_group", "split", "exclusion", "label")


@dataclass(frozen=True)
class Leak:
    """A leaky run explained. Shares are 0-1 with 95 % Wilson intervals over test rows, in which copies count as the published systems counted them.

    Attributes:
        leaky: accuracy over every row of the leaky test part.
        clean: accuracy of the clean run, over its own test or out-of-fold faces; without one, of this run's test faces that were not trained on.
        clean_from: the clean run, or None.
        copied: share of the test rows whose very pixels were trained on; `copied_by_class` by class.
        on_copied, on_made, on_fresh: accuracy over those rows, over faces that balancing made, and over the rest.
        predicted: copied + (1 - copied) * clean: the accuracy if every copy is right and the rest as good as clean.
        inflation: leaky - clean, in shares; an unpaired difference over different rows (Newcombe). Both without a value where a part has no rows.
    """

    run_id: str
    method: str
    leaky: Estimate
    clean: Estimate
    clean_from: str | None
    copied: Estimate
    copied_by_class: dict[str, Estimate]
    on_copied: Estimate
    on_made: Estimate
    on_fresh: Estimate
    predicted: Estimate
    inflation: Estimate


def leak(workspace: Workspace, run_id: str, clean: str | None = None) -> Leak:
    """Explain a leaky run, against a clean run when one is named.

    Raises:
        NotFound: no such run. BadInput: it is not leaky, the clean one is, or they are on different versions.
        Conflict: a run is not finished.
    """
    path = workspace.runs / run_id / "leak.json"
    predictions(workspace, run_id)  # refuses what cannot be read, as for any run
    if not path.is_file():
        raise BadInput("Not a leaky run", f"{run_id} splits before it balances", "Choose a run with protocol=leaky")
    found = json.loads(path.read_bytes())

    def share(about: dict[str, int]) -> Estimate:
        return _share(about["k"], about["n"])

    cleaned = share(found["accuracy_fresh"])
    if clean:
        other = predictions(workspace, clean)
        if (workspace.runs / clean / "leak.json").is_file():
            raise BadInput("Not a clean run", f"{clean} is leaky itself", "Choose a hold-out or k-fold run")
        versions = [json.loads((workspace.runs / r / "config.json").read_bytes())["version_id"] for r in (run_id, clean)]
        if versions[0] != versions[1]:
            raise BadInput("Runs on different versions", f"{run_id} is on {versions[0]}, {clean} on {versions[1]}", "Choose runs on one version")
        cleaned = accuracy(other)
    copied, leaky = share(found["share_copied"]), share(found["accuracy"])
    known = not any(e.value is None for e in (cleaned, copied, leaky))
    none = Estimate(None, None, None, leaky.n, "no faces to set it against")
    return Leak(run_id, found["method"], leaky, cleaned, clean, copied, {c: share(v) for c, v in found["share_copied_by_class"].items()},
                share(found["accuracy_copied"]), share(found["accuracy_made"]), share(found["accuracy_fresh"]),
                _predicted(copied, cleaned) if known else none, difference(leaky, cleaned) if known else none)


def _predicted(copied: Estimate, clean: Estimate) -> Estimate:
    """copied + (1 - copied) * clean of two independent shares, with limits recovered from theirs (Zou & Donner 2008)."""
    (p, *ends), (q, *others) = ([float(x) for x in (e.value, e.low, e.high) if x is not None] for e in (copied, clean))
    value = p + (1 - p) * q
    low, high = (math.hypot((1 - q) * (p - a), (1 - p) * (q - b)) for a, b in zip(ends, others, strict=True))
    return Estimate(value, max(0.0, value - low), min(1.0, value + high), copied.n)


def _share(k: int, n: int) -> Estimate:
    return Estimate(k / n, *wilson(k / n, n), n) if n else Estimate(None, None, None, 0, "no such rows")


@dataclass(frozen=True)
class Leaks:
    """Faces that are judged by and, as they are or as a copy, trained on.

    Attributes:
        faces: sample_id, image_id, label, kind (of KINDS; the closest), via ("" for the splits of the version, else the run that trained on it).
        judged: faces that are judged: of val and test, or those that the run predicts. near_known: whether all near duplicates were looked up.
        all_faces, without, on_leaked: accuracy of the run over these faces; None without a run.
        inflation: how much the leaked faces raise the accuracy, in shares: share of leaked faces x (accuracy on them - on the rest), with the
            interval of that difference (Newcombe) and the share taken as it is. It covers the leaks that are known; no value where none is and near
            duplicates were not looked up.
    """

    version_id: str
    run_id: str | None
    faces: pd.DataFrame
    judged: int
    near_known: bool
    all_faces: Estimate | None = None
    without: Estimate | None = None
    on_leaked: Estimate | None = None
    inflation: Estimate | None = None

    def counts(self) -> dict[str, int | None]:
        """Faces of each kind; None for near duplicates where they were not all looked up."""
        return {kind: int((self.faces["kind"] == kind).sum()) if self.near_known or kind != "near" else None for kind in KINDS}


def leaks(workspace: Workspace, version_id: str, run_id: str | None = None, pairs: pd.DataFrame | None = None, waiting: int = 0) -> Leaks:
    """Looks for them between the splits of a version or, with a run, between what the run predicts and what went into it: its training and stopping
    rows, those of the runs it started from, and of an ensemble's members.

    Args:
        pairs: near duplicates of the workspace, image_a and image_b (see `store.findings.near_pairs`); None where nobody looked.
        waiting: images that have not been compared with the others yet.

    Raises:
        NotFound: no such version or run, or one that went into the run is gone. BadInput: a leaky run, one of another version, or one without faces.
        Conflict: a run is not finished.
    """
    card(workspace, version_id)
    near_known, pairs = pairs is not None and not waiting, pairs if pairs is None else pairs[["image_a", "image_b"]].apply(_keys)
    if run_id is None:
        rows = _Files(workspace).rows(version_id)
        judged = rows[rows["split"] != "train"]
        met = pd.concat([_met(judged[judged["split"] == s], rows[rows["split"] != s], pairs, "") for s in ("val", "test")])
        met = met.sort_values("kind", key=lambda k: k.map(list(KINDS).index)).drop_duplicates("sample_id")
        return Leaks(version_id, None, met.reset_index(drop=True), len(judged), near_known)
    frame, config = require_faces(predictions(workspace, run_id), run_id), read_config(workspace.runs / run_id)
    if config.protocol == "leaky":
        raise BadInput("This run leaks by design", f"{run_id} balances before it splits", "Explain it with: fercore leak RUN")
    if config.version_id != version_id:
        raise BadInput("A run of another version", f"{run_id} was trained on {config.version_id}", f"Ask for {config.version_id}")
    files = _Files(workspace)
    rows = files.rows(version_id).set_index("sample_id", drop=False)
    parts = []
    for fold, part in frame.groupby("fold"):
        for via, seen in _trained(files, run_id, int(str(fold))):
            parts.append(_met(rows.loc[part["sample_id"]], seen, pairs, via))
    met = pd.concat(parts or [_met(rows.iloc[:0], rows, pairs, "")])
    met = met.sort_values("kind", key=lambda k: k.map(list(KINDS).index)).drop_duplicates("sample_id", ignore_index=True)
    leaked = frame["sample_id"].isin(met["sample_id"]).to_numpy()
    raised = (inflation(frame["correct"].to_numpy(bool), leaked, frame["duplicate_group"]) if near_known or leaked.any()
              else Estimate(None, None, None, len(frame), NEAR_UNKNOWN))
    return Leaks(version_id, run_id, met, len(frame), near_known, accuracy(frame), accuracy(frame[~leaked]), accuracy(frame[leaked]), raised)


def inflation(correct: Masks, leaked: Masks, groups: "pd.Series[str]") -> Estimate:
    """Accuracy over all n faces less that over those not `leaked`; no value where one of the two parts is empty, but 0 where nothing leaked."""
    n, k = len(correct), int(leaked.sum())
    if not n or k == n:
        return Estimate(None, None, None, n, "every face leaked" if n else "no faces")
    if not k:
        return Estimate(0.0, 0.0, 0.0, n)
    apart = difference(*(proportion(correct[part], codes(groups[part])) for part in (leaked, ~leaked)))
    assert apart.value is not None and apart.low is not None and apart.high is not None
    return Estimate(k / n * apart.value, k / n * apart.low, k / n * apart.high, n)


def _keys(ids: "pd.Series[str]") -> "pd.Series[int]":
    """A 64-bit hash of each id: looked up in a hundredth of the time that texts take, for every fold anew."""
    return pd.util.hash_pandas_object(ids.astype(object), index=False)


@dataclass(frozen=True)
class _Files:
    """Rows of versions and folds of runs, each read once, however many folds ask for them."""

    workspace: Workspace
    _rows: dict[str, pd.DataFrame] = field(default_factory=dict)
    _folds: dict[str, "pd.Series[int]"] = field(default_factory=dict)

    def rows(self, version_id: str) -> pd.DataFrame:
        """What a version includes; `keys` of its ids are in the columns image, pixels and group."""
        if version_id not in self._rows:
            rows = rows_of(self.workspace, version_id, *_ROWS)
            rows = rows[rows["exclusion"] == ""]
            pixels = rows["pixel_id"].where(rows["pixel_id"] != "", rows["image_id"])
            self._rows[version_id] = rows.assign(image=_keys(rows["image_id"]), pixels=_keys(pixels), group=_keys(rows["duplicate_group"]))
        return self._rows[version_id]

    def folds(self, run_id: str) -> "pd.Series[int]":
        """In which fold a run predicts each of its faces, by sample id."""
        if run_id not in self._folds:
            made = pd.read_parquet(self.workspace.runs / run_id / "predictions.parquet", columns=["sample_id", "fold"])
            self._folds[run_id] = made.set_index("sample_id")["fold"]
        return self._folds[run_id]


def _trained(files: _Files, run_id: str, fold: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """(run, rows) of all that a fold was trained on or stopped by, also before it started; a fold counts from 0, and hold-out runs have only that."""
    config = read_config(files.workspace.runs / run_id)
    if config.protocol == "ensemble":
        for member in config.members:
            yield from _trained(files, member, fold)
        return
    rows = files.rows(config.version_id)
    rows = rows[rows["split"].isin(["train", "val"])]
    if config.protocol == "k_fold":
        rows = rows[rows["sample_id"].map(files.folds(run_id)) != fold]
    elif config.protocol == "leaky":  # its parts are its own: what it was not trained on is not known
        rows = files.rows(config.version_id)
    yield run_id, rows
    if config.warm_start:
        if not (files.workspace.runs / config.warm_start / "config.json").is_file():
            raise NotFound("A run is gone", f"{run_id} started from {config.warm_start}, so that what it has seen is not known", "Restore that run")
        yield from _trained(files, config.warm_start, fold)


def _met(judged: pd.DataFrame, seen: pd.DataFrame, pairs: pd.DataFrame | None, via: str) -> pd.DataFrame:
    """The judged rows that `seen` holds in some form, with kind and via. Args: pairs: keys of images."""
    exact = judged["pixels"].isin(seen["pixels"])
    derived = ~exact & (judged["image"].isin(seen["image"]) | judged["image"].isin(seen["pixels"]) | judged["pixels"].isin(seen["image"]))
    near = judged["group"].isin(seen["group"])
    if pairs is not None:
        a, b = pairs["image_a"], pairs["image_b"]
        near |= judged["image"].isin(a[b.isin(seen["image"])]) | judged["image"].isin(b[a.isin(seen["image"])])
    kind = np.select([exact, derived, near], ["exact", "derivative", "near"], "")
    found: pd.DataFrame = judged.assign(kind=kind, via=via).loc[kind != "", ["sample_id", "image_id", "label", "kind", "via"]]
    return found
