"""What the Audit page shows: a card a kind of finding, and the faces of one kind with what can be done about them."""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import access, cache, charts, faces
from dashboard.components import face_grid
from dashboard.state import session
from fercore import audit
from fercore.audit import CHECKS, actions
from fercore.audit.transforms import transform
from fercore.domain import SIDE, Permission, Person
from fercore.errors import FerError
from fercore.schemes import EXCLUSIONS, FLAGS, TRANSFORMS

PAGE, LARGEST = 48, 500  # faces of a page, and the most that are drawn where a group is larger
SURE = 500  # acts on more faces than this take a tick
PREVIEW = 500  # faces from which the histograms of an edit are drawn
_IDENTICAL = ("exact_duplicate", "conflicting_duplicate", "cross_split_duplicate")
_NEAR = ("near_duplicate", "near_cross_split")
_ACROSS = ("cross_split_duplicate", "near_cross_split")


def cards(person: Person, kinds: list[str], state: audit.State) -> None:
    """One card a kind, three in a row."""
    of_set = {str(kind): part for kind, part in state.of_set.groupby("kind")} if len(state.of_set) else {}
    places = (column for _ in range(0, len(kinds), 3) for column in st.columns(3))
    for place, kind in zip(places, kinds, strict=False):
        check, (n, groups) = CHECKS[kind], state.counts.get(kind, (0, 0))
        with place.container(border=True, gap="xxsmall", height="stretch"):
            st.markdown(f"**{check.name}**")
            if kind in of_set:
                for row in of_set[kind].itertuples():
                    _of_set(person, kind, row.subject, json.loads(row.evidence))
            else:
                st.markdown(f"{n:,} faces" + (f" in {groups:,} groups" if check.grouped else "") if n or not check.deep or not state.stale else
                            "not looked for yet")
            st.caption(check.meaning)
            if n:
                st.button("Open", key=f"open-{kind}", icon=":material/grid_view:", on_click=_open, args=(kind,))


def _open(kind: str | None = None) -> None:
    """Turns to a kind, or to all. A link to this same page would leave the URL as it is while a widget is bound to it."""
    st.query_params.from_dict({"kind": kind} if kind else {})


def _of_set(person: Person, kind: str, subject: str, evidence: dict[str, Any]) -> None:
    """A finding about the whole set, as a link to where one acts on it."""
    if kind == "class_imbalance":
        name = charts.name_of(subject)
        st.page_link("app_pages/explore.py", label=f"{access.plain(name)}: {evidence['rows']:,} rows, {evidence['equal_shares']:.2g} equal shares",
                     icon=":material/grid_view:", query_params={"given": name})
    elif person.may(Permission.IMPORT):
        st.page_link("app_pages/import_data.py", label=f"{access.plain(subject)}: {evidence['rows']:,} rows", icon=":material/upload_file:")
    else:
        st.markdown(f"{access.plain(subject)}: {evidence['rows']:,} rows")


def one(person: Person, kind: str, state: audit.State) -> None:
    """The faces of a kind: bound with its live grid, groups, and acts. The URL names kind, bound, group and page."""
    check, (n, _) = CHECKS[kind], state.counts.get(kind, (0, 0))
    st.button("All kinds of findings", icon=":material/arrow_back:", type="tertiary", on_click=_open)
    st.subheader(check.name)
    st.caption(check.meaning + " A version keeps one row of each group by its recipe (duplicates: keep one)." * (kind in _IDENTICAL))
    if kind == "mean_outlier":
        _box(person, state)
    if check.measure and _bound(person, check, state.bounds[kind]):
        return
    if not n:
        st.info("No face has this finding. Run the audit after every import.", icon=":material/search_off:")
        return
    group, start, size = _part(person, check, n)
    rows = cache.finding_faces(person, kind, start, min(size, LARGEST), group)
    key, may_act = f"faces-{kind}-{group}-{start}", person.may(Permission.PLAN)
    if may_act:
        _acts(person, kind, group, rows, rows[rows["sample_id"].isin(face_grid.selected(key))])
    sizes = rows["group_id"].value_counts()
    faces.wall(rows, key, notes={r.sample_id: _note(check, r) for r in rows.itertuples()}, select=may_act,
               badges={r.sample_id: _badge(r) for r in rows[rows["open"]].itertuples()},
               groups={r.sample_id: f"{sizes[r.group_id]:,} faces · {r.group_id[:8]}" for r in rows[rows["group_id"].notna()].itertuples()})
    if size > LARGEST:
        st.caption(f"The first {LARGEST} of {size:,} faces are shown.")
    if may_act:
        st.caption("Click or Space selects a face, Shift a range, Ctrl+A the page, Esc none, the name of a group its faces. A double click or Enter "
                   "opens a face. Identical rows count as one face.")


def _note(check: audit.Check, row: Any) -> str:
    """What the finding is on, below a face."""
    if check.kind in _ACROSS:
        return str(row.source_split)
    if check.kind in _IDENTICAL:
        return f"row {row.source_row:,}"
    if check.kind == "votes_against_label":
        return f"votes: {charts.name_of(json.loads(row.evidence)['votes'])}"
    return f"{row.score:.3f}" if row.score < 10 else f"{row.score:.1f}"


def _badge(row: Any) -> str:
    """What people decided to do about a face."""
    done = [f"flagged {f.replace('_', ' ')}" for f in row.flags.split(",") if f]
    done += [_did(field, getattr(row, field)) for field in ("exclude", "transform") if isinstance(getattr(row, field), str)]
    return ", ".join(done)


def _did(field: str, value: str) -> str:
    if field == "exclude":
        return f"excluded: {EXCLUSIONS.get(value, 'several reasons').lower()}"
    if field == "transform":
        return "edits that differ: none is made" if value == "several" else value.replace("_", " ")
    return f"queue {value}" if field == "queue" else f"{'flagged' if value == 'yes' else 'not'} {field.removeprefix('flag_').replace('_', ' ')}"


def _part(person: Person, check: audit.Check, n: int) -> tuple[str | None, int, int]:
    """What of the findings is shown: a group, or first row and number of rows of a page, which holds whole groups."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        starts = [*range(0, n, PAGE), n]
        if check.grouped:
            listed = cache.finding_groups(person, check.kind).sort_values(["score", "group_id"], ascending=[False, True])
            before = listed["n"].cumsum() - listed["n"]
            starts = [*before.groupby(before // PAGE).min(), n]
            group = st.selectbox("Group", [None, *listed["group_id"]], key=f"group_{check.kind}", bind="query-params", width=200,
                                 format_func=lambda g: f"all {len(listed):,} groups" if g is None else g[:8])
            if group:
                return group, 0, int(listed.set_index("group_id").at[group, "n"])
        page = st.number_input(f"Page, 1 to {len(starts) - 1:,}", 1, len(starts) - 1, key=f"page_{check.kind}", bind="query-params", width=160)
        return None, starts[page - 1], starts[page] - starts[page - 1]


def _bound(person: Person, check: audit.Check, bound: float) -> bool:
    """The slider and, while it is away from the bound in force, the faces nearest to where it stands; whether that is so."""
    low, high, step = check.slider
    with st.container(horizontal=True, vertical_alignment="bottom"):
        at = st.slider(f"{'Below' if check.below else 'Above'} ({charts.name_of(check.measure)})", low, high, bound, step, key=f"bound_{check.kind}",
                       bind="query-params", help=check.fitted, format="%.3f" if step < 0.01 else "%.2f" if step < 1 else "%.0f")
        same = math.isclose(at, bound, abs_tol=step / 2)
        tried = st.toggle("How each bound does", key="calibration", bind="query-params")
        if not same and person.may(Permission.IMPORT) and st.button("Use this bound", type="primary"):
            audit.set_bound(cache.store(), person, check.kind, at)
            st.rerun()
    if tried:
        _calibration(person, check, at)
    if same:
        return False
    values = cache.measured(person, check.kind)
    found = values[values["value"] < at] if check.below else values[values["value"] > at]
    nearest = (found.iloc[::-1] if check.below else found).head(PAGE)
    st.caption(f"{len(found):,} distinct images beyond {at:g}; in force is {bound:g}. The {len(nearest)} nearest to the bound:")
    shown = cache.by_images(person, tuple(nearest["image_id"]))
    notes = dict(zip(nearest["image_id"], nearest["value"], strict=True))
    faces.wall(shown, key=f"live-{check.kind}", notes={r.sample_id: f"{notes[r.image_id]:.4g}" for r in shown.itertuples()})
    return True


def _calibration(person: Person, check: audit.Check, at: float) -> None:
    """Recall and precision where they are known, and the share of images found, along the slider."""
    with st.spinner("Trying every bound"):
        found = cache.calibration(person, check.kind)
    charts.draw(charts.calibration(found, at), "calibration-plot", height=260)
    st.caption(check.fitted)


def _acts(person: Person, kind: str, group: str | None, rows: pd.DataFrame, chosen: pd.DataFrame) -> None:
    """What can be done with the selected faces, the page, the group or all faces of the kind; and undo."""
    part = {"This group": cache.finding_images(person, kind, group)} if group else {"This page": rows["image_id"].unique().tolist()}
    scopes = {"Selected": chosen["image_id"].unique().tolist(), **part, "All": cache.finding_images(person, kind)}
    if kind == "dark":
        scopes["All flagged dark"] = cache.flagged(person, "dark")
    with st.container(horizontal=True, vertical_alignment="center"):
        scope = st.segmented_control("Act on", list(scopes), default="Selected", required=True, key="scope", label_visibility="collapsed")
        ids, none = scopes[scope], not scopes[scope]
        if st.button(f"Flag {len(ids):,}", key="act-flag", icon=":material/flag:", disabled=none):
            _flag(person, kind, ids)
        if st.button(f"Exclude {len(ids):,}", key="act-exclude", icon=":material/block:", disabled=none):
            _exclude(person, kind, ids)
        if st.button(f"Brighten {len(ids):,}", key="act-brighten", icon=":material/brightness_6:", disabled=none):
            _brighten(person, ids)
        if st.button(f"Review {len(ids):,}", key="act-review", icon=":material/outbox:", disabled=none):
            _queue(person, kind, ids, scope == "All")
        if kind in _NEAR:
            within = {"Selected": chosen, "This page": rows, "This group": rows}.get(scope, cache.finding_groups(person, kind))
            groups = within["group_id"].unique().tolist()
            if st.button(f"Keep one in {len(groups):,} groups", key="act-keep", icon=":material/filter_1:", disabled=not groups):
                _keep_one(person, kind, groups)
    acts = cache.last_acts(person)
    if acts:
        with st.container(horizontal=True, vertical_alignment="center"):
            _last(person, acts[0])
            if acts[1:]:
                with st.popover("Earlier acts"):
                    for act in acts[1:]:
                        _last(person, act)


def _last(person: Person, act: dict[str, Any]) -> None:
    """An act that stands, and Undo."""
    what = _did(act["field"], act["value"]) + (f", {charts.many(act['faces'])}" if act["faces"] else "")
    st.caption(f"{access.plain(what)}, {act['at']:%Y-%m-%d %H:%M} UTC", width="content")
    st.button("Undo", key=f"undo-{act['gesture']}", icon=":material/undo:", type="tertiary", on_click=_do,
              args=(lambda: actions.undo(cache.store(), person, act["gesture"]), f"Taken back: {what}"))


def _do(act: Callable[[], Any], said: str) -> None:
    """Does it; the page then says so, or what is wrong."""
    try:
        done = act()
    except FerError as error:
        session().said = ("error", str(error))
        return
    left = done.left if isinstance(done, actions.Act) else {}
    session().said = ("success", said + "".join(f". Left as they were, {n:,}: {reason}" for reason, n in left.items()))


def _confirm(label: str, n: int, act: Callable[[], Any], said: str) -> None:
    """The button of a dialog that acts on n faces or groups; many take a tick first."""
    sure = n <= SURE or st.checkbox(f"Yes, all {n:,}, also those that are not on this page")
    if st.button(label, type="primary", disabled=not sure, on_click=_do, args=(act, said)):
        st.rerun()  # closes the dialog


@st.dialog("Flag")
def _flag(person: Person, kind: str, ids: list[str]) -> None:
    flag = st.selectbox("Flag", list(FLAGS), index=list(FLAGS).index(kind) if kind in FLAGS else 0, format_func=lambda f: FLAGS[f][0])
    _confirm(f"Flag {charts.many(len(ids))}", len(ids), lambda: actions.mark(cache.store(), person, ids, f"flag_{flag}", "yes"),
             f"Flagged {flag.replace('_', ' ')}: {charts.many(len(ids))}")


@st.dialog("Exclude")
def _exclude(person: Person, kind: str, ids: list[str]) -> None:
    likely = kind if kind in EXCLUSIONS else "duplicate" if kind in _NEAR else "wrong_label" if kind == "conflicting_duplicate" else "other"
    reason = st.selectbox("Reason", list(EXCLUSIONS), index=list(EXCLUSIONS).index(likely), format_func=EXCLUSIONS.__getitem__)
    st.caption("Excluded faces stay in the workspace; versions leave them out." + " All identical rows go with a face." * (kind in _IDENTICAL))
    _confirm(f"Exclude {charts.many(len(ids))}", len(ids), lambda: actions.mark(cache.store(), person, ids, "exclude", reason),
             f"Excluded, {EXCLUSIONS[reason].lower()}: {charts.many(len(ids))}")


@st.dialog("Keep one of each group")
def _keep_one(person: Person, kind: str, groups: list[str]) -> None:
    st.markdown(f"The sharpest face of each of {len(groups):,} groups stays, of those not excluded yet; the others are excluded as duplicates.")
    _confirm(f"Keep {charts.many(len(groups))}", len(groups), lambda: actions.keep_one(cache.store(), person, groups, kind),
             f"One face kept of each of {len(groups):,} groups")


@st.dialog("Send to review")
def _queue(person: Person, kind: str, ids: list[str], everything: bool) -> None:
    st.markdown(f"{charts.many(len(ids))} go into a labeling campaign of their own, which is open to everybody. It can be changed on the "
                "Campaigns page.")
    _confirm(f"Send {charts.many(len(ids))}", len(ids), lambda: actions.queue(cache.store(), person, kind, () if everything else ids),
             f"Sent to review: {charts.many(len(ids))}")


@st.dialog("Brighten", width="large")
def _brighten(person: Person, ids: list[str]) -> None:
    """Before and after, with histograms; the edit is made in versions whose recipe asks for it, the face stays."""
    name = st.selectbox("Edit", list(TRANSFORMS), index=list(TRANSFORMS).index("brighten_1.5"), format_func=TRANSFORMS.__getitem__)
    some = cache.pixels(tuple(ids[:PREVIEW]))
    before = np.frombuffer(b"".join(some.values()), np.uint8).reshape(-1, SIDE, SIDE)
    after = transform(before, name)
    for column, title, stack in zip(st.columns(2), ("Before", "After"), (before, after), strict=True):
        with column:
            st.caption(f"{title}: mean {stack.mean():.1f}, {np.mean(stack == 255):.1%} of the pixels white")
            st.html('<div style="display:flex;flex-wrap:wrap;gap:6px">' + "".join(faces.upscaled(p.tobytes(), 1) for p in stack[:12]) + "</div>")
    charts.draw(charts.pixel_histogram({"before": np.bincount(before.ravel(), minlength=256), "after": np.bincount(after.ravel(), minlength=256)},
                                       {"before": "#0072B2", "after": "#D55E00"}), "brighten", height=240)
    st.caption(f"The first {PREVIEW} faces. " * (len(ids) > PREVIEW) + "A mark on the face, not a change of it: versions whose recipe says "
               "transforms: [brighten] hold the brightened copy.")
    _confirm(f"Mark {charts.many(len(ids))} to be brightened", len(ids), lambda: actions.mark(cache.store(), person, ids, "transform", name),
             f"{TRANSFORMS[name]}: {charts.many(len(ids))}")


def _box(person: Person, state: audit.State) -> None:
    """Box-and-whisker plot of mean pixel values; a point opens its face."""
    if state.numbers is None:
        return
    means = cache.measured(person, "dark").set_index("image_id")["value"]
    points = charts.draw(charts.boxes({"all faces": means}, "mean pixel value"), "box", height=380, select=True)
    n = state.numbers
    st.caption(f"Five numbers: {n['least']:.1f}, {n['q1']:.1f}, {n['median']:.1f}, {n['q3']:.1f}, {n['greatest']:.1f}. Fences: {n['lower']:.1f} and "
               f"{n['upper']:.1f}. The published rule takes means above 230.")
    if ids := tuple(str(p["customdata"]) for p in points if "customdata" in p):
        faces.wall(cache.by_images(person, ids), key="box-faces")
