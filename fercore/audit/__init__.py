"""Findings: what is noticed about samples. Nothing here changes a sample; what follows from a finding is a person's act (see `actions`)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from fercore.audit.checks import CHECKS, FROM_VOTES, KINDS, METHOD, Check, fences, measure
from fercore.domain import Permission, Person
from fercore.errors import BadInput, NotFound
from fercore.store import Store, findings, samples

__all__ = ["CHECKS", "FROM_VOTES", "KINDS", "Check", "Progress", "State", "bound_of", "faces_of", "five_numbers", "groups_of", "kinds_for",
           "measured", "run", "set_bound", "stale", "state"]

BLOCK = 8192  # images measured at a time
Progress = Callable[[str, float], None]  # what is being done, and the share of all that is done


def run(store: Store, actor: Person, *, deep: bool = False, progress: Progress = lambda what, share: None) -> pd.DataFrame:
    """Audits what is new, settles the findings anew, and returns the summary (kind, n_samples, n_groups, recorded_at).

    Args:
        deep: also what needs all pairs of faces or a trained model; half a minute for 32,000 faces. Without it those findings stay as they are.

    Raises:
        NotAllowed: the actor may not audit.
    """
    actor.require(Permission.IMPORT)
    _measure(store, progress)
    if deep:
        _compare(store, progress)
        _look_for_non_faces(store, progress)
    progress("Settling the findings", 0.98)
    kinds = [k for k, c in CHECKS.items() if deep or not c.deep]
    findings.settle(store, kinds, pd.concat([f for f in (_found(store, k) for k in kinds) if len(f)] or [pd.DataFrame()], ignore_index=True))
    progress("Done", 1.0)
    return findings.summary(store)


def bound_of(store: Store, kind: str) -> float | None:
    """The bound of a kind: the one that somebody set, else the default."""
    return findings.bounds(store).get(kind, _check(kind).bound)


def set_bound(store: Store, actor: Person, kind: str, bound: float) -> None:
    """Sets the bound of a kind for everybody and settles its findings by it.

    Raises:
        NotAllowed, NotFound. BadInput: the kind has no bound, or it is outside the slider.
    """
    actor.require(Permission.IMPORT)
    check = _check(kind)
    if check.bound is None or not check.slider[0] <= bound <= check.slider[1]:
        raise BadInput("Not a bound", f"{bound:g} for {check.name}", f"Choose {check.slider[0]:g} to {check.slider[1]:g}"
                       if check.bound is not None else "This kind of finding has none")
    findings.set_bound(store, actor, kind, bound)
    kinds = [kind, "near_cross_split"] if kind == "near_duplicate" else [kind]
    findings.settle(store, kinds, pd.concat([_found(store, k) for k in kinds], ignore_index=True))


def stale(store: Store) -> int:
    """Images that no deep audit has compared yet."""
    from fercore.audit import near  # SciPy and OpenCV take a while to import

    return len(findings.uncompared(store, near.METHOD))


def five_numbers(store: Store) -> dict[str, float] | None:
    """Least, q1, median, q3, greatest mean pixel value of the distinct images, and Tukey's fences; None without images."""
    means = findings.values(store, "mean")["value"].to_numpy(float)
    return fences(means) if len(means) else None


@dataclass(frozen=True)
class State:
    """How an audit stands: per kind (samples, groups), findings about the whole set, bounds, images not compared yet, and the spread of the means."""

    counts: dict[str, tuple[int, int]]
    of_set: pd.DataFrame
    bounds: dict[str, float]
    stale: int
    numbers: dict[str, float] | None


def state(store: Store) -> State:
    found, set_by_people = findings.summary(store), findings.bounds(store)
    counts = zip(found["n_samples"].tolist(), found["n_groups"].tolist(), strict=True)
    return State(dict(zip(found["kind"], counts, strict=True)), findings.of_set(store),
                 {k: set_by_people.get(k, c.bound) for k, c in CHECKS.items() if c.bound is not None}, stale(store), five_numbers(store))


def kinds_for(actor: Person) -> list[str]:
    """The kinds a person may see: who has yet to answer sees none that tell what others answered (honesty rule 5)."""
    actor.require(Permission.LOOK)
    return [k for k, c in CHECKS.items() if actor.may(Permission.READ_RESULTS) or not c.from_votes]


def faces_of(store: Store, actor: Person, kind: str, *, limit: int, offset: int = 0, group: str | None = None) -> pd.DataFrame:
    """Findings of a kind, or of one group, with sample_id, image_id, group_id, score and evidence; groups together, the most marked first.

    Raises:
        NotAllowed: the kind tells what others answered. NotFound.
    """
    _open_to(actor, kind)
    return findings.of_kind(store, kind, limit=limit, offset=offset, group=group)


def groups_of(store: Store, actor: Person, kind: str) -> pd.DataFrame:
    """group_id, n (rows) and score of the groups of a kind, the largest first. Raises: NotAllowed, NotFound."""
    _open_to(actor, kind)
    return findings.group_ids(store, kind)


def measured(store: Store, actor: Person, kind: str) -> pd.DataFrame:
    """image_id and value of what the bound of a kind is on, the least first. Raises: NotAllowed, NotFound."""
    _open_to(actor, kind)
    name = _check(kind).measure
    return findings.values(store, name) if name else pd.DataFrame({"image_id": [], "value": []})


def _open_to(actor: Person, kind: str) -> None:
    actor.require(Permission.LOOK)
    if _check(kind).from_votes:
        actor.require(Permission.READ_RESULTS)


def _check(kind: str) -> Check:
    if kind not in CHECKS:
        raise NotFound("Unknown kind of finding", repr(kind), f"Choose from {', '.join(CHECKS)}")
    return CHECKS[kind]


def _measure(store: Store, progress: Progress) -> None:
    names = list(measure(np.zeros((0, 48, 48), np.uint8)))
    ids = findings.unmeasured(store, names, METHOD)
    for start in range(0, len(ids), BLOCK):
        progress("Measuring the pixels", 0.1 * start / len(ids))
        part = ids[start:start + BLOCK]
        findings.save_measures(store, part, measure(samples.pixels(store, part)), METHOD)


def _compare(store: Store, progress: Progress) -> None:
    from fercore.audit import near

    new = set(findings.uncompared(store, near.METHOD))
    if not new:
        return
    ids = samples.image_ids(store)
    found = near.pairs(samples.pixels(store, ids), np.array([i in new for i in ids]),
                       lambda share: progress("Comparing faces with each other", 0.1 + 0.6 * share))
    names = np.array(ids, object)
    findings.save_pairs(store, pa.table({"image_a": names[found.first], "image_b": names[found.second],
                                         "similarity": found.similarity.astype(float), "mirrored": found.mirrored}), sorted(new), near.METHOD)


def _look_for_non_faces(store: Store, progress: Progress) -> None:
    from fercore.audit import near, non_face

    votes = findings.non_face_votes(store)
    shares = votes["share"].to_numpy(float)
    stands = f"{non_face.METHOD} {len(votes)} {np.isfinite(shares).sum()} {np.nansum(shares):.3f}"
    if not len(votes) or findings.measured_by(store, "non_face") == (stands, len(votes)):
        return
    progress("Looking for what is no face", 0.72)
    ids = votes["image_id"].tolist()
    place = {image: i for i, image in enumerate(ids)}
    pairs = findings.near_pairs(store, near.FLOOR)
    groups = near.groups([place[i] for i in pairs["image_a"]], [place[i] for i in pairs["image_b"]], len(ids))
    found = non_face.scores(samples.pixels(store, ids), shares, groups)
    findings.save_measures(store, ids, {"non_face": found.share}, stands)


def _found(store: Store, kind: str) -> pd.DataFrame:
    """The findings of one kind as the facts are now."""
    check, bound = CHECKS[kind], bound_of(store, kind)
    if kind in ("exact_duplicate", "conflicting_duplicate", "cross_split_duplicate"):
        found = findings.duplicates(store)
        return found[found["kind"] == kind]
    if kind in ("near_duplicate", "near_cross_split"):
        return _near(store, kind)
    if kind == "mean_outlier":
        numbers = five_numbers(store)
        return findings.beyond(store, kind, "mean", lower=numbers["lower"], upper=numbers["upper"]) if numbers else pd.DataFrame()
    if kind == "disputed":
        assert bound is not None
        return findings.divided(store, bound)
    if check.measure is not None:
        return findings.beyond(store, kind, check.measure, **{"lower" if check.below else "upper": bound})
    return {"votes_against_label": findings.against_label, "class_imbalance": findings.imbalance, "undecodable": findings.undecodable}[kind](store)


def _near(store: Store, kind: str) -> pd.DataFrame:
    from fercore.audit import near

    bound = bound_of(store, "near_duplicate")
    assert bound is not None
    pairs = findings.near_pairs(store, bound)
    ids = sorted({*pairs["image_a"], *pairs["image_b"]})
    place = {image: i for i, image in enumerate(ids)}
    first, second = ([place[i] for i in pairs[side]] for side in ("image_a", "image_b"))
    group = near.groups(first, second, len(ids))
    best = np.zeros(len(ids))
    for side in (first, second):
        np.maximum.at(best, side, pairs["similarity"].to_numpy(float))
    leader = {g: i for i, g in reversed(list(zip(ids, group.tolist(), strict=True)))}
    return findings.of_groups(store, kind, ids, [leader[g] for g in group.tolist()], best.tolist(), across=kind == "near_cross_split")
