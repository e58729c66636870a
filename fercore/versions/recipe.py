"""A recipe: declarative steps from samples to a dataset version."""

import hashlib
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fercore.errors import BadInput
from fercore.ingest.files import read_mapping
from fercore.schemes import EXCLUSIONS, FLAGS, SCHEMES

_RANK = {"test": 0, "val": 1, "train": 2}  # a duplicate stays where it does least harm: evaluation keeps its faces


class Recipe(BaseModel):
    """How a version is made. Unknown keys are refused.

    Attributes:
        sources: source ids; empty means all.
        scheme: scheme id that labels must belong to; rows with another label are excluded.
        labels: `given` by the source, or `current` (rule plurality@1 over annotators, else given).
        exclude_flags: rows with one of these flags are excluded.
        drop_gone: rows whose file is no longer in its source are excluded.
        drop_excluded: faces that somebody left out, with a reason, are excluded.
        transforms: kinds of edits that people marked and that are made in the version; the store keeps the face as it came.
        drop_conflicting: identical faces with different labels are all excluded.
        duplicates: `keep_one` of each group of identical faces, or `keep_all` in one split.
        split: `source` maps the source's own splits by `source_splits`; `ratios` draws stratified groups.
        votes: the version carries how many people chose each class of the scheme, for training on soft labels.
        validation_share: share of the training groups that becomes val when no source split maps to it.
        seed: of every draw.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sources: tuple[str, ...] = ()
    scheme: str = "fer7@1"
    labels: Literal["given", "current"] = "current"
    exclude_flags: tuple[str, ...] = ("non_face",)
    drop_gone: bool = True
    drop_excluded: bool = True
    transforms: tuple[Literal["brighten"], ...] = ()
    drop_conflicting: bool = True
    duplicates: Literal["keep_one", "keep_all"] = "keep_one"
    split: Literal["source", "ratios"] = "source"
    source_splits: dict[str, Literal["train", "val", "test"]] = {
        "Training": "train", "PublicTest": "test", "PrivateTest": "test", "train": "train", "val": "val", "valid": "val", "validation": "val",
        "test": "test"}
    ratios: tuple[float, float, float] = (0.7, 0.15, 0.15)
    votes: bool = False
    validation_share: float = Field(default=0.1, gt=0, lt=0.5)
    seed: int = 0

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        if self.scheme not in SCHEMES or SCHEMES[self.scheme].field != "expression":
            raise ValueError(f"scheme must be one of {', '.join(s for s in SCHEMES if SCHEMES[s].field == 'expression')}")
        if unknown := set(self.exclude_flags) - set(FLAGS):
            raise ValueError(f"unknown flag {sorted(unknown)[0]!r}: choose from {', '.join(FLAGS)}")
        if self.split == "ratios" and not all(r > 0 for r in self.ratios):
            raise ValueError("ratios must be numbers above 0")
        if self.split == "ratios" and abs(sum(self.ratios) - 1) > 1e-9:
            raise ValueError(f"ratios must sum to 1, not {sum(self.ratios):g}")
        return self


def read_recipe(path: Path) -> Recipe:
    """A recipe from a YAML or JSON file. Raises: BadInput, naming the line or key at fault."""
    data, name = read_mapping(path), str(path)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "recipe"
        allowed = f"Allowed keys: {', '.join(Recipe.model_fields)}" if first["type"] == "extra_forbidden" else ""
        raise BadInput("The recipe cannot be used", f"{name}, {where}: {first['msg'].removeprefix('Value error, ')}", allowed) from error


def apply(recipe: Recipe, samples: pd.DataFrame) -> pd.DataFrame:
    """The manifest rows of a version.

    Args:
        samples: columns of the `samples` view, with gone, exclude (a reason or None) and transform (an edit or None); with votes in the recipe also
            votes (counts in class order, comma-separated).

    Returns:
        One row a sample of the chosen sources, sorted by sample_id: sample_id, image_id, source_id, source_row, given_label, label,
        split, duplicate_group, age_band, gender, flags, mean, exclusion (the first reason that applies; None = included); with transforms in the
        recipe also transform (what is done to the pixels; None = nothing), with votes also votes.

    Raises:
        BadInput: no row is left, a source is unknown, or a class of the scheme or a split would be empty.
    """
    if missing := set(recipe.sources) - set(samples["source_id"]):
        raise BadInput("Unknown source", f"The recipe names {sorted(missing)[0]!r}",
                       f"Choose from {', '.join(sorted(set(samples['source_id']))) or 'nothing: import something first'}")
    rows = samples[samples["source_id"].isin(recipe.sources)] if recipe.sources else samples
    rows = rows.sort_values("sample_id", ignore_index=True).copy()
    rows = rows.astype(object).where(rows.notna(), None)
    rows["duplicate_group"] = rows["image_id"]
    rows["label"] = rows["given_label" if recipe.labels == "given" else "current_label"]
    rows["exclusion"] = None

    def exclude(which: pd.Series, reason: str | pd.Series) -> None:
        rows["exclusion"] = rows["exclusion"].where(rows["exclusion"].notna() | ~which.astype(bool), reason)

    def left() -> pd.Series:
        return rows["exclusion"].isna()

    classes = SCHEMES[recipe.scheme].ids
    if recipe.drop_gone:
        exclude(rows["gone"], "no longer in its source")
    exclude(rows["label"].isna(), "no label")
    exclude(~rows["label"].isin(classes), "label outside the scheme")
    for flag in recipe.exclude_flags:
        exclude(rows["flags"].map(lambda f, flag=flag: flag in f.split(",")), f"flagged {flag.replace('_', ' ')}")
    if recipe.drop_excluded:
        exclude(rows["exclude"].notna(), "excluded: " + rows["exclude"].map(lambda r: EXCLUSIONS.get(r, "several reasons").lower()))
    if recipe.drop_conflicting:
        kinds = rows[left()].groupby("image_id")["label"].nunique()
        exclude(rows["image_id"].isin(kinds[kinds > 1].index), "identical faces with different labels")
    if recipe.split == "source":
        rows["split"] = rows["source_split"].map(recipe.source_splits)
        exclude(rows["split"].isna(), "source split not used")
    else:
        rows["split"] = None
    rank = rows["split"].map(_RANK).fillna(0)
    if recipe.duplicates == "keep_one":
        order = rows[left()].assign(rank=rank).sort_values(["rank", "source_id", "source_row"], kind="stable")
        exclude(rows.index.to_series().isin(order.index[order.duplicated("image_id")]), "duplicate of a kept face")
    elif recipe.split == "source":
        best = rows.assign(rank=rank)[left()].groupby("image_id")["rank"].transform("min")
        exclude(left() & (rank != best.reindex(rows.index)), "also in a split that is evaluated")
    if recipe.split == "ratios":
        rows["split"] = _draw(rows[left()], recipe.ratios, recipe.seed).reindex(rows.index)
    elif "val" not in set(rows.loc[left(), "split"]):
        train = rows[left() & (rows["split"] == "train")]
        drawn = _draw(train, (1 - recipe.validation_share, recipe.validation_share, 0.0), recipe.seed)
        rows.loc[train.index, "split"] = drawn
    rows["split"] = rows["split"].where(left(), None)
    _complete(rows[left()], classes)
    columns = ["sample_id", "image_id", "source_id", "source_row", "given_label", "label", "split", "duplicate_group", "age_band", "gender",
               "flags", "mean", "exclusion"]
    if recipe.transforms:
        rows["transform"] = rows["transform"].where(left(), None)
        columns.append("transform")
    if recipe.votes:
        columns.append("votes")
    return rows[columns].astype(object).where(rows[columns].notna(), None)


def _draw(rows: pd.DataFrame, shares: tuple[float, float, float], seed: int) -> pd.Series:
    """A split for each row: whole duplicate groups, stratified by label, in an order that depends on seed and group only.

    A class of three groups or more has at least one in every split with a share.
    """
    groups = rows[["duplicate_group", "label"]].sort_values(["duplicate_group", "label"]).drop_duplicates("duplicate_group")
    groups["key"] = [hashlib.sha256(f"{seed}:{g}".encode()).hexdigest() for g in groups["duplicate_group"]]
    split: dict[str, str] = {}
    for _, members in groups.sort_values("key").groupby("label")["duplicate_group"]:
        n = len(members)
        val, test = (max(round(n * share), 1 if share and n >= 3 else 0) for share in shares[1:])
        while val + test >= n > 1:  # a class is trained on before it is tested
            val, test = (val - 1, test) if val > test else (val, test - 1)
        split |= dict(zip(members, ["train"] * (n - val - test) + ["val"] * val + ["test"] * test, strict=True))
    return rows["duplicate_group"].map(split)


def _complete(rows: pd.DataFrame, classes: tuple[str, ...]) -> None:
    if rows.empty:
        raise BadInput("The version would be empty", "Every row is excluded by the recipe", "Loosen the exclusions")
    counts = pd.crosstab(rows["split"], rows["label"]).reindex(index=list(_RANK), columns=list(classes), fill_value=0)
    for split in ("train", "val", "test"):
        if not counts.loc[split].sum():
            raise BadInput(f"The {split} split would be empty", "No row is mapped to it", "Change split, source_splits or ratios")
    for name in classes:
        if not counts.loc["train", name]:
            raise BadInput("A class would be empty", f"{name} has no training row", "Loosen the exclusions or choose another scheme")
