"""What people do about findings: flag, exclude, keep one, brighten, send to review. Each act is one gesture of label events by one person, or one
campaign, and is undone as one; the faces and their votes stay."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from uuid_utils import uuid7

from fercore import curation
from fercore.audit.checks import CHECKS, FROM_VOTES, KINDS, measure
from fercore.curation import campaigns
from fercore.domain import Permission, Person
from fercore.errors import BadInput, Conflict, NotFound
from fercore.schemes import FER7, FLAGS
from fercore.store import Store, findings, labels, samples
from fercore.store import campaigns as campaign_table

MODE = "audit_bulk"
MOST = 50_000  # faces of one gesture
# Kinds whose review is a yes or no on a wall of faces, with what is claimed there: candidates that are only ranked must not be confirmed by being
# left alone.
_REVIEWED = {"non_face": ("flag_non_face", "no"), "dark": ("flag_dark", "yes"), "artificial": ("flag_artificial", "no"),
             "extreme_pose": ("flag_extreme_pose", "no")}


@dataclass(frozen=True)
class Act:
    """One gesture: its id, how many faces it is on, and why others of the chosen faces were left as they were (reason -> faces)."""

    gesture: str
    faces: int
    left: dict[str, int]


def images(store: Store, actor: Person, kind: str, groups: Sequence[str] | None = None) -> list[str]:
    """Distinct images with this finding, of these groups or of all. Raises: NotAllowed, NotFound."""
    _may_act(actor, kind)
    return findings.images_of(store, kind, groups)["image_id"].unique().tolist()


def flagged(store: Store, actor: Person, flag: str) -> list[str]:
    """Images to which people decided that this flag applies. Raises: NotAllowed."""
    actor.require(Permission.PLAN)
    return findings.flagged(store, f"flag_{flag}")


def mark(store: Store, actor: Person, image_ids: Iterable[str], field: str, value: str) -> Act:
    """Sets one value of a flag, of "exclude" or of "transform" on faces, as one gesture. Example faces take no marks and are left as they are.

    Raises:
        NotAllowed. BadInput: no face, too many, another field, a value that the field does not take, or an unknown face; nothing is set.
    """
    actor.require(Permission.PLAN)
    if not (field in ("exclude", "transform") or field.removeprefix("flag_") in FLAGS):
        raise BadInput("This cannot be set for many faces at once", field, "Set a flag, exclude, or transform")
    return _record(store, actor, "set", [(i, None) for i in dict.fromkeys(image_ids)], field=field, value=value)


def keep_one(store: Store, actor: Person, groups: Sequence[str], kind: str = "near_duplicate") -> Act:
    """Excludes all images of these groups of near duplicates but the sharpest of each that is not excluded already, as one gesture.

    Identical faces are one image: a version keeps one of them by its recipe (duplicates: keep_one).

    Raises:
        NotAllowed. BadInput: no group has two faces left, or too many have. NotFound: a group is not there.
    """
    _may_act(actor, kind)
    found = findings.images_of(store, kind, groups)
    if lost := set(groups) - set(found["group_id"]):
        raise NotFound("Unknown group", f"{min(lost)[:12]} is no group of {KINDS[kind].lower()}")
    edits = findings.edits(store)
    found = found[~found["image_id"].isin(edits.loc[edits["exclude"].notna(), "image_id"])]
    if not found["group_id"].duplicated().any():
        raise BadInput("Nothing to exclude", "No group has more than one face left")
    found["sharpness"] = measure(samples.pixels(store, found["image_id"].tolist()))["sharpness"]
    return mark(store, actor, found.drop(found.groupby("group_id")["sharpness"].idxmax())["image_id"], "exclude", "duplicate")


def queue(store: Store, actor: Person, kind: str, image_ids: Sequence[str] = (), *, scheme_id: str = FER7.scheme_id,
          run_id: str | None = None) -> str:
    """Opens a campaign in which people review these faces, or all with this finding, the most marked first; returns its id.

    Flags are confirmed on a wall; the label of all others is asked one face at a time, in `scheme_id`. `run_id`: whose predictions chose the faces.

    Raises:
        NotAllowed, NotFound. BadInput: no face has the finding, too many are chosen, or an image is not here.
    """
    _may_act(actor, kind)
    if len(image_ids) > campaigns.HAND_PICKED:
        raise BadInput("Too many faces for a queue", f"{len(image_ids):,} are chosen", f"Choose at most {campaigns.HAND_PICKED:,}, or all")
    asked, claim = _REVIEWED.get(kind, (None, None))
    told = asked or kind not in FROM_VOTES  # annotators read the name before they answer (honesty rule 5)
    name = f"Review: {KINDS[kind].lower() if told else 'a second look'}"
    which = {"images": tuple(image_ids)} if image_ids else {"finding": kind, "priority": "finding"}
    spec: dict[str, Any] = {"ask": (asked,), "grid": True, "claim": claim} if asked else {"ask": (scheme_id,), "votes": 3, "run_id": run_id}
    number = 1
    while True:
        try:
            return campaigns.save(store, actor, {"name": name if number == 1 else f"{name}, {number}", **which, **spec})
        except Conflict:  # the name is taken
            number += 1


def undo(store: Store, actor: Person, act: str) -> int:
    """Takes back a gesture of the actor's own, or closes a queue that the actor opened; returns on how many faces something was taken back.

    Raises:
        NotAllowed. NotFound: nothing of it stands.
    """
    actor.require(Permission.PLAN)
    if act in _queues(store, actor):
        campaigns.save(store, actor, campaigns.find(store, act)[0], act, "closed")
        return 0
    events = findings.events_of(store, actor, act)
    if not events:
        raise NotFound("Nothing to undo", "This act was undone already, or is not yours")
    return _record(store, actor, "undo", [(image, event) for event, image in events]).faces


def last(store: Store, actor: Person, limit: int = 5) -> list[dict[str, Any]]:
    """The actor's last acts that stand, newest first: gesture, field, value, faces, at. A queue stands as field "queue", its name as the value, and
    no number of faces."""
    both = findings.gestures(store, actor, MODE, limit) + list(_queues(store, actor).values())
    return sorted(both, key=lambda act: act["at"], reverse=True)[:limit]


def _queues(store: Store, actor: Person) -> dict[str, dict[str, Any]]:
    """Open campaigns on a finding or on chosen faces that the actor opened, as acts."""
    known = campaigns.listed(store)
    return {i: {"gesture": i, "field": "queue", "value": known[i][0].name, "faces": None, "at": at}
            for i, _, state, at, person in campaign_table.rows(store)
            if state == "open" and person == actor.person_id and i in known and (known[i][0].finding or known[i][0].images)}


def _may_act(actor: Person, kind: str) -> None:
    if kind not in CHECKS:
        raise NotFound("Unknown kind of finding", repr(kind), f"Choose from {', '.join(CHECKS)}")
    actor.require(Permission.PLAN)
    if kind in FROM_VOTES:
        actor.require(Permission.READ_RESULTS)


def _record(store: Store, actor: Person, op: str, targets: list[tuple[str, str | None]], **more: Any) -> Act:
    if not 1 <= len(targets) <= MOST:
        raise BadInput("Choose faces", f"{len(targets):,} are chosen", f"Choose 1 to {MOST:,}")
    if lost := {i for i, _ in targets} - labels.known_images(store, [i for i, _ in targets]):
        raise BadInput("Unknown face", f"{min(lost)[:12]} is not in this workspace")
    gesture = str(uuid7())
    receipt = curation.record(store, actor, [{"event_id": str(uuid7()), "op": op, "image_id": image, "target": target, "gesture": gesture,
                                              "mode": MODE, **more} for image, target in targets])
    if not receipt.acked:
        raise BadInput("Not done", next(iter(receipt.refused.values())))
    return Act(gesture, len(receipt.acked), dict(Counter(receipt.refused.values())))
