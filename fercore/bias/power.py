"""How many tagged faces a group needs before a gap can be seen, and the tagging campaign that finds them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import asin, ceil, sin, sqrt
from statistics import NormalDist

import numpy as np
import pandas as pd

from fercore.bias.report import Grouped
from fercore.bias.slices import CROSS, TAGS
from fercore.curation import campaigns
from fercore.domain import Permission, Person
from fercore.errors import BadInput
from fercore.evaluation.estimate import Estimate, design_effect, masked, proportion
from fercore.schemes import AGE_BANDS, GENDERS
from fercore.store import Store

GAP, POWER, LEVEL = 0.05, 0.8, 0.05


@dataclass(frozen=True)
class Need:
    """What one group lacks.

    Attributes:
        n: tagged faces here. reference: accuracy of the attribute's other groups together; where they are too few, that alone is said.
        needed: faces of this group, and as many others, for 80 % power at the two-sided 5 % level to see it GAP below the reference; None where the
            reference itself is lower than GAP. more, more_others: how many of this group, and of the others, are missing.
        untagged: predicted faces without a tag of this attribute. to_tag: how many of them must be tagged to find both, at the shares among the
            tagged; all of them, with a note, where they cannot suffice; None where the group has no face yet. detectable: the gap that n can show
            now; None where even 100 points cannot.
    """

    attribute: str
    value: str
    group: str
    n: int
    reference: Estimate
    needed: int | None
    more: int | None
    more_others: int | None
    untagged: int
    to_tag: int | None
    detectable: float | None
    note: str = ""


def faces_needed(reference: float, gap: float = GAP, power: float = POWER, level: float = LEVEL) -> int | None:
    """Faces in each of two groups for a test of `reference` against `reference - gap` (Cohen 1988, 6.2: normal test of arcsines); None where no such
    gap is possible."""
    if not 0 < gap <= reference:
        return None
    effect = 2 * (asin(sqrt(reference)) - asin(sqrt(reference - gap)))
    return ceil(2 * (_z(power, level) / effect) ** 2)


def detectable(reference: float, n: float, others: float, power: float = POWER, level: float = LEVEL) -> float | None:
    """The smallest gap below `reference` that n faces show against `others`; None where even an accuracy of 0 would not be seen."""
    angle = asin(sqrt(reference)) - _z(power, level) * sqrt(1 / n + 1 / others) / 2
    return reference - sin(angle) ** 2 if angle > 0 else None


def _z(power: float, level: float) -> float:
    return NormalDist().inv_cdf(1 - level / 2) + NormalDist().inv_cdf(power)


def needs(found: Grouped, gap: float = GAP) -> list[Need]:
    """One a group of the perceived attributes, which people can tag; the effective number of faces counts, not that of copies."""
    out = []
    for attribute in dict.fromkeys(s.attribute for s in found.groups if all(part in TAGS for part in s.attribute.split(CROSS))):
        members = [s for s in found.groups if s.attribute == attribute and not s.listed_only]
        tagged = sum(s.n for s in members)
        untagged = len(found.frame) - sum(s.n for s in found.groups if s.attribute == attribute and s.value != "not_tagged")
        for s in members:
            others = np.any([m.mask for m in members if m is not s], axis=0)
            about = (attribute, s.value, s.name, s.n)
            if others.sum() < max(1, found.minimum):
                out.append(Need(*about, masked(int(others.sum()), found.minimum), None, None, None, untagged, None, None, "too few others to say"))
                continue
            correct, unit = found.frame["correct"].to_numpy(dtype=bool), found.frame["duplicate_group"].to_numpy(np.int64)
            place = np.unique(unit[others], return_inverse=True)[1]
            reference, effect = proportion(correct[others], place), design_effect(correct[others], place)
            share = float(reference.value or 0)
            alone = faces_needed(share, gap)
            needed = None if alone is None else ceil(alone * effect)
            shows = detectable(share, s.n / effect, others.sum() / effect) if s.n > 1 else None
            if needed is None:
                out.append(Need(*about, reference, None, None, None, untagged, None, shows))
                continue
            rest = int(others.sum())
            more, more_others = max(0, needed - s.n), max(0, needed - rest)
            to_tag = None if more and not s.n else max((ceil(k * tagged / n) for k, n in ((more, s.n), (more_others, rest)) if k), default=0)
            note = "none of it tagged yet" if to_tag is None else "more than are untagged" if to_tag > untagged else ""
            out.append(Need(*about, reference, needed, more, more_others, untagged, None if to_tag is None else min(to_tag, untagged), shows, note))
    return out


def candidates(frame: pd.DataFrame, attribute: str, wanted: int | None = None) -> list[str]:
    """Image ids of predicted faces that lack a tag of `attribute`, in an order that no one chose (by hash), `wanted` of them at most."""
    bare = frame.loc[frame[[f for f in attribute.split(CROSS) if f in TAGS]].isna().any(axis=1), "image_id"].unique()
    ordered: list[str] = sorted(bare.tolist(), key=lambda i: hashlib.sha256(f"tag:{i}".encode()).hexdigest())
    return ordered[:min(campaigns.HAND_PICKED, len(ordered) if wanted is None else wanted)]


def open_campaign(store: Store, actor: Person, run_id: str, need: Need, images: Sequence[str]) -> str:
    """Opens a campaign in which people tag these faces; returns its id.

    Raises:
        NotAllowed: the actor may not plan campaigns. BadInput: there is no face to tag. Conflict: it is open already.
    """
    actor.require(Permission.PLAN)
    if not images:
        raise BadInput("No face to tag", f"Every face that {run_id} predicts has a tag of {need.attribute}", "Import more faces first")
    digest = hashlib.sha256("".join(images).encode()).hexdigest()[:6]
    name = f"Tags for bias: {need.group}, {len(images):,} faces ({digest})"
    return campaigns.save(store, actor, campaigns.Campaign(name=name, ask=(AGE_BANDS.scheme_id, GENDERS.scheme_id), images=tuple(images)))
