"""Suspect labels against FER+ votes that took no part in the ranking, beside cleanlab's rankings from the same probabilities, and random.

    python tests/bench/bench_suspects.py RUN --workspace W [--top 500]

RUN is a k-fold run on a version of FER-2013 with its given labels, in a workspace that holds the FER+ votes. A label is contradicted where more than
half of a row's votes (of ten, over all ten answers) agree on another answer than the label; contempt, unknown and non-face are such answers. A row
without such a majority, ties among them, contradicts nothing. `of_majorities` leaves these rows out; `plurality` counts a row whose label is not
among its commonest answers. Beside all rows stand two halves, by duplicate group: the method was chosen on half A, so
that half B is the one to quote. `expected` is what the ranking itself expects. JSON on stdout.
"""

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fercore import evaluation
from fercore.domain import Workspace
from fercore.evaluation import suspects
from fercore.evaluation.estimate import wilson
from fercore.store import Store


def yardstick(workspace: Workspace, frame: pd.DataFrame) -> pd.DataFrame:
    """majority, contradicted and plurality of each row of the frame."""
    with Store(workspace) as store:
        votes = store.frame("SELECT sample_id, value, sum(votes) AS n FROM facts.imported_vote WHERE field = 'expression' GROUP BY ALL")
    counts = votes.pivot(index="sample_id", columns="value", values="n").fillna(0).reindex(frame["sample_id"]).fillna(0)
    n, top = counts.to_numpy(), counts.to_numpy().max(axis=1)
    answer = counts.columns.to_numpy()[n.argmax(axis=1)]
    majority = (top > n.sum(axis=1) / 2) & (top > 0)
    own = n[np.arange(len(n)), pd.Index(counts.columns).get_indexer(frame["label"])]
    return pd.DataFrame({"majority": majority, "contradicted": majority & (answer != frame["label"].to_numpy()), "plurality": own < top})


def cleanlab_orders(frame: pd.DataFrame, p: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Positions of rows, the most suspect first."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    orders = {f"cleanlab {m}": np.argsort(get_label_quality_scores(y, p, method=m), kind="stable") for m in ("normalized_margin", "self_confidence")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for by in ("normalized_margin", "self_confidence"):
            orders[f"cleanlab confident learning, by {by}"] = find_label_issues(y, p, filter_by="both", return_indices_ranked_by=by, n_jobs=1)
    return orders


def measured(rows: np.ndarray, yard: pd.DataFrame, half: np.ndarray, top: int) -> dict[str, Any]:
    """Shares among the first `top` rows, and among the first half as many of each half."""
    out: dict[str, Any] = {}
    for name, part in (("all", rows[:top]), ("A", rows[half[rows] == 0][:top // 2]), ("B", rows[half[rows] == 1][:top // 2])):
        found = yard.iloc[part]
        share = float(found["contradicted"].mean())
        out[name] = {"n": len(part), "contradicted": round(share, 3), "interval": [round(v, 3) for v in wilson(share, len(part))],
                     "of_majorities": round(float(found.loc[found["majority"], "contradicted"].mean()), 3),
                     "plurality": round(float(found["plurality"].mean()), 3)}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--top", type=int, default=500)
    asked = parser.parse_args()
    workspace = Workspace(asked.workspace)
    frame = evaluation.predictions(workspace, asked.run)
    yard, classes = yardstick(workspace, frame), evaluation.classes_of(frame)
    p = frame[[f"p_{c}" for c in classes]].to_numpy(np.float64)
    y = pd.Index(classes).get_indexer(frame["label"])
    half = frame["duplicate_group"].map(lambda g: int(g[:8], 16) % 2).to_numpy()
    place = pd.Index(frame["sample_id"])
    start = time.perf_counter()
    ours = suspects.rank(workspace, asked.run)
    orders = {**cleanlab_orders(frame, p / p.sum(axis=1, keepdims=True), y),
              "network alone": place.get_indexer(suspects.ranked(frame)["sample_id"]), "network and pixels": place.get_indexer(ours["sample_id"])}
    rng = np.random.default_rng(0)
    orders["random"] = rng.permutation(len(frame))
    print(json.dumps({"run": asked.run, "rows": len(frame), "accuracy": round(float(frame["correct"].mean()), 4),
                      "base_rate": {c: round(float(yard[c].mean()), 4) for c in yard}, "ranking_seconds": round(time.perf_counter() - start, 1),
                      "expected": round(1 - float(ours["p_label"].head(asked.top).mean()), 3),
                      "top": {name: measured(order, yard, half, asked.top) for name, order in orders.items()}}, indent=1))


if __name__ == "__main__":
    main()
