"""A grid of runs: every run, what is left after averaging over seeds, and accuracy against what was varied, in pairs."""

import pandas as pd
import streamlit as st

from dashboard import access, cache, charts, downloads
from dashboard.links import choose_in_url
from dashboard.runs import marks
from fercore import evaluation
from fercore.domain import Permission
from fercore.evaluation.estimate import wilson

access.actor().require(Permission.READ_RESULTS)
st.title("Studies")
names = evaluation.studies(cache.workspace())
if not names:
    st.info("No study yet. A study is a grid of runs: launch one on the Train page under \"Repeat as a study\".", icon=":material/grid_on:")
    st.page_link("app_pages/train.py", label="Train", icon=":material/model_training:")
    st.stop()
name = choose_in_url("study", {n: n for n in names}, label="Study", width=360)
found, chance = cache.studied(name)
rows = found.rows
done, n = (rows["state"] == "finished").sum(), len(rows)
st.caption(f"{done:,} of {n:,} runs finished · varied: {', '.join(found.varied) or 'nothing'} · choose by validation or out-of-fold figures, "
           f"not by test{marks(*rows['run'])}")
if found.rows["read"].eq("test").any():
    st.caption("Test accuracies of a study are many readings of one test split: the best of them is too good by chance.")


def percent(value: float | None) -> str:
    return "–" if value is None or pd.isna(value) else f"{value * 100:.1f} %"


def told(estimate: evaluation.Estimate | None) -> str:
    return estimate.percent() if estimate else "–"


cells = found.cells
over = [c for c in found.varied if c != "seed"]
st.dataframe(pd.DataFrame({**{c: cells[c].map(str) for c in over}, "runs": cells["n"], "validation": cells["val_mean"].map(percent),
                           "sd over seeds ": cells["val_sd"].map(percent), "accuracy": cells["accuracy"].map(told),
                           "sd over seeds": cells["sd"].map(percent)}), hide_index=True)
st.caption(f"Accuracy: the mean over seeds, with a 95 % interval on the n faces of one run. {found.caution()}")
downloads.csv(f"{name}-over-seeds", cells)
drawn = evaluation.plots(found)
for number, plot in enumerate(drawn):
    charts.draw(charts.pairs(plot.points, plot.across, plot.lines), f"pair-{number}", height=300)
if drawn:
    st.caption("Whiskers are 95 % intervals on the faces of one run. Points whose whiskers overlap widely are not shown to "
               "differ; a paired test on the same faces decides.")
    downloads.csv(f"{name}-plots", pd.concat([plot.points.assign(setting=plot.across, lines=plot.lines) for plot in drawn]))
st.markdown(f"**{chance.sentence()}**" if done > 1 else chance.sentence())
if chance.binomial_sd is not None:
    st.caption(f"Standard deviation of an accuracy by the draw of {chance.n:,} faces alone (binomial): {100 * chance.binomial_sd:.2f} points"
               + ("; no two runs differ in the seed only, so what the seed does is not known." if chance.seed_sd is None else
                  f"; over runs that differ in the seed only: {100 * chance.seed_sd:.2f} points ({chance.seed_df} degrees of freedom)."))
if chance.different:
    with st.expander(f"Pairs that differ ({len(chance.different):,})"):
        st.dataframe(pd.DataFrame([{"run": b, "against": a, "accuracy": f"{100 * change:+.1f} points", "p after Holm": f"{p:.4f}"}
                                   for a, b, change, p in chance.different]), hide_index=True)
        downloads.csv(f"{name}-pairs", pd.DataFrame(chance.different, columns=["against", "run", "difference", "p_holm"]))
with st.expander("Published study: accuracy against kernel, blocks and channels (S1)"):
    table = evaluation.published("s1_models_macro")
    points = pd.DataFrame([{"across": row["kernel"], "line": f"{row['channels']} channels, {row['blocks']} blocks", "mean": row["accuracy"],
                            **dict(zip(("low", "high"), wilson(row["accuracy"], 2225), strict=True)), "runs": 1, "n": 2225}
                           for row in table.to_dict("records")])
    charts.draw(charts.pairs(points, "kernel", ""), "published-study", height=300)
    st.caption(f"{evaluation.TABLES['s1_models_macro'].differs}. Whiskers: 95 % Wilson intervals at n = 2,225, which the source does not print.")
with st.expander("All runs"):
    shown = rows[found.varied].map(str).assign(**{
        "state": rows["state"], "validation": rows["val_accuracy"].map(percent),
        "accuracy": rows["accuracy"].map(told), "read on": rows["read"], "marks": rows["marks"], "run": rows["run"], "note": rows["note"]})
    st.dataframe(shown, hide_index=True)
    downloads.csv(f"{name}-runs", rows)
