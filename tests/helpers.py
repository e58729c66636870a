"""People, small FER-2013 files and the real ones, and the command line, for every suite."""

import gzip
import io
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fercore.domain import Person, Pixels, Role

LEAD = Person("dana", "Dana", Role.DATA_LEAD)
SECOND_LEAD = Person("lee", "Lee", Role.DATA_LEAD)
REVIEWER = Person("rosa", "Rosa", Role.REVIEWER)
ANNOTATOR = Person("ann", "Ann", Role.ANNOTATOR)
SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"

needs_real_data = pytest.mark.skipif(not (SHARED_DATA / "fer2013.csv.gz").is_file(),
                                     reason="the real FER-2013 file is not beside this checkout (../shared/data)")


def some_faces(n: int, seed: int = 0) -> Pixels:
    """n different noise images, uint8 [n, 48, 48]."""
    return np.random.default_rng(seed).integers(40, 200, (n, 48, 48), dtype=np.uint8)


def fer_line(emotion: object, pixels: Pixels, usage: str = "Training") -> str:
    return f"{emotion},{' '.join(map(str, pixels.ravel().tolist()))},{usage}"


def write_fer(path: Path, lines: Sequence[str], header: str = "emotion,pixels,Usage") -> Path:
    data = "\n".join([header, *lines, ""]).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_votes(path: Path, votes: Sequence[Sequence[int]], usages: Sequence[str]) -> Path:
    header = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    lines = [f"{u},fer{i:07}.png,{','.join(map(str, v))}" for i, (v, u) in enumerate(zip(votes, usages, strict=True))]
    path.write_text("\n".join([header, *lines, ""]))
    return path


FERCORE = str(Path(sys.executable).parent / "fercore")


def fercore_process(*args: object, workspace: Path, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run([FERCORE, *map(str, args)], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "FERCORE_WORKSPACE": str(workspace)}, **kwargs)


def fercore(*args: object, workspace: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    """The command with `given` on its standard input, in this process: starting Python takes a second, and there are hundreds of them."""
    from fercore import cli  # half a second, and killed processes import this file too

    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["fercore", *map(str, args)])
        patch.setattr(sys, "stdin", io.StringIO(given))
        patch.setenv("FERCORE_WORKSPACE", str(workspace))
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
    return subprocess.CompletedProcess(sys.argv, code, out.getvalue(), err.getvalue())


def refused(done: subprocess.CompletedProcess[str], part: str) -> None:
    """One clear line on stderr, nothing on stdout, exit code 2."""
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr, done
    lines = [line for line in done.stderr.splitlines() if line.startswith("fercore: ")]
    assert len(lines) == 1 and part in lines[0], done.stderr
