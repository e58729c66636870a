"""A grid of runs as one table: what was varied, what each run reached, and what is left after averaging over seeds."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from fercore.domain import Workspace
from fercore.errors import FerError, NotFound
from fercore.evaluation.compare import LEVEL, common, holm, mid_p
from fercore.evaluation.estimate import Estimate, codes, design_effect, wilson
from fercore.evaluation.metrics import accuracy, macro
from fercore.evaluation.read import classes_of, marks, predictions, require_clean
from fercore.models import spec_of
from fercore.training.config import SETTINGS
from fercore.training.rundir import Run, list_runs, read_metrics


@dataclass(frozen=True)
class Study:
    """The runs of a study.

    Attributes:
        varied: names of the settings that differ between its runs, "version" among them, and of what the varied networks are made of (channels,
            blocks, kernel).
        rows: one row a run: run, state, `varied`, marks (what must stand beside its figures), val_accuracy (of the kept epoch; the mean over folds),
            and for finished runs accuracy, macro_f1 (Estimate or None), effective (faces / design effect) and read ("test" or "out of fold").
        cells: one row a combination of `varied` without the seed: n (finished runs that can be read), val_mean, val_sd, mean, sd (over seeds; NA for
            one), accuracy (the mean with the interval of `mean_of`, or None).
    """

    name: str
    varied: list[str]
    rows: pd.DataFrame
    cells: pd.DataFrame

    def caution(self) -> str:
        """What must be said beside the accuracies where runs are judged by other faces, else empty."""
        of = [c for c in _FACES if c in self.varied]
        return f"Runs of another {' or '.join(of)} are judged by other faces: only paired tests compare them, on the faces they share." if of else ""


_FACES = ("version", "protocol")  # what decides by which faces a run is judged
_ABOUT = ["image_id", "source_id", "predicted", "confidence", "split", "fold", "age_band", "gender", "flags", "mean"]  # not needed for paired tests


def studies(workspace: Workspace) -> list[str]:
    """Names of all studies, the newest first."""
    return list(dict.fromkeys(r.config.study for r in list_runs(workspace.runs) if r.config and r.config.study))


def study(workspace: Workspace, name: str) -> Study:
    """Raises: NotFound: no run belongs to a study of this name."""
    runs = [r for r in list_runs(workspace.runs) if r.config and r.config.study == name][::-1]
    if not runs:
        raise NotFound("No such study", repr(name), f"Choose one of {', '.join(studies(workspace)) or 'none yet'}")
    settings = pd.DataFrame([_settings(run) for run in runs])
    varied = [str(c) for c in settings if settings[c].map(str).nunique() > 1]
    rows = pd.concat([settings[varied], pd.DataFrame([_reached(workspace, run) for run in runs])], axis=1)
    by = [c for c in varied if c != "seed"]
    done = rows[rows["state"] == "finished"].assign(value=lambda d: d["accuracy"].map(lambda e: e.value if e else np.nan).astype(float))
    groups = done.groupby(by, sort=False, dropna=False) if by else done.groupby(lambda _: "all runs")
    cells = groups.agg(n=("value", "count"), val_mean=("val_accuracy", "mean"), val_sd=("val_accuracy", "std"), mean=("value", "mean"),
                       sd=("value", "std"))
    cells["accuracy"] = pd.Series([mean_of(part) for _, part in groups], index=cells.index, dtype=object)
    cells = cells.reset_index(drop=not by)
    return Study(name, varied, rows, cells)


def _settings(run: Run) -> dict[str, Any]:
    assert run.config is not None
    spec = spec_of(run.config.model)
    own = {k: getattr(run.config, k) for k in SETTINGS if k != "option"} | {f"option.{k}": v for k, v in run.config.option.items()}
    return {"version": run.config.version_id, **own, **{k: v for k, v in spec.settings.items() if isinstance(v, int | float | str)}}


def _reached(workspace: Workspace, run: Run) -> dict[str, Any]:
    """What a run has to show; a finished run whose files cannot be read shows why."""
    epochs = pd.DataFrame(read_metrics(run.path))
    kept = epochs[epochs["best"]].groupby("fold")["val_accuracy"].last() if len(epochs) else pd.Series(dtype=float)
    out: dict[str, Any] = {"run": run.run_id, "state": run.status.state, "val_accuracy": float(kept.mean()) if len(kept) else np.nan,
                           "accuracy": None, "macro_f1": None, "effective": np.nan, "read": "",
                           "marks": ", ".join(marks(workspace, run.run_id)), "note": run.status.error.title if run.status.error else ""}
    if run.status.state == "finished":
        try:
            out |= _figures(workspace, run.run_id, (run.path / "predictions.parquet").stat().st_mtime_ns)
        except (FerError, OSError) as error:
            return out | {"note": str(error)}
        out["read"] = "out of fold" if run.config and run.config.folds else "test"
    return out


@lru_cache(maxsize=500)  # a study is looked at again with every epoch of the runs that are not done
def _figures(workspace: Workspace, run_id: str, written: int) -> dict[str, Any]:
    """Raises: as `predictions`."""
    frame = predictions(workspace, run_id)
    hits, group = frame["correct"].to_numpy(dtype=bool), codes(frame["duplicate_group"])
    return {"accuracy": accuracy(frame), "macro_f1": macro(frame, classes_of(frame), draws=200)["macro_f1"],
            "effective": len(frame) / design_effect(hits, group) if len(frame) else np.nan}


def mean_of(runs: pd.DataFrame) -> Estimate | None:
    """Mean accuracy of these rows of a study, None where none has one. The interval is Wilson's on the faces of one run, over their design effect:
    runs share their test faces, so more runs make it no narrower."""
    told = [e for e in runs["accuracy"] if e and e.value is not None]
    if not told:
        return None
    mean = float(np.mean([e.value for e in told]))
    return Estimate(mean, *wilson(mean, float(runs["effective"].min())), min(e.n for e in told))


@dataclass(frozen=True)
class Noise:
    """Which differences within a study are more than chance, over the n faces that all its finished runs predict.

    Attributes:
        runs: how many finished runs were compared. pairs: how many pairs of them differ in more than the seed.
        different: pairs that differ at 5 % after Holm over all `pairs`: (run, run, difference of accuracy, adjusted p), the surest first.
        least_p: the smallest adjusted p; None without pairs.
        binomial_sd: sqrt(p (1 - p) / n) of the mean accuracy, n over the design effect: what drawing other faces would do.
        seed_sd: standard deviation over runs that differ in the seed only, pooled over their cells, with `seed_df` degrees of freedom; None without.
        note: why nothing can be compared, else empty.
    """

    n: int
    runs: int
    pairs: int
    different: list[tuple[str, str, float, float]]
    least_p: float | None
    binomial_sd: float | None
    seed_sd: float | None
    seed_df: int
    note: str = ""

    def sentence(self) -> str:
        """What a reader may conclude."""
        if self.note:
            return self.note
        if not self.pairs:
            return f"These {self.runs} runs differ in the seed only."
        if not self.different:
            return (f"No pair of these {self.runs} runs differs at 5 % after Holm over {self.pairs:,} pairs (McNemar on {self.n:,} common faces, "
                    f"smallest p {self.least_p:.2f}): their differences are within noise.")
        rest = "" if len(self.different) == self.pairs else "; the others are within noise"
        return (f"{len(self.different):,} of {self.pairs:,} pair{'s' * (self.pairs != 1)} differ{'s' * (len(self.different) == 1)} at 5 % after Holm "
                f"(McNemar on {self.n:,} common faces){rest}.")


def noise(workspace: Workspace, found: Study) -> Noise:
    """Paired tests between all finished runs of a study; the pairs that only differ in the seed say how much chance does."""
    by = [c for c in found.varied if c != "seed"]
    done = found.rows[found.rows["accuracy"].notna()]
    cells = found.cells[found.cells["n"] > 1]
    df = int((cells["n"] - 1).sum())
    seed_sd = float(np.sqrt((cells["sd"] ** 2 * (cells["n"] - 1)).sum() / df)) if df else None
    if len(done) < 2:
        return Noise(0, len(done), 0, [], None, None, seed_sd, df, "Two finished runs are needed to compare any.")
    try:
        require_clean(workspace, done["run"])
        frames = common({str(run): predictions(workspace, str(run)).drop(columns=_ABOUT) for run in done["run"]})
    except FerError as error:
        return Noise(0, len(done), 0, [], None, None, seed_sd, df, f"These runs cannot be compared: {error}")
    runs, hits = list(frames), np.stack([frame["correct"].to_numpy(dtype=bool) for frame in frames.values()])
    group = codes(next(iter(frames.values()))["duplicate_group"])
    right = np.stack([np.bincount(group, weights=h) for h in hits]).astype(np.int32)  # [runs, groups]: all pairs of many runs in a moment
    made = [tuple(str(row[c]) for c in by) for row in done.to_dict("records")]
    pairs = [(a, b) for a, b in combinations(range(len(runs)), 2) if made[a] != made[b]]
    better, worse = np.array([((right[b] > right[a]).sum(), (right[b] < right[a]).sum()) for a, b in pairs], dtype=np.int64).reshape(-1, 2).T
    adjusted, means = holm(mid_p(better, worse).tolist()), hits.mean(axis=1)
    different = [(runs[a], runs[b], float(means[b] - means[a]), p) for (a, b), p in zip(pairs, adjusted, strict=True) if p < LEVEL]
    p, effect = float(means.mean()), float(np.mean([design_effect(h, group) for h in hits]))
    return Noise(len(group), len(runs), len(pairs), sorted(different, key=lambda d: d[3]), min(adjusted, default=None),
                 float(np.sqrt(p * (1 - p) * effect / len(group))), seed_sd, df)


def factors(found: Study) -> list[str]:
    """What the pair plots are drawn over: the varied numbers and names of few values, without the seed and the model's name where its parts vary."""
    parts = [c for c in found.varied if c not in ("seed", "model") and found.rows[c].map(str).nunique() <= 12]
    parts.sort(key=lambda c: c in _FACES)  # a line for each version
    return parts or [c for c in found.varied if c == "model"]


@dataclass(frozen=True)
class Plot:
    """Mean accuracy by `across` and, unless None, `lines`; `points`: see `pair`."""

    across: str
    lines: str | None
    points: pd.DataFrame


def plots(found: Study) -> list[Plot]:
    """The pair plots that have a point. Runs that are judged by other faces never share a point."""
    parts, apart = factors(found), {c for c in _FACES if c in found.varied}
    pairs: list[tuple[str, str | None]] = [*combinations(parts, 2)] or [(c, None) for c in parts]
    made = [Plot(across, lines, pair(found, across, lines)) for across, lines in pairs if apart <= {across, lines}]
    return [plot for plot in made if len(plot.points)]


def pair(found: Study, across: str, lines: str | None) -> pd.DataFrame:
    """Mean accuracy of the finished runs by `across` and, unless None, `lines`: columns across, line, mean, low, high, runs, n.
    Runs that lack one of the two settings stand at "none"; the interval is that of `mean_of`."""
    done = found.rows[found.rows["accuracy"].notna()]
    keys = [across, *([lines] if lines else [])]
    out = []
    for key, part in done.groupby(keys, sort=True, dropna=False):
        names = ["none" if k != k else k for k in key]  # what is not a number is not itself
        if mean := mean_of(part):
            out.append({"across": names[0], "line": str(names[1]) if lines else "", "mean": mean.value, "low": mean.low, "high": mean.high,
                        "runs": len(part), "n": mean.n})
    return pd.DataFrame(out, columns=["across", "line", "mean", "low", "high", "runs", "n"])
