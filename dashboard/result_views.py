"""The views of the Results page; each draws what was computed."""

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from dashboard import cache, charts, downloads, faces, tasks
from dashboard.components.confusion import confusion_matrix
from fercore import evaluation
from fercore.domain import Permission, Person
from fercore.evaluation import Estimate
from fercore.models import spec_of
from fercore.training.rundir import Run, read_metrics

SHOWN = 60
_METRICS = {"accuracy": "Accuracy (top-1)", "top_2_accuracy": "Top-2 accuracy", "top_3_accuracy": "Top-3 accuracy",
            "balanced_accuracy": "Balanced (weighted) accuracy", "micro_f1": "Micro precision, recall and F1",
            "macro_precision": "Macro precision", "macro_recall": "Macro recall", "macro_f1": "Macro F1",
            "weighted_precision": "Weighted precision", "weighted_recall": "Weighted recall", "weighted_f1": "Weighted F1",
            "log_loss": "Log loss", "ece": "Expected calibration error"}
_SAME = {"top1": "accuracy", "top2": "top_2_accuracy", "top3": "top_3_accuracy", "precision": "macro_precision", "recall": "macro_recall",
         "f1": "macro_f1", "loss": "log_loss"}  # column of a published table -> ours


def score_elsewhere(person: Person, run_id: str, own: str) -> None:
    """A version to score the run on, beside the page; for who may launch runs, as it counts as a reading of the test faces."""
    versions = [v for v in cache.version_table()["version_id"] if v != own]
    if not versions or not person.may(Permission.TRAIN) or tasks.running(f"score-{run_id}"):
        return
    with st.popover("Score on another version", icon=":material/add_chart:"):
        version = st.selectbox("Version", versions, key=f"score-on-{run_id}")
        st.caption("Faces that the run has seen, with their duplicates, are left out. This counts as a reading of the version's test faces.")
        if st.button("Score", type="primary"):
            root = cache.workspace()
            tasks.start(f"score-{run_id}", f"Scoring {run_id} on {version}", person, lambda progress: evaluation.score(
                root, run_id, version, progress=lambda done, total: progress(f"{done:,} of {total:,} faces", done / total)), Permission.TRAIN)
            st.rerun()


def scoring(person: Person, run_id: str) -> None:
    """A scoring under way, or what came of one."""
    if person.may(Permission.TRAIN) and (task := tasks.shown(f"score-{run_id}")):
        tasks.dismiss(f"score-{run_id}")
        if task.result:
            st.success(f"Scored on {task.result.version_id}: {task.result.n:,} faces. Choose it under “Scored on”.", icon=":material/add_chart:")


def headline(metrics: dict[str, Estimate]) -> None:
    """Four figures with interval and n."""
    names = {"accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy", "macro_f1": "Macro F1", "top_2_accuracy": "Top-2 accuracy"}
    for column, (key, label) in zip(st.columns(len(names)), names.items(), strict=True):
        value = metrics[key]
        with column.container(border=True, gap="xxsmall"):
            st.metric(label, "–" if value.value is None else f"{value.value * 100:.1f} %")
            st.caption(value.percent().partition(" % ")[2] or value.percent())


def ceiling(found: evaluation.Ceiling | None) -> None:
    """What the votes allow; nothing where the version has none."""
    if found is None or not found.n:
        return
    low, high = found.against_next.percent().partition(" [")[0], found.against_rater.percent().partition(" [")[0]
    human, spread = (100 * x for x in evaluation.HUMAN)
    st.caption(f"**Ceiling by the votes:** always giving the most voted class fits {found.oracle.percent()} of these labels; a run above that has "
               f"learnt how the labels differ from the votes. Judged by one more rater, the best possible lies between {low} and {high}; one rater "
               f"alone fits {found.rater.percent()} of the labels. People on FER-2013: {human:.0f} ± {spread:.0f} % (Goodfellow et al. 2013).")


def confusion(person: Person, name: str, run_id: str, frame: pd.DataFrame, counts: pd.DataFrame) -> None:
    """The matrix, and the faces of the cell that the URL names."""
    classes = list(counts.index)
    left, right = st.columns([5, 3], gap="medium")
    with left:
        unit = st.segmented_control("Cells show", ["counts", "% of true class", "% of predicted class"], default="counts", required=True, key="unit",
                                    bind="query-params", label_visibility="collapsed")
        shares = None if unit == "counts" else evaluation.normalise(counts, "row" if unit == "% of true class" else "column")
        opened = confusion_matrix(counts, shares, key=f"confusion-{name}")
        if opened:
            st.query_params.update({"true": opened[0], "predicted": opened[1]})  # at once: one step back in the browser
        st.caption(f"n = {len(frame):,} faces. Colour is the share of the true class. Click a cell to open its faces.")
        downloads.csv(f"confusion-{name}", counts.rename_axis("label").reset_index())
    with right:
        true, predicted = st.query_params.get("true"), st.query_params.get("predicted")
        if true in classes and predicted in classes:
            hits = frame[(frame["label"] == true) & (frame["predicted"] == predicted)].sort_values("confidence", ascending=False)
            st.markdown(f"**Labelled {charts.name_of(true)}, predicted {charts.name_of(predicted)}:** {charts.many(len(hits))}"
                        + (f", the {SHOWN} most confident" if len(hits) > SHOWN else ", most confident first"))
            some(person, hits, f"cell-{true}-{predicted}", {run_id: frame})
        else:
            st.info("Choose a cell of the matrix to see its faces here.", icon=":material/touch_app:")


def some(person: Person, hits: pd.DataFrame, key: str, predicted: Mapping[str, pd.DataFrame], second: bool = False) -> None:
    """The first faces of `hits`, with the probability of what was predicted and, asked for, its class."""
    shown = hits.head(SHOWN)
    faces.wall(cache.by_ids(person, tuple(shown["sample_id"])), key=key, scale=1,
               notes={r.sample_id: f"{r.confidence * 100:.0f} %" for r in shown.itertuples()},
               second=dict(zip(shown["sample_id"], shown["predicted"], strict=True)) if second else None, predicted=predicted)


def metrics(name: str, found: dict[str, Estimate]) -> None:
    """Every metric of the run, with interval and n."""
    rows = []
    for key, label in _METRICS.items():
        value = found[key]
        plain = value.number() if key in ("log_loss", "ece") else value.percent()
        shown, _, rest = plain.partition(" [")
        rows.append({"metric": label, "value": shown if rest else "–", "95 % interval": f"[{rest.partition(']')[0]}]" if rest else plain,
                     "faces": value.n, "note": value.note if rest else ""})
    table = pd.DataFrame(rows)
    st.dataframe(table if table["note"].any() else table.drop(columns="note"), hide_index=True, height="content",
                 column_config={"faces": st.column_config.NumberColumn(format="localized")})
    st.caption("Accuracies: Wilson intervals; macro means: recovered from those of their classes (MOVER); weighted means and calibration error: "
               "bootstrap; log loss: normal. All by duplicate group: copies of a face do not count as more faces. With one "
               "label and one prediction a face, micro figures and weighted recall are accuracy. Macro means run over the classes that have faces.")
    downloads.csv(f"metrics-{name}", [{"metric": key, **vars(value)} for key, value in found.items()])


def classes(name: str, report: list[evaluation.ClassReport]) -> None:
    """Precision, recall and F1 of each class."""
    table = pd.DataFrame([{"class": charts.name_of(r.class_id), "faces": r.support, "precision": r.precision.percent(), "recall": r.recall.percent(),
                           "F1": r.f1.percent()} for r in report])
    st.dataframe(table, hide_index=True)
    downloads.csv(f"classes-{name}", report)
    shown = [r for r in report if r.recall.value is not None]
    if absent := [charts.name_of(r.class_id) for r in report if r.recall.value is None]:
        st.caption(f"No face here is labelled {', '.join(absent)}: there is no recall to show.")
    charts.draw(charts.whiskers([charts.name_of(r.class_id) for r in shown], [r.recall for r in shown],
                                [charts.colour_of(r.class_id) for r in shown], "recall, 95 % interval"), "recall", height=320)


def calibration(name: str, found: evaluation.Calibration) -> None:
    """Reliability diagram and calibration error."""
    charts.draw(charts.reliability(found.bins), "reliability", height=360)
    floor = "" if found.floor is None else f" A perfectly calibrated run would show about {found.floor:.3f} on so many faces."
    st.caption(f"Expected calibration error {found.ece.number()}, over {len(found.bins)} equally wide bins of the probability of the predicted "
               f"class.{floor} Points below the dotted line: more sure than right.")
    downloads.csv(f"calibration-{name}", found.bins)


def folds(name: str, frame: pd.DataFrame, is_kfold: bool) -> None:
    """The k-fold table in the systems' form, and the published ones beside it."""
    ours = None
    if not is_kfold:
        st.info("There are no folds here: a hold-out run, or a run scored on another version. Launch one with folds on the Train page.",
                icon=":material/table_rows:")
    else:
        ours = evaluation.kfold_table(frame, evaluation.classes_of(frame))
        interval = [f"[{low}, {high}]" if low != "–" else "–" for low, high in zip(_percent(ours["accuracy_low"]), _percent(ours["accuracy_high"]),
                                                                                    strict=True)]
        shown = {"fold": ours["fold"], "faces": ours["n"].map(lambda n: "–" if pd.isna(n) else f"{n:,}"), "accuracy": _percent(ours["accuracy"]),
                 "95 % interval": interval, **{c.replace("_", " "): _percent(ours[c]) for c in
                                               ("macro_precision", "macro_recall", "macro_f1", "micro_precision", "micro_recall", "micro_f1")}}
        st.dataframe(pd.DataFrame(shown), hide_index=True, height="content", column_config={"fold": st.column_config.TextColumn(width=130)})
        st.caption(f"Percent. All folds together: accuracy {evaluation.pooled_accuracy(frame).percent()}. Micro precision, recall and F1 "
                   "equal accuracy. The standard deviation is over folds; folds share training faces, so it is no standard error.")
        downloads.csv(f"folds-{name}", ours)
    st.markdown("**Published k-fold tables, for reference**")
    beside = evaluation.beside_published(ours)
    st.dataframe(beside.drop(columns="differs").assign(**{c: _percent(beside[c]) for c in ("accuracy", "sd", "macro_precision", "macro_recall",
                                                                                          "macro_f1")})
                 .rename(columns=lambda c: "sd over folds" if c == "sd" else c.replace("_", " ")), hide_index=True)
    st.caption("Percent, the means of the printed folds. None prints an interval, and none is comparable face by face. They differ from ours: "
               + "; ".join(f"{table[:2]}: {differs}" for table, differs in zip(beside["table"], beside["differs"], strict=True) if differs) + ".")
    downloads.csv(f"folds-beside-published-{name}", beside)
    for table in ("s0_kfold_before", "s0_kfold_after", "s1_kfold_macro"):
        with st.expander(evaluation.TABLES[table].title):
            _printed(table)


def curves(run: Run) -> None:
    """Loss and accuracy by epoch."""
    epochs = pd.DataFrame(read_metrics(run.path))
    if epochs.empty:
        st.info("An ensemble is not trained itself: open the curves of its members.", icon=":material/show_chart:")
        return
    for column, quantity in zip(st.columns(2), ("loss", "accuracy"), strict=True):
        with column:
            charts.draw(charts.curves(epochs, quantity, quantity), quantity, height=320)
    st.caption("Training values are measured while training, with dropout on. The kept state is the best by "
               + ("validation accuracy." if run.config and run.config.monitor == "val_accuracy" else "validation loss."))
    downloads.csv(f"curves-{run.run_id}", epochs)


def published(run: Run, found: dict[str, Estimate]) -> None:
    """What a reproduced system printed, beside this run."""
    tables = [n for n in evaluation.published_names() if "bias" not in n and "kfold" not in n]
    source = spec_of(run.config.model).source if run.config else ""
    of_model = next((i for i, n in enumerate(tables) if f"system {evaluation.TABLES[n].system}" in source), 0)
    name = st.selectbox("Published table", tables, index=of_model, format_func=lambda n: evaluation.TABLES[n].title, key="published",
                        bind="query-params", width=460)
    _printed(name, found)


def _printed(name: str, ours: dict[str, Estimate] | None = None) -> None:
    """A published table under the figures of this run, its protocol, and what in it does not fit together."""
    wrong, source, with_interval = evaluation.inconsistencies(name), evaluation.TABLES[name], name == "s2_related_work"
    table = evaluation.benchmark() if with_interval else evaluation.printed(name)
    if ours and {"accuracy", "top1"} & set(table.columns):
        row = {source.key: "this run"} | {c: _as_printed(ours[_SAME.get(c, c)], source.share, c) for c in table.columns if _SAME.get(c, c) in ours}
        if with_interval:
            row |= {part: 100 * limit for part in ("low", "high") if (limit := getattr(ours["accuracy"], part)) is not None}
            row |= {"n": ours["accuracy"].n}
        table = pd.concat([pd.DataFrame([row]), table])[table.columns].convert_dtypes()
    shown = table
    if with_interval:
        limits = [f"[{low:.1f}, {high:.1f}]" if pd.notna(low) else "n not known" for low, high in zip(table["low"], table["high"], strict=True)]
        told = table["n"].map(lambda n: f"{n:,}" if pd.notna(n) else "not known")
        shown = table.drop(columns=["low", "high"]).assign(n=told, interval=limits)
    shown = shown.astype(object).fillna("").astype(str)
    st.dataframe(shown.rename(columns=lambda c: {"interval": "95 % interval (ours)", "n": "test faces"}.get(c, c.replace("_", " "))), hide_index=True,
                 height="content")
    downloads.csv(f"published-{name}", table)
    st.caption(f"As printed, in {'shares' if source.share else 'percent'}. Differs from ours: {source.differs}.")
    if wrong:
        st.warning("**Does not fit together in the source:** " + "; ".join(wrong) + ".", icon=":material/rule:")
    else:
        st.caption("Averages, micro and macro figures and counts were checked where the table allows it: they fit together.")


def _as_printed(value: Estimate, share: bool, column: str) -> str:
    """A figure of ours in the unit of a published table."""
    if value.value is None:
        return "–"
    return f"{value.value:.4f}" if share or column == "loss" else f"{100 * value.value:.2f}"


def _percent(column: pd.Series) -> pd.Series:
    return column.map(lambda v: "–" if pd.isna(v) else f"{v * 100:.2f}")
