"""Importing pictures and labels from the shell."""

import json
from pathlib import Path

import numpy as np
from helpers import fer_line, fercore, refused, some_faces, write_fer, write_votes
from PIL import Image


def pictures(root: Path) -> Path:
    for name, face in zip(("train/happy/a.png", "test/odd/b.png", "test/sad/c.png"), some_faces(3), strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(face).save(root / name)
    (root / "test/sad/empty.png").write_bytes(b"")
    return root


def test_a_folder_from_the_shell_dry_and_for_good(tmp_path: Path) -> None:
    ws, root = tmp_path / "ws", pictures(tmp_path / "set")
    dry = fercore("import", "folder", root, "--name", "Mine", "--dry-run", workspace=ws)
    assert dry.returncode == 0 and "3 added, 1 without a class, 1 rejected; nothing was written" in dry.stdout and not ws.exists()
    assert "test/sad/empty.png: the file is empty" in dry.stderr and ["odd", "-", "1"] in [line.split() for line in dry.stdout.splitlines()]
    done = fercore("import", "folder", root, "--name", "Mine", "--licence", "CC0", "--authors", "A", "--fit", "crop", "--json", workspace=ws)
    report = json.loads(done.stdout)
    assert (report["source"], report["added"], report["label_map"], report["dry_run"]) == ("mine", 3, "generic@1", False)
    assert {"label": "odd", "class": None, "rows": 1} in report["labels"]
    assert report["rejected"] == [{"place": 2, "line": None, "file": "test/sad/empty.png", "reason": "the file is empty"}]
    assert "Nothing changed" in fercore("import", "folder", root, "--name", "Mine", workspace=ws).stdout
    row, = json.loads(fercore("sql", "SELECT name, licence, authors, kind, imports FROM sources", "--json", workspace=ws).stdout)
    assert row == {"name": "Mine", "licence": "CC0", "authors": "A", "kind": "folder", "imports": 1}
    (root / "train/happy/a.png").unlink()
    assert json.loads(fercore("import", "folder", root, "--name", "Mine", "--dry-run", "--json", workspace=ws).stdout)["gone"] == 1


def test_a_listing_and_labels_from_the_shell(tmp_path: Path) -> None:
    ws, root = tmp_path / "ws", pictures(tmp_path / "set")
    listing, mapping, labels = tmp_path / "l.txt", tmp_path / "map.yaml", tmp_path / "team.csv"
    listing.write_text("a.png 5\nb.png x\nc.png y\n")
    mapping.write_text("5: sad\nx: fear\n")
    first = fercore("import", "listing", listing, "--images", root, "--name", "L", "--label-map", mapping, "--json", workspace=ws)
    assert json.loads(first.stdout)["labels"] == [{"label": "5", "class": "sad", "rows": 1}, {"label": "x", "class": "fear", "rows": 1},
                                                  {"label": "y", "class": None, "rows": 1}]
    labels.write_text("image,label\na.png,happy\nq.png,sad\n")
    done = fercore("label", labels, workspace=ws)
    assert "1 imported votes of team, 1 rejected" in done.stdout and "line 3: q.png: no such picture here" in done.stderr
    fercore("people", "--add", "Ann", workspace=ws)
    assert json.loads(fercore("label", labels, "--by", "ann", "--json", workspace=ws).stdout)["events"] == 1
    row, = json.loads(fercore("sql", "SELECT person_id, value FROM label_events", "--json", workspace=ws).stdout)
    assert row == {"person_id": "ann", "value": "happy"}


def test_every_import_has_a_dry_run(tmp_path: Path) -> None:
    ws, usages = tmp_path / "ws", ["Training", "Training"]
    file = write_fer(tmp_path / "f.csv", [fer_line(i, f) for i, f in zip((3, 3), some_faces(2), strict=True)])
    votes = write_votes(tmp_path / "v.csv", [[10] + [0] * 9] * 2, usages)
    dry = fercore("import", "fer2013", file, "--ferplus", votes, "--dry-run", workspace=ws)
    assert dry.returncode == 0 and not ws.exists() and ["3", "happy", "2"] in [line.split() for line in dry.stdout.splitlines()]
    assert "2 added, 0 rejected, 2 imported votes; nothing was written" in dry.stdout
    fercore("import", "fer2013", file, workspace=ws)
    (tmp_path / "l.csv").write_text("csv_row,label\n0,Joy\n1,gloomy\n")
    label = ("label", tmp_path / "l.csv", "--source", "fer2013")
    for command, told in ((("import", "tags", votes), "2 imported votes"), (label, "1 imported votes of l, 1 rejected")):
        dry = fercore(*command, "--dry-run", workspace=ws)
        assert dry.returncode == 0 and f"{told}; nothing was written" in dry.stdout
        assert json.loads(fercore("sql", "SELECT count(*) AS n FROM votes", "--json", workspace=ws).stdout) == [{"n": 0}]
    assert [line.split() for line in fercore(*label, "--dry-run", workspace=ws).stdout.splitlines()][1:3] == [["Joy", "happy", "1"], ["gloomy", "-", "1"]]
    assert json.loads(fercore("import", "tags", votes, "--json", workspace=ws).stdout)["votes_added"] == 2


def test_boxes_from_the_shell(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    Image.fromarray(np.arange(6000, dtype=np.uint16).astype(np.uint8).reshape(60, 100)).save(tmp_path / "set/a.png")
    (tmp_path / "label.lst").write_text("a.png 0 5 10 58 53 9.5 6\n")
    done = fercore("import", "listing", tmp_path / "label.lst", "--images", tmp_path / "set", "--name", "e", "--label-map", "expw",
                   "--box-columns", "4,3,5,6", "--box-corners", workspace=tmp_path / "ws")
    assert done.returncode == 0, done.stderr
    row, = json.loads(fercore("sql", "SELECT height, width, given_label FROM images JOIN samples USING (image_id)", "--json", workspace=tmp_path / "ws").stdout)
    assert row == {"height": 48, "width": 48, "given_label": "neutral"}


def test_what_cannot_be_imported_is_one_line(tmp_path: Path) -> None:
    ws, root = tmp_path / "ws", pictures(tmp_path / "set")
    refused(fercore("import", "folder", tmp_path / "none", "--name", "x", workspace=ws), "No such file")
    assert not ws.exists()
    for args, part in (((root, "--name", "x", "--label-map", "nothing"), "Unknown label map"), ((root, "--name", "x", "--resize", "magic"), "Unknown method"),
                       ((root, "--name", "!"), "Name needed"), ((root / "train/happy/a.png", "--name", "x"), "Not a folder, ZIP or TAR")):
        refused(fercore("import", "folder", *args, workspace=ws), part)
    refused(fercore("import", "listing", root / "test/sad/empty.png", "--images", root, "--name", "x", workspace=ws), "The file is empty")
    refused(fercore("import", "listing", root, "--images", root, "--name", "x", "--box-columns", "a,b", workspace=ws), "four columns")
    refused(fercore("label", root / "test/sad/empty.png", workspace=ws), "The file is empty")


def test_a_missing_listing_makes_no_workspace_and_doctor_sweeps_what_was_killed(tmp_path: Path) -> None:
    ws, root = tmp_path / "ws", pictures(tmp_path / "set")
    assert "No such file" in fercore("import", "listing", tmp_path / "no.csv", "--images", root, "--name", "x", workspace=ws).stderr and not ws.exists()
    fercore("import", "folder", root, "--name", "x", workspace=ws)
    (ws / "originals/1.half").write_bytes(b"x")
    done = fercore("doctor", workspace=ws)
    assert done.returncode == 0 and "3 files: verified; 1 left by imports that were killed, now deleted" in done.stdout and not (ws / "originals/1.half").exists()
