"""Labels that are likely to be wrong, most likely first: confident learning from out-of-fold predictions, by duplicate group.

Two opinions on each face are averaged: what the run predicted out of fold, and what a kernel machine on gradients of the pixels predicts in the same
folds; their mistakes differ. Confident learning (Northcutt et al. 2021, JAIR 70:1373) estimates from them how a true class is labelled. Bayes' rule
then gives the true class of a face that looks as it does and is labelled as it is. A label is suspect by the margin with which another class is
likelier when what labels say counts half: their noise is estimated from the very predictions that it corrects. No vote takes part in it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fercore.audit import actions
from fercore.curation import campaigns
from fercore.domain import Permission, Person, Pixels, Workspace
from fercore.errors import BadInput, FerError, NotFound
from fercore.evaluation.estimate import Estimate, Floats, Ints, proportion
from fercore.evaluation.read import classes_of, predictions, require_unseen
from fercore.ingest.files import sha256_of
from fercore.schemes import CANNOT_TELL
from fercore.store import Store, findings
from fercore.training.data import read_version
from fercore.training.rundir import read_config, replacing
from fercore.versions.files import card

KIND = "suspect"
_FILE = "suspects-1.parquet"  # in the run's directory; the number is that of the method
_WEIGHT = 0.5  # of what labels say, in the score
_LANDMARKS, _PENALTY = 1500, 0.1  # of the kernel machine
Progress = Callable[[str, float], None]


def rank(workspace: Workspace, run_id: str, progress: Progress = lambda what, share: None) -> pd.DataFrame:
    """One row a duplicate group, the most suspect first, and kept beside the run: a minute for 32,000 faces, once for the same predictions.

    Columns: sample_id, image_id, duplicate_group, label, suggested (the likeliest other class), p_label, p_suggested (that they are true, 0-1),
    score (the margin, -1..1), copies (rows).

    Raises:
        NotFound, Conflict: as `predictions`. BadInput: no out-of-fold predictions of a whole set, or none at all; a kept ranking is damaged.
    """
    frame, config = predictions(workspace, run_id), read_config(workspace.runs / run_id)
    if not config.folds:
        raise BadInput("No out-of-fold predictions", f"{run_id} is a {config.protocol.replace('_', '-')} run: it predicts no face that trains others",
                       "Choose a run with folds, or train one: fercore train PRESET --version V --folds 5")
    if frame.empty or frame["fold"].nunique() < config.folds:
        raise BadInput("Folds are missing", f"{run_id} predicts {len(frame):,} faces in {frame['fold'].nunique()} of {config.folds} folds",
                       "Train it again")
    require_unseen(frame)
    if (kept := known(workspace, run_id)) is not None:
        return kept
    data = read_version(workspace.versions / config.version_id, config.manifest_sha256)
    place = pd.Index(data.samples["sample_id"]).get_indexer(frame["sample_id"])
    second = of_pixels(data.pixels[place], data.y[place], frame["fold"].to_numpy(), len(data.classes), progress)
    progress("Ranking", 0.95)
    found = ranked(frame, second)
    table = pa.Table.from_pandas(found, preserve_index=False)
    with replacing(path_of(workspace, run_id)) as file:
        pq.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), b"fercore": _basis(workspace, run_id)}), file)
    progress("Done", 1.0)
    return found


def path_of(workspace: Workspace, run_id: str) -> Path:
    """Where the ranking of a run is kept."""
    return workspace.runs / run_id / _FILE


def known(workspace: Workspace, run_id: str) -> pd.DataFrame | None:
    """The ranking that is kept beside the run; None where nobody asked for one of these predictions and this version yet.

    Raises:
        BadInput: it cannot be read, or what it stands on.
    """
    path = path_of(workspace, run_id)
    if not path.is_file():
        return None
    try:
        table = pq.read_table(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise BadInput("The ranking cannot be read", f"{path}: {error}", f"Delete this file, and rank again: fercore suspects {run_id}") from error
    found: pd.DataFrame | None = table.to_pandas() if (table.schema.metadata or {}).get(b"fercore") == _basis(workspace, run_id) else None
    return found


def stands_on(workspace: Workspace, run_id: str) -> tuple[Path, Path]:
    """The files that a ranking follows from: the predictions and the manifest of their version."""
    run = workspace.runs / run_id
    return run / "predictions.parquet", workspace.versions / read_config(run).version_id / "manifest.parquet"


def _basis(workspace: Workspace, run_id: str) -> bytes:
    """SHA-256 of the files that a ranking follows from."""
    try:
        return " ".join(sha256_of(path) for path in stands_on(workspace, run_id)).encode()
    except OSError as error:
        raise BadInput("File cannot be read", str(error), "Restore it from a backup, or train again") from error


def ranked(frame: pd.DataFrame, second: Floats | None = None) -> pd.DataFrame:
    """The ranking from predictions, as `rank` gives it. Args: second: another opinion on the same faces, [n, classes], rows sum to 1.

    Raises:
        FerError: rows that the predicting model was trained on.
    """
    require_unseen(frame)
    classes = classes_of(frame)
    p = frame[[f"p_{c}" for c in classes]].to_numpy(np.float64)
    p = p if second is None else (p + second) / 2
    group, names = pd.factorize(frame["duplicate_group"])
    mean = np.stack([np.bincount(group, weights=p[:, c]) for c in range(len(classes))], 1) / np.bincount(group)[:, None]
    units = frame[["sample_id", "image_id", "duplicate_group", "label"]].assign(group=group, copies=np.bincount(group)[group])
    units = units.drop_duplicates(["group", "label"], ignore_index=True)  # copies with another label stand beside each other
    group, p = units["group"].to_numpy(), mean[units["group"]]
    y = pd.Index(classes).get_indexer(pd.Index(units["label"])).astype(np.int64)
    said = np.log(np.maximum(noise(y, p)[:, y].T, 1e-6))  # what the label of each unit says about the true class
    said = np.stack([np.bincount(group, weights=said[:, c], minlength=len(names)) for c in range(len(classes))], 1)[group]
    rows, true, weighed = np.arange(len(y)), _normal(p * np.exp(said)), _normal(p * np.exp(_WEIGHT * said))
    rest = weighed.copy()
    rest[rows, y] = -1
    best = rest.argmax(axis=1)
    out = units.assign(suggested=np.array(classes, dtype=object)[best], p_label=true[rows, y], p_suggested=true[rows, best],
                       score=weighed[rows, best] - weighed[rows, y])
    out = out.sort_values(["score", "sample_id"], ascending=[False, True]).drop_duplicates("group", ignore_index=True)
    return out[["sample_id", "image_id", "duplicate_group", "label", "suggested", "p_label", "p_suggested", "score", "copies"]]


def noise(y: Ints, p: Floats) -> Floats:
    """How labels are given: [true, given], rows sum to 1, by the confident joint. A face counts as of the likeliest class whose probability is at
    least its mean over the faces labelled so; a class with no such face is taken to be labelled rightly."""
    k = p.shape[1]
    bound = np.array([p[y == c, c].mean() if (y == c).any() else 1.0 for c in range(k)])
    sure = np.where(p >= bound, p, -1)
    counted = sure.max(axis=1) >= 0
    joint = np.zeros((k, k))
    np.add.at(joint, (y[counted], sure.argmax(axis=1)[counted]), 1)
    joint[joint.sum(axis=1) == 0] = np.eye(k)[joint.sum(axis=1) == 0]
    joint *= (np.bincount(y, minlength=k) / joint.sum(axis=1))[:, None]
    found = joint.T
    found[found.sum(axis=1) == 0] = np.eye(k)[found.sum(axis=1) == 0]
    return _normal(found)


def of_pixels(pixels: Pixels, y: Ints, fold: Ints, classes: int, progress: Progress = lambda what, share: None) -> Floats:
    """[n, classes]: probabilities by ridge regression on a Gaussian kernel over gradients (see `audit.ranks.features`), each fold predicted by a
    machine that has seen none of its labels. Scores become probabilities by one number, fitted on all (temperature scaling, Guo et al. 2017)."""
    from scipy.optimize import minimize_scalar  # these take a while to import, and a page that shows a kept ranking does without
    from scipy.special import log_softmax, softmax
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import Ridge

    from fercore.audit import ranks

    progress("Reading gradients", 0.02)
    x = ranks.features(pixels)
    some = x[np.random.default_rng(0).permutation(len(x))[:500]]
    spread = float(np.median(((some[:, None] - some[None]) ** 2).sum(axis=2)))
    z = Nystroem(gamma=1 / max(spread, 1e-6), n_components=min(_LANDMARKS, len(x)), random_state=0).fit_transform(x).astype(np.float32)
    scores, folds = np.zeros((len(x), classes)), np.unique(fold)
    for n, k in enumerate(folds):
        progress(f"A second opinion, fold {n + 1} of {len(folds)}", 0.4 + 0.5 * n / len(folds))
        machine = Ridge(_PENALTY).fit(z[fold != k], np.eye(classes, dtype=np.float32)[y[fold != k]])
        scores[fold == k] = machine.predict(z[fold == k])

    def loss(sharpness: float) -> float:
        return float(-log_softmax(sharpness * scores, axis=1)[np.arange(len(y)), y].mean())

    return np.asarray(softmax(minimize_scalar(loss, bounds=(0.1, 50), method="bounded").x * scores, axis=1), dtype=np.float64)


def _normal(p: Floats) -> Floats:
    return np.asarray(p / np.maximum(p.sum(axis=-1, keepdims=True), 1e-300), dtype=np.float64)


@dataclass(frozen=True)
class Gain:
    """What came of a queue of suspect labels.

    Attributes:
        sent: faces in it. predicted: share of wrong labels expected among them, 0-1.
        predicted_decided: the same among the faces that people have decided on since it was sent; "cannot tell" is no decision. realised: share of
            those with another decision than the label, with the Wilson interval and n.
    """

    campaign_id: str
    name: str
    run_id: str
    sent: int
    predicted: float
    predicted_decided: float | None
    realised: Estimate


def send(store: Store, actor: Person, run_id: str, number: int) -> str:
    """Puts the most suspect `number` of faces into a queue of their own and stores them as findings; returns the campaign's id.

    Raises:
        NotAllowed. NotFound: nobody has ranked the labels of this run as it is now. BadInput: a number outside the ranking, too many faces for a
        queue, a scheme that no campaign asks for, or a damaged ranking.
    """
    actor.require(Permission.PLAN)
    actor.require(Permission.READ_RESULTS)
    found = known(store.workspace, run_id)
    if found is None:
        raise NotFound("Not ranked yet", f"Nobody has ranked the labels of {run_id} as it is now", f"Rank them: fercore suspects {run_id}")
    if not 1 <= number <= len(found):
        raise BadInput("Not a number of faces", f"{number:,} of {len(found):,} ranked faces", f"Choose 1 to {len(found):,}")
    chosen = found.head(number)
    scheme = card(store.workspace, read_config(store.workspace.runs / run_id).version_id)["scheme_id"]
    campaign = actions.queue(store, actor, KIND, chosen["image_id"].tolist(), scheme_id=scheme, run_id=run_id)
    told = [json.dumps({"run": run_id, "suggested": s, "p_label": round(p, 3)}) for s, p in zip(chosen["suggested"], chosen["p_label"], strict=True)]
    findings.settle(store, [KIND], chosen.assign(kind=KIND, group_id=None, evidence=told))
    return campaign


def gains(store: Store, actor: Person) -> list[Gain]:
    """Predicted and realised share of wrong labels of every queue of suspect labels, the newest first: campaigns on the first faces of a ranking.
    Raises: NotAllowed."""
    actor.require(Permission.READ_RESULTS)
    out = []
    for campaign_id, (c, _) in campaigns.listed(store).items():
        if not (c.images and c.run_id) or c.claim:
            continue
        try:
            found = known(store.workspace, c.run_id)
        except FerError:  # what is wrong with one ranking hides no other queue; its run's page says it
            continue
        if found is None or set(c.images) != set(found["image_id"].head(len(c.images))):  # picked by hand
            continue
        field = next(iter(campaigns.asked_in(store, c)))
        sent = found[found["image_id"].isin(c.images)].merge(findings.decided(store, field, campaign_id), on="image_id", how="left")
        decided = sent[sent["value"].notna() & (sent["value"] != CANNOT_TELL)]
        realised = proportion((decided["value"] != decided["label"]).to_numpy(bool), np.arange(len(decided)))
        out.append(Gain(campaign_id, c.name, c.run_id, len(sent), float(1 - sent["p_label"].mean()),
                        float(1 - decided["p_label"].mean()) if len(decided) else None, realised))
    return out[::-1]
