"""The open workspace and cached readers, keyed by workspace, revision of what they read, and arguments."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import pandas as pd
import streamlit as st

from fercore import bias, curation, evaluation, jobs, people
from fercore.domain import Filter, Order, Person, Workspace
from fercore.evaluation import Estimate
from fercore.evaluation.record import record_finished
from fercore.store import Store, findings, labels, runs, samples, versions
from fercore.training.rundir import Run

P = ParamSpec("P")
T = TypeVar("T")


def workspace() -> Workspace:
    return Workspace(Path(os.environ.get("FERCORE_WORKSPACE", "data/workspace")).absolute())


@st.cache_resource(show_spinner=False)
def _open(root: str) -> Store:
    return Store(Workspace(Path(root)), holder="the dashboard")


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
        @st.cache_resource(max_entries=entries, show_spinner=False)
        def cached(name: str, root: str, revision: int, args: tuple, kwargs: dict) -> T:  # type: ignore[type-arg]
            return function(store(), *args, **kwargs)

        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            opened = store()
            revision = opened.revision(*subjects) if subjects else 0
            return cached(function.__qualname__, str(opened.workspace.root), revision, args, kwargs)

        return call

    return wrap


@reader("people")
def everyone(store: Store) -> list[Person]:
    return people.everyone(store)


@reader("samples", "labels", "findings")
def overview(store: Store) -> tuple[dict[str, int], pd.DataFrame, pd.DataFrame]:
    """(counts, label -> n, findings by kind)."""
    return samples.overview(store), samples.class_counts(store), findings.summary(store)


@reader("samples", "labels", "findings")
def progress(store: Store, person: Person, queue: curation.Queue) -> tuple[int, int]:
    """(done by this person, waiting for this person)."""
    return curation.progress(store, person, queue)


@reader("samples", "findings")
def options(store: Store) -> dict[str, list[str]]:
    """Sources, splits and kinds of findings that occur."""
    return samples.options(store)


@reader("samples", "labels", "findings")
def count(store: Store, chosen: Filter) -> int:
    return samples.count(store, chosen)


@reader("samples", "labels", "findings", entries=128)
def page(store: Store, person: Person, chosen: Filter, order: Order, offset: int, limit: int) -> pd.DataFrame:
    """Samples with pixels, as this person may see them."""
    return curation.seen_by(store, person, samples.page(store, chosen, order, offset, limit))


@reader("samples", "labels", "findings", entries=8)
def matching(store: Store, chosen: Filter) -> pd.DataFrame:
    return samples.matching(store, chosen)


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
    image, shown = str(face["image_id"].iloc[0]), int(face["open"].iloc[0])
    return {"face": face, "copies": samples.copies(store, image), "findings": findings.of_image(store, image),
            "votes": samples.imported_votes(store, image).iloc[: None if shown else 0],
            "history": labels.history(store, image).iloc[: None if shown else 0],
            "predictions": runs.of_image(store, image).iloc[: None if shown else 0]}


@reader("samples")
def sources(store: Store) -> pd.DataFrame:
    return samples.sources(store)


@reader("versions", "people")
def version_table(store: Store) -> pd.DataFrame:
    return versions.table(store)


@reader("versions", "people")
def version_detail(store: Store, version_id: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(timeline, composition)."""
    return versions.timeline(store, version_id), versions.composition(store, version_id)


@reader("versions")
def version_faces(store: Store, version_id: str, exclusion: str, limit: int) -> list[str]:
    return versions.excluded_samples(store, version_id, exclusion, limit)


@reader("runs")
def test_reads(store: Store, version_id: str) -> int:
    return runs.test_reads(store, version_id)


def finished_runs() -> list[Run]:
    """Finished runs, newest first, after taking new ones over into the database."""
    record_finished(store())
    return [r for r in jobs.list_runs(workspace()) if r.status.state == "finished"]


@reader(entries=16)
def predictions(store: Store, run_id: str) -> pd.DataFrame:
    """The predictions of a finished run: files that never change."""
    return evaluation.predictions(store.workspace, run_id)


@reader(entries=16)
def evaluated(store: Store, run_id: str) -> tuple[dict[str, Estimate], list[evaluation.ClassReport], pd.DataFrame]:
    """(headline metrics, report per class, confusion counts)."""
    frame = predictions(run_id)
    classes = evaluation.classes_of(frame)
    return evaluation.summary(frame, classes), evaluation.per_class(frame, classes), evaluation.confusion(frame, classes)


@reader(entries=16)
def bias_of(store: Store, run_id: str, by: tuple[str, ...], minimum: int) -> bias.BiasTable:
    frame = predictions(run_id)
    return bias.bias_table(frame, evaluation.classes_of(frame), by, minimum)


@reader(entries=16)
def bias_change(store: Store, before: str, after: str, by: tuple[str, ...], minimum: int) -> bias.BeforeAfter:
    frame = predictions(before)
    return bias.before_after(frame, predictions(after), evaluation.classes_of(frame), by, minimum)
