"""What people do about findings: flag, exclude, keep one, brighten, send to review. Each act is one gesture of label events by one person, and
can be undone as one; the faces and their votes stay."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from uuid_utils import uuid7

from fercore import curation
from fercore.audit.checks import CHECKS, KINDS, measure
from fercore.curation import campaigns
from fercore.domain import Permission, Person
from fercore.errors import BadInput, NotFound
from fercore.schemes import FER7, FLAGS
from fercore.store import Store, findings, samples

MODE = "audit_bulk"
MOST = 50_000  # faces of one gesture
_REVIEWED = {"non_face": "flag_non_face", "dark": "flag_dark"}  # kinds whose review is a yes or no on a wall of faces


@dataclass(frozen=True)
class Act:
    """One gesture: its id and how many faces it is on."""

    gesture: str
    faces: int


def mark(store: Store, actor: Person, image_ids: list[str], field: str, value: str) -> Act:
    """Sets one value of a flag, of "exclude" or of "transform" on faces, as one gesture.

    Raises:
        NotAllowed. BadInput: no face, too many, another field, a value that the field does not take, or an unknown face; nothing is set.
    """
    actor.require(Permission.PLAN)
    if not (field in ("exclude", "transform") or field.removeprefix("flag_") in FLAGS):
        raise BadInput("This cannot be set for many faces at once", field, "Set a flag, exclude, or transform")
    return _record(store, actor, "set", [(i, None) for i in dict.fromkeys(image_ids)], str(uuid7()), field=field, value=value)


def keep_one(store: Store, actor: Person, group_ids: list[str], kind: str = "near_duplicate") -> Act:
    """Excludes all images of these groups of near duplicates but the sharpest of each, as one gesture.

    Identical faces are one image: a version keeps one of them by its recipe (duplicates: keep_one).

    Raises:
        NotAllowed, BadInput. NotFound: a group is not there.
    """
    actor.require(Permission.PLAN)
    others: list[str] = []
    for group in dict.fromkeys(group_ids):
        ids = sorted(set(samples.by_ids(store, findings.of_group(store, kind, group))["image_id"]))
        if not ids:
            raise NotFound("Unknown group", f"{group[:12]} is no group of {KINDS.get(kind, kind)}")
        others += [i for n, i in enumerate(ids) if n != int(np.argmax(measure(samples.pixels(store, ids))["sharpness"]))]
    return mark(store, actor, others, "exclude", "duplicate")


def undo(store: Store, actor: Person, gesture: str) -> int:
    """Takes back a gesture of the actor's own; returns on how many faces. Raises: NotAllowed. NotFound: nothing of it stands."""
    actor.require(Permission.PLAN)
    events = findings.events_of(store, actor, gesture)
    if not events:
        raise NotFound("Nothing to undo", "This act was undone already, or is not yours")
    return _record(store, actor, "undo", [(image, event) for event, image in events], str(uuid7())).faces


def last(store: Store, actor: Person, limit: int = 5) -> list[dict[str, Any]]:
    """The actor's last acts that stand, newest first: gesture, field, value, faces, at."""
    return findings.gestures(store, actor, MODE, limit)


def queue(store: Store, actor: Person, kind: str) -> str:
    """Opens a campaign in which people review the faces with this finding, the most marked first; returns its id.

    Non-faces and dark faces are confirmed on a wall; the expression of all others is asked one face at a time.

    Raises:
        NotAllowed. BadInput: nobody has such a face.
    """
    asked = _REVIEWED.get(kind)
    if kind not in CHECKS:
        raise NotFound("Unknown kind of finding", repr(kind), f"Choose from {', '.join(CHECKS)}")
    spec: dict[str, Any] = {"ask": (asked,), "grid": True, "claim": "yes"} if asked else {"ask": (FER7.scheme_id,), "votes": 3}
    return campaigns.save(store, actor, {"name": f"Review: {KINDS[kind].lower()}", "finding": kind, "priority": "finding", **spec})


def _record(store: Store, actor: Person, op: str, targets: list[tuple[str, str | None]], gesture: str, **more: Any) -> Act:
    if not 1 <= len(targets) <= MOST:
        raise BadInput("Choose faces", f"{len(targets):,} are chosen", f"Choose 1 to {MOST:,}")
    if lost := {i for i, _ in targets} - set(samples.image_ids(store)):
        raise BadInput("Unknown face", f"{sorted(lost)[0][:12]} is not in this workspace")
    receipt = curation.record(store, actor, [{"event_id": str(uuid7()), "op": op, "image_id": image, "target": target, "gesture": gesture,
                                              "mode": MODE, **more} for image, target in targets])
    if receipt.refused:
        raise BadInput("Not done", next(iter(receipt.refused.values())))
    return Act(gesture, len(receipt.acked))
