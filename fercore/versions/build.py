"""From a workspace and a recipe to the rows and pixels of a version. Same facts and recipe: same manifest hash, on every machine."""

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from fercore.audit.transforms import transformed
from fercore.curation import rules
from fercore.curation import schemes as book
from fercore.domain import SPLITS, Person, Pixels, image_id, slug
from fercore.store import Store, findings, samples, sources
from fercore.versions.files import card, manifest, manifest_sha256
from fercore.versions.recipe import Facts, Made, Recipe, make, restated, stated

PROVENANCE = ("source_id", "name", "authors", "organisation", "licence", "url")


@dataclass(frozen=True)
class Built:
    """A version before it has a name.

    Attributes:
        made: rows with pixel_id, funnel, missing. pixels: uint8 [included rows, 48, 48], after the edits.
        stated: the recipe as it is hashed. sources: what each source that is in says about itself.
    """

    made: Made
    pixels: Pixels
    stated: dict[str, Any]
    classes: tuple[str, ...]
    sources: list[dict[str, Any]]
    sha256: str

    def card(self, actor: Person, name: str, at: datetime) -> dict[str, Any]:
        """version.json of what the facts were `at` a time (UTC), but for the number."""
        rows = self.made.rows
        included = rows[rows["exclusion"].isna()]
        return {"name": slug(name), "manifest_sha256": self.sha256, "scheme_id": self.stated["scheme"], "classes": list(self.classes),
                "recipe": self.stated, "created_by": actor.name, "created_at": at.isoformat(timespec="seconds"),
                "counts": {**dict.fromkeys(SPLITS, 0), **included["split"].value_counts().to_dict(), "excluded": len(rows) - len(included)},
                "funnel": self.made.counted(), "missing": list(self.made.missing),
                "sources": self.sources}


def facts(store: Store, actor: Person) -> Facts:
    """What recipes read, as the store holds it now; each part is read when a recipe first asks for it.

    Raises:
        NotAllowed, when a recipe asks for votes: the actor may not read results.
    """
    return Facts(samples.table(store).sort_values("sample_id", ignore_index=True), cache(lambda votes: rules.ballots(store, actor, votes)),
                 cache(lambda: samples.found(store)), cache(lambda name: findings.values(store, name).set_index("image_id")["value"]),
                 cache(lambda field: findings.decided(store, field).set_index("image_id")["value"]), cache(lambda: _near(store)), book.known(store))


def _near(store: Store) -> "pd.Series[str]":
    return findings.images_of(store, "near_duplicate").dropna().drop_duplicates("image_id").set_index("image_id")["group_id"]


def build(store: Store, actor: Person, recipe: Recipe) -> Built:
    """Raises: BadInput: the recipe does not fit the data. NotAllowed: see `facts`."""
    read = facts(store, actor)
    made = make(recipe, read)
    rows, said = made.rows, stated(recipe)
    included = rows["exclusion"].isna().to_numpy(bool)
    pixels = samples.pixels(store, rows.loc[included, "image_id"].tolist())
    if recipe.transforms:
        pixels = transformed(pixels, rows.loc[included, "transform"].tolist())
    ids = np.full(len(rows), None, object)
    ids[included] = [image_id(p) for p in pixels]
    rows["pixel_id"] = pd.Series(ids, dtype=object)
    about = sources.table(store)
    about = about.loc[about["source_id"].isin(rows.loc[included, "source_id"].unique()), list(PROVENANCE)]
    told = [{str(k): v for k, v in row.items()} for row in about.astype(object).where(about.notna(), None).to_dict("records")]
    return Built(made, pixels, said, read.schemes[recipe.scheme].ids, told, manifest_sha256(rows, said))


def preview(store: Store, actor: Person, recipe: Recipe) -> Made:
    """What `build` would make, without pixels. Raises: as `build`."""
    return make(recipe, facts(store, actor))


def recomputed(store: Store, actor: Person, version_id: str) -> list[str]:
    """What the recipe of a version makes of the facts of now otherwise than its manifest has it: a line a column, nothing when all is the same.

    Raises: NotFound: no such version; as `build`.
    """
    before = manifest(store.workspace, version_id).set_index("sample_id")
    again = preview(store, actor, restated(card(store.workspace, version_id)["recipe"])).rows.set_index("sample_id")
    out = [f"{len(rows):,} rows {what}, the first is {rows[0]}" for what, rows in (
        ("are no longer there", before.index.difference(again.index)), ("are new", again.index.difference(before.index))) if len(rows)]
    both = before.index.intersection(again.index)
    for column in (c for c in again.columns if c in before and c != "mean"):
        then, now_ = before.loc[both, column], again.loc[both, column]
        differ = (then != now_) & ~(then.isna() & now_.isna())
        if differ.any():
            first = str(differ.idxmax())
            out.append(f"{column} differs in {int(differ.sum()):,} rows, the first is {first}: {then[first]} then, {now_[first]} now")
    return out
