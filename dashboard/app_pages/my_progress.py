"""What I have done, for me alone."""

from datetime import UTC, datetime

import streamlit as st

from dashboard import access, cache, charts
from fercore.curation.quality import GOLD_A_DAY, needs_break
from fercore.domain import Permission

person = access.actor()
person.require(Permission.LABEL)

st.title("My progress")
fields = cache.my_fields(person)
if not fields:
    st.info("You have not answered a face yet. Your counts, your rate and your consistency will stand here.", icon=":material/keyboard:")
    st.page_link("app_pages/label.py", label="Label faces", icon=":material/keyboard:")
    st.stop()
if needs_break(cache.store(), person):
    st.info("You have labelled for 25 minutes without a pause. A short break keeps answers steady.", icon=":material/coffee:")
field = st.selectbox("Field", fields, key="field", bind="query-params", format_func=lambda f: f.replace("_", " "), width=300)
mine = cache.my_progress(person, field)
st.caption("Your own answers only, days in UTC. Nobody else sees your times and your rate; reviewers see agreement, known answers and consistency.")
today = datetime.now(UTC).strftime("%Y-%m-%d")
with st.container(horizontal=True):
    st.metric("Answers", f"{mine.days['n'].sum():,}", border=True)
    st.metric("Today", f"{mine.days.loc[mine.days['day'] == today, 'n'].sum():,}", border=True)
    st.metric("Median time for an answer", "–" if mine.median_ms is None else f"{mine.median_ms / 1000:.1f} s", border=True)
    st.metric("Faces an hour", "–" if mine.per_hour is None else f"{mine.per_hour:,.0f}", border=True, help="Pauses of over 2 minutes left out")
left, right = st.columns([3, 2], gap="medium")
with left:
    st.subheader("By day")
    charts.draw(charts.count_bars(mine.days["day"].tolist(), mine.days["n"].tolist(), "answers"), "days", height=240)
    st.subheader("Known answers by day")
    if mine.gold:
        charts.draw(charts.over_time(mine.gold, "met", percent=True), "gold", height=240)
    st.caption(f"Some faces have an answer that is known; which ones is not told. Days with fewer than {GOLD_A_DAY} of them are not shown.")
with right:
    st.subheader("By campaign")
    st.dataframe(mine.campaigns.rename(columns={"n": "answers"}), hide_index=True)
    st.subheader("Consistency")
    if mine.consistency.n:
        st.markdown(f"On faces you were shown again, your answer was the same: {mine.consistency.percent()}")
    else:
        st.caption("No face was shown to you again yet.")
    st.subheader("Does the face before pull the next answer?")
    serial, chance = mine.serial, mine.serial.chance
    if serial.observed is None:
        st.caption(chance.note.capitalize() + ".")
    else:
        st.markdown(f"Your answer equals the one before on **{serial.observed * 100:.1f} %** of {chance.n - 1:,} faces; the same answers in random "
                    f"order give {chance.value * 100:.1f} % (95 % of orders: {chance.low * 100:.1f} to {chance.high * 100:.1f} %).")
        if serial.observed > chance.high:
            st.caption("More than chance gives: look at each face afresh. Runs of alike faces in a queue can do this too.")
