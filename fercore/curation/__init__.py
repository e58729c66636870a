"""Labeling: campaigns and leases, recording what people did, undoing it, settling disagreements.

A label event is an act of one annotator on one image; everything else is derived from the events.
"""

import pandas as pd

from fercore.curation.campaigns import Campaign, ask, block, counts, done, for_person, heartbeat, why_empty
from fercore.curation.events import LabelEvent, Receipt, adjudicate, comment, record, revise, seen, withdraw
from fercore.domain import Permission, Person
from fercore.store import Store, labels

__all__ = ["Campaign", "LabelEvent", "Receipt", "adjudicate", "ask", "block", "comment", "counts", "done", "for_person", "heartbeat", "record",
           "revise", "seen", "seen_by", "why_empty", "withdraw"]


def seen_by(store: Store, actor: Person, faces: pd.DataFrame) -> pd.DataFrame:
    """`faces` as this person may see them: who does not read results sees the given label, until they have answered themselves.

    Args:
        faces: with image_id, given_label and current_label.

    Returns:
        The same rows; current_label is the given one, and `open` is False, where other people's answers are hidden.

    Raises:
        NotAllowed: the actor may not look at faces.
    """
    actor.require(Permission.LOOK)
    free = faces["image_id"].isin(labels.answered_images(store, actor, faces["image_id"].tolist())) | actor.may(Permission.READ_RESULTS)
    return faces.assign(current_label=faces["current_label"].where(free, faces["given_label"]), open=free)
