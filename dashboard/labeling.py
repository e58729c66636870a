"""The labeling loop on a page: a campaign, its component, and one transaction a flush."""

import hashlib
import time
from dataclasses import replace
from typing import Any

import streamlit as st

from dashboard import access, cache
from dashboard.components import loop
from dashboard.components.label_grid import check_keys, label_grid
from dashboard.components.verify_grid import RESERVED, verify_grid
from dashboard.links import choose_in_url
from dashboard.state import Beat, session
from fercore import curation
from fercore.curation import past
from fercore.domain import Permission, Person
from fercore.errors import FerError
from fercore.schemes import FLAGS
from fercore.store import Store, settings

BEAT_SECONDS = 20  # how often leases are kept and answers counted anew
FLAG_BUTTONS = tuple(loop.Flag(f"flag_{name}", label, key) for name, (label, key) in FLAGS.items() if key)


def page(place: str, title: str, caption: str, nothing: str, note: str = "") -> None:
    """A labeling page: choose one of the open campaigns of this place ("label", "tag" or "verify"), and work on it."""
    person = access.actor()
    person.require(Permission.LABEL)
    header = st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute")
    header.title(title)
    if not cache.options()["sources"]:
        access.no_faces_yet()
    open_here = cache.campaigns_for(person, place)
    if not open_here:
        st.info(nothing, icon=":material/inventory_2:")
        if person.may(Permission.PLAN):
            st.page_link("app_pages/campaigns.py", label="Plan a campaign", icon=":material/campaign:")
        st.stop()
    with header:
        chosen = choose_in_url("campaign", {i: c.name for i, c in open_here.items()}, label="Campaign", width=380)
    if caption:
        st.caption(caption)
    working(chosen, note)


def journal_of(store: Store, person: Person) -> str:
    """Names the journal in the browser: another workspace served from this address must not be sent these events, nor another person."""
    return f"{hashlib.sha256(str(store.workspace.root).encode()).hexdigest()[:12]}-{person.person_id}"


@st.fragment
def working(campaign_id: str, note: str) -> None:
    """Everything a flush needs happens in this fragment: record, read the acknowledgement back, answer with faces if asked."""
    person, store = access.actor(), cache.store()
    journal = journal_of(store, person)
    key = f"labeling-{campaign_id}-{journal}"
    report = loop.pending(key, journal)
    receipt = curation.Receipt()
    try:
        receipt = curation.record(store, person, list(report.events)) if report.events else receipt
    except FerError as error:  # the loop stays: the browser keeps its answers and sends them again
        st.error(f"Not saved yet. {error}", icon=":material/error:")
    campaign = cache.all_campaigns()[campaign_id][0]  # read anew: somebody may have changed it since the page was opened
    ask, asked = cache.asked(person, campaign_id, campaign)
    try:
        handed, empty = batch(store, person, campaign_id, report), ""
        if handed and not handed.faces:
            empty = curation.why_empty(store, person, campaign_id)
    except FerError as error:  # taken out of the campaign while working
        handed, empty = loop.Batch(report.want or 0, ()), str(error)
    beat = session().beats.setdefault(campaign_id, Beat())
    if handed or not report.events or time.monotonic() - beat.at > BEAT_SECONDS or beat.client != report.client:  # not with every answer
        beat.at, beat.client, beat.done = time.monotonic(), report.client, curation.done(store, person, ask)
        beat.lost = curation.heartbeat(store, person, campaign_id, ask, report.client) if report.client else []
    else:
        acked = set(receipt.acked)
        beat.done += len({e["image_id"] for e in report.events if e["event_id"] in acked and e["op"] in ("set", "skip")})
    common: dict[str, Any] = {
        "key": key, "journal": journal, "page": campaign_id, "report": report, "note": note, "acked": receipt.acked, "refused": receipt.refused,
        "batch": handed, "past": earlier(store, person, campaign_id, tuple(q.field for q in asked), report), "empty": empty,
        "lost": beat.lost, "done": beat.done, "total": total(store, person, campaign_id, beat.done)}
    keys = personal_keys(store, person, asked, report, receipt)
    if campaign.grid:
        asked = (with_keys(asked[0], keys),)
        claim = next((c for c in asked[0].choices if c.value == campaign.claim), None)
        verify_grid(question=asked[0], claim=claim, **common)
    else:
        label_grid(questions=asked, flags=FLAG_BUTTONS, keys=keys, second=campaign.second, **common)


def with_keys(question: loop.Question, keys: dict[str, Any]) -> loop.Question:
    """The question with the person's own keys, where the grid has them free: one key means one class on every page."""
    changed = tuple(replace(c, keys=tuple(k for k in keys.get(f"answer {question.field}={c.value}", c.keys) if k not in RESERVED))
                    for c in question.choices)
    used = [k for c in changed for k in c.keys]
    return replace(question, choices=changed) if len(used) == len(set(used)) else question


def batch(store: Store, person: Person, campaign_id: str, report: loop.Report) -> loop.Batch | None:
    """The block that the browser asks for; the same one until it asks for another."""
    if report.want is None or not report.client:
        return None
    block = curation.block(store, person, campaign_id, report.client, report.want)
    return loop.Batch(report.want, tuple(loop.Face(r.image_id, bytes(r.gray48), dict(r.answers) if isinstance(r.answers, dict) else {})
                                         for r in block.faces.itertuples()), block.lease_id)


def earlier(store: Store, person: Person, campaign_id: str, fields: tuple[str, ...], report: loop.Report) -> loop.Past | None:
    """The page of earlier gestures that the browser asks for, so that undo reaches back to the first answer."""
    if report.past is None or not report.client:
        return None
    done, undone, more = past.page(store, person, campaign_id, fields, report.past, before=report.client)
    acts = [a for unit in [*done, *undone] for a in unit]

    def gestures(units: list[past.Unit]) -> tuple[loop.Gesture, ...]:
        return tuple(loop.Gesture(a.image_id, tuple(a.events), a.before, a.after, a.passed_before, a.passed_after) for u in units for a in u)

    pixels = cache.pixels(tuple(dict.fromkeys(a.image_id for a in acts)))
    standing = {a.image_id: a.after for unit in done for a in unit} | {a.image_id: a.before for unit in undone[:1] for a in unit}
    return loop.Past(report.past, gestures(done), gestures(undone),
                     tuple(loop.Face(i, p, standing.get(i, {})) for i, p in pixels.items()), more)


def total(store: Store, person: Person, campaign_id: str, done: int) -> int:
    """Faces of the campaign for this person, counted when the page is opened."""
    known = session().totals
    if campaign_id not in known:
        n = curation.counts(store, person, campaign_id)
        known[campaign_id] = done + int(n["open"]) + int(n["mine"])
    return known[campaign_id]


def personal_keys(store: Store, person: Person, asked: tuple[loop.Question, ...], report: loop.Report, receipt: curation.Receipt) -> dict[str, Any]:
    """The person's own keys for these questions; what the browser sends is checked and kept, or refused in the receipt."""
    name = f"keys:{'+'.join(q.field for q in asked)}"
    known = session().keys
    if name not in known:
        known[name] = settings.load(store, person, name) or {}
    if report.keys is not None and report.keys != known[name]:
        try:
            known[name] = check_keys(asked, FLAG_BUTTONS, report.keys)
            settings.save(store, person, name, known[name])
        except FerError as error:
            receipt.refused["keys"] = str(error)
    return known[name]
