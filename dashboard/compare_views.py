"""The views of the Compare page on a pair of runs; each draws what was computed."""

from collections.abc import Iterable
from string import ascii_uppercase

import pandas as pd
import streamlit as st

from dashboard import cache, charts, downloads
from dashboard.components.confusion import confusion_matrix
from dashboard.result_views import some
from fercore import evaluation
from fercore.domain import Person
from fercore.errors import FerError


def points(estimate: evaluation.Estimate) -> str:
    return estimate.points().partition(", n =")[0] + (f" ({estimate.note})" if estimate.value is not None and estimate.note else "")


def p_text(p: float | None) -> str:
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def refusal(error: FerError) -> None:
    """Why there is no table."""
    st.warning(f"**{error.title}.** {error.detail}. {error.remedy}.", icon=":material/difference:")


def letters(run_ids: Iterable[str]) -> dict[str, str]:
    """A short name for each run: A, B, ..."""
    return dict(zip(run_ids, ascii_uppercase, strict=False))


def table(found: evaluation.Comparison) -> None:
    """A row a run, a row a pair, and what may be concluded."""
    short, pairs = letters(found.accuracy), found.pairs
    st.dataframe(pd.DataFrame([{"": short[run], "run": run, "accuracy": value.percent(), "left out": f"{found.left_out[run]:,}"}
                               for run, value in found.accuracy.items()]), hide_index=True)
    downloads.csv("compared-runs", [{"run": run, "left_out": found.left_out[run], "accuracy": value} for run, value in found.accuracy.items()])
    st.dataframe(pd.DataFrame([{"pair": f"{short[p.second]} − {short[p.first]}", "accuracy": points(p.difference), "bootstrap": points(p.bootstrap),
                                "macro F1": points(p.macro_f1), "gained / lost": f"{p.gained:,} / {p.lost:,}", "McNemar p": p_text(p.p_value),
                                "after Holm": p_text(p.p_holm),
                                "over folds": points(p.corrected_t) + ("" if p.p_folds is None else f", p {p_text(p.p_folds)}")}
                               for p in pairs]), hide_index=True)
    downloads.csv("compared-pairs", pairs)
    n = sum(p.p_holm < evaluation.LEVEL for p in pairs)
    st.markdown(f"**{n} of {len(pairs)} pair{'s' * (len(pairs) != 1)} differ{'s' * (n == 1)} at 5 % after Holm.**"
                + ("" if n else " What differs here is within noise."))
    st.caption("Differences in points with paired 95 % intervals (accuracy: Newcombe, and bootstrap by duplicate group; macro F1: recovered from "
               "the classes). McNemar mid-p asks whether these trained "
               "models differ on new faces. Over folds: the corrected t-test of Nadeau and Bengio, whether the ways of training differ; it needs the "
               "same folds, and its p is not adjusted for the number of pairs.")


def labels_and_models(run_ids: tuple[str, str], own: tuple[str, str], on: str | None) -> None:
    """Two label versions x two models; at first the versions that the runs were trained on."""
    known = sorted({*cache.version_table()["version_id"], *own})
    with st.container(horizontal=True):
        versions = tuple(st.selectbox(f"{which} labels", known, index=known.index(version), key=f"labels-{which}-{version}", width=280)
                         for which, version in zip(("First", "Second"), own, strict=True))
    if versions[0] == versions[1]:
        st.info(f"Both times the labels of {versions[0]}. Choose another version to see what its labels alone do.", icon=":material/label:")
        return
    try:
        effect = cache.label_effect(run_ids, versions, on)
    except FerError as error:
        refusal(error)
        return
    st.dataframe(pd.DataFrame([{"model": run, **{f"labels of {v}": effect.cells[m, i].percent() for i, v in enumerate(versions)},
                                "by the labels alone": points(effect.by_labels[m]), "p": p_text(effect.p_labels[m])}
                               for m, run in enumerate(run_ids)]), hide_index=True)
    whole = [{"model": run_ids[m], "labels": versions[v], **vars(cell)} for (m, v), cell in effect.cells.items()]
    by_labels = [{"model": run, "labels": "second - first", **vars(effect.by_labels[m]), "p": effect.p_labels[m]} for m, run in enumerate(run_ids)]
    by_model = [{"model": "second - first", "labels": v, **vars(effect.by_model[i]), "p": effect.p_model[i]} for i, v in enumerate(versions)]
    downloads.csv("labels-and-models", [*whole, *by_labels, *by_model])
    st.markdown("By the model alone: " + "; ".join(f"on labels of {v} **{points(effect.by_model[i])}**, p {p_text(effect.p_model[i])}"
                                                   for i, v in enumerate(versions)))
    st.caption(f"{effect.n:,} faces that both runs predict and both versions label; {effect.relabelled:,} have another label in the second. What "
               "is gained from left to right in a row comes from relabelling the faces it is judged by, not from the model. The four p (McNemar) are "
               "not adjusted for one another.")


def cells(person: Person, pair: evaluation.Pair, first: pd.DataFrame, second: pd.DataFrame, by_label: bool) -> None:
    """The difference of the two confusion matrices (`by_label`) or what one run predicts against the other, and the faces of a cell."""
    left, right = st.columns([5, 3], gap="medium")
    with left:
        if by_label:
            change, moved = evaluation.confusion_difference(first, second)
            opened = confusion_matrix(moved, None, key=f"difference-{pair.first}-{pair.second}", of="all",
                                      texts=change.map(lambda n: f"{n:+,}" if n else "0"))
            st.caption(f"Faces in each cell: {pair.second} minus {pair.first}, n = {pair.n:,}. Colour and n: faces that only one of them puts there. "
                       "Click a cell to open them.")
            downloads.csv(f"difference-{pair.first}-{pair.second}", pd.DataFrame({"change": change.stack(), "moved": moved.stack()}).reset_index())
        else:
            apart = evaluation.disagreement(first, second)
            opened = confusion_matrix(apart, None, key=f"disagreement-{pair.first}-{pair.second}", axes=("first", "second"))
            st.caption(f"What {pair.first} (rows) and {pair.second} (columns) predict, n = {pair.n:,}. Off the diagonal they disagree. Click a cell "
                       "to open its faces.")
            downloads.csv(f"disagreements-{pair.first}-{pair.second}",
                          apart.rename_axis(index="first", columns="second").stack().reset_index(name="faces"))
        if opened:
            st.query_params.update({"a": opened[0], "b": opened[1]})
    with right:
        a, b = st.query_params.get("a"), st.query_params.get("b")
        if not {a, b} <= set(evaluation.classes_of(first)):
            st.info("Choose a cell of the matrix to see its faces here.", icon=":material/touch_app:")
            return
        if by_label:
            inside = (first["label"] == a) & ((first["predicted"] == b) != (second["predicted"] == b))
            what = f"Labelled {charts.name_of(a)}, predicted {charts.name_of(b)} by one run only; shown is what the second says"
        else:
            inside = (first["predicted"] == a) & (second["predicted"] == b)
            what = f"{charts.name_of(a)} by the first, {charts.name_of(b)} by the second run"
        st.markdown(f"**{what}:** {charts.many(int(inside.sum()))}")
        some(person, second[inside].sort_values("confidence", ascending=False), f"cell-{by_label}-{a}-{b}",
             {pair.first: first, pair.second: second}, second=True)
