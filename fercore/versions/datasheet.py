"""The datasheet of a version: generated from facts, with answers where only a person knows (after Gebru et al. 2021, Datasheets for Datasets)."""

import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from fercore.curation import agreement
from fercore.domain import SPLITS, Permission, Person
from fercore.errors import NotFound
from fercore.schemes import CLASSES, SCHEMES
from fercore.store import Store
from fercore.store import quality as votes_table
from fercore.store import sources as source_table
from fercore.store import versions as table
from fercore.versions import files, policy, record
from fercore.versions.rows import TAGS, rows_of

GAP = 20  # test faces below which a group is named as a gap
NOTICE = ("Inferring emotions from faces is restricted in some jurisdictions. In the European Union, the AI Act (Regulation (EU) 2024/1689), "
          "Art. 5(1)(f), prohibits AI systems that infer emotions of people at the workplace and in education institutions, except for medical or "
          "safety reasons. Find out what holds for your use; this is no legal advice.")
LIMITS = ("Labels are perceived expressions: what annotators saw in a small grey picture, not what the person felt. Age and gender presentation are "
          "perceived as well. Do not use them to decide about a person.")


@dataclass(frozen=True)
class Question:
    """What only a person knows."""

    title: str
    asks: str
    needed: bool = True


QUESTIONS = {
    "purpose": Question("Purpose", "Why was this version made, and for which task?"),
    "collection": Question("Collection and consent", "How did the pictures come to be, and what did the people in them agree to?"),
    "uses": Question("Intended uses", "What should it be used for, and what not?"),
    "contact": Question("Contact", "Who answers questions and requests to take a face out?"),
    "gaps": Question("Known problems", "What is wrong or missing that the numbers do not show?", needed=False),
    "maintenance": Question("Maintenance", "Who looks after it, and how long?", needed=False),
}


@dataclass(frozen=True)
class Answer:
    """A question of QUESTIONS with its answer; None where nobody has answered."""

    field: str
    text: str | None


@dataclass(frozen=True)
class Table:
    """Texts in rows under `head`."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Part = str | Table | Answer


@dataclass(frozen=True)
class Section:
    title: str
    parts: tuple[Part, ...]


def question(field: str) -> Question:
    """Raises: NotFound."""
    if field not in QUESTIONS:
        raise NotFound("Unknown field", f"{field!r} is no question of the datasheet", f"Choose {', '.join(QUESTIONS)}")
    return QUESTIONS[field]


def unanswered(acts: record.Acts) -> list[str]:
    """Fields that are needed and empty."""
    given = record.answers(acts)
    return [name for name, q in QUESTIONS.items() if q.needed and not given.get(name)]


def sheet(store: Store, actor: Person, version_id: str) -> list[Section]:
    """The datasheet from what is known now; annotators are counted, never named.

    Raises:
        NotAllowed: the actor may not read results. NotFound: no such version.
    """
    actor.require(Permission.READ_RESULTS)
    card, acts = files.card(store.workspace, version_id), table.acts(store, version_id)
    given = record.answers(acts)
    rows = rows_of(store.workspace, version_id, "sample_id", "image_id", "source_id", "given_label", "label", "split", "duplicate_group", "transform",
                   "exclusion", *TAGS)
    held = rows[rows["exclusion"] == ""]

    def ask(*fields: str) -> tuple[Answer, ...]:
        return tuple(Answer(name, given.get(name)) for name in fields)

    state = str(table.one(store, version_id)["state"]).replace("_", " ")
    return [
        Section("Overview", (Table(("", ""), (
            ("Version", version_id), ("State", state), ("Manifest SHA-256", card["manifest_sha256"]), ("Scheme", card["scheme_id"]),
            ("Frozen", f"{card['created_at']} UTC by {card['created_by']}"), ("Faces", f"{len(held):,}"),
            ("Left out", f"{len(rows) - len(held):,}"))), *ask("purpose", "contact"))),
        Section("Provenance", (_sources(store, held), *ask("collection"))),
        Section("Composition", (_by_split(held, "label", card["classes"], "class"), *_left_out(rows), _copies(held))),
        Section("Groups", (*(_by_split(held, tag, _named(tag), SCHEMES[f"{tag}@1"].name) for tag in TAGS), *_gaps(held), *ask("gaps"))),
        Section("Process", (*_process(store, card, held), *_signed(store, acts))),
        Section("Uses and limits", (*ask("uses"), LIMITS, NOTICE, *ask("maintenance"))),
    ]


def _named(tag: str) -> list[str]:
    return [*SCHEMES[f"{tag}@1"].ids, ""]


def _name(class_id: str) -> str:
    return CLASSES[class_id].name if class_id in CLASSES else class_id.replace("_", " ") or "not tagged"


def _sources(store: Store, held: pd.DataFrame) -> Table:
    known, n = source_table.table(store).fillna("").set_index("source_id"), held["source_id"].value_counts()

    def fact(source: str, column: str) -> str:
        return str(known.loc[source, column] or "not stated") if source in known.index else "not stated"

    return Table(("source", "faces", "licence", "authors", "organisation", "address", "file", "SHA-256 of the file"), tuple(
        (s, f"{n[s]:,}", *(fact(s, c) for c in ("licence", "authors", "organisation", "url", "file_name", "file_sha256"))) for s in sorted(n.index)))


def _by_split(held: pd.DataFrame, column: str, values: Sequence[str], title: str) -> Table:
    counts = pd.crosstab(held[column], held["split"]).reindex(columns=list(SPLITS), fill_value=0)
    counts = counts.reindex([v for v in values if v in counts.index or v], fill_value=0)
    body = [(_name(str(v)), *(f"{n:,}" for n in (*row, sum(row)))) for v, row in zip(counts.index, counts.to_numpy().tolist(), strict=True)]
    return Table((title, *SPLITS, "all"), tuple(body))


def _left_out(rows: pd.DataFrame) -> tuple[Part, ...]:
    reasons = rows.loc[rows["exclusion"] != "", "exclusion"].value_counts()
    return (Table(("left out because", "faces"), tuple((str(r), f"{n:,}") for r, n in reasons.items())),) if len(reasons) else ()


def _copies(held: pd.DataFrame) -> str:
    edited = int((held["transform"] != "").sum())
    return (f"{held['image_id'].nunique():,} different pictures in {held['duplicate_group'].nunique():,} groups of identical faces; no group lies in "
            f"two splits unless a gate says so. {edited:,} faces were edited in the version (brightened); their originals are kept.")


def _gaps(held: pd.DataFrame) -> tuple[Part, ...]:
    test, rows = held[held["split"] == "test"], []
    for tag in TAGS:
        counts = pd.crosstab(test[tag], test["label"]).reindex(index=list(SCHEMES[f"{tag}@1"].ids), fill_value=0)
        for group, row in counts.iterrows():
            if few := [_name(str(c)) for c, n in row.items() if n < GAP]:
                rows.append((_name(str(group)), ", ".join(few)))
    untagged = {SCHEMES[f"{t}@1"].name.lower(): float((held[t] == "").mean()) for t in TAGS} if len(held) else {}
    told = "; ".join(f"{share:.1%} have no {name}" for name, share in untagged.items())
    return (f"Untagged: {told}." if told else "",
            *((f"Fewer than {GAP} test faces, too few for a statement about accuracy:", Table(("group", "classes"), tuple(rows))) if rows else ()))


def _process(store: Store, card: dict[str, object], held: pd.DataFrame) -> tuple[Part, ...]:
    images = set(held["image_id"])
    votes = votes_table.votes(store, "expression", None, [])
    votes = votes[votes["image_id"].isin(images)]
    alpha = agreement.krippendorff(votes[["image_id", "person_id", "value"]])
    shown = alpha.number() if alpha.n >= GAP else f"n = {alpha.n} < {GAP}"
    changed = int(((held["label"] != held["given_label"]) & (held["given_label"] != "")).sum())
    return (f"{changed:,} labels differ from what the sources gave. {len(votes):,} votes by {votes['person_id'].nunique():,} annotators on "
            f"{votes['image_id'].nunique():,} of the pictures; Krippendorff's alpha: {shown}.",
            "Recipe: " + json.dumps(card["recipe"], sort_keys=True))


def _signed(store: Store, acts: record.Acts) -> tuple[Part, ...]:
    by = table.timeline(store, acts[0]["version_id"])
    names = dict(zip(by["person_id"], by["person"], strict=True))
    rules = next((policy.Policy.model_validate(d["policy"]) for _, d in reversed(record.details(acts, "approve")) if "policy" in d),
                 policy.current(store))
    given, _ = policy.approvals(acts)
    who = Table(("act", "by", "role", "sign-in", "reason"), tuple(
        (a["act"].replace("_", " "), str(names.get(a["person_id"], "")), a["role"].replace("_", " "), a["authentication"], a["reason"] or "")
        for a in acts if (a["act"] != "approve" or a in given) and a["act"] != "datasheet"))
    waived = tuple((g, a["found"], a["reason"]) for g, a in record.waivers(acts).items())
    return (f"Approval takes {rules.sentence()}.", who, *((Table(("waived gate", "found", "reason"), waived),) if waived else ()))


# ---- as a document --------------------------------------------------------------------------------------------------------------

_STYLE = ("body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b222c;background:#fff}"
          "table{border-collapse:collapse;margin:.6rem 0}td,th{border:1px solid #d5dae1;padding:.2rem .6rem;text-align:left;overflow-wrap:anywhere}"
          "h1{font-size:1.7rem}h2{font-size:1.25rem;margin-top:1.6rem}h3{font-size:1rem;margin-bottom:.2rem}.open{color:#a33c00}p{white-space:pre-wrap}")


def as_html(version_id: str, sections: Sequence[Section]) -> str:
    """One page that loads nothing; every text is escaped."""
    e = html.escape

    def shown(part: Part) -> str:
        if isinstance(part, str):
            return f"<p>{e(part)}</p>"
        if isinstance(part, Answer):
            text = f"<p>{e(part.text)}</p>" if part.text else '<p class="open">not answered</p>'
            return f"<h3>{e(QUESTIONS[part.field].title)}</h3>{text}"
        head = "".join(f"<th>{e(h)}</th>" for h in part.head) if any(part.head) else ""
        body = "".join("<tr>" + "".join(f"<td>{e(c)}</td>" for c in row) + "</tr>" for row in part.rows)
        return f"<table><tr>{head}</tr>{body}</table>" if head else f"<table>{body}</table>"

    body = "".join(f"<h2>{e(s.title)}</h2>" + "".join(map(shown, s.parts)) for s in sections)
    return (f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{e(version_id)}: datasheet</title><style>{_STYLE}</style>'
            f"<h1>{e(version_id)}: datasheet</h1>{body}</html>\n")


def as_markdown(version_id: str, sections: Sequence[Section]) -> str:
    """Markdown with tables; what people wrote is escaped, so that it cannot become a link or markup."""
    def e(text: str) -> str:
        return re.sub(r"([\\`*_{}\[\]()#+!|~-])", r"\\\1", html.escape(text, quote=False)).replace("\n", "<br>")

    def shown(part: Part) -> str:
        if isinstance(part, str):
            return e(part)
        if isinstance(part, Answer):
            return f"### {QUESTIONS[part.field].title}\n\n{e(part.text) if part.text else '(not answered)'}"
        lines = [part.head, tuple("---" for _ in part.head)]
        return "\n".join("| " + " | ".join(row if i == 1 else map(e, row)) + " |" for i, row in enumerate([*lines, *part.rows]))

    body = [f"## {s.title}\n\n" + "\n\n".join(filter(None, map(shown, s.parts))) for s in sections]
    return "\n\n".join([f"# {e(version_id)}: datasheet", *body]) + "\n"
