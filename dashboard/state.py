"""What one browser session remembers. The only file that touches st.session_state for anything that is not a widget."""

from dataclasses import dataclass, field

import streamlit as st

from dashboard.components.label_grid import Served
from fercore.domain import Person


@dataclass
class Handed:
    """What one labeling queue gave to the browser of this session."""

    served: Served = field(default_factory=Served)
    client: str = ""
    images: list[str] = field(default_factory=list)
    total: int | None = None  # faces in the queue when the page was opened


@dataclass
class Session:
    """One tab: who acts, and its labeling queues by name."""

    person: Person | None = None
    switching: bool = False  # the person left the profile: do not take the remembered one
    handed: dict[str, Handed] = field(default_factory=dict)
    watching: set[str] = field(default_factory=set)  # runs that were going on when they were last drawn


def session() -> Session:
    # Compared by name: after a hot reload the class of an old session is another object.
    if type(st.session_state.get("session")).__name__ != "Session":
        st.session_state["session"] = Session()
    found: Session = st.session_state["session"]
    return found
