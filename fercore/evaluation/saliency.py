"""Which pixels a prediction hangs on: occlusion and integrated gradients, of one face and averaged over the faces of a class.

Both explain the probability of one class, by default the predicted one, and both compare with black: a pixel has a positive share where blackening
it (occlusion) or bringing it up from black (integrated gradients) makes the class more probable. Nothing here says why a person sees an expression.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from captum.attr import IntegratedGradients
from torch import Tensor

from fercore.domain import SIDE, Pixels, Workspace
from fercore.errors import BadInput, Conflict, NotFound
from fercore.evaluation.read import classes_of, predictions, require_unseen
from fercore.training.data import read_version
from fercore.training.predict import load
from fercore.training.rundir import read_config, replacing

PATCH, STEPS = 4, 64  # side of what is blackened at a time; points between black and the face
MOST = 50  # faces of a class that are averaged
_BATCH = 256
Progress = Callable[[float], None]
Maps = npt.NDArray[np.float32]
Network = Callable[[Tensor], Tensor]  # float [n, 48, 48], 0-255 -> probabilities [n, classes]


@dataclass(frozen=True)
class Saliency:
    """Maps of n faces in the order of `sample_ids`.

    Attributes:
        target: class that is explained, of each face. probability: of it, 0-1, by the models that have not seen the face.
        occlusion: float32 [n, 48, 48], the probability less that with the patch around the pixel blackened: -1..1.
        gradients: float32 [n, 48, 48], integrated gradients; of each face they add up to the probability less that of a black picture.
        black: that probability of each face's target.
    """

    run_id: str
    sample_ids: tuple[str, ...]
    labels: tuple[str, ...]
    target: tuple[str, ...]
    probability: Maps
    occlusion: Maps
    gradients: Maps
    black: Maps
    patch: int

    def mean(self) -> tuple[Maps, Maps]:
        """(occlusion, gradients) averaged over the faces, [48, 48] each."""
        return self.occlusion.mean(axis=0), self.gradients.mean(axis=0)

    def save(self, path: Path) -> None:
        """Everything as a new NumPy archive, whole or not at all. Raises: as `new_archive`."""
        new_archive(path)
        held: dict[str, Any] = {name: np.asarray(value) for name, value in vars(self).items()}
        with replacing(path) as file:
            np.savez_compressed(file, **held)


def new_archive(path: Path) -> None:
    """Raises: Conflict: the file is there. BadInput: it is no .npz, or its folder is not there."""
    if path.suffix != ".npz" or not path.parent.is_dir():
        raise BadInput("Not a NumPy archive", str(path), "Name a file that ends in .npz, in a folder that is there")
    if path.exists():
        raise Conflict("The file is there already", str(path), "Name a new one")


def of_faces(workspace: Workspace, run_id: str, sample_ids: list[str], *, target: str | None = None, patch: int = PATCH, steps: int = STEPS,
             device: str = "cpu", progress: Progress = lambda share: None) -> Saliency:
    """Maps of faces that the run predicted, each by the models that have not trained on it: of a k-fold run its fold's, of an ensemble all members'.

    Args:
        target: the class to explain; None explains the predicted one of each face.

    Raises:
        NotFound: no such run; a face that it did not predict. BadInput: no face, an unknown class, a patch that is no side of 1-48; a leaky run.
        Conflict, FerError: as `predictions` and `require_unseen`.
    """
    frame = predictions(workspace, run_id).set_index("sample_id")
    classes, config, run = classes_of(frame), read_config(workspace.runs / run_id), workspace.runs / run_id
    if config.protocol == "leaky":
        raise BadInput("Not for a leaky run", f"{run_id} was trained on copies of its own test faces", "Choose a hold-out or k-fold run")
    if lost := [i for i in sample_ids if i not in frame.index]:
        raise NotFound("The run did not predict this face", f"{lost[0]!r}", "Choose a test face of a hold-out run, or a face of the folds")
    if not sample_ids or not 1 <= patch <= SIDE or (target is not None and target not in classes):
        raise BadInput("Nothing to explain", f"{len(sample_ids)} faces, class {target or 'predicted'}, patch {patch}",
                       f"Choose faces, one of {', '.join(classes)}, and a patch of 1 to {SIDE}")
    rows = frame.loc[sample_ids]
    require_unseen(rows)
    data, predictor = read_version(workspace.versions / config.version_id, config.manifest_sha256), load(run, device)
    place = dict(zip(data.samples["sample_id"], range(len(data.y)), strict=True))
    pixels = data.pixels[[place[i] for i in sample_ids]]
    targets = [target] * len(rows) if target else rows["predicted"].tolist()
    out = []
    for n, (face, fold, wanted) in enumerate(zip(pixels, rows["fold"].tolist(), targets, strict=True)):
        progress(n / len(pixels))
        network = predictor.of_fold(int(fold), config.folds)
        out.append(maps(network.differentiable, face, classes.index(wanted), patch, steps, predictor.device))
    progress(1.0)
    probability, occluded, gradients, black = (np.stack([np.asarray(face[i], np.float32) for face in out]) for i in range(4))
    return Saliency(run_id, tuple(sample_ids), tuple(rows["label"]), tuple(targets), probability, occluded, gradients, black, patch)


def of_class(workspace: Workspace, run_id: str, class_id: str, *, most: int = MOST, patch: int = PATCH, steps: int = STEPS, device: str = "cpu",
             progress: Progress = lambda share: None) -> Saliency:
    """Maps of faces labelled and predicted as this class, to be averaged: the same `most` of them each time, drawn evenly over the duplicate groups.

    Raises:
        As `of_faces`. BadInput: no face of this class is predicted right, or the class is unknown.
    """
    frame = predictions(workspace, run_id)
    if class_id not in classes_of(frame):
        raise BadInput("Unknown class", repr(class_id), f"Choose one of {', '.join(classes_of(frame))}")
    right = frame[frame["correct"] & (frame["label"] == class_id)].drop_duplicates("duplicate_group")
    if right.empty:
        raise BadInput("No face to average over", f"{run_id} predicts no face of class {class_id} right", "Choose another class or run")
    drawn = right["sample_id"].sample(min(most, len(right)), random_state=0).sort_values()
    return of_faces(workspace, run_id, drawn.tolist(), target=class_id, patch=patch, steps=steps, device=device, progress=progress)


def maps(network: Network, face: Pixels, target: int, patch: int = PATCH, steps: int = STEPS,
         device: torch.device | str = "cpu") -> tuple[float, Maps, Maps, float]:
    """(probability, occlusion [48, 48], integrated gradients [48, 48], probability of a black picture) of one class for a face, uint8 [48, 48]."""
    x = torch.from_numpy(np.ascontiguousarray(face)).to(device).float()[None]

    def probability(faces: Tensor) -> Tensor:
        return network(faces)[:, target]

    with torch.backends.cudnn.flags(enabled=False):  # its LSTMs have no backward pass in evaluation mode
        found: Tensor = IntegratedGradients(probability).attribute(x, torch.zeros_like(x), n_steps=steps, internal_batch_size=_BATCH)
    with torch.inference_mode():
        whole, black = probability(torch.cat([x, torch.zeros_like(x)])).tolist()
        hidden = [probability(x.masked_fill(mask, 0)) for mask in torch.split(_patches(patch, x.device), _BATCH)]
    drop = (whole - torch.cat(hidden)).reshape(-(-SIDE // patch), -1).cpu().numpy()
    occluded = np.repeat(np.repeat(drop, patch, axis=0), patch, axis=1)[:SIDE, :SIDE]
    return whole, occluded, found[0].detach().cpu().numpy().astype(np.float32), black


def _patches(side: int, device: torch.device) -> Tensor:
    """bool [patches, 48, 48]: squares that tile a face, row by row; the last ones are cut at the edge."""
    part = torch.arange(SIDE, device=device) // side
    number = part[:, None] * (-(-SIDE // side)) + part
    return number == torch.arange(int(number.max()) + 1, device=device)[:, None, None]
