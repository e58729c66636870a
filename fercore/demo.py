"""A complete synthetic workspace: faces, findings, labels, an approved version, finished runs. Nothing in it shows a person."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from fercore import audit, ingest, jobs, people, versions
from fercore.demo_faces import DemoSet, draw_demo
from fercore.domain import Role, Workspace
from fercore.errors import Conflict, TrainingError
from fercore.evaluation.record import record_finished
from fercore.schemes import FER7, FERPLUS_COLUMNS
from fercore.store import Store
from fercore.training.config import run_config

PEOPLE = (("Ada (demo)", Role.DATA_LEAD), ("Ben (demo)", Role.DATA_LEAD), ("Rosa (demo)", Role.REVIEWER), ("Kim (demo)", Role.ANNOTATOR))
ANSWERS = {"purpose": "To show the workbench at work.", "collection": "The faces are drawn by a program; nobody was asked or photographed.",
           "uses": "For trying the workbench out; for nothing else.", "contact": "Whoever runs this demo."}
SOURCE, TRUTH = "demo", "demo_truth.parquet"


def build(workspace: Workspace, *, faces: int = 2000, seed: int = 7, epochs: int = 20,
          say: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Makes the demo workspace; a finished one is left as it is, a half-made one is made anew.

    Args:
        epochs: at most this many in each run.

    Returns:
        The ids of the version and of the runs.

    Raises:
        Conflict: the workspace holds something else. TrainingError: a run did not finish.
    """
    done = workspace.root / "demo.json"
    if done.is_file():
        say("the demo is here already")
        return dict(json.loads(done.read_text(encoding="utf-8")))
    half_made = workspace.root / "demo.building"
    if half_made.is_file():  # an interrupted build of ours; nothing else in the folder is touched
        for child in (workspace.database, workspace.database.with_suffix(".duckdb.wal"), workspace.holder, workspace.root / TRUTH):
            child.unlink(missing_ok=True)
        for made_folder in (workspace.versions, workspace.runs):
            shutil.rmtree(made_folder, ignore_errors=True)
    elif workspace.root.is_dir() and any(workspace.root.iterdir()):
        raise Conflict("The folder is not empty", f"{workspace.root} holds other things than a demo", "Name an empty one with --workspace")
    workspace.root.mkdir(parents=True, exist_ok=True)
    half_made.touch()
    say(f"drawing {faces:,} synthetic faces")
    drawn = draw_demo(faces, seed)
    with Store(workspace) as store:
        ada, ben, rosa, _ = (people.add(store, name, role) for name, role in PEOPLE)
        with TemporaryDirectory() as folder:
            csv, votes, tags = as_files(drawn, Path(folder))
            ingest.import_fer2013(store, ada, csv, ferplus=votes, name=SOURCE, licence="synthetic, no person shown")
            ingest.import_tags(store, ada, tags, source=SOURCE)
        # The truth about the planted problems stands apart from the data set, as an answer sheet for audits.
        drawn.truth.to_parquet(workspace.root / TRUTH)
        say("auditing")
        audit.run(store, ada)
        version_id = versions.freeze(store, ada, versions.Recipe(), "demo")
        for field, text in ANSWERS.items():
            versions.answer(store, ada, version_id, field, text)
        versions.submit(store, ada, version_id)
        for person in (rosa, ben):
            for gate in versions.gates.check(store, ben, version_id):
                if gate.result == "fail":
                    versions.waive(store, ben, version_id, gate.gate_id, "Planted in the demo")
            versions.approve(store, person, version_id, "Demo version")
        runs = []
        for folds, most in ((3, 12), (0, 20)):  # the hold-out run comes last, so that it is what the pages show first
            say("training " + (f"{folds} folds" if folds else "a hold-out run"))
            config = run_config({"version_id": version_id, "model": "simple_cnn", "epochs": min(epochs, most), "folds": folds,
                                 "protocol": "k_fold" if folds else "hold_out"})
            run_id = jobs.start(workspace, config, ada)
            status = jobs.wait(workspace, run_id)
            if status.state != "finished":
                error = status.error
                raise TrainingError("The demo run did not finish", f"{run_id}: {error.detail if error else status.state}", "See its log.txt")
            runs.append(run_id)
        record_finished(store)
    made = {"workspace": str(workspace.root), "version": version_id, "runs": runs}
    done.write_text(json.dumps(made), encoding="utf-8")
    half_made.unlink()
    return made


def as_files(drawn: DemoSet, folder: Path) -> tuple[Path, Path, Path]:
    """The data set as the files a user would bring, so that the demo goes through the real importers."""
    rows = drawn.rows
    csv, votes, tags = folder / "demo.csv", folder / "demo_votes.csv", folder / "demo_tags.csv"
    with csv.open("w", encoding="utf-8") as file:
        file.write("emotion,pixels,Usage\n")
        for pixels, label, usage in zip(drawn.pixels, rows["label"], rows["usage"], strict=True):
            file.write(f"{FER7.ids.index(label)},{' '.join(map(str, pixels.ravel().tolist()))},{usage}\n")
    rows.rename(columns={"usage": "Usage"})[["Usage", *FERPLUS_COLUMNS]].to_csv(votes, index=False)
    tagged = rows[rows["age_band"].notna()]
    pd.DataFrame({"csv_row": tagged["row"], "age_band": tagged["age_band"], "gender": tagged["gender"]}).to_csv(tags, index=False)
    return csv, votes, tags
