"""A changed recipe that evens out who is trained on, its study against the unchanged baseline, and whom it helped, on faces of neither training."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from fercore import jobs
from fercore.bias.examine import pair
from fercore.bias.inference import adjusted
from fercore.bias.present import cell, class_name, p_text, points
from fercore.bias.report import MINIMUM
from fercore.bias.slices import CROSS, TAGS, Slice, full, said, slices
from fercore.domain import Permission, Person, Workspace, slug
from fercore.errors import BadInput, FerError
from fercore.evaluation.compare import mcnemar
from fercore.evaluation.estimate import Estimate, Floats, Ints, codes, design_effect, masked, paired_difference, wilson
from fercore.store import Store
from fercore.store import sources as source_table
from fercore.training.config import IDENTITY, RunConfig
from fercore.training.rundir import Run, list_runs, read_config
from fercore.versions import files, lifecycle
from fercore.versions.build import facts
from fercore.versions.document import Candidates, Recipe, Target, as_yaml, restated, stated
from fercore.versions.recipe import make

MEANS = {"rows": "adding candidates", "weights": "weighting up", "caps": "leaving out above the median"}
HEAVIEST = 5  # no face counts more than this many times
ENOUGH = 0.2  # of the training faces should be tagged, or the plan evens out what nobody knows
_ALL = 10**9


@dataclass(frozen=True)
class PlanCell:
    """Training faces of one group and class: here now, wanted, candidates available, and what the plan makes of them; missing is what no means
    gives. note: why the faces are not weighted up although they are fewer than wanted."""

    value: str
    group: str
    class_id: str
    here: int
    wanted: int
    available: int
    added: int
    removed: int
    weight: float
    missing: int
    note: str = ""


@dataclass(frozen=True)
class Plan:
    """`recipe` is that of the run's version with `targets` appended; weighted: runs must use the weights of the version. tagged: of the `training`
    faces, those in a cell."""

    run_id: str
    version_id: str
    attribute: str
    recipe: Recipe
    targets: tuple[Target, ...]
    weighted: bool
    candidate_sources: tuple[str, ...]
    cells: list[PlanCell]
    tagged: int
    training: int

    def shown(self) -> pd.DataFrame:
        return pd.DataFrame([{"group": c.group, "class": class_name(c.class_id), "in training": c.here, "wanted": c.wanted, "available": c.available,
                              "added": c.added, "left out": c.removed, "weight": c.note or ("" if c.weight == 1 else f"{c.weight:.2f}"),
                              "missing": c.missing}
                             for c in self.cells])

    def warning(self) -> str:
        """What speaks against building it; empty for nothing."""
        return "" if self.tagged >= ENOUGH * self.training else (
            f"Fewer than {100 * ENOUGH:.0f} % of the training faces are tagged: the groups of the others are unknown, so this plan may even out "
            "nothing. Tag training faces, and freeze the version again.")

    def notes(self) -> list[str]:
        """What a person should know before building it."""
        lacking = sum(c.missing for c in self.cells)
        where = f"Candidates come from {', '.join(self.candidate_sources)}." if self.candidate_sources else (
            "No candidates: every source is in the version already. Import another tagged source to add faces.")
        return [f"{self.tagged:,} of {self.training:,} training faces are tagged with a group of {said(self.attribute)}; cells count only those.",
                f"Wanted is the median over the groups of {said(self.attribute)} in each class, in training faces. {where}",
                f"{lacking:,} faces are missing after this plan." if lacking else "Every cell reaches what is wanted.",
                "The version is built from the facts of now: labels and tags that people changed since are in it, too.",
                *([f"A weighted face counts at most {HEAVIEST} times; both versions train with the same settings but for the weights."]
                  if self.weighted else [])]

    def yaml(self) -> str:
        return as_yaml(self.recipe)


@dataclass(frozen=True)
class GroupOutcome:
    """Accuracy of one group, averaged over the seeds; the interval of the change is over faces and seeds, see `_moved`. sd: of the change over
    seeds, None for one seed."""

    attribute: str
    group: str
    n: int
    before: Estimate
    after: Estimate
    change: Estimate
    sd: float | None
    p_value: float | None
    p_holm: float | None = None


@dataclass(frozen=True)
class Outcome:
    """Rows of the groups, the first is all faces: what it cost or gained overall.

    Attributes:
        n: faces in every run, of neither training set. trained_on: faces of the baseline's test that the new version trains on, left out.
        exploratory: a run was trained on a version that nobody approved.
    """

    study: str
    before_version: str
    after_version: str
    seeds: tuple[int, ...]
    n: int
    trained_on: int
    exploratory: bool
    rows: list[GroupOutcome]


def propose(store: Store, actor: Person, run_id: str, attribute: str = "age_band", means: Sequence[str] = ("rows", "weights"),
            minimum: int = MINIMUM) -> Plan:
    """A plan for the version of a run. Nothing is built. Cells of fewer than `minimum` faces are not weighted: few faces would stand for many.

    Raises:
        NotAllowed: the actor may not read results. NotFound: no such run or version. BadInput: an unknown attribute or means, a leaky run, fewer
            than two groups are tagged in training, or no recipe says what is planned.
    """
    actor.require(Permission.READ_RESULTS)
    attribute = full(attribute)
    fields = attribute.split(CROSS)
    if unknown := [f for f in fields if f not in TAGS] + [m for m in means if m not in MEANS]:
        raise BadInput("This cannot be planned", f"{unknown[0]!r} is neither a perceived attribute nor a means",
                       f"Choose {', '.join(TAGS)} or both crossed, by {', '.join(MEANS)}")
    config = _config(store.workspace, run_id)
    if config.protocol == "leaky":
        raise BadInput("A leaky run is for comparison only", f"{run_id} balanced faces before they were split", "Plan from a hold-out or k-fold run")
    version_id = config.version_id
    card = files.card(store.workspace, version_id)
    rows, classes = files.manifest(store.workspace, version_id), list(card["classes"])
    recipe = restated(card["recipe"])
    here = recipe.sources or tuple(sorted(rows["source_id"].unique()))  # of all sources those of then: what came since is a candidate
    recipe = recipe.model_copy(update={"sources": here})
    train = rows[rows["exclusion"].isna() & (rows["split"] == "train")].reset_index(drop=True)
    groups = [s for s in slices(train, [attribute]) if not s.listed_only]
    counts = np.array([[int((s.mask & (train["label"] == c)).sum()) for c in classes] for s in groups])
    if (counts.sum(axis=1) > 0).sum() < 2:
        raise BadInput("Nothing to even out", f"Fewer than two groups of {said(attribute)} are tagged among the training faces of {version_id}",
                       "Tag training faces, and freeze the version again")
    wanted = np.ceil(np.median(counts[counts.sum(axis=1) > 0], axis=0)).astype(int)
    spare = tuple(s for s in source_table.table(store)["source_id"].tolist() if s not in here)
    wheres: list[Any] = [dict(zip(fields, s.value.split(CROSS), strict=True)) for s in groups]  # keys of a literal type
    read = facts(store, actor)
    available = np.zeros_like(counts)
    if spare:
        asked = tuple(Target(where=w, classes=(c,), at_least=_ALL, candidates=Candidates(sources=spare)) for w in wheres for c in classes)
        funnel = {s.name: len(s.samples) for s in make(recipe.model_copy(update={"targets": (*recipe.targets, *asked)}), read).funnel
                  if s.name.startswith("added to ")}
        available = np.array([[funnel.get(f"added to {t.named(t.classes[0])}", 0) for t in asked[i * len(classes):(i + 1) * len(classes)]]
                              for i in range(len(groups))])
    targets, cells = list[Target](), list[PlanCell]()
    for i, s in enumerate(groups):
        for j, c in enumerate(classes):
            n, goal = int(counts[i, j]), int(wanted[j])
            added = min(max(goal - n, 0), int(available[i, j])) if "rows" in means else 0
            removed = max(n - goal, 0) if "caps" in means and goal else 0
            held = n + added - removed
            light = "weights" in means and held < goal
            note = masked(held, minimum).note if light and held < max(1, minimum) else ""
            weight = min(goal / held, HEAVIEST) if light and not note else 1.0
            if added:
                targets.append(Target(where=wheres[i], classes=(c,), at_least=n + added, candidates=Candidates(sources=spare)))
            if removed:
                targets.append(Target(where=wheres[i], classes=(c,), at_most=goal))
            if round(held * weight) > held:
                targets.append(Target(where=wheres[i], classes=(c,), at_least=round(held * weight), by="weight"))
            cells.append(PlanCell(s.value, s.name, c, n, goal, int(available[i, j]), added, removed, weight,
                                  max(0, goal - round(held * weight)), note))
    changed = recipe.model_copy(update={"targets": (*recipe.targets, *targets), "title": "", "about": "", "published": ()})
    changed = restated(stated(changed))  # model_copy checks nothing
    return Plan(run_id, version_id, attribute, changed, tuple(targets), any(t.by == "weight" for t in targets), spare, cells,
                int(counts.sum()), len(train))


def build(store: Store, actor: Person, plan: Plan, name: str, *, own_code: bool = False) -> str:
    """Freezes the version of the plan; returns its id.

    Raises:
        NotAllowed: the actor may not freeze. BadInput: the plan changes nothing. As `jobs.start`, where its study could not be launched.
    """
    if not plan.targets:
        raise BadInput("The plan changes nothing", f"Every group of {said(plan.attribute)} has what is wanted, or no means can add to it",
                       "Choose other means, or import tagged faces")
    for config in _configs(store.workspace, plan, plan.version_id, (0,)):
        jobs.startable(store.workspace, config, actor, own_code=own_code)
    return lifecycle.freeze(store, actor, plan.recipe, name)


def launch(workspace: Workspace, actor: Person, plan: Plan, built: str, seeds: Sequence[int] = (0, 1, 2), *,
           own_code: bool = False) -> tuple[str, list[str]]:
    """Queues the study: baseline and new version with the settings of the run, for each seed; returns (its name, run ids). Again: what is missing.

    Raises: as `jobs.start_study`.
    """
    mark = hashlib.sha256(built.encode()).hexdigest()[:6]  # a slug is cut, and versions of long names differ in their end
    name = f"{slug(f'mitigation {built}')[:53].rstrip('-')}-{mark}"
    return name, jobs.start_study(workspace, name, _configs(workspace, plan, built, seeds), actor, own_code=own_code)


def _configs(workspace: Workspace, plan: Plan, built: str, seeds: Sequence[int]) -> list[RunConfig]:
    base = _config(workspace, plan.run_id).model_dump(exclude=set(IDENTITY))
    weights = ((plan.version_id, base["sample_weights"]), (built, plan.weighted or base["sample_weights"]))
    return [RunConfig.model_validate(base | {"version_id": v, "seed": seed, "exploratory": True, "sample_weights": weighted})
            for seed in seeds for v, weighted in weights]


def studies(workspace: Workspace, run_id: str) -> list[str]:
    """Names of mitigation studies of the version of this run, newest first."""
    version_id = _config(workspace, run_id).version_id
    found = [r.config for r in list_runs(workspace.runs) if r.config and r.config.study.startswith("mitigation-")]
    return list(dict.fromkeys(c.study for c in found if c.version_id == version_id))


def outcome(workspace: Workspace, study: str, by: Sequence[str] = ("age_band", "gender"), minimum: int = MINIMUM) -> Outcome:
    """What the new version did to each group, over all seeds whose two runs have finished.

    Raises:
        BadInput: not a study of two versions. FerError: no seed has both runs yet, or no face is in neither training set.
    """
    runs = [r for r in list_runs(workspace.runs) if r.config and r.config.study == study]
    versions = sorted({r.config.version_id for r in runs if r.config}, key=lambda v: str(files.card(workspace, v)["created_at"]))
    if len(versions) != 2:
        raise BadInput("Not a mitigation study", f"{study} has runs on {len(versions)} versions", "Launch one from a plan: fercore mitigate RUN")
    pairs = [(seed, a, b) for seed in sorted({r.config.seed for r in runs if r.config})
             if (a := _finished(runs, versions[0], seed)) and (b := _finished(runs, versions[1], seed))]
    if not pairs:
        raise FerError("The study has not finished", f"No seed of {study} has both its runs yet", "Wait for them: fercore runs")
    frames, trained_on, exploratory = [], 0, False
    for _, a, b in pairs:
        (of_old, before), (of_new, after), trained_on = pair(workspace, a, b, by)
        exploratory |= of_old.exploratory or of_new.exploratory
        both = before.merge(after[["sample_id", "label", "correct"]], on=["sample_id", "label"], suffixes=("", "_after"))
        frames.append(both.set_index("sample_id"))
    common = sorted(set.intersection(*(set(f.index) for f in frames)))
    if not common:
        raise FerError("No common faces", f"No face is predicted by all runs of {study} and in neither training set",
                       "A gain on faces that were added to training is not shown")
    first = frames[0].loc[common].reset_index()
    old, new = (np.stack([f.loc[common, c].to_numpy(dtype=float) for f in frames]) for c in ("correct", "correct_after"))
    everyone = Slice("", "", "All faces", np.ones(len(common), dtype=bool), listed_only=True)
    rows = [_change(s, old, new, codes(first["duplicate_group"]), minimum if s.attribute else 1)
            for s in (everyone, *(g for g in slices(first, by) if not g.listed_only))]
    holm, _ = adjusted([None if not r.attribute else r.p_value for r in rows])
    return Outcome(study, versions[0], versions[1], tuple(seed for seed, _, _ in pairs), len(common), trained_on, exploratory,
                   [replace(r, p_holm=p) for r, p in zip(rows, holm, strict=True)])


def outcome_shown(found: Outcome) -> tuple[pd.DataFrame, str]:
    """(table as text, caption)."""
    table = pd.DataFrame([{"by": said(r.attribute), "group": r.group, "faces": r.n, "before": cell(r.before),
                           "after": cell(r.after), "change": points(r.change),
                           "sd over seeds": "" if r.sd is None else f"{100 * r.sd:.1f}", "p": p_text(r.p_value), "p (Holm)": p_text(r.p_holm)}
                          for r in found.rows])
    total = found.rows[0].change
    seeds = ", ".join(map(str, found.seeds))
    over = "Intervals of the change are over faces and seeds." if len(found.seeds) > 1 else "Intervals are over faces, for this one seed."
    return table, ("Exploratory: nobody approved a version that is compared. " * found.exploratory
                   + f"{found.before_version} against {found.after_version}, seeds {seeds}, the same settings; mean over seeds on {found.n:,} faces "
                   f"that no run was trained on ({found.trained_on:,} more are left out, as the new version trains on them). Overall it changed "
                   f"accuracy by {points(total)}. {over}")


def _change(s: Slice, old: Floats, new: Floats, unit: Ints, minimum: int) -> GroupOutcome:
    if s.n < max(1, minimum):
        small = masked(s.n, minimum)
        return GroupOutcome(s.attribute, s.name, s.n, small, small, small, None, None)
    before, after, place = old[:, s.mask], new[:, s.mask], np.unique(unit[s.mask], return_inverse=True)[1]
    change, sd, p = _moved(before, after, place)
    first, second = (Estimate(float(x.mean()), *wilson(float(x.mean()), s.n / design_effect(x.mean(axis=0), place)), s.n) for x in (before, after))
    return GroupOutcome(s.attribute, s.name, s.n, first, second, change, sd, p)


def _moved(before: Floats, after: Floats, group: Ints) -> tuple[Estimate, float | None, float]:
    """(after - before, its sd over seeds, p of no change) of hits [seeds, n].

    One seed: Newcombe's paired interval and McNemar's mid-p, for these two models. Several: t, on the variance over faces (of the mean over seeds)
    plus that over seeds, with Satterthwaite's degrees of freedom; simulated, no change is rejected in 1-6 % with three seeds, up to 10 % with two.
    The variance over faces is at least that of one effective face that moved otherwise.
    """
    from scipy.stats import t

    if len(before) == 1:
        old, new = before[0] > 0, after[0] > 0
        return paired_difference(old, new, group), None, mcnemar(old, new, group)
    moved, by_seed = (after - before).mean(axis=0), (after - before).mean(axis=1)
    size = len(moved) / design_effect(moved, group)
    faces, seeds = max(float(moved.var()), 1 / size) / size, float(by_seed.var(ddof=1)) / len(by_seed)
    mean, error = float(moved.mean()), float(np.sqrt(faces + seeds))
    freedom = (faces + seeds) ** 2 / (faces**2 / max(size - 1, 1) + seeds**2 / (len(by_seed) - 1))
    half = float(t.ppf(0.975, freedom)) * error
    change = Estimate(mean, max(-1.0, mean - half), min(1.0, mean + half), len(moved))
    return change, float(by_seed.std(ddof=1)), float(2 * t.sf(abs(mean) / error, freedom))


def _finished(runs: Sequence[Run], version_id: str, seed: int) -> str | None:
    return next((r.run_id for r in runs if r.config and (r.config.version_id, r.config.seed) == (version_id, seed)
                 and r.status.state == "finished"), None)


def _config(workspace: Workspace, run_id: str) -> RunConfig:
    return read_config(workspace.runs / run_id)
