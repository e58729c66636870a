"""Findings: what is noticed about samples. Nothing here changes a sample; what follows from a finding is a person's act (see `actions`)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from fercore.audit.checks import CHECKS, FROM_VOTES, KINDS, MEASURE_BLOCK, METHOD, RANK_BOUND, RANKED, Check, fences, measure
from fercore.domain import Permission, Person
from fercore.errors import BadInput, NotFound
from fercore.store import Store, findings, samples

__all__ = ["CHECKS", "FROM_VOTES", "KINDS", "Check", "Progress", "State", "bound_of", "calibration", "faces_of", "five_numbers", "groups_of",
           "kinds_for", "learned", "measured", "run", "set_bound", "stale", "state"]

_LEARNED = "learned"  # ends the method of a score that is no mere rank
Progress = Callable[[str, float], None]  # what is being done, and the share of all that is done


def run(store: Store, actor: Person, *, deep: bool = False, progress: Progress = lambda what, share: None) -> pd.DataFrame:
    """Audits what is new, settles the findings anew, and returns the summary (kind, n_samples, n_groups, recorded_at).

    Args:
        deep: also what needs all pairs of faces or a trained model; a minute for 32,000 faces. Without it those findings stay as they are.

    Raises:
        NotAllowed: the actor may not audit.
    """
    actor.require(Permission.IMPORT)
    _measure(store, progress)
    if deep:
        _compare(store, progress)
        _score(store, progress)
    progress("Settling the findings", 0.98)
    kinds = [k for k, c in CHECKS.items() if (deep or not c.deep) and not c.elsewhere]
    findings.settle(store, kinds, pd.concat([f for f in (_found(store, k) for k in kinds) if len(f)] or [pd.DataFrame()], ignore_index=True))
    progress("Done", 1.0)
    return findings.summary(store)


def bound_of(store: Store, kind: str) -> float | None:
    """The bound of a kind: the one that somebody set, else the default."""
    _check(kind)
    return _bounds(store).get(kind)


def learned(store: Store, kind: str) -> bool:
    """Whether the score of non-faces, artificial pictures or extreme poses is a probability learned from answers, and no mere rank."""
    return (findings.measured_by(store, kind)[0] or "").endswith(_LEARNED)


def calibration(store: Store, actor: Person, kind: str) -> pd.DataFrame:
    """What each bound of the slider would do: bound, recall, precision, flagged (share of the images), each 0-1, the least bound first.

    Near duplicates: recall and precision on edited copies of 300 faces of this workspace; a pair of two photographs of the workspace itself counts as
    wrong. Scores learned from answers: against these answers, each picture scored by a model that had not seen it. Else, and where nothing is
    found, recall and precision are NaN. Without rows for a kind without a bound.

    Raises:
        NotAllowed: the kind tells what others answered. NotFound.
    """
    _open_to(actor, kind)
    check = _check(kind)
    low, high, step = check.slider
    bounds = np.round(np.arange(low, high + step / 2, step), 4) if check.bound is not None else np.zeros(0)
    recall = precision = np.full(len(bounds), np.nan)
    ids, measures = samples.image_ids(store), measured(store, actor, kind)
    if kind == "near_duplicate" and ids:
        from fercore.audit import near

        some = np.random.default_rng(0).permutation(len(ids))[:300]
        recall, precision = near.calibration(samples.pixels(store, [ids[i] for i in some]), bounds)
    elif kind in RANKED and learned(store, kind):
        known = measures.merge(findings.answers(store, kind).dropna())
        yes, found = known["share"].to_numpy() >= 0.5, known["value"].to_numpy()[:, None] > bounds
        hits = (found & yes[:, None]).sum(axis=0)
        recall, precision = hits / yes.sum(), hits / np.where(found.any(axis=0), found.sum(axis=0), np.nan)
    values = measures["value"].to_numpy(float)
    below = np.searchsorted(values, bounds, side="left" if check.below or kind == "near_duplicate" else "right")
    return pd.DataFrame({"bound": bounds, "recall": recall, "precision": precision,
                         "flagged": (below if check.below else len(values) - below) / max(len(ids), 1)})


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
    found = findings.summary(store)
    counts = zip(found["n_samples"].tolist(), found["n_groups"].tolist(), strict=True)
    return State(dict(zip(found["kind"], counts, strict=True)), findings.of_set(store), _bounds(store), stale(store), five_numbers(store))


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


def _bounds(store: Store) -> dict[str, float]:
    """The bound of every kind that has one."""
    default = {k: RANK_BOUND if k in RANKED and not learned(store, k) else c.bound for k, c in CHECKS.items() if c.bound is not None}
    return default | findings.bounds(store)


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
    for start in range(0, len(ids), MEASURE_BLOCK):
        progress("Measuring the pixels", 0.1 * start / len(ids))
        part = ids[start:start + MEASURE_BLOCK]
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


def _score(store: Store, progress: Progress) -> None:
    from fercore.audit import near, ranks

    asked = {kind: findings.answers(store, kind) for kind in RANKED}
    stands = {kind: f"{ranks.METHOD} {len(a)} {a['share'].count()} {a['share'].sum():.3f}" for kind, a in asked.items()}
    due = [kind for kind, a in asked.items() if len(a) and not (findings.measured_by(store, kind)[0] or "").startswith(stands[kind])]
    if not due:
        return
    ids = asked[due[0]]["image_id"].tolist()
    pixels = samples.pixels(store, ids)
    groups, features = _near_groups(store, near.FLOOR, ids), cache(lambda: ranks.features(pixels))
    for done, kind in enumerate(due):
        progress(f"Ranking candidates: {KINDS[kind].lower()}", 0.7 + 0.28 * done / len(due))
        found = ranks.scores(kind, pixels, asked[kind]["share"].to_numpy(float), groups, features)
        findings.save_measures(store, ids, {kind: found.score}, f"{stands[kind]} {_LEARNED if found.learned else 'rank'}")


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
    bound = bound_of(store, "near_duplicate")
    assert bound is not None
    pairs = findings.near_pairs(store, bound)
    ids = sorted({*pairs["image_a"], *pairs["image_b"]})
    group = pd.Series(_near_groups(store, bound, ids), ids)
    best = pd.concat([pairs.set_index(side)["similarity"] for side in ("image_a", "image_b")]).groupby(level=0).max()
    leader = pd.Series(ids, ids).groupby(group).transform("first")
    return findings.of_groups(store, kind, ids, leader.tolist(), best.reindex(ids).tolist(), across=kind == "near_cross_split")


def _near_groups(store: Store, above: float, ids: list[str]) -> npt.NDArray[np.int64]:
    """int [n]: which group of near duplicates each of these images is in; alone where it has none."""
    from fercore.audit import near

    pairs, place = findings.near_pairs(store, above), {image: i for i, image in enumerate(ids)}
    return near.groups([place[i] for i in pairs["image_a"]], [place[i] for i in pairs["image_b"]], len(ids))
