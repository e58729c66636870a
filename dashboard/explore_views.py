"""Views of the Explore page: each draws the faces that match the filter, and opens those behind a mark; the URL names view and mark."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlencode

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard import access, cache, charts, downloads, faces
from dashboard.components.face_grid import Tile, face_grid
from fercore.bias import saved
from fercore.domain import SIDE, Filter, Order, Permission, Person
from fercore.errors import FerError

_STEPS = ("no longer", "no label", "label outside", "flagged", "excluded", "identical faces", "source split", "duplicate", "also in")
_GROUPS = {"source_split": "Source split", "source_id": "Source", "age_band": "Perceived age", "gender": "Perceived gender"}
_ALL = "all labelled faces"
_BIN = 4  # pixel values in one bin of the histogram
_SHOWN = 20  # groups on a page


def show(*mark: str) -> None:
    """Opens the faces of a mark: the URL names it."""
    st.query_params["open"] = list(mark)
    st.query_params.pop("page", None)


def close() -> None:
    st.query_params.pop("open", None)
    st.query_params.pop("page", None)


def _mark() -> tuple[str, ...]:
    """The mark that the URL names; empty when none is open."""
    return tuple(st.query_params.get_all("open"))


def _labels(person: Person) -> str:
    """The label a person may see by: the given one while others' answers are hidden (honesty rule 5)."""
    return "current_label" if person.may(Permission.READ_RESULTS) else "given_label"


def _groups(person: Person) -> dict[str, str]:
    return _GROUPS if person.may(Permission.READ_RESULTS) else {k: v for k, v in _GROUPS.items() if k.startswith("source")}


def _members(person: Person, chosen: Filter) -> pd.DataFrame:
    """Members with `label`, as this person may see it."""
    rows = cache.members(chosen)
    return rows.assign(label=rows[_labels(person)].fillna(charts.NO_LABEL))


def _by_class(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    parts = dict(iter(rows.groupby("label")))
    return {c: parts[c] for c in charts.ordered(parts)}


def _choice(title: str, names: dict[str, str], key: str) -> str:
    """One of a few ways to draw a view; the first unless the URL names another."""
    return st.segmented_control(title, list(names), default=next(iter(names)), required=True, key=key, bind="query-params", on_change=close,
                                format_func=names.__getitem__, label_visibility="collapsed")


@contextmanager
def _chart(figure: go.Figure, name: str, data: pd.DataFrame, *, height: int = 270) -> Iterator[tuple[str, ...]]:
    """Draws a plot and below what is drawn within, for the open mark, its downloads. The customdata of a mark is its name."""

    def turn() -> None:
        points = st.session_state[name]["selection"]["points"]
        if points:
            show(*map(str, np.atleast_1d(points[0]["customdata"])))
        else:
            close()

    charts.draw(figure, name, height=height, select=turn, picture=st.session_state.get("picture", "PNG"))
    yield _mark()
    with st.container(horizontal=True, vertical_alignment="center"):
        _download(name, data)
        st.segmented_control("Picture", ["PNG", "SVG"], default="PNG", required=True, key="picture", label_visibility="collapsed")
        st.caption("is what the camera above the plot saves. Click a mark to open its faces.")


def _download(name: str, data: pd.DataFrame) -> None:
    downloads.button(name, lambda: str(data.to_csv(index=False)))


def _opened(rows: pd.DataFrame, title: str) -> None:
    """The faces behind the open mark."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{access.plain(title)}:** {charts.many(len(rows))}", width="stretch")
        with st.popover("Link", icon=":material/link:", type="tertiary"):
            st.code(f"{st.context.url}?{urlencode(st.query_params.to_dict() | {'open': _mark()}, doseq=True)}", language=None, wrap_lines=True)
        st.button("Close", icon=":material/close:", type="tertiary", on_click=close)
    if rows.empty:
        st.info("No face behind this mark matches the filter.", icon=":material/filter_alt_off:")
    else:
        faces.pages(rows, key="opened")


def wall(person: Person, chosen: Filter) -> None:
    order = st.selectbox("Order", list(Order), key="order", bind="query-params", label_visibility="collapsed", width=240, on_change=close)
    rows = cache.members(chosen)
    if order is not Order.SOURCE:
        rows = rows.sort_values("sample_id" if order is Order.SHUFFLED else "mean", ascending=order is not Order.BRIGHTEST, kind="stable")
    faces.pages(rows, key="grid")


def distribution(person: Person, chosen: Filter) -> None:
    rows, names = _members(person, chosen), _groups(person)
    by = _choice("By", names, "by")
    rows["group"] = rows[by].fillna("none")
    counts = rows.groupby(["label", "group"]).size().rename("n").reset_index()
    with _chart(charts.class_bars(counts, by="group"), "distribution", counts.rename(columns={"group": by})) as mark:
        if mark:
            label, group = (*mark, "")[:2]
            _opened(rows[(rows["label"] == label) & (rows["group"] == group)], f"{charts.name_of(label)}, {charts.name_of(group)}")


def per_class(person: Person, chosen: Filter) -> None:
    """A row of faces a class, at even distances through the sources: the same for everybody."""
    rows = _members(person, chosen)
    if mark := _mark():
        _opened(rows[rows["label"] == mark[0]], charts.name_of(mark[0]))
        return
    for value, part in _by_class(rows).items():
        st.button(f"{charts.name_of(value)}: {charts.many(len(part))}", key=f"all-{value}", type="tertiary", icon=":material/grid_view:",
                  on_click=show, args=(value,))
        faces.wall(cache.pictured(person, part.iloc[np.unique(np.linspace(0, len(part) - 1, 6, dtype=int))]), key=f"class-{value}")


def pixel_values(person: Person, chosen: Filter) -> None:
    """Histogram of pixel values per class and overall; a bin opens the faces with most of their pixels in it."""
    looks = cache.looks_by(chosen, _labels(person))
    if not looks:
        st.info("No face among these has a label.", icon=":material/label_off:")
        return
    counts = {c: looks[c][2] for c in charts.ordered(looks)}
    counts[_ALL] = np.sum([*counts.values()], axis=0)
    with _chart(charts.pixel_histogram(counts, bins=_BIN), "pixel_values", pd.DataFrame({"pixel_value": np.arange(256), **counts})) as mark:
        if len(mark) == 2 and mark[1].isdecimal():
            low, rows = int(mark[1]), _members(person, chosen)
            rows = rows.assign(share=cache.most_of(chosen, low, low + _BIN - 1)).sort_values("share", ascending=False, kind="stable")
            _opened(rows[(rows["share"] > 0) & (rows["label"] != charts.NO_LABEL if mark[0] == _ALL else rows["label"] == mark[0])],
                    f"{charts.name_of(mark[0])}, most pixels of {low} to {low + _BIN - 1} first")


def mean_faces(person: Person, chosen: Filter) -> None:
    """Mean face of each class or group, and the difference of two."""
    by = _choice("Groups by", {_labels(person): "Label"} | _groups(person), "mean_by")
    looks = cache.looks_by(chosen, by)
    if not looks:
        st.info("No face has this tag. Import age and gender, or tag faces.", icon=":material/sell:")
        return
    if opened := face_grid([Tile(v, np.rint(mean).astype(np.uint8).tobytes(), charts.name_of(v), charts.colour_of(v), note=f"n = {n:,}")
                            for v, (n, mean, _) in looks.items()], key="means"):
        show(opened)
    if mark := _mark():
        rows = cache.members(chosen)
        _opened(rows[rows[by] == mark[0]], charts.name_of(mark[0]))
    elif len(looks) > 1:
        left, right = st.columns([2, 3])
        with left:
            first, second = (st.selectbox(title, list(looks), index=i, format_func=charts.name_of, key=title, bind="query-params")
                             for i, title in enumerate(("Mean face of", "minus that of")))
        apart = looks[first][1] - looks[second][1]
        grey = np.clip(np.rint(128 + apart * (127 / max(np.abs(apart).max(), 1))), 0, 255).astype(np.uint8)
        right.html(faces.upscaled(grey.tobytes(), 3))
        right.caption(f"Bright where {access.plain(charts.name_of(first))} is brighter, up to {np.abs(apart).max():.1f} grey levels; mid-grey is no "
                      f"difference. n = {looks[first][0]:,} and {looks[second][0]:,}.")
    else:
        st.caption("One group only: there is no other to compare it with.")
    _download("mean_faces", pd.DataFrame({v: m.ravel() for v, (_, m, _) in looks.items()}).assign(
        row=np.repeat(np.arange(SIDE), SIDE), column=np.tile(np.arange(SIDE), SIDE)))


def box_plots(person: Person, chosen: Filter) -> None:
    rows = _members(person, chosen)
    measures = {"mean": "mean pixel value", "sd": "standard deviation of pixel values"}
    what = _choice("Of", measures, "box_of")
    values = {c: part.set_index("sample_id")[what] for c, part in _by_class(rows).items()}
    with _chart(charts.boxes(values, measures[what], clickable=True), "boxes", rows[["sample_id", "label", what]]) as mark:
        if len(mark) == 2 and mark[0] in values:
            part = rows[rows["label"] == mark[0]]
            q1, q3 = part[what].quantile([0.25, 0.75])
            _opened(part[part[what].between(q1, q3)], f"{charts.name_of(mark[0])}, {measures[what]} from {q1:.1f} to {q3:.1f}")
        elif mark:
            face = rows[rows["sample_id"] == mark[0]]
            part = rows[rows["label"].isin(face["label"])]
            outside = part[~part[what].between(*charts.fences(part[what]))] if len(part) else part
            near = (outside[what] - face[what].sum()).abs().sort_values(kind="stable").index
            _opened(outside.loc[near], "Outliers of its class, nearest to the one chosen first")


def votes(person: Person, chosen: Filter) -> None:
    """How divided the imported votes are, by given label."""
    if not person.may(Permission.READ_RESULTS):
        st.info("Votes are shown once you read results.", icon=":material/visibility_off:")
        return
    members = cache.members(chosen)
    rows = members.merge(cache.measured(person, "disputed"), on="image_id")
    if rows.empty:
        st.info("No imported votes on these faces. Import FER+ votes to see where people disagree.", icon=":material/how_to_vote:")
        return
    rows["label"], rows["column"] = rows["given_label"].fillna(charts.NO_LABEL), (rows["value"] * 4).round() / 4
    counts = rows.groupby(["label", "column"]).size().rename("n").reset_index()
    title = f"entropy of the votes on {len(rows):,} of {len(members):,} faces, bits (0: all agree)"
    with _chart(charts.bubbles(counts, title), "vote_entropy", counts) as mark:
        if len(mark) == 2:
            _opened(rows[(rows["label"] == mark[0]) & (rows["column"].astype(str) == mark[1])], f"{charts.name_of(mark[0])}, about {mark[1]} bits")


def duplicates(person: Person, chosen: Filter) -> None:
    """Groups of identical or nearly identical faces of which one matches, the largest first."""
    kind = _choice("Kind", {"exact_duplicate": "Identical", "near_duplicate": "Nearly identical"}, "duplicates")
    found = cache.grouped(person, kind)
    found = found[found["group_id"].isin(found.loc[found["sample_id"].isin(cache.members(chosen)["sample_id"]), "group_id"])]
    rows = found.merge(cache.members(Filter()), on="sample_id")
    if rows.empty:
        st.info("No such group among these faces, or no audit has looked for it.", icon=":material/search_off:")
        return
    _group_pages(rows)
    _download(kind, found)


@st.fragment
def _group_pages(rows: pd.DataFrame) -> None:
    groups = rows["group_id"].drop_duplicates()
    start = faces.pager(len(groups), _SHOWN, "groups", f"**{len(groups):,}** groups, **{len(rows):,}** faces")
    part = rows[rows["group_id"].isin(groups.iloc[start:start + _SHOWN])]
    names = {g: f"Group {start + i + 1}, {n} faces" for i, (g, n) in enumerate(part.groupby("group_id", sort=False).size().items())}
    faces.wall(cache.pictured(access.actor(), part), key="groups-wall", groups=dict(zip(part["sample_id"], part["group_id"].map(names), strict=True)))


def _step(reason: str) -> int:
    """The place of an exclusion in the order in which a recipe goes."""
    return next((i for i, start in enumerate(_STEPS) if reason.startswith(start)), len(_STEPS))


def funnel(person: Person, chosen: Filter) -> None:
    """Rows in, what each step of a recipe takes out, rows left."""
    if not person.may(Permission.READ_RESULTS):
        st.info("What is left out follows from people's answers; it is shown once you read results.", icon=":material/visibility_off:")
        return
    version = st.selectbox("Recipe", [None, *cache.version_table()["version_id"]], key="recipe", bind="query-params", width=320, on_change=close,
                           format_func=lambda v: v or "the default recipe, now", label_visibility="collapsed")
    try:
        fate = cache.funnel(version)
    except FerError as error:
        st.info(access.plain(str(error)), icon=":material/filter_alt:")
        return
    rows = cache.members(chosen).merge(fate, on="sample_id")
    taken = rows["exclusion"].value_counts().sort_index(key=lambda reasons: reasons.map(_step))
    steps, left = [("rows in", 0, len(rows))], len(rows)
    for reason, n in taken.items():
        left -= int(n)
        steps.append((str(reason), int(n), left))
    with _chart(charts.funnel(steps), "funnel", pd.DataFrame(steps, columns=["step", "rows_out", "rows_left"]), height=90 + 40 * len(steps)) as mark:
        if mark:
            _opened(rows if mark[0] == "rows in" else rows[rows["exclusion"] == mark[0]], mark[0])
    st.caption("The recipe goes over all rows; those that match the filter are counted, each under the first step that takes it out.")


def save_popover(person: Person, chosen: Filter) -> None:
    """Keeps the faces that match under a name, as a group of the Bias page."""
    with st.popover("Save as a group", icon=":material/bookmark_add:"):
        name = st.text_input("Name", max_chars=40, key="save-filter")
        st.caption("The faces that match now; the Bias page can then compare them with all others.")
        if st.button("Save", type="primary"):
            try:
                made = saved.save(cache.store(), person, name, chosen)
            except FerError as error:
                st.error(access.plain(str(error)))
            else:
                st.success(f"{made.name}: {len(made.sample_ids):,} faces")


VIEWS: dict[str, Callable[[Person, Filter], None]] = {
    "Faces": wall, "Distribution": distribution, "Samples": per_class, "Pixel values": pixel_values, "Mean faces": mean_faces, "Box plots": box_plots,
    "Votes": votes, "Duplicates": duplicates, "Funnel": funnel}
