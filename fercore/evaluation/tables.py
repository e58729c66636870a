"""Tables in the form of the reproduced systems."""

from collections.abc import Sequence

import pandas as pd

from fercore.evaluation.estimate import Estimate, codes, design_effect, wilson
from fercore.evaluation.metrics import accuracy, confusion, scores
from fercore.evaluation.published import TABLES, published
from fercore.evaluation.read import require_unseen

FIGURES = ["macro_precision", "macro_recall", "macro_f1", "micro_precision", "micro_recall", "micro_f1", "accuracy"]
AVERAGE, DEVIATION = "Average", "Standard deviation"


def kfold_table(frame: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """A row per fold (numbered from 1), then the average and the standard deviation over folds (n - 1; NA for one fold).

    Columns: fold (str), n, macro and micro precision, recall and F1, accuracy, accuracy_low, accuracy_high; shares 0-1.
    The average's interval is for these trained models on new faces: a Wilson interval on all effective rows around the mean of
    the folds. Folds share training faces, so standard deviation / sqrt(folds) is no standard error (Bengio & Grandvalet 2004).

    Raises:
        FerError: rows the predicting model was trained on.
    """
    require_unseen(frame)
    rows = []
    for fold, part in frame.groupby("fold", sort=True):
        score = {name: float(x) for name, x in scores(confusion(part, classes).to_numpy()).items()}
        share = accuracy(part)
        micro = dict.fromkeys(("micro_precision", "micro_recall", "micro_f1"), score["accuracy"])
        limits = {"accuracy_low": share.low, "accuracy_high": share.high}
        rows.append({"fold": str(int(str(fold)) + 1), "n": len(part), **score, **micro, **limits})
    table = with_average(pd.DataFrame(rows, columns=["fold", "n", *FIGURES, "accuracy_low", "accuracy_high"]))
    if rows:
        size = len(frame) / design_effect(frame["correct"].to_numpy(dtype=bool), codes(frame["duplicate_group"]))
        low, high = wilson(float(table["accuracy"].iloc[len(rows)]), size)
        table.loc[len(rows), ["n", "accuracy_low", "accuracy_high"]] = len(frame), low, high
    return table


def beside_published(ours: pd.DataFrame | None = None) -> pd.DataFrame:
    """K-fold tables side by side: `ours`, as `kfold_table` gives it, and the published ones, each as the mean of its printed folds.

    Columns: table, folds, accuracy, sd (of accuracy over folds), macro_precision, macro_recall, macro_f1 (shares 0-1), differs (in protocol).
    """
    rows = []
    if ours is not None:
        means, deviation = (ours.set_index("fold").loc[name] for name in (AVERAGE, DEVIATION))
        rows.append({"table": "this run", "folds": len(ours) - 2, "accuracy": means["accuracy"], "sd": deviation["accuracy"],
                     **means[FIGURES[:3]], "differs": ""})
    for name in ("s0_kfold_before", "s0_kfold_after", "s1_kfold_macro"):
        table = published(name).iloc[:-1].rename(columns=lambda c: c if c in ("fold", "accuracy") or "_" in c else f"macro_{c}")
        share = table[["accuracy", *FIGURES[:3]]] / (1 if TABLES[name].share else 100)
        rows.append({"table": TABLES[name].title, "folds": len(table), **share.mean(), "sd": share["accuracy"].std(),
                     "differs": TABLES[name].differs})
    return pd.DataFrame(rows)[["table", "folds", "accuracy", "sd", *FIGURES[:3], "differs"]]


def with_average(folds: pd.DataFrame) -> pd.DataFrame:
    """`folds` (fold and figures) with the unweighted average and the standard deviation appended; missing cells are NA."""
    figures = folds[FIGURES].astype("Float64")
    extra = pd.DataFrame([figures.mean(), figures.std(ddof=1)]).assign(fold=[AVERAGE, DEVIATION])
    table = pd.concat([folds.astype(dict.fromkeys(FIGURES, "Float64")), extra[: 2 * len(folds)]], ignore_index=True)
    return table.astype({c: "string" if c == "fold" else "Int64" if c == "n" else "Float64" for c in table.columns})


def pooled_accuracy(frame: pd.DataFrame) -> Estimate:
    """Accuracy over all out-of-fold rows together.

    Raises:
        FerError: rows the predicting model was trained on.
    """
    require_unseen(frame)
    return accuracy(frame)
