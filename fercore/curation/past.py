"""What a person did in a campaign, as gestures that can be undone and redone."""

from dataclasses import dataclass, field
from typing import Any

from fercore.domain import Permission, Person
from fercore.store import Store, labels


@dataclass
class Act:
    """One gesture on one image: its events, and the answers (field -> value) before and after it."""

    gesture: str
    image_id: str
    events: list[dict[str, Any]] = field(default_factory=list)
    before: dict[str, str] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)
    passed_before: bool = False
    passed_after: bool = False


Unit = list[Act]  # one gesture, an Act an image


def replay(events: list[dict[str, Any]], fields: tuple[str, ...]) -> dict[str, Unit]:
    """The acts of each gesture with what stood on the face before and after it.

    Args:
        events: event_id, op, image_id, field, value, target, gesture, round; every act of one person on the images they name, oldest first.
        fields: what is asked: a face is passed once all are answered, it is skipped, or a flag is set.
    """
    units: dict[str, dict[str, Act]] = {}
    of: dict[str, Act] = {}  # event id -> the act it belongs to
    answers: dict[tuple[str, bool], dict[str, str]] = {}
    passed: dict[tuple[str, bool], bool] = {}
    for e in events:
        image = e["image_id"]
        face = (image, e["round"] == "repeat")  # a hidden repeat knows nothing of the first answer
        if e["op"] in ("undo", "redo"):
            if (act := of.get(e["target"])) is not None:
                back = e["op"] == "undo"
                answers[face] = dict(act.before if back else act.after)
                passed[face] = act.passed_before if back else act.passed_after
            continue
        have = answers.setdefault(face, {})
        unit = units.setdefault(e["gesture"], {})
        if image not in unit:
            unit[image] = Act(e["gesture"], image, before=dict(have), passed_before=passed.get(face, False))
        act = of[e["event_id"]] = unit[image]
        act.events.append({k: e[k] for k in ("event_id", "op", "field", "value", "gesture")})
        if e["op"] == "set":
            have[e["field"]] = e["value"]
        elif e["op"] == "unset":
            have.pop(e["field"], None)
        flagged = e["op"] == "set" and e["field"].startswith("flag_")
        passed[face] = passed.get(face, False) or e["op"] == "skip" or flagged or all(f in have for f in fields)
        act.after, act.passed_after = dict(have), passed[face]
    return {gesture: list(acts.values()) for gesture, acts in units.items()}


def page(store: Store, actor: Person, campaign_id: str, fields: tuple[str, ...], number: int, size: int = 60, *,
         before: str | None = None) -> tuple[list[Unit], list[Unit], bool]:
    """Page `number` (1 = the latest) of what can be undone, oldest first; what can be redone (page 1 only, the next one last); whether older
    gestures exist. A page holds about `size` images and never cuts through a gesture. `before` is the id of the page in the browser (UUIDv7):
    what it did itself it knows, and its undoing must not move the bounds of the pages.

    Raises:
        NotAllowed: the actor may not label.
    """
    actor.require(Permission.LABEL)
    pages: list[list[str]] = [[]]
    images = 0
    for gesture, n in labels.undoable(store, actor, campaign_id, before, size * number + 1):
        if pages[-1] and images + n > size:
            pages.append([])
            images = 0
        pages[-1].append(gesture)
        images += n
    done = pages[number - 1][::-1] if 1 <= number <= len(pages) else []
    undone = labels.redoable(store, actor, campaign_id, before, size)[::-1] if number == 1 else []
    units = replay(labels.acts_beside(store, actor, campaign_id, before, done + undone), fields) if done or undone else {}
    return [units[g] for g in done], [units[g] for g in undone], number < len(pages)
