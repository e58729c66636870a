"""The open workspace and cached readers, keyed by workspace, revision of what they read, and arguments."""

import functools
import importlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import streamlit as st

from dashboard.components import loop
from fercore import audit, bias, curation, evaluation, jobs, people
from fercore.audit import actions
from fercore.bias import document, mitigation, saved
from fercore.bias.examine import unseen
from fercore.curation import Campaign, adjudication, campaigns, quality, rules
from fercore.curation import schemes as book
from fercore.domain import SIDE, Filter, Person, Workspace
from fercore.evaluation import Estimate, ledger
from fercore.evaluation import suspects as suspicion
from fercore.evaluation.record import record_finished
from fercore.models import BACKBONES, MODELS
from fercore.schemes import Scheme
from fercore.store import Store, findings, labels, runs, samples, versions
from fercore.store import sources as source_table
from fercore.training.rundir import Run, read_config
from fercore.versions import build, datasheet, diff, gates, policy, record
from fercore.versions.files import Stamp, card, changed, manifest, stamp
from fercore.versions.lifecycle import recover
from fercore.versions.recipe import Facts, Made, Recipe, apply, make, parse_recipe, restated

if TYPE_CHECKING:
    from fercore.training.predict import Predictor

P = ParamSpec("P")
T = TypeVar("T")
_PART = 5_000  # faces whose pixels are in memory at once
_THREADS = 2  # of a prediction: labeling goes on beside it


@dataclass(frozen=True)
class Signing:
    """How a version stands: the policy that holds now, approvals that hold and stale ones (acts), whose is missing, and former policies."""

    policy: policy.Policy
    given: list[dict[str, Any]]
    stale: list[dict[str, Any]]
    missing: str
    history: pd.DataFrame


def workspace() -> Workspace:
    return Workspace(Path(os.environ.get("FERCORE_WORKSPACE", "data/workspace")).absolute())


@functools.cache
def _warm_up() -> None:
    """Loads beside the first page what the first page with tests would wait half a second for."""
    threading.Thread(target=importlib.import_module, args=("scipy.stats",), name="warm-up", daemon=True).start()


@st.cache_resource(show_spinner=False)
def _open(root: str) -> Store:
    _warm_up()
    opened = Store(Workspace(Path(root)), holder="the dashboard")
    recover(opened)  # what a killed process left behind
    return opened


def synthetic() -> bool:
    """Whether the workspace holds drawn demo faces."""
    return (workspace().root / "demo.json").is_file()


def store() -> Store:
    """The store of this server's workspace: opened once, shared by all sessions (each call takes a cursor of its own)."""
    return _open(str(workspace().root))


def reader(*subjects: str, entries: int = 64) -> Callable[[Callable[Concatenate[Store, P], T]], Callable[P, T]]:
    """Caches `function(store, ...)` until one of `subjects` changes; without any, for good: files that never change.

    Results are shared between sessions: never change them.
    """

    def wrap(function: Callable[Concatenate[Store, P], T]) -> Callable[P, T]:
        def found(root: str, revision: int, args: tuple, kwargs: dict) -> T:  # type: ignore[type-arg]
            return function(store(), *args, **kwargs)

        # Streamlit names a cache by module and qualified name: without one of its own, every reader would empty the others' caches.
        found.__module__, found.__qualname__ = function.__module__, function.__qualname__
        cached = st.cache_resource(max_entries=entries, show_spinner=False)(found)

        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            opened = store()
            return cached(str(opened.workspace.root), opened.revision(*subjects) if subjects else 0, args, kwargs)

        return call

    return wrap


@reader("people")
def everyone(store: Store) -> list[Person]:
    return people.everyone(store)


@reader("samples", "labels", "findings")
def overview(store: Store) -> tuple[dict[str, int], pd.DataFrame, pd.DataFrame]:
    """(counts, label -> n, findings by kind)."""
    return samples.overview(store), samples.class_counts(store), findings.summary(store)


@reader("campaigns", "schemes", entries=512)
def campaigns_for(store: Store, person: Person, place: str) -> dict[str, Campaign]:
    return curation.for_person(store, person, place)


@reader("campaigns", "schemes")
def all_campaigns(store: Store) -> dict[str, tuple[Campaign, campaigns.State]]:
    return campaigns.listed(store)


@reader("campaigns", "schemes", "examples", entries=512)
def asked(store: Store, person: Person, campaign_id: str, campaign: Campaign) -> tuple[campaigns.Ask, tuple[loop.Question, ...]]:
    """What a campaign asks, for queries and for the component."""
    return curation.ask(store, person, campaign_id, campaign), tuple(loop.question(*q) for q in campaigns.questions(store, campaign))


@reader("samples", "labels", "findings", "campaigns", entries=256)
def campaign_counts(store: Store, person: Person, campaign_id: str) -> dict[str, Any]:
    """How a campaign stands for this person."""
    return curation.counts(store, person, campaign_id)


@reader("samples", entries=256)
def pixels(store: Store, image_ids: tuple[str, ...]) -> dict[str, bytes]:
    """image_id -> 2,304 gray bytes, in this order."""
    return {i: p.tobytes() for i, p in zip(image_ids, samples.pixels(store, list(image_ids)), strict=True)} if image_ids else {}


@reader("schemes")
def latest_schemes(store: Store) -> list[Scheme]:
    return book.latest(store)


@reader("schemes")
def scheme(store: Store, scheme_id: str) -> Scheme:
    return book.find(store, scheme_id)


@reader("samples", entries=1)
def looks(store: Store) -> tuple[list[str], npt.NDArray[np.float32]]:
    """(image ids, how they look) of all images, for finding faces that look alike."""
    ids = samples.image_ids(store)
    return ids, adjudication.looks(samples.pixels(store, ids))


@reader("labels", entries=64)
def disputed(store: Store, person: Person, field: str, share: float) -> pd.DataFrame:
    return adjudication.disputed(store, person, field, share=share)


@reader("samples", "labels", entries=64)
def by_images(store: Store, person: Person, image_ids: tuple[str, ...]) -> pd.DataFrame:
    """One sample of each image, in this order."""
    return curation.seen_by(store, person, samples.by_ids(store, samples.first_of(store, list(image_ids))))


@reader("campaigns", entries=256)
def gold_of(store: Store, image_id: str) -> list[str]:
    """The right answers on the expression of a gold face; empty for other faces."""
    return campaigns.gold_of(store, image_id)


@reader("labels", entries=256)
def own_vote(store: Store, person: Person, image_id: str) -> str | None:
    """This person's standing answer on the expression of a face."""
    return dict(labels.ballots(store, image_id, "expression")).get(person.person_id)


@reader("labels", "people", entries=256)
def comments(store: Store, image_id: str | None = None, addressee: str | None = None) -> pd.DataFrame:
    """Comments on a face, or those that wait in a person's inbox."""
    return labels.comments(store, image_id=image_id, addressee=addressee)


@reader("samples", "findings")
def options(store: Store) -> dict[str, list[str]]:
    """Sources, given labels, splits and kinds of findings that occur."""
    return samples.options(store)


@reader("samples", "labels")
def by_ids(store: Store, person: Person, sample_ids: tuple[str, ...]) -> pd.DataFrame:
    return curation.seen_by(store, person, samples.by_ids(store, list(sample_ids)))


@reader("samples", "labels", "findings", "runs", entries=256)
def detail(store: Store, person: Person, sample_id: str) -> dict[str, pd.DataFrame]:
    """What this person may know of one face: face, copies, votes, history, findings, predictions; an empty face when it is unknown.

    Other people's answers, votes and predictions are left empty until the person has answered (see `curation.seen_by`).
    """
    face = curation.seen_by(store, person, samples.by_ids(store, [sample_id]))
    if face.empty:
        return {"face": face}
    image, shown, tags = str(face["image_id"].iloc[0]), bool(face["open"].iloc[0]), bool(face["open_tags"].iloc[0])

    def visible(rows: pd.DataFrame) -> pd.DataFrame:
        return rows[(rows["field"].isin(["age_band", "gender"]) & tags) | (~rows["field"].isin(["age_band", "gender"]) & shown)]

    return {"face": face, "copies": samples.copies(store, image), "findings": _told(findings.of_image(store, image), shown),
            "votes": visible(samples.imported_votes(store, image)),
            "history": visible(labels.history(store, image)),
            "predictions": runs.of_image(store, image).iloc[: None if shown else 0]}


@reader("samples", "labels", "people")
def sources(store: Store) -> pd.DataFrame:
    """One row a source: provenance, what it holds, who imported it last."""
    return source_table.table(store)


@reader("versions", "people")
def version_table(store: Store) -> pd.DataFrame:
    return versions.table(store)


@reader("versions", "people")
def version_detail(store: Store, version_id: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(timeline, composition)."""
    return versions.timeline(store, version_id), versions.composition(store, version_id)


@reader("versions", "people")
def signing(store: Store, version_id: str) -> Signing:
    """Who has signed a version, and who must still."""
    acts, rules = versions.acts(store, version_id), policy.current(store)
    given, stale = policy.approvals(acts)
    return Signing(rules, given, stale, policy.missing(rules, given), policy.history(store))


def broken(version_id: str) -> list[str]:
    """What differs from what was frozen and decided, files by their hashes; looked at anew after an act or after a file was written."""
    return _broken(version_id, stamp(workspace(), version_id, "state.json"))


@reader("versions", "people")
def _broken(store: Store, version_id: str, _: Stamp) -> list[str]:
    return changed(store.workspace, version_id, versions.one(store, version_id)["manifest_sha256"]) + record.problems(store, version_id)


def gates_of(person: Person, version_id: str) -> list[gates.Gate]:
    return _gates_of(person, version_id, stamp(workspace(), version_id, "state.json"))


@reader("versions", "labels", "samples", "campaigns", "people", entries=32)
def _gates_of(store: Store, person: Person, version_id: str, _: Stamp) -> list[gates.Gate]:
    return gates.check(store, person, version_id)


@reader("versions", "labels", "samples", "people", entries=16)
def datasheet_of(store: Store, person: Person, version_id: str) -> list[datasheet.Section]:
    return datasheet.sheet(store, person, version_id)


@reader(entries=8)
def version_diff(store: Store, before: str, after: str) -> diff.Diff:
    return diff.compare(store.workspace, before, after)


@reader("versions")
def version_faces(store: Store, version_id: str, exclusion: str, limit: int) -> list[str]:
    return versions.excluded_samples(store, version_id, exclusion, limit)


def finished_runs() -> list[Run]:
    """Finished runs, newest first, after taking new ones over into the database."""
    record_finished(store())
    return [r for r in jobs.list_runs(workspace()) if r.status.state == "finished"]


def scored_on(run_id: str) -> dict[str, dict[str, Any]]:
    """The other versions that a run was scored on, with the facts of each scoring."""
    return evaluation.scored_on(workspace(), run_id)


def _scored_at(run_id: str, on: str | None) -> str | None:
    """What tells a scoring from one made anew; None for the run's own version."""
    return scored_on(run_id).get(on, {}).get("at") if on else None


def predictions(run_id: str, on: str | None = None) -> pd.DataFrame:
    """The predictions of a finished run, or of its scoring on another version: files that never change, but for a scoring made anew."""
    return _predictions(run_id, on, _scored_at(run_id, on))


@reader(entries=16)
def _predictions(store: Store, run_id: str, on: str | None, at: str | None) -> pd.DataFrame:
    return evaluation.predictions(store.workspace, run_id, on)


@dataclass(frozen=True)
class Evaluated:
    """A run on the faces it is judged by, or on those of one fold."""

    metrics: dict[str, Estimate]
    report: list[evaluation.ClassReport]
    counts: pd.DataFrame
    calibration: evaluation.Calibration
    ceiling: evaluation.Ceiling | None


def evaluated(run_id: str, on: str | None = None, fold: int | None = None) -> Evaluated:
    """`on`: another version that it was scored on. `fold`: from 0; None: all together."""
    return _evaluated(run_id, on, _scored_at(run_id, on), fold)


@reader(entries=64)
def _evaluated(store: Store, run_id: str, on: str | None, at: str | None, fold: int | None) -> Evaluated:
    frame = predictions(run_id, on)
    frame = frame if fold is None else frame[frame["fold"] == fold]
    classes = evaluation.classes_of(frame)
    ceiling = evaluation.ceiling(store.workspace, on or read_config(store.workspace.runs / run_id).version_id, frame["sample_id"])
    return Evaluated(evaluation.summary(frame, classes), evaluation.per_class(frame, classes), evaluation.confusion(frame, classes),
                     evaluation.calibration(frame), ceiling)


def compared(run_ids: tuple[str, ...], on: str | None) -> evaluation.Comparison:
    """`on`: a version that each was trained or scored on; None: each on its own."""
    return _compared(run_ids, on, tuple(_scored_at(run_id, on) for run_id in run_ids))


@reader(entries=16)
def _compared(store: Store, run_ids: tuple[str, ...], on: str | None, at: tuple[str | None, ...]) -> evaluation.Comparison:
    evaluation.require_clean(store.workspace, run_ids)
    return evaluation.compare({run_id: predictions(run_id, on) for run_id in run_ids})


def label_effect(run_ids: tuple[str, str], version_ids: tuple[str, str], on: str | None) -> evaluation.LabelEffect:
    return _label_effect(run_ids, version_ids, on, tuple(_scored_at(run_id, on) for run_id in run_ids))


@reader(entries=16)
def _label_effect(store: Store, run_ids: tuple[str, str], version_ids: tuple[str, str], on: str | None,
                  at: tuple[str | None, ...]) -> evaluation.LabelEffect:
    first, second = (predictions(run_id, on) for run_id in run_ids)
    return evaluation.label_effect(first, second, [evaluation.labels_of(store.workspace, v) for v in version_ids])


@reader(entries=8)
def _studied(store: Store, name: str, states: tuple[tuple[str, str], ...]) -> evaluation.Study:
    return evaluation.study(store.workspace, name)


@reader(entries=8)
def _noise(store: Store, name: str, finished: tuple[str, ...]) -> evaluation.Noise:
    return evaluation.noise(store.workspace, _studied(name, _states(_runs_of(name))))


def _runs_of(study: str) -> list[Run]:
    return [r for r in jobs.list_runs(workspace()) if r.config and r.config.study == study]


def _states(runs_of: list[Run]) -> tuple[tuple[str, str], ...]:
    return tuple((r.run_id, f"{r.status.state} {r.status.progress.epoch}") for r in runs_of)


def studied(name: str) -> tuple[evaluation.Study, evaluation.Noise]:
    """A study as its runs stand now, and which of its differences are more than noise."""
    runs_of = _runs_of(name)
    return (_studied(name, _states(runs_of)),
            _noise(name, tuple(r.run_id for r in runs_of if r.status.state == "finished")))


@reader(entries=16)
def examined(store: Store, run_id: str, by: tuple[str, ...], minimum: int, against: str | None, contrast: tuple[str, str, str] | None,
             tags_of: str | None) -> bias.Examination:
    return bias.examine(store.workspace, run_id, by, minimum, against=against, declared=contrast, tags_of=tags_of)


@reader(entries=8)
def bias_report(store: Store, run_id: str, by: tuple[str, ...], minimum: int, against: str | None, contrast: tuple[str, str, str] | None,
                tags_of: str | None) -> bytes:
    """The HTML of what `examined` gives for the same arguments."""
    return document.html(examined(run_id, by, minimum, against, contrast, tags_of))


@reader(entries=8)
def bias_frame(store: Store, run_id: str, tags_of: str | None) -> pd.DataFrame:
    """The predictions that a bias report is about, with the tags of a version."""
    return unseen(store.workspace, run_id, tags_of=tags_of)


@reader("reports", "people")
def bias_signatures(store: Store, run_id: str, sha256: str) -> pd.DataFrame:
    return document.signatures(store, run_id, sha256)


@reader(entries=16)
def bias_groups(store: Store, run_id: str, attribute: str, tags_of: str | None) -> dict[str, str]:
    """Value -> shown name of the groups of an attribute that can be compared among the tested faces."""
    return {s.value: s.name for s in bias.slices(unseen(store.workspace, run_id, (attribute,), tags_of), [attribute]) if s.n and not s.listed_only}


@reader("samples", "labels", "findings", "versions", entries=16)
def mitigation_plan(store: Store, person: Person, run_id: str, attribute: str, means: tuple[str, ...], minimum: int) -> mitigation.Plan:
    return mitigation.propose(store, person, run_id, attribute, means, minimum)


@reader(entries=8)
def _mitigated(store: Store, study: str, states: tuple[tuple[str, str], ...], by: tuple[str, ...], minimum: int) -> mitigation.Outcome:
    return mitigation.outcome(store.workspace, study, by, minimum)


def mitigated(study: str, by: tuple[str, ...], minimum: int) -> mitigation.Outcome:
    """What a mitigation study came to, as its runs stand now."""
    return _mitigated(study, tuple((r.run_id, r.status.state) for r in _runs_of(study)), by, minimum)


@reader("filters")
def saved_filters(store: Store) -> list[str]:
    return saved.names(store.workspace)


@reader("schemes")
def known_schemes(store: Store) -> dict[str, Scheme]:
    """Every version of every scheme."""
    return book.known(store)


@reader("schemes", "people")
def scheme_history(store: Store, scheme_id: str) -> pd.DataFrame:
    return book.history(store, scheme_id)


@reader("schemes", "people")
def guidelines(store: Store, scheme_id: str) -> dict[str, book.Guideline]:
    return book.guidelines(store, scheme_id)


@reader("examples", "samples")
def examples(store: Store, person: Person, scheme_id: str) -> pd.DataFrame:
    """Example faces of a scheme: image_id, value, sample_id, gray48."""
    return book.examples(store, person, scheme_id)


@reader("samples", "labels", "schemes")
def map_preview(store: Store, person: Person, source: str, target: str, steps: tuple[book.Step, ...]) -> pd.DataFrame:
    return book.map_preview(store, person, source, target, steps)


@reader("samples", "labels", "schemes")
def scheme_cell(store: Store, person: Person, scheme_id: str, class_id: str) -> list[str]:
    """Sample ids of faces whose class is `class_id` now."""
    return book.cell(store, person, scheme_id, class_id)


@reader("schemes")
def scheme_maps(store: Store) -> list[book.SchemeMap]:
    return book.maps(store)


@reader("labels", "campaigns")
def quality_choices(store: Store, person: Person) -> tuple[list[str], dict[str, str], list[str]]:
    """(fields, campaigns by id, weeks) with votes."""
    return quality.choices(store, person)


@reader("labels", "people", "campaigns", "schemes")
def quality_of(store: Store, person: Person, scope: quality.Scope) -> quality.Quality:
    return quality.quality(store, person, scope)


@reader("labels", "samples", "schemes")
def annotator_confusion(store: Store, person: Person, scope: quality.Scope, who: str, against: quality.Against) -> tuple[pd.DataFrame, int]:
    return quality.annotator_confusion(store, person, scope, who, against)


@reader("labels", "samples")
def confusion_faces(store: Store, person: Person, scope: quality.Scope, who: str, against: quality.Against, true: str, given: str) -> list[str]:
    return quality.confusion_faces(store, person, scope, who, against, true, given)


@reader("labels", "campaigns")
def my_progress(store: Store, person: Person, field: str) -> quality.Progress:
    return quality.my_progress(store, person, field)


@reader("samples", "labels")
def ballots(store: Store, person: Person, votes: rules.Votes) -> rules.Ballots:
    return rules.ballots(store, person, votes)


@reader("samples", "labels")
def rule_summary(store: Store, person: Person, votes: rules.Votes) -> pd.DataFrame:
    return rules.summary(ballots(person, votes))


@reader("samples", "labels")
def rule_diff(store: Store, person: Person, votes: rules.Votes, rule_a: str, rule_b: str) -> pd.DataFrame:
    return rules.compared(ballots(person, votes), rule_a, rule_b)


@reader("samples", "labels")
def rule_cell(store: Store, person: Person, votes: rules.Votes, rule_a: str, rule_b: str, outcome_a: str, outcome_b: str) -> list[str]:
    """Sample ids of one cell of a diff."""
    return list(rules.cell(ballots(person, votes), rule_a, rule_b, outcome_a, outcome_b)["sample_id"])


@reader("labels")
def my_fields(store: Store, person: Person) -> list[str]:
    return quality.my_fields(store, person)


def _told(found: pd.DataFrame, shown: bool) -> pd.DataFrame:
    """Findings on a face, without those that tell what others answered while that is hidden."""
    return found if shown else found[~found["kind"].isin(audit.FROM_VOTES)]


@reader("findings", "samples")
def audit_state(store: Store) -> audit.State:
    return audit.state(store)


@reader("findings", "samples", entries=32)
def measured(store: Store, person: Person, kind: str) -> pd.DataFrame:
    """image_id and value of what the bound of a kind is on, the least first."""
    return audit.measured(store, person, kind)


@reader("findings", "samples", "labels", entries=64)
def finding_faces(store: Store, person: Person, kind: str, offset: int, limit: int, group: str | None = None) -> pd.DataFrame:
    """Faces with a finding, as this person may see them, with score, group_id, evidence, and what people decided to do with them: exclude and
    transform."""
    found = audit.faces_of(store, person, kind, limit=limit, offset=offset, group=group)
    faces = curation.seen_by(store, person, samples.by_ids(store, found["sample_id"].tolist()))
    edits = findings.edits(store, faces.loc[faces["open"], "image_id"].unique().tolist())
    return faces.merge(found[["sample_id", "score", "group_id", "evidence"]], on="sample_id").merge(edits, on="image_id", how="left")


@reader("findings")
def finding_groups(store: Store, person: Person, kind: str) -> pd.DataFrame:
    return audit.groups_of(store, person, kind)


@reader("findings", entries=32)
def finding_images(store: Store, person: Person, kind: str, group: str | None = None) -> list[str]:
    """Distinct images that a person may act on, of a kind or one of its groups."""
    return actions.images(store, person, kind, None if group is None else [group])


@reader("labels")
def flagged(store: Store, person: Person, flag: str) -> list[str]:
    """Images to which people decided that a flag applies."""
    return actions.flagged(store, person, flag)


@reader("samples", "findings", entries=8)
def calibration(store: Store, person: Person, kind: str) -> pd.DataFrame:
    """How the bound of a kind does along its slider."""
    return audit.calibration(store, person, kind)


@reader("labels", "campaigns")
def last_acts(store: Store, person: Person) -> list[dict[str, Any]]:
    return actions.last(store, person)


@reader("samples", "labels", entries=2)
def all_members(store: Store) -> pd.DataFrame:
    return samples.members(store)


@reader("samples", "findings", entries=2)
def found(store: Store) -> pd.DataFrame:
    return samples.found(store)


@reader("samples", "labels", "findings", entries=16)
def members(store: Store, chosen: Filter) -> pd.DataFrame:
    """Samples that match, in the order of their sources, without pixels."""
    return samples.matching(all_members(), found(), chosen)


def pictured(person: Person, members: pd.DataFrame) -> pd.DataFrame:
    """A page of `members` with pixels, as this person may see them."""
    found = pixels(tuple(members["image_id"].unique()))
    return curation.seen_by(store(), person, members.assign(gray48=members["image_id"].map(found)))


@reader("samples", "labels", "findings", entries=8)
def looks_by(store: Store, chosen: Filter, by: str) -> dict[str, tuple[int, npt.NDArray[np.float64], npt.NDArray[np.int64]]]:
    """Per value of the column `by`: (faces, mean face [48, 48] of 0-255, count of each pixel value [256])."""
    rows = members(chosen)
    groups = rows.groupby(by)["image_id"].indices
    totals = {value: [0, np.zeros((SIDE, SIDE)), np.zeros(256, np.int64)] for value in groups}
    for start in range(0, len(rows), _PART):
        stack = samples.pixels(store, rows["image_id"].iloc[start:start + _PART].tolist())
        for value, places in groups.items():
            part = stack[places[(places >= start) & (places < start + _PART)] - start]
            counts = cv2.calcHist([part.reshape(len(part), -1)], [0], None, [256], [0, 256]) if len(part) else 0  # six times as fast as NumPy's
            for i, more in enumerate((len(part), part.sum(axis=0), np.ravel(counts).astype(np.int64))):
                totals[value][i] += more
    return {str(value): (n, total / n, counts) for value, (n, total, counts) in totals.items()}


@reader("samples", "labels", "findings", entries=32)
def most_of(store: Store, chosen: Filter, low: int, high: int) -> npt.NDArray[np.float64]:
    """Share of pixels with a value from `low` to `high` in each of the members [n]."""
    ids = members(chosen)["image_id"]
    return np.concatenate([((stack >= low) & (stack <= high)).mean(axis=(1, 2)) for start in range(0, len(ids), _PART)
                           for stack in (samples.pixels(store, ids.iloc[start:start + _PART].tolist()),)] or [np.empty(0)])


@reader("samples", "findings", entries=8)
def grouped(store: Store, person: Person, kind: str) -> pd.DataFrame:
    """sample_id and group_id of every face with a finding that comes in groups, the largest groups first."""
    rows = audit.faces_of(store, person, kind, limit=2**31 - 1)[["sample_id", "group_id"]]
    rows["n"] = rows.groupby("group_id")["sample_id"].transform("size")
    return rows.sort_values(["n", "group_id", "sample_id"], ascending=[False, True, True])


@reader("samples", "labels", "findings", "versions", entries=4)
def funnel(store: Store, version: str | None = None) -> pd.DataFrame:
    """sample_id and exclusion (None = included) of every row under the default recipe, or as a version was made."""
    rows = manifest(store.workspace, version) if version else apply(Recipe(), samples.table(store))
    return rows[["sample_id", "exclusion"]]


@reader("samples", "labels", "findings", "schemes", entries=2)
def facts(store: Store, person: Person) -> Facts:
    """What recipes read."""
    return build.facts(store, person)


@reader("samples", "labels", "findings", "schemes", entries=8)
def made(store: Store, person: Person, recipe: str) -> Made:
    """What a recipe (YAML) makes of the facts of now. Raises: BadInput."""
    return make(parse_recipe(recipe, schemes=known_schemes()), facts(person))


@reader(entries=64)
def recipe_of(store: Store, version: str) -> Recipe:
    """The recipe of a version. Raises: NotFound."""
    return restated(card(store.workspace, version)["recipe"])


@reader(entries=1)
def parameter_counts(store: Store) -> dict[str, int]:
    """Model -> trainable parameters for 7 classes."""
    return {name: spec.parameters(7) for name, spec in (MODELS | BACKBONES).items()}


@reader()
def architecture(store: Store, model: str) -> pd.DataFrame:
    """The layers of a model for 7 classes."""
    from fercore.models.network import architecture  # torch takes seconds: pages that do not need it open without

    return architecture(model, 7)


@reader(entries=16)
def leak(store: Store, run_id: str) -> evaluation.Leak:
    return evaluation.leak(store.workspace, run_id)


def suspects(run_id: str) -> pd.DataFrame | None:
    """The kept ranking of a run's labels; None where nobody has asked for one of the run as it is now. Raises: BadInput: it is damaged."""
    files = (suspicion.path_of(workspace(), run_id), *suspicion.stands_on(workspace(), run_id))
    return _suspects(run_id, tuple(path.stat().st_mtime_ns if path.is_file() else 0 for path in files))


@reader(entries=4)
def _suspects(store: Store, run_id: str, written: tuple[int, ...]) -> pd.DataFrame | None:
    return suspicion.known(store.workspace, run_id)


@reader("samples", "findings", "versions", entries=16)
def leaks(store: Store, version: str, run_id: str | None) -> evaluation.Leaks:
    """Faces that are judged by and trained on, with the near duplicates that the audit found."""
    pairs = findings.near_pairs(store, audit.bound_of(store, "near_duplicate") or 1.0)
    return evaluation.leaks(store.workspace, version, run_id, pairs, audit.stale(store))


@reader("labels", "versions", "people", entries=16)
def test_edits(store: Store, person: Person, version: str, since: str) -> ledger.Edits:
    return ledger.edits(store, person, version, since)


@reader("versions", entries=2)
def _test_sets(store: Store, read: tuple[tuple[Any, ...], ...]) -> ledger.Ledger:
    return ledger.reads(store.workspace)


def test_sets() -> ledger.Ledger:
    """How often each set of test faces was read; runs, scorings and versions tell by their files alone."""
    root = workspace()
    return _test_sets(tuple((r.run_id, r.status.test_reads, r.status.started_at) for r in jobs.list_runs(root))
                      + tuple((str(path), path.stat().st_mtime_ns) for path in sorted(root.runs.glob("*/evaluations/[!.]*.parquet")))
                      + tuple((path.name, stamp(root, path.name, "state.json")) for path in sorted(root.versions.glob("[!.]*"))))


@reader("labels", "campaigns")
def gains(store: Store, person: Person) -> list[suspicion.Gain]:
    return suspicion.gains(store, person)


@reader(entries=2)
def _predictor(store: Store, run_id: str, weights: tuple[tuple[str, int], ...]) -> "Predictor":
    from fercore.training.predict import load

    return load(store.workspace.runs / run_id)


def few_threads() -> None:
    """Networks that this thread asks take part of the cores only."""
    import torch

    torch.set_num_threads(min(_THREADS, torch.get_num_threads()))  # each thread has a number of its own


def predictor(run: Run) -> "Predictor":
    """The networks of a finished run, on the CPU: loaded once for all sessions, and anew when a file of weights is another one.

    Raises:
        NotFound, Conflict, BadInput: see `fercore.training.predict.load`.
    """
    assert run.config is not None  # a finished run has one
    few_threads()
    files = sorted(path for member in run.config.members or (run.run_id,) for path in (run.path.parent / member).glob("best*.safetensors"))
    return _predictor(run.run_id, tuple((str(path), path.stat().st_mtime_ns) for path in files))
