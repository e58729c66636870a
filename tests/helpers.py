"""People, small FER-2013 files and the real ones, for every suite."""

import gzip
from collections.abc import Sequence
from pathlib import Path

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
