"""What changes between two versions: counts, label changes whose cells open their faces, moves, distributions."""

import pandas as pd
import streamlit as st

from dashboard import access, cache, charts, faces
from dashboard.components.confusion import confusion_matrix
from dashboard.links import choose_in_url
from fercore.domain import Person
from fercore.versions.diff import KINDS, Diff, Kind

SHOWN = 60
_MEANINGS = {"added": "only the newer holds them", "removed": "only the older holds them", "relabelled": "another label", "moved": "another split",
             "tagged": "another tag or flag", "edited": "pixels edited otherwise"}


def view(person: Person, version_id: str, others: list[str]) -> None:
    """The diff from another version, which stands in the URL, to this one."""
    if not others:
        st.info("There is no other version to compare with yet.", icon=":material/difference:")
        return
    if st.query_params.get("against") == version_id:  # the other one was chosen above meanwhile
        del st.query_params["against"]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("From", width="content")
        against = choose_in_url("against", {v: v for v in others}, label="Compare with", width=260)
        st.markdown(f"to **{version_id}**", width="content")
    found = cache.version_diff(against, version_id)
    counts = found.counts()
    if found.same_manifest or not any(counts.values()):
        st.success(f"{version_id} holds the same faces with the same labels, splits and tags as {against}.", icon=":material/check:")
        return
    first = next(k for k in ("relabelled", *KINDS) if counts[k])
    kind: Kind = st.segmented_control("Kind of change", KINDS, default=first, required=True, key="kind", bind="query-params",
                                      label_visibility="collapsed")
    st.markdown(" · ".join(f"**{n:,} {k}**" if k == kind else f"{n:,} {k}" for k, n in counts.items()))
    st.caption(f"{kind.capitalize()}: {_MEANINGS[kind]}.")
    if kind == "relabelled" and counts[kind]:
        _matrix(found)
    elif kind == "moved" and counts[kind]:
        st.dataframe(found.matrix("moved").rename_axis(f"{against} ↓  {version_id} →"), height="content", width="content")
    elif kind == "removed" and counts[kind]:
        st.dataframe(found.reasons(), hide_index=True, width="content")
    _faces(person, found, kind)
    with st.expander("Classes, splits and groups of both versions"):
        for column, title in (("label", "Class"), ("split", "Split"), ("age_band", "Perceived age"), ("gender", "Perceived gender presentation")):
            table = found.distribution(column)
            table["value"] = [charts.name_of(v) if v else "not tagged" for v in table["value"]]
            st.dataframe(table.rename(columns={"value": title, "a": against, "b": version_id}), hide_index=True, height="content", width="content",
                         column_config={"change": st.column_config.NumberColumn(format="%+d")})


def _matrix(found: Diff) -> None:
    opened = confusion_matrix(found.matrix(), None, key=f"diff-{found.a}-{found.b}", axes=("before", "after"))
    if opened:
        st.query_params.update({"from": opened[0], "to": opened[1]})


def _faces(person: Person, found: Diff, kind: Kind) -> None:
    cell = (st.query_params.get("from"), st.query_params.get("to")) if kind == "relabelled" else (None, None)
    rows = found.faces(kind, *cell) if None not in cell else found.faces(kind)
    if None not in cell:
        with st.container(horizontal=True, vertical_alignment="center"):
            before, after = (access.plain(charts.name_of(c)) for c in cell)
            st.markdown(f"**{before} → {after}**: {len(rows):,} faces", width="content")
            st.button("All label changes", type="tertiary", on_click=_forget)
    if rows.empty:
        return
    shown = rows.head(SHOWN).set_index("sample_id")
    known = cache.by_ids(person, tuple(shown.index))
    labels = shown.loc[known["sample_id"], "label_b" if kind == "added" else "label_a"].to_numpy()
    notes = {"moved": lambda r: f"{r.split_a} → {r.split_b}", "removed": lambda r: r.exclusion_b, "tagged": _tags}.get(kind, lambda r: "")
    faces.wall(known.assign(current_label=pd.Series(labels, index=known.index)), key=f"diff-{kind}-{'-'.join(map(str, cell))}",
               second=shown["label_b"].to_dict() if kind == "relabelled" else None, notes={str(i): notes(r) for i, r in zip(
                   shown.index, shown.itertuples(), strict=True)})
    if len(rows) > SHOWN:
        st.caption(f"The first {SHOWN} of {len(rows):,}; all of them: `fercore version diff {found.a} {found.b} --list {kind}`")


def _tags(row: object) -> str:
    pairs = [(getattr(row, f"{c}_a"), getattr(row, f"{c}_b")) for c in ("age_band", "gender", "flags")]
    return ", ".join(f"{a or 'none'} → {b or 'none'}" for a, b in pairs if a != b)


def _forget() -> None:
    for name in ("from", "to"):
        st.query_params.pop(name, None)
