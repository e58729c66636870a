"""What a version itself says: do labels and groups go together, and who is in it? No model is involved."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fercore.bias.report import MINIMUM
from fercore.bias.slices import CROSS, NOT_TAGGED, slices
from fercore.evaluation.estimate import Estimate, Floats, masked, proportion
from fercore.evaluation.metrics import DRAWS, bootstrapped


@dataclass(frozen=True)
class Cell:
    """Faces of one group and class. of_group, of_class: which share of the group's, or of the class's, faces that is. npmi: normalised pointwise
    mutual information, -1 to 1, above 0 where the two occur together more often than by chance."""

    group: str
    class_id: str
    n: int
    of_group: Estimate
    of_class: Estimate
    npmi: Estimate


@dataclass(frozen=True)
class Association:
    """Label against the groups of one attribute, over n distinct tagged faces. untagged: distinct faces without a tag of it. cramers_v: corrected for
    bias, 0 (none) to 1; with fewer than two groups or classes neither it nor NPMI nor the shares that would be 1 say anything."""

    attribute: str
    n: int
    untagged: int
    cramers_v: Estimate
    cells: list[Cell]


def association(rows: pd.DataFrame, classes: Sequence[str], by: Sequence[str] = ("age_band", "gender"),
                minimum: int = MINIMUM) -> list[Association]:
    """One an attribute, but for those with the class itself in them; "cannot tell" and "not tagged" are left out.

    Args:
        rows: included rows of a manifest: sample_id, label, duplicate_group, and what `slices` reads. Of a duplicate group the first row counts.

    Raises:
        BadInput: unknown attribute or tag.
    """
    distinct = rows.sort_values("sample_id").drop_duplicates("duplicate_group", ignore_index=True)
    names = [name for name in by if not {"label", "class"} & set(name.split(CROSS))]
    out, groups = [], slices(distinct, names)
    place = pd.Index(classes).get_indexer(pd.Index(distinct["label"]))
    for attribute in dict.fromkeys(s.attribute for s in groups):
        members = [s for s in groups if s.attribute == attribute and not s.listed_only]
        counts = np.stack([np.bincount(place[s.mask], minlength=len(classes)) for s in members])
        n = int(counts.sum())
        drawn = np.random.default_rng(0).multinomial(n, counts.ravel() / n, DRAWS).reshape(DRAWS, *counts.shape) if n else counts[None]
        filled = (counts.sum(axis=1) > 0).sum(), (counts.sum(axis=0) > 0).sum()
        v = alone = Estimate(None, None, None, n, "fewer than two groups or classes")
        if min(filled) > 1:
            value, spread = float(cramers_v(counts)), cramers_v(drawn, correct=2)
            v = bootstrapped(value, spread, n)
            if value == 0:  # draws corrected twice are 0 as well; corrected once, they say how much chance alone would hide
                v = Estimate(value, 0.0, float(np.quantile(cramers_v(drawn), 0.975)), n)
        cells = _cells([s.name for s in members], classes, counts, drawn, minimum)
        if min(filled) < 2:
            cells = [replace(c, of_class=alone if filled[0] < 2 else c.of_class, of_group=alone if filled[1] < 2 else c.of_group, npmi=alone)
                     for c in cells]
        untagged = sum(s.n for s in groups if s.attribute == attribute and s.value == NOT_TAGGED)
        out.append(Association(attribute, n, untagged, v, cells))
    return out


def cramers_v(counts: npt.NDArray[Any], correct: int = 1) -> Floats:
    """Cramer's V corrected for bias (Bergsma 2013, J. Korean Stat. Soc. 42:323) of counts [..., groups, classes], each [...].

    Args:
        correct: how often the bias is taken off; 2 for tables resampled from an observed one, which have it twice.
    """
    n = counts.sum(axis=(-2, -1)).astype(float)
    rows, columns = counts.sum(axis=-1, keepdims=True), counts.sum(axis=-2, keepdims=True)
    expected = rows * columns / n[..., None, None]
    phi2 = np.divide((counts - expected) ** 2, expected, out=np.zeros(counts.shape), where=expected > 0).sum(axis=(-2, -1)) / n
    r, c = (rows > 0).sum(axis=(-2, -1)), (columns > 0).sum(axis=(-2, -1))
    least = np.minimum(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1
    corrected = np.maximum(0, phi2 - correct * (r - 1) * (c - 1) / (n - 1))
    return np.asarray(np.sqrt(np.minimum(1, corrected / np.maximum(least, 1e-12))), dtype=np.float64)


def npmi(counts: npt.NDArray[Any]) -> Floats:
    """ln(p(group, class) / (p(group) p(class))) / -ln p(group, class) (Bouma 2009) of counts [..., groups, classes]; -1 for an empty cell, and 1
    where all faces lie in one."""
    p = counts / counts.sum(axis=(-2, -1), keepdims=True)
    rows, columns = p.sum(axis=-1, keepdims=True), p.sum(axis=-2, keepdims=True)
    inside = (p > 0) & (p < 1)
    safe = np.where(inside, p, 0.5)
    value = np.log(safe / np.where(inside, rows * columns, 1)) / -np.log(safe)
    return np.asarray(np.where(inside, value, np.where(p == 1, 1.0, -1.0)), dtype=np.float64)


def _cells(groups: Sequence[str], classes: Sequence[str], counts: npt.NDArray[Any], drawn: npt.NDArray[Any], minimum: int) -> list[Cell]:
    if not counts.sum():
        return []
    point, spread = npmi(counts), npmi(drawn)
    out = []
    for i, group in enumerate(groups):
        for j, name in enumerate(classes):
            n, of_group, of_class = int(counts[i, j]), int(counts[i].sum()), int(counts[:, j].sum())
            value = masked(n, minimum)
            if n >= max(1, minimum):
                value = bootstrapped(float(point[i, j]), spread[:, i, j], int(counts.sum()))
            out.append(Cell(group, name, n, _share(n, of_group, minimum), _share(n, of_class, minimum), value))
    return out


def _share(n: int, total: int, minimum: int) -> Estimate:
    return proportion(np.arange(total) < n, np.arange(total)) if total >= max(1, minimum) else masked(total, minimum)
