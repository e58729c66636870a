"""Campaigns: which faces a team labels, how many votes each face gets, in which order, and who holds what at the moment."""

import math
from collections import Counter
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from uuid_utils import uuid7

from fercore import people
from fercore.curation import schemes as book
from fercore.domain import Permission, Person, slug
from fercore.errors import BadInput, Conflict, NotAllowed, NotFound
from fercore.schemes import AGE_BANDS, FER7, FLAGS, GENDERS, Scheme
from fercore.store import Store, labels, now, runs, samples
from fercore.store import campaigns as table
from fercore.store.campaigns import Ask, Block

HAND_PICKED = 5000  # faces a campaign may name one by one
BLOCK = 160  # faces leased and prefetched at a time: 53 s of work at 3 a second
GRID_BLOCK = 120  # two pages of a grid
PART = 4  # a block is at most this part of what is open, or the first to come would hold a small campaign alone
LEAST = 20  # but not less than this, in a grid a page
LEASE_MINUTES = 10.0
Priority = Literal["none", "entropy", "disagreement", "rarity", "finding"]
State = Literal["open", "closed"]


class Campaign(BaseModel):
    """What a campaign asks, of which faces, and how they are handed out. Every value may be changed at any time.

    Args:
        ask: scheme ids, or one flag field such as "flag_dark".
        grid: shown as a wall of faces rather than one at a time.
        claim: in a grid, what all faces are said to be; the annotator marks the exceptions.
        claimed_by: where the claim comes from: the given label, the current label, or out-of-fold predictions of run_id; None for a flag,
            whose candidates are the faces with `finding`.
        votes: answers wanted for each face, 1 to 50.
        label, finding, source, split: narrow the faces; None means any.
        images: ids of hand-picked faces; empty means any.
        members: ids of people; empty means everyone.
        priority: what comes first: faces on whose label votes are spread (entropy), on which the run disagrees with the current label
            (disagreement, weighted by its confidence), of rare classes (rarity), or with the highest score of the finding (finding).
        random_share: part of each block drawn uniformly at random, with its inclusion probability stored, for unbiased estimates.
        gold_share, repeat_share: parts of each block with known answers, and with faces the person answered `repeat_hours` ago or earlier.
        second: a second expression may be given.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=80)
    ask: tuple[str, ...] = Field(min_length=1, max_length=2)
    grid: bool = False
    claim: str | None = None
    claimed_by: Literal["given", "current", "model"] | None = None
    votes: int = Field(default=1, ge=1, le=50)
    label: str | None = None
    finding: str | None = None
    source: str | None = None
    split: str | None = None
    images: tuple[str, ...] = Field(default=(), max_length=HAND_PICKED)
    members: tuple[str, ...] = ()
    priority: Priority = "none"
    run_id: str | None = None
    random_share: float = Field(default=0.0, ge=0, le=1)
    gold_share: float = Field(default=0.0, ge=0, le=0.5)
    repeat_share: float = Field(default=0.0, ge=0, le=0.5)
    repeat_hours: float = Field(default=24.0, ge=0)
    second: bool = False

    @field_validator("name")
    @classmethod
    def _one_line(cls, name: str) -> str:
        return " ".join(name.split())

    @model_validator(mode="after")
    def _fits(self) -> "Campaign":
        if self.random_share + self.gold_share + self.repeat_share > 1:
            raise ValueError("the shares sum to more than 1")
        if self.claim and not self.grid:
            raise ValueError("a claim is verified in a grid")
        if self.grid and len(self.ask) > 1:
            raise ValueError("a grid asks one question")
        if (self.priority == "disagreement" or self.claimed_by == "model") and not self.run_id:
            raise ValueError("model predictions need a run")
        if self.claimed_by and not self.claim:
            raise ValueError("claimed_by without a claim")
        return self


# Always there, until somebody saves a campaign of the same id.
BUILT_IN = {
    "expression": Campaign(name="Expression, all faces", ask=(FER7.scheme_id,), votes=3, second=True),
    "tags": Campaign(name="Age and gender, all faces", ask=(AGE_BANDS.scheme_id, GENDERS.scheme_id)),
}


def listed(store: Store) -> dict[str, tuple[Campaign, State]]:
    """Every campaign with its state, built-in ones first."""
    return dict(_listed(store, store.revision("campaigns")))


@lru_cache(maxsize=8)  # asked for with every answer; the revision rises with every change
def _listed(store: Store, revision: int) -> dict[str, tuple[Campaign, State]]:
    saved = {row[0]: (Campaign.model_validate_json(row[1]), row[2]) for row in table.rows(store)}
    return {**{k: (c, "open") for k, c in BUILT_IN.items()}, **saved}  # type: ignore[dict-item]


def find(store: Store, campaign_id: str) -> tuple[Campaign, State]:
    """Raises: NotFound, naming what there is."""
    found = listed(store)
    if campaign_id not in found:
        raise NotFound("Unknown campaign", f"{campaign_id!r} is not in this workspace", f"Known: {', '.join(found)}")
    return found[campaign_id]


def for_person(store: Store, actor: Person, place: str) -> dict[str, Campaign]:
    """Open campaigns this person is a member of, on the page "label", "tag" or "verify"."""
    return {k: c for k, (c, state) in listed(store).items()
            if state == "open" and place_of(c) == place and _has(c, actor)}


def _has(campaign: Campaign, actor: Person) -> bool:
    return not campaign.members or actor.person_id in campaign.members


def place_of(campaign: Campaign) -> str:
    """The page on which a campaign is worked: label, tag (age and gender, single or grid) or verify (a claim)."""
    if campaign.claim:
        return "verify"
    return "tag" if set(campaign.ask) <= {AGE_BANDS.scheme_id, GENDERS.scheme_id} or campaign.grid else "label"


def save(store: Store, actor: Person, campaign: Campaign | dict[str, Any], campaign_id: str | None = None, state: State = "open") -> str:
    """Opens a campaign, or changes the one with this id; returns its id. Leases that are out stay out.

    Raises:
        NotAllowed. BadInput: a value is wrong, or names a class, finding, source, run or person that is not here. Conflict: the name is taken,
        or the question of a campaign would change.
    """
    actor.require(Permission.PLAN)
    try:
        made = Campaign.model_validate(campaign.model_dump() if isinstance(campaign, Campaign) else campaign)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput("The campaign cannot be used", f"{'.'.join(map(str, first['loc'])) or 'campaign'}: "
                       f"{first['msg'].removeprefix('Value error, ')}") from error
    taken = Conflict("The name is taken", f"{made.name!r} is a campaign of this workspace", "Give it another name, or change that campaign")
    if campaign_id is None and slug(made.name) in listed(store):
        raise taken
    before = listed(store)[campaign_id][0] if campaign_id in listed(store) else None
    if before and before.ask != made.ask:
        raise Conflict("The question stays", f"{made.name} asks {', '.join(before.ask)}, and faces are out under it", "Open another campaign")
    asked = asked_in(store, made)
    if len(asked) < len(made.ask):
        raise BadInput("Two questions on one field", f"{', '.join(made.ask)} share a field", "Ask them in campaigns of their own")
    field, scheme = next(iter(asked.items()))
    allowed = set(scheme.ids) if scheme else book.values_of(store, field)
    keys = Counter(k for s in asked.values() if s for c in s.offered for k in c.keys)
    if clash := sorted(k for k, n in keys.items() if n > 1):
        raise BadInput("Keys clash", f"{', '.join(clash)} would answer two questions", "Ask them in campaigns of their own")
    if made.grid and not made.claim and "expression" in asked:
        raise BadInput("A grid cannot ask that", "First votes on an expression are given one face at a time", "Ask single faces, or verify a claim")
    if made.claim and made.claim not in allowed:
        raise BadInput("Unknown claim", f"{made.claim!r} is no value of {made.ask[0]}", f"Choose from {', '.join(sorted(allowed))}")
    options = samples.options(store)
    kept = {before.finding, before.source, before.split, before.run_id, *before.members} if before else set()  # may be gone since: no hindrance
    for name, value, known in (("finding", made.finding, options["findings"]), ("source", made.source, options["sources"]),
                               ("split", made.split, options["splits"]), ("run", made.run_id, sorted(runs.known(store))),
                               *(("member", m, [p.person_id for p in people.everyone(store)]) for m in made.members)):
        if value is not None and value not in known and value not in kept:
            raise BadInput(f"Unknown {name}", f"{value!r} does not occur", f"Choose from {', '.join(known) or 'nothing: there is none'}")
    if campaign_id is None and (lost := set(made.images) - labels.known_images(store, list(made.images))):
        raise BadInput("Unknown face", f"{min(lost)[:12]} is not in this workspace")
    if not table.save(store, actor, campaign_id or slug(made.name), made.model_dump_json(), state, new=campaign_id is None):
        raise taken  # at the same moment
    return campaign_id or slug(made.name)


def asked_in(store: Store, campaign: Campaign) -> dict[str, Scheme | None]:
    """What a campaign asks, in its order: field -> scheme; a flag has none. Raises: NotFound: no such scheme."""
    asked: dict[str, Scheme | None] = {}
    for entry in campaign.ask:
        scheme = None if entry.startswith("flag_") else book.find(store, entry)
        asked[scheme.field if scheme else entry] = scheme
    return asked


def ask(store: Store, actor: Person, campaign_id: str, campaign: Campaign) -> Ask:
    """The campaign as queries take it. Annotators verify an expression only where two others have voted; a flag is a plain question."""
    asked = asked_in(store, campaign)
    schemes = [s for s in asked.values() if s]
    blind = bool(campaign.claim) and bool(schemes) and not actor.may(Permission.READ_RESULTS)
    return Ask(campaign_id, tuple(asked), campaign.votes, grid=bool(campaign.claim), claim=campaign.claim, claimed_by=campaign.claimed_by,
               run_id=campaign.run_id, label=campaign.label, finding=campaign.finding, source=campaign.source, split=campaign.split,
               images=campaign.images, least_votes=2 if blind else 0, priority=campaign.priority, random_share=campaign.random_share,
               examples=tuple(sorted({i for s in schemes for i in book.example_images(store, s.scheme_id)})), gold_share=campaign.gold_share,
               repeat_share=campaign.repeat_share, repeat_hours=campaign.repeat_hours)


def block(store: Store, actor: Person, campaign_id: str, client: str, number: int) -> Block:
    """Leases the next block to this person, or gives again what this client was given under this number.

    Labels, votes and predictions of others are not in it (honesty rule 5); in a verify grid the claim is, and is recorded as shown.

    Raises:
        NotAllowed: the role may not label, or the campaign is for others. NotFound.
    """
    campaign = workable(store, actor, campaign_id)
    if campaign is None:
        return Block("", pd.DataFrame(columns=["image_id", "gray48", "round", "suggested", "place", "answers"]))
    return table.grant(store, actor, ask(store, actor, campaign_id, campaign), str(uuid7()), client, number,
                       GRID_BLOCK if campaign.grid else BLOCK, LEASE_MINUTES, PART, 60 if campaign.grid else LEAST)


def workable(store: Store, actor: Person, campaign_id: str) -> Campaign | None:
    """The campaign if it is open. Raises: NotAllowed, NotFound."""
    actor.require(Permission.LABEL)
    campaign, state = find(store, campaign_id)
    if not _has(campaign, actor):
        raise NotAllowed("You are not in this campaign", f"{campaign.name} has other members", "Ask a reviewer or data lead to add you")
    return campaign if state == "open" else None


def heartbeat(store: Store, actor: Person, campaign_id: str, asked: Ask, client: str) -> list[str]:
    """Keeps what this client holds, while the campaign is open to this person; returns its faces that others hold now."""
    campaign, state = find(store, campaign_id)
    if state != "open" or not _has(campaign, actor):
        return []
    return table.heartbeat(store, actor, asked, client, LEASE_MINUTES)


def counts(store: Store, actor: Person, campaign_id: str) -> dict[str, Any]:
    """How a campaign stands for one person (see store.campaigns.counts)."""
    campaign, _ = find(store, campaign_id)
    return table.counts(store, actor, ask(store, actor, campaign_id, campaign))


def done(store: Store, actor: Person, asked: Ask) -> int:
    """Faces this person has answered, flagged or skipped."""
    return table.done_count(store, actor, asked)


def why_empty(store: Store, actor: Person, campaign_id: str) -> str:
    """One sentence that says why no face waits for this person."""
    campaign, state = find(store, campaign_id)
    if state != "open":
        return "This campaign is closed."
    asked = ask(store, actor, campaign_id, campaign)
    n = table.counts(store, actor, asked)
    if not n["faces"]:
        return "No face matches what this campaign asks for."
    parts = []
    if n["done"]:
        parts.append(f"you have answered {n['done']:,} of {n['faces']:,}")
    if n["held"]:
        wait = _minutes(n["next_expiry"])
        parts.append(f"{n['held']:,} are with others now" + (f", the next come free in {wait} at the latest" if wait else ""))
    if n["full"]:
        parts.append(f"{n['full']:,} have all the {campaign.votes} answers wanted" if campaign.votes > 1 else f"{n['full']:,} are answered")
    if asked.least_votes:
        parts.append(f"only faces on which {asked.least_votes} others have voted are shown here")
    return f"No face waits for you: {'; '.join(parts) or 'none is left'}."


def _minutes(at: datetime | None) -> str:
    return "" if at is None else f"{max(math.ceil((at - now()).total_seconds() / 60), 1)} min"


def set_gold(store: Store, actor: Person, image_ids: list[str], field: str, accept: list[str], active: bool = True) -> None:
    """Marks faces as gold, whose right answers are known, or takes the mark back.

    Raises:
        NotAllowed. BadInput: no value, or one that the field does not take. NotFound: an image.
    """
    actor.require(Permission.PLAN)
    allowed = book.values_of(store, field)
    if active and (not accept or not set(accept) <= allowed):
        raise BadInput("Gold needs right answers", f"{', '.join(accept) or 'none'} for {field}", f"Choose from {', '.join(sorted(allowed))}")
    if missing := set(image_ids) - labels.known_images(store, image_ids):
        raise NotFound("Unknown image", f"{min(missing)[:12]} is not in this workspace")
    table.set_gold(store, actor, image_ids, field, accept, active)


def gold_of(store: Store, image_id: str) -> list[str]:
    """The right answers on the expression of a gold face; empty for other faces."""
    return table.gold_of(store, image_id, "expression")


def questions_of(store: Store, campaign_ids: set[str]) -> dict[str, dict[str, str | None]]:
    """What each campaign asks: field -> scheme id, None for a flag."""
    known = listed(store)
    return {c: {field: s.scheme_id if s else None for field, s in asked_in(store, known[c][0]).items()} for c in campaign_ids}


def questions(store: Store, campaign: Campaign) -> list[tuple[str, str, Scheme | None]]:
    """(field, title, scheme) of each question; a flag has no scheme."""
    return [(field, s.name if s else FLAGS[field.removeprefix("flag_")][0], s) for field, s in asked_in(store, campaign).items()]
