"""fercore: stdout is data (--json everywhere), stderr is narration and progress. Errors end with exit code 2."""

import errno
import getpass
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
import tomllib
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
import yaml
from tqdm import tqdm

from fercore import accounts, evaluation, ingest, jobs, people, schemes, versions
from fercore import audit as auditing
from fercore import bias as biasing
from fercore import demo as demonstration
from fercore.bias import document, mitigation, present
from fercore.bias.examine import left_out
from fercore.curation import quality
from fercore.curation import rules as decision_rules
from fercore.curation import schemes as scheme_book
from fercore.domain import Permission, Person, Role, Workspace
from fercore.errors import BadInput, Conflict, FerError, NotAllowed, WorkspaceError
from fercore.evaluation import gallery as looks
from fercore.evaluation import ledger as book
from fercore.evaluation import suspects as suspicion
from fercore.evaluation.record import record_finished
from fercore.ingest import images
from fercore.models import BACKBONES, MODELS, spec_of
from fercore.store import Store, labels, query_sealed
from fercore.store import findings as finding_table
from fercore.store import sources as source_table
from fercore.store import versions as version_table
from fercore.training.config import SETTINGS, run_config
from fercore.training.presets import PRESETS, settings_of
from fercore.training.queue import in_order
from fercore.training.rundir import Run, read_config, read_metrics

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
importing = typer.Typer(no_args_is_help=True, help="Bring faces, votes and tags in.")
versioning = typer.Typer(no_args_is_help=True, help="Freeze, read and decide on dataset versions.")
ruling = typer.Typer(no_args_is_help=True, help="Rules from votes to labels: list, apply, compare.")
running = typer.Typer(invoke_without_command=True, help="List, show, cancel and resume training runs.")
app.add_typer(importing, name="import")
app.add_typer(versioning, name="version")
app.add_typer(running, name="runs")
app.add_typer(ruling, name="rules")
labelling = typer.Typer(invoke_without_command=True, help="List and show label schemes; map one to another.")
app.add_typer(labelling, name="schemes")
members = typer.Typer(invoke_without_command=True, help="Who works here, in which role, and how they sign in.")
app.add_typer(members, name="people")

Where = Annotated[Path, typer.Option("--workspace", envvar="FERCORE_WORKSPACE", help="The workspace folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
As = Annotated[str | None, typer.Option("--as", help="Act as this person (id); default: the data lead of this machine.")]
DEFAULT = Path("data/workspace")


def main() -> None:
    """The entry point: every FerError becomes one line and exit code 2."""
    try:
        app()
    except FerError as error:
        print(f"fercore: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        known = {errno.ENOSPC: "The disk is full", errno.EROFS: "The file system is read-only", errno.EACCES: "Permission denied",
                 errno.ENAMETOOLONG: "A name is too long"}
        if error.errno not in known:
            raise
        print(f"fercore: {known[error.errno]}. {error.filename or ''}. Nothing was half-written; mend that and repeat.", file=sys.stderr)
        sys.exit(2)


def say(text: str) -> None:
    print(text, file=sys.stderr)


def show(data: Any, as_json: bool) -> None:
    """Data on stdout: a table for people, or JSON without NaN."""
    if as_json:
        print(json.dumps(evaluation.to_json(data), default=str))
    elif isinstance(data, pd.DataFrame):
        print(data.astype(object).where(data.notna(), "-").to_string(index=False) if len(data) else "(none)")
    elif isinstance(data, dict):
        for key, value in data.items():
            print(f"{key}: {value}")
    else:
        print(data)


@contextmanager
def opened(workspace: Path, *, create: bool = False) -> Iterator[Store]:
    with Store(Workspace(workspace), create=create) as store:
        versions.recover(store)
        yield store


def actor(store: Store, person_id: str | None) -> Person:
    return people.find(store, person_id) if person_id else people.local(store)


def local_lead() -> Person:
    """Who acts in commands that run without the database: in local mode, whoever is at this machine."""
    return Person("local-data-lead", "Local data lead", Role.DATA_LEAD)


@contextmanager
def byte_bar(title: str, unit: str = "B") -> Iterator[ingest.Progress]:
    with tqdm(desc=title, unit=unit, unit_scale=True, file=sys.stderr, leave=False) as bar:
        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


# ---- workspace ------------------------------------------------------------------------------------------------------------------


@app.command()
def demo(workspace: Where = Path("data/demo"), faces: Annotated[int, typer.Option(help="How many faces to draw.")] = 2000,
         seed: int = 7, serve_it: Annotated[bool, typer.Option("--serve", help="Open the dashboard afterwards.")] = False,
         as_json: AsJson = False) -> None:
    """Draw a synthetic data set with planted problems, approve a version of it, train on it and evaluate."""
    made = demonstration.build(Workspace(workspace), faces=faces, seed=seed, say=say)
    show(made, as_json)
    if serve_it:
        serve(workspace)


@app.command()
def serve(workspace: Where = DEFAULT, port: int = 8501, browser: Annotated[bool, typer.Option(help="Open the browser.")] = True,
          host: Annotated[str, typer.Option(help="Address to listen on; beyond this machine only when people sign in.")] = "127.0.0.1",
          secrets: Annotated[Path | None, typer.Option(help="Streamlit's secrets.toml with [auth], for sign-in through a provider.")] = None) -> None:
    """Open the dashboard, on 127.0.0.1 unless told."""
    found = importlib.util.find_spec("dashboard")  # found, not imported: the core runs without the dashboard
    if found is None or found.origin is None:
        raise WorkspaceError("The dashboard is not installed", "The package dashboard was not found", "Install the project with pip install -e .")
    here = Path(found.origin).parent
    files = [secrets] if secrets else [Path.home() / ".streamlit/secrets.toml", here.parent / ".streamlit/secrets.toml"]
    provider = any(_has_provider(path) for path in files if secrets or path.is_file())
    with Store(Workspace(workspace)) as store:  # says in one line who holds it, before a server starts
        source_table.sweep(store)
        how = accounts.mode(store, provider)
    if not accounts.is_loopback(host):
        if how == "local":
            raise NotAllowed("Nobody signs in here yet", f"On {host} others could reach the dashboard and act as anybody",
                             "Give a data lead a password first (fercore people password NAME), or serve on 127.0.0.1")
        say(f"fercore: {host} is reached without TLS; unless a proxy with TLS stands in front, passwords and faces travel in the clear.")
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    say(f"fercore: {address}, workspace {workspace}, sign-in: {how}. Stop with Ctrl-C.")
    environment = {**os.environ, "FERCORE_WORKSPACE": str(workspace.absolute())}
    command = [sys.executable, "-m", "streamlit", "run", str(here / "app.py"), "--server.port", str(port), "--server.address", host,
               "--server.headless", "true", "--browser.gatherUsageStats", "false", "--server.fileWatcherType", "none",
               *(["--secrets.files", str(secrets.absolute())] if secrets else [])]
    process = subprocess.Popen(command, cwd=here.parent, env=environment)
    try:
        if browser:
            webbrowser.open(address)
        sys.exit(process.wait())
    except KeyboardInterrupt:
        process.terminate()
        process.wait()


def _has_provider(path: Path) -> bool:
    """Whether a secrets file configures sign-in. Raises: BadInput: it cannot be read."""
    try:
        return bool(tomllib.loads(path.read_text(encoding="utf-8")).get("auth"))
    except (OSError, ValueError) as error:
        raise BadInput("The secrets cannot be read", f"{path}: {error}", "Give a TOML file with a section [auth]") from error


@app.command()
def doctor(workspace: Where = DEFAULT, rebuild: Annotated[bool, typer.Option(help="Fold the current votes anew from the label events.")] = False,
           as_json: AsJson = False) -> None:
    """Versions, device, and the health of the workspace: dataset versions, the hash chain over label events, current votes against events."""
    import torch

    facts: dict[str, Any] = {"python": platform.python_version(), **{p: importlib.metadata.version(p) for p in (
        "fercore", "streamlit", "duckdb", "torch", "numpy", "pandas", "scikit-learn")}}
    facts["device"] = (f"cuda: {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available()
                       else f"cpu, {os.cpu_count()} cores")
    facts["workspace"] = str(workspace)
    healthy = True
    try:
        with opened(workspace) as store:
            facts["schema"] = store.schema_number()
            facts["samples"] = store.value("SELECT count(*) FROM samples")
            facts["label events"] = store.value("SELECT count(*) FROM label_events")
            broken, (chained, head) = labels.broken_block(store), labels.chain_head(store)
            facts["event chain"] = (f"{chained:,} events, head {head[:16] or 'none'}: verified" if broken is None
                                    else f"broken at events {broken['first_seq']} to {broken['last_seq']}: {broken['what']}")
            if rebuild:
                labels.rebuild_standing(store)
            differing = labels.standing_differences(store)
            facts["current votes"] = ("equal to the events folded anew" if not differing
                                      else f"{differing} rows differ from the events; fercore doctor --rebuild mends that")
            healthy = broken is None and not differing
            swept, (kept, damaged) = source_table.sweep(store), source_table.damaged_originals(store)
            facts["originals"] = f"{kept:,} files: " + (
                f"{len(damaged):,} damaged or gone, the first is {damaged[0][:16]}" if damaged else "verified") + (
                f"; {swept:,} left by imports that were killed, now deleted" if swept else "")
            healthy &= not damaged
            versions.record.mend(store)
            acts, head = version_table.chain_head(store)
            changed = version_table.broken_acts(store)
            facts["acts on versions"] = (f"{acts:,} acts, head {head[:16] or 'none'}: verified" if not changed
                                         else f"broken at act {changed[0][1]}: {changed[0][2]}")
            healthy &= not changed
            listed = version_table.table(store)
            for version_id in listed["version_id"]:
                problems = versions.record.verify(store, version_id)
                facts[f"version {version_id}"] = "verified" if not problems else "; ".join(problems)
                healthy &= not problems
            if strange := versions.files.strangers(store.workspace, set(listed["version_id"])):
                facts["not in the database"] = (f"{', '.join(strange)} under versions/: put there by somebody, or from a database of another day. "
                                                "Nothing here touches them; restore the database that knows them, or move them away")
            facts["runs"] = len(jobs.list_runs(store.workspace))
    except WorkspaceError as error:
        facts["problem"], healthy = str(error), False
    show(facts, as_json)
    if not healthy:
        raise typer.Exit(2)


@app.command()
def sql(query: str, workspace: Where = DEFAULT, as_json: AsJson = False) -> None:
    """Run one read-only query over the workspace's views; it has no access to files."""
    show(query_sealed(Workspace(workspace), query), as_json)


# ---- data -----------------------------------------------------------------------------------------------------------------------


def _preview(labels: Sequence[tuple[str | None, str | None, int]]) -> None:
    if labels:
        show(pd.DataFrame(labels[:100], columns=["label", "class", "rows"]).fillna("-"), False)
    if len(labels) > 100:
        say(f"... and {len(labels) - 100:,} more labels")


def _report(report: ingest.ImportReport, as_json: bool) -> None:
    for row, line, reason in report.rejected[:20]:
        say(f"rejected row {row} (line {line}): {reason}")
    if len(report.rejected) > 20:
        say(f"... and {len(report.rejected) - 20:,} more rejected rows; all are kept with the import")
    if report.dry_run and not as_json:
        _preview(report.labels)
    show({"source": report.source_id, "dry_run": report.dry_run, "read": report.read, "added": report.added, "votes_added": report.votes_added,
          "rejected": [{"row": r, "line": n, "reason": why} for r, n, why in report.rejected]} if as_json else report.sentence(), as_json)


Authors = Annotated[str | None, typer.Option(help="As the source states them.")]
Organisation = Annotated[str | None, typer.Option(help="As the source states it.")]
Licence = Annotated[str | None, typer.Option(help="As the source states it.")]
Url = Annotated[str | None, typer.Option(help="Where it was fetched.")]
Note = Annotated[str | None, typer.Option(help="Anything else about the source.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would come in and write nothing.")]


@importing.command("fer2013")
def import_fer2013(file: Path, ferplus: Annotated[Path | None, typer.Option(help="FER+ votes of the same rows.")] = None,
                   name: Annotated[str, typer.Option(help="Name of the source.")] = "fer2013",
                   authors: Authors = None, organisation: Organisation = None, licence: Licence = None, url: Url = None, note: Note = None,
                   dry_run: DryRun = False, workspace: Where = DEFAULT, person: As = None, as_json: AsJson = False) -> None:
    """Import the FER-2013 CSV, also gzipped or in a ZIP or TAR, and audit it."""
    ingest.check(file, ferplus)  # before a workspace is made
    fresh = dry_run and not Workspace(workspace).database.exists()
    with (tempfile.TemporaryDirectory() if fresh else nullcontext(workspace)) as place, opened(Path(place), create=True) as store, byte_bar(
            file.name) as progress:
        who = local_lead() if dry_run and person is None else actor(store, person)
        report = ingest.import_fer2013(store, who, file, ferplus=ferplus, name=name, licence=licence, authors=authors, organisation=organisation,
                                       url=url, note=note, dry_run=dry_run, progress=progress)
        if not (dry_run or report.unchanged):
            auditing.run(store, who)
    _report(report, as_json)


@importing.command("tags")
def import_tags(file: Path, source: Annotated[str, typer.Option(help="The source whose rows are tagged.")] = "fer2013", dry_run: DryRun = False,
                workspace: Where = DEFAULT, person: As = None, as_json: AsJson = False) -> None:
    """Import perceived age and gender (csv_row, age_group, gender), or FER+ votes (fer2013new.csv), onto rows that are here."""
    with opened(workspace) as store:
        _report(ingest.import_tags(store, actor(store, person), file, source=source, dry_run=dry_run), as_json)


@importing.command("export")
def import_export(folder: Path, dry_run: DryRun = False, workspace: Where = DEFAULT, person: As = None, as_json: AsJson = False) -> None:
    """Take over a version that another workspace exported (format parquet); its recipe then makes the same version here."""
    ingest.check_export(folder)  # before a workspace is made
    with opened(workspace, create=True) as store, byte_bar(folder.name, " images") as progress:
        report = ingest.import_export(store, actor(store, person), folder, dry_run=dry_run, progress=progress)
    show({"version": report.version_id, "manifest_sha256": report.manifest_sha256, "dry_run": dry_run, **report.added} if as_json
         else report.sentence(), as_json)
    say(f"The same version again: fercore version build {folder / 'recipe.json'}")


Source = Annotated[str, typer.Option("--name", help="Name of the source in this workspace.")]
MapName = Annotated[str | None, typer.Option("--label-map", help=f"{', '.join(ingest.MAPS)}, or a YAML / JSON file of text: class id.")]
Split = Annotated[str | None, typer.Option(help="The split of every picture, whatever its path says.")]
Resize = Annotated[str, typer.Option(help=f"Filter that makes pictures 48x48: {', '.join(images.RESIZE)}.")]
Fit = Annotated[str, typer.Option(help="squash, pad with mid gray, or crop the middle square.")]
Partial = Annotated[bool, typer.Option("--partial", help="Only a part of the source: nothing that is missing is marked as gone.")]


def _import(path: Path, about: ingest.Provenance, map_name: str | None, method: ingest.Method, dry_run: bool, workspace: Path, person: str | None,
            as_json: bool, **how: Any) -> None:
    for given in (path, how.get("list_file")):
        if given and not given.exists():  # before a workspace is made
            raise BadInput("No such file", str(given), "Check the path")
    fresh = dry_run and not Workspace(workspace).database.exists()
    with nullcontext() if fresh else opened(workspace, create=True) as store, byte_bar(path.name, " files") as progress:
        who = local_lead() if store is None or (dry_run and person is None) else actor(store, person)
        chosen = ingest.find_map(map_name, store) if map_name else None
        report = ingest.import_pictures(store, who, path, about, label_map=chosen, method=method, dry_run=dry_run, progress=progress, **how)
        if store and not (dry_run or report.unchanged):
            auditing.run(store, who)
    if as_json:
        show({"source": report.source_id, "kind": report.kind, "dry_run": dry_run, "read": report.read, **{c: report.counts[c] for c in (
            "added", "gone", "back", "relabelled", "moved", "rewritten")}, "tags": report.tags_added, "label_map": report.label_map,
            "labels": [{"label": text, "class": class_id, "rows": n} for text, class_id, n in report.labels],
            "rejected": [{"place": p, "line": n, "file": name, "reason": why} for p, n, why, name in report.rejected],
            "notes": [{"file": name, "note": note} for name, note in report.notes]}, True)
        return
    for kind, lines in (("rejected", [(name, why) for _, _, why, name in report.rejected]), ("note", report.notes)):
        for name, why in lines[:20]:
            say(f"{kind}: {name}: {why}" if name else f"{kind}: {why}")
        if len(lines) > 20:
            say(f"... and {len(lines) - 20:,} more")
    if dry_run:
        _preview(report.labels)
    show(report.sentence(), False)


@importing.command("folder")
def import_folder(path: Path, name: Source, label_map: MapName = None, split: Split = None, authors: Authors = None,
                  organisation: Organisation = None, licence: Licence = None, url: Url = None, note: Note = None, resize: Resize = "bilinear",
                  fit: Fit = "squash", partial: Partial = False, dry_run: DryRun = False, workspace: Where = DEFAULT, person: As = None,
                  as_json: AsJson = False) -> None:
    """Import a folder, ZIP or TAR of pictures, [split/]class/file or with metadata.csv; importing it again takes over what changed."""
    _import(path, ingest.Provenance(name, authors, organisation, licence, url, note), label_map, ingest.Method(resize, fit), dry_run, workspace,
            person, as_json, split=split, partial=partial)


@importing.command("listing")
def import_listing(file: Path, pictures: Annotated[Path, typer.Option("--images", help="The folder, ZIP or TAR that holds the files.")],
                   name: Source, label_map: MapName = None, split: Split = None,
                   image_column: Annotated[str | None, typer.Option(help="Column of file names, by name or number from 1.")] = None,
                   label_column: Annotated[str | None, typer.Option(help="Column of labels.")] = None,
                   split_column: Annotated[str | None, typer.Option(help="Column of splits.")] = None,
                   box_columns: Annotated[str | None, typer.Option(help="Face box to crop to: four columns left,top,width,height.")] = None,
                   box_corners: Annotated[bool, typer.Option("--box-corners", help="The last two of them are right,bottom (ExpW).")] = False,
                   unlisted: Annotated[bool, typer.Option("--unlisted", help="Also take pictures that no line names, without a label.")] = False,
                   authors: Authors = None, organisation: Organisation = None, licence: Licence = None, url: Url = None, note: Note = None,
                   resize: Resize = "bilinear", fit: Fit = "squash", partial: Partial = False, dry_run: DryRun = False,
                   workspace: Where = DEFAULT, person: As = None, as_json: AsJson = False) -> None:
    """Import the pictures that a CSV, TSV or blank-separated list names, with its labels."""
    columns = ingest.Columns(image_column, label_column, split_column, ingest.box_of(box_columns), box_corners)
    _import(pictures, ingest.Provenance(name, authors, organisation, licence, url, note), label_map, ingest.Method(resize, fit), dry_run, workspace,
            person, as_json, list_file=file, columns=columns, split=split, unlisted=unlisted, partial=partial)


@app.command()
def label(file: Path, source: Annotated[str | None, typer.Option(help="Look faces up in this source only; rows need it.")] = None,
          origin: Annotated[str | None, typer.Option(help="Who these votes are of; default: the name of the file.")] = None,
          by: Annotated[str | None, typer.Option(help="Record label events of this person (id) instead of imported votes.")] = None,
          field: Annotated[str, typer.Option(help="What is answered.")] = "expression",
          flag: Annotated[str | None, typer.Option(help="The file lists faces with this flag, such as dark.")] = None,
          label_map: MapName = None, image_column: Annotated[str | None, typer.Option(help="Column of file names.")] = None,
          label_column: Annotated[str | None, typer.Option(help="Column of labels.")] = None, dry_run: DryRun = False, workspace: Where = DEFAULT,
          person: As = None, as_json: AsJson = False) -> None:
    """Bring in labels made elsewhere: a CSV or text of file names, rows or sample ids with labels, or Label Studio's JSON."""
    with opened(workspace) as store, byte_bar(file.name, " lines") as progress:
        report = ingest.import_labels(store, actor(store, person), file, source=source, origin=origin, by=people.find(store, by) if by else None,
                                      asks=field, flag=flag, label_map=ingest.find_map(label_map, store) if label_map else None,
                                      columns=ingest.Columns(image_column, label_column), dry_run=dry_run, progress=progress)
    for line, reason, name in report.rejected[:20]:
        say(f"rejected line {line}: {name}: {reason}")
    if len(report.rejected) > 20:
        say(f"... and {len(report.rejected) - 20:,} more")
    if dry_run and not as_json:
        _preview(report.labels)
    show({"origin": report.origin, "dry_run": dry_run, "read": report.read, "votes_added": report.votes_added, "events": report.events, "rejected": [
        {"line": n, "file": name, "reason": why} for n, why, name in report.rejected]} if as_json else report.sentence(), as_json)


@app.command()
def audit(quick: Annotated[bool, typer.Option("--quick", help="Leave out near duplicates and candidates.")] = False, workspace: Where = DEFAULT,
          person: As = None, as_json: AsJson = False) -> None:
    """Find duplicates, conflicts, leaks between splits, dark, flat and blurred faces, candidates for non-face and extreme pose, divided votes."""
    with opened(workspace) as store, tqdm(total=100, unit="%", file=sys.stderr, leave=False, bar_format="{desc} {percentage:3.0f}% {elapsed}") as bar:
        def progress(what: str, share: float) -> None:
            bar.set_description_str(what, refresh=False)
            bar.update(round(100 * share) - bar.n)

        found = auditing.run(store, actor(store, person), deep=not quick, progress=progress)
        about_the_set = finding_table.of_set(store)
    found.insert(3, "redundant", found["n_samples"] - found["n_groups"])
    show(found.drop(columns="recorded_at"), as_json)
    for row in about_the_set.itertuples():
        say(f"{auditing.KINDS[str(row.kind)]}: {row.subject} {row.evidence}")


# ---- people ---------------------------------------------------------------------------------------------------------------------

Name = Annotated[str, typer.Argument(help="The person's name or id.")]
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input instead of asking twice.")]


def lead(store: Store, person_id: str | None) -> Person:
    """Who manages people: the machine's data lead until anybody has an account, from then on only who is named."""
    if person_id is None and accounts.in_use(store):
        raise NotAllowed("Say who acts", "People of this workspace have accounts", "Name a data lead with --as")
    return people.find(store, person_id) if person_id else local_lead()


def _password(from_stdin: bool) -> str:
    """A password from standard input, or asked for twice without showing it; never an argument, which other users could read."""
    if not from_stdin and not sys.stdin.isatty():
        raise BadInput("No password", "There is no terminal to ask on", "Give it on standard input with --password-stdin")
    typed = sys.stdin.readline().rstrip("\r\n") if from_stdin else getpass.getpass("Password: ")
    if not typed:
        raise BadInput("No password", "Nothing was given", "Give one, or --email for sign-in through a provider")
    if not from_stdin and getpass.getpass("Again: ") != typed:
        raise BadInput("The passwords differ", "The second was not the first", "Repeat the command")
    return typed


def _show_people(store: Store, who: Person, as_json: bool) -> None:
    show(accounts.listing(store, who), as_json)


@members.callback()
def people_default(context: typer.Context, add: Annotated[str | None, typer.Option(help="Add a local profile, without an account.")] = None,
                   role: Annotated[Role, typer.Option(help="Role of the added profile.")] = Role.ANNOTATOR,
                   workspace: Where = DEFAULT, person: As = None, as_json: AsJson = False) -> None:
    if context.invoked_subcommand is None:
        with opened(workspace, create=add is not None) as store:
            if add:
                people.add(store, add, role)
            _show_people(store, lead(store, person), as_json)


@members.command("list")
def people_list(workspace: Where = DEFAULT, person: As = None, as_json: AsJson = False) -> None:
    """Who is here, and how they sign in."""
    with opened(workspace) as store:
        _show_people(store, lead(store, person), as_json)


@members.command("add")
def people_add(name: str, role: Annotated[Role, typer.Option(help="What the person may do.")] = Role.ANNOTATOR,
               email: Annotated[str, typer.Option(help="Sign-in through a provider with this verified e-mail; no password is asked for.")] = "",
               from_stdin: FromStdin = False, workspace: Where = DEFAULT, person: As = None, as_json: AsJson = False) -> None:
    """Add somebody who signs in with a password, or through a provider with --email."""
    password = _password(from_stdin) if from_stdin or not email else ""
    with opened(workspace, create=True) as store:
        who = lead(store, person)
        accounts.add(store, who, name, role, email=email, password=password)
        _show_people(store, who, as_json)


@members.command("role")
def people_role(name: Name, role: Role, workspace: Where = DEFAULT, person: As = None, as_json: AsJson = False) -> None:
    """Change what somebody may do."""
    with opened(workspace) as store:
        who = lead(store, person)
        accounts.set_role(store, who, name, role)
        _show_people(store, who, as_json)


@members.command("password")
def people_password(name: Name, from_stdin: FromStdin = False, workspace: Where = DEFAULT, person: As = None, as_json: AsJson = False) -> None:
    """Give somebody a new password and end their sessions."""
    with opened(workspace) as store:
        who = lead(store, person)
        accounts.set_password(store, who, name, _password(from_stdin))
        _show_people(store, who, as_json)


@members.command("email")
def people_email(name: Name, email: str, workspace: Where = DEFAULT, person: As = None, as_json: AsJson = False) -> None:
    """Register somebody who is here for sign-in through a provider."""
    with opened(workspace) as store:
        who = lead(store, person)
        accounts.set_email(store, who, name, email)
        _show_people(store, who, as_json)


@members.command("disable")
def people_disable(name: Name, workspace: Where = DEFAULT, person: As = None, as_json: AsJson = False) -> None:
    """Let somebody act no more; their work stays."""
    with opened(workspace) as store:
        who = lead(store, person)
        accounts.disable(store, who, name)
        _show_people(store, who, as_json)


@members.command("enable")
def people_enable(name: Name, workspace: Where = DEFAULT, person: As = None, as_json: AsJson = False) -> None:
    """Let somebody act again."""
    with opened(workspace) as store:
        who = lead(store, person)
        accounts.enable(store, who, name)
        _show_people(store, who, as_json)


# ---- versions -------------------------------------------------------------------------------------------------------------------


def _recipe(named: str, store: Store | None) -> versions.Recipe:
    """A shipped recipe by its name, or a file."""
    if named in versions.shipped.names():
        return versions.shipped.recipe(named)
    return versions.read_recipe(Path(named), scheme_book.known(store) if store else None)


@versioning.command("build")
def version_build(recipe: Annotated[str, typer.Argument(help="A recipe that ships (see 'fercore recipes'), or a YAML or JSON file.")] = "fer7",
                  name: Annotated[str | None, typer.Option(help="Name of the version, to which a number is added; default: the recipe's.")] = None,
                  preview: Annotated[bool, typer.Option("--preview", help="Say what it would do and write nothing.")] = False,
                  workspace: Where = DEFAULT, person: As = None, as_json: AsJson = False) -> None:
    """Freeze a version from what the workspace holds now, by a recipe."""
    _recipe(recipe, None)  # before a workspace is asked for
    with opened(workspace) as store:
        who, chosen = actor(store, person), _recipe(recipe, store)
        if preview:
            made = versions.build.preview(store, who, chosen)
            card = {"funnel": made.counted(), "missing": made.missing}
        else:
            card = versions.card(store.workspace, versions.freeze(store, who, chosen, name or Path(recipe).stem))
    for cell in card["missing"]:
        say(f"missing: {cell['missing']:,} of {cell['wanted']:,} {cell['target']}")
    if preview and not as_json:
        show(versions.shipped.beside(chosen, card["funnel"]), False)
    else:
        show(card, as_json)


@app.command()
def recipes(name: Annotated[str | None, typer.Argument(help="Print this one, as YAML to start your own from.")] = None,
            workspace: Where = DEFAULT, person: As = None, as_json: AsJson = False) -> None:
    """Recipes that come with fercore: the data side of published systems, their counts beside those of the workspace."""
    if name is None:
        known = {n: versions.shipped.recipe(n) for n in versions.shipped.names()}
        show(pd.DataFrame([{"recipe": n, "title": r.title, "scheme": r.scheme} for n, r in known.items()]), as_json)
        return
    text, funnel = versions.shipped.text(name), None
    if Workspace(workspace).database.exists():
        chosen = versions.shipped.recipe(name)
        try:
            with opened(workspace) as store:
                made = versions.build.preview(store, actor(store, person), chosen)
                funnel = versions.shipped.beside(chosen, made.counted())
        except FerError as error:
            say(f"fercore: this workspace: {error}")
    if as_json:
        show({"recipe": yaml.safe_load(text), "funnel": funnel}, True)
        return
    print(text, end="")
    if funnel is not None:
        say(funnel.to_string(index=False, na_rep="-"))


@versioning.command("list")
def version_list(workspace: Where = DEFAULT, as_json: AsJson = False) -> None:
    """Versions with their state; reads files only."""
    listed = versions.listed(Workspace(workspace))
    show(pd.DataFrame([{"version": c["version_id"], "state": c["state"], **c["counts"], "created": c["created_at"], "by": c["created_by"],
                        "sha256": c["manifest_sha256"][:12]} for c in listed]), as_json)


@versioning.command("show")
def version_show(version: str, workspace: Where = DEFAULT, as_json: AsJson = False) -> None:
    """One version; reads files only."""
    place = Workspace(workspace)
    found = versions.card(place, version)
    show({**found, "state": versions.state(place, version), "broken": versions.files.changed(place, version, found["manifest_sha256"])}, as_json)


@versioning.command("submit")
def version_submit(version: str, workspace: Where = DEFAULT, person: As = None) -> None:
    """Ask for review."""
    with opened(workspace) as store:
        versions.submit(store, actor(store, person), version)
        say(f"{version} is in review; it needs {versions.policy.current(store).sentence()}")


@versioning.command("approve")
def version_approve(version: str, reason: str = "", workspace: Where = DEFAULT, person: As = None) -> None:
    """Approve a version that passes its gates and that somebody else froze."""
    with opened(workspace) as store:
        who = actor(store, person)
        state = versions.approve(store, who, version, reason)
        missing = versions.policy.missing(versions.policy.current(store), versions.policy.approvals(version_table.acts(store, version))[0])
    say(f"{version} is approved ({who.authentication})" if state == "approved" else
        f"{version}: your approval is recorded ({who.authentication}); it still needs {missing}")


Reason = Annotated[str, typer.Option(help="Why; it is recorded.")]


@versioning.command("reject")
def version_reject(version: str, reason: Annotated[str, typer.Option(help="What must change.")] = "", workspace: Where = DEFAULT,
                   person: As = None) -> None:
    """Ask for changes to a version that somebody else froze: it is a draft again."""
    with opened(workspace) as store:
        versions.reject(store, actor(store, person), version, reason)
    say(f"{version} is a draft again. Another manifest is another version: build it anew. After changes to the datasheet only, submit it again")


@versioning.command("release")
def version_release(version: str, reason: Reason = "", workspace: Where = DEFAULT, person: As = None) -> None:
    """Make an approved version the one to use."""
    with opened(workspace) as store:
        versions.release(store, actor(store, person), version, reason)
    say(f"{version} is released")


@versioning.command("deprecate")
def version_deprecate(version: str, reason: Reason = "", workspace: Where = DEFAULT, person: As = None) -> None:
    """Say that a released version is not for new work."""
    with opened(workspace) as store:
        versions.deprecate(store, actor(store, person), version, reason)
    say(f"{version} is deprecated")


@versioning.command("revoke")
def version_revoke(version: str, reason: Reason = "", workspace: Where = DEFAULT, person: As = None) -> None:
    """Take the approval of a version back for good."""
    with opened(workspace) as store:
        versions.revoke(store, actor(store, person), version, reason)
    say(f"{version} is revoked")


@versioning.command("gates")
def version_gates(version: str, waive: Annotated[str | None, typer.Option(help="Waive this gate for what it found, with --reason.")] = None,
                  reason: Reason = "", workspace: Where = DEFAULT, person: As = None, as_json: AsJson = False) -> None:
    """What a version must pass before it is approved; makes the round trip that was not made yet. Exit code 2 when a gate fails."""
    with opened(workspace) as store:
        who = actor(store, person)
        if waive:
            versions.waive(store, who, version, waive, reason)
        versions.check_round_trip(store, who, version)
        found = versions.gates.check(store, who, version)
    if as_json:
        show({"version": version, "gates": found}, True)
    else:
        show(pd.DataFrame([{"gate": g.gate_id, "result": g.result, "found": g.found, "reason": g.reason} for g in found]), False)
    if any(g.result == "fail" for g in found):
        raise typer.Exit(2)


@versioning.command("diff")
def version_diff(version_a: str, version_b: str,
                 cell: Annotated[tuple[str, str] | None, typer.Option(help="List the samples whose label goes from one class to another.")] = None,
                 kind: Annotated[str | None, typer.Option("--list", help=f"List the samples that are {', '.join(versions.diff.KINDS)}.")] = None,
                 workspace: Where = DEFAULT, as_json: AsJson = False) -> None:
    """What changes from one version to another; reads files only."""
    found = versions.diff.compare(Workspace(workspace), version_a, version_b)
    if cell or kind:
        show(found.faces(kind or "relabelled", *(cell or ())), as_json)
    elif as_json:
        show(found.summary(), True)
    else:
        print(found.text())


@versioning.command("datasheet")
def version_datasheet(version: str,
                      answer: Annotated[tuple[str, str] | None, typer.Option(help="Answer a question of the datasheet: FIELD TEXT.")] = None,
                      form: Annotated[str, typer.Option("--format", help="markdown or html.")] = "markdown",
                      to: Annotated[Path | None, typer.Option(help="Write it to this new file.")] = None,
                      workspace: Where = DEFAULT, person: As = None, as_json: AsJson = False) -> None:
    """The datasheet of a version, generated from facts and answers."""
    if form not in ("markdown", "html"):
        raise BadInput("Unknown format", f"{form!r}", "Choose markdown or html")
    with opened(workspace) as store:
        who = actor(store, person)
        if answer:
            versions.answer(store, who, version, *answer)
        sections = versions.datasheet.sheet(store, who, version)
    if as_json:
        show({"version": version, "sections": sections}, True)
        return
    text = (versions.datasheet.as_html if form == "html" else versions.datasheet.as_markdown)(version, sections)
    if to is None:
        print(text, end="")
        return
    try:
        with to.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise Conflict("The file is there already", str(to), "Name a new one") from error


@versioning.command("timeline")
def version_timeline(version: str, workspace: Where = DEFAULT, as_json: AsJson = False) -> None:
    """Every act on a version."""
    with opened(workspace) as store:
        version_table.one(store, version)
        found = version_table.timeline(store, version)
    show(found if as_json else found[["recorded_at", "act", "state", "person", "role", "authentication", "reason"]], as_json)


@versioning.command("policy")
def version_policy(team: Annotated[int | None, typer.Option(min=1, help="Set it for a team of 1, of 2, or of 3 and more.")] = None,
                   setting: Annotated[list[str] | None, typer.Option("--set", help="name=value, e.g. class_floor=20; null sets no limit.")] = None,
                   reason: Reason = "", workspace: Where = DEFAULT, person: As = None, as_json: AsJson = False) -> None:
    """What it takes to sign a version: show it, or set it with a reason."""
    with opened(workspace) as store:
        changes: dict[str, Any] = dict(versions.policy.TEAMS[min(team, 3)]) if team else {}
        for item in setting or []:
            name, _, value = item.partition("=")
            changes[name] = yaml.safe_load(value)
        if changes:
            versions.policy.change(store, actor(store, person), changes, reason)
        rules, before = versions.policy.current(store), versions.policy.history(store)
    show({"needs": rules.sentence(), **rules.model_dump(), "history": before if as_json else f"{len(before)} changes"}, as_json)


@versioning.command("verify")
def version_verify(version: str, recompute: Annotated[bool, typer.Option("--recompute", help="Also make the rows anew by the recipe, and say what "
                   "the facts of now make otherwise; that is no fault of the version.")] = False,
                   workspace: Where = DEFAULT, person: As = None, as_json: AsJson = False) -> None:
    """Recompute every hash, count, split and class, and the chain of acts. While the dashboard is open, acts are checked in their copy."""
    place, changes = Workspace(workspace), None
    try:
        with opened(workspace) as store:
            problems, acts = versions.record.verify(store, version), "database and copy"
            if recompute and not problems:
                changes = versions.build.recomputed(store, actor(store, person), version)
    except WorkspaceError as error:
        if recompute:
            raise
        problems, acts = versions.verify(place, version) + versions.record.copy_problems(place, version), "copy only"
        say(f"fercore: {error} Only the files and the copied acts were checked.")
    show({"version": version, "verified": not problems, "acts": acts, "problems": problems,
          **({"changed_since": changes} if recompute else {})}, as_json)
    if problems:
        raise typer.Exit(2)


@versioning.command("export")
def version_export(version: str, to: Annotated[Path, typer.Option(help="A new folder.")],
                   form: Annotated[str, typer.Option("--format", help=", ".join(versions.export.FORMATS))] = "parquet",
                   accept_licence: Annotated[bool, typer.Option("--accept-licence", help="Answer, as a data lead, for sources without a licence or "
                                                                "with one that restricts use.")] = False,
                   force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False, workspace: Where = DEFAULT,
                   person: As = None, as_json: AsJson = False) -> None:
    """Write a version for other tools. While the dashboard is open, only forms that need no votes, and nothing is recorded."""
    place = Workspace(workspace)
    versions.card(place, version)
    with byte_bar(version, " faces") as progress:
        try:
            with opened(workspace) as store:
                made = versions.export.write(place, version, to, form, actor(store, person), store=store, accept_licence=accept_licence, force=force,
                                       progress=progress)
        except WorkspaceError as error:
            if "in use" not in error.title and place.database.exists():
                raise
            say(f"fercore: {error} The export is not recorded.")
            made = versions.export.write(place, version, to, form, local_lead(), accept_licence=accept_licence, force=force, progress=progress)
    show({"version": version, "to": str(made.path), "format": form, "faces": made.faces, "left_out": made.left_out,
          "licences_accepted": dict(made.accepted)}, as_json)


# ---- training and evaluation ----------------------------------------------------------------------------------------------------


@app.command()
def models(name: Annotated[str | None, typer.Argument(help="List the layers of this one; also your own, as package.module:function.")] = None,
           classes: Annotated[int, typer.Option(min=2, help="Count parameters for this many classes.")] = 7, as_json: AsJson = False) -> None:
    """The model zoo with trainable parameters, or the layers of one model."""
    if name is None:
        show(pd.DataFrame([{"model": m.name, "title": m.title, "source": m.source, "input": str(m.input), "parameters": m.parameters(classes),
                            "reconstruction": m.reconstruction} for m in (MODELS | BACKBONES).values()]), as_json)
        return
    from fercore.models.network import architecture  # torch takes seconds: only the commands that need it load it

    spec = spec_of(name)
    layers = architecture(name, classes)
    total = int(layers["parameters"].sum())
    if as_json:
        show({"model": name, "title": spec.title, "source": spec.source, "input": spec.input, "reconstruction": spec.reconstruction,
              "notes": spec.notes, "options": spec.options, "classes": classes, "parameters": total, "layers": layers}, True)
        return
    show(layers, False)
    say(f"{name}: {spec.source}; input {spec.input}; {total:,} trainable parameters for {classes} classes. {spec.notes}")


@labelling.callback()
def list_schemes(context: typer.Context, workspace: Where = DEFAULT, as_json: AsJson = False) -> None:
    if context.invoked_subcommand is None:
        known = schemes.SCHEMES
        if Workspace(workspace).database.exists():
            with opened(workspace) as store:
                known = scheme_book.known(store)
        show(pd.DataFrame([{"scheme": s.scheme_id, "field": s.field, "name": s.name, "classes": ", ".join(s.ids)} for s in known.values()]), as_json)


@labelling.command("show")
def schemes_show(scheme: str, workspace: Where = DEFAULT, as_json: AsJson = False) -> None:
    """One scheme with its classes and history; a name without @N is its newest version."""
    with opened(workspace) as store:
        found = scheme_book.find(store, scheme)
        history = scheme_book.history(store, scheme)
    classes = [{"class": c.class_id, "name": c.name, "colour": c.colour, "keys": " ".join(c.keys), "retired": c.retired} for c in found.classes]
    if as_json:
        show({"scheme": found.scheme_id, "field": found.field, "name": found.name, "classes": classes, "history": history.to_dict("records")}, True)
    else:
        show(pd.DataFrame(classes), False)
        say(f"{found.scheme_id}: {found.name}, field {found.field}")
        for row in history.itertuples():
            say(f"{row.scheme_id} {row.recorded_at:%Y-%m-%d %H:%M} UTC, {row.person} ({row.authentication}): {row.act}")


@labelling.command("map")
def schemes_map(source: str, target: str, file: Annotated[Path, typer.Argument(help="YAML: name, and classes as a list of {from, to, split}.")],
                preview: Annotated[bool, typer.Option("--preview", help="Say what it would do and save nothing.")] = False,
                workspace: Where = DEFAULT, person: As = None, as_json: AsJson = False) -> None:
    """Map the classes of one scheme to another, saved under the name in the file; no vote is touched."""
    name, steps = scheme_book.read_map(ingest.read_mapping(file))
    with opened(workspace) as store:
        who = actor(store, person)
        rows = scheme_book.map_preview(store, who, source, target, steps)
        if not preview:
            say(f"saved as {scheme_book.save_map(store, who, name, source, target, steps).name}")
    show(rows, as_json)


@app.command()
def train(what: Annotated[str, typer.Argument(metavar="PRESET_OR_CONFIG", help="A preset (see 'fercore presets'), a model of the zoo, your own as "
                                              "package.module:function, or a YAML / JSON file of settings.")],
          version: Annotated[str, typer.Option(help="The dataset version.")],
          set_: Annotated[list[str] | None, typer.Option("--set", help="key=value, repeatable; option.KEY=VALUE is for the network.")] = None,
          grid: Annotated[list[str] | None, typer.Option("--grid", help="key=A,B,C, repeatable: a run for every combination, as one study.")] = None,
          study: Annotated[str, typer.Option(help="Name of the study of --grid; runs that it has already are not started again.")] = "",
          folds: Annotated[int, typer.Option(help="K grouped folds over train and val, the version's own where it has some; 0 = hold-out.")] = 0,
          exploratory: Annotated[bool, typer.Option("--exploratory", help="Also on a version that nobody approved; the run is marked.")] = False,
          wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end.")] = False,
          minutes: Annotated[float | None, typer.Option(help="With --wait: stop after so long; 'runs resume' goes on after the last epoch.")] = None,
          workspace: Where = DEFAULT, as_json: AsJson = False) -> None:
    """Train on a version in a worker process; works while the dashboard is open."""
    place = Workspace(workspace)
    settings = _settings_of(what) | {"version_id": version, "exploratory": exploratory}
    if folds:
        settings |= {"protocol": "k_fold", "folds": folds}
    if bool(grid) != bool(study):
        raise BadInput("A study needs a name and a grid", "Only one of --study and --grid is given", "Give both, or neither")
    configs = [run_config(settings, [*(set_ or []), *choice]) for choice in _choices(grid or [])]
    if study:
        started = jobs.start_study(place, study, configs, local_lead(), own_code=True)
        say(f"{len(started)} runs queued" + (f", {len(configs) - len(started)} are here already" if len(started) < len(configs) else ""))
    else:
        started = [jobs.start(place, configs[0], local_lead(), own_code=True)]
        say(f"started {started[0]}")
    for run_id in started if wait else ():
        _follow(place, run_id, minutes, local_lead())
    states = [{"run": run_id, "state": jobs.status(place, run_id).state} for run_id in started]
    show(pd.DataFrame(states) if study else states[0], as_json)


def _settings_of(what: str) -> dict[str, object]:
    """Settings by a file, a preset or a model."""
    if what.endswith((".yaml", ".yml", ".json")):
        given = dict(ingest.read_mapping(Path(what)))
        return (settings_of(str(given.pop("preset"))) if "preset" in given else {}) | given
    return {"model": what} if ":" in what or what in BACKBONES else settings_of(what)


def _choices(grid: list[str]) -> list[tuple[str, ...]]:
    """Every combination of the values in "key=A,B" texts, as "key=A" texts; one empty combination of none."""
    for text in grid:
        if "=" not in text:
            raise BadInput("A grid needs values", f"{text!r} has no '='", "Write it as key=A,B, such as seed=0,1,2")
    parts = [[f"{key}={value.strip()}" for value in values.split(",")] for key, _, values in (text.partition("=") for text in grid)]
    return list(product(*parts))


@app.command()
def presets(name: Annotated[str | None, typer.Argument(help="Its settings, as a file that 'fercore train' takes.")] = None,
            as_json: AsJson = False) -> None:
    """How the reproduced systems trained; every value can be overridden."""
    if name:
        settings = run_config({**settings_of(name), "version_id": "x"}).model_dump(mode="json", include=set(SETTINGS))
        show(settings, True) if as_json else print(yaml.safe_dump(settings, sort_keys=False), end="")
        return
    show(pd.DataFrame([{"preset": p.name, "what": p.title, "differs": p.differs} for p in PRESETS.values()]), as_json)


@app.command()
def ensemble(runs: Annotated[list[str], typer.Argument(help="Finished runs on the same faces.")], workspace: Where = DEFAULT,
             as_json: AsJson = False) -> None:
    """Make one run of several: the mean of their probabilities."""
    show({"run": jobs.ensemble(Workspace(workspace), runs, local_lead()), "state": "finished"}, as_json)


@app.command()
def study(name: Annotated[str | None, typer.Argument(help="Without one, the names of all studies.")] = None, workspace: Where = DEFAULT,
          as_json: AsJson = False) -> None:
    """A grid of runs as a table: each run, and means and deviations over seeds."""
    place = Workspace(workspace)
    if name is None:
        show(pd.DataFrame({"study": evaluation.studies(place)}), as_json)
        return
    found = evaluation.study(place, name)
    if as_json:
        show({**vars(found), "plots": evaluation.plots(found), "noise": evaluation.noise(place, found)}, True)
        return
    told = lambda e: e.percent() if e else "-"  # noqa: E731
    show(found.rows.drop(columns="effective").assign(**{c: found.rows[c].map(told) for c in ("accuracy", "macro_f1")}), False)
    print("\nover seeds")
    show(found.cells.drop(columns="mean").round(4).assign(accuracy=found.cells["accuracy"].map(told)), False)
    chance = evaluation.noise(place, found)
    print("\n" + " ".join(filter(None, (found.caution(), chance.sentence()))))
    show(pd.DataFrame(chance.different, columns=["run", "against", "difference", "p after Holm"]).round(4).head(20), False)
    if chance.binomial_sd is not None:
        print(f"binomial sd at n = {chance.n:,}: {100 * chance.binomial_sd:.2f} points"
              + ("" if chance.seed_sd is None else f"; sd over seeds: {100 * chance.seed_sd:.2f} points ({chance.seed_df} degrees of freedom)"))


@app.command()
def leak(run: str, against: Annotated[str | None, typer.Option(help="A clean run on the same version.")] = None, workspace: Where = DEFAULT,
         as_json: AsJson = False) -> None:
    """What "balance, then split" did to the accuracy of a leaky run, and what copies alone predict."""
    found = evaluation.leak(Workspace(workspace), run, against)
    if as_json:
        show(found, True)
        return
    print(f"leaky, for comparison only: {found.method} before the split\nleaky accuracy          {found.leaky.percent()}\n"
          f"clean accuracy          {found.clean.percent()} ({found.clean_from or 'faces of this run that were not trained on'})\n"
          f"test rows with a copy   {found.copied.percent()}\non copies               {found.on_copied.percent()}\n"
          f"on faces made           {found.on_made.percent()}\non the rest             {found.on_fresh.percent()}")
    if found.predicted.value is not None:
        print(f"predicted by copies     {found.predicted.percent()}\ninflation               {found.inflation.points()}")


@app.command()
def leaks(version: str, run: Annotated[str | None, typer.Option(help="Also what this run met in training, and its inflation.")] = None,
          faces: Annotated[bool, typer.Option("--faces", help="List the faces.")] = False, workspace: Where = DEFAULT,
          as_json: AsJson = False) -> None:
    """Faces that are judged by and trained on: identical ones, near duplicates and edited copies across splits. 'leak' explains a leaky protocol."""
    place, pairs, waiting = Workspace(workspace), None, 0
    try:
        with opened(workspace) as store:
            waiting = auditing.stale(store)
            pairs = finding_table.near_pairs(store, auditing.bound_of(store, "near_duplicate") or 1.0)
    except WorkspaceError as error:
        say(f"fercore: {error} Near duplicates that the audit found are left out.")
    if waiting:
        say(f"fercore: {waiting:,} images have not been compared with the others yet: near duplicates among them are not known. Run: fercore audit")
    found = evaluation.leaks(place, version, run, pairs, waiting)
    if as_json:
        show({**vars(found), "counts": found.counts()}, True)
        return
    if faces:
        show(found.faces, False)
        return
    print(f"{'faces that are judged':26}{found.judged:,}\n"
          f"{'of these also trained on':26}{len(found.faces):,}{'' if found.near_known else ' that are known'}")
    for kind, n in found.counts().items():
        print(f"  {kind:24}{evaluation.NEAR_UNKNOWN if n is None else f'{n:,}'}")
    if found.all_faces and found.without and found.on_leaked and found.inflation:
        print(f"{'accuracy':26}{found.all_faces.percent()}\n{'without leaked faces':26}{found.without.percent()}\n"
              f"{'on leaked faces':26}{found.on_leaked.percent()}\n{'inflation':26}{found.inflation.points()}"
              + (" (of the known leaks alone)" if found.inflation.value is not None and not found.near_known else ""))


@app.command()
def ledger(version: Annotated[str | None, typer.Argument(help="Also what people changed on its test labels; needs the database.")] = None,
           since: Annotated[str, typer.Option(help="Compare with this earlier version instead of the given labels.")] = "",
           workspace: Where = DEFAULT, person: As = None, as_json: AsJson = False) -> None:
    """How often each set of test faces was read, and who changed its labels."""
    found = None
    if version:
        with opened(workspace) as store:  # first, as it mends what a killed freeze left
            found = book.edits(store, actor(store, person), version, since)
    read = book.reads(Workspace(workspace))
    for gap in read.gaps():
        say(f"fercore: {gap}")
    if found is None:
        show(read.sets if as_json else book.told(read.sets), as_json)
        return
    mine = read.of(found.version_id)
    if as_json:
        show({**vars(found), **mine[["faces", "reads", "own", "shared", "trained"]].to_dict("records")[0]}, True)
        return
    for name, value in book.told(mine).iloc[0].items():
        print(f"{name:26}{value}")
    print(f"{'labels':26}{found.rule}\n\n{len(found.changed):,} test labels differ from {since or 'the given ones'}")
    show(found.changed.value_counts(["before", "after"]).reset_index(name="faces"), False)
    print("\nwhat people did on these faces")
    show(found.acts, False)


@app.command()
def suspects(run: str, top: Annotated[int, typer.Option(min=1, help="How many of them.")] = 20,
             queue: Annotated[bool, typer.Option("--queue", help="Send them to a review queue of their own.")] = False,
             gain: Annotated[bool, typer.Option("--gain", help="Show what came of queues: predicted and realised share of wrong labels.")] = False,
             workspace: Where = DEFAULT, person: As = None, as_json: AsJson = False) -> None:
    """Labels that are likely to be wrong, from the out-of-fold predictions of a k-fold run, the most suspect first."""
    if person:
        with opened(workspace) as store:
            actor(store, person).require(Permission.READ_RESULTS)
    with tqdm(total=100, unit="%", file=sys.stderr, leave=False, bar_format="{desc} {percentage:3.0f}% {elapsed}") as bar:
        def progress(what: str, share: float) -> None:
            bar.set_description_str(what, refresh=False)
            bar.update(round(100 * share) - bar.n)

        found = suspicion.rank(Workspace(workspace), run, progress)
    if queue or gain:
        with opened(workspace) as store:
            who = actor(store, person)
            if queue:
                record_finished(store)
                say(f"sent to the campaign {suspicion.send(store, who, run, top)}")
            gains = suspicion.gains(store, who)
    if gain:
        show(gains if as_json else pd.DataFrame([{"queue": g.name, "run": g.run_id, "sent": g.sent, "predicted": f"{100 * g.predicted:.1f} %",
                                                  "realised": g.realised.percent()} for g in gains]), as_json)
        return
    first = found.head(top)
    show(first if as_json else first.drop(columns=["image_id", "duplicate_group"]).round(3), as_json)
    say(f"{len(found):,} faces ranked; of the first {len(first):,}, {100 * (1 - first['p_label'].mean()):.1f} % are expected to be labelled wrongly")


@app.command()
def saliency(run: str, sample: Annotated[str | None, typer.Option(help="Explain the prediction of this face (sample id).")] = None,
             class_: Annotated[str | None, typer.Option("--class", help="With --sample the class to explain instead of the predicted one; alone, "
                                                        "average over faces labelled and predicted so.")] = None,
             patch: Annotated[int, typer.Option(min=1, max=48, help="Side of the square that occlusion blackens; 1 is pixel by pixel.")] = 4,
             faces: Annotated[int, typer.Option(min=1, help="Average over at most so many faces.")] = 50,
             to: Annotated[Path | None, typer.Option(help="Write the maps to this new .npz file.")] = None, device: str = "cpu",
             workspace: Where = DEFAULT, as_json: AsJson = False) -> None:
    """Which pixels a prediction hangs on: occlusion and integrated gradients of one face, or averaged over the faces of a class."""
    from fercore.evaluation import saliency as looking  # torch takes seconds

    if to:
        looking.new_archive(to)
    if sample is None and class_ is None:
        raise BadInput("What is to be explained", "Neither --sample nor --class is given", "Give a face, or a class to average over")
    place = Workspace(workspace)
    with tqdm(total=100, unit="%", file=sys.stderr, leave=False, bar_format="{percentage:3.0f}% {elapsed}") as bar:
        def progress(share: float) -> None:
            bar.update(round(100 * share) - bar.n)

        how: dict[str, Any] = {"patch": patch, "device": device, "progress": progress}
        found = (looking.of_faces(place, run, [sample], target=class_, **how) if sample
                 else looking.of_class(place, run, str(class_), most=faces, **how))
    occlusion, gradients = found.mean()
    if to:
        found.save(to)
    out = {"run": run, "class": found.target[0], "n": len(found.sample_ids), "patch": patch, "probability": float(found.probability.mean()),
           "probability_of_black": float(found.black.mean()), "gradients_sum": float(gradients.sum()),
           "most_occluded": float(occlusion.max()), "least_occluded": float(occlusion.min())}
    show(out | {"samples": found.sample_ids, "occlusion": occlusion, "gradients": gradients} if as_json else out, as_json)


def _follow(place: Workspace, run_id: str, minutes: float | None, person: Person) -> None:
    end = time.monotonic() + 60 * (minutes or math.inf)
    with tqdm(total=100, desc=run_id, unit="%", file=sys.stderr, bar_format="{desc} {percentage:3.0f}% {postfix}") as bar:
        while (status := jobs.wait(place, run_id, timeout_s=1.0)).state not in jobs.ENDED:
            if time.monotonic() > end:
                jobs.cancel(place, run_id, person)
                say(f"{minutes:g} minutes are over; go on with: fercore runs resume {run_id} --wait")
                end = math.inf
            p = status.progress
            bar.n = round(100 * p.fraction)
            bar.set_postfix_str(f"{status.state}, fold {p.fold + 1}/{p.folds}, epoch {p.epoch}/{p.epochs}, {p.images_per_s:,.0f} images/s")
    if status.error:
        raise FerError(status.error.title, status.error.detail, status.error.remedy)


def _run_row(run: Run, places: dict[str, int]) -> dict[str, Any]:
    return {"run": run.run_id, "state": run.status.state, "place": places.get(run.run_id), "version": run.config.version_id if run.config else None,
            "protocol": run.config.protocol if run.config else None, "device": run.status.device,
            "progress": round(run.status.progress.fraction, 3), "error": run.status.error.title if run.status.error else None}


@running.callback()
def runs(context: typer.Context, workspace: Where = DEFAULT, as_json: AsJson = False) -> None:
    if context.invoked_subcommand is None:
        found = jobs.list_runs(Workspace(workspace))
        places = {run.run_id: place for place, run in enumerate(in_order(found), 1)}
        show(pd.DataFrame([_run_row(r, places) for r in found]).convert_dtypes(), as_json)


@running.command("show")
def runs_show(run: str, workspace: Where = DEFAULT, as_json: AsJson = False) -> None:
    """Status and configuration of a run; with --json also its epochs: the learning curves."""
    place = Workspace(workspace)
    status = jobs.status(place, run)
    found = next(r for r in jobs.list_runs(place) if r.run_id == run)
    show({**status.model_dump(mode="json"), "config": found.config.model_dump(mode="json") if found.config else None,
          **({"epochs": read_metrics(found.path)} if as_json else {})}, as_json)


@running.command("cancel")
def runs_cancel(run: str, workspace: Where = DEFAULT) -> None:
    """Ask a run to stop."""
    jobs.cancel(Workspace(workspace), run, local_lead())
    say(f"{run} stops at its next step")


@running.command("resume")
def runs_resume(run: str, wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end.")] = False,
                minutes: Annotated[float | None, typer.Option(help="With --wait: stop after so long; another resume goes on.")] = None,
                workspace: Where = DEFAULT) -> None:
    """Go on with a dead, failed or cancelled run after its last complete epoch."""
    place = Workspace(workspace)
    jobs.resume(place, run, local_lead())
    say(f"{run} is queued again")
    if wait:
        _follow(place, run, minutes, local_lead())
        say(f"{run} is {jobs.status(place, run).state}")


@app.command()
def evaluate(run: str, version: Annotated[str | None, typer.Option(help="Score the run on this other version, on faces it has not seen; counts as a "
                                                                        "reading of a test set.")] = None,
             mapped: Annotated[list[str] | None, typer.Option("--map", help="RUN_CLASS=VERSION_CLASS, where classes differ; repeatable.")] = None,
             fold: Annotated[int | None, typer.Option(min=1, help="Only this fold of a k-fold run.")] = None,
             workspace: Where = DEFAULT, as_json: AsJson = False) -> None:
    """Metrics with n and 95 % intervals, per class, calibration, confusion matrix, the ceiling by votes, and the k-fold table of a k-fold run."""
    place = Workspace(workspace)
    scored = None
    if mapped and not version:
        raise BadInput("A map needs a version", "--map is given without --version", "Name the version to score the run on, or leave --map out")
    if version:
        with byte_bar(f"{run} on {version}", "faces") as progress:
            scored = evaluation.score(place, run, version, _pairs(mapped or [], "--map"), progress)
    frame = evaluation.require_faces(evaluation.predictions(place, run, version), run)
    classes, reliability = evaluation.classes_of(frame), evaluation.calibration(frame)
    folds = evaluation.kfold_table(frame, classes) if frame["fold"].nunique() > 1 and fold is None else None
    if fold is not None:
        if fold - 1 not in set(frame["fold"]):
            raise BadInput("No such fold", f"{run} has {frame['fold'].nunique()}, not fold {fold}", "Leave --fold out")
        frame = frame[frame["fold"] == fold - 1]
    headline, report, counts = evaluation.summary(frame, classes), evaluation.per_class(frame, classes), evaluation.confusion(frame, classes)
    ceiling = evaluation.ceiling(place, version or read_config(place.runs / run).version_id, frame["sample_id"])
    marked, config = evaluation.marks(place, run), read_config(place.runs / run)
    leaked = evaluation.leak(place, run) if config.protocol == "leaky" else None
    read = None if config.folds or leaked or version else book.reads(place)
    times, told = (read.times_read(config.version_id), read.told_reads(config.version_id)) if read else (None, None)
    if as_json:
        show({"run": run, "version": version, "scored": scored, "marks": marked, "leak": leaked, "test_reads": times, "test_reads_told": told,
              "n": len(frame), "metrics": headline, "classes": report, "calibration": reliability,
              "confusion": {"classes": classes, "counts": counts.to_numpy()}, "folds": folds,
              "beside_published": evaluation.beside_published(folds), "ceiling": ceiling}, True)
        return
    if scored:
        say(f"{run} on {version}: {scored.n:,} faces it has not seen; left out: {scored.seen:,} seen, {scored.unmapped:,} of classes unknown to it; "
            f"it was judged by this version {scored.test_reads} time{'s' * (scored.test_reads != 1)}")
    if marked:
        print(f"{run}: {'; '.join(marked)}")
    if leaked:
        print(f"{leaked.copied.percent()} of the test rows have an identical copy in training; inflation {leaked.inflation.points()}")
    if told:
        print(f"test split; {told}")
    for name, value in headline.items():
        print(f"{name.replace('_', ' '):18} {value.number() if name in ('log_loss', 'ece') else value.percent()}")
    if ceiling:
        print(f"ceiling            {ceiling.oracle.percent()} by always giving the most voted class; one rater alone {ceiling.rater.percent()}")
    print()
    show(pd.DataFrame([{"class": r.class_id, "support": r.support, "precision": r.precision.percent(), "recall": r.recall.percent(),
                        "F1": r.f1.percent()} for r in report]), False)
    print("\nconfusion (rows: true, columns: predicted)")
    print(counts.to_string())
    if folds is not None:
        print("\nfolds")
        show(folds.round(4), False)
        print("\nbeside the published k-fold tables; how their protocols differ: fercore published TABLE")
        show(evaluation.beside_published(folds).drop(columns="differs").round(4), False)


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def _pairs(texts: list[str], option: str) -> dict[str, str]:
    for text in texts:
        if text.count("=") != 1:
            raise BadInput("Not a pair", f"{option} {text!r}", "Write it as LEFT=RIGHT")
    return dict(text.split("=") for text in texts)


@app.command()
def compare(runs: Annotated[list[str], typer.Argument(help="Two finished runs or more.")],
            on: Annotated[str | None, typer.Option(help="Compare them on this version, on which each was trained or scored.")] = None,
            labels: Annotated[list[str] | None, typer.Option(help="Twice: the versions whose labels judge two runs in a 2 x 2 table; default: "
                                                                  "those the runs were trained on, where they differ.")] = None,
            matrices: Annotated[bool, typer.Option("--matrices", help="Also print, for each pair, the difference of the confusion matrices and what "
                                                                      "one run predicts against the other; --json always has them.")] = False,
            workspace: Where = DEFAULT, as_json: AsJson = False) -> None:
    """Runs on exactly the same faces: paired intervals, McNemar, corrected t over folds, Holm over all pairs; labels x models for two runs."""
    place = Workspace(workspace)
    if labels and (len(labels) != 2 or len(runs) != 2):
        raise BadInput("Two versions and two runs are needed", f"{len(labels)} versions, {len(runs)} runs", "Give --labels twice, and two runs")
    if labels and labels[0] == labels[1]:
        raise BadInput("The same labels twice", f"Both times those of {labels[0]}: nothing would change", "Give --labels for two different versions")
    evaluation.require_clean(place, runs)
    frames = {run: evaluation.predictions(place, run, on) for run in runs}
    found = evaluation.compare(frames)
    told = labels or ([read_config(place.runs / run).version_id for run in runs] if on is None else [])
    effect = (evaluation.label_effect(frames[runs[0]], frames[runs[1]], [evaluation.labels_of(place, v) for v in told])
              if len(runs) == 2 and len(set(told)) == 2 else None)
    if as_json:
        show({"n": found.n, "left_out": found.left_out, "marks": {run: evaluation.marks(place, run) for run in runs}, "accuracy": found.accuracy,
              "pairs": found.pairs,
              "matrices": [{"first": p.first, "second": p.second, "classes": list(change.index), "change": change.to_numpy(),
                            "moved": moved.to_numpy(), "disagreements": apart.to_numpy()} for p, (change, moved, apart) in _matrices(found)],
              "labels": effect and {"versions": told, "cells": [[effect.cells[m, v] for v in (0, 1)] for m in (0, 1)],
                                    "relabelled": effect.relabelled, "n": effect.n, "by_labels": effect.by_labels, "by_model": effect.by_model,
                                    "p_labels": effect.p_labels, "p_model": effect.p_model}}, True)
        return
    print(f"{found.n:,} common faces with the same label in all; left out: " + ", ".join(f"{run} {n:,}" for run, n in found.left_out.items()))
    show(pd.DataFrame([{"run": run, "accuracy": value.percent(), "marks": ", ".join(evaluation.marks(place, run))}
                       for run, value in found.accuracy.items()]), False)
    print()
    show(pd.DataFrame([{"pair": f"{p.second} - {p.first}", "accuracy": p.difference.points(), "bootstrap": p.bootstrap.points(),
                        "macro F1": p.macro_f1.points(), "gained": p.gained, "lost": p.lost, "McNemar p": _p(p.p_value), "after Holm": _p(p.p_holm),
                        "folds, corrected t, p unadjusted": p.corrected_t.points() + ("" if p.p_folds is None else f", p {_p(p.p_folds)}")}
                       for p in found.pairs]), False)
    for p, (change, moved, apart) in _matrices(found) if matrices else ():
        print(f"\n{p.second} - {p.first}: faces in each cell (rows: true, columns: predicted)\n{change.to_string()}\n\n"
              f"of these moved: faces that only one of the two puts there\n{moved.to_string()}\n\n"
              f"what {p.first} (rows) and {p.second} (columns) predict\n{apart.to_string()}")
    if effect:
        print(f"\nlabels x models, {effect.n:,} common faces, {effect.relabelled:,} of them with another label")
        show(pd.DataFrame([{"run": run, **{f"labels of {v}": effect.cells[m, i].percent() for i, v in enumerate(told)},
                            "by the labels alone": effect.by_labels[m].points()} for m, run in enumerate(runs)]), False)
        print("by the model alone: " + "; ".join(f"on labels of {v} {effect.by_model[i].points()}, p {_p(effect.p_model[i])}"
                                                 for i, v in enumerate(told)))


def _matrices(found: evaluation.Comparison) -> list[tuple[evaluation.Pair, tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]]]:
    """Of each pair: change of each cell, faces that only one run puts there, what one predicts against the other."""
    of = [(p, found.frames[p.first], found.frames[p.second]) for p in found.pairs]
    return [(p, (*evaluation.confusion_difference(a, b), evaluation.disagreement(a, b))) for p, a, b in of]


@app.command()
def gallery(run: str, view: Annotated[str, typer.Option(help="mistakes: wrong, the surest first; near: wrong with the label second, the smallest "
                                                             "margin first; apart: two runs differ, the surest first.")] = "mistakes",
            other: Annotated[str | None, typer.Option(help="With --view apart: the other run.")] = None,
            label: Annotated[list[str] | None, typer.Option(help="Only faces labelled so; repeatable.")] = None,
            predicted: Annotated[list[str] | None, typer.Option(help="Only faces predicted so by RUN; repeatable.")] = None,
            limit: Annotated[int, typer.Option(min=1, help="How many of them.")] = 24, workspace: Where = DEFAULT, as_json: AsJson = False) -> None:
    """Faces worth a look: confident mistakes, near misses, disagreements of two runs."""
    place = Workspace(workspace)
    chosen = next((v for v in looks.VIEWS if v == view), None)
    if chosen is None:
        raise BadInput("Unknown view", f"{view!r}", f"Choose {', '.join(looks.VIEWS)}")
    if other and chosen != "apart":
        raise BadInput("One run is looked at", f"--view {view} does not read {other}", "Leave --other out, or choose --view apart")
    runs = [run, *([other] if other else [])]
    if other:
        evaluation.require_clean(place, runs)
    frames = [evaluation.predictions(place, one) for one in runs]
    found = looks.faces(chosen, frames[0], frames[1] if other else None, label or [], predicted or [])
    marked = {one: evaluation.marks(place, one) for one in runs}
    if as_json:
        show({"run": run, "view": view, "other": other, "marks": marked, "n": len(frames[0]), "found": len(found), "faces": found.head(limit)}, True)
        return
    for one, told in marked.items():
        if told:
            print(f"{one}: {'; '.join(told)}")
    show(found.head(limit).round(3), False)
    say(f"{len(found):,} such faces among the {len(frames[0]):,} that {run} predicts")


@app.command()
def published(name: Annotated[str | None, typer.Argument(help="Without one, all tables and what does not fit together in them.")] = None,
              as_json: AsJson = False) -> None:
    """What the reproduced systems printed, how their protocol differs from ours, and where a table contradicts itself."""
    if name:
        table = evaluation.benchmark() if name == "s2_related_work" else evaluation.published(name)
        if as_json:
            show({**vars(evaluation.TABLES[name]), "inconsistencies": evaluation.inconsistencies(name), "rows": table}, True)
            return
        show(table, False)
        for text in (evaluation.TABLES[name].differs, *evaluation.inconsistencies(name)):
            say(f"- {text}")
        return
    show(pd.DataFrame([{"table": n, "shows": evaluation.TABLES[n].title, "does not fit": "; ".join(evaluation.inconsistencies(n)) or "-"}
                       for n in evaluation.published_names()]), as_json)


@app.command()
def bias(run: str, by: Annotated[str, typer.Option(help="Comma-separated: age, gender, class, source, brightness, 'filter: NAME', or two as "
                                                        "'age x gender'.")] = "age_band,gender",
         against: Annotated[str | None, typer.Option(help="An earlier run, compared on the same faces.")] = None,
         minimum: Annotated[int, typer.Option(min=1, help="Cells with fewer faces are masked.")] = biasing.MINIMUM,
         contrast: Annotated[str | None, typer.Option(help="ATTRIBUTE:GROUP,GROUP, chosen before looking; tested alone.")] = None,
         tags: Annotated[str | None, typer.Option(help="A version whose tags to use, frozen after more faces were tagged.")] = None,
         html: Annotated[Path | None, typer.Option(help="Write the report as one HTML file.")] = None,
         csv: Annotated[Path | None, typer.Option(help="Write every table as CSV into this folder.")] = None,
         faces: Annotated[bool, typer.Option("--faces", help="Show mistakes of the worst groups in the HTML; else no face is shown.")] = False,
         force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
         sign: Annotated[str | None, typer.Option(help="Sign the report as read and accepted, with a note on what was checked.")] = None,
         signatures: Annotated[bool, typer.Option("--signatures", help="Only list who signed which report of this run.")] = False,
         workspace: Where = DEFAULT, person: As = None, as_json: AsJson = False) -> None:
    """How accuracy, precision, recall and F1 differ between perceived groups: tests, parity, association, power; as text, JSON, CSV or HTML."""
    place = Workspace(workspace)
    if person:
        with opened(workspace) as store:
            actor(store, person).require(Permission.READ_RESULTS)
    found = biasing.examine(place, run, by.split(","), minimum, against=against, declared=biasing.parse_contrast(contrast) if contrast else None,
                            tags_of=tags)
    asked = html or signatures or sign is not None
    report = document.html(found, document.worst_faces(place, found, 12) if faces else ()) if asked else b""
    if html:
        document.write(html, report, force=force)
        say(f"{html}: {len(report):,} bytes, SHA-256 {document.sha256(report)}")
    for path in document.write_tables(csv, found, left_out(place, run, tags), force=force) if csv else ():
        say(str(path))
    if sign is not None:
        with opened(workspace) as store:
            who = actor(store, person)
            say(f"signed {document.sign(store, who, found, report, sign)} as {who.name}, {who.authentication}")
    if signatures:
        with opened(workspace) as store:
            signed = document.signatures(store, run, document.sha256(report)).drop(columns="person_id")
        if signed.empty:
            say(f"nobody has signed a report of {run}")
        show(signed, as_json)
        say(f"what was signed lies in {place.reports}, each as its SHA-256 with .html; the report of these options is {document.sha256(report)}")
        return
    if as_json:
        show(found, True)
        return
    for text in (*document.warnings(found), *document.basis(found), *document.in_short(found)):
        print(text)
    for table in present.texts(found).values():
        print(f"\n{table.title}")
        show(table.rows, False)


@app.command()
def mitigate(run: str, even: Annotated[str, typer.Option(help="age_band, gender, or 'age_band x gender'.")] = "age_band",
             means: Annotated[str, typer.Option(help=f"Comma-separated: {', '.join(mitigation.MEANS)}.")] = "rows,weights",
             build: Annotated[str | None, typer.Option(help="Build the version of this name and train it against the unchanged baseline.")] = None,
             seeds: Annotated[int, typer.Option(min=1, max=20, help="With --build: runs of each.")] = 3,
             outcome: Annotated[bool, typer.Option("--outcome", help="Only show what studies of this run's version came to.")] = False,
             by: Annotated[str, typer.Option(help="With --outcome: groups, as 'fercore bias' takes them.")] = "age_band,gender",
             minimum: Annotated[int, typer.Option(min=1, help="Cells with fewer faces are not weighted; with --outcome: are masked.")]
             = biasing.MINIMUM,
             workspace: Where = DEFAULT, person: As = None, as_json: AsJson = False) -> None:
    """Plan a recipe that evens out who is trained on; nothing is built unless --build says so."""
    place = Workspace(workspace)
    if outcome:
        if person:
            with opened(workspace) as store:
                actor(store, person).require(Permission.READ_RESULTS)
        found = []
        for study in (studies := mitigation.studies(place, run)):
            try:
                found.append(mitigation.outcome(place, study, by.split(","), minimum))
            except FerError as error:
                say(f"{study}: {error}")
        if not studies:
            say(f"no mitigation study of the version of {run}; plan one with: fercore mitigate {run}")
        if as_json:
            show(found, True)
        for each in () if as_json else found:
            table, caption = mitigation.outcome_shown(each)
            print(f"{each.study}: {caption}")
            show(table, False)
        return
    with opened(workspace) as store:
        who = actor(store, person)
        plan = mitigation.propose(store, who, run, even, means.split(","), minimum)
        built = mitigation.build(store, who, plan, build, own_code=True) if build else None
    started = mitigation.launch(place, who, plan, built, range(seeds), own_code=True) if built else None
    if as_json:
        show({"plan": plan.cells, "targets": [t.model_dump(mode="json") for t in plan.targets], "notes": plan.notes(),
              "warning": plan.warning(), "tagged": plan.tagged, "training": plan.training, "version": built,
              "study": started[0] if started else None, "runs": started[1] if started else []}, True)
        return
    show(plan.shown(), False)
    for note in filter(None, (plan.warning(), *plan.notes())):
        say(note)
    if started:
        say(f"built {built}; study {started[0]}: {len(started[1])} runs queued. See fercore mitigate {run} --outcome")


# ---- quality of labels ----------------------------------------------------------------------------------------------------------


@app.command()
def agreement(field: Annotated[str, typer.Option(help="What was asked.")] = "expression",
              campaign: Annotated[str | None, typer.Option(help="Only votes of this campaign (id).")] = None,
              week: Annotated[list[str] | None, typer.Option(help="Only votes of this ISO week, such as 2026-W07; repeatable.")] = None,
              workspace: Where = DEFAULT, person: As = None, as_json: AsJson = False) -> None:
    """Agreement between annotators, known answers met and self-consistency, with n and 95 % intervals."""
    with opened(workspace) as store:
        found = quality.quality(store, actor(store, person), quality.Scope(field, campaign, tuple(week or ())))
    measured = found.agreement
    if as_json:
        show({"field": field, "votes": found.votes, "faces": found.faces, "alpha": measured.alpha, "fleiss": measured.fleiss,
              "fleiss_votes": measured.fleiss_votes, "classes": measured.classes, "fleiss_classes": measured.fleiss_classes,
              "pairs": [{"first": a, "second": b, "kappa": e} for (a, b), e in measured.pairs.items()], "weeks": measured.weeks,
              "annotators": found.annotators}, True)
        return
    print(f"{found.votes:,} votes on {found.faces:,} faces\nKrippendorff's alpha   {measured.alpha.number()}\nFleiss' kappa          "
          f"{measured.fleiss.number()}" + (f", faces with {measured.fleiss_votes} votes" if measured.fleiss_votes else ""))
    tables: dict[str, list[dict[str, Any]]] = {
        "answers": [{"answer": v, "alpha": e.number(), "Fleiss": measured.fleiss_classes[v].number()} for v, e in measured.classes.items()],
        "pairs": [{"first": a, "second": b, "kappa": e.number()} for (a, b), e in measured.pairs.items()],
        "weeks": [{"week": w, "alpha": e.number()} for w, e in measured.weeks.items()],
        "annotators": [{"annotator": a.name, "votes": a.votes, "gold": a.gold.percent(), "repeats": a.consistency.percent()}
                       for a in found.annotators]}
    for title, rows in tables.items():
        print(f"\n{title}")
        show(pd.DataFrame(rows), False)


VotesOf = Annotated[str, typer.Option("--votes", help="imported, annotators or both.")]


def _ballots(workspace: Path, person: str | None, votes: str) -> decision_rules.Ballots:
    chosen = next((v for v in decision_rules.VOTES if v == votes), None)
    if chosen is None:
        raise BadInput("Unknown votes", f"{votes!r} is no kind of votes", f"Choose {', '.join(decision_rules.VOTES)}")
    with opened(workspace) as store:
        return decision_rules.ballots(store, actor(store, person), chosen)


@ruling.command("list")
def rules_list(as_json: AsJson = False) -> None:
    """The rules, what they do and where they come from."""
    show(pd.DataFrame([{"rule": r.rule_id, "name": r.name, "description": r.description, "source": r.source}
                       for r in decision_rules.RULES.values()]), as_json)


@ruling.command("apply")
def rules_apply(rule: str, votes: VotesOf = "imported", workspace: Where = DEFAULT, person: As = None, as_json: AsJson = False) -> None:
    """What a rule makes of every sample: status, and the class where there is one."""
    decision_rules.rule(rule)
    show(decision_rules.decided(_ballots(workspace, person, votes), rule), as_json)


@ruling.command("diff")
def rules_diff(rule_a: str, rule_b: str, votes: VotesOf = "imported",
               cell: Annotated[tuple[str, str] | None, typer.Option(help="List the samples that go from one outcome to another.")] = None,
               workspace: Where = DEFAULT, person: As = None, as_json: AsJson = False) -> None:
    """How many samples go from which outcome of one rule to which of another."""
    decision_rules.rule(rule_a), decision_rules.rule(rule_b)
    held = _ballots(workspace, person, votes)
    if cell:
        show(decision_rules.cell(held, rule_a, rule_b, *cell), as_json)
        return
    table = decision_rules.compared(held, rule_a, rule_b)
    if as_json:
        show({"from": rule_a, "to": rule_b, "votes": votes, "counts": {a: row.to_dict() for a, row in table.iterrows()}}, True)
    else:
        print(table.to_string())


if __name__ == "__main__":
    main()
