"""Labels made elsewhere, onto samples that are here: a spreadsheet, a list of file names, Label Studio's JSON."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from uuid_utils import uuid7

from fercore import curation
from fercore.curation import schemes as book
from fercore.domain import Permission, Person, slug
from fercore.errors import BadInput, Conflict
from fercore.ingest.fer2013 import DryRun, Progress
from fercore.ingest.files import readable, sha256_of
from fercore.ingest.folder import Refused, shown
from fercore.ingest.label_maps import MAPS, LabelMap, folded
from fercore.ingest.listing import Columns, Line, read_lines
from fercore.store import Store, samples, sources
from fercore.store.connection import Writer

_OTHERS = ("annotator", "ferplus", "tags")  # origins of votes that are cast here, and of those that have importers of their own
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before the name of an uploaded file


@dataclass
class LabelReport:
    """What came of the lines, or with `dry_run` would come.

    Attributes:
        labels: (text, value or None, lines). rejected: (line or task, reason, name).
    """

    origin: str
    dry_run: bool = False
    read: int = 0
    votes_added: int = 0
    events: int = 0
    labels: list[tuple[str, str | None, int]] = field(default_factory=list)
    rejected: list[tuple[int, str, str]] = field(default_factory=list)

    @property
    def unchanged(self) -> bool:
        return not self.votes_added and not self.events

    def sentence(self) -> str:
        if self.unchanged:
            return f"Nothing changed: all {self.read - len(self.rejected):,} labels of {self.origin} are here already" + (
                f", {len(self.rejected):,} rejected" if self.rejected else "")
        done = f"{self.events:,} label events of {self.origin}" if self.events else f"{self.votes_added:,} imported votes of {self.origin}"
        return f"{self.read:,} labels read, {done}, {len(self.rejected):,} rejected" + ("; nothing was written" if self.dry_run else "")


def import_labels(store: Store, actor: Person, path: Path, *, source: str | None = None, origin: str | None = None, by: Person | None = None,
                  asks: str = "expression", flag: str | None = None, label_map: LabelMap | None = None, columns: Columns | None = None,
                  dry_run: bool = False, progress: Progress = lambda done, total: None) -> LabelReport:
    """Labels of a CSV, TSV or text (a file name, row or sample id, and a label), or of Label Studio's JSON (choices).

    They become imported votes of `origin` (default: the file's name), or label events of `by`. With `flag`, a file lists what has that flag, and
    labels are not needed; flags are always events, of `by` or the actor. The same file again changes nothing. Only who may manage people records
    answers of somebody else; the record of the import says who did.

    Args:
        source: samples are looked up in this one only; rows can be named only with it. asks: the field that is answered.
        progress: gets (lines, lines in all); what it raises cancels the import.

    Raises:
        BadInput: not such a file, no line fits, or the origin names votes of another kind. NotFound: no such field. Conflict: other votes of
            this origin are here. NotAllowed.
    """
    actor.require(Permission.IMPORT)
    if by and by.person_id != actor.person_id:
        actor.require(Permission.PEOPLE)
    asks, by = f"flag_{flag}" if flag else asks, by or (actor if flag else None)
    chosen, allowed = label_map or MAPS["generic@1"], book.values_of(store, asks)
    report = LabelReport(by.name if by else slug(origin or path.stem), dry_run)
    if not by and report.origin in _OTHERS:
        raise BadInput("These votes need another name", f"{report.origin!r} names votes of another kind", "Say whose they are: --origin")
    lines = list(_label_studio(path)) if path.suffix.lower() == ".json" else read_lines(path, columns)
    report.read, found, samples_here = len(lines), _Lookup(store, slug(source) if source else None), dict[tuple[str, str], tuple[str, str]]()
    votes, texts = Counter[tuple[str, str]](), Counter[tuple[str, str | None]]()
    for done, line in enumerate(lines):
        if done % 4096 == 0:
            progress(done, len(lines))
        try:
            if isinstance(line, Refused):
                raise BadInput(line.reason)
            sample_id, image_id = found.one(line)
            value = "yes" if flag else chosen(line.label) if chosen(line.label) in allowed else folded(line.label).replace(" ", "_")
            texts[shown(line.label), value if value in allowed else None] += 1
            if value is None or value not in allowed:
                raise BadInput(f"unknown label {shown(line.label)[:40]!r}")
            if by and samples_here.setdefault((image_id, ""), (sample_id, value))[1] != value:
                raise BadInput("an earlier line says otherwise of the same face")
            votes[sample_id, value] += 1
            samples_here[sample_id, value] = sample_id, image_id
        except BadInput as error:
            number, name = (line.line, line.name) if isinstance(line, Refused) else (line.number, line.image or line.row or line.sample)
            report.rejected.append((number or 0, error.title, shown(name)))
    report.labels = [(text, value, n) for (text, value), n in texts.most_common()]
    if not votes:
        raise BadInput("No label could be used", f"{path.name}: {report.rejected[0][1] if report.rejected else 'it has no row'}",
                       "It needs file names, rows or sample ids of this workspace, and a label each")
    if by:
        standing, said = sources.answers(store, by.person_id, asks), {samples_here[key][1]: key[1] for key in votes}
        events = [{"event_id": str(uuid7()), "op": "set", "image_id": image, "field": asks, "value": value, "gesture": str(uuid7())}
                  for image, value in said.items() if standing.get(image) != value]
        report.events = len(events)
        if events and not dry_run:
            receipt = curation.record(store, by, events)
            report.events = len(receipt.acked)
            report.rejected += [(0, reason, "") for reason in receipt.refused.values()]
            with store.write("samples") as w:
                _recorded(w, report, path, source, chosen, actor, f"{report.events} label events of {by.person_id}")
        return report
    keys, counts = zip(*votes.items(), strict=True)
    table = pa.table({"sample_id": [k[0] for k in keys], "origin": [report.origin] * len(keys), "field": [asks] * len(keys),
                      "value": [k[1] for k in keys], "votes": pa.array(counts, pa.int32())})
    with suppress(DryRun), store.write("samples", "labels") as w:
        if samples.other_votes(w, table):
            raise Conflict(f"{report.origin} holds other labels", f"{path.name} differs from the votes of that origin that are here",
                           "Give the file another origin with --origin; imported facts are not overwritten")
        before = samples.votes_of(w, report.origin)
        samples.insert_votes(w, table)
        report.votes_added = samples.votes_of(w, report.origin) - before
        if dry_run:
            raise DryRun
        if report.votes_added:
            _recorded(w, report, path, source, chosen, actor, None)
    return report


def _recorded(w: Writer, report: LabelReport, path: Path, source: str | None, chosen: LabelMap, actor: Person, note: str | None) -> None:
    samples.record_import(w, {"import_id": str(uuid7()), "source_id": slug(source) if source else "", "kind": "labels", "name": report.origin,
                              "file_name": shown(path.name), "file_sha256": sha256_of(path), "label_map": chosen.map_id,
                              "labels": json.dumps(chosen.classes), "rows_read": report.read, "rows_added": 0, "rows_rejected": len(report.rejected),
                              "votes_added": report.votes_added, "person_id": actor.person_id, "note": note},
                          [(-1, number, reason, name) for number, reason, name in report.rejected])


class _Lookup:
    """Samples by id, by row of a source, or by file name: whole, or its last part where only one image has it."""

    def __init__(self, store: Store, source_id: str | None) -> None:
        self.ids, self.rows, self.files = dict[str, tuple[str, str]](), dict[str, tuple[str, str]](), dict[str, dict[str, tuple[str, str]]]()
        for sample_id, image_id, row, name in sources.names(store, source_id):
            here = sample_id, image_id
            self.ids[sample_id] = here
            if source_id:
                self.rows[str(row)] = here
            for key in {name, name.rpartition("/")[2]} if name else ():
                self.files.setdefault(key, {})[sample_id] = here

    def one(self, line: Line) -> tuple[str, str]:
        """(sample_id, image_id). Raises: BadInput, whose title is the reason."""
        named = line.sample or line.row or line.image
        if found := self.ids.get(named.lower()):
            return found
        if line.row or (named.isdecimal() and named not in self.files):
            if line.row and not self.rows:
                raise BadInput("rows can be named only together with a source")
            if found := self.rows.get(named.lstrip("0") or "0"):
                return found
        name = shown(named.replace("\\", "/"))
        last = name.rpartition("/")[2]
        for key in (name, last, _UPLOADED.sub("", last)):
            if several := self.files.get(key):
                if len({image for _, image in several.values()}) > 1:
                    raise BadInput("several pictures have this name")
                return next(iter(several.values()))
        raise BadInput("no such picture here")


def _label_studio(path: Path) -> Iterator[Line | Refused]:
    """Choices of Label Studio's JSON (tasks with annotations) or JSON-MIN export; cancelled annotations are left out."""
    try:
        tasks = json.loads(readable(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadInput("Not JSON", f"{path.name}: {error}") from error
    if not isinstance(tasks, list) or not all(isinstance(t, dict) for t in tasks):
        raise BadInput("Not an export of Label Studio", f"{path.name} is no list of tasks", "Export as JSON or JSON-MIN")
    for number, task in enumerate(tasks, 1):
        data = task.get("data") if isinstance(task.get("data"), dict) else task
        image = next((str(data[k]) for k in ("image", "img", "file_name", "picture") if isinstance(data.get(k), str)), "")
        chosen = _choices(task.get("annotations")) if "annotations" in task else [
            c for c in (task.get("choice"), task.get("label"), task.get("emotion")) if isinstance(c, str)][:1]
        name = re.sub(r"^.*[?&]d=", "", image) if "?d=" in image else image  # local storage serves /data/local-files/?d=path
        if not chosen:
            yield Refused(shown(name), "no choice was made", number)
        yield from (Line(number, name, c) for c in chosen)


def _choices(annotations: Any) -> list[str]:
    made = [a for a in _listed(annotations) if isinstance(a, dict) and not a.get("was_cancelled")]
    values = [r.get("value") for a in made for r in _listed(a.get("result")) if isinstance(r, dict)]
    return [c for v in values if isinstance(v, dict) for c in _listed(v.get("choices")) if isinstance(c, str)]


def _listed(found: Any) -> list[Any]:
    return found if isinstance(found, list) else []
