"""Recipes, builds and exports from the shell."""

import json
from pathlib import Path

import pytest
from helpers import fer_line, fercore, fercore_process, refused, some_faces, write_fer

from fercore import versions
from fercore.domain import Workspace
from fercore.store import Store


@pytest.fixture
def ws(tmp_path: Path, small_file: Path) -> Path:
    done = fercore("import", "fer2013", small_file, "--licence", "free for tests", workspace=tmp_path / "ws")
    assert done.returncode == 0, done
    return tmp_path / "ws"


def test_recipes_are_listed_printed_and_shown_beside_the_published_counts(ws: Path, tmp_path: Path) -> None:
    listed = json.loads(fercore("recipes", "--json", workspace=ws).stdout)
    assert [r["recipe"] for r in listed] == ["conflicts_outliers", "engaged4", "fer7", "focus4", "raf_fed_oahega"]
    one = fercore("recipes", "conflicts_outliers", workspace=ws)
    path = tmp_path / "mine.yaml"
    path.write_text(one.stdout)
    assert versions.read_recipe(path) == versions.shipped.recipe("conflicts_outliers") and "35699" in one.stderr
    both = json.loads(fercore("recipes", "conflicts_outliers", "--json", workspace=ws).stdout)
    assert {"step": "identical faces with different labels", "before": 70, "after": 66, "published": 35699, "note": "160 rows in 57 groups"} in both["funnel"]
    elsewhere = fercore("recipes", "raf_fed_oahega", workspace=ws)
    assert elsewhere.stdout.startswith("title: RAF-DB") and "this workspace: Unknown source" in elsewhere.stderr
    assert fercore("recipes", "fer7", workspace=tmp_path / "none").stdout.startswith("title:") and not (tmp_path / "none").exists()
    refused(fercore("recipes", "best", workspace=ws), "Choose one of conflicts_outliers")


def test_a_build_takes_a_name_or_a_file_and_can_say_first_what_it_would_do(ws: Path, tmp_path: Path) -> None:
    shown = json.loads(fercore("version", "build", "fer7", "--preview", "--json", workspace=ws).stdout)
    assert shown["funnel"][-1] == {"step": "included", "before": 65, "after": 65} and json.loads(fercore("version", "list", "--json", workspace=ws).stdout) == []
    path = tmp_path / "few.yaml"
    path.write_text("targets: [{classes: [sad], at_least: 30}]")
    done = fercore("version", "build", path, "--json", workspace=ws)
    card = json.loads(done.stdout)
    assert card["version_id"] == "few-v1" and card["missing"][0]["target"] == "sad" and "of 30 sad" in done.stderr
    verified = json.loads(fercore("version", "verify", "few-v1", "--recompute", "--json", workspace=ws).stdout)
    assert verified == {"version": "few-v1", "verified": True, "acts": "database and copy", "problems": [], "changed_since": []}
    path.write_text("sources: []\nexclude:\n- flga: dark")
    refused(fercore("version", "build", path, workspace=ws), f"{path}, line 3, exclude.1.flga: unknown key")
    refused(fercore("version", "build", tmp_path / "no.yaml", workspace=ws), "No such file")
    refused(fercore("version", "build", path, workspace=tmp_path / "none"), "line 3")
    assert not (tmp_path / "none").exists()


def test_an_export_goes_out_while_the_dashboard_is_open_and_comes_back(ws: Path, tmp_path: Path) -> None:
    card = json.loads(fercore("version", "build", "fer7", "--json", workspace=ws).stdout)
    out = tmp_path / "out"
    done = json.loads(fercore("version", "export", "fer7-v1", "--to", out, "--json", workspace=ws).stdout)
    assert done["format"] == "parquet" and done["faces"] == 65 and done["licences_accepted"] == {}
    refused(fercore("version", "export", "fer7-v1", "--to", out, workspace=ws), "The export is there already")
    assert fercore("version", "export", "fer7-v1", "--to", out, "--force", workspace=ws).returncode == 0
    with Store(Workspace(ws), holder="the dashboard"):
        refused(fercore_process("version", "export", "fer7-v1", "--to", tmp_path / "x", workspace=ws), "The workspace is needed")
        loose = fercore_process("version", "export", "fer7-v1", "--to", tmp_path / "n", "--format", "npz", workspace=ws)
        assert loose.returncode == 0 and "held by" in loose.stderr and "not recorded" in loose.stderr
    refused(fercore("import", "export", tmp_path / "n", workspace=tmp_path / "ws2"), "No such file")
    assert not (tmp_path / "ws2").exists()
    taken = json.loads(fercore("import", "export", out, "--json", workspace=tmp_path / "ws2").stdout)
    assert taken["samples"] == 70 and taken["manifest_sha256"] == card["manifest_sha256"]
    again = json.loads(fercore("version", "build", out / "recipe.json", "--name", "fer7", "--json", workspace=tmp_path / "ws2").stdout)
    assert again["manifest_sha256"] == card["manifest_sha256"]


def test_a_licence_blocks_from_the_shell_too(tmp_path: Path) -> None:
    path = write_fer(tmp_path / "f.csv", [fer_line(i % 7, f, "PublicTest" if i % 5 == 0 else "Training") for i, f in enumerate(some_faces(70))])
    ws = tmp_path / "ws"
    assert fercore("import", "fer2013", path, workspace=ws).returncode == 0 and fercore("version", "build", workspace=ws).returncode == 0
    refused(fercore("version", "export", "fer7-v1", "--to", tmp_path / "o", "--format", "folder", workspace=ws), "fer2013: it states no licence")
    with Store(Workspace(ws)):
        refused(fercore("version", "export", "fer7-v1", "--to", tmp_path / "o", "--format", "folder", workspace=ws), "fer2013: it states no licence")
    assert not (tmp_path / "o").exists()
    done = fercore("version", "export", "fer7-v1", "--to", tmp_path / "o", "--format", "folder", "--accept-licence", workspace=ws)
    assert done.returncode == 0 and len(list((tmp_path / "o").rglob("*.png"))) == 70
