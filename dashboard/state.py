"""What one browser session remembers. The only file that touches st.session_state for anything that is not a widget."""

from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from dashboard.components.loop import Face
from fercore.domain import Person


@dataclass
class Beat:
    """When a labeling page last kept its leases and counted its answers, and what it found."""

    at: float = 0.0
    client: str = ""
    done: int = 0
    lost: list[str] = field(default_factory=list)


@dataclass
class Session:
    """One tab: who acts, and what was counted or loaded once."""

    person: Person | None = None
    switching: bool = False  # the person left the profile: do not take the remembered one
    totals: dict[str, int] = field(default_factory=dict)  # faces of a campaign when its page was opened
    beats: dict[str, Beat] = field(default_factory=dict)  # by campaign
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)  # the person's own key maps
    practice: dict[tuple[str, str, int | None], tuple[Face, ...]] = field(default_factory=dict)  # faces of a practice round, by scheme, client, batch
    settled: dict[tuple[str, str], str] = field(default_factory=dict)  # what a reviewer settled in this session: (image, field) -> value
    passed_over: set[str] = field(default_factory=set)  # faces a reviewer left for later
    said: tuple[str, str] | None = None  # how the last act on a page went ("success" or "error") and what it did; shown once
    recipe: str = ""  # the recipe that is being written, as YAML
    recipe_round: int = 0  # how often it was put there by something else than its widgets
    watching: set[str] = field(default_factory=set)  # runs that were going on when they were last drawn


def session() -> Session:
    # Compared by name: after a hot reload the class of an old session is another object.
    if type(st.session_state.get("session")).__name__ != "Session":
        st.session_state["session"] = Session()
    found: Session = st.session_state["session"]
    return found


def forget_session() -> None:
    """Somebody leaves the profile: nothing of theirs stays."""
    st.session_state["session"] = Session(switching=True)
