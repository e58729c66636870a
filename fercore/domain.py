"""Terms of the product as frozen dataclasses, who may do what, and where things lie in a workspace."""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fercore.errors import BadInput, NotAllowed

SIDE = 48  # pixels; the standard image is SIDE x SIDE, 8-bit grayscale
LOCAL = "local, not authenticated"  # honesty rule 7: what sign-in stands behind an act in local mode
SPLITS = ("train", "val", "test")
Pixels = npt.NDArray[np.uint8]


def image_id(pixels: Pixels, mode: str = "L") -> str:
    """SHA-256 (hex) of height, width, mode and the raw bytes: equal ids mean equal decoded pixels.

    Args:
        pixels: uint8 [height, width] or [height, width, channels], 0-255.
        mode: Pillow mode name of the pixels.
    """
    height, width = pixels.shape[:2]
    return hashlib.sha256(f"{height},{width},{mode};".encode() + pixels.tobytes()).hexdigest()


def sample_id(source_id: str, row: int) -> str:
    """First 32 hex digits of the SHA-256 of source and row: the same on every machine."""
    return hashlib.sha256(f"{source_id}\n{row}".encode()).hexdigest()[:32]


def slug(name: str) -> str:
    """`name` as a safe file and URL part: lower-case letters, digits and dashes.

    Raises:
        BadInput: nothing is left of the name.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    out = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:60]
    if not any(c.isalnum() for c in name):
        raise BadInput("Name needed", f"{name[:20]!r} has no letter or digit", "Give a name such as 'fer2013'")
    # Letters outside ASCII are kept apart by a hash, so that two such names do not become one.
    return out if out and name.isascii() else f"{out}-{hashlib.sha256(name.encode()).hexdigest()[:6]}".strip("-")


class Role(StrEnum):
    ANNOTATOR = "annotator"
    REVIEWER = "reviewer"
    DATA_LEAD = "data_lead"


class Permission(StrEnum):
    LOOK = "look at faces"
    LABEL = "label and tag faces"
    READ_RESULTS = "read results"
    ADJUDICATE = "adjudicate disagreements"
    PLAN = "plan labeling campaigns"
    IMPORT = "import and audit data"
    FREEZE = "freeze versions"
    APPROVE = "approve versions or ask for changes"
    RELEASE = "release, deprecate or revoke versions"
    WAIVE = "waive gates or change the signing policy"
    TRAIN = "launch and cancel training"
    PEOPLE = "manage people"
    SCHEMES = "change label schemes"


_ANNOTATOR = frozenset({Permission.LOOK, Permission.LABEL})
_REVIEWER = _ANNOTATOR | {Permission.READ_RESULTS, Permission.ADJUDICATE, Permission.PLAN, Permission.APPROVE}
PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.ANNOTATOR: _ANNOTATOR,
    Role.REVIEWER: _REVIEWER,
    Role.DATA_LEAD: frozenset(Permission),
}


@dataclass(frozen=True)
class Person:
    """Somebody who acts. `authentication` says what stands behind the name and is recorded with every act; in local mode nothing does."""

    person_id: str
    name: str
    role: Role
    authentication: str = LOCAL

    def may(self, permission: Permission) -> bool:
        return permission in PERMISSIONS[self.role]

    def require(self, permission: Permission) -> None:
        """Raises: NotAllowed: the role lacks `permission`."""
        if not self.may(permission):
            able = [r.value.replace("_", " ") for r in Role if permission in PERMISSIONS[r]]
            raise NotAllowed(f"You may not {permission}", f"{self.name} is signed in as {self.role.value.replace('_', ' ')}",
                             f"Ask a {' or '.join(able)}")


@dataclass(frozen=True)
class Filter:
    """Which samples are meant. None or empty means "any"; all that is given must hold."""

    labels: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    age_bands: tuple[str, ...] = ()
    genders: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    relabelled: bool | None = None


class Order(StrEnum):
    SOURCE = "source order"
    DARKEST = "darkest first"
    BRIGHTEST = "brightest first"
    SHUFFLED = "shuffled"


@dataclass(frozen=True)
class Workspace:
    """Paths of one workspace. Opens nothing and creates nothing."""

    root: Path

    @property
    def database(self) -> Path:
        return self.root / "fercore.duckdb"

    @property
    def holder(self) -> Path:
        return self.root / "holder.json"

    @property
    def versions(self) -> Path:
        return self.root / "versions"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def slices(self) -> Path:
        return self.root / "slices"

    @property
    def reports(self) -> Path:
        """Signed bias reports, by the SHA-256 of their bytes."""
        return self.root / "reports"
