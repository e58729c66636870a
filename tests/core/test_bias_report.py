"""A run examined from its files: scope, slices, comparison, saved filters, the HTML report with signatures, tagging campaign, mitigation."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import ANNOTATOR, LEAD, REVIEWER, fercore, refused

from fercore import jobs
from fercore.bias import document, examine, mitigation, power, present, saved
from fercore.bias.examine import left_out, pair, unseen
from fercore.domain import Filter, Workspace
from fercore.errors import BadInput, Conflict, FerError, NotAllowed, NotFound
from fercore.evaluation import predictions
from fercore.store import Store
from fercore.versions import files, lifecycle
from fercore.versions.recipe import Recipe

ALL = ("age", "gender", "age x gender", "age x class", "source", "brightness")


@pytest.fixture(scope="module")
def demo(demo_template: Path) -> tuple[Workspace, str, str]:
    """(workspace, hold-out run, k-fold run), for reading only."""
    place = Workspace(demo_template)
    made = json.loads((demo_template / "demo.json").read_text())
    return place, made["runs"][1], made["runs"][0]


@pytest.fixture
def own(demo_workspace: Path) -> tuple[Workspace, str, str]:
    made = json.loads((demo_workspace / "demo.json").read_text())
    return Workspace(demo_workspace), made["runs"][1], made["runs"][0]


def copied(place: Workspace, run: str, name: str, change=lambda frame: frame, **config: object) -> str:
    """Another finished run with the predictions of `run`, changed."""
    folder = place.runs / name
    folder.mkdir()
    for path in (place.runs / run).glob("*.json"):
        (folder / path.name).write_bytes(path.read_bytes())
    told = json.loads((folder / "config.json").read_text()) | {"run_id": name} | config
    (folder / "config.json").write_text(json.dumps(told))
    change(pd.read_parquet(place.runs / run / "predictions.parquet")).to_parquet(folder / "predictions.parquet", index=False)
    return name


def test_scope_says_who_is_tested_and_who_is_left_out(demo):
    place, hold_out, k_fold = demo
    found, folded = (examine(place, run, ALL, 5) for run in (hold_out, k_fold))
    rows = files.manifest(place, found.scope.version_id)
    tagged = rows[rows["exclusion"].isna() & rows["age_band"].notna()]
    assert found.scope.tested == len(predictions(place, hold_out)) and found.scope.synthetic and found.scope.trained_on == 0
    assert found.scope.tags_left_out == {"trained on": (tagged["split"] == "train").sum(), "used to choose the model": (tagged["split"] == "val").sum()}
    assert folded.scope.tags_left_out == {"test was not read": (tagged["split"] == "test").sum()}
    assert found.scope.tagged + sum(found.scope.tags_left_out.values()) == len(tagged) == folded.scope.tagged + (tagged["split"] == "test").sum()
    assert set(left_out(place, hold_out)["why"]) == {"trained on", "used to choose the model"}
    by = [t.attribute for t in found.tests]
    assert by == ["age_band", "gender", "age_band x gender", "age_band x label", "source", "brightness"]
    assert {p.attribute for p in found.parity} <= {"age_band", "gender", "age_band x gender", "brightness"}
    assert next(t for t in found.tests if t.attribute == "source").note == "fewer than two groups to compare"
    bands = [r for r in found.table.rows if r.attribute == "brightness" and r.kind == "group"]
    frame = unseen(place, hold_out)
    assert [r.n for r in bands] == np.histogram(frame["mean"], [0, 80, 112, 144, 176, 256])[0].tolist()
    within = next(r for r in found.table.rows if r.attribute == "age_band x label" and r.accuracy.value is not None)
    assert within.macro_f1.note == "one class"
    assert json.dumps(found.records(), allow_nan=False)


def test_faces_that_the_model_was_trained_on_are_left_out_and_counted(own):
    place, run, _ = own
    half = copied(place, run, "half", lambda f: f.assign(out_of_fold=np.arange(len(f)) % 2 == 0), protocol="leaky")
    found, whole = examine(place, half), examine(place, run)
    assert found.scope.tested + found.scope.trained_on == whole.scope.tested and found.scope.trained_on == whole.scope.tested // 2
    assert any("Leaky, for comparison only" in text for text in document.warnings(found))
    none = copied(place, run, "none", lambda f: f.assign(out_of_fold=False), protocol="leaky")
    with pytest.raises(BadInput, match="No face to test"):
        examine(place, none)


def test_bad_input_is_explained(own):
    place, run, k_fold = own
    version = json.loads((place.runs / run / "config.json").read_text())["version_id"]
    for by, text in ((["race"], "'race'"), (["filter: gone"], "'gone' is not saved.*Save one on the Explore page"),
                     (["age x gender x class"], "crosses 3"), (["age x age_band"], "crossed with itself")):
        with pytest.raises(BadInput, match=text):
            examine(place, run, by)
    copied(place, k_fold, "fewer", lambda f: f[f["fold"] > 0])
    with pytest.raises(BadInput, match="have no prediction"):  # predictions missing for some folds
        examine(place, "fewer")
    path = place.versions / version / "manifest.parquet"
    pd.read_parquet(path).assign(gender=None).to_parquet(path)  # ages alone are tagged
    partly = examine(place, run)
    assert partly.bare == ["gender"] and set(present.texts(partly)["table"].rows["by"]) <= {"perceived age", ""}
    assert examine(place, run, ["gender"]).untagged and "Perceived gender: no tested face has this tag" in " ".join(document.in_short(partly))
    pd.read_parquet(path).assign(age_band=None, gender=None).to_parquet(path)
    bare, other = examine(place, run), examine(place, run, ["brightness", "age"])
    assert bare.untagged and not other.untagged and bare.scope.tagged == other.scope.tagged == 0
    assert set(present.texts(bare)) == {"association", "power"} and {n.untagged for n in bare.needs} == {bare.scope.tested}
    assert "fercore import tags" in document.in_short(bare)[0] and b"No predicted face has a tag" in document.html(bare)
    assert "table" in present.texts(other)
    with Store(place) as store:
        other = lifecycle.freeze(store, LEAD, Recipe(scheme="engaged4@1", labels={"map": {"angry": "engaged"}}), "four")
    rows = files.manifest(place, other)
    made = rows[rows["exclusion"].isna() & (rows["split"] == "test")]
    classes = files.card(place, other)["classes"]
    frame = pd.DataFrame({"sample_id": made["sample_id"], "fold": 0, "split": "test", "label": made["label"], "predicted": classes[0],
                          "probabilities": [[1.0] + [0.0] * (len(classes) - 1)] * len(made), "out_of_fold": True})
    copied(place, run, "four", lambda _: frame, version_id=other, manifest_sha256=files.card(place, other)["manifest_sha256"])
    with pytest.raises(Conflict, match="Runs of different classes"):
        examine(place, run, ["brightness"], against="four")


def test_a_comparison_leaves_out_what_either_was_trained_on(own):
    """The second version trains on some test faces of the first: they are in no comparison, and their number is said."""
    place, run, _ = own
    with Store(place) as store:
        other = lifecycle.freeze(store, LEAD, Recipe(split={"by": "ratios", "ratios": (0.5, 0.2, 0.3)}), "drawn")
    rows = files.manifest(place, other)
    test = rows[rows["exclusion"].isna() & (rows["split"] == "test")]
    classes = files.card(place, other)["classes"]
    frame = pd.DataFrame({"sample_id": test["sample_id"], "fold": 0, "split": "test", "label": test["label"], "predicted": test["label"],
                          "probabilities": [np.eye(len(classes), dtype=np.float32)[classes.index(c)] for c in test["label"]], "out_of_fold": True})
    copied(place, run, "second", lambda _: frame, version_id=other, manifest_sha256=files.card(place, other)["manifest_sha256"])
    found = examine(place, "second", minimum=5, against=run)
    first = predictions(place, run)
    trained = set(rows.loc[rows["exclusion"].isna() & (rows["split"] != "test"), "image_id"])
    own_training = files.manifest(place, found.against.version_id)
    own_training = set(own_training.loc[own_training["exclusion"].isna() & (own_training["split"] != "test"), "image_id"])
    assert found.trained_on_by_other == first["image_id"].isin(trained).sum() > 0
    assert found.change.n == (~first["image_id"].isin(trained)).sum() and found.change.n < len(test)
    (_, before), (_, after), _ = pair(place, run, "second")
    assert not set(before["image_id"]) & trained and not set(after["image_id"]) & own_training
    text = present.texts(found)["change"].caption
    assert f"{found.trained_on_by_other:,} faces of the first that the second was trained on" in text
    holm = [r.p_holm for r in found.change.rows if r.kind == "group" and r.p_value is not None]
    assert all(h >= r.p_value for h, r in zip(holm, (r for r in found.change.rows if r.kind == "group" and r.p_value is not None), strict=True))


def test_tags_of_a_later_version(own):
    place, run, _ = own
    before = examine(place, run)
    with Store(place) as store:
        later = lifecycle.freeze(store, LEAD, Recipe(), "later")
    path = place.versions / later / "manifest.parquet"
    rows = pd.read_parquet(path)
    some = rows.index[rows["sample_id"].isin(unseen(place, run)["sample_id"])][:7]
    rows.loc[some, "age_band"] = "child"
    rows.loc[some[:2], "label"] = "contempt"
    rows.to_parquet(path)
    found = examine(place, run, minimum=1, tags_of=later)
    assert (found.scope.retagged, found.scope.relabelled, found.scope.tested) == (5, 2, before.scope.tested - 2)
    assert next(r.n for r in found.table.rows if r.value == "child") == 5
    assert len(left_out(place, run, later)) == sum(found.scope.tags_left_out.values())
    assert f"--tags {later}" in document.command(found) and any(f"version {later}" in text for text in document.basis(found))


def test_a_saved_filter_is_a_group_and_stays_what_it_is(own):
    place, run, _ = own
    with Store(place) as store:
        with pytest.raises(NotAllowed):
            saved.save(store, ANNOTATOR, "men", Filter(genders=("male",)))
        made = saved.save(store, REVIEWER, "Men only", Filter(genders=("male",)))
        with pytest.raises(Conflict, match="never change"):
            saved.save(store, REVIEWER, "men only", Filter(genders=("female",)))
        for chosen, text in ((Filter(), "Nothing is filtered"), (Filter(sources=("nowhere",)), "No face matches")):
            with pytest.raises(BadInput, match=text):
                saved.save(store, REVIEWER, "x", chosen)
        assert store.rows("SELECT name, faces, person_id FROM saved_filters") == [("men-only", len(made.sample_ids), REVIEWER.person_id)]
    found = examine(place, run, ["gender", "filter: men-only", "filter: men-only x age"], 1)
    inside = {r.group: (r.n, r.accuracy.value) for r in found.table.rows}
    assert inside["in men-only"] == inside["Male"] and inside["in men-only"][0] + inside["all others"][0] == found.scope.tested
    assert found.scope.saved.keys() == {"men-only"} and "filter: men-only" in document.command(found)
    assert next(r.n for r in found.table.rows if r.kind == "average" and r.attribute == "gender") > 0
    with pytest.raises(BadInput, match="Saved are: men-only"):
        examine(place, run, ["filter: man-only"])
    for text in ("{", "[]"):
        (place.slices / "men-only.json").write_text(text)
        with pytest.raises(BadInput, match="A saved filter cannot be read"):
            examine(place, run, ["filter: men-only"])
    assert examine(place, run).scope.saved == {} and saved.names(place) == ["men-only"]
    (place.slices / "left.json").write_text(json.dumps({"name": "left", "said": {}, "sample_ids": ["x"], "saved_by": "", "saved_at": ""}))
    with Store(place) as store, pytest.raises(Conflict, match="holds other faces"):  # of a kill before it was recorded
        saved.save(store, REVIEWER, "left", Filter(genders=("male",)))


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_the_report_is_static_and_the_same_each_time(demo):
    place, run, k_fold = demo
    found = examine(place, run, ALL, 10)
    first, again = document.html(found), document.html(examine(place, run, ALL, 10))
    assert first == again and document.sha256(first) == document.sha256(again) and len(first) < 5_000_000
    assert document.html(examine(place, k_fold)) != document.html(examine(place, run))
    text, parsed = first.decode(), Tags()
    parsed.feed(text)
    names = {tag for tag, _ in parsed.seen}
    assert "svg" in names and not names & {"script", "link", "img", "image", "iframe", "object", "embed", "base", "form"}
    for _, attributes in parsed.seen:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("href", "src", "xlink:href", "action"):
            assert (attributes.get(name) or "#").startswith("#")
    assert not re.search(r"url\((?!#)|@import|\bnan\b|\bNaN\b|None|https?://(?!www\.w3\.org)", text)
    for said in ("prohibited in some jurisdictions", "perceived", "Holm", document.command(found).replace("'", "&#39;"), found.scope.manifest_sha256,
                 found.scope.predictions_sha256, "Synthetic demo faces"):
        assert said in text, said


def test_faces_are_shown_only_when_asked(demo):
    place, run, _ = demo
    found = examine(place, run)
    asked = document.worst_faces(place, found, 3)
    frame = unseen(place, run).set_index("sample_id")
    for gap in found.table.gaps:
        worst = next(r for r in found.table.rows if (r.attribute, r.value) == (gap.attribute, gap.lowest))
        part = frame[(frame[gap.attribute] == gap.lowest) & ~frame["correct"]]
        mine = [f.confidence for f in asked if f.group == worst.group]
        assert mine == pytest.approx(part["confidence"].nlargest(3).tolist())
    report, plain = document.html(found, asked).decode(), document.html(found).decode()
    assert report.count("<img ") == len(asked) > 0 and "--faces" in report and "<img" not in plain and "data:image" not in plain
    assert report == document.html(found, document.worst_faces(place, found, 3)).decode()


def test_texts_of_people_are_escaped(own):
    place, run, _ = own
    version = json.loads((place.runs / run / "config.json").read_text())["version_id"]
    path = place.versions / version / "manifest.parquet"
    pd.read_parquet(path).assign(source_id="<script>alert(1)</script>$x^2$").to_parquet(path)
    text = document.html(examine(place, run, ["source"])).decode()
    assert "<script" not in text and "&lt;script&gt;alert(1)&lt;/script&gt;$x^2$" in text


def test_a_signature_is_bound_to_the_bytes_and_stays(own):
    place, run, _ = own
    found = examine(place, run)
    made = document.html(found)
    with Store(place) as store:
        with pytest.raises(NotAllowed):
            document.sign(store, ANNOTATOR, found, made, "fine")
        for note in ("", " \n", "x" * 1001):
            with pytest.raises(BadInput, match="A note is needed"):
                document.sign(store, REVIEWER, found, made, note)
        sha = document.sign(store, REVIEWER, found, made, "Checked the\ngaps")
        with pytest.raises(Conflict, match="already"):
            document.sign(store, REVIEWER, found, made, "again")
        document.sign(store, LEAD, found, made, "Seen")
        other = examine(place, run, ["gender"], 5)
        document.sign(store, LEAD, other, document.html(other), "Gender alone")
        signed = document.signatures(store, run, sha)
        assert signed["note"].tolist() == ["Checked the gaps", "Seen", "Gender alone"]
        assert signed["authentication"].unique().tolist() == ["local, not authenticated"]
        assert signed["this_report"].tolist() == [True, True, False] and set(signed["kept"]) == {"yes"}
        assert signed["command"].tolist() == [document.command(found)] * 2 + [document.command(other)]
        assert document.signed(place, sha) == made and not list(place.reports.glob(".*"))
        assert not document.signatures(store, run, document.sha256(made + b" "))["this_report"].any() and document.signatures(store, "other", sha).empty
        path = place.reports / f"{sha}.html"
        path.write_bytes(made + b" ")
        with pytest.raises(Conflict, match="was changed"):
            document.signed(place, sha)
        path.unlink()
        with pytest.raises(NotFound, match="not kept"):
            document.signed(place, sha)
        assert document.signatures(store, run, sha)["kept"].tolist() == ["The signed report was not kept"] * 2 + ["yes"]
        assert store.rows("SELECT report_sha256, run_id, manifest_sha256 FROM report_signatures LIMIT 1") == [
            (sha, run, found.scope.manifest_sha256)]
    assert document.html(examine(place, run)) == made
    assert found.scope.code_version == json.loads((place.runs / run / "config.json").read_text())["code_version"] and (
        found.scope.code_version.encode() in made)


def test_the_commands_ask_who_reads_and_list_what_was_signed(own):
    place, run, _ = own
    for args in (("bias", run), ("mitigate", run), ("mitigate", run, "--outcome")):
        refused(fercore(*args, "--as", "kim-demo", workspace=place.root), "may not read results")
    assert "nobody has signed a report" in fercore("bias", run, "--signatures", workspace=place.root).stderr
    assert fercore("bias", run, "--sign", "The gaps", "--contrast", "Perceived gender:MALE,Female", workspace=place.root).returncode == 0
    row, = json.loads(fercore("bias", run, "--signatures", "--json", workspace=place.root).stdout)
    assert not row["this_report"] and row["note"] == "The gaps" and "gender:male,female" in row["command"]
    kept = (place.reports / f"{row['report_sha256']}.html").read_bytes()
    assert document.sha256(kept) == row["report_sha256"] and b"male,female" in kept
    row, = json.loads(fercore("bias", run, "--signatures", "--contrast", "gender:male,female", "--json", workspace=place.root).stdout)
    assert row["this_report"]


def test_files_are_not_overwritten(demo, tmp_path: Path):
    place, run, _ = demo
    found = examine(place, run)
    path = tmp_path / "new" / "report.html"
    document.write(path, b"one")
    with pytest.raises(Conflict, match="--force"):
        document.write(path, b"two")
    assert path.read_bytes() == b"one"
    document.write(path, b"two", force=True)
    assert path.read_bytes() == b"two"
    written = document.write_tables(tmp_path / "csv", found, left_out(place, run))
    names = {p.name.removeprefix(f"{run}-").removesuffix(".csv") for p in written}
    assert names == {"table", "gaps", "tests", "contrasts", "parity", "association", "representation", "power", "left_out"}
    assert len(pd.read_csv(tmp_path / "csv" / f"{run}-left_out.csv")) == sum(found.scope.tags_left_out.values())
    table = pd.read_csv(tmp_path / "csv" / f"{run}-table.csv")
    male = table[table["group"] == "Male"].iloc[0]
    assert male["accuracy"] == pytest.approx(next(r.accuracy.value for r in found.table.rows if r.value == "male")) == male["micro_f1"]
    with pytest.raises(Conflict):
        document.write_tables(tmp_path / "csv", found, left_out(place, run))
    for wrong in (lambda: document.write(tmp_path / "csv", b"x", force=True), lambda: document.write_tables(path, found, left_out(place, run))):
        with pytest.raises(BadInput, match="cannot be written"):
            wrong()
    assert not list(tmp_path.rglob(".*.tmp"))


def test_every_leaky_or_exploratory_figure_is_marked(own):
    place, run, _ = own
    copied(place, run, "leaky", protocol="leaky", balance="ros", exploratory=True)
    found = examine(place, "leaky")
    assert list(found.scope.tags_left_out) == ["not in the leaky run's own test rows, or known to its model"] and not {
        "trained on", "used to choose the model"} & set(left_out(place, "leaky")["why"])
    assert "split off after balancing" in document.basis(found)[0] and sum("this run" in t for t in document.warnings(found)) == 2
    assert sum("the earlier run" in t for t in document.warnings(examine(place, run, against="leaky"))) == 2
    with Store(place) as store, pytest.raises(BadInput, match="for comparison only"):
        mitigation.propose(store, LEAD, "leaky")


def test_a_campaign_tags_what_is_missing(own):
    place, run, _ = own
    with Store(place) as store:
        frame = unseen(place, run)
        need = next(n for n in examine(place, run).needs if n.more)
        bare = power.candidates(frame, "age_band")
        assert set(bare) == set(frame.loc[frame["age_band"].isna(), "image_id"]) and bare == power.candidates(frame.sample(frac=1), "age_band")
        assert power.candidates(frame, "age_band", 3) == bare[:3]
        with pytest.raises(NotAllowed):
            power.open_campaign(store, ANNOTATOR, run, need, bare)
        with pytest.raises(BadInput, match="No face to tag"):
            power.open_campaign(store, REVIEWER, run, need, [])
        made = power.open_campaign(store, REVIEWER, run, need, bare)
        spec = json.loads(store.value("SELECT spec FROM campaigns WHERE campaign_id = $id", {"id": made}))
        assert bare and spec["images"] == bare and spec["ask"] == ["age_band@1", "gender@1"]


def test_a_plan_evens_out_training_with_candidates_weights_and_caps(own):
    place, run, _ = own
    version = json.loads((place.runs / run / "config.json").read_text())["version_id"]
    rows = files.manifest(place, version)
    train = rows[rows["exclusion"].isna() & (rows["split"] == "train")]
    with Store(place) as store:
        # Half of the source becomes another one, from which the version takes nothing: candidates.
        spare = set(train.loc[train["age_band"] == "senior", "sample_id"].iloc[::2])
        with store.write("samples") as w:
            w.run("INSERT INTO facts.import (import_id, source_id, kind, name, rows_added, rows_rejected, recorded_at) "
                  "VALUES ('more', 'more', 'fer2013', 'more', 0, 0, now()::TIMESTAMP)")
            w.run("UPDATE facts.sample SET source_id = 'more' WHERE sample_id IN (SELECT unnest($ids))", {"ids": sorted(spare)})
        base = lifecycle.freeze(store, LEAD, Recipe(sources=("demo",)), "base")
        copied(place, run, "on-base", version_id=base, manifest_sha256=files.card(place, base)["manifest_sha256"], epochs=1)
        with pytest.raises(NotAllowed, match="may not read results"):
            mitigation.propose(store, ANNOTATOR, "on-base", "age")
        strict = mitigation.propose(store, LEAD, "on-base", "age", ("weights",), minimum=5)
        small = [c for c in strict.cells if c.here < min(5, c.wanted)]
        assert small and all(c.weight == 1 and c.note == f"n = {c.here} < 5" and c.missing == c.wanted - c.here for c in small)
        assert any(c.weight > 1 for c in strict.cells) and not any(c.note for c in strict.cells if c.here >= 5)
        plan = mitigation.propose(store, LEAD, "on-base", "age", ("rows", "weights", "caps"), minimum=1)
        held = files.manifest(place, base)
        held = held[held["exclusion"].isna() & (held["split"] == "train")]
        for cell in plan.cells:
            assert cell.here == ((held["age_band"] == cell.value) & (held["label"] == cell.class_id)).sum()
            assert cell.added <= cell.available and cell.missing >= 0 and 1 <= cell.weight <= mitigation.HEAVIEST
        assert (plan.tagged, plan.training) == (sum(c.here for c in plan.cells), len(held)) and plan.warning() == ""
        assert plan.notes()[0].startswith(f"{plan.tagged:,} of {len(held):,} training faces are tagged")
        assert "Fewer than 20 % of the training faces are tagged" in replace(plan, tagged=len(held) // 5 - 1).warning()
        seniors = [c for c in plan.cells if c.value == "senior"]
        assert sum(c.available for c in seniors) > 0 and sum(c.added for c in seniors) > 0 and plan.candidate_sources == ("more",)
        with pytest.raises(NotAllowed):
            mitigation.build(store, REVIEWER, plan, "even")
        built = mitigation.build(store, LEAD, plan, "even")
        new = files.manifest(place, built)
        new = new[new["exclusion"].isna()]
        trained = new[new["split"] == "train"]
        for cell in plan.cells:
            inside = trained[(trained["age_band"] == cell.value) & (trained["label"] == cell.class_id)]
            assert len(inside) == cell.here + cell.added - cell.removed
            if len(inside) and cell.weight > 1:
                assert inside["weight"].sum() == pytest.approx(round(len(inside) * cell.weight), abs=0.01)
        assert set(new.loc[new["split"] == "test", "sample_id"]) == set(
            files.manifest(place, base).loc[lambda d: d["exclusion"].isna() & (d["split"] == "test"), "sample_id"])
        copied(place, run, "on-even", version_id=built, manifest_sha256=files.card(place, built)["manifest_sha256"])
        again = mitigation.propose(store, LEAD, "on-even", "age", ("rows",))  # candidates that are in already do not count twice
        assert again.recipe.sources == ("demo",) and [c.here for c in again.cells] == [c.here + c.added - c.removed for c in plan.cells]
        assert sum(c.available for c in again.cells) == sum(c.available - c.added for c in plan.cells)
        for means, text in (((), "changes nothing"), (("magic",), "'magic'")):
            with pytest.raises(BadInput, match=text):
                mitigation.build(store, LEAD, mitigation.propose(store, LEAD, "on-base", "age", means), "none")
        with pytest.raises(BadInput, match="'source'"):
            mitigation.propose(store, LEAD, "on-base", "source")


def test_the_outcome_of_a_study_is_on_faces_of_neither_training(own):
    """Two seeds, the second version right on all: the change is what the first had wrong, by hand."""
    place, run, _ = own
    with Store(place) as store:
        after = lifecycle.freeze(store, LEAD, Recipe(seed=1), "after")
    sha, rng = files.card(place, after)["manifest_sha256"], np.random.default_rng(0)
    classes = files.card(place, after)["classes"]

    def hit(frame: pd.DataFrame, which: np.ndarray) -> pd.DataFrame:
        other = np.array([classes[(classes.index(c) + 1) % len(classes)] for c in frame["label"]])
        made = np.where(which, frame["label"], other)
        return frame.assign(predicted=made, probabilities=[np.eye(len(classes), dtype=np.float32)[classes.index(c)] for c in made])

    n = len(predictions(place, run))
    right = {seed: rng.random(n) < 0.6 for seed in (0, 1)}
    for seed in (0, 1):
        copied(place, run, f"before-{seed}", lambda f, s=seed: hit(f, right[s]), seed=seed, study="mitigation-after-v1")
        copied(place, run, f"after-{seed}", lambda f: hit(f, np.ones(len(f), bool)), seed=seed, study="mitigation-after-v1", version_id=after,
               manifest_sha256=sha)
    copied(place, run, "after-2", seed=2, study="mitigation-after-v1", version_id=after, manifest_sha256=sha)  # no baseline: not in the outcome
    assert mitigation.studies(place, run) == ["mitigation-after-v1"]
    found = mitigation.outcome(place, "mitigation-after-v1", minimum=5)
    everyone = found.rows[0]
    assert found.seeds == (0, 1) and found.after_version == after != found.before_version
    assert (everyone.n, everyone.after.value) == (n, 1.0) and everyone.change.value == pytest.approx(np.mean([1 - r.mean() for r in right.values()]))
    assert everyone.sd == pytest.approx(np.std([right[0].mean(), right[1].mean()], ddof=1)) and everyone.p_value < 0.001
    assert everyone.before.value == pytest.approx(np.mean(list(right.values()))) and everyone.before.low < everyone.before.value < everyone.before.high
    assert everyone.change.low < everyone.change.value < everyone.change.high
    male = next(r for r in found.rows if r.group == "Male")
    assert male.n == (unseen(place, run)["gender"] == "male").sum() and male.p_holm >= male.p_value
    table, caption = mitigation.outcome_shown(found)
    assert len(table) == len(found.rows) and f"{n:,} faces" in caption and not found.exploratory
    assert mitigation.outcome_shown(replace(found, exploratory=True))[1].startswith("Exploratory")
    for name in ("after-0", "after-1"):
        status = place.runs / name / "status.json"
        status.write_text(status.read_text().replace('"finished"', '"cancelled"'))
    with pytest.raises(FerError, match="has both its runs"):
        mitigation.outcome(place, "mitigation-after-v1")


def test_the_change_over_seeds_keeps_its_level():
    """Two recipes of one skill, whose seeds differ by an sd of 0 to 2 points: rejected in at most 7 % with three seeds or more, covered as often."""
    rng = np.random.default_rng(1)
    for k, sd in ((1, 0), (3, 0), (3, 0.01), (3, 0.02), (5, 0.02)):
        face = rng.normal(size=(400, 1, 1, 600))  # what makes a face hard for all runs
        skill = 0.67 + rng.normal(0, sd / 0.32, (400, 2, k, 1)) * (k > 1)
        hits = 0.8 * face + 0.6 * rng.normal(size=(400, 2, k, 600)) < skill
        found = [mitigation._moved(*h.astype(float), np.arange(600)) for h in hits]
        assert np.mean([p < 0.05 for _, _, p in found]) <= 0.07 and np.mean([e.low <= 0 <= e.high for e, _, _ in found]) >= 0.93, (k, sd)


def test_a_change_without_variance_is_not_certain():
    none, ones = np.zeros((3, 100)), np.ones((3, 100))
    (same, _, p), (all_better, _, p_better) = (mitigation._moved(none, after, np.arange(100)) for after in (none, ones))
    assert same.low == -same.high and 0.015 < same.high < 0.04 and p == 1
    assert 0.95 < all_better.low < all_better.value == all_better.high == 1 and p_better < 0.001
    fewer, _, _ = mitigation._moved(none, none, np.repeat(np.arange(25), 4))
    assert fewer.high > 3 * same.high


def test_a_study_repeats_the_settings_of_the_run(own, monkeypatch: pytest.MonkeyPatch):
    place, run, _ = own
    monkeypatch.setattr(jobs.queue, "push", lambda *_, **__: None)  # what is queued is looked at, not trained
    with Store(place) as store:
        plan = mitigation.propose(store, LEAD, run, "gender", ("weights", "caps"))
        built = mitigation.build(store, LEAD, plan, "even")
    name, started = mitigation.launch(place, LEAD, plan, built, (3, 4))
    configs = [r.config for r in jobs.rundir.list_runs(place.runs) if r.config and r.config.study == name]
    assert len(started) == 4 == len(configs) and {(c.version_id, c.seed) for c in configs} == {(v, s) for v in (plan.version_id, built) for s in (3, 4)}
    same = [c.model_dump(exclude={"version_id", "seed", "sample_weights", "exploratory", "run_id", "manifest_sha256", "created_at"}) for c in configs]
    assert all(s == same[0] for s in same) and {c.sample_weights for c in configs if c.version_id == built} == {True}
    assert mitigation.launch(place, LEAD, plan, built, (3, 4))[1] == []
    versions = len(files.listed(place))
    copied(place, run, "own", model="mine:Net")
    with Store(place) as store, pytest.raises(NotAllowed, match="names code or a file"):
        mitigation.build(store, LEAD, replace(plan, run_id="own"), "even")
    assert len(files.listed(place)) == versions  # nothing was frozen that no study could use
    with pytest.raises(NotAllowed):
        mitigation.launch(place, REVIEWER, plan, built, (9,))
