"""The tables of an examination: as numbers for CSV, and as text for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import pandas as pd

from fercore.bias.compare import BeforeAfter
from fercore.bias.examine import Examination
from fercore.bias.report import BiasTable, Gap
from fercore.bias.slices import said
from fercore.evaluation.estimate import Estimate
from fercore.schemes import CLASSES

MICRO = "P, R, F1 (micro)"


@dataclass(frozen=True)
class Shown:
    """A table as text, and the sentence below it."""

    title: str
    rows: pd.DataFrame
    caption: str


def numbers(found: Examination) -> dict[str, pd.DataFrame]:
    """name -> table of numbers; an estimate is five columns: NAME, NAME_low, NAME_high, NAME_n, NAME_note. Empty tables are left out."""
    change = found.change
    tables = {"table": found.table.frame(), "gaps": _flat(found.table.gaps), "tests": _flat(found.tests), "contrasts": _flat(found.contrasts),
              "parity": _flat(found.parity), "association": _flat(found.association, "cells"), "power": _flat(found.needs),
              "representation": pd.concat([pd.DataFrame(), *(_flat(a.cells).assign(attribute=a.attribute) for a in found.association)]),
              "change": _flat(change.rows if change else ()),
              "gap_changes": _flat(change.gaps if change else (), "before", "after")}
    return {name: table for name, table in tables.items() if len(table)}


def texts(found: Examination) -> dict[str, Shown]:
    """The same for people, without what is empty, or compares groups of which no face is tagged."""
    names = group_names(found.table)
    least = f"Cells below {found.minimum} faces are masked."
    shown = {
        "table": Shown("Accuracy, precision, recall and F1 by group", pd.DataFrame([{
            "by": said(r.attribute), "group": r.group + " (not averaged)" * (r.kind == "listed"), "faces": r.n, "accuracy": cell(r.accuracy),
            "precision (macro)": cell(r.macro_precision), "recall (macro)": cell(r.macro_recall), "F1 (macro)": cell(r.macro_f1),
            "macro means": r.macro_f1.note if r.macro_f1.value is not None else "", MICRO: cell(r.accuracy), "ECE": cell(r.ece)}
            for r in found.table.rows]).pipe(lambda t: t if t["macro means"].any() else t.drop(columns="macro means")),
            f"Percent with 95 % intervals. Micro precision, recall and F1 equal accuracy. Macro means run over the classes that have "
            f"faces in the group. {least} An average is the unweighted mean over the groups "
            "that are shown, the overall one over those of all perceived attributes; untagged faces are in neither."),
        "tests": Shown("Is there any difference between the groups?", pd.DataFrame([{
            "by": said(t.attribute), "groups": t.groups, "faces": t.n, "p": t.note or p_text(t.p_value), "p (Holm)": p_text(t.p_holm),
            "p (Benjamini-Hochberg)": p_text(t.p_bh)} for t in found.tests]),
            "Permutation test of equal accuracy, whole duplicate groups dealt anew; corrected over the attributes of this table."),
        "contrasts": Shown("Two groups at a time", pd.DataFrame([{
            "by": said(c.attribute), "groups": f"{names[c.attribute, c.first]} minus {names[c.attribute, c.second]}", "faces": c.difference.n,
            "difference": points(c.difference), "p": p_text(c.p_value), "p (Holm)": p_text(c.p_holm), "p (Benjamini-Hochberg)": p_text(c.p_bh)}
            for c in found.contrasts]),
            "One contrast, declared before looking: no correction." if any(c.declared for c in found.contrasts) else
            "Differences of accuracy in points with plain 95 % intervals; p values corrected over all pairs of this table. Crossed attributes "
            "have too many pairs to test."),
        "parity": Shown("One class against the rest", pd.DataFrame([{
            "by": said(r.attribute), "class": class_name(r.class_id) or "Largest", "faces": r.parity.n,
            "of the class": f"{r.true_positive.n:,}" if r.class_id else "all classes", "demographic parity": points(r.parity),
            "true positive rate": points(r.true_positive), "false positive rate": points(r.false_positive),
            "equalised odds": points(r.odds)} for r in found.parity]),
            "Largest difference between the groups, in points, with 95 % bootstrap intervals by duplicate group. A largest difference is never "
            f"below 0 and is above it by chance alone: the interval starts at 0 where groups that are treated alike would show as much. {least}"),
        "association": Shown("Do labels and groups go together in the version?", pd.DataFrame([{
            "by": said(a.attribute), "faces": a.n, "not tagged": f"{a.untagged:,}", "Cramér's V": a.cramers_v.number().partition(", n =")[0]}
            for a in found.association]),
            "Corrected for bias. 0: labels are spread alike over the groups; 1: the group tells the label. Distinct tagged faces of all splits."),
        "representation": Shown("Who is in the version?", pd.DataFrame([{
            "by": said(a.attribute), "group": c.group, "class": class_name(c.class_id), "faces": c.n,
            "of the group": cell(c.of_group), "of the class": cell(c.of_class), "NPMI": c.npmi.note or c.npmi.number().partition(", n =")[0]}
            for a in found.association for c in a.cells]),
            "Normalised pointwise mutual information: above 0 where group and class occur together more often than by chance, -1 to 1."),
        "power": Shown("How many tagged faces are missing?", pd.DataFrame([{
            "by": said(n.attribute), "group": n.group, "faces": n.n, "accuracy of the others": cell(n.reference),
            "needed": f"{n.needed:,}" if n.needed is not None else "" if n.reference.value is None else "no gap of 5 points is possible",
            "missing": "" if n.more is None else f"{n.more:,}", "missing of the others": "" if n.more_others is None else f"{n.more_others:,}",
            "untagged": f"{n.untagged:,}", "to tag": n.note or ("" if n.to_tag is None else f"{n.to_tag:,}"),
            "gap that shows now": "" if n.detectable is None else f"{100 * n.detectable:.1f} points"} for n in found.needs]),
            "For 80 % power at the 5 % level to see a gap of 5 points below the other groups, with as many faces of those. \"To tag\" finds "
            "both, if the groups are as frequent among the untagged as among the tagged.")}
    if found.change:
        shown |= _change(found.change, found)
    for name in ("table", "tests", "contrasts", "parity"):
        shown[name] = replace(shown[name], rows=_tagged(shown[name].rows, found))
    return {name: s for name, s in shown.items() if len(s.rows)}


def _tagged(rows: pd.DataFrame, found: Examination) -> pd.DataFrame:
    """The rows without those on attributes of which no face is tagged; nothing where that is all that was asked for."""
    return rows.iloc[:0] if found.untagged or rows.empty else rows[~rows["by"].isin([said(a) for a in found.bare])]


def _change(change: BeforeAfter, found: Examination) -> dict[str, Shown]:
    assert found.against is not None
    names = group_names(change.after)
    left = (f"{change.n:,} common faces that neither run was trained on, with the same label in both; left out: {change.left_out_before:,} of the "
            f"first and {change.left_out_after:,} of the second run"
            + f", and {found.trained_on_by_other:,} faces of the first that the second was trained on" * (found.trained_on_by_other > 0))
    return {
        "change": Shown("Before and after, on the same faces", pd.DataFrame([{
            "by": said(r.attribute), "group": r.group, "faces": r.n, "before": cell(r.before), "after": cell(r.after), "change": points(r.difference),
            "McNemar p": p_text(r.p_value), "p (Holm)": p_text(r.p_holm)} for r in change.rows]),
            f"Before: {found.against.run_id} · after: {found.scope.run_id} · {left}. Change in points, paired; Holm over the groups."),
        "gap_changes": Shown("Largest gap, before and after", pd.DataFrame([{
            "by": said(g.attribute), "before": gap_text(g.before, names), "after": gap_text(g.after, names),
            "the pair of before moved by": points(g.change)} for g in change.gaps]),
            "The pair was picked for its size, so part of a shrinkage is regression to the mean.")}


def class_name(class_id: str) -> str:
    return CLASSES[class_id].name if class_id in CLASSES else class_id


def cell(estimate: Estimate) -> str:
    """Percent with interval, or why there is none."""
    return estimate.percent().partition(", n =")[0]


def points(estimate: Estimate) -> str:
    return estimate.points().partition(", n =")[0]


def group_names(table: BiasTable) -> dict[tuple[str, str], str]:
    """(attribute, value) -> name of the group."""
    return {(r.attribute, r.value): r.group for r in table.rows}


def gap_text(gap: Gap, names: Mapping[tuple[str, str], str]) -> str:
    """E.g. `+18.3 points [+12.1, +24.5] (Young over Senior)`."""
    pair = [names.get((gap.attribute, value), value) for value in (gap.highest, gap.lowest)]
    return gap.difference.note or f"{points(gap.difference)} ({' over '.join(pair)})"


def p_text(p: float | None) -> str:
    return "" if p is None else f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _flat(rows: Sequence[Any], *left_out: str) -> pd.DataFrame:
    """A row per dataclass, with estimates and gaps spread over columns."""
    out = []
    for row in rows:
        flat: dict[str, Any] = {}
        for field in fields(row):
            value = getattr(row, field.name)
            if field.name in left_out:
                continue
            if isinstance(value, Estimate):
                flat |= {field.name: value.value, f"{field.name}_low": value.low, f"{field.name}_high": value.high, f"{field.name}_n": value.n,
                         f"{field.name}_note": value.note}
            else:
                flat[field.name] = value
        out.append(flat)
    return pd.DataFrame(out)
