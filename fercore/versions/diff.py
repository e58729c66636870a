"""What changes from one version to another, row by row, from the files alone."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from fercore.domain import SPLITS, Workspace
from fercore.errors import BadInput
from fercore.schemes import CLASSES
from fercore.versions import files
from fercore.versions.rows import TAGS, rows_of

Kind = Literal["added", "removed", "relabelled", "moved", "tagged", "edited"]
KINDS: tuple[Kind, ...] = ("added", "removed", "relabelled", "moved", "tagged", "edited")
_READ = ("sample_id", "image_id", "label", "split", "exclusion", "flags", "transform", *TAGS)
_TAGGED = (*TAGS, "flags")


@dataclass(frozen=True)
class Diff:
    """From version `a` to `b`. Rows are samples that one of them includes.

    Args:
        rows: sample_id, image_id, and label, split, exclusion, flags, transform, age_band, gender of both (as label_a, label_b, ...), "" for missing.
        masks: kind -> which rows, bool [n]. added: only b includes it; removed: only a does; all others: both do, and it has another label, split,
            tag or flag, or its pixels are edited otherwise.
    """

    a: str
    b: str
    rows: pd.DataFrame
    masks: dict[Kind, "pd.Series[bool]"]
    same_manifest: bool

    def counts(self) -> dict[str, int]:
        return {kind: int(mask.sum()) for kind, mask in self.masks.items()}

    def matrix(self, kind: Kind = "relabelled") -> pd.DataFrame:
        """Labels of a (rows) by labels of b (columns) over the relabelled rows, or splits over the moved ones: counts, square."""
        column = "split" if kind == "moved" else "label"
        part = self.rows[self.masks[kind]]
        met = {*part[f"{column}_a"], *part[f"{column}_b"]}
        names = [s for s in SPLITS if s in met] if kind == "moved" else _ordered(met)
        return pd.crosstab(part[f"{column}_a"], part[f"{column}_b"]).reindex(index=names, columns=names, fill_value=0)

    def distribution(self, column: str) -> pd.DataFrame:
        """How many rows each version includes, by `column` (label, split, age_band, gender): value, a, b, change."""
        n = {side: self.rows.loc[self.rows[f"exclusion_{side}"] == "", f"{column}_{side}"].value_counts() for side in "ab"}
        both = pd.DataFrame(n).fillna(0).astype(int)
        order = [s for s in SPLITS if s in both.index] if column == "split" else _ordered(set(both.index))
        both = both.reindex(order).rename_axis("value").reset_index()
        return both.assign(change=both["b"] - both["a"])

    def faces(self, kind: str, before: str | None = None, after: str | None = None) -> pd.DataFrame:
        """Rows of one kind; for relabelled and moved also of one cell of the matrix. Raises: BadInput: no such kind."""
        if kind not in KINDS:
            raise BadInput("Unknown kind of change", f"{kind!r}", f"Choose {', '.join(KINDS)}")
        part, column = self.rows[next(m for k, m in self.masks.items() if k == kind)], "split" if kind == "moved" else "label"
        if before is not None:
            part = part[part[f"{column}_a"] == before]
        return part[part[f"{column}_b"] == after] if after is not None else part

    def reasons(self) -> pd.DataFrame:
        """Why rows of a are not in b: reason, n; "not among the rows" where b does not list the sample at all."""
        n = self.rows.loc[self.masks["removed"], "exclusion_b"].value_counts()
        return n.rename_axis("reason").reset_index(name="n")

    def summary(self) -> dict[str, Any]:
        """As JSON: counts, both matrices, reasons, distributions."""
        return {"from": self.a, "to": self.b, "same_manifest": self.same_manifest, "counts": self.counts(),
                "relabelled": {str(k): v.to_dict() for k, v in self.matrix().iterrows()},
                "moved": {str(k): v.to_dict() for k, v in self.matrix("moved").iterrows()}, "removed_because": self.reasons(),
                "distributions": {c: self.distribution(c) for c in ("label", "split", *TAGS)}}

    def text(self) -> str:
        """For a terminal."""
        if self.same_manifest:
            return f"{self.b} has the same manifest as {self.a}"
        parts = [f"{self.a} -> {self.b}", *(f"{n:>8,} {kind}" for kind, n in self.counts().items())]
        for title, table in (("labels", self.matrix()), ("splits", self.matrix("moved"))):
            if len(table):
                parts.append(f"\n{title}: from (rows) to (columns)\n{table.rename_axis(index=None, columns=None)}")
        if len(self.reasons()):
            parts.append(f"\nremoved because\n{self.reasons().to_string(index=False, header=False)}")
        parts += [f"\n{c}\n{self.distribution(c).replace('', 'none').to_string(index=False)}" for c in ("label", "split")]
        return "\n".join(parts)


_ABSENT = "not among the rows"


def _ordered(names: set[str]) -> list[str]:
    """Classes in the order of their schemes."""
    known = list(CLASSES)
    return sorted(names, key=lambda n: (known.index(n) if n in known else len(known), n))


def compare(workspace: Workspace, a: str, b: str) -> Diff:
    """Raises: NotFound: no such version."""
    sides = {}
    for side, version_id in (("a", a), ("b", b)):
        rows = rows_of(workspace, version_id, *_READ)
        sides[side] = rows.set_index("sample_id").rename(columns={c: f"{c}_{side}" for c in _READ})
    both = sides["a"].join(sides["b"], how="outer") if not sides["a"].index.equals(sides["b"].index) else pd.concat([*sides.values()], axis=1)
    both = both.fillna({"exclusion_a": _ABSENT, "exclusion_b": _ABSENT}).fillna("")
    in_a, in_b = both["exclusion_a"] == "", both["exclusion_b"] == ""
    rows = both[in_a | in_b].reset_index()
    in_a, in_b = rows["exclusion_a"] == "", rows["exclusion_b"] == ""
    rows.insert(1, "image_id", np.where(rows["image_id_a"] != "", rows["image_id_a"], rows["image_id_b"]))

    def differ(*columns: str) -> "pd.Series[bool]":
        unlike = pd.concat([rows[f"{c}_a"] != rows[f"{c}_b"] for c in columns], axis=1).any(axis=1)
        return in_a & in_b & unlike

    masks: dict[Kind, pd.Series[bool]] = {
        "added": in_b & ~in_a, "removed": in_a & ~in_b, "relabelled": differ("label"), "moved": differ("split"), "tagged": differ(*_TAGGED),
        "edited": differ("transform")}
    return Diff(a, b, rows.drop(columns=["image_id_a", "image_id_b"]), masks,
                files.card(workspace, a)["manifest_sha256"] == files.card(workspace, b)["manifest_sha256"])
