"""ZIP and TAR files read in place: nothing is unpacked to disk, and no name inside decides where anything is written."""

import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from fercore.errors import BadInput
from fercore.ingest.files import Header, readable
from fercore.ingest.folder import Files, Member, Refused, hidden, read_folder, shown
from fercore.ingest.images import MAX_BYTES

MAX_TOTAL = 200 << 30  # bytes that all members may unpack to
MAX_MEMBERS = 5_000_000
_Read = Callable[[], bytes]


@contextmanager
def opened(path: Path) -> Iterator[Files]:
    """What a folder, ZIP or TAR (also gzipped, bzip2ed or xzed) holds; members can be read while the block lasts.

    Raises:
        BadInput: none of these, damaged, or it would unpack to more than 200 GiB or 5 million members.
    """
    if path.is_dir():
        yield read_folder(path)
        return
    try:
        if zipfile.is_zipfile(readable(path)):
            with zipfile.ZipFile(path) as packed:
                yield Files(path.name, "zip", *_checked(path, _zip(packed)))
        else:
            with tarfile.open(path, "r:*", tarinfo=Header, errors="surrogateescape") as tape:
                yield Files(path.name, "tar", *_checked(path, _tar(tape)))
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, UnicodeDecodeError, RecursionError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")  # tarfile goes on with a line for each way to unpack
        raise BadInput("Not a folder, ZIP or TAR", f"{path.name}: {why}", "Name a folder or an archive of pictures") from error


def _checked(path: Path, found: Iterator[tuple[str, int, str | None, _Read]]) -> tuple[list[Member], list[Refused]]:
    members, refused, total, seen = list[Member](), list[Refused](), 0, set[str]()
    for name, size, reason, read in found:
        total += size
        if total > MAX_TOTAL or len(members) + len(refused) >= MAX_MEMBERS:
            raise BadInput("The archive is too large", f"{path.name} unpacks to more than {MAX_TOTAL >> 30} GiB or {MAX_MEMBERS:,} members",
                           "Unpack it and import the folder")
        parts = name.replace("\\", "/").split("/")
        if name.startswith(("/", "\\")) or ".." in parts or name[1:2] == ":":
            reason = "its name leads out of the archive"
        elif not reason and size > MAX_BYTES:
            reason = f"larger than {MAX_BYTES >> 20} MiB"
        name = "/".join(p for p in parts if p not in ("", "."))
        if name in seen:
            reason = reason or "a second file of this name"
        seen.add(name)
        if reason:
            refused.append(Refused(shown(name), reason))
        elif not hidden(name):
            members.append(Member(shown(name), read))
    return members, refused


def _zip(packed: zipfile.ZipFile) -> Iterator[tuple[str, int, str | None, _Read]]:
    for info in packed.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if not info.is_dir():
            yield info.filename, info.file_size, ("encrypted" if info.flag_bits & 1 else "a link; links are not followed" if kind == stat.S_IFLNK
                                                  else "not a plain file" if kind not in (0, stat.S_IFREG) else None), partial(_unzip, packed, info)


def _unzip(packed: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """The member; never more than its header says. Raises: BadInput: damaged."""
    try:
        with packed.open(info) as file:
            data = file.read(MAX_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise BadInput(f"damaged in the archive: {error}") from error
    return data


def _tar(tape: tarfile.TarFile) -> Iterator[tuple[str, int, str | None, _Read]]:
    for info in tape:
        if not info.isdir():
            reason = ("a link; links are not followed" if info.issym() or info.islnk() else "not a plain file" if not info.isreg() else
                      "a sparse file" if info.issparse() else None)
            yield info.name, info.size, reason, partial(_untar, tape, info)


def _untar(tape: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    try:
        file = tape.extractfile(info)
        assert file is not None
        return file.read(MAX_BYTES + 1)
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise BadInput(f"damaged in the archive: {error}") from error
