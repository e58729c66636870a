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
        The same rows; current_label is the given one, and `open` is False, where other people's answers are hidden; `open_tags` is False, and
        age_band and gender are empty, where their tags are.

    Raises:
        NotAllowed: the actor may not look at faces.
    """
    actor.require(Permission.LOOK)
    if actor.may(Permission.READ_RESULTS):
        return faces.assign(open=True, open_tags=True)
    ids = faces["image_id"].tolist()
    free, *tags = (faces["image_id"].isin(labels.answered_images(store, actor, ids, field))
                   for field in ("expression", "age_band", "gender"))
    shown = {c: faces[c].where(open_, None) for c, open_ in zip(("age_band", "gender"), tags, strict=True) if c in faces}
    return faces.assign(current_label=faces["current_label"].where(free, faces["given_label"]), open=free, open_tags=tags[0] & tags[1], **shown)
