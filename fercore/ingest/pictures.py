"""Pictures of a folder, archive or listing into samples, whole or not at all; what cannot be used is reported one by one.

A sample is known by its decoded pixels within its source, so that a renamed file stays the same sample. Importing a source again adds what is
new, marks what is gone, and takes over what is labelled or named otherwise; what was before stays in the record.
"""

import functools
import hashlib
import json
import os
import tempfile
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow as pa
from uuid_utils import uuid7

from fercore.domain import SIDE, Permission, Person, slug
from fercore.errors import BadInput, Conflict
from fercore.ingest import folder, images, listing
from fercore.ingest.archive import opened
from fercore.ingest.fer2013 import Progress
from fercore.ingest.folder import Entry, Files, Refused
from fercore.ingest.images import Method
from fercore.ingest.label_maps import MAPS, LabelMap, preview
from fercore.ingest.listing import Columns
from fercore.ingest.seeing import Helper, Seen, see
from fercore.store import Store, samples, sources
from fercore.store.connection import translated

_CHUNK = 64  # pictures that a thread takes at a time
_MANY = 10_000  # pictures from which on helper processes are worth their start
_SMALL_S = 0.0005  # what a picture may take, in seconds, to count as small
_BATCH = 8192  # images in memory at a time while they are written


@dataclass(frozen=True)
class Provenance:
    """Where a source comes from, as it states it; `name` names it in this workspace."""

    name: str
    authors: str | None = None
    organisation: str | None = None
    licence: str | None = None
    url: str | None = None
    note: str | None = None


@dataclass
class PictureReport:
    """What an import did, or with `dry_run` would do.

    Attributes:
        labels: (text, class id or None, rows). rejected: (place, line of the listing or None, reason, name). notes: (name, remark) of what came in.
        counts: rows by what happened to them: added, gone, back, relabelled, moved, rewritten.
    """

    source_id: str
    kind: str
    label_map: str
    dry_run: bool
    read: int = 0
    tags_added: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    labels: list[tuple[str | None, str | None, int]] = field(default_factory=list)
    rejected: list[tuple[int, int | None, str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)

    @property
    def added(self) -> int:
        return self.counts["added"]

    @property
    def unmapped(self) -> int:
        """Rows that come in without a class."""
        return sum(n for _, class_id, n in self.labels if class_id is None)

    @property
    def unchanged(self) -> bool:
        return not self.counts and not self.tags_added

    def sentence(self) -> str:
        taken = self.read - len(self.rejected)
        if self.unchanged:
            return f"Nothing changed: all {taken:,} pictures of {self.source_id} are here already" + (
                f", {len(self.rejected):,} rejected" if self.rejected else "")
        done = [f"{self.counts[c]:,} {word}" for c, word in (("added", "added"), ("gone", "gone"), ("back", "back"), ("relabelled", "relabelled"),
                ("moved", "renamed or moved"), ("rewritten", "saved anew")) if self.counts[c] or c == "added"]
        return f"{self.read:,} files read, {', '.join(done)}, {self.unmapped:,} without a class, {len(self.rejected):,} rejected" + (
            f", {self.tags_added:,} tags" if self.tags_added else "") + ("; nothing was written" if self.dry_run else "")


@dataclass(slots=True)
class _Row:
    """A picture that can be used; `place` is its number in the import, `spool` that of its standard image."""

    place: int
    name: str
    sha256: str
    image: str
    height: int
    width: int
    mode: str
    raw: str | None
    label: str | None
    split: str | None
    tags: tuple[tuple[str, str], ...]
    note: str | None
    spool: int = 0


_Looked = tuple[_Row | Refused, bytes]


class _State(NamedTuple):
    """What is here of a sample."""

    image: str
    sample_id: str
    name: str | None
    sha256: str | None
    raw: str | None
    label: str | None
    split: str | None
    gone: bool


class _Change(NamedTuple):
    sample_id: str
    change: str
    file_name: str
    file_sha256: str
    raw_label: str | None
    given_label: str | None
    source_split: str | None
    note: str | None


def default_map(list_file: Path | None) -> LabelMap:
    """What labels mean unless told: RAF-DB's numbers in RAF-DB's own list, else common words."""
    return MAPS["rafdb@1" if list_file and list_file.name == "list_partition_label.txt" else "generic@1"]


def import_pictures(store: Store | None, actor: Person, path: Path, about: Provenance, *, list_file: Path | None = None,
                    columns: Columns | None = None, split: str | None = None, unlisted: bool = False, label_map: LabelMap | None = None,
                    method: Method | None = None, partial: bool = False, dry_run: bool = False,
                    progress: Progress = lambda done, total: None) -> PictureReport:
    """Imports a folder, ZIP or TAR of pictures in one transaction, by its paths or by a listing of its files.

    Args:
        store: None only with `dry_run`, for a workspace that is not there yet.
        path: the pictures. list_file: which of them, with which labels; without it paths and metadata.csv files say so.
        split: of every picture. unlisted: with `list_file`, also pictures that it does not name.
        partial: this is only a part of the source, so that nothing is marked as gone.
        progress: gets (pictures read, pictures); what it raises cancels the import.

    Raises:
        BadInput: nothing can be used, or not such files. Conflict: the source is of another kind. NotAllowed: the actor may not import.
    """
    actor.require(Permission.IMPORT)
    chosen, how, import_id = label_map or default_map(list_file), method or Method(), str(uuid7())
    with opened(path) as files:
        items = list(listing.entries(listing.read_lines(list_file, columns), files, split=split, unlisted=unlisted) if list_file
                     else folder.entries(files, split=split))
        report = PictureReport(slug(about.name), "listing" if list_file else files.kind, chosen.map_id, dry_run, len(items))
        assert store is not None or dry_run
        with translated(store.workspace) if store else nullcontext(), nullcontext() if dry_run or store is None else _Pack(
                store, import_id) as pack, _survey(items, files, chosen, how, pack, progress) as (rows, refused, spool):
            report.rejected = [(place, item.line, item.reason, item.name) for place, item in refused]
            report.notes = [(r.name, r.note) for r in rows if r.note]
            report.labels = preview((r.raw for r in rows), chosen)
            if not rows:
                raise BadInput("No picture could be used", f"{path.name}: {refused[0][1].name}: {refused[0][1].reason}" if refused
                               else f"{path.name} holds no picture", "Name the folder or archive that holds the pictures")
            if store is None or pack is None:
                known = sources.states(store, report.source_id) if store else []
                report.counts = Counter(c.change for c in _compare(report, rows, known, partial)[0])
                return report
            record = {"import_id": import_id, "source_id": report.source_id, "kind": report.kind, "person_id": actor.person_id,
                      "file_name": folder.shown((list_file or path).name), "label_map": chosen.map_id, "labels": json.dumps(chosen.classes),
                      "method": json.dumps(how.recorded()), **asdict(about)}
            _write(store, report, rows, spool, pack, record, partial, lambda: progress(len(items), len(items)))
    return report


@contextmanager
def _survey(items: list[Entry | Refused], files: Files, chosen: LabelMap, method: Method, pack: "_Pack | None", progress: Progress,
            ) -> Iterator[tuple[list[_Row], list[tuple[int, Refused]], IO[bytes]]]:
    """Every picture decoded: usable rows and refused items in their order, and the standard images in a file."""
    mapped, cores = functools.cache(chosen), min(4, os.cpu_count() or 1)

    def take(place: int, found: Seen | str) -> _Looked:
        item = items[place]
        assert isinstance(item, Entry)
        if isinstance(found, str):
            return Refused(item.name, found, item.line), b""
        if pack:
            pack.keep(found.sha256, found.data)
        return _Row(place, item.name, found.sha256, found.image, found.height, found.width, found.mode, item.label, mapped(item.label), item.split,
                    item.tags, images.other_format(item.name, found.kind)), found.gray

    def look(places: Sequence[int]) -> list[_Looked]:
        return [(item, b"") if isinstance(item := items[i], Refused) else take(i, see(item.read, item.box, method)) for i in places]

    def ask(helper: Helper, places: Sequence[int]) -> list[_Looked]:
        here = {i: (item.read, item.box) for i in places if isinstance(item := items[i], Entry)}
        found = dict(zip(here, helper.see(list(here.values()), method), strict=True))
        return [(item, b"") if isinstance(item := items[i], Refused) else take(i, found[i]) for i in places]

    order: Sequence[int] = range(len(items))
    if files.kind == "tar":  # backwards in a packed one means from its beginning, whatever the order of a listing
        held = {member.read: number for number, member in enumerate(files.members)}
        order = sorted(order, key=lambda i: held[item.read] if isinstance(item := items[i], Entry) else -1)
    chunks = [order[i:i + _CHUNK] for i in range(0, len(items), _CHUNK)]
    rows, refused = list[_Row](), list[tuple[int, Refused]]()
    with tempfile.TemporaryFile() as spool, closing(
            _helped(look, ask, chunks, cores - 1) if files.kind == "folder" and len(items) >= _MANY and cores > 1
            else _threaded(look, chunks, 1 if files.kind == "tar" else cores)) as all_looked:
        for places, looked in zip(chunks, all_looked, strict=True):
            for place, (found, _) in zip(places, looked, strict=True):
                if isinstance(found, Refused):
                    refused.append((place, found))
                else:
                    found.spool = len(rows)
                    rows.append(found)
            spool.write(b"".join(gray for _, gray in looked))
            progress(len(rows) + len(refused), len(items))
        spool.flush()
        progress(len(items), len(items))
        rows.sort(key=lambda row: row.place)
        refused.sort(key=lambda found: found[0])
        yield rows, refused, spool


def _threaded(look: Callable[[Sequence[int]], list[_Looked]], chunks: list[Sequence[int]], threads: int) -> Generator[list[_Looked]]:
    """`look` at each chunk, in order. Threads help with large pictures and hinder with small ones."""
    began = time.perf_counter()
    yield from map(look, chunks[:1])
    if threads == 1 or time.perf_counter() - began < _CHUNK * _SMALL_S:
        yield from map(look, chunks[1:])
        return
    with ThreadPoolExecutor(threads) as pool:
        try:
            yield from pool.map(look, chunks[1:])
        finally:
            pool.shutdown(cancel_futures=True)


def _helped(look: Callable[[Sequence[int]], list[_Looked]], ask: Callable[[Helper, Sequence[int]], list[_Looked]], chunks: list[Sequence[int]],
            helpers: int) -> Generator[list[_Looked]]:
    """`look` at each chunk, in order, while helper processes are asked for others; nothing waits for a helper that ends or hangs."""
    waiting, done, started, threads = deque(range(len(chunks))), dict[int, list[_Looked]](), list[Helper](), list[threading.Thread]()

    def keep_busy(helper: Helper) -> None:
        with suppress(Exception):  # what a helper leaves behind is looked at by the main thread, and what is wrong with it is raised there
            while waiting:
                number = waiting.popleft()
                done[number] = ask(helper, chunks[number])

    try:
        for _ in range(helpers):
            started.append(Helper())
            threads.append(threading.Thread(target=keep_busy, args=(started[-1],)))
            threads[-1].start()
        for wanted in range(len(chunks)):
            while wanted not in done:
                try:
                    number = waiting.popleft()
                except IndexError:
                    number = wanted
                done[number] = look(chunks[number])
            yield done.pop(wanted)
    finally:
        waiting.clear()
        for helper in started:
            helper.close()
        for thread in threads:
            thread.join()


class _Pack:
    """The original bytes of one import in one file, each after a line "sha256 size"; a file of its own for each costs several times what decoding
    it does. Its name appears when the import is complete."""

    def __init__(self, store: Store, import_id: str) -> None:
        self.path = sources.originals(store.workspace) / f"{import_id}.pack"
        self.half = self.path.with_suffix(".half")
        self.index, self._known, self._lock, self._end = list[tuple[str, int, int]](), sources.kept(store), threading.Lock(), 0

    def __enter__(self) -> "_Pack":
        self.path.parent.mkdir(exist_ok=True)
        self._file = self.half.open("xb", buffering=1 << 20)
        return self

    def keep(self, sha: str, data: bytes) -> None:
        with self._lock:
            if sha not in self._known:
                self._known.add(sha)
                line = f"{sha} {len(data)}\n".encode()
                self._file.write(line + data)
                self.index.append((sha, self._end + len(line), len(data)))
                self._end += len(line) + len(data)

    def publish(self) -> None:
        """Before the transaction ends: from then on rows name it."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self.half.rename(self.path)

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self._file.close()
        finally:  # on a full disk closing fails, and the file must not keep it full
            if kind:
                self.path.unlink(missing_ok=True)
            self.half.unlink(missing_ok=True)


_SAME: tuple[Callable[[_Row | _State], Any], ...] = (
    lambda r: (r.name, r.raw, r.split), lambda r: r.name, lambda r: (r.raw, r.split), lambda r: None)


def _paired(rows: list[_Row], here: list[_State]) -> Iterator[tuple[_Row, _State | None]]:
    """Rows of one image with the samples they are, the most alike first."""
    if len(rows) == 1 and len(here) < 2:
        yield rows[0], here[0] if here else None
        return
    left, states = rows, {s.sample_id: s for s in here}
    for same in _SAME:
        alike = defaultdict[Any, list[_State]](list)
        for state in reversed(states.values()):
            alike[same(state)].append(state)
        unpaired = []
        for row in left:
            if found := alike[same(row)]:
                yield row, states.pop(found.pop().sample_id)
            else:
                unpaired.append(row)
        left = unpaired
    yield from ((row, None) for row in left)


def _compare(report: PictureReport, rows: list[_Row], known: list[tuple[Any, ...]], partial: bool) -> tuple[list[_Change], dict[int, str]]:
    """(what is not as it was, place -> sample id). Raises: Conflict: the source did not come from files."""
    here, now = defaultdict[str, list[_State]](list), defaultdict[str, list[_Row]](list)
    for values in known:
        here[values[0]].append(_State(*values))
    if any(s.name is None for states in here.values() for s in states):
        raise Conflict(f"Source {report.source_id} is of another kind", "Its rows did not come from picture files", "Give this one another name")
    for row in rows:
        now[row.image].append(row)
    changes, ids, met = list[_Change](), dict[int, str](), set[str]()
    for image, group in now.items():
        states = here.get(image, [])
        number = len(states)
        for row, state in _paired(group, states):
            if state is None:
                # Rows of one image are told apart by a number that never depends on names.
                ids[row.place] = hashlib.sha256(f"{report.source_id}\n{image}\n{number}".encode()).hexdigest()[:32]
                number, change = number + 1, "added"
            else:
                ids[row.place] = state.sample_id
                met.add(state.sample_id)
                change = ("back" if state.gone else "relabelled" if (row.raw, row.label) != (state.raw, state.label)
                          else "moved" if (row.name, row.split) != (state.name, state.split) else "rewritten" if row.sha256 != state.sha256 else "")
            if change:
                changes.append(_Change(ids[row.place], change, row.name, row.sha256, row.raw, row.label, row.split, row.note))
    unreadable = {name for _, _, reason, name in report.rejected if reason != listing.NO_FILE}
    changes += [_Change(s.sample_id, "gone", str(s.name), str(s.sha256), s.raw, s.label, s.split, None) for states in here.values() for s in states
                if not (partial or s.gone or s.sample_id in met or s.name in unreadable)]
    return changes, ids


def _write(store: Store, report: PictureReport, rows: list[_Row], spool: IO[bytes], pack: _Pack, record: dict[str, Any], partial: bool,
           alive: Callable[[], None]) -> None:
    """`alive` is called now and then; what it raises cancels the import."""
    tagged = any(r.tags for r in rows)
    with store.write("samples", *(["labels"] if tagged else [])) as w:
        changes, ids = _compare(report, rows, sources.states(w, report.source_id), partial)
        report.counts = Counter(c.change for c in changes)
        added = {c.sample_id for c in changes if c.change == "added"}
        new, kept = [r for r in rows if ids[r.place] in added], 0
        for start in range(0, len(new), _BATCH):
            some = new[start:start + _BATCH]
            resized = [r for r in some if (r.height, r.width) != (SIDE, SIDE)]  # of the others there is one standard image only
            kept += sources.other_standards(w, _images(resized, spool)) if resized else 0
            samples.insert_images(w, _images(some, spool))
            alive()
        if new:
            samples.insert_samples(w, pa.table({
                "sample_id": [ids[r.place] for r in new], "source_id": [report.source_id] * len(new), "source_row": [r.place for r in new],
                "image_id": [r.image for r in new], "given_label": _text(r.label for r in new), "source_split": _text(r.split for r in new)},
            ), record["import_id"])
        if kept:
            report.notes.append(("", f"{kept:,} images are here with a 48x48 image made another way; that one stays"))
        if changes:
            sources.apply_changes(w, pa.table({n: _text(column) for n, column in zip(_Change._fields, zip(*changes, strict=True), strict=True)}),
                                  record["import_id"])
        if pack.index:
            hashes, places, sizes = zip(*pack.index, strict=True)
            sources.insert_originals(w, pa.table({"file_sha256": hashes, "place": places, "size": sizes}), pack.path.name)
            pack.publish()
        tags = dict.fromkeys((ids[r.place], name, value) for r in rows for name, value in r.tags)
        if tags:
            keys, names, values = zip(*tags, strict=True)
            report.tags_added = samples.insert_votes(w, pa.table({
                "sample_id": keys, "origin": ["tags"] * len(keys), "field": names, "value": values, "votes": pa.array([1] * len(keys), pa.int32())}))
        before = sources.provenance(w, report.source_id)
        stated = {k: v for k, v in record.items() if k in Provenance.__dataclass_fields__ and v is not None}
        if not report.unchanged or any(before.get(k) != v for k, v in stated.items()):
            digest = hashlib.sha256("\n".join(sorted(f"{r.name}\t{r.sha256}" for r in rows)).encode()).hexdigest()
            samples.record_import(w, {
                **record, "file_sha256": digest, "rows_read": report.read, "rows_added": report.added, "rows_rejected": len(report.rejected),
                "votes_added": report.tags_added, **{f"rows_{c}": report.counts[c] for c in ("gone", "relabelled", "moved", "back")},
            }, report.rejected)


def _text(values: Any) -> pa.Array:
    return pa.array(list(values), pa.string())


def _images(rows: list[_Row], spool: IO[bytes]) -> pa.Table:
    """Images with their standard pixels, for the store."""
    size = SIDE * SIDE
    flat = np.memmap(spool, np.uint8, "r").reshape(-1, size)[[r.spool for r in rows]]
    mean = flat.mean(axis=1)
    square = np.einsum("ij,ij->i", flat, flat, dtype=np.uint32)  # whole numbers: far quicker than numpy's var, and exact
    return pa.table({
        "image_id": [r.image for r in rows], "height": pa.array([r.height for r in rows], pa.int32()),
        "width": pa.array([r.width for r in rows], pa.int32()), "mode": [r.mode for r in rows],
        "gray48": pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), len(rows), [None, pa.py_buffer(flat)]),
        "mean": mean, "sd": np.sqrt(np.maximum(square / size - mean**2, 0))})
