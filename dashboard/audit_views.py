"""What the Audit page shows: a card a kind of finding, and the faces of one kind with what can be done about them."""

import base64
import io
import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from PIL import Image

from dashboard import access, cache, charts, faces
from fercore import audit
from fercore.audit import CHECKS, actions
from fercore.audit.transforms import transform
from fercore.domain import SIDE, Permission, Person
from fercore.errors import FerError
from fercore.schemes import EXCLUSIONS, FLAGS, TRANSFORMS

PAGE = 48
_FIELDS = {"exclude": EXCLUSIONS, "transform": TRANSFORMS} | {f"flag_{f}": {"yes": f"Flagged {name.lower()}", "no": f"Not {name.lower()}"}
                                                               for f, (name, _) in FLAGS.items()}


def cards(kinds: list[str], state: audit.State) -> None:
    """One card a kind, three in a row."""
    of_set = state.of_set.groupby("kind")["subject"].apply(list).to_dict() if len(state.of_set) else {}
    places = (column for _ in range(0, len(kinds), 3) for column in st.columns(3))
    for place, kind in zip(places, kinds, strict=False):
        check, (n, groups) = CHECKS[kind], state.counts.get(kind, (0, 0))
        with place.container(border=True, gap="xxsmall", height="stretch"):
            st.markdown(f"**{check.name}**")
            if kind in of_set:
                st.markdown(", ".join(access.plain(charts.name_of(s)) for s in of_set[kind]))
            else:
                st.markdown(f"{n:,} faces" + (f" in {groups:,} groups" if check.grouped else "") if n or not check.deep or not state.stale else
                            "not looked for yet")
            st.caption(check.meaning)
            if n:
                st.page_link("app_pages/audit.py", label="Open", icon=":material/grid_view:", query_params={"kind": kind})


def one(person: Person, kind: str, state: audit.State) -> None:
    """The faces of a kind: bound with its live grid, groups, and acts."""
    check, (n, groups) = CHECKS[kind], state.counts.get(kind, (0, 0))
    st.page_link("app_pages/audit.py", label="All kinds of findings", icon=":material/arrow_back:")
    st.subheader(check.name)
    st.caption(check.meaning)
    if kind == "mean_outlier":
        _box(person, state)
    if check.measure and _bound(person, kind, state.bounds[kind]):
        return
    if not n:
        st.info("No face has this finding. Run the audit after every import.", icon=":material/search_off:")
        return
    group = None
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if check.grouped:
            listed = cache.finding_groups(person, kind)
            names = dict(zip(listed["group_id"], listed["n"], strict=True))
            group = st.selectbox("Group", [None, *names], key="group", bind="query-params", width=260,
                                 format_func=lambda g: f"all {groups:,} groups" if g is None else f"{names[g]:,} faces · {g[:8]}")
        last = max(1, math.ceil(n / PAGE))
        page = st.number_input(f"Page, 1 to {last:,}", 1, last, key="page", bind="query-params", width=140, disabled=group is not None)
    rows = cache.finding_faces(person, kind, 0 if group else (page - 1) * PAGE, 500 if group else PAGE, group)
    above = st.container()
    chosen = _selectable(rows, f"{kind}-{group}-{page}")
    if person.may(Permission.PLAN):
        with above:
            _acts(person, kind, rows, chosen)


def _bound(person: Person, kind: str, bound: float) -> bool:
    """The slider and, while it is away from the bound in force, the faces nearest to where it stands; whether that is so."""
    check = CHECKS[kind]
    low, high, step = check.slider
    values = cache.measured(person, kind)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        at = st.slider(f"{'Below' if check.below else 'Above'} ({check.measure})", low, high, bound, step, key=f"bound-{kind}", help=check.fitted,
                       format="%.3f" if step < 0.01 else "%.2f" if step < 1 else "%.0f")
        same = math.isclose(at, bound, abs_tol=step / 2)
        if not same and person.may(Permission.IMPORT) and st.button("Use this bound", type="primary"):
            audit.set_bound(cache.store(), person, kind, at)
            st.rerun()
    if same:
        return False
    found = values[values["value"] < at] if check.below else values[values["value"] > at]
    nearest = found.iloc[::-1] if check.below else found
    st.caption(f"{len(found):,} distinct images beyond {at:g}; in force is {bound:g}. The {min(PAGE, len(found))} nearest to the bound:")
    shown = cache.by_images(person, tuple(nearest["image_id"].head(PAGE)))
    notes = dict(zip(values["image_id"], values["value"], strict=True))
    faces.wall(shown, key=f"live-{kind}", notes={r.sample_id: f"{notes[r.image_id]:.4g}" for r in shown.itertuples()})
    return True


def _selectable(rows: pd.DataFrame, key: str) -> pd.DataFrame:
    """A table of faces of which rows can be selected, and the selected ones."""
    told = rows.assign(face=[_url(bytes(p)) for p in rows["gray48"]], label=rows["given_label"].map(charts.name_of, na_action="ignore"),
                       group=rows["group_id"].str[:8])
    event = st.dataframe(told[["face", "label", "score", "group", "source_split", "source_row", "evidence"]], key=f"faces-{key}", hide_index=True,
                         row_height=100, on_select="rerun", selection_mode="multi-row", height=620,
                         column_config={"face": st.column_config.ImageColumn(width="small"), "score": st.column_config.NumberColumn(format="%.4g")})
    return rows.iloc[event["selection"]["rows"]]


def _acts(person: Person, kind: str, rows: pd.DataFrame, chosen: pd.DataFrame) -> None:
    """What can be done: with the selected faces, with the groups on the page, with the whole kind; and undo."""
    ids, scope = chosen["image_id"].unique().tolist(), f"{len(chosen):,} selected"
    with st.container(horizontal=True, vertical_alignment="bottom"):
        with st.popover(f"Flag {scope}", icon=":material/flag:", disabled=not ids):
            flag = st.selectbox("Flag", list(FLAGS), format_func=lambda f: FLAGS[f][0])
            if st.button(f"Flag {len(ids):,} faces", type="primary"):
                _do(lambda: actions.mark(cache.store(), person, ids, f"flag_{flag}", "yes"))
        with st.popover(f"Exclude {scope}", icon=":material/block:", disabled=not ids):
            reason = st.selectbox("Reason", list(EXCLUSIONS), format_func=EXCLUSIONS.__getitem__)
            if st.button(f"Exclude {len(ids):,} faces", type="primary"):
                _do(lambda: actions.mark(cache.store(), person, ids, "exclude", reason))
        if st.button(f"Brighten {scope}", icon=":material/brightness_6:", disabled=not ids):
            _brighten(person, chosen)
        if kind in ("near_duplicate", "near_cross_split"):
            groups = (chosen if ids else rows)["group_id"].dropna().unique().tolist()
            if st.button(f"Keep one of each of {len(groups):,} groups", icon=":material/filter_1:", help="The sharpest stays"):
                _do(lambda: actions.keep_one(cache.store(), person, groups, kind))
        if st.button("Send all to a review queue", icon=":material/outbox:"):
            _do(lambda: actions.queue(cache.store(), person, kind))
    for act in cache.last_acts(person)[:3]:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f"{_FIELDS.get(act['field'], {}).get(act['value'], act['value'])}: {act['faces']:,} faces, {act['at']:%Y-%m-%d %H:%M} UTC")
            if st.button("Undo", key=f"undo-{act['gesture']}", icon=":material/undo:", type="tertiary"):
                _do(lambda g=act["gesture"]: actions.undo(cache.store(), person, g))


def _do(act) -> None:  # type: ignore[no-untyped-def]
    try:
        act()
    except FerError as error:
        st.error(str(error), icon=":material/error:")
    else:
        st.rerun()


@st.dialog("Brighten", width="large")
def _brighten(person: Person, chosen: pd.DataFrame) -> None:
    """Before and after, with histograms; the edit is made in versions whose recipe asks for it, the face stays."""
    name = st.selectbox("Edit", list(TRANSFORMS), index=list(TRANSFORMS).index("brighten_1.5"), format_func=TRANSFORMS.__getitem__)
    before = np.frombuffer(b"".join(map(bytes, chosen["gray48"])), np.uint8).reshape(-1, SIDE, SIDE)
    after = transform(before, name)
    for column, title, stack in zip(st.columns(2), ("Before", "After"), (before, after), strict=True):
        with column:
            st.caption(f"{title}: mean {stack.mean():.1f}, {np.mean(stack == 255):.1%} of the pixels white")
            st.html('<div style="display:flex;flex-wrap:wrap;gap:6px">' + "".join(faces.upscaled(p.tobytes(), 2) for p in stack[:12]) + "</div>")
    charts.draw(charts.pixel_histogram({"before": np.bincount(before.ravel(), minlength=256), "after": np.bincount(after.ravel(), minlength=256)},
                                       {"before": "#0072B2", "after": "#D55E00"}), "brighten")
    st.caption("A mark on the face, not a change of it: versions whose recipe says transforms: [brighten] hold the brightened copy.")
    if st.button(f"Mark {chosen['image_id'].nunique():,} faces to be brightened", type="primary"):
        _do(lambda: actions.mark(cache.store(), person, chosen["image_id"].tolist(), "transform", name))


def _box(person: Person, state: audit.State) -> None:
    """Box-and-whisker plot of mean pixel values; a point opens its face."""
    if state.numbers is None:
        return
    means = cache.measured(person, "dark").set_index("image_id")["value"]
    figure: go.Figure = charts.boxes({"all faces": means}, "mean pixel value")
    points = charts.draw(figure, "box", height=380, select=True)
    n = state.numbers
    st.caption(f"Five numbers: {n['least']:.1f}, {n['q1']:.1f}, {n['median']:.1f}, {n['q3']:.1f}, {n['greatest']:.1f}. Fences: {n['lower']:.1f} and "
               f"{n['upper']:.1f}. The published rule takes means above 230.")
    if ids := tuple(str(p["customdata"]) for p in points if "customdata" in p):
        faces.wall(cache.by_images(person, ids), key="box-faces")


def _url(gray48: bytes) -> str:
    """A PNG of the face at twice its size, for a table cell."""
    buffer = io.BytesIO()
    Image.fromarray(np.frombuffer(gray48, np.uint8).reshape(SIDE, SIDE)).resize((2 * SIDE, 2 * SIDE), Image.Resampling.NEAREST).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
