"""Faces on a page: the wall of tiles, and the one detail dialog that a face anywhere opens."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from uuid import uuid4

import numpy as np
import pandas as pd
import streamlit as st
from PIL import Image

from dashboard import access, cache
from dashboard.charts import colour_of, name_of
from dashboard.components.face_grid import Tile, face_grid, paged
from fercore import curation
from fercore.audit import KINDS
from fercore.curation import campaigns
from fercore.curation import schemes as book
from fercore.domain import SIDE, Permission, Pixels
from fercore.errors import FerError
from fercore.ingest.images import Box

PAGE = 60
_BOX = "position:absolute;box-sizing:border-box;border:2px solid #fff;outline:1px solid #1B222C;"
_NUMBER = "position:absolute;left:-2px;padding:0 6px;background:#1B222C;color:#fff;font-size:12px;font-weight:600;line-height:18px;"


def wall(rows: pd.DataFrame, key: str, *, scale: int = 2, second: dict[str, str] | None = None, notes: dict[str, str] | None = None,
         badges: dict[str, str] | None = None, groups: dict[str, str] | None = None, select: bool = False,
         predicted: Mapping[str, pd.DataFrame] | None = None) -> None:
    """Tiles for rows with sample_id, current_label, gray48; a click opens the detail dialog, a double click where faces can be selected.

    Args:
        second: a second class (a prediction) for a sample. notes: a line of text for a sample. badges: what was done to it.
        groups: the name of its group; neighbours of one group are framed.
        select: faces can be selected; `face_grid.selected(key)` says which.
        predicted: run -> its predictions, with p_<class id>, of the runs that the page is about; the dialog says all of a face's.
    """
    opened = face_grid(_tiles(rows, second, notes, badges, groups), key=key, scale=scale, select=select)
    if opened:
        face_dialog(opened, {run: _probabilities(rows[rows["sample_id"] == opened]) for run, rows in (predicted or {}).items()})


def _probabilities(rows: pd.DataFrame) -> str:
    """Every class of the first of these predictions, the likeliest first; empty without one."""
    if rows.empty:
        return ""
    p = rows.iloc[0].filter(regex="^p_").astype(float).sort_values(ascending=False, kind="stable")
    return " · ".join(f"{name_of(str(column).removeprefix('p_'))} {100 * share:.1f} %" for column, share in p.items())


def _tiles(rows: pd.DataFrame, second: dict[str, str] | None = None, notes: dict[str, str] | None = None, badges: dict[str, str] | None = None,
           groups: dict[str, str] | None = None) -> list[Tile]:
    second, notes, badges, groups = second or {}, notes or {}, badges or {}, groups or {}
    return [Tile(r.sample_id, bytes(r.gray48), name_of(r.current_label or None), colour_of(r.current_label),
                  note=notes.get(r.sample_id, ""), second=name_of(second[r.sample_id]) if r.sample_id in second else "",
                  second_colour=colour_of(second.get(r.sample_id)), badge=badges.get(r.sample_id, ""), group=groups.get(r.sample_id, ""))
            for r in rows.astype(object).where(rows.notna(), None).itertuples()]


def pages(rows: pd.DataFrame, key: str) -> None:
    """The wall of these members, sixty at a time; the page stands in the URL. The list stands still while pages are turned."""
    _turning(rows, key, uuid4().hex)


@st.fragment
def _turning(rows: pd.DataFrame, key: str, listed: str) -> None:
    person, last, told = access.actor(), max(1, math.ceil(len(rows) / PAGE)), st.query_params.get("page", "1")
    opened, page = paged(lambda n: _tiles(cache.pictured(person, rows.iloc[(n - 1) * PAGE:n * PAGE])), last, key=key, listed=listed,
                         page=min(max(int(told[:9]), 1), last) if told.isdecimal() else 1, what=f"{len(rows):,} faces")
    if str(page) != told:
        st.query_params["page"] = str(page)
    if opened and (rows["sample_id"] == opened).any():
        face_dialog(opened)


def pager(n: int, size: int, key: str, what: str) -> int:
    """Controls that turn pages of `size` out of `n`, or jump to one; the page stands in the URL under `key`. Returns where the page starts."""
    last = max(1, math.ceil(n / size))
    if st.session_state.get(key, 1) > last:  # of another list
        st.session_state[key] = 1

    def turn(by: int) -> None:
        st.session_state[key] = min(max(st.session_state[key] + by, 1), last)

    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        before, box, after = st.container(width="content"), st.container(width=100), st.container(width="content")
        page = box.number_input(f"Page, 1 to {last:,}", 1, last, key=key, bind="query-params", label_visibility="collapsed")
        before.button("Previous page", icon=":material/chevron_left:", on_click=turn, args=(-1,), disabled=page == 1, key=f"{key}-previous")
        after.button("Next page", icon=":material/chevron_right:", on_click=turn, args=(1,), disabled=page == last, key=f"{key}-next")
        st.markdown(f"page {page:,} of {last:,}, {what}")
    return (page - 1) * size


def upscaled(gray48: bytes, scale: int) -> str:
    """An <img> of the face at an integer scale, pixelated."""
    buffer = io.BytesIO()
    Image.fromarray(np.frombuffer(gray48, np.uint8).reshape(SIDE, SIDE)).save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    side = SIDE * scale
    return (f'<img src="data:image/png;base64,{data}" width="{side}" height="{side}" alt="face" '
            'style="image-rendering:pixelated;border-radius:4px;display:block">')


def boxed(picture: Pixels, boxes: Sequence[Box]) -> str:
    """A picture as wide as its place and at most 460 pixels high, with numbered boxes over it. Pixels as `images.decode` gives them."""
    height, width = picture.shape[:2]
    image, buffer = Image.fromarray(picture), io.BytesIO()
    image.thumbnail((1280, 1280))
    image.save(buffer, "JPEG", quality=90)
    scale, marks = max(1, 240 // max(width, height)), ""
    for number, (left, top, right, bottom) in enumerate(boxes, 1):
        place = zip(("left", "top", "width", "height"), (left / width, top / height, (right - left) / width, (bottom - top) / height), strict=True)
        # Above or below the face, so that the number hides nothing of it; inside where there is no room.
        beside = "bottom:100%" if top > height / 10 else "top:100%" if bottom < height * 9 / 10 else "top:-2px"
        marks += (f'<div style="{_BOX}{";".join(f"{name}:{share:.2%}" for name, share in place)}">'
                  f'<span style="{_NUMBER}{beside}">{number}</span></div>')
    return (f'<div style="position:relative;width:min(100%,{min(scale * width, 460 * width / height):.0f}px)">'
            f'<img src="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}" alt="the picture, faces marked: {len(boxes)}" '
            f'style="width:100%;display:block;border-radius:4px{";image-rendering:pixelated" * (scale > 1)}">{marks}</div>')


@st.dialog("Face", width="large")
def face_dialog(sample_id: str, probabilities: Mapping[str, str] | None = None) -> None:
    found = cache.detail(access.actor(), sample_id)
    if found["face"].empty:
        st.warning("This face is no longer in the workspace.")
        return
    face = found["face"].iloc[0]
    left, right = st.columns([1, 2])
    with left:
        st.html(upscaled(bytes(face["gray48"]), 6))
        st.caption(f"{access.plain(face['source_id'])}, row {face['source_row']:,} · mean {face['mean']:.1f} · sd {face['sd']:.1f}")
    with right:
        facts = {"Given label": name_of(_text(face["given_label"])), "Current label": name_of(_text(face["current_label"])),
                 "Source split": _text(face["source_split"]) or "none"}
        if face["open"]:
            if face["open_tags"]:
                facts |= {"Perceived age": (_text(face["age_band"]) or "not tagged").replace("_", "-"),
                          "Perceived gender": (_text(face["gender"]) or "not tagged").replace("_", " ")}
            facts |= {"Flags": str(face["flags"]).replace(",", ", ").replace("_", "-") or "none"}
        facts |= {"Findings": ", ".join(KINDS[k] for k in found["findings"]["kind"]) or "none"}
        st.table(pd.DataFrame({"": map(access.plain, facts.values())}, index=list(facts.keys())), border="horizontal")
        copies = found["copies"]
        if len(copies) > 1:
            others = (f"row {r.source_row:,} ({name_of(_text(r.given_label))}, {r.source_split})" for r in copies.itertuples()
                      if r.sample_id != sample_id)
            st.caption(access.plain("Identical faces: " + ", ".join(others)))
    votes, history, predictions = found["votes"], found["history"], found["predictions"]
    if not votes.empty:
        st.markdown("**Imported votes** " + " · ".join(f"{access.plain(name_of(v.value))} {v.votes}" for v in
                                                        votes[votes["field"] == "expression"].sort_values("votes", ascending=False).itertuples()))
    for run, told in (probabilities or {}).items():  # whoever may open a page of results has seen the prediction there
        if told:
            st.markdown(f"**{access.plain(run)}** {access.plain(told)}")
    if not predictions.empty:
        st.dataframe(predictions.rename(columns={"run_id": "run"}).assign(predicted=predictions["predicted"].map(name_of),
                                                                          label=predictions["label"].map(name_of),
                                                                          probability=(predictions["probability"] * 100).round(1)), hide_index=True,
                     column_config={"probability": st.column_config.NumberColumn(format="%.1f %%")})
    if not face["open"]:
        st.caption("Tags, flags, votes, predictions and other people's answers are shown once you have labelled this face yourself.")
    elif history.empty:
        st.caption("Nobody has labelled this face yet.")
    else:
        st.markdown("**History**")
        st.dataframe(history.assign(active=history["active"].map({True: "stands", False: "undone or replaced"})), hide_index=True,
                     column_config={"recorded_at": st.column_config.DatetimeColumn("when (UTC)", format="YYYY-MM-DD HH:mm:ss"), "active": "state"})
    _own_answer(str(face["image_id"]))
    if access.actor().may(Permission.PLAN):
        _gold(str(face["image_id"]))
    _comments(str(face["image_id"]), bool(face["open"]))


def _own_answer(image_id: str) -> None:
    """Who has voted on a face may change the vote here."""
    person = access.actor()
    mine = cache.own_vote(person, image_id)
    if mine is None:
        return
    ids = sorted(book.values_of(cache.store(), "expression"))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        value = st.selectbox("Your answer", ids, index=ids.index(mine), format_func=lambda v: name_of(v).capitalize(), width=240)
        if st.button("Change my answer", disabled=value == mine):
            curation.revise(cache.store(), person, image_id, "expression", value)
            st.rerun(scope="fragment")


def _gold(image_id: str) -> None:
    """Who plans campaigns may say which answers are right on a face; it then checks annotators, hidden among other faces."""
    person, known = access.actor(), cache.gold_of(image_id)
    with st.popover(access.plain("Gold: " + ", ".join(map(name_of, known))) if known else "Gold", icon=":material/verified:"):
        accept = st.multiselect("Right answers", sorted(book.values_of(cache.store(), "expression")), default=known, format_func=name_of,
                                key=f"gold-{image_id[:12]}")
        if st.button("Mark as gold" if accept else "No longer gold", disabled=accept == known):
            campaigns.set_gold(cache.store(), person, [image_id], "expression", accept, bool(accept))
            st.rerun(scope="fragment")


def _comments(image_id: str, may_read: bool) -> None:
    """Comments on a face, and a line for one more. Comments can tell an answer: they are hidden with the answers."""
    person = access.actor()
    if may_read:
        for row in cache.comments(image_id=image_id).itertuples():
            st.markdown(f"**{access.plain(str(row.name))}** {access.plain(row.text)}")
    if not person.may(Permission.LABEL):
        return
    with st.form(f"comment-{image_id[:12]}", border=False, clear_on_submit=True):
        text = st.text_input("Comment", max_chars=500, placeholder="Leave a comment on this face", label_visibility="collapsed")
        others = {p.person_id: p.name for p in cache.everyone() if p.person_id != person.person_id}
        to = st.selectbox("For the inbox of", [None, *others], label_visibility="collapsed",
                          format_func=lambda i: "a note on the face, for nobody in particular" if i is None else f"for {others[i]}")
        if st.form_submit_button("Comment", icon=":material/comment:"):
            try:
                curation.comment(cache.store(), person, image_id, text, to)
            except FerError as error:
                st.error(access.plain(str(error)))
            else:
                st.rerun(scope="fragment")


def _text(value: object) -> str | None:
    return None if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)) else str(value)
