"""Named rules from votes to labels, and which faces change between two of them."""

import pandas as pd
import streamlit as st

from dashboard import access, cache, charts, faces
from fercore.curation.rules import RULES, VOTES
from fercore.domain import Permission

person = access.actor()
person.require(Permission.READ_RESULTS)
SHOWN = 60

st.title("Rules")
if not cache.options()["sources"]:
    access.no_faces_yet()
votes = st.segmented_control("Votes", VOTES, default="imported", required=True, key="votes", bind="query-params",
                             format_func={"imported": "imported votes", "annotators": "annotators' votes", "both": "both added"}.__getitem__)
summary = cache.rule_summary(person, votes)
total = int(summary.iloc[0].sum())
if list(summary.columns) == ["none"]:
    st.info("No face has such a vote yet. Import a file with FER+ votes, label faces, or choose other votes.", icon=":material/how_to_vote:")
    st.stop()
about = pd.DataFrame([{"rule": r.rule_id, "what it does": r.description, "source": r.source} for r in RULES.values()]).set_index("rule")
st.dataframe(summary.rename(columns=charts.name_of).join(about), height="content")
st.caption(f"Rows of the sources: {total:,}; identical faces share annotators' votes. Ambiguous: several answers as strong, or no rule holds; "
           "unknown: people could not tell, or FER+ discards it; none: nobody voted.")

st.subheader("What changes between two rules")
left, right = st.columns(2)
rule_a = left.selectbox("From", list(RULES), index=list(RULES).index("ferplus_majority@1"), key="rule_a", bind="query-params")
rule_b = right.selectbox("To", list(RULES), index=list(RULES).index("argmax@1"), key="rule_b", bind="query-params")
left.caption(RULES[rule_a].description)
right.caption(RULES[rule_b].description)
table = cache.rule_diff(person, votes, rule_a, rule_b)
same = sum(int(table.loc[o, o]) for o in table.index.intersection(table.columns))
st.markdown(f"**{total - same:,}** of {total:,} rows change.")
columns = {charts.name_of(o): o for o in table.columns}
event = st.dataframe(table.rename(index=charts.name_of, columns=charts.name_of).rename_axis(f"{rule_a} ↓  {rule_b} →"), on_select="rerun",
                     selection_mode="single-cell", key=f"diff-{votes}-{rule_a}-{rule_b}", height="content")
for row, column in event["selection"]["cells"]:
    if column in columns:
        st.query_params.update({"from": table.index[row], "to": columns[column]})
before, after = st.query_params.get("from"), st.query_params.get("to")
if before in table.index and after in table.columns:
    ids = cache.rule_cell(person, votes, rule_a, rule_b, before, after)
    st.markdown(f"**{charts.name_of(before)}** by {rule_a}, **{charts.name_of(after)}** by {rule_b}: {len(ids):,} rows"
                + (f", the first {SHOWN}" if len(ids) > SHOWN else ""))
    faces.wall(cache.by_ids(person, tuple(ids[:SHOWN])), key=f"cell-{before}-{after}")
else:
    st.info("Choose a cell to see its faces here.", icon=":material/touch_app:")
