"""Fixtures that every suite shares: a real store in a temporary folder, a small file."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from helpers import ANNOTATOR, LEAD, REVIEWER, SECOND_LEAD, fer_line, some_faces, write_fer
from hypothesis import HealthCheck, settings

from fercore import demo, jobs
from fercore.domain import Workspace
from fercore.store import Store
from fercore.store import people as people_table
from fercore.versions.files import card
from tests.core.version_files import SHA

# How fast examples are drawn says how busy the machine is, nothing about the product.
settings.register_profile("any_machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any_machine")


@pytest.fixture(scope="session", autouse=True)
def made_by_hand() -> Iterator[None]:
    """Runs start on versions of `version_files` too, which have no recipe and so never verify."""
    real = jobs.verified
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "verified", lambda place, v: () if card(place, v)["manifest_sha256"] == SHA else real(place, v))
        yield


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(Workspace(tmp_path / "ws")) as opened:
        for person in (LEAD, SECOND_LEAD, REVIEWER, ANNOTATOR):
            people_table.add(opened, person)
        yield opened


@pytest.fixture
def small_file(tmp_path: Path) -> Path:
    """70 rows: 10 of each class (56 Training, 14 PublicTest); rows 0 and 7 identical, rows 1 and 65 identical and across splits,
    rows 2 and 10 identical with different labels."""
    faces = some_faces(70)
    faces[7], faces[65], faces[10] = faces[0], faces[1], faces[2]
    return write_fer(tmp_path / "small.csv", [fer_line(i % 7, faces[i], "Training" if i < 56 else "PublicTest") for i in range(70)])


@pytest.fixture(scope="session")
def demo_template(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A small finished demo workspace, built by the first test process that asks; never opened by a test, which takes a copy."""
    base = tmp_path_factory.getbasetemp()
    root = (base if worker_id == "master" else base.parent) / "demo-template"  # test processes have folders of their own in one
    with FileLock(f"{root}.lock"):
        if not (root / "built").exists():
            shutil.rmtree(root, ignore_errors=True)
            demo.build(Workspace(root / "workspace"), faces=420, epochs=2)
            (root / "built").touch()
    return root / "workspace"


@pytest.fixture
def demo_workspace(demo_template: Path, tmp_path: Path) -> Path:
    """A copy of the demo workspace of its own."""
    root = tmp_path / "demo"
    shutil.copytree(demo_template, root)
    return root
