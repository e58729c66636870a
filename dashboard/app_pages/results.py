"""What a run reached: metrics with intervals, confusion matrix, k-fold table, learning curves."""

import pandas as pd
import streamlit as st

from dashboard import access, cache, charts, faces
from dashboard.components.confusion import confusion_matrix
from dashboard.runs import basis, choose, finished_or_stop
from fercore import evaluation
from fercore.domain import Permission
from fercore.training.rundir import read_metrics

person = access.actor()
person.require(Permission.READ_RESULTS)
SHOWN = 60

st.title("Results")
runs = finished_or_stop()
run_id = choose(runs)
config = runs[run_id].config
assert config is not None  # a finished run has one
frame = cache.predictions(run_id)
classes = evaluation.classes_of(frame)
headline, report, counts = cache.evaluated(run_id)
st.caption(f"Perceived expression · {basis(runs[run_id])}")
if config.protocol == "leaky":
    leak = evaluation.leak(cache.workspace(), run_id)
    st.warning(f"**Leaky, for comparison only.** Faces were balanced ({leak.method}) before they were split: {leak.copied.percent()} of the test "
               f"rows have an identical copy in training. As published systems count, accuracy is {leak.leaky.percent()}; on copies "
               f"{leak.on_copied.percent()}, on faces that were not trained on {leak.on_fresh.percent()}."
               + ("" if leak.predicted is None else f" Copies alone predict {100 * leak.predicted:.1f} %."), icon=":material/water_drop:")
names = {"accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy", "macro_f1": "Macro F1", "top_2_accuracy": "Top-2 accuracy"}
for column, (key, label) in zip(st.columns(len(names)), names.items(), strict=True):
    value = headline[key]
    with column.container(border=True, gap="xxsmall"):
        st.metric(label, "–" if value.value is None else f"{value.value * 100:.1f} %")
        st.caption(value.percent().partition(" % ")[2] or value.note)

view = st.segmented_control("View", ["Confusion", "Classes", "Folds", "Curves"], default="Confusion", required=True, key="view",
                            bind="query-params", label_visibility="collapsed")
if view == "Confusion":
    left, right = st.columns([5, 3], gap="medium")
    with left:
        unit = st.segmented_control("Cells show", ["counts", "% of true class", "% of predicted class"], default="counts", required=True, key="unit",
                                    bind="query-params", label_visibility="collapsed")
        shares = None if unit == "counts" else evaluation.normalise(counts, "row" if unit == "% of true class" else "column")
        opened = confusion_matrix(counts, shares, key=f"confusion-{run_id}")
        if opened:
            st.query_params.update({"true": opened[0], "predicted": opened[1]})  # at once: one step back in the browser
        st.caption(f"n = {len(frame):,} faces. Colour is the share of the true class. Click a cell to open its faces.")
    with right:
        true, predicted = st.query_params.get("true"), st.query_params.get("predicted")
        if true in classes and predicted in classes:
            hits = frame[(frame["label"] == true) & (frame["predicted"] == predicted)].sort_values("confidence", ascending=False)
            st.markdown(f"**Labelled {charts.name_of(true)}, predicted {charts.name_of(predicted)}:** {len(hits):,} faces"
                        + (f", the {SHOWN} most confident" if len(hits) > SHOWN else ", most confident first"))
            shown = hits.head(SHOWN)
            faces.wall(cache.by_ids(person, tuple(shown["sample_id"])), key=f"cell-{true}-{predicted}", scale=1,
                       notes={r.sample_id: f"{r.confidence * 100:.0f} %" for r in shown.itertuples()})
        else:
            st.info("Choose a cell of the matrix to see its faces here.", icon=":material/touch_app:")
elif view == "Classes":
    table = pd.DataFrame([{"class": charts.name_of(r.class_id), "faces": r.support, "precision": r.precision.percent(), "recall": r.recall.percent(),
                           "F1": r.f1.percent()} for r in report])
    st.dataframe(table, hide_index=True)
    shown = [r for r in report if r.recall.value is not None]
    charts.draw(charts.whiskers([charts.name_of(r.class_id) for r in shown], [r.recall for r in shown],
                                [charts.colour_of(r.class_id) for r in shown], "recall, 95 % interval"), "recall", height=320)
    rest = {"macro_precision": "Macro precision", "macro_recall": "Macro recall"}
    st.caption(" · ".join(f"{label} {headline[key].percent()}" for key, label in rest.items()) + f" · Log loss {headline['log_loss'].number()}")
elif view == "Folds":
    if not config.folds:
        st.info("This run is a hold-out run: it has no folds. Launch one with folds on the Train page.", icon=":material/table_rows:")
    else:
        table = evaluation.kfold_table(frame, classes)
        def percent(column: str) -> pd.Series:
            return table[column].map(lambda v: "–" if pd.isna(v) else f"{v * 100:.2f}")

        interval = [f"[{low}, {high}]" if low != "–" else "–" for low, high in zip(percent("accuracy_low"), percent("accuracy_high"), strict=True)]
        shown = {"fold": table["fold"], "faces": table["n"].map(lambda n: "–" if pd.isna(n) else f"{n:,}"), "accuracy": percent("accuracy"),
                 "95 % interval": interval, **{c.replace("_", " "): percent(c) for c in ("macro_precision", "macro_recall", "macro_f1",
                                                                                        "micro_precision", "micro_recall", "micro_f1")}}
        st.dataframe(pd.DataFrame(shown), hide_index=True)
        st.caption(f"Percent. All folds together: accuracy {evaluation.pooled_accuracy(frame).percent()}. Micro precision, recall and F1 "
                   "equal accuracy. The standard deviation is over folds; folds share training faces, so it is no standard error.")
    with st.expander("Published 10-fold table of the four-class system (SimpleCNN), for reference"):
        st.dataframe(evaluation.published("s0_kfold_before"), hide_index=True)
        st.caption("Another data set (four classes, 2,906 faces, curated by hand, folds not grouped by duplicates): not comparable with the above.")
else:
    epochs = pd.DataFrame(read_metrics(runs[run_id].path))
    left, right = st.columns(2)
    with left:
        charts.draw(charts.curves(epochs, "loss", "loss"), "loss", height=320)
    with right:
        charts.draw(charts.curves(epochs, "accuracy", "accuracy"), "accuracy", height=320)
    st.caption("Training values are measured while training, with dropout on. The kept state has the lowest validation loss.")
