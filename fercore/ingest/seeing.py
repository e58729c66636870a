"""Reading and decoding one picture, also in helper processes: for small pictures that is mostly Python, which one process runs on one core."""

import hashlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

from fercore.domain import image_id
from fercore.errors import BadInput
from fercore.ingest import images
from fercore.ingest.images import Box, Method

Asked = tuple[Callable[[], bytes], Box | None]


class Seen(NamedTuple):
    """A picture that can be used: its bytes, what they show, and the standard image (2,304 bytes)."""

    sha256: str
    image: str
    height: int
    width: int
    mode: str
    kind: str
    gray: bytes
    data: bytes


def see(read: Callable[[], bytes], box: Box | None, method: Method) -> Seen | str:
    """What a picture shows, or the reason why it cannot be used."""
    try:
        data = read()
        pixels, mode, kind = images.decode(data, box)
    except BadInput as error:
        return error.title
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return Seen(hashlib.sha256(data).hexdigest(), image_id(pixels, mode), pixels.shape[0], pixels.shape[1], mode, kind,
                images.standard(pixels, method).tobytes(), data)


class Helper:
    """A process that sees pictures for this one. Not multiprocessing: that imports the main module anew, which in the dashboard is a page."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-P", "-c", "from fercore.ingest.seeing import serve; serve()"], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
        assert self._process.stdin and self._process.stdout
        self._to, self._from = self._process.stdin, self._process.stdout

    def see(self, asked: list[Asked], method: Method) -> list[Seen | str]:
        """`see` for each. Raises: EOFError, OSError, pickle.UnpicklingError: the process has ended."""
        pickle.dump((asked, method), self._to)
        self._to.flush()
        found: list[Seen | str] = pickle.load(self._from)  # noqa: S301  # what our own process wrote
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._from.close()
        try:
            self._to.close()
        except OSError:  # what was not yet sent
            pass


def serve() -> None:
    """What a helper does until its standard input ends."""
    while True:
        try:
            asked, method = pickle.load(sys.stdin.buffer)  # noqa: S301  # what the process that started this one wrote
        except EOFError:
            return
        pickle.dump([see(read, box, method) for read, box in asked], sys.stdout.buffer)
        sys.stdout.buffer.flush()
