"""The labeling loop on a page: wires the component to the store, one transaction a flush."""

import hashlib

import streamlit as st

from dashboard import access, cache
from dashboard.charts import name_of
from dashboard.components.label_grid import Choice, Face, Flag, Question, label_grid, pending
from dashboard.state import Handed, session
from fercore import curation
from fercore.audit import KINDS
from fercore.domain import Permission
from fercore.errors import FerError
from fercore.schemes import FER7, FLAGS, Scheme

BATCH = 160  # faces handed to the browser at a time
FLAG_BUTTONS = tuple(Flag(f"flag_{name}", label, key) for name, (label, key) in FLAGS.items())


def page(title: str, caption: str, *schemes: Scheme) -> None:
    """A labeling page that asks one question a scheme."""
    access.actor().require(Permission.LABEL)
    header = st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute")
    header.title(title)
    if not cache.options()["sources"]:
        access.no_faces_yet()
    with header:
        queue = choose_queue(tuple(s.field for s in schemes))
    st.caption(caption)
    labeling(queue, tuple(question(s) for s in schemes), FLAG_BUTTONS)


def question(scheme: Scheme) -> Question:
    return Question(scheme.field, scheme.name, tuple(Choice(c.class_id, c.name, c.colour, c.keys) for c in scheme.classes))


def choose_queue(fields: tuple[str, ...]) -> curation.Queue:
    """Lets the person narrow what is labelled; the choice stands in the URL."""
    found = cache.options()["findings"]
    with st.popover("Which faces", icon=":material/filter_list:"):
        label = st.selectbox("Labelled by the source as", [None, *FER7.ids], format_func=lambda c: "any" if c is None else name_of(c),
                             key="of_label", bind="query-params")
        finding = st.selectbox("With finding", [None, *found], format_func=lambda k: "any" if k is None else KINDS[k],
                               key="of_finding", bind="query-params")
    return curation.Queue(fields, label, finding)


@st.fragment
def labeling(queue: curation.Queue, questions: tuple[Question, ...], flags: tuple[Flag, ...]) -> None:
    """Everything a flush needs happens in this fragment: record, read the acknowledgement back, answer with faces if asked."""
    person, store = access.actor(), cache.store()
    # Names the journal in the browser: another workspace served from this address must not be sent these events.
    place = hashlib.sha256(str(store.workspace.root).encode()).hexdigest()[:12]
    name = f"{place}-{person.person_id}-{'-'.join(queue.fields)}-{queue.label or 'any'}-{queue.finding or 'any'}"
    key = f"labeling-{name}"
    report = pending(key, name)
    receipt = curation.Receipt()
    try:
        receipt = curation.record(store, person, list(report.events)) if report.events else receipt
    except FerError as error:  # the loop stays: the browser keeps its answers and sends them again
        st.error(f"Not saved yet. {error}", icon=":material/error:")
    state = session().handed.setdefault(name, Handed())
    if state.total is None:
        done, waiting = curation.progress(store, person, queue)
        state.total = done + waiting

    def fetch() -> list[Face]:
        if state.client not in ("", report.client):
            state.images.clear()  # another tab or a reload: it holds no faces yet
        state.client = report.client
        rows = curation.waiting(store, person, queue, held=state.images, limit=BATCH)
        state.images += rows["image_id"].tolist()
        return [Face(i, bytes(p)) for i, p in zip(rows["image_id"], rows["gray48"], strict=True)]

    batch = state.served.answer(report, fetch)
    label_grid(key=key, journal=name, report=report, questions=questions, flags=flags, batch=batch, total=state.total,
               done=curation.answered(store, person, queue), acked=receipt.acked, refused=receipt.refused,
               empty="No face waits for you in this queue")


