"""Views of the Explore page beside the wall of faces: each draws the faces that match the filter and opens those behind a mark."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import access, cache, charts, faces
from fercore.domain import SIDE, Filter, Permission, Person
from fercore.errors import FerError
from fercore.schemes import FER8

MOST = 60
_STEPS = ("no label", "label outside", "flagged", "excluded", "identical faces", "source split", "duplicate", "also in")
_GROUPS = {"source_split": "Source split", "source_id": "Source", "age_band": "Perceived age", "gender": "Perceived gender"}


def _label(person: Person) -> str:
    """The label a person may see by: the given one while others' answers are hidden."""
    return "current_label" if person.may(Permission.READ_RESULTS) else "given_label"


def _groups(person: Person) -> dict[str, str]:
    return _GROUPS if person.may(Permission.READ_RESULTS) else {k: v for k, v in _GROUPS.items() if k.startswith("source")}


def _open(person: Person, rows: pd.DataFrame, title: str, key: str) -> None:
    """The faces behind a mark."""
    st.markdown(f"**{access.plain(title)}:** {len(rows):,} faces" + f", the first {MOST}" * (len(rows) > MOST))
    faces.wall(cache.by_ids(person, tuple(rows["sample_id"].head(MOST))), key=key)


def _csv(frame: pd.DataFrame, name: str) -> None:
    st.download_button("Data as CSV", frame.to_csv(index=False), f"{name}.csv", "text/csv", icon=":material/download:", key=f"csv-{name}")


def distribution(person: Person, chosen: Filter) -> None:
    rows, label, names = cache.members(chosen), _label(person), _groups(person)
    by = st.segmented_control("By", list(names), default="source_split", required=True, key="by", bind="query-params", format_func=names.__getitem__)
    counts = rows.assign(**{by: rows[by].fillna("none")}).groupby([label, by], observed=True).size().rename("n").reset_index()
    st.subheader(f"{label.removesuffix('_label').capitalize()} label by {names[by].lower()}")
    points = charts.draw(charts.class_bars(counts.rename(columns={label: "label"}), by=by), "bars", select=True)
    _csv(counts, "distribution")
    for value in {p["customdata"] for p in points}:
        _open(person, rows[rows[label] == value], charts.name_of(value), f"bars-{value}")
    st.subheader("Brightness by label")
    charts.draw(charts.intensity(rows["mean"], rows[label]), "intensity")


def per_class(person: Person, chosen: Filter) -> None:
    """A row of faces a class, drawn at random by a fixed rule."""
    rows, label = cache.members(chosen), _label(person)
    for value in [c for c in FER8.ids if c in set(rows[label])]:
        part = rows[rows[label] == value].sort_values("sample_id")  # ids are hashes: this order is random and the same for everybody
        st.markdown(f"**{charts.name_of(value)}**, {len(part):,} faces")
        faces.wall(cache.by_ids(person, tuple(part["sample_id"].head(12))), key=f"class-{value}")


def intensity(person: Person, chosen: Filter) -> None:
    """Histogram of pixel values per class and overall; spikes at the ends are dark and bright pictures."""
    looks = cache.looks_by(chosen, _label(person))
    counts = {c: looks[c][2] for c in FER8.ids if c in looks}
    if not counts:
        st.info("No labelled face matches.", icon=":material/filter_alt_off:")
        return
    charts.draw(charts.pixel_histogram({**counts, "all faces": np.sum([*counts.values()], axis=0)}), "pixels", height=420)
    _csv(pd.DataFrame({"pixel_value": np.arange(256), **counts}), "pixel_values")


def mean_faces(person: Person, chosen: Filter) -> None:
    """Mean face of each class or group, and the difference of two."""
    names = {_label(person): "Label"} | _groups(person)
    by = st.segmented_control("Groups by", list(names), default=_label(person), required=True, key="mean_by", bind="query-params",
                              format_func=names.__getitem__)
    looks = cache.looks_by(chosen, by)
    if not looks:
        st.info("No face matches, or none has this tag.", icon=":material/filter_alt_off:")
        return
    with st.container(horizontal=True):
        for value, (n, mean, _) in looks.items():
            with st.container(width=150, gap="xxsmall"):
                st.html(faces.upscaled(np.rint(mean).astype(np.uint8).tobytes(), 3))
                st.caption(f"{access.plain(charts.name_of(value))}, n = {n:,}")
    if len(looks) > 1:
        first, second = (column.selectbox(title, list(looks), index=i, format_func=charts.name_of, key=title, bind="query-params")
                         for i, (column, title) in enumerate(zip(st.columns(2), ("Mean face of", "minus that of"), strict=True)))
        apart = looks[first][1] - looks[second][1]
        grey = np.clip(np.rint(128 + apart * (127 / max(np.abs(apart).max(), 1))), 0, 255).astype(np.uint8)
        st.html(faces.upscaled(grey.tobytes(), 6))
        st.caption(f"Bright where {access.plain(charts.name_of(first))} is brighter, up to {np.abs(apart).max():.1f} grey levels; mid-grey is no "
                   f"difference. n = {looks[first][0]:,} and {looks[second][0]:,}.")
    _csv(pd.DataFrame({v: m.ravel() for v, (_, m, _) in looks.items()}).assign(row=np.repeat(np.arange(SIDE), SIDE),
                                                                                column=np.tile(np.arange(SIDE), SIDE)), "mean_faces")


def box_plots(person: Person, chosen: Filter) -> None:
    rows, label = cache.members(chosen), _label(person)
    what = st.segmented_control("Of", ["mean", "sd"], default="mean", required=True, key="box_of", bind="query-params",
                                format_func={"mean": "mean pixel value", "sd": "standard deviation of pixel values"}.__getitem__)
    groups = {c: rows.loc[rows[label] == c].set_index("sample_id")[what] for c in FER8.ids if c in set(rows[label])}
    if not groups:
        st.info("No labelled face matches.", icon=":material/filter_alt_off:")
        return
    points = charts.draw(charts.boxes(groups, what), "boxes", height=420, select=True)
    _csv(rows[["sample_id", label, what]], "boxes")
    if ids := {str(p["customdata"]) for p in points if "customdata" in p}:
        _open(person, rows[rows["sample_id"].isin(ids)], "Chosen points", "boxes-faces")


def votes(person: Person, chosen: Filter) -> None:
    """How divided the imported votes are, by given label."""
    if not person.may(Permission.READ_RESULTS):
        st.info("Votes are shown once you read results.", icon=":material/visibility_off:")
        return
    rows = cache.members(chosen).merge(cache.measured(person, "disputed"), on="image_id")
    if rows.empty:
        st.info("No imported votes on these faces. Import FER+ votes to see where people disagree.", icon=":material/how_to_vote:")
        return
    rows["column"] = (rows["value"] / 0.25).round() * 0.25
    counts = rows.groupby(["given_label", "column"], observed=True).size().rename("n").reset_index().rename(columns={"given_label": "label"})
    points = charts.draw(charts.bubbles(counts, "entropy of the votes, bits (0: all agree)"), "votes", height=380, select=True)
    _csv(counts, "vote_entropy")
    for label, column, _ in {tuple(p["customdata"]) for p in points}:
        _open(person, rows[(rows["given_label"] == label) & np.isclose(rows["column"], column)], f"{charts.name_of(label)}, about {column:g} bits",
              f"votes-{label}-{column}")


def duplicates(person: Person, chosen: Filter) -> None:
    """Groups of identical or nearly identical faces, the largest first."""
    kind = st.segmented_control("Kind", ["exact_duplicate", "near_duplicate"], default="exact_duplicate", required=True, key="duplicates",
                                bind="query-params", format_func={"exact_duplicate": "Identical", "near_duplicate": "Nearly identical"}.__getitem__)
    listed = cache.finding_groups(person, kind)
    if listed.empty:
        st.info("No such group, or no audit has looked for it.", icon=":material/search_off:")
        return
    page = st.number_input(f"Groups from, of {len(listed):,}", 1, len(listed), step=8, key="from", bind="query-params", width=240)
    for row in listed.iloc[page - 1:page + 7].itertuples():
        st.markdown(f"**{row.n:,} faces** · {row.group_id[:8]}")
        faces.wall(cache.finding_faces(person, kind, 0, MOST, row.group_id), key=f"group-{row.group_id}")
    _csv(listed, "groups")


def _step(reason: str) -> int:
    """The place of an exclusion in the order in which a recipe goes."""
    return next((i for i, start in enumerate(_STEPS) if reason.startswith(start)), len(_STEPS))


def funnel(person: Person, chosen: Filter) -> None:
    """Rows in, what each step of the default recipe takes out, rows left."""
    if not person.may(Permission.READ_RESULTS):
        st.info("What is left out follows from people's answers; it is shown once you read results.", icon=":material/visibility_off:")
        return
    try:
        rows = cache.funnel()
    except FerError as error:
        st.info(str(error), icon=":material/filter_alt:")
        return
    taken = rows["exclusion"].value_counts().sort_index(key=lambda reasons: reasons.map(_step))
    steps, left = [("rows in", 0, len(rows))], len(rows)
    for reason, n in taken.items():
        left -= int(n)
        steps.append((str(reason), int(n), left))
    points = charts.draw(charts.funnel(steps), "funnel", height=120 + 40 * len(steps), select=True)
    st.caption("The default recipe over the whole workspace, whatever the filter; each row is counted under the first step that takes it out.")
    _csv(pd.DataFrame(steps, columns=["step", "rows_out", "rows_left"]), "funnel")
    for reason in {p["customdata"] for p in points} & set(taken.index):
        _open(person, rows[rows["exclusion"] == reason], reason, f"funnel-{reason}")


VIEWS: dict[str, Callable[[Person, Filter], None]] = {
    "Distribution": distribution, "Samples": per_class, "Pixel values": intensity, "Mean faces": mean_faces, "Box plots": box_plots, "Votes": votes,
    "Duplicates": duplicates, "Funnel": funnel}
