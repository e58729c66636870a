"""Filter faces, see them, see how they are distributed."""

import streamlit as st

from dashboard import access, cache, charts, explore_views
from fercore.audit import FROM_VOTES, KINDS
from fercore.domain import Filter, Permission
from fercore.schemes import AGE_BANDS, CANNOT_TELL, FER7, FLAGS, GENDERS

person = access.actor()
person.require(Permission.LOOK)


st.title("Explore")
here = cache.options()
if not here["sources"]:
    access.no_faces_yet()


# In the URL a bound widget stands with the names it shows, so links to this page use those.
def pick(label: str, values: list[str], key: str, names: dict[str, str] | None = None) -> tuple[str, ...]:
    return tuple(st.multiselect(label, values, key=key, bind="query-params", placeholder="any", format_func=lambda v: (names or {}).get(v, v)))


head = st.container(horizontal=True, vertical_alignment="center")
view = head.segmented_control("View", list(explore_views.VIEWS), default="Faces", required=True, key="view", bind="query-params",
                              label_visibility="collapsed", on_change=explore_views.close)
left, right = st.columns([1, 4], gap="medium")
with left:
    groups = {**{c.class_id: c.name for c in (*AGE_BANDS.classes, *GENDERS.classes)}, CANNOT_TELL: "Cannot tell", "not_tagged": "Not tagged"}
    answers = {c.class_id: c.name for s in cache.known_schemes().values() if s.field == FER7.field for c in s.classes}
    given = charts.ordered({*FER7.ids, *here["labels"]})
    classes = {c: charts.name_of(c) for c in given} | answers
    # Other people's answers are no filter for who has yet to give their own (honesty rule 5).
    informed = person.may(Permission.READ_RESULTS)
    chosen = Filter(
        labels=pick("Current label", charts.ordered({*given, *answers}), "label", classes) if informed else (),
        given=pick("Given label", given, "given", classes),
        splits=pick("Source split", here["splits"], "split"),
        findings=pick("Finding", [k for k in here["findings"] if informed or k not in FROM_VOTES], "finding", KINDS),
        flags=pick("Flag", list(FLAGS), "flag", {k: v[0] for k, v in FLAGS.items()}) if informed else (),
        age_bands=pick("Perceived age", [*AGE_BANDS.ids, CANNOT_TELL, "not_tagged"], "age", groups) if informed else (),
        genders=pick("Perceived gender", [*GENDERS.ids, CANNOT_TELL, "not_tagged"], "gender", groups) if informed else (),
        sources=pick("Source", here["sources"], "source") if len(here["sources"]) > 1 else (),
        relabelled=True if informed and st.toggle("Only relabelled", key="relabelled", bind="query-params") else None,
    )
with right:
    head.markdown(f"**{len(cache.members(chosen)):,}** faces")
    if informed and chosen != Filter():
        with head:
            explore_views.save_popover(person, chosen)
    if cache.members(chosen).empty:
        st.info("No face matches all of these filters. Clear one of them.", icon=":material/filter_alt_off:")
    else:
        explore_views.VIEWS[view](person, chosen)
