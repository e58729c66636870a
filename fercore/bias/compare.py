"""Two runs on exactly the same faces, group by group: did the mitigation help, and whom?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from fercore.bias.inference import adjusted
from fercore.bias.report import MINIMUM, BiasTable, Gap, bias_table
from fercore.bias.slices import Slice, slices
from fercore.errors import FerError
from fercore.evaluation.compare import mcnemar
from fercore.evaluation.estimate import Estimate, Ints, Masks, codes, difference, masked, paired_difference, to_json
from fercore.evaluation.metrics import accuracy


@dataclass(frozen=True)
class PairedRow:
    """One group; kind: "group", "listed" (cannot tell, not tagged) or "all". p_value: McNemar mid-p, None when masked; p_holm: over the groups."""

    attribute: str
    value: str
    group: str
    kind: str
    n: int
    before: Estimate
    after: Estimate
    difference: Estimate
    p_value: float | None
    p_holm: float | None = None


@dataclass(frozen=True)
class GapChange:
    """The largest gap before and after (perhaps of other groups), and `change`: how the gap of the pair that was largest before
    moved. That pair was picked for its size, so part of a shrinkage is regression to the mean."""

    attribute: str
    before: Gap
    after: Gap
    change: Estimate


@dataclass(frozen=True)
class BeforeAfter:
    """Comparison on the n common faces; left_out_*: faces of one run only, or with another true label in the other."""

    n: int
    left_out_before: int
    left_out_after: int
    retagged: int
    rows: list[PairedRow]
    gaps: list[GapChange]
    before: BiasTable
    after: BiasTable

    def records(self) -> dict[str, Any]:
        """As JSON values without NaN."""
        return dict(to_json(self))


def before_after(before: pd.DataFrame, after: pd.DataFrame, classes: Sequence[str], by: Sequence[str] = ("age_band", "gender"),
                 minimum: int = MINIMUM) -> BeforeAfter:
    """Compare two runs on the samples both predict, with the same true label in both.

    Tags and duplicate groups are those of `after`, for both sides; `retagged` counts the faces whose tags have changed.

    Raises:
        FerError: no common face, or predictions on faces that were trained on.
        BadInput: unknown attribute or tag.
    """
    pairs = before.merge(after, on=["sample_id", "label"], suffixes=("_before", "_after"))
    if pairs.empty:
        raise FerError("No common images", "The two runs predict no image with the same true label in both",
                       "Compare runs evaluated on the same faces, e.g. on one version's test split")
    keys = pairs[["sample_id", "label"]]
    first, second = (run.merge(keys).sort_values("sample_id", ignore_index=True) for run in (before, after))
    tags = ["age_band", "gender"]
    retagged = int((first[tags].fillna("") != second[tags].fillna("")).any(axis=1).sum())
    first = first.assign(**{c: second[c] for c in (*tags, "duplicate_group")})
    old, new = bias_table(first, classes, by, minimum), bias_table(second, classes, by, minimum)
    groups = slices(second, by)
    changes = [GapChange(a.attribute, a, b, _gap_change(first, second, a, groups))
               for a, b in zip(old.gaps, new.gaps, strict=True)]
    everyone = Slice("", "", "All", np.ones(len(second), dtype=bool), listed_only=True)
    rows = [_row(first, second, s, minimum if s.attribute else 1) for s in (everyone, *groups)]
    holm, _ = adjusted([r.p_value if r.kind == "group" else None for r in rows])
    return BeforeAfter(len(pairs), len(before) - len(pairs), len(after) - len(pairs), retagged,
                       [replace(r, p_holm=p) for r, p in zip(rows, holm, strict=True)], changes, old, new)


def _row(before: pd.DataFrame, after: pd.DataFrame, s: Slice, minimum: int) -> PairedRow:
    kind = "all" if not s.attribute else "listed" if s.listed_only else "group"
    if s.n < max(1, minimum):
        return PairedRow(s.attribute, s.value, s.name, kind, s.n, *(masked(s.n, minimum),) * 3, None)
    a, b, group = _pair(before, after, s)
    return PairedRow(s.attribute, s.value, s.name, kind, s.n, accuracy(before[s.mask]), accuracy(after[s.mask]),
                     paired_difference(a, b, group), mcnemar(a, b, group))


def _gap_change(before: pd.DataFrame, after: pd.DataFrame, gap: Gap, groups: Sequence[Slice]) -> Estimate:
    """Change of the best group minus change of the worst: their paired intervals joined by MOVER (Zou & Donner 2008)."""
    if gap.difference.value is None:
        return gap.difference
    pair = {s.value: s for s in groups if s.attribute == gap.attribute}
    best, worst = (paired_difference(*_pair(before, after, pair[value])) for value in (gap.highest, gap.lowest))
    return difference(best, worst)


def _pair(before: pd.DataFrame, after: pd.DataFrame, s: Slice) -> tuple[Masks, Masks, Ints]:
    first, second = (run.loc[s.mask, "correct"].to_numpy(dtype=bool) for run in (before, after))
    return first, second, codes(after.loc[s.mask, "duplicate_group"])
