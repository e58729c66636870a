"""Files of a folder, and what their paths say: class, split, and tags that a data set writes into file names."""

import csv
import io
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

from fercore.errors import BadInput
from fercore.ingest.images import MAX_BYTES, Box
from fercore.schemes import AGE_BANDS

SPLIT_WORDS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test",
               "testing": "test", "publictest": "PublicTest", "privatetest": "PrivateTest"}
METADATA = "metadata.csv"  # of Hugging Face's imagefolder: file_name, label, beside the files
# UTKFace: age, gender, race and time. Race is not an attribute of this product: it is neither read nor kept in the name.
_UTKFACE = re.compile(r"^(\d{1,3})_([01])_(?:[0-4]_)?(20\d{6,15})(?=\D|$)")
_WITHOUT_RACE = re.compile(r"^(\d{1,3})_([01])_20\d{6,15}(?=\D|$)")
_OLDEST = dict(zip((12, 35, 60, 999), AGE_BANDS.ids, strict=True))  # years, as the guidelines draw the bands


class Member(NamedTuple):
    """A file of a folder or archive; `name` is its path inside, printable."""

    name: str
    read: Callable[[], bytes]


class Refused(NamedTuple):
    """A file or line that is not taken. `line` is the 1-based line of a listing."""

    name: str
    reason: str
    line: int | None = None


@dataclass(frozen=True)
class Files:
    """What a folder, zip or tar (`kind`) holds, in a stable order; the members of a tar must be read in that order by one thread."""

    name: str
    kind: str
    members: list[Member]
    refused: list[Refused]


class Entry(NamedTuple):
    """One picture with what its source says of it. `tags` are (field, value)."""

    name: str
    read: Callable[[], bytes]
    label: str | None = None
    split: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    box: Box | None = None
    line: int | None = None


def shown(name: str) -> str:
    """A file name that can be printed and stored: bytes that are no UTF-8 and control characters as escapes, and no race."""
    if not name.isprintable():
        name = "".join(c if c.isprintable() else f"\\x{ord(c) - 0xDC00:x}" if "\udc80" <= c <= "\udcff" else c.encode("unicode_escape").decode()
                       for c in name)
    folder, slash, last = name.rpartition("/")
    return folder + slash + _UTKFACE.sub(r"\1_\2_\3", last)


def hidden(name: str) -> bool:
    """What systems leave in folders, and nobody means to import."""
    return any(p.startswith(".") or p in ("__MACOSX", "Thumbs.db", "desktop.ini") for p in name.split("/"))


def read_folder(root: Path) -> Files:
    """Every file below `root`, links and devices refused. Raises: BadInput: not a folder."""
    if not root.is_dir():
        raise BadInput("Not a folder", str(root), "Name a folder, a ZIP or a TAR file")
    found, refused, waiting = list[Member](), list[Refused](), [(str(root), "")]
    while waiting:
        folder, prefix = waiting.pop()
        try:
            listed = list(os.scandir(folder))
        except OSError as error:
            refused.append(Refused(shown(prefix), f"cannot be read: {error.strerror}"))
            continue
        for entry in listed:
            name = prefix + entry.name
            if hidden(entry.name):
                continue
            if entry.is_symlink():
                refused.append(Refused(shown(name), "a link; links are not followed"))
            elif entry.is_dir(follow_symlinks=False):
                waiting.append((entry.path, name + "/"))
            elif entry.is_file(follow_symlinks=False):
                found.append(Member(shown(name), partial(_read, entry.path)))
            else:
                refused.append(Refused(shown(name), "not a plain file"))
    return Files(root.resolve().name, "folder", sorted(found, key=lambda m: m.name), sorted(refused, key=lambda r: r.name))


def _read(path: str) -> bytes:
    """The file, unless it has become something else since it was listed. Raises: BadInput, OSError."""
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        about = os.fstat(number)
        if not stat.S_ISREG(about.st_mode) or about.st_size > MAX_BYTES:
            raise BadInput(f"not a plain file of at most {MAX_BYTES >> 20} MiB")
        data = os.read(number, about.st_size + 1)
        while len(data) < about.st_size and (more := os.read(number, about.st_size - len(data))):
            data += more
        return data
    finally:
        os.close(number)


@lru_cache(maxsize=4096)
def said_by_path(folder: str) -> tuple[str | None, str | None]:
    """(label, split) of the files in a folder: the innermost name that is no split, and the outermost that is one (train, test, val, ...)."""
    folders = folder.split("/") if folder else []
    split = next((SPLIT_WORDS[f.casefold()] for f in folders if f.casefold() in SPLIT_WORDS), None)
    return next((f for f in reversed(folders) if f.casefold() not in SPLIT_WORDS), None), split


def said_by_name(name: str) -> tuple[tuple[str, str], ...]:
    """Perceived age band and gender in a UTKFace file name; nothing for other names."""
    found = _WITHOUT_RACE.match(name.rpartition("/")[2])
    if not found:
        return ()
    return ("age_band", next(band for oldest, band in _OLDEST.items() if int(found[1]) <= oldest)), ("gender", ("male", "female")[int(found[2])])


def entries(files: Files, *, split: str | None = None) -> Iterator[Entry | Refused]:
    """The files by their paths; metadata.csv files, where there are any, name labels and splits before paths do.

    Args:
        split: of every file, whatever its path says.
    """
    names, stated = {m.name for m in files.members}, dict[str, _Stated]()
    for member in files.members:
        folder, _, last = member.name.rpartition("/")
        if last == METADATA:
            try:
                for name, line, told in _metadata(member.read(), folder):
                    stated[name] = told
                    if name not in names:
                        yield Refused(name, "no such file", line)
            except (BadInput, OSError, csv.Error) as error:
                yield Refused(member.name, f"cannot be read: {error}")
    yield from files.refused
    for member in files.members:
        if member.name.rpartition("/")[2] != METADATA:
            label, place = said_by_path(member.name.rpartition("/")[0])
            told = stated.get(member.name, _Stated())
            yield Entry(member.name, member.read, told.label or label, split or told.split or place, said_by_name(member.name))


class _Stated(NamedTuple):
    """What a metadata.csv says of a file."""

    label: str | None = None
    split: str | None = None


def _metadata(data: bytes, folder: str) -> Iterator[tuple[str, int, _Stated]]:
    """(name, 1-based line, what is said)."""
    reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig", "surrogateescape"), newline=""))
    for row in reader:
        if row.get("file_name"):
            split = (row.get("split") or "").strip()
            yield shown((folder + "/" if folder else "") + row["file_name"].strip()), reader.line_num, _Stated(
                shown((row.get("label") or "").strip()) or None, SPLIT_WORDS.get(split.casefold(), shown(split)) or None)
