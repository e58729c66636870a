"""What a version must pass before it is approved. Each gate passes, fails, or was waived by a data lead with a reason for what it found."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import pandas as pd

from fercore.curation import agreement
from fercore.domain import SPLITS, Permission, Person
from fercore.errors import NotFound
from fercore.schemes import SCHEMES
from fercore.store import Store, labels
from fercore.store import quality as votes_table
from fercore.store import sources as source_table
from fercore.store import versions as table
from fercore.versions import datasheet, files, policy, record
from fercore.versions.document import Labels, restated
from fercore.versions.rows import TAGS, rows_of

SHOWN = 60  # faces that a gate names


@dataclass(frozen=True)
class Gate:
    """One gate; `found` says what was found, `faces` are sample ids behind it, `wanted` what the policy asks for."""

    gate_id: str
    title: str
    result: Literal["pass", "fail", "waived"]
    found: str
    wanted: str = ""
    faces: tuple[str, ...] = ()
    waivable: bool = True
    waived_by: str = ""
    reason: str = ""


@dataclass(frozen=True)
class _Facts:
    """What gates look at: rows are those that the version includes."""

    store: Store
    version_id: str
    rows: pd.DataFrame
    classes: tuple[str, ...]
    scheme_field: str
    labels_by: Labels
    rules: policy.Policy
    acts: record.Acts = field(default_factory=list)


def check(store: Store, actor: Person, version_id: str) -> list[Gate]:
    """All gates. Files and record are checked first; where they do not hold, nothing else is looked at.

    Raises:
        NotAllowed: the actor may not read results. NotFound: no such version.
    """
    actor.require(Permission.READ_RESULTS)
    acts = table.acts(store, version_id)
    intact = [_gate("files", "Files verified", files.verify(store.workspace, version_id, table.one(store, version_id)["manifest_sha256"]),
                    "every hash was computed anew", "the files do not match the version: {}", waivable=False),
              _gate("record", "Record verified", record.problems(store, version_id) + _label_chain(store),
                    "the chains of acts and of label events hold, and the rows are the manifest's", "the record was changed: {}", waivable=False)]
    if intact[0].result == "fail":
        return intact
    card = files.card(store.workspace, version_id)
    rows = rows_of(store.workspace, version_id, "sample_id", "image_id", "source_id", "given_label", "label", "split", "fold", "duplicate_group",
                   "transform", "pixel_id", "exclusion", *TAGS)
    scheme = SCHEMES.get(card["scheme_id"])
    facts = _Facts(store, version_id, rows[rows["exclusion"] == ""], tuple(card["classes"]), scheme.field if scheme else "expression",
                   restated(card["recipe"]).labels, policy.current(store), acts)
    waived = record.waivers(acts)
    return intact + [_waived(store, gate(facts), waived) for gate in _GATES]


def find(checked: list[Gate], gate_id: str) -> Gate:
    """Raises: NotFound."""
    found = next((g for g in checked if g.gate_id == gate_id), None)
    if found is None:
        raise NotFound("Unknown gate", f"{gate_id!r} is none", f"Choose {', '.join(g.gate_id for g in checked)}")
    return found


def _waived(store: Store, gate: Gate, waived: dict[str, dict[str, str]]) -> Gate:
    act = waived.get(gate.gate_id)
    if gate.result != "fail" or act is None or act["found"] != gate.found:
        return gate
    return replace(gate, result="waived", waived_by=act["person_id"], reason=act["reason"])


def _gate(gate_id: str, title: str, problems: list[str], well: str, ill: str = "{}", *, wanted: str = "", faces: tuple[str, ...] = (),
          waivable: bool = True) -> Gate:
    """Passes without problems; `ill` says them."""
    told = "; ".join(problems[:5]) + (f"; and {len(problems) - 5:,} more" if len(problems) > 5 else "")
    return Gate(gate_id, title, "fail" if problems else "pass", ill.format(told) if problems else well, wanted, faces[:SHOWN], waivable)


def _label_chain(store: Store) -> list[str]:
    broken = labels.broken_block(store)
    return [] if broken is None else [f"label events {broken['first_seq']} to {broken['last_seq']}: {broken['what']}"]


def _round_trip(f: _Facts) -> Gate:
    """What `lifecycle.check_round_trip` found; it takes too long for a page."""
    last = record.round_trip(f.acts)
    title, well = "Round trip verified", "exported, imported into another workspace and built there, it has the same manifest hash"
    if last is None:
        return _gate("round_trip", title, ["not checked yet; it is when the version is submitted"], well, waivable=False)
    return _gate("round_trip", title, last, well)


def _apart(f: _Facts) -> Gate:
    problems, faces = [], list[str]()
    for column, name in (("split", "splits"), ("fold", "folds")):
        kinds = f.rows.groupby("duplicate_group")[column].nunique()
        if len(crossing := kinds.index[kinds > 1]):
            problems.append(f"{len(crossing):,} groups of identical faces lie in several {name}")
            faces += f.rows.loc[f.rows["duplicate_group"].isin(crossing), "sample_id"].tolist()
    return _gate("duplicates", "Duplicates stay in one split", problems, "no group of identical faces lies in two splits or folds",
                 faces=tuple(faces))


def _derived(f: _Facts) -> Gate:
    """An edited face belongs to the split of the face it was made from, and of every face that looks like either."""
    edited = f.rows[f.rows["pixel_id"] != ""]
    both = pd.concat([f.rows[["image_id", "split", "sample_id"]],
                      edited[["pixel_id", "split", "sample_id"]].rename(columns={"pixel_id": "image_id"})]).drop_duplicates()
    met = both[both["image_id"].isin(set(edited["image_id"]) | set(edited["pixel_id"]))]
    kinds = met.groupby("image_id")["split"].nunique()
    crossing = met[met["image_id"].isin(kinds.index[kinds > 1])]
    return _gate("derived", "Edited faces stay with their parent", [f"{crossing['sample_id'].nunique():,} faces lie in another split than their "
                 "parent"] if len(crossing) else [], f"{(f.rows['transform'] != '').sum():,} edited faces, all in the split of their parent",
                 faces=tuple(crossing["sample_id"].unique()))


def _below(counts: pd.DataFrame, floor: int) -> list[str]:
    return [f"{name} has {n:,} faces in {split}" for split, column in counts.items() for name, n in column.items() if n < floor]


def _floors(f: _Facts) -> Gate:
    counts = pd.crosstab(f.rows["label"], f.rows["split"]).reindex(index=list(f.classes), columns=list(SPLITS), fill_value=0)
    problems = _below(counts, f.rules.class_floor)
    if f.rules.group_floor:
        for tag in TAGS:
            named = [c.class_id for s in SCHEMES.values() if s.field == tag for c in s.classes]
            groups = pd.crosstab(f.rows[tag], f.rows["split"]).reindex(index=named, columns=["train", "test"], fill_value=0)
            problems += _below(groups, f.rules.group_floor)
    wanted = f"at least {f.rules.class_floor} of each class in each split" + (
        f", {f.rules.group_floor} of each group in training and in test" if f.rules.group_floor else "")
    return _gate("floors", "Classes and groups are large enough", problems, f"the smallest class of a split has n = {counts.to_numpy().min():,}",
                 wanted=wanted)


def _adjudications(f: _Facts) -> Gate:
    images = set(f.rows["image_id"])
    open_ = pd.concat([labels.disputed(f.store, None, name, 0.5, 2**31 - 1)["image_id"] for name in (f.scheme_field, "flag_non_face")])
    here = f.rows[f.rows["image_id"].isin(images & set(open_))]
    n = here["image_id"].nunique()
    return _gate("adjudications", "Disagreements are settled", [f"{n:,} disputed faces wait to be settled"] if n > f.rules.open_adjudications else [],
                 f"{n:,} disputed faces wait to be settled", wanted=f"at most {f.rules.open_adjudications:,}", faces=tuple(here["sample_id"]))


def _agreement(f: _Facts) -> Gate:
    images, rules = set(f.rows["image_id"]), f.rules
    votes = votes_table.votes(f.store, f.scheme_field, None, [])
    gold = votes_table.gold_answers(f.store, f.scheme_field, None, [])
    gold = gold[gold["image_id"].isin(images)]
    problems, told = [], []
    alpha = agreement.krippendorff(votes[votes["image_id"].isin(images)][["image_id", "person_id", "value"]])
    if alpha.low is not None and alpha.n >= rules.masked:
        told.append(f"alpha {alpha.number()}")
        if rules.alpha is not None and alpha.low < rules.alpha:
            problems.append(f"alpha {alpha.number()}, whose lower bound is below {rules.alpha:g}")
    else:
        told.append(f"alpha not judged: {alpha.note or f'{alpha.n:,} faces with two votes or more'}")
    shares = [s for s in agreement.shares(gold["person_id"], gold["hit"]).values() if s.n >= rules.masked]
    told.append(f"{len(shares):,} annotators judged by known answers")
    below = [s for s in shares if rules.gold is not None and s.value is not None and s.value < rules.gold]
    problems += [f"{len(below):,} annotators met fewer than {rules.gold:.0%} of the known answers"] if below else []
    limits = [text.format(limit) for text, limit in (("lower bound of alpha {:g}", rules.alpha), ("{:.0%} of known answers", rules.gold))
              if limit is not None] or ["no limit"]
    return _gate("agreement", "Annotators agree", problems, "; ".join(told), wanted=" and ".join(limits) + f", from {rules.masked} faces on")


def test_edits(store: Store, rows: pd.DataFrame, labels_by: Labels, scheme_field: str) -> pd.DataFrame:
    """Test faces whose label people changed: sample_id, image_id, given_label, label, votes (for the label), settled.

    Args:
        rows: included rows with sample_id, image_id, given_label, label, split.
        labels_by: how the recipe takes labels. What its map makes of the given label, nobody changed, nor what a rule made of imported votes.
    """
    test, renamed = rows[rows["split"] == "test"], labels_by.map
    changed = test[test["label"] != test["given_label"].map(lambda v: renamed.get(v, v))]
    images = changed["image_id"].unique().tolist()
    behind = table.backing(store, images, "expression")
    behind["value"] = behind["value"].map(lambda v: renamed.get(v, v))
    if scheme_field != "expression":  # answers to the scheme's own question, which no map renames
        behind = pd.concat([behind, table.backing(store, images, scheme_field)])
    behind["votes"] = behind["annotators"] + behind["imported"]
    voted = (behind["annotators"] > 0) & (labels_by.take == "current" or labels_by.votes != "imported")
    settled = behind["settled"] | (behind["votes"] == 0)  # by a reviewer, or confirmed in a grid
    by_people = behind.loc[voted | settled & (labels_by.rule in (None, "adjudicated_first@1")), "image_id"]
    changed = changed.loc[changed["image_id"].isin(by_people) & (labels_by.take != "given"), ["sample_id", "image_id", "given_label", "label"]]
    met = behind.groupby(["image_id", "value"])[["votes", "settled"]].agg({"votes": "sum", "settled": "any"}).reindex(
        pd.MultiIndex.from_frame(changed[["image_id", "label"]]))
    # The classes of a rule need not be answers: all votes on a face stand behind what it makes of them.
    votes = changed["image_id"].map(behind.groupby("image_id")["votes"].sum()) if labels_by.rule else met["votes"].fillna(0)
    return changed.assign(votes=votes.to_numpy(int), settled=met["settled"].eq(True).to_numpy())


def _edits(f: _Facts) -> Gate:
    edits = test_edits(f.store, f.rows, f.labels_by, f.scheme_field)
    single = edits[(edits["votes"] < 2) & ~edits["settled"]]
    return _gate("test_edits", "Edited test labels have two votes", [f"{len(single):,} of {len(edits):,} test labels that people changed "
                 "have one vote"] if len(single) else [], f"{len(edits):,} test labels were changed by people, each by two votes or a reviewer",
                 faces=(*single["sample_id"], *edits.loc[~edits.index.isin(single.index), "sample_id"]))


def _provenance(f: _Facts) -> Gate:
    known = source_table.table(f.store).set_index("source_id")
    problems = []
    for source in sorted(set(f.rows["source_id"])):
        if source not in known.index:
            problems.append(f"{source} is not among the sources")
        elif not known.loc[source, "licence"] or pd.isna(known.loc[source, "licence"]):
            problems.append(f"{source} states no licence")
    return _gate("provenance", "Provenance and licences are stated", problems, "every source is known and states its licence",
                 wanted="a licence for every source; what it says, and where the faces came from, is not checked")


def _datasheet(f: _Facts) -> Gate:
    empty = datasheet.unanswered(f.acts)
    return _gate("datasheet", "Datasheet is complete", [datasheet.QUESTIONS[name].title for name in empty], "every question is answered",
                 "not answered: {}", wanted="every question that is marked as needed")


_GATES: tuple[Callable[[_Facts], Gate], ...] = (_round_trip, _apart, _derived, _floors, _adjudications, _agreement, _edits, _provenance, _datasheet)
