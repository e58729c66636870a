"""What a run reached: metrics with intervals, confusion matrix, calibration, k-fold table, learning curves, published figures."""

import streamlit as st

from dashboard import access, cache, result_views
from dashboard.runs import basis, choose, finished_or_stop, marks
from fercore.domain import Permission

person = access.actor()
person.require(Permission.READ_RESULTS)

st.title("Results")
runs = finished_or_stop()
with st.container(horizontal=True, vertical_alignment="bottom"):
    run_id = choose(runs)
    config = runs[run_id].config
    assert config is not None  # a finished run has one
    others = cache.scored_on(run_id)
    on = None
    if others:
        own = config.version_id
        chosen = st.selectbox("Scored on", [own, *others], key="on", bind="query-params", format_func=lambda v: f"{v}, its own" if v == own else v)
        on = None if chosen == own else chosen
    if config.protocol != "leaky":
        result_views.score_elsewhere(person, run_id, config.version_id)
    frame = cache.predictions(run_id, on)
    numbers = sorted(frame["fold"].unique().tolist())
    fold = None
    if len(numbers) > 1:
        told = st.selectbox("Fold", ["all folds", *(str(k + 1) for k in numbers)], key="fold", bind="query-params", width=140)
        fold = int(told) - 1 if told != "all folds" else None
result_views.scoring(person, run_id)
part = frame if fold is None else frame[frame["fold"] == fold]
found = cache.evaluated(run_id, on, fold)
if on:
    facts = others[on]
    st.caption(f"Perceived expression · **{run_id}** scored on version **{on}**: {facts['n']:,} faces that it has not seen; left out: "
               f"{facts['seen']:,} that it was trained on or kept by, with their duplicates, and {facts['unmapped']:,} of classes it does not "
               f"know · judged by this version {facts['test_reads']} time{'' if facts['test_reads'] == 1 else 's'}{marks(run_id)}")
else:
    st.caption(f"Perceived expression · {basis(runs[run_id])}" + ("" if fold is None else f" · fold {fold + 1} alone"))
if config.protocol == "leaky":
    leak = cache.leak(run_id)
    st.warning(f"**Leaky, for comparison only.** Faces were balanced ({leak.method}) before they were split: {leak.copied.percent()} of the test "
               f"rows have an identical copy in training. As published systems count, accuracy is {leak.leaky.percent()}; on copies "
               f"{leak.on_copied.percent()}, on faces that were not trained on {leak.on_fresh.percent()}."
               + ("" if leak.predicted.value is None else f" Copies alone predict {leak.predicted.percent()}; inflation {leak.inflation.points()}."),
               icon=":material/water_drop:")
if part.empty:
    st.info("No face to judge this run by.", icon=":material/hide_image:")
    st.stop()
result_views.headline(found.metrics)
result_views.ceiling(found.ceiling)

name = "-".join([run_id, *([on] if on else []), *([] if fold is None else [f"fold-{fold + 1}"])])
view = st.segmented_control("View", ["Confusion", "Metrics", "Classes", "Calibration", "Folds", "Curves", "Published"], default="Confusion",
                            required=True, key="view", bind="query-params", label_visibility="collapsed")
if view == "Confusion":
    result_views.confusion(person, name, run_id, part, found.counts)
elif view == "Metrics":
    result_views.metrics(name, found.metrics)
elif view == "Classes":
    result_views.classes(name, found.report)
elif view == "Calibration":
    result_views.calibration(name, found.calibration)
elif view == "Folds":
    result_views.folds(name, frame, len(numbers) > 1)
elif view == "Curves":
    result_views.curves(runs[run_id])
else:
    result_views.published(runs[run_id], found.metrics)
