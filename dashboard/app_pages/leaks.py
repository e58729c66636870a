"""Faces that are judged by and trained on, what they do to an accuracy, and the ledger of test sets: how often read, by whom relabelled."""

import pandas as pd
import streamlit as st

from dashboard import access, cache, charts, downloads, faces
from dashboard.links import choose_in_url
from fercore.domain import Permission
from fercore.errors import FerError
from fercore.evaluation import Estimate, ledger
from fercore.evaluation.leakage import KINDS, NEAR_UNKNOWN

person = access.actor()
person.require(Permission.READ_RESULTS)

st.title("Leaks and test sets")
versions = cache.version_table()
if versions.empty:
    st.info("No version yet. A data lead freezes one on the Recipes page.", icon=":material/history:")
    st.stop()
names = {v: f"{v} ({s})" for v, s in zip(versions["version_id"], versions["state"], strict=True)}
with st.container(horizontal=True, vertical_alignment="bottom"):
    version = choose_in_url("version", names, label="Version", width=340)
    runs = [r.run_id for r in cache.finished_runs() if r.config and r.config.version_id == version]
    run_id = st.selectbox("Run", [None, *runs], format_func=lambda r: r or "the splits of the version", key="run", bind="query-params")



def accuracies(figures: dict[str, Estimate]) -> None:
    downloads.csv(f"leaks-{run_id}", [{"accuracy": name, **vars(value)} for name, value in figures.items()])


st.subheader("Faces that are judged by and trained on")
leaky = next((r for r in cache.finished_runs() if r.run_id == run_id and r.config and r.config.protocol == "leaky"), None)
try:
    if leaky:
        told = cache.leak(leaky.run_id)
        st.warning(f"**Leaky, for comparison only.** Faces were balanced ({told.method}) before they were split: {told.copied.percent()} of the test "
                   f"rows have an identical copy in training.", icon=":material/water_drop:")
        figures = {"as the run counts": told.leaky, "on copies": told.on_copied, "on faces that were not trained on": told.on_fresh}
        st.dataframe(pd.DataFrame({"accuracy": {k: v.percent() for k, v in figures.items()}}))
        accuracies(figures | {"inflation": told.inflation})
        if told.inflation.value is not None:
            st.caption(f"Inflation: {told.inflation.points()} against the faces that were not trained on.")
    else:
        found = cache.leaks(version, run_id)
        counts = found.counts()
        st.markdown(f"**{len(found.faces):,}** of {charts.many(found.judged)} that {'this run is' if run_id else 'runs here are'} judged by "
                    f"{'were' if found.near_known else 'are known to have been'} trained on too: "
                    + "; ".join(NEAR_UNKNOWN if n is None else f"{n:,} as {KINDS[k]}" for k, n in counts.items()) + ".")
        if found.inflation and found.all_faces and found.without and found.on_leaked:
            figures = {"all faces": found.all_faces, "without the leaked ones": found.without, "on the leaked ones": found.on_leaked}
            st.dataframe(pd.DataFrame({"accuracy": {k: v.percent() for k, v in figures.items()}}))
            accuracies(figures | {"inflation": found.inflation})
            st.markdown(f"Inflation: **{found.inflation.points() if found.inflation.value is not None else found.inflation.note}**"
                        + " (no difference is shown)" * (found.inflation.low is not None and found.inflation.low <= 0)
                        + " (of the known leaks alone)" * (found.inflation.value is not None and not found.near_known))
        if waiting := cache.audit_state().stale:
            st.warning(f"{waiting:,} images have not been compared with the others yet: near duplicates among them are not known. Run the audit.",
                       icon=":material/troubleshoot:")
        st.caption("Looked for: " + ("what the run, the runs it started from, and an ensemble's members were trained on or stopped by." if run_id else
                   "faces of val and test that lie in another split too.") + " Near duplicates are those of the audit and of the version's groups.")
        if len(found.faces):
            start = faces.pager(len(found.faces), faces.PAGE, "page", charts.many(len(found.faces)))
            part = found.faces.iloc[start:start + faces.PAGE]
            faces.wall(cache.by_ids(person, tuple(part["sample_id"])), f"leaks-{version}-{run_id}-{start}",
                       notes={r.sample_id: r.kind + (f", by {r.via}" if r.via not in ("", run_id) else "") for r in part.itertuples()})
except FerError as error:
    st.warning(access.plain(str(error)), icon=":material/warning:")

st.subheader("How often each test set was read")
book = cache.test_sets()
sets = book.sets
for gap in book.gaps():
    st.warning(access.plain(gap), icon=":material/warning:")
if sets.empty:
    st.caption("No version has test faces.")
else:
    st.dataframe(ledger.told(sets), hide_index=True, column_config={"faces": st.column_config.NumberColumn(format="localized")})
    downloads.csv("test-sets", ledger.told(sets).assign(**{"test set": sets["test_set"]}))
    st.caption("Readings count by faces: what read any face of a set read that set, in whatever version; identical images are one face and count "
               "once. A run reads the test faces of its version once when its training has ended, also if it is stopped after that, and each "
               "scoring on another version reads every face there that the run has not seen. A run with folds reads no test set, but it is trained "
               "on and judged by every face of train and val. The best of many is too good by chance.")

st.subheader("Who changed labels of these test faces")
earlier = [v for v in versions["version_id"] if v != version]
since = st.selectbox("Since", ["", *earlier], format_func=lambda v: v or "the given labels", key="since", bind="query-params", width=340)
try:
    edits = cache.test_edits(person, version, since)
except FerError as error:
    st.info(access.plain(str(error)), icon=":material/info:")
    st.stop()
st.markdown(f"**{len(edits.changed):,}** of {ledger.many(edits.rows, 'row')} in test have another label than "
            f"{'in ' + since if since else 'the source gives'}; {access.plain(version)} takes {access.plain(edits.rule)}.")
if len(edits.changed):
    table = pd.crosstab(edits.changed["before"].map(charts.name_of), edits.changed["after"].map(charts.name_of)).rename_axis("before", axis=0)
    left, right = st.columns([3, 2])
    left.dataframe(table.reset_index(), hide_index=True)
    with left:
        downloads.csv(f"test-labels-{version}", edits.changed.value_counts(["before", "after"]).reset_index(name="faces"))
    with right:
        faces.wall(cache.by_ids(person, tuple(edits.changed["sample_id"].head(12))), f"edits-{version}-{since}", scale=1)
        st.caption("The first twelve.")
if edits.acts.empty:
    st.caption("No person has labelled a test face of this version in that time.")
else:
    st.dataframe(edits.acts, hide_index=True, column_config={"day": st.column_config.DateColumn("day (UTC)")})
    downloads.csv(f"label-acts-{version}", edits.acts)
