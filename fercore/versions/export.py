"""A version in the forms that other tools read. Whole or not at all; nothing that was there is replaced without being told to."""

import ctypes
import json
import os
import random
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from uuid_utils import uuid7

from fercore.curation.rules import COLUMNS as ANSWERS
from fercore.domain import Permission, Person, Pixels, Role, Workspace
from fercore.errors import BadInput, Conflict, NotAllowed, WorkspaceError
from fercore.ingest.exported import import_export
from fercore.ingest.files import sha256_of
from fercore.schemes import FERPLUS_COLUMNS
from fercore.store import Store, exchange, sources
from fercore.store import quality as votes_table
from fercore.store import versions as table
from fercore.versions import files
from fercore.versions.build import build
from fercore.versions.document import as_yaml, restated

Progress = Callable[[int, int], None]  # (faces done, faces); what it raises cancels the export
README, SUMS = "README.txt", files.SUMS
_MADE_BY = "Exported by fercore"
_BLOCK = 1024  # faces between two calls of progress
_USAGE = {"train": "Training", "val": "PublicTest", "test": "PrivateTest"}
_RESTRICTED = re.compile(r"non-?\s?commercial|\bnc\b|by-nc|research|academic|educational|no redistribution", re.IGNORECASE)
_NOTICE = ("Labels are how an expression, an age band or a gender presentation is perceived, not what somebody feels or is. Inferring emotions at "
           "the workplace and in education is restricted or forbidden in some jurisdictions, in the European Union by Article 5(1)(f) of the AI Act.")


@dataclass(frozen=True)
class Format:
    """What a form is, what it leaves out, and how its files come into a folder (`facts` of the workspace: only where it needs them)."""

    name: str
    about: str
    left_out: str
    write: Callable[["_Job"], None]
    needs_store: bool = False


@dataclass(frozen=True)
class Exported:
    """`accepted`: source -> why its licence had to be accepted."""

    path: Path
    faces: int
    left_out: str
    accepted: Mapping[str, str]


@dataclass(frozen=True)
class _Job:
    """Attributes:
        rows: the whole manifest. kept: its included rows, with pixels [n, 48, 48] in the same order. classes: with the index a class has in training.
    """

    folder: Path
    card: dict[str, Any]
    rows: pd.DataFrame
    kept: pd.DataFrame
    pixels: Pixels
    classes: dict[str, int]
    store: Store | None
    progress: Progress

    def blocks(self) -> Iterator[tuple[pd.DataFrame, Pixels]]:
        """The included rows with their pixels, a part at a time, telling progress."""
        for start in range(0, len(self.kept), _BLOCK):
            yield self.kept.iloc[start:start + _BLOCK], np.asarray(self.pixels[start:start + _BLOCK])
            self.progress(min(start + _BLOCK, len(self.kept)), len(self.kept))


def blocked(card: Mapping[str, Any], store: Store | None = None) -> dict[str, str]:
    """Sources whose licence forbids an export until a data lead accepts it, and why; as the store says now, else as it was when frozen."""
    said = {s["source_id"]: s["licence"] for s in card.get("sources", [])}
    if store:
        now = sources.table(store).set_index("source_id")["licence"]
        names = set(said) or set(table.sources_of(store, card["version_id"]))
        said = {name: now.get(name) for name in names}
    if not said:
        return {"its sources": "the version does not say where its faces come from"}
    return {name: f"its licence is {licence!r}" if isinstance(licence, str) and licence.strip() else "it states no licence"
            for name, licence in sorted(said.items()) if not isinstance(licence, str) or not licence.strip() or _RESTRICTED.search(licence)}


def write(workspace: Workspace, version_id: str, to: Path, form: str, actor: Person, *, store: Store | None = None, accept_licence: bool = False,
         force: bool = False, progress: Progress = lambda done, total: None) -> Exported:
    """Writes a version into the new folder `to`, with a README.txt that says what it is and what the form leaves out.

    Args:
        store: for forms that carry votes and for the record of exports; without one, files are read and nothing is recorded.
        accept_licence: the actor, a data lead, answers for sources without a licence or with a restricted one. force: replace an earlier export.

    Raises:
        BadInput: no such form, or it needs the store. NotFound: no such version. NotAllowed: the licence, or the actor's role.
        Conflict: `to` is there, or the version does not verify.
    """
    actor.require(Permission.READ_RESULTS)
    if form not in FORMATS:
        raise BadInput("Unknown format", repr(form), f"Choose one of {', '.join(FORMATS)}")
    chosen, card = FORMATS[form], files.card(workspace, version_id)
    if chosen.needs_store and store is None:
        raise BadInput("The workspace is needed", f"{form} carries votes, which no file of the version holds",
                       "Close the dashboard, or export from it")
    if problems := files.verify(workspace, version_id, table.one(store, version_id)["manifest_sha256"] if store else None):
        raise Conflict("The files do not match the version", f"{version_id}: {problems[0]}", "Freeze it anew")
    why = blocked(card, store)
    if why and not accept_licence:
        raise NotAllowed("The licence forbids an export", "; ".join(f"{name}: {text}" for name, text in why.items()),
                         "A data lead who may answer for it says so: --accept-licence")
    if why:
        actor.require(Permission.FREEZE)
    _free(to, force)
    with _whole(to) as folder:
        job = _job(workspace, card, folder, store, progress)
        chosen.write(job)
        (folder / README).write_text(_readme(card, chosen, len(job.kept), why, actor if why else None), encoding="utf-8")
        if store:
            exchange.record_export(store, actor, version_id, card["manifest_sha256"], form, why)
    return Exported(to, len(job.kept), chosen.left_out, why)


def round_trip(store: Store, version_id: str, progress: Progress = lambda done, total: None) -> list[str]:
    """Exports a version in the lossless form, imports that into a workspace of its own, and builds it there; returns what differs.

    Args:
        progress: gets (faces, twice the faces): going out, coming in; what it raises cancels it.

    Raises:
        NotFound: no such version.
    """
    card, who = files.card(store.workspace, version_id), Person("round-trip", "Round trip", Role.DATA_LEAD)
    if card["recipe"].get("format", 1) == 1:
        return ["it was frozen by an earlier fercore, whose manifests cannot be made again"]
    with TemporaryDirectory() as place:
        out = Path(place) / "out"
        out.mkdir()
        _parquet(_job(store.workspace, card, out, store, lambda done, total: progress(done, 2 * total)))
        with Store(Workspace(Path(place) / "ws")) as other:
            try:
                import_export(other, who, out, progress=lambda done, total: progress(total + done, 2 * total))
                again = build(other, who, restated(card["recipe"]))
            except BadInput as error:
                return [f"it cannot be imported and built: {error}"]
    then, now = (rows.set_index("sample_id").drop(columns="mean") for rows in (files.manifest(store.workspace, version_id), again.made.rows))
    differ = [str(c) for c in now if not then[c].equals(now[c].reindex(then.index))] if len(then) == len(now) else ["the number of rows"]
    if again.sha256 == card["manifest_sha256"]:
        return []
    return [f"after export, import and build, {', '.join(differ) or 'the recipe'} came back otherwise"]


def _job(workspace: Workspace, card: dict[str, Any], folder: Path, store: Store | None, progress: Progress) -> _Job:
    rows = files.manifest(workspace, card["version_id"])
    return _Job(folder, card, rows, rows[rows["exclusion"].isna()], files.pixels_of(workspace, card["version_id"]),
                {c: i for i, c in enumerate(card["classes"])}, store, progress)


# ---- putting a folder in its place ------------------------------------------------------------------------------------------------


def _free(to: Path, force: bool) -> None:
    if not to.exists() and not to.is_symlink():
        return
    readme = to / README
    if not (to.is_dir() and readme.is_file() and readme.read_text(encoding="utf-8", errors="replace").startswith(_MADE_BY)):
        if to.is_dir() and not any(to.iterdir()):
            return
        raise Conflict("The folder is there already", f"{to} holds something else than an export", "Name a new one")
    if not force:
        raise Conflict("The export is there already", str(to), "Name a new folder, or replace it with --force")


@contextmanager
def _whole(to: Path) -> Iterator[Path]:
    """A folder beside `to` that takes its place in one step; what a killed export left beside it goes."""
    for left in to.parent.glob(f".{to.name}.*.fercore-export"):
        shutil.rmtree(left, ignore_errors=True)
    temporary = to.with_name(f".{to.name}.{uuid7()}.fercore-export")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if to.exists() and any(to.iterdir()):
            _exchange(temporary, to)
        else:
            temporary.rename(to)
    except OSError as error:
        raise WorkspaceError("The export cannot be written", str(error), "Name another folder, or free some space; nothing was left") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _exchange(one: Path, other: Path) -> None:
    """Swaps two folders in one step, so that a kill leaves the old or the new one; where the system cannot, in two renames."""
    swap = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name == "posix" else None
    if swap is None or swap(-100, os.fsencode(one.absolute()), -100, os.fsencode(other.absolute()), 2) != 0:  # AT_FDCWD, RENAME_EXCHANGE
        aside = one.with_name(f"{one.name}.old")
        other.rename(aside)
        one.rename(other)
        aside.rename(one)


def _readme(card: Mapping[str, Any], form: Format, faces: int, accepted: Mapping[str, str], who: Person | None) -> str:
    counts = ", ".join(f"{n:,} {part}" for part, n in card["counts"].items())
    said = [f"{s['source_id']}: {s['name']}; {s['authors'] or 'authors not stated'}; licence {s['licence'] or 'not stated'}; "
            f"{s['url'] or 'no address'}" for s in card.get("sources", [])]
    return "\n".join([
        f"{_MADE_BY} in the form {form.name}: {form.about}", "", f"Version {card['version_id']}, {card['scheme_id']}: {', '.join(card['classes'])}",
        f"{faces:,} faces ({counts}), frozen {card['created_at']} UTC", f"Manifest SHA-256 {card['manifest_sha256']}", "",
        f"Left out: {form.left_out}", "", "Sources", *said,
        *(["", f"A {who.role.value.replace('_', ' ')} accepted the licence: " + "; ".join(f"{k}: {v}" for k, v in accepted.items())] if who else []),
        "", _NOTICE, "", "Recipe", as_yaml(restated(card["recipe"]))])


# ---- forms ------------------------------------------------------------------------------------------------------------------------


def _name(row: Any) -> str:
    return f"{re.sub(r'[^A-Za-z0-9-]+', '-', row.source_id)}-{row.source_row}-{row.sample_id[:8]}.png"


def _folder(job: _Job) -> None:
    for split in job.kept["split"].unique():
        for name in job.classes:
            (job.folder / split / name).mkdir(parents=True, exist_ok=True)
    for rows, faces in job.blocks():
        for row, face in zip(rows.itertuples(), faces, strict=True):
            Image.fromarray(face).save(job.folder / str(row.split) / str(row.label) / _name(row), compress_level=1)


_HUB = {"train": "train", "val": "validation", "test": "test"}
_TOLD = ("label", "sample_id", "source_id", "source_row", "given_label", "duplicate_group", "fold", "age_band", "gender", "flags", "votes", "weight")


def _imagefolder(job: _Job) -> None:
    lines = dict[str, list[dict[str, Any]]]()
    for rows, faces in job.blocks():
        for row, face in zip(rows.itertuples(), faces, strict=True):
            part = _HUB[str(row.split)]
            if part not in lines:
                (job.folder / part).mkdir()
            Image.fromarray(face).save(job.folder / part / _name(row), compress_level=1)
            lines.setdefault(part, []).append({"file_name": _name(row), **{c: getattr(row, c) for c in _TOLD if c in job.kept}})
    for part, told in lines.items():
        with (job.folder / part / "metadata.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in told)


def _fer2013(job: _Job) -> None:
    texts = np.array([str(v) for v in range(256)], object)
    with (job.folder / "fer2013.csv").open("w", encoding="utf-8", newline="\n") as file:
        file.write("emotion,pixels,Usage\n")
        for rows, faces in job.blocks():
            flat = texts[faces.reshape(len(faces), -1)]
            file.writelines(f"{job.classes[label]},{' '.join(face)},{_USAGE[split]}\n"
                            for label, split, face in zip(rows["label"], rows["split"], flat, strict=True))


def _ferplus(job: _Job) -> None:
    assert job.store is not None
    _fer2013(job)
    held = votes_table.ballots(job.store, imported=True, annotators=True).set_index("sample_id").loc[job.kept["sample_id"], list(ANSWERS)]
    out = held.rename(columns={v: k for k, v in FERPLUS_COLUMNS.items()}).reset_index(drop=True)
    out.insert(0, "Usage", job.kept["split"].map(_USAGE).to_numpy())
    out.insert(1, "Image name", [f"fer{i:07}.png" for i in range(len(out))])
    out.to_csv(job.folder / "fer2013new.csv", index=False, lineterminator="\n")


def _npz(job: _Job) -> None:
    def text(column: str) -> Any:
        return job.kept[column].fillna("").to_numpy(str)

    arrays = {"labels": job.kept["label"].map(job.classes).to_numpy(np.int64), "classes": np.array(list(job.classes)),
              **{c: text(c) for c in ("sample_id", "split", "duplicate_group", "age_band", "gender", "flags")}}
    if job.kept.get("fold") is not None and job.kept["fold"].notna().any():
        arrays["fold"] = job.kept["fold"].fillna(-1).to_numpy(np.int64)
    if "weight" in job.kept:
        arrays["weight"] = job.kept["weight"].to_numpy(np.float64)
    job.progress(0, len(job.kept))
    with (job.folder / f"{job.card['version_id']}.npz").open("wb") as file:
        np.savez(file, images=job.pixels, **arrays)
    job.progress(len(job.kept), len(job.kept))


def _parquet(job: _Job) -> None:
    """The facts that the version was made from, so that another workspace makes the same version of them."""
    assert job.store is not None
    frozen: datetime = table.one(job.store, job.card["version_id"])["recorded_at"]
    facts = exchange.facts_of(job.store, job.rows["sample_id"].tolist(), frozen)
    events = facts["events"]
    events["person_id"] = events["person_id"].map(_pseudonyms(events["person_id"].unique().tolist()))
    for column in ("event_id", "target"):  # ids tell the time; these are other ones, yet the same in every export, so that no vote comes in twice
        events[column] = [None if pd.isna(i) else str(uuid5(NAMESPACE_OID, str(i))) for i in events[column]]
    for name, frame in facts.items():
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), job.folder / f"{name}.parquet")
    ids = sorted(set(job.rows["image_id"]))
    writer: pq.ParquetWriter | None = None
    for start in range(0, len(ids), _BLOCK):
        part = pa.Table.from_pandas(exchange.images_of(job.store, ids[start:start + _BLOCK]), preserve_index=False)
        writer = writer or pq.ParquetWriter(job.folder / "images.parquet", part.schema)
        writer.write_table(part)
        job.progress(min(start + _BLOCK, len(ids)), len(ids))
    if writer:
        writer.close()
    shutil.copyfile(job.store.workspace.versions / job.card["version_id"] / "manifest.parquet", job.folder / "manifest.parquet")
    (job.folder / "recipe.json").write_text(json.dumps(job.card["recipe"], indent=1), encoding="utf-8")
    (job.folder / "version.json").write_text(json.dumps({k: job.card[k] for k in ("version_id", "manifest_sha256", "scheme_id", "classes", "counts")},
                                                        indent=1), encoding="utf-8")
    (job.folder / SUMS).write_text("".join(f"{sha256_of(p)}  {p.name}\n" for p in sorted(job.folder.iterdir())), encoding="utf-8")


def _pseudonyms(people: list[str]) -> dict[str, str]:
    """Names that say nothing, in no order, other ones in every export."""
    salt = secrets.token_hex(4)
    random.SystemRandom().shuffle(people)
    return {person: f"voter-{salt}-{n}" for n, person in enumerate(people, 1)}


_PICTURES = "given labels where people or rules decided otherwise, excluded rows, votes of single people, and everything else that no column names"
FORMATS = {f.name: f for f in (
    Format("folder", "split/class/face.png, as importers of class folders read it.",
           "everything but pixels, split and label: votes, tags, flags, weights, folds, duplicate groups, excluded rows", _folder),
    Format("imagefolder", "train, validation and test with a metadata.jsonl, as Hugging Face datasets reads it (load_dataset('imagefolder')).",
           f"{_PICTURES}", _imagefolder),
    Format("fer2013", "fer2013.csv with emotion (the index of the class, as listed below), pixels and Usage; val is PublicTest, test PrivateTest.",
           "everything but pixels, split and label: votes, tags, flags, weights, folds, duplicate groups, excluded rows, and where a row came from",
           _fer2013),
    Format("ferplus", "fer2013.csv and, row by row, fer2013new.csv with the votes on ten answers, imported and annotators' together.",
           "tags, flags, weights, folds, duplicate groups, excluded rows, who voted, and answers that FER+ does not know", _ferplus, True),
    Format("npz", "One NumPy archive: images uint8 [n, 48, 48], labels int64 [n] into classes, split, and what is known of each face.",
           "given labels, votes, and excluded rows", _npz),
    Format("parquet", "The facts behind the version. 'fercore import export' takes them over; its recipe then makes the same manifest.",
           "nothing that the manifest depends on. Original files in their own size and colour, comments, names of people, and times stay behind",
           _parquet, True),
)}
