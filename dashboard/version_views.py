"""The views of one version: composition, gates, datasheet, timeline."""

import json

import pandas as pd
import streamlit as st

from dashboard import access, cache, charts, faces
from dashboard.version_signing import ask
from fercore import versions
from fercore.domain import Permission, Person
from fercore.errors import FerError
from fercore.versions.datasheet import QUESTIONS, Answer, Table, as_html, as_markdown
from fercore.versions.gates import Gate
from fercore.versions.lifecycle import OPEN

SHOWN = 60
_RESULTS = {"pass": ":green-badge[:material/check: pass]", "fail": ":red-badge[:material/close: fail]",
            "waived": ":orange-badge[:material/waving_hand: waived]"}


def composition(person: Person, version: pd.Series) -> None:
    """Classes by split, what was left out with its faces, and the recipe."""
    version_id = str(version.name)
    _, parts = cache.version_detail(version_id)
    counts = json.loads(version["counts"])
    with st.container(horizontal=True):
        for part in ("train", "val", "test", "excluded"):
            st.metric(part, f"{counts.get(part, 0):,}", border=True)
    included = parts[parts["exclusion"].isna()]
    left, right = st.columns([3, 2], gap="medium")
    with left:
        charts.draw(charts.class_bars(included, by="split"), "classes", height=280)
    with right:
        wide = included.pivot_table(index="label", columns="split", values="n", aggfunc="sum", fill_value=0)
        wide = wide.reindex(columns=[c for c in ("train", "val", "test") if c in wide]).assign(total=lambda d: d.sum(axis=1))
        st.dataframe(wide.reindex(charts.ordered(wide.index)).rename(
            index=charts.name_of), height="content")
    reasons = parts[parts["exclusion"].notna()].groupby("exclusion")["n"].sum().sort_values(ascending=False)
    if reasons.empty:
        st.caption("Nothing was excluded.")
    else:
        reason = st.selectbox("Left out", reasons.index.tolist(), format_func=lambda r: f"{r}: {reasons[r]:,} faces", key="reason")
        faces.wall(cache.by_ids(person, tuple(cache.version_faces(version_id, reason, SHOWN))), key="excluded")
    with st.expander("Recipe"):
        st.code(json.dumps(json.loads(version["recipe"]), indent=1), language="json")
        st.caption(f"Recompute the version with `fercore version verify {version_id}`")


def gates(person: Person, version: pd.Series) -> None:
    """What must pass, the faces behind each gate, waivers, and the policy."""
    version_id = str(version.name)
    with st.spinner("Checking every gate"):
        found = cache.gates_of(person, version_id)
    failed = sum(g.result == "fail" for g in found)
    if version["state"] not in OPEN:
        st.caption(f"As things stand now, {failed} of {len(found)} gates fail. {_when_approved(version_id)}")
    else:
        st.markdown(f"**{failed} of {len(found)} gates fail**: nobody can approve until they pass or a data lead waives them." if failed else
                    f"All {len(found)} gates pass or are waived.")
    for gate in sorted(found, key=lambda g: ("fail", "waived", "pass").index(g.result)):
        result, words, acts = st.columns([1.1, 8, 2.7], vertical_alignment="center")
        result.markdown(_RESULTS[gate.result])
        wanted = f" (wanted: {access.plain(gate.wanted)})" if gate.wanted else ""
        waived = f"  \nWaived by {access.plain(_name(gate.waived_by))}: {access.plain(gate.reason)}" if gate.reason else ""
        words.markdown(f"**{gate.title}**: {access.plain(gate.found)}{wanted}{waived}")
        with acts.container(horizontal=True, horizontal_alignment="right", gap="small"):
            if gate.faces:
                st.button("Faces", key=f"faces-{gate.gate_id}", icon=":material/grid_view:", on_click=_show, args=(gate.gate_id,))
            if gate.result == "fail" and gate.waivable and _may_waive(person, version):
                ask("Waive", version_id, versions.waive, gate.gate_id, icon="waving_hand", button=f"Waive: {gate.title}")
    chosen = next((g for g in found if g.gate_id == st.query_params.get("gate") and g.faces), None)
    if chosen:
        _faces_of(person, chosen)
    policy(person, cache.signing(version_id))


def _when_approved(version_id: str) -> str:
    """What the gates said when the last approval was given."""
    acts, _ = cache.version_detail(version_id)
    given = acts.loc[(acts["act"] == "approve") & acts["detail"].notna(), "detail"]
    results = list(json.loads(given.iloc[-1]).get("gates", {}).values()) if len(given) else []
    return f"When it was approved, {results.count('pass')} passed and {results.count('waived')} were waived." if results else (
        "It was approved before there were gates.")


def _may_waive(person: Person, version: pd.Series) -> bool:
    return version["state"] in OPEN and person.may(Permission.WAIVE) and bool(
        cache.signing(str(version.name)).policy.creator or version["person_id"] != person.person_id)


def _name(person_id: str) -> str:
    return next((p.name for p in cache.everyone() if p.person_id == person_id), person_id)


def _show(gate_id: str) -> None:
    st.query_params["gate"] = gate_id


def _faces_of(person: Person, gate: Gate) -> None:
    st.markdown(f"**{gate.title}**: the first {len(gate.faces)} faces")
    faces.wall(cache.by_ids(person, gate.faces), key=f"gate-{gate.gate_id}")


def policy(person: Person, signing: cache.Signing) -> None:
    """The numbers of the policy, its history, and for a data lead the way to change it."""
    rules = signing.policy
    with st.expander(f"Policy: {rules.sentence()}"):
        if not signing.history.empty:
            st.dataframe(signing.history[["recorded_at", "person", "authentication", "policy", "reason"]], hide_index=True,
                         column_config={"recorded_at": st.column_config.DatetimeColumn("when (UTC)", format="YYYY-MM-DD HH:mm:ss")})
        else:
            st.caption("The policy that comes with the product; nobody has changed it.")
        if not person.may(Permission.WAIVE):
            return
        with st.form("policy", border=False):
            teams = {1: "one: you sign for yourself", 2: "two: you sign for each other", 3: "three or more: a reviewer and a data lead"}
            now = next((n for n, t in versions.policy.TEAMS.items() if t.items() <= rules.model_dump().items()), 3)
            team = st.radio("People in the team", list(teams), index=now - 1, format_func=teams.__getitem__)
            columns = st.columns(5)
            numbers = {name: column.number_input(title, low, value=getattr(rules, name), step=step) for column, (name, title, low, step) in zip(
                columns, (("class_floor", "Faces of a class", 1, 1), ("group_floor", "Faces of a group", 0, 1),
                          ("open_adjudications", "Open disputes at most", 0, 1), ("alpha", "Alpha at least", -1.0, 0.05),
                          ("gold", "Known answers met", 0.0, 0.05)), strict=True)}
            reason = st.text_input("Reason for the change", max_chars=1000)
            if st.form_submit_button("Change the policy"):
                try:
                    versions.policy.change(cache.store(), person, {**versions.policy.TEAMS[team], **numbers}, reason)
                except FerError as error:
                    st.error(access.plain(str(error)))
                else:
                    st.rerun()


def datasheet(person: Person, version: pd.Series) -> None:
    """The generated document, with the questions that people answer in place."""
    version_id = str(version.name)
    sections = cache.datasheet_of(person, version_id)
    with st.container(horizontal=True):
        for name, kind, write in (("md", "text/markdown", as_markdown), ("html", "text/html", as_html)):
            st.download_button(f"Download {'Markdown' if name == 'md' else 'HTML'}", write(version_id, sections),
                               f"{version_id}-datasheet.{name}", kind, icon=":material/download:", on_click="ignore")
    edits = version["state"] in OPEN and person.may(Permission.APPROVE)
    for section in sections:
        st.markdown(f"#### {section.title}")
        for part in section.parts:
            if isinstance(part, Answer):
                _answer(version_id, part, edits)
            elif isinstance(part, Table):
                if part.rows:
                    head = part.head if any(part.head) else ("what", "value")
                    st.dataframe(pd.DataFrame(part.rows, columns=list(head)), hide_index=True, height="content")
            elif part.startswith("Recipe: "):
                st.caption("The recipe stands under Composition.")
            else:
                st.markdown(access.plain(part))


def _answer(version_id: str, part: Answer, edits: bool) -> None:
    question = QUESTIONS[part.field]
    with st.container(horizontal=True, vertical_alignment="center"):
        missing = ":red-badge[not answered, needed]" if question.needed else ":gray-badge[not answered]"
        st.markdown(f"**{question.title}** {missing if not part.text else ''}  \n{access.plain(part.text or question.asks)}", width="stretch")
        if not edits:
            return
        with st.popover("Edit", icon=":material/edit:"):
            text = st.text_area(question.asks, part.text or "", max_chars=4000, key=f"answer-{version_id}-{part.field}")
            if st.button("Save", key=f"save-{part.field}", type="primary"):
                try:
                    versions.answer(cache.store(), access.actor(), version_id, part.field, text)
                except FerError as error:
                    st.error(access.plain(str(error)))
                else:
                    st.rerun()


def timeline(version: pd.Series) -> None:
    """Every act on the version."""
    acts, _ = cache.version_detail(str(version.name))
    shown = acts.assign(said=[_said(a.act, a.reason, a.detail) for a in acts.itertuples()], state=acts["state"].fillna("").str.replace("_", " "),
                        act=acts["act"].str.replace("_", " "), role=acts["role"].str.replace("_", " "), hash=acts["hash"].str[:12])
    st.dataframe(shown, hide_index=True, height="content",
                 column_order=["recorded_at", "act", "state", "person", "role", "authentication", "said", "hash"],
                 column_config={"recorded_at": st.column_config.DatetimeColumn("when (UTC)", format="YYYY-MM-DD HH:mm:ss"),
                                "said": st.column_config.TextColumn("reason or content", width="medium")})
    st.caption("Acts are only ever added. Each one carries a hash over itself and the act before, and the hash of the manifest it is about; "
               f"`fercore version verify {version.name}` recomputes them.")


def _said(act: str, reason: str | None, detail: str | None) -> str:
    found = json.loads(detail) if isinstance(detail, str) else {}
    if act == "datasheet":
        return f"{QUESTIONS[found['field']].title}: {found['text']}"
    if act == "round_trip":
        return "; ".join(found["differs"]) or "export, import and build gave the same manifest"
    return " · ".join(filter(None, (reason if isinstance(reason, str) else "", f"{found['gate']}: {found['found']}" if act == "waive" else "")))
