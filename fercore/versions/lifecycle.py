"""States of a version and who may move it. Every act is appended and bound to the manifest hash.

draft -> frozen -> in_review -> approved -> released -> deprecated | revoked. Whoever asks for changes makes it a draft again: its manifest stays
what it is, so another manifest is another version; where only the datasheet had to change, the same one is submitted again.
"""

from typing import Any

import pyarrow as pa

from fercore.domain import Permission, Person
from fercore.errors import Conflict, NotAllowed
from fercore.store import Store
from fercore.store import versions as table
from fercore.versions import datasheet, export, files, gates, policy, record
from fercore.versions.build import build
from fercore.versions.export import Progress
from fercore.versions.recipe import Recipe
from fercore.versions.record import Acts, event, mend, publish, state_of, subject, text_of

OPEN = ("draft", "frozen", "in_review")  # states in which datasheet and waivers may still change
_FROM = {"submit": ("frozen", "draft"), "request_changes": ("in_review",), "release": ("approved",), "deprecate": ("released",),
         "revoke": ("approved", "released", "deprecated")}


def freeze(store: Store, actor: Person, recipe: Recipe, name: str) -> str:
    """Builds a version from what the store holds now and returns its id. Nothing changes it afterwards.

    Raises:
        NotAllowed: the actor may not freeze. BadInput: the recipe does not fit the data; nothing is written.
    """
    actor.require(Permission.FREEZE)
    with store.snapshot() as (facts, at):
        built = build(facts, actor, recipe)
    rows, card = built.made.rows, built.card(actor, name, at)
    columns = ["sample_id", "image_id", "label", "split", "exclusion"]
    listed = pa.Table.from_pandas(rows[columns], preserve_index=False, schema=pa.schema([(c, pa.string()) for c in columns]))

    def number(n: int) -> tuple[dict[str, Any], pa.Table, dict[str, Any]]:
        card.update(number=n, version_id=f"{card['name']}-v{n}")
        return card, listed, event(card["version_id"], "freeze", "frozen", built.sha256, actor, None, {"at": at.isoformat()})

    def write() -> None:
        files.sweep(store.workspace, set(table.table(store)["version_id"]))
        files.write(store.workspace.versions / card["version_id"], rows, built.pixels, card)

    table.insert(store, card["name"], actor, at, number, write)
    publish(store, card["version_id"])
    return str(card["version_id"])


def recover(store: Store) -> None:
    """Finishes or clears away what killed builds and acts left between files and database. Only while no build is under way."""
    files.sweep(store.workspace, set(table.table(store)["version_id"]))
    mend(store)


def check_round_trip(store: Store, actor: Person, version_id: str, progress: Progress = lambda done, total: None) -> None:
    """Unless it came back whole before: exports, imports and builds the version elsewhere, and records what differs unless that stands there already.
    See `export.round_trip`."""
    actor.require(Permission.READ_RESULTS)
    sha = table.one(store, version_id)["manifest_sha256"]
    last = record.round_trip(table.acts(store, version_id))
    if last == [] or files.verified(store.workspace, version_id) or record.problems(store, version_id):
        return  # of a version that does not verify, the first gates say so
    differs = export.round_trip(store, version_id, progress)
    if differs == last:
        return
    table.append(store, version_id, lambda _: event(version_id, "round_trip", None, sha, actor, None, {"differs": differs}))
    mend(store)


def submit(store: Store, actor: Person, version_id: str, progress: Progress = lambda done, total: None) -> None:
    """Asks for review, after `check_round_trip`. Raises: NotAllowed, NotFound, Conflict (neither frozen nor sent back for changes)."""
    actor.require(Permission.FREEZE)
    _stands(store, version_id, "submit", _FROM["submit"])
    check_round_trip(store, actor, version_id, progress)
    _move(store, actor, version_id, "submit", "in_review", None)


def approve(store: Store, actor: Person, version_id: str, reason: str = "") -> str:
    """Approves a version in review and returns its state then: approved once all have approved whom the policy asks for, else in_review.

    Raises:
        NotAllowed: the role, or the actor made it and the policy does not let creators sign. NotFound.
        Conflict: not in review, approved by the actor already, or a gate fails and is not waived.
    """
    actor.require(Permission.APPROVE)
    rules, seen = policy.current(store), table.acts(store, version_id)
    _stands(store, version_id, "approve", ("in_review",))
    _not_own(store, actor, version_id, rules)
    check_round_trip(store, actor, version_id)
    checked = gates.check(store, actor, version_id)
    if failed := [g for g in checked if g.result == "fail"]:
        raise Conflict(f"{version_id} does not pass its gates", "; ".join(f"{g.title}: {g.found}" for g in failed),
                       "Mend it in a new version, or have a data lead waive the gate with a reason" if failed[0].waivable else "Freeze it anew")
    made = event(version_id, "approve", "in_review", seen[0]["manifest_sha256"], actor, text_of(reason, "A reason", "") if reason.strip() else None, {
        "subject": subject(seen), "policy": rules.model_dump(), "gates": {g.gate_id: g.result for g in checked}})

    def decide(acts: Acts) -> dict[str, Any]:
        _expect(version_id, "approve", state_of(acts), ("in_review",))
        if subject(acts) != subject(seen):
            raise Conflict(f"{version_id} has just changed", "Somebody edited its datasheet or waived a gate", "Read it again")
        given, _ = policy.approvals(acts)
        if actor.person_id in {a["person_id"] for a in given}:
            raise Conflict("You have approved it already", f"{version_id} still needs {policy.missing(rules, given)}",
                           "Somebody else must approve it too")
        return made | {"state": "in_review" if policy.missing(rules, [*given, made]) else "approved"}

    table.append(store, version_id, decide)
    mend(store)
    return str(table.one(store, version_id)["state"])


def reject(store: Store, actor: Person, version_id: str, reason: str) -> None:
    """Asks for changes: the version is a draft again. Raises: BadInput (no reason), NotAllowed (role, or the actor made it), NotFound, Conflict."""
    actor.require(Permission.APPROVE)
    why = text_of(reason, "A reason", "A request for changes without a reason helps nobody")
    _not_own(store, actor, version_id, policy.current(store))
    _move(store, actor, version_id, "request_changes", "draft", why)


def release(store: Store, actor: Person, version_id: str, reason: str) -> None:
    """Makes an approved version the one to use. Raises: BadInput (no reason), NotAllowed, NotFound, Conflict (not approved, it differs)."""
    actor.require(Permission.RELEASE)
    why = text_of(reason, "A reason", "Who uses the version wants to know what it is for")
    _stands(store, version_id, "release", _FROM["release"])
    if problems := record.verify(store, version_id):
        raise Conflict(f"{version_id} does not verify", problems[0], "Restore it from a backup")
    _move(store, actor, version_id, "release", "released", why)


def deprecate(store: Store, actor: Person, version_id: str, reason: str) -> None:
    """Says that a released version should not be used for new work. Raises: BadInput (no reason), NotAllowed, NotFound, Conflict (not released)."""
    actor.require(Permission.RELEASE)
    _move(store, actor, version_id, "deprecate", "deprecated", text_of(reason, "A reason", "Who used the version wants to know why"))


def revoke(store: Store, actor: Person, version_id: str, reason: str) -> None:
    """Takes approval back for good. Raises: BadInput (no reason), NotAllowed, NotFound, Conflict (never approved)."""
    actor.require(Permission.RELEASE)
    _move(store, actor, version_id, "revoke", "revoked", text_of(reason, "A reason", "Who used the version wants to know why"))


def waive(store: Store, actor: Person, version_id: str, gate_id: str, reason: str) -> None:
    """Lets a version pass a gate in spite of what it found. The waiver holds for what was found now, not for anything worse.

    Raises:
        BadInput: no reason. NotAllowed: the role, or the actor made the version and the policy does not let creators sign. NotFound.
        Conflict: the gate passes, cannot be waived, or the version is approved already.
    """
    actor.require(Permission.WAIVE)
    why = text_of(reason, "A reason", "A waiver without a reason helps nobody")
    _not_own(store, actor, version_id, policy.current(store))
    if gate_id == "round_trip":
        check_round_trip(store, actor, version_id)
    found = gates.find(gates.check(store, actor, version_id), gate_id)
    if found.result != "fail" or not found.waivable:
        raise Conflict(f"{found.title} cannot be waived", f"It is {found.result}" if found.result != "fail" else found.found,
                       "Freeze the version anew" if found.result == "fail" else "")
    _write(store, actor, version_id, "waive", why, {"gate": gate_id, "found": found.found})


def answer(store: Store, actor: Person, version_id: str, field: str, text: str) -> None:
    """Writes what only a person knows into the datasheet; approvals that were given to what stood there before become stale.

    Raises:
        BadInput: no text, or no such field. NotAllowed. NotFound. Conflict: the version is approved already.
    """
    actor.require(Permission.APPROVE)
    datasheet.question(field)
    _write(store, actor, version_id, "datasheet", None, {"field": field, "text": text_of(text, "An answer", "The field is empty")})


def _write(store: Store, actor: Person, version_id: str, act: str, reason: str | None, detail: dict[str, Any]) -> None:
    sha = table.one(store, version_id)["manifest_sha256"]

    def make(acts: Acts) -> dict[str, Any]:
        _expect(version_id, "change", state_of(acts), OPEN)
        return event(version_id, act, None, sha, actor, reason, detail)

    table.append(store, version_id, make)
    mend(store)


def _not_own(store: Store, actor: Person, version_id: str, rules: policy.Policy) -> None:
    if not rules.creator and table.one(store, version_id)["person_id"] == actor.person_id:
        raise NotAllowed("You made this version", f"{version_id} was frozen by {actor.name}",
                         "Somebody else must decide on it, or a data lead sets the policy for a team of one")


def _move(store: Store, actor: Person, version_id: str, act: str, new: str, reason: str | None) -> None:
    sha = table.one(store, version_id)["manifest_sha256"]

    def make(acts: Acts) -> dict[str, Any]:
        _expect(version_id, act, state_of(acts), _FROM[act])
        return event(version_id, act, new, sha, actor, reason)

    table.append(store, version_id, make)
    mend(store)


def _stands(store: Store, version_id: str, act: str, states: tuple[str, ...]) -> None:
    _expect(version_id, act, str(table.one(store, version_id)["state"]), states)


def _expect(version_id: str, act: str, state: str, states: tuple[str, ...]) -> None:
    if state not in states:
        raise Conflict(f"Cannot {act.replace('_', ' ')} {version_id}", f"It is {_words(state)}, not {' or '.join(map(_words, states))}")


def _words(state: str) -> str:
    return state.replace("_", " ")
