"""A recipe as a form: every part of the document has its widgets, and what they say is the document again."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import cache
from dashboard.charts import name_of
from dashboard.state import session
from fercore import versions
from fercore.audit import KINDS
from fercore.curation.rules import RULES, VOTES
from fercore.errors import BadInput
from fercore.schemes import AGE_BANDS, FLAGS, GENDERS, Scheme
from fercore.versions.document import CONDITIONS, Exclude

_SAID = {"gone": "its file is gone from its source", "marked": "people left it out", "flag": "it is flagged", "finding": "the audit found it",
         "votes": "of its votes", "tag": "it is tagged", "quality": "a measure is out of bounds", "samples": "it is picked by hand"}
_EDITS = ({"do": "marked"}, {"do": "brighten_1.5", "flag": "dark"}, {"do": "standardise"})
_TARGET = ("age_band", "gender", "class", "at_least", "at_most", "by", "candidates")


def write(text: str) -> None:
    """Makes `text` the document of this session; all widgets start anew from it."""
    found = session()
    found.recipe, found.recipe_round = text, found.recipe_round + 1


def _key(name: str) -> str:
    return f"recipe-{session().recipe_round}-{name}"


def form(recipe: versions.Recipe, schemes: dict[str, Scheme]) -> versions.Recipe:
    """The widgets, and the recipe that they say. Raises: BadInput: they contradict each other."""
    said = json.loads(recipe.model_dump_json())
    here = cache.options()["sources"]
    sources = list(dict.fromkeys([*here, *recipe.sources, *(s for t in recipe.targets for s in t.candidates.sources)]))
    left, right = st.columns(2)
    said["sources"] = left.multiselect("Sources", sources, list(recipe.sources), key=_key("sources"), placeholder="all",
                                       format_func=lambda s: s if s in here else f"{s} (not in this workspace)")
    known = [s for s in schemes if schemes[s].field not in ("age_band", "gender")]
    said["scheme"] = right.selectbox("Scheme", known, known.index(recipe.scheme) if recipe.scheme in known else 0, key=_key("scheme"))
    said["labels"] = _labels(said["labels"], schemes[said["scheme"]])
    st.markdown("**Left out, in this order** (the first reason stands in the manifest)")
    _exclusions(recipe)
    st.markdown("**Identical faces**")
    with st.container(horizontal=True):
        said["drop_conflicting"] = st.checkbox("Leave out all with different labels", recipe.drop_conflicting, key=_key("conflicts"))
        said["duplicates"] = "keep_one" if st.checkbox("Keep one of each", recipe.duplicates == "keep_one", key=_key("one")) else "keep_all"
        said["near_duplicates"] = st.checkbox("Near duplicates in one split", recipe.near_duplicates, key=_key("near"))
    edits = list({json.dumps(e, sort_keys=True): e for e in (*(t.model_dump(exclude_none=True) for t in recipe.transforms), *_EDITS)}.values())
    said["transforms"] = st.multiselect("Edits of pixels, in this order", edits, [t.model_dump(exclude_none=True) for t in recipe.transforms],
                                        format_func=_edit, key=_key("edits"), placeholder="none")
    said["split"] = _split(said["split"])
    said["targets"] = _targets(said["targets"], schemes[said["scheme"]], sources)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        said["seed"] = st.number_input("Seed", 0, 2**31, recipe.seed, key=_key("seed"), width=160)
        said["votes"] = st.checkbox("Carry votes, for training on soft labels", recipe.votes, key=_key("votes"))
    return parsed(json.dumps(said), schemes).model_copy(update={c: getattr(recipe, c) for c in ("title", "about", "published")})


def parsed(text: str, schemes: Iterable[str]) -> versions.Recipe:
    """The recipe that a form says, with an error that names no line. Raises: BadInput."""
    try:
        return versions.parse_recipe(text, "This form", list(schemes))
    except BadInput as error:
        raise BadInput(error.title, re.sub(r"^This form, line \d+, ", "", error.detail), error.remedy) from error


def _edit(edit: dict[str, str]) -> str:
    which = edit.get("flag") or edit.get("finding")
    return "as people marked it" if edit["do"] == "marked" else edit["do"].replace("_", " by ") + (f", where {which}" if which else "")


def _labels(labels: dict[str, Any], scheme: Scheme) -> dict[str, Any]:
    ways = {"given": "as the source says", "current": "as people decided, else as given", "votes": "from votes by a rule"}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        labels["take"] = st.selectbox("Labels", list(ways), list(ways).index(labels["take"]), format_func=ways.__getitem__, key=_key("take"))
        if labels["take"] == "votes":
            labels["rule"] = st.selectbox("Rule", list(RULES), list(RULES).index(labels["rule"] or "argmax@1"), key=_key("rule"))
            labels["votes"] = st.selectbox("Votes", VOTES, VOTES.index(labels["votes"]), key=_key("of"))
        else:
            labels["rule"] = None
    if labels["rule"] != "focus4@1":
        labels.pop("order"), labels.pop("anger_over")
    with st.expander("Rename classes", expanded=bool(labels["map"])):
        table = st.data_editor(pd.DataFrame({"class": labels["map"].keys(), "becomes": labels["map"].values()}, dtype=object), num_rows="dynamic",
                               hide_index=True, key=_key("map"), column_config={
                                   "class": st.column_config.TextColumn("this class", required=True),
                                   "becomes": st.column_config.SelectboxColumn("becomes (empty: is left out)", options=list(scheme.ids))})
        labels["map"] = {r["class"]: r["becomes"] or None for r in table.to_dict("records") if r["class"]}
    return labels


def _exclusions(recipe: versions.Recipe) -> None:
    for i, rule in enumerate(recipe.exclude):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"{i + 1}. {rule.said}")
            for name, icon, to in (("Up", "arrow_upward", i - 1), ("Down", "arrow_downward", i + 1)):
                st.button(name, key=_key(f"{name}-{i}"), icon=f":material/{icon}:", type="tertiary", on_click=_with,
                          disabled=not 0 <= to < len(recipe.exclude), args=(recipe, _moved(recipe.exclude, i, to)))
            st.button("Remove", key=_key(f"remove-{i}"), icon=":material/close:", type="tertiary", on_click=_with, args=(
                recipe, [e for k, e in enumerate(recipe.exclude) if k != i]))
    with st.popover("Leave out more", icon=":material/add:"):
        kind = st.selectbox("Faces of which", CONDITIONS, 2, format_func=_SAID.__getitem__, key=_key("kind"))
        given = _condition(kind)
        reason = st.text_input("Reason", max_chars=100, placeholder="made from the condition", key=_key("reason"))
        if st.button("Leave them out", type="primary", key=_key("add")):
            try:
                new = parsed(json.dumps({"exclude": [{**given, "reason": reason}]}), [versions.Recipe().scheme]).exclude[0]
                _with(recipe, [*recipe.exclude, new])
                st.rerun()
            except BadInput as error:
                st.error(str(error))


def _moved(rules: Sequence[Exclude], at: int, to: int) -> list[Exclude]:
    left = [r for i, r in enumerate(rules) if i != at]
    return [*left[:to], rules[at], *left[to:]]


def _condition(kind: str) -> dict[str, Any]:
    if kind in ("gone", "marked"):
        return {kind: True}
    if kind in ("flag", "finding"):
        names = {f: FLAGS[f][0] for f in FLAGS} if kind == "flag" else KINDS
        return {kind: st.selectbox("Which", list(names), format_func=names.__getitem__, key=_key(f"new-{kind}"))}
    if kind == "votes":
        return {kind: st.text_input("Condition", "unknown >= 5", key=_key("new-votes")), "of": st.selectbox("Votes", VOTES, key=_key("new-of"))}
    if kind == "tag":
        groups = {f"{f}={c}": name_of(c) for s, f in ((AGE_BANDS, "age_band"), (GENDERS, "gender")) for c in s.ids}
        field, _, value = st.selectbox("Group", list(groups), format_func=groups.__getitem__, key=_key("new-tag")).partition("=")
        return {kind: {field: value}}
    if kind == "quality":
        return {kind: {"measure": st.selectbox("Measure", ["mean", "sd", "contrast", "sharpness"], key=_key("new-measure")),
                       "below": st.number_input("Below", value=None, key=_key("new-below")), "above": st.number_input("Above", value=None,
                                                                                                                     key=_key("new-above"))}}
    return {kind: st.text_area("Sample ids, one a line", key=_key("new-ids")).split()}


def _with(recipe: versions.Recipe, rules: list[Exclude]) -> None:
    write(versions.as_yaml(recipe.model_copy(update={"exclude": tuple(rules)})))


def _split(split: dict[str, Any]) -> dict[str, Any]:
    ways = {"source": "as the source splits", "ratios": "drawn by shares", "folds": "folds only"}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        split["by"] = st.selectbox("Split", list(ways), list(ways).index(split["by"]), format_func=ways.__getitem__, key=_key("by"))
        if split["by"] == "ratios":
            split["ratios"] = [st.number_input(f"Share of {part}", 0.0, 1.0, share, 0.05, key=_key(f"share-{part}"), width=130)
                               for part, share in zip(("train", "val", "test"), split["ratios"], strict=True)]
        elif split["by"] == "source":
            split["validation_share"] = st.number_input("Share of val", 0.01, 0.49, split["validation_share"], 0.05, key=_key("val"), width=130,
                                                        help="Of training, where the source has no split for it")
        split["folds"] = st.number_input("Folds", 0, 50, split["folds"], key=_key("folds"), width=130, help="0 makes none")
    return split


def _targets(targets: list[dict[str, Any]], scheme: Scheme, sources: list[str]) -> list[dict[str, Any]]:
    """One row a target; a target of several classes or of a pool of samples is left as it is, and edited as text."""
    plain = [t for t in targets if len(t["classes"]) < 2 and len(t["candidates"]["sources"]) < 2 and not t["candidates"]["samples"]
             and "source_id" not in t["where"]]
    rows = [{**t["where"], "class": next(iter(t["classes"]), None), "at_least": t["at_least"], "at_most": t["at_most"], "by": t["by"],
             "candidates": next(iter(t["candidates"]["sources"]), None)} for t in plain]
    with st.expander("How many training faces a class or group has", expanded=bool(targets)):
        column = st.column_config
        table = st.data_editor(pd.DataFrame(rows, columns=list(_TARGET), dtype=object), num_rows="dynamic", hide_index=True, key=_key("targets"),
                               column_config={"age_band": column.SelectboxColumn("age", options=list(AGE_BANDS.ids)),
                                              "gender": column.SelectboxColumn(options=list(GENDERS.ids)),
                                              "class": column.SelectboxColumn("class (empty: each)", options=list(scheme.ids)),
                                              "at_least": column.NumberColumn("at least", min_value=1),
                                              "at_most": column.NumberColumn("at most", min_value=1),
                                              "by": column.SelectboxColumn(options=["rows", "weight"], default="rows"),
                                              "candidates": column.SelectboxColumn("add from", options=sources)})
    told = list[dict[str, Any] | None]()
    for row in table.astype(object).where(table.notna(), None).to_dict("records"):
        if row["at_least"] or row["at_most"]:
            told.append({"where": {f: row[f] for f in ("age_band", "gender") if row[f]}, "classes": [row["class"]] if row["class"] else [],
                        "at_least": row["at_least"] and int(row["at_least"]), "at_most": row["at_most"] and int(row["at_most"]),
                        "by": row["by"] or "rows", "candidates": {"sources": [row["candidates"]] if row["candidates"] else []}})
    edited = iter(told)  # in their places among the others: of several weights on a face, the last holds
    return [t for t in (*[next(edited, None) if t in plain else t for t in targets], *edited) if t]
