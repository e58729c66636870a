"""Plan who labels what: questions, faces, votes a face, order, members."""

import pandas as pd
import streamlit as st

from dashboard import access, cache
from dashboard.charts import name_of
from fercore.audit import KINDS
from fercore.curation import campaigns
from fercore.domain import Permission
from fercore.errors import FerError
from fercore.schemes import FER7, FER8, FLAGS

person = access.actor()
person.require(Permission.PLAN)
PLACES = {"label": "Label: one face at a time", "tag": "Tag: age and gender", "verify": "Verify: a wall of faces"}
PRIORITIES = {"none": "fewest votes first", "entropy": "most divided votes first", "disagreement": "model disagrees most first",
              "rarity": "rare classes first", "finding": "most marked finding first"}

st.title("Campaigns")
if not cache.options()["sources"]:
    access.no_faces_yet()
listed = cache.all_campaigns()
rows = []
for campaign_id, (c, state) in listed.items():
    n = cache.campaign_counts(person, campaign_id)
    rows.append({"campaign": c.name, "page": PLACES[campaigns.place_of(c)].split(":")[0], "asks": ", ".join(c.ask), "votes a face": c.votes,
                 "faces": n["faces"], "complete": n["full"], "held now": n["held"] + n["mine"], "order": PRIORITIES[c.priority], "state": state})
st.dataframe(pd.DataFrame(rows), hide_index=True, column_config={
    "faces": st.column_config.NumberColumn(format="localized"), "complete": st.column_config.NumberColumn(format="localized")})

new = "A new campaign"
wanted = st.query_params.get("campaign")
left, right = st.columns(2)
chosen = left.selectbox("Open or change", [new, *listed], index=[new, *listed].index(wanted) if wanted in listed else 0,
                      format_func=lambda i: new if i == new else listed[i][0].name)
before, state = (None, "open") if chosen == new else listed[chosen]
schemes = {s.scheme_id: s for s in cache.latest_schemes()}
if before:
    schemes |= {a: cache.scheme(a) for a in before.ask if not a.startswith("flag_")}
PAIR = "perceived age and gender"
asks = {PAIR: campaigns.BUILT_IN["tags"].ask} | {s: (s,) for s in schemes} | {f"flag_{f}": (f"flag_{f}",) for f in FLAGS}
titles = ({PAIR: "Perceived age and gender"} | {i: s.name for i, s in schemes.items()}
          | {f"flag_{f}": f"{label} (yes or no)" for f, (label, _) in FLAGS.items()})
options, people = cache.options(), {p.person_id: p for p in cache.everyone()}
current = before or campaigns.Campaign(name="new", ask=(FER7.scheme_id,))
key = str(chosen)
start = next((k for k, v in asks.items() if v == current.ask), FER7.scheme_id)
what = right.selectbox("Question", list(asks), index=list(asks).index(start), format_func=titles.__getitem__, key=f"ask-{key}")
flag, scheme = what.startswith("flag_"), schemes.get(what)
styles = ["one face at a time", "a wall of faces: mark the exceptions", "a wall of faces: answer each"]
styles = styles[1:2] if flag else styles[:1] if what == PAIR else styles[:2] if schemes[what].field == "expression" else styles
style = st.segmented_control("Shown as", styles, default=styles[min(1 if current.claim else 2 if current.grid else 0, len(styles) - 1)],
                             required=True, key=f"style-{key}-{what}")
verify = style.endswith("exceptions")
with st.form(f"campaign-{key}", border=True):
    name = st.text_input("Name", "" if before is None else before.name, max_chars=80)
    one, two, three = st.columns(3)
    with one:
        votes = st.number_input("Answers wanted for each face", 1, 50, current.votes)
        claim = None
        if verify:
            claims = ["yes", "no"] if flag else list(scheme.ids if scheme else ())
            claim = st.selectbox("All of these are", claims, index=claims.index(current.claim) if current.claim in claims else 0, format_func=name_of)
        claims_from = {None: "an audit finding (see right)"} if flag else {
            "given": "the given label", "current": "the current label", "model": "a model's prediction"}
        claimed_by = st.selectbox("Claimed by", list(claims_from), format_func=claims_from.__getitem__,
                                  index=list(claims_from).index(current.claimed_by) if current.claimed_by in claims_from else 0) if verify else None
        members = st.multiselect("Members (nobody chosen: everyone)", list(people), default=[m for m in current.members if m in people],
                                 format_func=lambda i: people[i].name)
    with two:
        given = [None, *FER8.ids, *({current.label} - {None, *FER8.ids})]
        label = st.selectbox("Labelled by the source as", given, index=given.index(current.label),
                             format_func=lambda c: "any" if c is None else name_of(c))
        finished = [r.run_id for r in cache.finished_runs()]
        findings, sources, runs = (list(dict.fromkeys([None, *known, now])) for known, now in (  # what the campaign names may be gone since
            (options["findings"], current.finding), (options["sources"], current.source), (finished, current.run_id)))
        finding = st.selectbox("With finding", findings, index=findings.index(current.finding), format_func=lambda k: KINDS.get(k, k or "any"))
        source = st.selectbox("Source", sources, index=sources.index(current.source), format_func=lambda s: s or "any")
        run_id = st.selectbox("Model (out-of-fold predictions)", runs, index=runs.index(current.run_id), format_func=lambda r: r or "none")
        if current.images:
            st.caption(f"Of {len(current.images):,} faces chosen by hand.")
    with three:
        priority = st.selectbox("Order", list(PRIORITIES), index=list(PRIORITIES).index(current.priority), format_func=PRIORITIES.__getitem__)
        shares = [st.slider(title, 0, most, round(100 * value), 5, format="%d %%") / 100 for title, value, most in (
            ("Drawn at random", current.random_share, 100), ("Gold faces", current.gold_share, 50),
            ("Hidden repeats after a day", current.repeat_share, 50))]
        second = st.checkbox("A second expression may be given (Alt)", current.second)
    closed = st.checkbox("Closed", state == "closed")
    if st.form_submit_button("Save campaign" if before else "Open campaign", type="primary"):
        try:
            saved = campaigns.save(cache.store(), person, {
                **(before.model_dump() if before else {}), "name": name, "ask": asks[what], "grid": not style.startswith("one"), "claim": claim,
                "claimed_by": claimed_by, "votes": votes,
                "label": label, "finding": finding, "source": source, "members": tuple(members), "priority": priority, "run_id": run_id,
                "random_share": shares[0], "gold_share": shares[1], "repeat_share": shares[2], "second": second},
                None if before is None else key, "closed" if closed else "open")
        except FerError as error:
            st.error(access.plain(str(error)), icon=":material/error:")
        else:
            st.query_params["campaign"] = saved
            st.rerun()
