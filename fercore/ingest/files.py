"""Opening what people give."""

import csv
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fercore.errors import BadInput


def readable(path: Path) -> Path:
    """The path, if it is a file. Raises: BadInput: it is missing or not a file."""
    if not path.exists():
        raise BadInput("No such file", str(path), "Check the path")
    if not path.is_file():
        raise BadInput("Not a file", f"{path} is a folder or a device", "Name the CSV itself")
    return path


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """What reading a broken file raises, as BadInput."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInput("The gzip file is cut short or damaged", f"{path}: {error}", "Fetch it again; nothing was imported") from error
    except csv.Error as error:
        raise BadInput("Not a CSV", f"{path}: {error}") from error
    except PermissionError as error:
        raise BadInput("The file cannot be read", f"{path}: permission denied") from error
