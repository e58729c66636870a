"""A finished run on a version it was not trained on: auxiliary data, new labels, the same groups after a change of the training set."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fercore.domain import Workspace
from fercore.errors import BadInput, Conflict, NotFound
from fercore.evaluation.estimate import Masks
from fercore.evaluation.read import predictions, scored_on, scored_path, version_rows
from fercore.training.config import RunConfig
from fercore.training.data import read_version
from fercore.training.rundir import list_runs, read_config, replacing, utc_now

_PART = 1024  # faces between two reports of progress


@dataclass(frozen=True)
class Scoring:
    """One reading of a version by a run, kept with its predictions.

    Attributes:
        manifest_sha256: of the version scored on. mapped: class of the run -> class of the version.
        n: faces predicted that the run has not seen.
        seen: faces, or duplicates of faces, that it was trained on or kept by, left out of every figure.
        unmapped: faces of classes that no class of the run stands for, not predicted.
        test_reads: how often the run was judged by this version: once a scoring, whatever the splits, as every face it has not seen tests it.
        at: ISO 8601, UTC.
    """

    run_id: str
    version_id: str
    manifest_sha256: str
    mapped: dict[str, str]
    n: int
    seen: int
    unmapped: int
    test_reads: int
    at: str


def score(workspace: Workspace, run_id: str, version_id: str, mapped: Mapping[str, str] | None = None,
          progress: Callable[[int, int], None] = lambda done, total: None) -> Scoring:
    """Predict the faces of another version with the kept state of a run, and keep the predictions in its directory.

    A k-fold run answers with the mean of its fold models, and an ensemble with that of its members; faces that any of them was trained on
    or kept by are seen. Where the same version was read before with the same map, nothing is read again.

    Args:
        mapped: class of the run -> class of the version, for classes whose ids differ; others keep their id. Needed when the classes differ.
        progress: told (faces done, faces in all); may raise to stop, and nothing is kept then.

    Raises:
        NotFound: no such run or version. Conflict: the run has not finished, is leaky, or the version is its own.
        BadInput: the classes do not map, nothing is left to score, or weights or files cannot be read.
    """
    from fercore.training.predict import load  # torch takes seconds: whoever reads figures does without

    predictions(workspace, run_id)  # refuses what cannot be trusted
    config = read_config(workspace.runs / run_id)
    if config.version_id == version_id:
        raise Conflict("This is the run's own version", f"{run_id} was trained on {version_id}", "Leave the version out")
    if config.protocol == "leaky":
        raise Conflict("A leaky run is for comparison only", f"{run_id} was trained on faces of every split", "Score a clean run")
    rows, classes = version_rows(workspace, version_id)
    predictor = load(workspace.runs / run_id)
    to = _mapped(predictor.classes, classes, mapped or {}, run_id, version_id)
    sha = json.loads((workspace.versions / version_id / "version.json").read_bytes())["manifest_sha256"]
    before = scored_on(workspace, run_id).get(version_id)
    if before and before["manifest_sha256"] == sha and before["mapped"] == to:
        return Scoring(**before)
    data = read_version(workspace.versions / version_id, sha)
    frame = rows.set_index("sample_id").loc[data.samples["sample_id"]].reset_index()
    known = frame["label"].isin(to.values()).to_numpy()
    frame, seen = frame[known], _seen(workspace, config, frame)[known]
    if seen.all():
        raise BadInput("Nothing to score", f"All {len(frame):,} faces of {version_id} were seen by {run_id}, or their class is unknown to it",
                       "Choose a version with other faces")
    pixels, parts = data.pixels[known], []
    for start in range(0, len(pixels), _PART):
        progress(start, len(pixels))
        parts.append(predictor.probabilities(pixels[start:start + _PART]))
    own = np.concatenate(parts)
    p = np.zeros((len(own), len(classes)), np.float32)
    for place, name in enumerate(predictor.classes):
        p[:, classes.index(to[name])] += own[:, place]
    found = Scoring(run_id, version_id, sha, to, int((~seen).sum()), int(seen.sum()), int((~known).sum()),
                    (before["test_reads"] if before else 0) + 1, utc_now())
    made = pd.DataFrame({"sample_id": frame["sample_id"], "fold": 0, "split": frame["split"], "label": frame["label"],
                         "predicted": np.array(classes, dtype=object)[p.argmax(axis=1)], "probabilities": list(p), "out_of_fold": ~seen})
    path = scored_path(workspace, run_id, version_id)
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as file:
        pq.write_table(pa.Table.from_pandas(made, preserve_index=False).replace_schema_metadata({"fercore": json.dumps(asdict(found))}), file)
    return found


def scorings(workspace: Workspace, version_id: str) -> list[Scoring]:
    """The scorings of runs on a version that is not theirs."""
    found = (scored_on(workspace, run.run_id) for run in list_runs(workspace.runs))
    return [Scoring(**facts[version_id]) for facts in found if version_id in facts]


def _mapped(own: tuple[str, ...], theirs: list[str], mapped: Mapping[str, str], run_id: str, version_id: str) -> dict[str, str]:
    """Class of the run -> class of the version, of every class of the run."""
    if set(own) != set(theirs) and not mapped:
        raise BadInput("Another scheme", f"{run_id} tells {', '.join(own)}; {version_id} has {', '.join(theirs)}",
                       "Choose a version with the same classes, or say what each means: --map ANGRY=ANGRY, for every class whose name differs")
    for name, known, side in (*((n, own, run_id) for n in mapped), *((n, theirs, version_id) for n in mapped.values())):
        if name not in known:
            raise BadInput("Unknown class", f"{name!r} is no class of {side}", f"Choose one of {', '.join(known)}")
    to = {name: mapped.get(name, name) for name in own}
    if left := [name for name, target in to.items() if target not in theirs]:
        raise BadInput("Classes without a counterpart", f"{version_id} has no {', '.join(left)}", f"Say what they mean there: --map {left[0]}=CLASS")
    return to


def _seen(workspace: Workspace, config: RunConfig, frame: pd.DataFrame) -> Masks:
    """Which faces [n], or duplicates of them, the run was trained on or kept by, itself or as a member or a run it started from."""
    images, groups, waiting = set[str](), set[str](), [config]
    done = set[str]()
    while waiting:
        one = waiting.pop()
        done.add(one.run_id)
        names = [*one.members, *([one.warm_start] if one.warm_start else [])]
        waiting += [read_config(workspace.runs / name) for name in names if name not in done]
        if one.protocol == "ensemble":
            continue
        try:
            rows, _ = version_rows(workspace, one.version_id)
        except NotFound as error:
            raise BadInput("What the run has seen is not known", f"{one.run_id}: {error.detail}", "Restore the version") from error
        rows = rows if one.protocol == "leaky" else rows[rows["split"] != "test"]
        images |= set(rows["image_id"])
        groups |= set(rows["duplicate_group"])
    known = frame["image_id"].isin(images) | frame["duplicate_group"].isin(groups)
    return known.groupby(frame["duplicate_group"]).transform("any").to_numpy(dtype=bool)
