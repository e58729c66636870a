"""A practice round: faces whose answer is agreed on, with feedback. Nothing here counts as a vote."""

import streamlit as st

from dashboard import access, cache, labeling
from dashboard.components import loop
from dashboard.components.label_grid import label_grid
from dashboard.links import choose_in_url
from dashboard.state import session
from fercore import curation
from fercore.curation import schemes as book
from fercore.domain import Permission
from fercore.errors import FerError

ROUND = 20
person = access.actor()
person.require(Permission.LABEL)
store = cache.store()

header = st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute")
header.title("Practice")
schemes = {s.slug: s for s in cache.latest_schemes() if len(cache.examples(person, s.scheme_id))}
if not schemes:
    st.info("No example faces are chosen yet. A reviewer or data lead chooses them on the Guidelines page.", icon=":material/school:")
    st.page_link("app_pages/guidelines.py", label="Guidelines", icon=":material/menu_book:")
    st.stop()
with header:
    slug = choose_in_url("scheme", {short: s.name for short, s in schemes.items()}, label="Scheme", width=300)
st.caption("Each answer is compared with what others agreed on. Nothing here counts as a vote, and nobody else sees it.")


@st.fragment
def practising(slug: str) -> None:
    person, scheme = access.actor(), schemes[slug]
    asked = (loop.question(scheme.field, scheme.name, scheme),)
    journal = f"practice:{labeling.journal_of(store, person)}"
    key = f"practice-{slug}-{journal}"
    report = loop.pending(key, journal)
    receipt = curation.Receipt()
    try:
        receipt = curation.record(store, person, list(report.events), practice=True) if report.events else receipt
    except FerError as error:
        st.error(f"Not saved yet. {error}", icon=":material/error:")
    rounds = session().practice
    if report.want is not None and (slug, report.client, report.want) not in rounds:  # drawn once: recorded answers change the next draw
        faces = book.practice_set(store, person, scheme.scheme_id, ROUND) if report.want == 1 else None
        rounds[slug, report.client, report.want] = () if faces is None else tuple(
            loop.Face(r.image_id, bytes(r.gray48), expected=tuple(r.accept)) for r in faces.itertuples())
    batch = None if report.want is None else loop.Batch(report.want, rounds[slug, report.client, report.want])
    drawn = rounds.get((slug, report.client, 1), ())
    label_grid(key=key, journal=journal, page=f"practice-{slug}", report=report, questions=asked, flags=(),
               keys=labeling.personal_keys(store, person, asked, report, receipt), batch=batch, past=None,
               total=len(drawn) or ROUND, done=0, acked=receipt.acked, refused=receipt.refused, practice=True,
               empty="The round is over. Reload the page for the next one.")


practising(slug)
