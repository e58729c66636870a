"""Groups of faces by perceived attribute, class, source, brightness or saved filter. Untagged faces are listed, never dropped, and never averaged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from fercore.errors import BadInput
from fercore.evaluation.estimate import Masks
from fercore.schemes import AGE_BANDS, CANNOT_TELL, CLASSES, GENDERS

SCHEMES = {s.field: s for s in (AGE_BANDS, GENDERS)}
TAGS = tuple(SCHEMES)
ALIASES = {"age": AGE_BANDS.field, "class": "label"}
CROSS = " x "
SINGLE = (*SCHEMES, "label", "source", "brightness")
SAVED = "filter: "  # before the name of a saved filter, whose column says "in" or "out"
NOT_TAGGED = "not_tagged"
NAMES = {CANNOT_TELL: "cannot tell", NOT_TAGGED: "not tagged"}
SAID = {AGE_BANDS.field: "perceived age", GENDERS.field: "perceived gender", "label": "class"}
BANDS = (80, 112, 144, 176)  # of the mean pixel value, 0-255: five bands
_SPELT = {name: name for name in SINGLE} | ALIASES | {shown: name for name, shown in SAID.items()}


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


def offered(saved: Sequence[str] = ()) -> list[str]:
    """The attributes that a page offers: single ones, crossed ones that mean something, and the saved filters of these names."""
    return [*SINGLE, "age_band x gender", "age_band x label", "gender x label", *(SAVED + name for name in saved)]


def said(attribute: str) -> str:
    """An attribute as it is shown, e.g. "perceived age x class"."""
    return CROSS.join(SAID.get(part, part) for part in attribute.split(CROSS))


def full(name: str) -> str:
    """An attribute by its own name, e.g. "age_band x label" for "age x class" or "Perceived age x class"."""
    return CROSS.join(_SPELT.get(part.strip().lower(), part.strip()) for part in name.split(CROSS))


def slices(frame: pd.DataFrame, by: Sequence[str]) -> list[Slice]:
    """Disjoint groups of each attribute in scheme order, empty ones too; then "cannot tell" and "not tagged" where they occur.

    Args:
        frame: of predictions; age_band and gender are null where not tagged. A saved filter is a bool column of its name.
        by: any of "age_band" (or "age"), "gender", "label" (or "class"), "source", "brightness", "filter: NAME", and two of them as "A x B".

    Raises:
        BadInput: unknown attribute, one crossed with itself, or a tag outside its scheme.
    """
    found = []
    for attribute in dict.fromkeys(full(name) for name in by):
        fields = attribute.split(CROSS)
        if len(set(fields)) < len(fields):
            raise BadInput("An attribute crossed with itself", f"{attribute!r} gives no new groups",
                           f"Cross two different ones, or give {fields[0]} alone")
        parts = [_values(frame, field) for field in fields]
        if len(parts) > 2:
            raise BadInput("Too many attributes", f"{attribute!r} crosses {len(parts)}", "Cross two at most; cells of three are too small")
        values, groups = parts[0]
        for more, names in parts[1:]:
            groups = {a + CROSS + b: f"{name} x {other}" for a, name in groups.items() for b, other in names.items()}
            values = _cross(values, more)
        groups |= {value: name for value, name in NAMES.items() if (values == value).any()}
        found += [Slice(attribute, value, name, (values == value).to_numpy(dtype=bool), listed_only=value in NAMES)
                  for value, name in groups.items()]
    return found


def _values(frame: pd.DataFrame, field: str) -> tuple["pd.Series[str]", dict[str, str]]:
    """(value of each face, value -> name of every group)."""
    if field in SCHEMES:
        return _tags(frame, field), {c.class_id: c.name for c in SCHEMES[field].classes}
    if field == "label":
        classes = [c.removeprefix("p_") for c in frame.columns if c.startswith("p_")] or sorted(frame["label"].unique())
        return frame["label"].astype(object), {c: CLASSES[c].name if c in CLASSES else c for c in classes}
    if field == "source":
        return frame["source_id"].astype(object), {s: s for s in sorted(frame["source_id"].unique())}
    if field == "brightness":
        edges = (0, *BANDS, 256)
        names = {f"{low}": f"mean {low} to under {high}" for low, high in pairwise(edges)}
        return pd.cut(frame["mean"], list(edges), right=False, labels=list(names)).astype(object).fillna(NOT_TAGGED), names
    if field.startswith(SAVED) and field in frame:
        return frame[field].map({True: "in", False: "out"}).astype(object), {"in": f"in {field.removeprefix(SAVED)}", "out": "all others"}
    known = [*SINGLE, *(c for c in frame.columns if c.startswith(SAVED))]
    raise BadInput("Unknown attribute", repr(field), f"Choose from {', '.join(known)}, or two of them as 'age x gender'")


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


def with_saved(frame: pd.DataFrame, saved: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """`frame` with a column for each saved filter: name -> ids of its samples."""
    return frame.assign(**{SAVED + name: frame["sample_id"].isin(set(ids)) for name, ids in saved.items()})
