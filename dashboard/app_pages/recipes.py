"""Write a recipe, see at once what each step takes, and freeze a version by it."""

import pandas as pd
import streamlit as st

from dashboard import access, cache, charts, faces, recipe_form
from dashboard.state import session
from fercore import versions
from fercore.domain import SPLITS, Permission
from fercore.errors import FerError

person = access.actor()
person.require(Permission.FREEZE)
st.title("Recipes")
if not cache.options()["sources"]:
    access.no_faces_yet()
schemes, shipped = cache.known_schemes(), versions.shipped.names()
starts = {f"recipe {n}": versions.shipped.recipe(n).title for n in shipped} | {f"version {v}": f"as {v} was made"
                                                                               for v in cache.version_table()["version_id"]}


def start() -> None:
    """The document begins anew from a recipe that ships, or from that of a version."""
    kind, _, name = st.session_state["start"].partition(" ")
    recipe_form.write(versions.shipped.text(name) if kind == "recipe" else versions.as_yaml(cache.recipe_of(name)))


if not session().recipe:
    asked = st.query_params.get("recipe", "")
    recipe_form.write(versions.shipped.text(asked if asked in shipped else "fer7"))
document, result = st.columns(2, gap="medium")
with document:
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        view = st.segmented_control("View", ["Form", "Text"], default="Form", required=True, key="recipe-view", label_visibility="collapsed",
                                    on_change=lambda: recipe_form.write(session().recipe))
        st.selectbox("Start from", list(starts), index=None, format_func=starts.__getitem__, key="start", on_change=start, width=290,
                     placeholder="Start from another recipe", label_visibility="collapsed")
    recipe, made, problem = None, None, ""
    try:
        if view == "Text":
            session().recipe = st.text_area("YAML", session().recipe, height=560, key=f"recipe-text-{session().recipe_round}",
                                            label_visibility="collapsed")
            recipe = versions.parse_recipe(session().recipe, "This text", schemes)
        else:
            before = versions.parse_recipe(session().recipe, "The text", schemes)
            recipe = recipe_form.form(before, schemes)
            if recipe.model_dump() != before.model_dump():  # otherwise the text keeps its spelling and its comments
                session().recipe = versions.as_yaml(recipe)
        made = cache.made(person, versions.as_yaml(recipe))
    except FerError as error:
        problem = str(error)
    st.download_button("Download", session().recipe, "recipe.yaml", "application/yaml", icon=":material/download:", type="tertiary",
                       on_click="ignore")

with result:
    if recipe is None or made is None:
        st.error(access.plain(problem), icon=":material/error:")
        st.info("The funnel is shown when the recipe can be used.", icon=":material/filter_alt:")
        st.stop()
    included = made.rows[made.rows["exclusion"].isna()]
    with st.container(horizontal=True):
        for part in SPLITS:
            st.metric(part, f"{int((included['split'] == part).sum()):,}", border=True)
    funnel = versions.shipped.beside(recipe, made.counted()).assign(change=lambda d: d["after"] - d["before"])
    shown = ["step", "change", "after", *(["published", "note"] if funnel["published"].notna().any() else [])]
    event = st.dataframe(funnel[shown], hide_index=True, on_select="rerun", selection_mode="single-row", key="funnel", height="content",
                         placeholder="", column_config={"step": st.column_config.TextColumn(width=180), **{
                             c: st.column_config.NumberColumn(format="localized", width=68) for c in ("change", "after", "published")}})
    for cell in made.missing:
        st.warning(f"{access.plain(cell['target'])}: {cell['here']:,} of {cell['wanted']:,} training faces, {cell['missing']:,} are missing",
                   icon=":material/group_add:")
    counts = pd.crosstab(included["label"], included["split"]).reindex(columns=[s for s in SPLITS if s in set(included["split"])])
    st.dataframe(counts.rename(index=charts.name_of).assign(total=counts.sum(axis=1).to_numpy()))
    with st.form("freeze", border=False), st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.text_input("Name of the version", max_chars=60, placeholder="a number is added")
        asked_for = st.form_submit_button("Freeze", type="primary", icon=":material/ac_unit:")
    if asked_for:
        try:
            with st.spinner("Building the version"):
                made_id = versions.freeze(cache.store(), person, recipe, name)
        except FerError as error:
            st.error(access.plain(str(error)))
        else:
            st.success(f"{made_id} is frozen: {len(included):,} faces.", icon=":material/check:")
            st.page_link("app_pages/versions.py", label=f"Open {made_id}", query_params={"version": made_id}, icon=":material/history:")

for row in event["selection"]["rows"]:
    st.query_params["step"] = made.funnel[row].name
chosen = next((s for s in made.funnel if s.name == st.query_params.get("step")), None)
if chosen is None:
    st.info("Choose a step of the funnel to see its faces here.", icon=":material/touch_app:")
    st.stop()
st.subheader(access.plain(chosen.name[:1].upper() + chosen.name[1:]))
if not len(chosen.samples):
    st.caption("This step takes and adds no face.")
    st.stop()
at = faces.pager(len(chosen.samples), faces.PAGE, "step_page", f"{len(chosen.samples):,} faces")
faces.wall(cache.by_ids(person, tuple(chosen.samples[at:at + faces.PAGE])), key=f"step-{chosen.name}")
