"""The views of the Bias page: an examination as tables, what is missing, a plan to mend it, and the report with its signatures."""

import json
from collections.abc import Callable

import streamlit as st

from dashboard import access, cache, charts
from fercore.bias import Examination, document, mitigation, offered, power, present, said
from fercore.curation import campaigns
from fercore.domain import Permission
from fercore.errors import FerError
from fercore.evaluation import published
from fercore.schemes import AGE_BANDS, GENDERS

_COLOURS = {c.class_id: c.colour for c in (*AGE_BANDS.classes, *GENDERS.classes)}


def contrast(run_id: str, tags_of: str | None) -> tuple[str, str, str] | None:
    """The boxes of one contrast, chosen before looking; None until two groups are chosen."""
    attribute = st.selectbox("One contrast, chosen before looking", offered(cache.saved_filters()), index=None, format_func=said, key="contrast",
                             bind="query-params", placeholder="of no attribute", width=270)
    if not attribute:
        return None
    try:
        names = cache.bias_groups(run_id, attribute, tags_of)
    except FerError as error:
        st.caption(access.plain(str(error)))
        return None
    def box(label: str, key: str, values: list[str]) -> str | None:
        return st.selectbox(label, values, index=None, format_func=names.__getitem__, key=key, bind="query-params", width=160)

    first = box("First group", "first", list(names))
    second = box("Second group", "second", [value for value in names if value != first])
    return (attribute, first, second) if first and second else None


def table(found: Examination, *names: str) -> None:
    """Tables of the examination under their titles."""
    shown = present.texts(found)
    for name in names:
        if name in shown:
            st.subheader(shown[name].title)
            rows = shown[name].rows.drop(columns=present.MICRO, errors="ignore")  # equals accuracy, as the caption says
            st.dataframe(rows, hide_index=True, height="content" if len(rows) < 25 else 620,
                         column_config={"faces": st.column_config.NumberColumn(format="localized"), "group": st.column_config.TextColumn(width=165)})
            st.caption(shown[name].caption)


def groups(found: Examination) -> None:
    for text in document.in_short(found):
        st.markdown(access.plain(text))
    shown = [r for r in found.table.rows if r.kind == "group" and r.accuracy.value is not None]
    table(found, "table")
    if shown:
        figure = charts.whiskers([r.group for r in shown], [r.accuracy for r in shown], [_COLOURS.get(r.value, "#0072B2") for r in shown],
                                 "accuracy, 95 % interval")
        charts.draw(figure, "groups", height=90 + 40 * len(shown))
    with st.expander("Published bias tables of two systems, for reference"):
        for system, when in ((s, w) for s in ("s0", "s1") for w in ("before", "after")):
            st.markdown(f"{'Four classes, three ages' if system == 's0' else 'Four classes, adult and child'}: {when} mitigation")
            st.dataframe(published(f"{system}_bias_{when}"), hide_index=True)
        st.caption("Groups were drawn from the set used for training, without intervals or tests: not comparable with the above.")


def tests(found: Examination) -> None:
    table(found, "tests", "contrasts", "parity")


def version(found: Examination) -> None:
    table(found, "association", "representation")


def change(found: Examination) -> None:
    if found.change is None:
        st.info("Choose an earlier run above. Both are compared on the faces that neither was trained on.", icon=":material/compare:")
    st.caption(" ".join(document.warnings(found)[1:]))
    table(found, "change", "gap_changes")


def missing(found: Examination) -> None:
    """How many tagged faces are missing, and a campaign that tags them."""
    table(found, "power")
    person = access.actor()
    if not found.needs:
        st.info("Only perceived age and gender are tagged by people: choose one of them, or both crossed, under Groups.", icon=":material/info:")
        return
    able = sorted((n for n in found.needs if n.untagged), key=lambda n: n.to_tag == 0)
    if not able:
        st.info("Every predicted face has these tags: import more faces to make groups larger.", icon=":material/check:")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        at = st.selectbox("Group", range(len(able)), format_func=lambda i: _lacks(able[i]), width=300)
        need = able[at]
        images = power.candidates(cache.bias_frame(found.scope.run_id, _asked(found)[-1]), need.attribute, need.to_tag or None)
        asked = st.button(f"Have {charts.many(len(images))} tagged", type="primary", icon=":material/sell:", disabled=not person.may(Permission.PLAN))
    st.caption(f"Opens a tagging campaign over untagged faces of these predictions, at most {campaigns.HAND_PICKED:,}, in random order. When "
               "they are tagged, freeze the version again and choose it under \"Tags of\": the run need not be trained anew.")
    if asked:
        try:
            name = power.open_campaign(cache.store(), person, found.scope.run_id, need, images)
        except FerError as error:
            st.error(access.plain(str(error)))
        else:
            st.success(f"Campaign {access.plain(name)} is open on the Tag page.", icon=":material/campaign:")


def report(found: Examination) -> None:
    """The report as a file, and who signed it."""
    made = cache.bias_report(*_asked(found))
    sha, person = document.sha256(made), access.actor()
    with st.container(horizontal=True):
        st.download_button("Download the report", made, f"bias-{found.scope.run_id}.html", "text/html", type="primary", icon=":material/download:",
                           on_click="ignore")
        st.download_button("Tables as JSON", json.dumps(found.records(), indent=1), f"bias-{found.scope.run_id}.json", "application/json",
                           on_click="ignore")
    st.caption(f"One printable HTML file of {len(made) / 1024:,.0f} KB without scripts, faces or references. The same run and options give the same "
               f"bytes. SHA-256 {sha}")
    st.code(document.command(found), language="sh", wrap_lines=True)
    signed = cache.bias_signatures(found.scope.run_id, sha)
    here = signed[signed["this_report"]]
    if here.empty:
        st.caption("Nobody has signed this report.")
    if len(signed):
        st.subheader("Signatures of this run")
        st.dataframe(signed.assign(this_report=signed["this_report"].map({True: "yes", False: "no"})), hide_index=True,
                     column_order=["this_report", "recorded_at", "person", "role", "authentication", "note", "command", "report_sha256", "kept"],
                     column_config={"this_report": "this report", "recorded_at": "signed at", "report_sha256": "SHA-256 of what was signed"})
        st.caption("A report with other options, or made by other code, has other bytes and its own signatures.")
    for each in signed.loc[signed["kept"] == "yes", "report_sha256"].unique():
        try:
            kept = document.signed(cache.workspace(), each)
        except FerError as error:  # changed since the table was made
            st.error(access.plain(str(error)))
            continue
        st.download_button(f"What was signed: {each[:12]}", kept, f"bias-{found.scope.run_id}-{each[:12]}.html", "text/html",
                           icon=":material/download:", on_click="ignore")
    if not person.may(Permission.APPROVE) or person.person_id in set(here["person_id"]):
        return
    with st.form("sign"):
        note = st.text_input("What you checked", max_chars=1000)
        st.caption(f"Recorded against the hash above, as {access.plain(person.name)}, {person.authentication}. A signature stays.")
        if st.form_submit_button("Sign this report", icon=":material/draw:"):
            try:
                document.sign(cache.store(), person, found, made, note)
            except FerError as error:
                st.error(access.plain(str(error)))
            else:
                st.rerun()


def mend(found: Examination) -> None:
    """A changed recipe, the version by it, the study against the unchanged baseline, and what came of it."""
    person, run_id = access.actor(), found.scope.run_id
    with st.container(horizontal=True, vertical_alignment="bottom"):
        attribute = st.selectbox("Even out", ["age_band", "gender", "age_band x gender"], format_func=said, key="even", bind="query-params")
        names = list(mitigation.MEANS)
        means = tuple(st.multiselect("By", names, names[:2], format_func=mitigation.MEANS.__getitem__, key="means", bind="query-params"))
    try:
        plan = cache.mitigation_plan(person, run_id, attribute, means, found.minimum)
    except FerError as error:
        st.info(access.plain(str(error)))
        return
    if plan.warning():
        st.warning(plan.warning(), icon=":material/warning:")
    st.dataframe(plan.shown(), hide_index=True, height="content" if len(plan.cells) < 25 else 620)
    st.caption(access.plain(" ".join(plan.notes())))
    with st.expander("The recipe with these targets"):
        st.code(plan.yaml(), language="yaml")
    with st.form("mend"), st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.text_input("Name of the new version", f"{found.scope.version_id}-even", max_chars=60, width=260)
        seeds = st.number_input("Seeds", 1, 10, 3, help="Runs of each: the unchanged baseline and the new version, with the same settings", width=120)
        if st.form_submit_button("Build and train", type="primary", icon=":material/build:",
                                 disabled=not (plan.targets and person.may(Permission.FREEZE) and person.may(Permission.TRAIN))):
            try:
                with st.spinner("Building the version"):
                    built = mitigation.build(cache.store(), person, plan, name)
                study, started = mitigation.launch(cache.workspace(), person, plan, built, range(int(seeds)))
            except FerError as error:
                st.error(access.plain(str(error)))
            else:
                st.success(f"Version {built} is built, {len(started)} runs of study {study} are queued.", icon=":material/model_training:")
    for study in mitigation.studies(cache.workspace(), run_id):
        st.subheader(f"Study {study}")
        try:
            shown, said_of = mitigation.outcome_shown(cache.mitigated(study, tuple(found.by), found.minimum))
        except FerError as error:
            st.info(access.plain(str(error)))
            continue
        st.dataframe(shown, hide_index=True)
        st.caption(access.plain(said_of))


def _lacks(need: power.Need) -> str:
    """What a group lacks, in a few words."""
    if need.more is None:
        return f"{need.group}: {need.note or 'no gap of 5 points is possible'}"
    if need.to_tag == 0:
        return f"{need.group}: enough faces"
    return f"{need.group}: {need.more:,} missing, of the others {need.more_others:,}"


def _asked(found: Examination) -> tuple[str, tuple[str, ...], int, str | None, tuple[str, str, str] | None, str | None]:
    """The arguments of cache.examined that gave this."""
    declared = next(((c.attribute, c.first, c.second) for c in found.contrasts if c.declared), None)
    return (found.scope.run_id, tuple(found.by), found.minimum, found.against.run_id if found.against else None, declared,
            found.scope.tags_of if found.scope.tags_of != found.scope.version_id else None)


VIEWS: dict[str, Callable[[Examination], None]] = {"Groups": groups, "Tests": tests, "Version": version, "Before and after": change,
                                                   "Missing tags": missing, "Mitigation": mend, "Report": report}
