"""Labels that are likely to be wrong, as a wall in the order of suspicion; a chosen number goes to people, who decide."""

import pandas as pd
import streamlit as st

from dashboard import access, cache, charts, faces, tasks
from dashboard.runs import basis, choose, finished_or_stop
from dashboard.state import session
from fercore.domain import Permission
from fercore.errors import FerError
from fercore.evaluation import suspects

person = access.actor()
person.require(Permission.READ_RESULTS)

st.title("Suspect labels")
runs = {i: r for i, r in finished_or_stop().items() if r.config and r.config.folds}
if not runs:
    st.info("No run with folds yet. Labels are judged by models that have not trained on them.", icon=":material/table_rows:")
    st.page_link("app_pages/train.py", label="Train", icon=":material/model_training:")
    st.stop()
run_id = choose(runs)
st.caption(f"Perceived expression · {basis(runs[run_id])}")
if session().said:
    (st.error if session().said[0] == "error" else st.success)(access.plain(session().said[1]), icon=":material/outbox:")
    session().said = None
kind, ranked = f"suspects-{run_id}", cache.suspects(run_id)
if tasks.shown(kind):
    tasks.dismiss(kind)
if ranked is None:
    if not tasks.running(kind):
        st.info("Nobody has ranked the labels of this run as it is now. That takes a minute or two for 30,000 faces, once; the page stays open to "
                "other work.")
        if st.button("Rank the labels", type="primary", icon=":material/sort:"):
            root = cache.workspace()
            tasks.start(kind, "Ranking the labels", person, lambda progress: suspects.rank(root, run_id, progress), Permission.READ_RESULTS)
            st.rerun()
    st.stop()

with st.container(horizontal=True, vertical_alignment="bottom"):
    labelled = st.multiselect("Labelled", charts.ordered(ranked["label"]), format_func=charts.name_of, key="label", bind="query-params")
    shows = st.multiselect("Likely", charts.ordered(ranked["suggested"]), format_func=charts.name_of, key="likely", bind="query-params")
    number = st.number_input("Faces to send", 1, min(len(ranked), 5000), min(len(ranked), 200), 50, key="number", bind="query-params", width=130)
    share = 1 - float(ranked["p_label"].head(number).mean())
    if person.may(Permission.PLAN) and st.button(f"Send the first {number:,} to review", type="primary", icon=":material/outbox:"):
        try:
            campaign = suspects.send(cache.store(), person, run_id, number)
        except FerError as error:
            session().said = ("error", str(error))
        else:
            session().said = ("success", f"{charts.many(number)} wait in the campaign {cache.all_campaigns()[campaign][0].name}")
        st.rerun()
st.caption(f"Of the first {number:,}, about {100 * share:.0f} % are expected to be labelled wrongly, by the ranking itself. Nothing but people's "
           "answers changes a label; they see neither the label nor the suggestion first.")
chosen = ranked[(ranked["label"].isin(labelled) if labelled else True) & (ranked["suggested"].isin(shows) if shows else True)] \
    if labelled or shows else ranked
if chosen.empty:
    st.info("No face with this label looks like that.", icon=":material/filter_alt_off:")
else:
    start = faces.pager(len(chosen), faces.PAGE, "page", f"{len(chosen):,} faces, the most suspect first")
    part = chosen.iloc[start:start + faces.PAGE]
    shown = cache.by_ids(person, tuple(part["sample_id"]))
    told = shown[["sample_id", "open"]].merge(part, on="sample_id")
    told = told[told["open"]]
    faces.wall(shown, f"suspects-{start}", second=dict(zip(told["sample_id"], told["suggested"], strict=True)),
               notes={r.sample_id: f"{100 * r.p_suggested:.0f} % against {100 * r.p_label:.0f} %" for r in told.itertuples()})

queues = cache.gains(person)
if queues:
    st.subheader("What came of earlier queues")
    st.dataframe(pd.DataFrame([{"queue": g.name, "run": g.run_id, "faces": g.sent, "predicted": f"{100 * g.predicted:.1f} %",
                                "predicted, of those decided": "–" if g.predicted_decided is None else f"{100 * g.predicted_decided:.1f} %",
                                "realised": g.realised.percent()} for g in queues]), hide_index=True)
    st.caption("Predicted: the expected share of wrong labels. Realised: of the faces that people have decided on, the share whose decision is "
               "another than the label they were ranked by, with a 95 % interval; “cannot tell” is no decision.")
