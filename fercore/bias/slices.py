"""Groups of faces by perceived attribute. Untagged faces are listed, never dropped, and never averaged."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from fercore.errors import BadInput
from fercore.evaluation.estimate import Masks
from fercore.schemes import AGE_BANDS, CANNOT_TELL, GENDERS

SCHEMES = {s.field: s for s in (AGE_BANDS, GENDERS)}
ALIASES = {"age": AGE_BANDS.field}
CROSS = " x "
ATTRIBUTES = (*SCHEMES, CROSS.join(SCHEMES))
NOT_TAGGED = "not_tagged"
NAMES = {CANNOT_TELL: "cannot tell", NOT_TAGGED: "not tagged"}


@dataclass(frozen=True, eq=False)
class Slice:
    """The faces of one group: `mask` is bool [n]; `listed_only` groups enter no average and no gap."""

    attribute: str
    value: str
    name: str
    mask: Masks
    listed_only: bool

    @property
    def n(self) -> int:
        return int(self.mask.sum())


def slices(frame: pd.DataFrame, by: Sequence[str]) -> list[Slice]:
    """Disjoint groups of each attribute in scheme order, empty ones too; then "cannot tell" and "not tagged" where they occur.

    Args:
        frame: with age_band and gender, null where not tagged.
        by: any of "age_band" (or "age"), "gender", "age_band x gender".

    Raises:
        BadInput: unknown attribute, or a tag outside its scheme.
    """
    found = []
    for attribute in dict.fromkeys(CROSS.join(ALIASES.get(part, part) for part in name.split(CROSS)) for name in by):
        fields = attribute.split(CROSS)
        if attribute not in ATTRIBUTES:
            raise BadInput("Unknown attribute", repr(attribute), f"Choose from {', '.join(ATTRIBUTES)}")
        values = _tags(frame, fields[0])
        groups = {c.class_id: c.name for c in SCHEMES[fields[0]].classes}
        for field in fields[1:]:
            groups = {a + CROSS + c.class_id: f"{name} x {c.name}" for a, name in groups.items() for c in SCHEMES[field].classes}
            values = _cross(values, _tags(frame, field))
        groups |= {value: name for value, name in NAMES.items() if (values == value).any()}
        found += [Slice(attribute, value, name, (values == value).to_numpy(dtype=bool), listed_only=value in NAMES)
                  for value, name in groups.items()]
    return found


def _tags(frame: pd.DataFrame, field: str) -> "pd.Series[str]":
    values = frame[field].astype(object).where(frame[field].notna(), NOT_TAGGED)
    unknown = sorted(set(values) - {*SCHEMES[field].ids, *NAMES})
    if unknown:
        raise BadInput("Unknown tag", f"{field} has {', '.join(map(repr, unknown))}", f"Use {', '.join(SCHEMES[field].ids)}")
    return values


def _cross(first: "pd.Series[str]", second: "pd.Series[str]") -> "pd.Series[str]":
    """Both values joined; a face not tagged, or not told, in either is so in both."""
    crossed = first + CROSS + second
    for value in NAMES:
        crossed = crossed.mask((first == value) | (second == value), value)
    return crossed
