"""How a run differs between perceived groups, and between two runs on the same faces."""

import pandas as pd
import streamlit as st

from dashboard import access, cache, charts
from dashboard.runs import basis, choose, finished_or_stop
from fercore import bias
from fercore.domain import Permission
from fercore.errors import FerError
from fercore.evaluation import Estimate, published
from fercore.schemes import AGE_BANDS, GENDERS
from fercore.training.rundir import Run

access.actor().require(Permission.READ_RESULTS)
_COLOURS = {c.class_id: c.colour for c in (*AGE_BANDS.classes, *GENDERS.classes)}
_NAMES = {"age_band": "perceived age", "gender": "perceived gender", "age_band x gender": "age x gender"}


def cell(estimate: Estimate) -> str:
    """A table cell: percent with interval, or why there is none."""
    return estimate.note or estimate.percent().partition(", n =")[0]


def kind(run: Run) -> str | None:
    return run.config.protocol if run.config else None


def gap_sentence(gap: bias.Gap) -> str:
    if gap.difference.value is None:
        return f"Largest gap by {_NAMES[gap.attribute]}: {gap.difference.note}"
    over = f"{gap.highest} over {gap.lowest}".replace("_", "-")
    return f"Largest gap by {_NAMES[gap.attribute]}: **{gap.difference.points()}** ({over})"


st.title("Bias")
runs = finished_or_stop()
with st.container(horizontal=True, vertical_alignment="bottom"):
    run_id = choose(runs)
    # A hold-out run and a k-fold run predict different faces: only runs of one kind can be compared.
    others = [i for i, r in runs.items() if i != run_id and kind(r) == kind(runs[run_id])]
    before_id = st.selectbox("Compare with an earlier run", others, index=None, key="before", bind="query-params",
                             placeholder="none" if others else "no other run of this kind", disabled=not others)
    by = tuple(st.multiselect("Groups", list(bias.ATTRIBUTES), ["age_band", "gender"], format_func=_NAMES.__getitem__, key="by", bind="query-params"))
    minimum = st.number_input("Least faces in a cell", 1, 1000, 20, key="minimum", bind="query-params", width=150)
if not by:
    st.info("Choose at least one grouping.")
    st.stop()
frame = cache.predictions(run_id)
tagged = int((frame["age_band"].notna() | frame["gender"].notna()).sum())
st.caption(f"Age and gender are perceived, by people who looked at the faces · {basis(runs[run_id])} · {tagged:,} of {len(frame):,} faces are "
           "tagged, and none in this table was trained on by the model that predicts it")
if not tagged:
    st.info("No predicted face of this version has a tag. Tag faces, freeze a new version and train on it.", icon=":material/sell:")
    st.page_link("app_pages/tag.py", label="Tag faces", icon=":material/sell:")
    st.stop()

table = cache.bias_of(run_id, by, minimum)
shown = [r for r in table.rows if r.kind == "group" and r.accuracy.value is not None]
st.dataframe(pd.DataFrame([{"by": _NAMES.get(r.attribute, ""), "group": r.group + " (not averaged)" * (r.kind == "listed"), "faces": r.n,
                            "accuracy": cell(r.accuracy), "precision (macro)": cell(r.macro_precision), "recall (macro)": cell(r.macro_recall),
                            "F1 (macro)": cell(r.macro_f1)} for r in table.rows]), hide_index=True, height="content",
             column_config={"faces": st.column_config.NumberColumn(format="localized"), "group": st.column_config.TextColumn(width=190)})
st.caption("Percent with 95 % intervals. Micro precision, recall and F1 equal accuracy. Cells below the least number of faces are masked. An average "
           "is the unweighted mean over the groups that are shown, the overall one over all of them; untagged faces are in neither.")
left, right = st.columns([3, 2], gap="medium")
with left:
    if shown:
        figure = charts.whiskers([r.group for r in shown], [r.accuracy for r in shown], [_COLOURS.get(r.value, "#666666") for r in shown],
                                 "accuracy, 95 % interval")
        charts.draw(figure, "groups", height=90 + 40 * len(shown))
with right:
    for gap in table.gaps:
        st.markdown(gap_sentence(gap))
    if any(g.difference.low is not None and g.difference.low <= 0 for g in table.gaps):
        st.caption("An interval that reaches 0 does not show a difference.")

if before_id:
    st.subheader("Before and after, on the same faces")
    try:
        change = cache.bias_change(before_id, run_id, by, minimum)
    except FerError as error:
        st.warning(f"{error.title}. {error.detail}. {error.remedy}")
        st.stop()
    st.caption(f"Before: {before_id} · after: {run_id} · {change.n:,} common faces with the same label in both; left out: "
               f"{change.left_out_before:,} of the first, {change.left_out_after:,} of the second run.")
    st.dataframe(pd.DataFrame([{"by": _NAMES.get(r.attribute, ""), "group": r.group, "faces": r.n, "before": cell(r.before), "after": cell(r.after),
                                "change": r.difference.note or r.difference.points().partition(", n =")[0],
                                "McNemar p": "" if r.p_value is None else f"{r.p_value:.3f}" if r.p_value >= 0.001 else "< 0.001"}
                               for r in change.rows]), hide_index=True)
    for moved in change.gaps:
        if moved.change.value is not None:
            st.markdown(f"{_NAMES[moved.attribute].capitalize()}: largest gap {moved.before.difference.points()} before, "
                        f"{moved.after.difference.points()} after; the pair that was furthest apart changed by {moved.change.points()}.")
with st.expander("Published bias table of the four-class system, for reference"):
    st.dataframe(pd.concat([published(f"s0_bias_{when}").assign(when=when) for when in ("before", "after")]), hide_index=True)
    st.caption("Four classes, groups of equal size drawn from the set used for training: not comparable with the above.")
