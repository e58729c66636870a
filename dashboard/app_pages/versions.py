"""Freeze dataset versions, read them, and decide on them."""

import json

import streamlit as st

from dashboard import access, cache, charts, faces
from dashboard.export_form import export_popover
from dashboard.links import named_in_url
from fercore import versions
from fercore.domain import Permission
from fercore.errors import FerError
from fercore.schemes import FLAGS

person = access.actor()
person.require(Permission.READ_RESULTS)
_STATES = {"frozen": ":gray-badge[frozen]", "in_review": ":orange-badge[in review]", "approved": ":green-badge[approved]",
           "rejected": ":red-badge[rejected]"}


@st.dialog("Freeze a version", width="medium")
def freeze_dialog() -> None:
    st.caption("A version is an immutable list of faces, labels and splits. It is built from what the workspace holds now.")
    here = cache.options()
    name = st.text_input("Name", "fer7", max_chars=60)
    labels = st.radio("Labels", ["current", "given"], horizontal=True, captions=["annotators' plurality, else as given", "as the source says"])
    flags = st.multiselect("Exclude faces flagged as", list(FLAGS), ["non_face"], format_func=lambda f: FLAGS[f][0])
    excluded = st.checkbox("Exclude faces that somebody left out, with a reason", True)
    gone = st.checkbox("Exclude faces whose file is no longer in its source", True)
    brighten = st.checkbox("Brighten the faces that are marked for it; the copies in the version only", False)
    conflicts = st.checkbox("Exclude identical faces with different labels", True)
    duplicates = st.radio("Identical faces", ["keep_one", "keep_all"], horizontal=True,
                          format_func={"keep_one": "keep one", "keep_all": "keep all, in one split"}.__getitem__)
    split = st.radio("Split", ["source", "ratios"], horizontal=True,
                     format_func={"source": f"as the source ({', '.join(here['splits'])})", "ratios": "70 / 15 / 15, stratified"}.__getitem__)
    seed = st.number_input("Seed", 0, 2**31, 0)
    if st.button("Freeze and submit for review", type="primary"):
        try:
            recipe = versions.Recipe(labels=labels, exclude_flags=tuple(flags), drop_excluded=excluded, drop_gone=gone,
                                     transforms=("brighten",) if brighten else (), drop_conflicting=conflicts, duplicates=duplicates,
                                     split=split, seed=seed)
            with st.spinner("Building the version"):
                made = versions.freeze(cache.store(), person, recipe, name)
                versions.submit(cache.store(), person, made)
        except FerError as error:
            st.error(str(error))
        else:
            st.query_params["version"] = made
            st.rerun()


def decide(version_id: str, act: str, icon: str) -> None:
    """A popover that names the version, takes a reason and asks once."""
    with st.popover(act.capitalize(), icon=icon, type="primary" if act == "approve" else "secondary"):
        st.markdown(f"**{act.capitalize()} version {version_id}?** It is recorded under {access.plain(person.name)}, "
                    f"{access.plain(person.authentication)}.")
        reason = st.text_area("Reason" + ("" if act == "reject" else " (optional)"), max_chars=1000, key=f"{act}-reason")
        if st.button(f"{act.capitalize()} {version_id}", type="primary"):
            try:
                (versions.approve if act == "approve" else versions.reject)(cache.store(), person, version_id, reason)
            except FerError as error:
                st.error(str(error))
            else:
                st.rerun()


with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Versions")
    if person.may(Permission.FREEZE) and st.button("Freeze a version", type="primary", icon=":material/ac_unit:"):
        freeze_dialog()
table = cache.version_table()
if table.empty:
    st.info("No version yet. A data lead freezes one when the labels are ready.", icon=":material/ac_unit:")
    st.stop()

version_id = named_in_url("version", table["version_id"].tolist())
left, right = st.columns([2, 3], gap="medium")
with left:
    for row in table.itertuples():
        with st.container(border=row.version_id == version_id):
            st.page_link("app_pages/versions.py", label=f"**{row.version_id}**", query_params={"version": row.version_id}, icon=":material/database:")
            st.markdown(f"{_STATES[row.state]} by {access.plain(row.last_person)}, {row.last_at:%Y-%m-%d %H:%M} UTC")
chosen = table.set_index("version_id").loc[version_id]
with right:
    st.subheader(f"{version_id} {_STATES[chosen['state']]}")
    counts = json.loads(chosen["counts"])
    with st.container(horizontal=True):
        for part in ("train", "val", "test", "excluded"):
            st.metric(part, f"{counts.get(part, 0):,}", border=True)
    export_popover(version_id)
    if chosen["state"] == "frozen" and person.may(Permission.FREEZE) and st.button("Submit for review", type="primary"):
        versions.submit(cache.store(), person, version_id)
        st.rerun()
    if chosen["state"] == "in_review" and person.may(Permission.APPROVE):
        if chosen["person_id"] == person.person_id:
            st.info("You froze this version; another data lead must decide on it.", icon=":material/group:")
        else:
            with st.container(horizontal=True):
                decide(version_id, "approve", ":material/check:")
                decide(version_id, "reject", ":material/close:")
    timeline, composition = cache.version_detail(version_id)
    view = st.segmented_control("Part", ["Classes", "Excluded", "Timeline", "Recipe"], default="Classes", required=True, key="part",
                                bind="query-params", label_visibility="collapsed")
    included = composition[composition["exclusion"].isna()]
    if view == "Classes":
        charts.draw(charts.class_bars(included, by="split"), "classes", height=260)
        wide = included.pivot_table(index="label", columns="split", values="n", aggfunc="sum", fill_value=0)
        wide = wide.reindex(columns=[c for c in ("train", "val", "test") if c in wide]).assign(total=lambda d: d.sum(axis=1))
        st.dataframe(wide.rename(index=charts.name_of))
    elif view == "Excluded":
        reasons = composition[composition["exclusion"].notna()].groupby("exclusion")["n"].sum().sort_values(ascending=False)
        if reasons.empty:
            st.caption("Nothing was excluded.")
        else:
            reason = st.selectbox("Reason", reasons.index.tolist(), format_func=lambda r: f"{r}: {reasons[r]:,} faces")
            faces.wall(cache.by_ids(person, tuple(cache.version_faces(version_id, reason, 30))), key="excluded")
    elif view == "Timeline":
        st.dataframe(timeline, hide_index=True, column_order=["recorded_at", "act", "person", "role", "authentication", "reason"],
                     column_config={"recorded_at": st.column_config.DatetimeColumn("when (UTC)", format="YYYY-MM-DD HH:mm:ss")})
        st.caption(f"Every act is bound to the manifest hash  \n`{chosen['manifest_sha256']}`")
    else:
        st.code(json.dumps(json.loads(chosen["recipe"]), indent=1), language="json")
        st.caption("Recompute it with `fercore version verify " + version_id + "`")
