"""The bias report as one HTML file: static, printable, the same bytes for the same run; and who signed it."""

import hashlib
import io
import re
import shlex
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from html import unescape
from importlib.metadata import version
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from uuid_utils import uuid7

from fercore.bias.examine import Examination, unseen
from fercore.bias.present import class_name, gap_text, group_names, numbers, p_text, points, texts
from fercore.bias.report import AVERAGE, OVERALL, BiasRow
from fercore.bias.slices import SAVED, said, slices
from fercore.domain import Permission, Person, Workspace
from fercore.errors import BadInput, Conflict, FerError, NotFound
from fercore.schemes import AGE_BANDS, GENDERS
from fercore.store import Store, reports
from fercore.versions import files

LIMITS = (
    "Expression, age and gender are as annotators perceived them in a picture. They are not what a person felt, how old a person was, or who a "
    "person is, and annotators differ.",
    "Emotion inference at the workplace and in education is restricted or prohibited in some jurisdictions. This report is no legal assessment, and "
    "a small gap is no permission.",
    "Groups that are not tagged, or for which annotators could not tell, are not tested. No race or ethnicity is recorded; nothing is said of it.",
    "An interval that reaches 0 does not show that there is no difference: it may be too wide to see one. See how many faces are missing.",
    "The figures hold for faces like those of this version. Other cameras, ages and cultures need their own test.",
)
METHOD = (
    "Accuracy of a group: Wilson interval on effective rows; duplicate groups count by their measured design effect (Kish).",
    "Macro precision, recall and F1: means over the classes that have faces in the group; limits recovered from the mid-P limits of the classes "
    "(MOVER, Zou & Donner 2008), with their correlation in 1,000 bootstrap draws. Averages of accuracies and rates: percentiles of those draws, "
    "of duplicate groups, joint over groups.",
    "Largest differences (parity, odds): percentiles of the draws, starting lower by as much as the draws are higher than the value, and at 0 where "
    "groups with the rates of all faces together would show as much.",
    "Expected calibration error (ECE): 15 equally wide bins of confidence. It is too high by chance in small groups.",
    "Difference of two groups: Newcombe's interval. The largest gap of an attribute takes the Bonferroni level of all its pairs, as it was picked "
    "for its size.",
    "No difference between groups: 9,999 deals of whole duplicate groups; statistic: variance of accuracy between groups. Holm and "
    "Benjamini-Hochberg over the tests of a table.",
    "Before and after: McNemar's mid-p by duplicate group and Newcombe's paired interval, on the same faces.",
    "Cramér's V corrected for bias (Bergsma); power by the normal test of arcsines (Cohen). Seeds are fixed.",
)
_COLOURS = {c.class_id: c.colour for c in (*AGE_BANDS.classes, *GENDERS.classes)}
_LEFT = ("by", "group", "groups", "class")  # columns of words


@dataclass(frozen=True)
class Face:
    """One mistake in a worst group, for who asks to see faces."""

    group: str
    label: str
    predicted: str
    confidence: float
    png: str  # data URI


def worst_faces(workspace: Workspace, found: Examination, most: int) -> list[Face]:
    """Up to `most` faces of the worst group of each attribute that the model got wrong, the most confident first."""
    frame = unseen(workspace, found.scope.run_id, found.by, found.scope.tags_of)
    rows = files.manifest(workspace, found.scope.version_id)
    place = {s: i for i, s in enumerate(rows.loc[rows["exclusion"].isna(), "sample_id"])}
    pixels, out = files.pixels_of(workspace, found.scope.version_id), []
    masks = {(s.attribute, s.value): s for s in slices(frame, found.by)}
    for gap in found.table.gaps:
        if gap.lowest:
            worst = masks[gap.attribute, gap.lowest]
            wrong = frame[worst.mask & ~frame["correct"].to_numpy(dtype=bool)].sort_values(["confidence", "sample_id"], ascending=[False, True])
            for row in wrong.head(most).itertuples():
                png = cv2.imencode(".png", np.asarray(pixels[place[row.sample_id]]))[1].tobytes()
                out.append(Face(worst.name, class_name(str(row.label)), class_name(str(row.predicted)), float(str(row.confidence)),
                                "data:image/png;base64," + b64encode(png).decode()))
    return out


def html(found: Examination, faces: Sequence[Face] = ()) -> bytes:
    """The report in UTF-8. It shows no other faces than `faces`."""
    from jinja2 import Environment, select_autoescape
    from markupsafe import Markup

    shown = texts(found)
    template = Environment(autoescape=select_autoescape(default=True, default_for_string=True), trim_blocks=True).from_string(
        (resources("fercore.bias") / "templates" / "report.html").read_text(encoding="utf-8"))
    scope = found.scope
    drawn = Markup(_picture(found))  # noqa: S704 - drawn here; matplotlib escapes its texts
    plots = {table.title: drawn for name, table in shown.items() if name == "table"}
    hashes = {"version (manifest SHA-256)": scope.manifest_sha256, "predictions (SHA-256)": scope.predictions_sha256,
              "code that trained the run": scope.code_version, "fercore that made this report": version("fercore")}
    if found.against:
        hashes |= {"earlier run": found.against.run_id, "its version (manifest SHA-256)": found.against.manifest_sha256,
                   "its predictions (SHA-256)": found.against.predictions_sha256, "code that trained it": found.against.code_version}
    hashes |= {f"saved filter {name} (SHA-256 of its members)": sha for name, sha in scope.saved.items()}
    return template.render(
        faces=faces, scope=scope, tables=list(shown.values()), plots=plots, short=in_short(found), basis=basis(found), warnings=warnings(found),
        method=METHOD, limits=LIMITS, hashes=hashes, command=command(found, len(faces) > 0), strong=(AVERAGE, OVERALL, "Largest", "All"),
        left=_LEFT).encode()


def in_short(found: Examination) -> list[str]:
    """What a reader takes away: worst group, largest gap with its interval and test, of each attribute; or how to get there without a tag."""
    if found.untagged:
        return [f"No predicted face has a tag of {', '.join(map(said, found.bare))}: none of the {found.scope.tested:,} faces that "
                f"{found.scope.run_id} was tested on, so groups cannot be compared. Have faces tagged from Missing tags on the Bias page, "
                "or import tags with: fercore import tags FILE.csv. Then freeze the version again and choose it as the one whose "
                "tags are used (--tags V); the run need not be trained anew."]
    names = group_names(found.table)
    out, test = [], {t.attribute: t for t in found.tests}
    for gap in found.table.gaps:
        if gap.attribute in found.bare:
            out.append(f"{said(gap.attribute).capitalize()}: no tested face has this tag. How to have faces tagged: Missing tags on the Bias page.")
            continue
        row = next((r for r in found.table.rows if (r.attribute, r.value) == (gap.attribute, gap.lowest)), None)
        if row is None or not gap.lowest:
            out.append(f"{said(gap.attribute).capitalize()}: {gap.difference.note}.")
            continue
        p = test[gap.attribute].p_holm
        out.append(f"{said(gap.attribute).capitalize()}: the worst group is {row.group} with {row.accuracy.percent()}; the largest gap is "
                   f"{gap_text(gap, names)}; a difference is {'' if p is not None and p < 0.05 else 'not '}shown (p {_with_sign(p)}, Holm).")
    for moved in found.change.gaps if found.change else ():
        if moved.change.value is not None:
            out.append(f"{said(moved.attribute).capitalize()}: largest gap {gap_text(moved.before, names)} before, {gap_text(moved.after, names)} "
                       f"after; the pair of before moved by {points(moved.change)}.")
    return out


def _with_sign(p: float | None) -> str:
    return p_text(p) if p is not None and p < 0.001 else f"= {p_text(p)}"


def basis(found: Examination) -> list[str]:
    """Run, faces, tags, and which faces were left out and why."""
    s = found.scope
    how = (f"out-of-fold predictions of {s.folds} grouped folds; test was not read" if s.folds
           else "the part that was split off after balancing" if s.protocol == "leaky" else "test split")
    out = [f"{s.model}, seed {s.seed}, protocol {s.protocol.replace('_', ' ')}: {how}.",
           f"{s.tested:,} faces are tested; {s.tagged:,} of them have a perceived age or gender.",
           f"{s.trained_on:,} predicted faces are left out because the model that predicts them was trained on them or on their duplicates."]
    if s.tags_left_out:
        out.append(f"{sum(s.tags_left_out.values()):,} tagged faces of the version are in no test: "
                   + ", ".join(f"{n:,} {why}" for why, n in sorted(s.tags_left_out.items())) + ".")
    if s.tags_of != s.version_id:
        out.append(f"Tags are those of version {s.tags_of}: {s.retagged:,} faces have other tags than in {s.version_id}; {s.relabelled:,} faces are "
                   "left out because their label differs.")
    return out


def warnings(found: Examination) -> list[str]:
    out = ["Perceived attributes of pictures, for reviewers of data sets: not for judging people."]
    if found.scope.synthetic:
        out.append("Synthetic demo faces: no person is shown, and nothing follows for people.")
    for s, name in ((found.scope, "this run"), (found.against, "the earlier run")):
        if s and s.exploratory:
            out.append(f"Exploratory: nobody approved the version that {name} was trained on.")
        if s and s.protocol == "leaky":
            out.append(f"Leaky, for comparison only: {name} balanced faces before it split them. Only faces new to its model are tested.")
    return out


def command(found: Examination, faces: bool = False) -> str:
    """The command that gives the report again."""
    declared = next((c for c in found.contrasts if c.declared), None)
    parts = ["fercore", "bias", found.scope.run_id, "--by", ",".join(found.by), "--minimum", str(found.minimum)]
    parts += ["--against", found.against.run_id] if found.against else []
    parts += ["--tags", found.scope.tags_of] if found.scope.tags_of != found.scope.version_id else []
    parts += ["--contrast", f"{declared.attribute}:{declared.first},{declared.second}"] if declared else []
    return shlex.join([*parts, *["--faces"] * faces, "--html", "report.html"])


def sha256(report: bytes) -> str:
    return hashlib.sha256(report).hexdigest()


def sign(store: Store, actor: Person, found: Examination, report: bytes, note: str) -> str:
    """Records that the actor read and accepts this report, and keeps its bytes; returns their SHA-256.

    Raises:
        NotAllowed: the actor may not approve. BadInput: no note, or one that is too long. Conflict: signed by the actor already.
    """
    actor.require(Permission.APPROVE)
    text = " ".join("".join(c for c in note if c.isprintable() or c.isspace()).split())
    if not 0 < len(text) <= 1000:
        raise BadInput("A note is needed", f"It has {len(text):,} characters", "Say in 1 to 1,000 characters what you checked")
    sha = sha256(report)
    there = reports.signatures(store, found.scope.run_id)
    if actor.person_id in set(there.loc[there["report_sha256"] == sha, "person_id"]):
        raise Conflict("You have signed it already", f"Report {sha[:12]} of {found.scope.run_id}", "A signature stays; nothing is left to do")
    write(_kept_at(store.workspace, sha), report, force=True)
    reports.sign(store, actor, {"event_id": str(uuid7()), "report_sha256": sha, "run_id": found.scope.run_id, "version_id": found.scope.version_id,
                                "manifest_sha256": found.scope.manifest_sha256, "note": text})
    return sha


def signatures(store: Store, run_id: str, sha: str) -> pd.DataFrame:
    """Who signed a report of this run, first to last: recorded_at, person, role, authentication, note, person_id, report_sha256, this_report (whether
    its SHA-256 is `sha`), command (that gave it), kept ("yes", or why what was signed cannot be read)."""
    found = reports.signatures(store, run_id)
    read = {each: _told(store.workspace, each) for each in found["report_sha256"].unique()}
    return found.assign(this_report=found["report_sha256"] == sha, command=[read[each][0] for each in found["report_sha256"]],
                        kept=[read[each][1] for each in found["report_sha256"]])


def signed(workspace: Workspace, sha: str) -> bytes:
    """The report that was signed, as it was. Raises: NotFound: it was not kept. Conflict: the file holds something else by now."""
    path = _kept_at(workspace, sha)
    try:
        report = path.read_bytes()
    except OSError as error:
        raise NotFound("The signed report was not kept", f"{path}: {error.strerror}", "Restore it from a backup, or make it again") from error
    if sha256(report) != sha:
        raise Conflict("The signed report was changed", f"{path} is not what was signed", "Restore it from a backup")
    return report


def _kept_at(workspace: Workspace, sha: str) -> Path:
    return workspace.reports / f"{sha}.html"


def _told(workspace: Workspace, sha: str) -> tuple[str, str]:
    """(command that the signed report names, "yes") or what keeps it from being read."""
    try:
        found = re.search(r'<code id="command">(.*?)</code>', signed(workspace, sha).decode())
    except FerError as error:
        return "not known", error.title
    return unescape(found[1]) if found else "not known", "yes"


def write(path: Path, report: bytes, *, force: bool = False) -> None:
    """Raises: Conflict: the file is there, and not `force`. BadInput: it cannot be written."""
    if path.exists() and not force:
        raise Conflict("The file is there already", str(path), "Name another one, or replace it with --force")
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(report)
        temporary.replace(path)
    except OSError as error:
        raise BadInput("The file cannot be written", f"{path}: {error.strerror}", "Name a file in a folder that you may write to") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_tables(folder: Path, found: Examination, left_out: pd.DataFrame, *, force: bool = False) -> list[Path]:
    """One CSV file a table, and one of the tagged faces that are in no test; shares are 0-1. Raises: Conflict: a file is there, and not `force`."""
    tables = {folder / f"{found.scope.run_id}-{name}.csv": table for name, table in (numbers(found) | {"left_out": left_out}).items()}
    if (there := [p for p in tables if p.exists()]) and not force:
        raise Conflict("The file is there already", str(there[0]), "Name another folder, or replace it with --force")
    for path, table in tables.items():
        write(path, table.to_csv(index=False).encode(), force=force)
    return list(tables)


def _picture(found: Examination) -> str:
    """Accuracy of the groups with intervals as SVG, without date, script or outside reference."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = [r for r in found.table.rows if r.kind == "group" and r.accuracy.value is not None]
    if not rows:
        return ""
    everything: Any = next((r for r in found.table.rows if r.kind == "overall" and r.accuracy.value is not None), None)
    with rc_context({"svg.hashsalt": "fercore", "svg.fonttype": "none", "font.family": "sans-serif", "text.parse_math": False}):
        figure = Figure(figsize=(9, 0.8 + 0.3 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for y, row in enumerate(rows):
            value, low, high = (100 * float(x or 0) for x in (row.accuracy.value, row.accuracy.low, row.accuracy.high))
            axes.errorbar(value, y, xerr=[[value - low], [high - value]], fmt="o", color=_COLOURS.get(row.value, "#0072B2"), ecolor="#57606a",
                          capsize=3)
        axes.set_yticks(range(len(rows)), [_named(row) for row in rows])
        axes.invert_yaxis()
        if everything:
            axes.axvline(100 * everything.accuracy.value, color="#57606a", linestyle=":", linewidth=1)
        axes.set_xlabel("accuracy in percent, 95 % interval" + (", dotted: overall average" if everything else ""))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", color="#e5e8eb", linewidth=0.7)
        axes.set_axisbelow(True)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawn = buffer.getvalue()
    return re.sub(r"<metadata>.*?</metadata>", "", drawn[drawn.index("<svg"):], flags=re.DOTALL)


def _named(row: BiasRow) -> str:
    return f"{row.group}, n = {row.n:,}" + f" ({row.attribute.removeprefix(SAVED)})" * row.attribute.startswith(SAVED)
