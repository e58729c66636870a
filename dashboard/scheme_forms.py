"""What a data lead does with a scheme: make, copy, change, map. No vote is ever changed here."""

from collections.abc import Callable
from html import escape
from typing import Any

import streamlit as st

from dashboard import access, cache
from fercore.curation import schemes
from fercore.domain import Permission
from fercore.errors import FerError
from fercore.schemes import SCHEMES, Scheme

AGAIN, LEAVES, OPEN = "look again", "leaves", "not mapped"  # beside class ids, which have no blank


def chip(colour: str, name: str, more: str = "") -> str:
    """HTML: a colour with its name."""
    return (f'<span style="white-space:nowrap;margin-right:18px"><span style="display:inline-block;width:12px;height:12px;border-radius:3px;'
            f'background:{escape(colour)};margin-right:6px"></span>{escape(name)} <small>{escape(more)}</small></span>')


def _act(label: str, function: Callable[..., Any], *args: Any, **more: Any) -> None:
    """A button that runs a service; a new version becomes the one the page is about."""
    if st.button(label, type="primary"):
        try:
            made = function(cache.store(), access.actor(), *args, **more)
        except FerError as error:
            st.error(access.plain(str(error)))
        else:
            if isinstance(made, Scheme):
                st.query_params["scheme"] = made.scheme_id
            st.rerun()


def create() -> None:
    with st.popover("New scheme", type="primary", icon=":material/add:"):
        title = st.text_input("Name", max_chars=40)
        names = st.text_area("Classes, one a line")
        _act("Create", schemes.create, title, [n for n in names.splitlines() if n.strip()])


def change(scheme: Scheme, newest: bool) -> None:
    """Copy any scheme; change the newest version of one that was made here."""
    ids, name_of = [c.class_id for c in scheme.classes], {c.class_id: c.name for c in scheme.classes}.__getitem__
    with st.container(horizontal=True):
        with st.popover("Copy", icon=":material/content_copy:"):
            name = st.text_input("Name of the copy", max_chars=40)
            only = st.multiselect("Classes", ids, ids, format_func=name_of)
            keep = st.checkbox("The same question", help=f"Answers count as answers to {scheme.field}; otherwise the copy has a field of its own.")
            _act(f"Copy {scheme.scheme_id}", schemes.copy, scheme.scheme_id, name, keep_field=keep, only=only)
        if not newest or scheme.scheme_id in SCHEMES:
            st.caption("Only the newest version of a scheme made in this workspace changes. Copy this one.")
            return
        with st.popover("Add a class", icon=":material/add:"):
            name = st.text_input("Name of the class", max_chars=40)
            colour = st.text_input("Colour (#rrggbb)", placeholder="a free one", max_chars=7)
            key = st.selectbox("Key", [None, *schemes.KEYS], format_func=lambda k: k or "a free one")
            _act("Add", schemes.add_class, scheme.scheme_id, name, colour=colour or None, keys=[key] if key else ())
        with st.popover("Rename or retire", icon=":material/edit:"):
            which = st.selectbox("Class", ids, format_func=name_of)
            _act("Rename", schemes.rename_class, scheme.scheme_id, which, st.text_input("New name", max_chars=40))
            retired = scheme[which].retired
            _act("Offer again" if retired else "Retire", schemes.retire_class, scheme.scheme_id, which, retired=not retired)
        with st.popover("Order", icon=":material/swap_vert:"):
            order = st.multiselect("All classes, in their new order", scheme.ids, format_func=name_of)
            _act("Put in this order", schemes.reorder, scheme.scheme_id, order)


def mapping(scheme: Scheme, target: Scheme) -> tuple[schemes.Step, ...]:
    """A choice for each class; what is left open is in no step."""
    with st.container(horizontal=True):
        goals = {c.class_id: st.selectbox(f"{access.plain(c.name)} becomes", [*target.ids, AGAIN, LEAVES, OPEN], width=160,
                                          index=target.ids.index(c.class_id) if c.class_id in target.ids else len(target.ids) + 2,
                                          key=f"goal-{scheme.scheme_id}-{target.scheme_id}-{c.class_id}") for c in scheme.classes}
    return tuple(schemes.Step(source=i, target=None if goal in (AGAIN, LEAVES) else goal, split=goal == AGAIN)
                 for i, goal in goals.items() if goal != OPEN)


def save(scheme: Scheme, target: Scheme, steps: tuple[schemes.Step, ...]) -> None:
    if access.actor().may(Permission.SCHEMES):
        with st.popover("Save the map", icon=":material/save:"):
            _act("Save", schemes.save_map, st.text_input("Name of the map", max_chars=40), scheme.scheme_id, target.scheme_id, steps)
