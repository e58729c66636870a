"""Lists of files with labels: CSV, TSV, semicolons or blanks, with or without header, columns recognised or chosen."""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from fercore.errors import BadInput
from fercore.ingest.files import readable, refusing
from fercore.ingest.folder import SPLIT_WORDS, Entry, Files, Member, Refused, said_by_name, said_by_path, shown
from fercore.ingest.images import SUFFIXES, Box

MAX_LISTING = 1 << 30  # bytes
# Column names as they are compared: lower case, letters and digits only, of any script.
NAMES = {
    "image": {"image", "filename", "file", "path", "filepath", "img", "imagename", "imagepath", "imagefile", "name", "subdirectoryfilepath"},
    "label": {"label", "labels", "emotion", "expression", "class", "classname", "category", "choice", "sentiment"},
    "split": {"split", "usage", "subset", "set", "partition"},
    "row": {"row", "csvrow", "sourcerow"}, "sample": {"sample", "sampleid"},
}
NO_FILE = "no such file"
_SPLIT_PREFIX = re.compile(r"^(train|test|val|valid|validation)_", re.IGNORECASE)


@dataclass(frozen=True)
class Columns:
    """Columns that a person chose, by name or by number from 1; None is recognised.

    Attributes:
        box: four: left, top, width, height. corners: the last two are right and bottom instead, as in ExpW.
    """

    image: str | None = None
    label: str | None = None
    split: str | None = None
    box: tuple[str, str, str, str] | None = None
    corners: bool = False


def box_of(columns: str | None) -> tuple[str, str, str, str] | None:
    """Four columns from "left,top,width,height". Raises: BadInput: not four."""
    names = [c.strip() for c in columns.split(",")] if columns else []
    if names and len(names) != 4:
        raise BadInput("A face box has four columns", f"{columns!r} has {len(names)}", "Give left,top,width,height or left,top,right,bottom")
    return (names[0], names[1], names[2], names[3]) if names else None


@dataclass(frozen=True)
class Line:
    """One row of a listing: what stands in the columns, stripped; "" where a column is not there."""

    number: int  # 1-based line of the file
    image: str
    label: str = ""
    split: str = ""
    row: str = ""
    sample: str = ""
    box: Box | None = None


def _plain(cell: str) -> str:
    return re.sub(r"[\W_]", "", cell.casefold())


def read_lines(path: Path, chosen: Columns | None = None) -> list[Line | Refused]:
    """Every row that is not blank.

    Raises:
        BadInput: no text, empty, larger than 1 GiB, or a chosen column is not there.
    """
    chosen = chosen or Columns()
    if readable(path).stat().st_size > MAX_LISTING:
        raise BadInput("The listing is too large", f"{path.name} has more than {MAX_LISTING >> 30} GiB", "Split it")
    data = path.read_bytes()
    if b"\0" in data[:4096]:
        raise BadInput("Not a text file", f"{path.name} holds zero bytes", "Give a CSV, TSV or blank-separated text in UTF-8")
    with refusing(path):
        table = _table(data.decode("utf-8-sig", "surrogateescape"))
        first = next(table, None)
        if first is None:
            raise BadInput("The file is empty", f"{path.name} has no row", "Give a list of file names with labels")
        places, has_header = _columns(path, first[1], chosen)
        width = max(chain(*places.values())) + 1
        out: list[Line | Refused] = []
        for number, cells in table if has_header else chain([first], table):
            if len(cells) < width:
                out.append(Refused(shown(cells[0]), f"{len(cells)} of {width} columns", number))
                continue
            found = {kind: tuple(cells[p] for p in at) for kind, at in places.items()}
            try:
                box = _box(found.pop("box", ()), chosen.corners)
            except (ValueError, OverflowError):
                out.append(Refused(shown(cells[places["image"][0]]), "the face box is not four numbers", number))
                continue
            out.append(Line(number, **{"image": "", **{kind: values[0] for kind, values in found.items()}}, box=box))
    return out


def _table(text: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, stripped cells) of rows that are not blank."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = next((d for d in "\t,;" if d in first), None)
    if delimiter is None:
        yield from ((n, line.split()) for n, line in enumerate(re.split(r"\r\n|\r|\n", text), 1) if line.strip())
        return
    reader = csv.reader(io.StringIO(text, newline=None), delimiter=delimiter, skipinitialspace=True)
    for cells in reader:
        stripped = [c.strip() for c in cells]
        if any(stripped):
            yield reader.line_num, stripped


def _told(header: list[str]) -> str:
    return ", ".join(shown(c)[:40] for c in header[:20]) + (f" and {len(header) - 20:,} more" if len(header) > 20 else "")


def _columns(path: Path, first: list[str], chosen: Columns) -> tuple[dict[str, tuple[int, ...]], bool]:
    """(column kind -> places, whether the first row is a header). Raises: BadInput: a chosen column is not there."""
    plain = [_plain(c) for c in first]
    named = {kind: next((i for i, c in enumerate(plain) if c in words), None) for kind, words in NAMES.items()}
    asked = [c for c in (chosen.image, chosen.label, chosen.split, *(chosen.box or ())) if c is not None]
    header = any(not c.isdecimal() for c in asked) or any(named[k] is not None for k in ("image", "row", "sample"))

    def place(column: str) -> int:
        at = int(column) - 1 if column.isdecimal() else plain.index(_plain(column)) if _plain(column) in plain else -1
        if not 0 <= at < len(first):
            raise BadInput("No such column", f"{path.name} has no column {column!r} but {_told(first) if header else len(first)}",
                           "Name a column of the header, or number columns from 1")
        return at

    places: dict[str, tuple[int, ...]] = {kind: (at,) for kind, at in named.items() if at is not None} if header else {}
    for kind in ("image", "label", "split"):
        if (column := getattr(chosen, kind)) is not None:
            places[kind] = (place(column),)
    if chosen.box:
        places["box"] = tuple(place(c) for c in chosen.box)
    if not header:
        image = next((i for i, c in enumerate(first) if c.casefold().endswith(SUFFIXES)), 0)
        places.setdefault("image", (image,))
        others = [i for i in range(len(first)) if i != places["image"][0]]
        if others and "label" not in places:
            places["label"] = (others[-1],)
    if not places.keys() & {"image", "row", "sample"}:
        raise BadInput("No column of file names", f"{path.name} has the columns {_told(first)}", "Say which one: --image-column")
    return places, header


class Names:
    """Finds files by what a listing calls them: the path, the last part where only one file has it, or RAF-DB's aligned copy."""

    def __init__(self, files: Files) -> None:
        self.by_name = {m.name: m for m in files.members}
        self.by_last = dict[str, list[Member]]()
        for m in files.members:
            self.by_last.setdefault(m.name.rpartition("/")[2], []).append(m)

    def find(self, name: str) -> Member:
        """Raises: BadInput, whose title is the reason."""
        name = re.sub(r"^(\./)+", "", name.replace("\\", "/"))
        if name.startswith("/") or ".." in name.split("/") or name[1:2] == ":":
            raise BadInput("names a file outside the folder")
        name = shown(name)
        stem, dot, suffix = name.rpartition(".")
        for wanted in (name, f"{stem}_aligned.{suffix}" if dot else f"{name}_aligned"):
            if wanted in self.by_name:
                return self.by_name[wanted]
            same = self.by_last.get(wanted.rpartition("/")[2], [])
            if len(same) > 1:
                raise BadInput(f"{len(same)} files have this name")
            if same:
                return same[0]
        raise BadInput(NO_FILE)


def entries(lines: list[Line | Refused], files: Files, *, split: str | None = None, unlisted: bool = False) -> Iterator[Entry | Refused]:
    """The pictures of a listing. A line that repeats an earlier one is refused; the same file with another label is a sample of its own.

    Args:
        split: of every file, whatever the listing says. unlisted: also take the files that no line names, without a label.
    """
    names, seen, used = Names(files), dict[tuple[str, str, Box | None], int](), set[str]()
    yield from files.refused
    for line in lines:
        if isinstance(line, Refused):
            yield line
            continue
        try:
            member = names.find(line.image)
        except BadInput as error:
            yield Refused(shown(line.image), error.title, line.number)
            continue
        used.add(member.name)
        earlier = seen.setdefault((member.name, line.label, line.box), line.number)
        if earlier != line.number:
            yield Refused(member.name, f"repeats line {earlier}", line.number)
            continue
        prefix = _SPLIT_PREFIX.match(member.name.rpartition("/")[2])
        told = SPLIT_WORDS.get(line.split.casefold(), shown(line.split)) or said_by_path(member.name.rpartition("/")[0])[1] or (
            SPLIT_WORDS[prefix[1].casefold()] if prefix else None)
        yield Entry(member.name, member.read, shown(line.label) or None, split or told, said_by_name(member.name), line.box, line.number)
    for member in files.members if unlisted else ():
        if member.name not in used and member.name.casefold().endswith(SUFFIXES):
            yield Entry(member.name, member.read, None, split or said_by_path(member.name.rpartition("/")[0])[1], said_by_name(member.name))


def _box(cells: tuple[str, ...], corners: bool) -> Box | None:
    """Raises: ValueError, OverflowError: not four numbers."""
    if not cells:
        return None
    left, top, x, y = (round(float(c)) for c in cells)
    return (left, top, x, y) if corners else (left, top, left + x, top + y)
