"""How far people agree with each other, with known answers, and with themselves."""

import pandas as pd
import streamlit as st

from dashboard import access, cache, charts, faces
from dashboard.components.confusion import confusion_matrix
from fercore.curation.quality import MINIMUM, Scope
from fercore.domain import Permission

person = access.actor()
person.require(Permission.READ_RESULTS)

st.title("Quality")
fields, campaigns, weeks = cache.quality_choices(person)
if not fields:
    st.info("No votes yet: agreement needs faces that at least two people have answered.", icon=":material/keyboard:")
    st.page_link("app_pages/label.py", label="Label faces", icon=":material/keyboard:")
    st.stop()
with st.container(horizontal=True):
    field = st.selectbox("Field", fields, index=fields.index("expression") if "expression" in fields else 0, key="field", bind="query-params",
                         format_func=lambda f: f.replace("_", " "))
    campaign = st.selectbox("Campaign", [None, *campaigns], key="campaign", bind="query-params",
                            format_func=lambda c: "all" if c is None else campaigns[c])
    chosen = st.multiselect("Weeks", weeks, key="weeks", bind="query-params", placeholder="all")
scope = Scope(field, campaign, tuple(sorted(chosen)))
found = cache.quality_of(person, scope)
st.caption(f"{found.votes:,} independent votes of {len(found.annotators):,} people on {found.faces:,} faces. Confirmations in a grid, hidden "
           "repeats, practice and adjudications do not count.")
measured = found.agreement
fleiss_name = "Fleiss' kappa" + (f", faces with {measured.fleiss_votes} votes" if measured.fleiss_votes else "")
for column, name, value in zip(st.columns(2), ("Krippendorff's alpha", fleiss_name), (measured.alpha, measured.fleiss), strict=True):
    with column.container(border=True, gap="xxsmall"):
        st.metric(name, "–" if value.value is None else f"{value.value:.3f}")
        st.caption(value.number().partition(" ")[2] if value.value is not None else value.note)
st.caption(f"1 is full agreement, 0 what chance gives; 95 % intervals by bootstrap over faces. Cells below n = {MINIMUM} are masked.")

view = st.segmented_control("View", ["Pairs", "Classes", "Weeks", "Annotators", "Confusion"], default="Pairs", required=True, key="view",
                            bind="query-params", label_visibility="collapsed")
if view == "Pairs":
    if not measured.pairs:
        st.info("Only one person has answered here. Agreement needs a second.", icon=":material/group:")
    st.dataframe(pd.DataFrame([{"first": found.name_of(a), "second": found.name_of(b), "faces": e.n, "Cohen's kappa": e.number()}
                               for (a, b), e in measured.pairs.items()]), hide_index=True, height="content")
elif view == "Classes":
    st.dataframe(pd.DataFrame([{"answer": charts.name_of(v), "faces": e.n, "alpha": e.number(), "Fleiss' kappa": measured.fleiss_classes[v].number()}
                               for v, e in measured.classes.items()]), hide_index=True, height="content")
    st.caption("Each answer against all others, on faces with two or more votes; faces: on which at least one person gave it.")
elif view == "Weeks":
    charts.draw(charts.over_time(measured.weeks, "Krippendorff's alpha"), "by-week")
    if masked := [f"{w} ({e.note})" for w, e in measured.weeks.items() if e.value is None]:
        st.caption(f"Not shown: {', '.join(masked)}.")
    st.caption("A face belongs to the ISO week (UTC) of its last vote.")
elif view == "Annotators":
    st.dataframe(pd.DataFrame([{"annotator": a.name, "votes": a.votes, "known answers met": a.gold.percent(), "equal to the first answer":
                                a.consistency.percent()} for a in found.annotators]), hide_index=True, height="content")
    st.caption("Known answers: votes on gold faces. Equal to the first answer: hidden repeats of a face, by the same person. Speeds are shown to "
               "each person alone.")
else:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        who = st.selectbox("Annotator", [a.person_id for a in found.annotators], format_func=found.name_of, key="annotator", bind="query-params")
        against = st.segmented_control("Compared with", ["others", "imported"] if field == "expression" else ["others"], default="others",
                                       required=True, key="against", bind="query-params",
                                       format_func={"others": "the other annotators", "imported": "imported votes"}.__getitem__)
    counts, left_out = cache.annotator_confusion(person, scope, who, against)
    n = int(counts.to_numpy().sum())
    if n < MINIMUM:
        st.info(f"n = {n} < {MINIMUM}: too few of this person's answers meet a clear choice of {against}.", icon=":material/visibility_off:")
        st.stop()
    if opened := confusion_matrix(counts, None, key=f"confusion-{who}-{against}"):
        st.query_params.update({"true": opened[0], "given": opened[1]})
    reference = "what most others chose" if against == "others" else "the FER+ majority of the imported votes"
    st.caption(f"Rows, named true: {reference}; columns, named predicted: this person's answer. n = {n:,}; {left_out:,} answers left out, "
               "on faces without one clear choice.")
    true, given = st.query_params.get("true"), st.query_params.get("given")
    if true in counts.index and given in counts.index:
        images = cache.confusion_faces(person, scope, who, against, true, given)
        st.markdown(f"**{charts.name_of(true)}, answered {charts.name_of(given)}:** {len(images):,} faces" + ", the first 60" * (len(images) > 60))
        faces.wall(cache.by_images(person, tuple(images[:60])), key=f"cell-{true}-{given}")
