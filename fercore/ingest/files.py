"""Opening what people give."""

import csv
import gzip
import hashlib
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import yaml

from fercore.errors import BadInput
from fercore.ingest.folder import hidden

_LONGEST_NAME = 1 << 16
_LARGEST_MAPPING = 1 << 20  # bytes
_EXTENSIONS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


def readable(path: Path) -> Path:
    """The path, if it is a file. Raises: BadInput: it is missing, not a file, or may not be read."""
    if not path.exists():
        raise BadInput("No such file", str(path), "Check the path")
    if not path.is_file():
        raise BadInput("Not a file", f"{path} is a folder or a device", "Name the CSV itself")
    if not os.access(path, os.R_OK):
        raise BadInput("The file cannot be read", f"{path}: permission denied")
    return path


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of the bytes of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """What reading a broken file raises, as BadInput."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, tarfile.TarError, zipfile.BadZipFile, RecursionError) as error:
        raise BadInput("The packed file is cut short or damaged", f"{path}: {error}", "Fetch it again; nothing was imported") from error
    except csv.Error as error:
        raise BadInput("Not a CSV", f"{path}: {error}") from error


class Header(tarfile.TarInfo):
    """Refuses headers of a TAR that would fill the memory before a member is looked at."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "Header":
        found = super().frombuf(buf, encoding, errors)
        if found.type in _EXTENSIONS and found.size > _LONGEST_NAME:
            raise BadInput("The archive cannot be read", f"One of its headers has {found.size:,} bytes", "Pack it anew")
        return found


@contextmanager
def unpacked(path: Path, raw: IO[bytes]) -> Iterator[IO[bytes]]:
    """The bytes of a file that may be gzipped, or the only CSV of a ZIP or TAR.

    Args:
        raw: the open file, whose place tells how much was read.

    Raises:
        BadInput: an archive with no CSV or with several, or one that needs a password. What reading a damaged file raises: see `refusing`.
    """
    begins = raw.read(4)
    raw.seek(0)
    if begins == b"PK\x03\x04":
        with zipfile.ZipFile(raw) as archive:
            name = _only_csv(path, archive.namelist())
            try:
                file = archive.open(name)
            except RuntimeError as error:  # encrypted, or packed in a way that Python does not know
                raise BadInput("The archive cannot be unpacked", f"{path.name}: {error}", "Give the CSV itself") from error
            with file:
                yield file
    elif tarfile.is_tarfile(path):
        with tarfile.open(path, tarinfo=Header) as listed:
            name = _only_csv(path, [m.name for m in listed if m.isreg()])
        with tarfile.open(fileobj=raw, mode="r|*", tarinfo=Header) as tape:
            yield cast(IO[bytes], tape.extractfile(next(m for m in tape if m.name == name)))
    elif begins[:2] == b"\x1f\x8b":
        with gzip.GzipFile(fileobj=raw) as plain:
            yield cast(IO[bytes], plain)
    else:
        yield raw


def _only_csv(path: Path, names: list[str]) -> str:
    found = [n for n in names if n.casefold().endswith(".csv") and not hidden(n)]
    if len(found) != 1:
        raise BadInput("Which file is meant?", f"{path.name} holds {len(found)} CSV files", "Give an archive with one, or the CSV itself")
    return found[0]


class _WithoutAliases(yaml.SafeLoader):
    """A few aliases of aliases make a few lines as large as the memory."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases are not read", problem_mark=self.get_mark())
        return super().compose_node(parent, index)


@dataclass(frozen=True)
class Marked:
    """A mapping and where its parts stand in the text."""

    data: dict[str, Any]
    name: str
    root: yaml.Node | None

    def line(self, keys: Sequence[str | int] = ()) -> int:
        """1-based line of the part that `keys` lead to, or of the last one on the way that is there; a key of a mapping stands for its value."""
        node, line = self.root, 1
        for key in keys:
            if isinstance(node, yaml.MappingNode):
                found = next(((k, v) for k, v in node.value if k.value == key), None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
                found = (node.value[key], node.value[key])
            else:
                found = None
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        return line


def read_marked(text: str, name: str) -> Marked:
    """The mapping in a YAML or JSON text without aliases. Raises: BadInput, naming the line at fault."""
    try:
        loader = _WithoutAliases(text)
        node = loader.get_single_node()
        data = (loader.construct_document(node) if node else None) or {}
    except (RecursionError, ValueError) as error:  # nested without end; a date that does not exist
        raise BadInput("Not YAML", f"{name}: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise BadInput("Not YAML", f"{name}, line {mark.line + 1 if mark else '?'}: {getattr(error, 'problem', error)}") from error
    if not isinstance(data, dict):
        raise BadInput("Not a mapping", f"{name} holds a {type(data).__name__}", "Write key: value lines")
    return Marked(data, name, node)


def read_text(path: Path) -> str:
    """A small UTF-8 text. Raises: BadInput."""
    if readable(path).stat().st_size > _LARGEST_MAPPING:
        raise BadInput("The file is too large", f"{path} has more than {_LARGEST_MAPPING >> 20} MiB")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInput("Not a text file", f"{path} is not UTF-8") from error


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML or JSON file without aliases. Raises: BadInput, naming the line at fault."""
    return read_marked(read_text(path), str(path)).data
