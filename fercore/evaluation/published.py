"""What the reproduced systems printed, to show beside our own figures: as printed, slips included, and what does not fit together in them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import pandas as pd

from fercore.errors import NotFound
from fercore.evaluation.estimate import wilson

_FOLDER = files("fercore.evaluation") / "published"


@dataclass(frozen=True)
class Source:
    """What a published table stands on.

    Attributes:
        title: what it shows. differs: how its protocol differs from ours.
        n: numbers of faces, any of which may stand behind one accuracy; empty where they cannot be known.
        share: the table holds shares 0-1, else percent.
        key: the column that names a row.
    """

    title: str
    differs: str
    n: tuple[int, ...] = ()
    share: bool = False
    key: str = "model"

    @property
    def system(self) -> str:
        return self.title[:2]


_S0 = "four classes, 2,906 faces curated by hand, folds not grouped by duplicates"
_S1 = "four classes from FER+ votes (neutral, angry, focused, bored), the held-out fold also chose the epoch"
_BIAS_S0 = "faces of the raw set that was also trained on; groups of equal size"
_LEAKY = "over-sampling came before the split, so that copies of test faces were trained on: compare leaky runs with it, never clean ones"
TABLES = {
    "s0_kfold_before": Source("S0 engaged4: 10 folds, before mitigation", _S0, (315, 316), key="fold"),
    "s0_kfold_after": Source("S0 engaged4: 10 folds, after mitigation", f"{_S0}; 130 senior faces a class were added", (315, 316), key="fold"),
    "s0_test": Source("S0 engaged4: three networks on the test split", "four classes, 585 test faces of one split", (585,)),
    "s0_bias_before": Source("S0 engaged4: bias before mitigation", _BIAS_S0, key="group"),
    "s0_bias_after": Source("S0 engaged4: bias after mitigation", f"{_BIAS_S0}; retrained with faces of the groups it was judged by", key="group"),
    "s1_kfold_macro": Source("S1 focus4: 10 folds of B16_N8_FC2_K5", f"{_S1}; folds of 1,319 faces, 13,190 in all where the text says 14,831",
                             (1319,), share=True, key="fold"),
    "s1_models_macro": Source("S1 focus4: twelve residual networks", "four classes from FER+ votes; the accuracies are multiples of 1 / 2,225, the "
                              "validation set: scores of the best epoch on the faces that chose it, not a test", (2225,), share=True),
    "s1_bias_before": Source("S1 focus4: bias before mitigation", "about 700 tagged faces a class, of the pool trained on", share=True, key="group"),
    "s1_bias_after": Source("S1 focus4: bias after mitigation", "about 700 tagged faces a class, of the pool trained on", share=True, key="group"),
    "s2_results": Source("S2 data-centric: CNN-LSTM and attention network", f"random split of 10 or 20 %; where sampling is ROS or SMOTE, {_LEAKY}"),
    "s2_related_work": Source("S2: ten published single networks", "most state neither split nor number of test faces; some chose their epoch on the "
                              "faces they report", key="network"),
    "s3_models": Source("S3 many sources: three networks", "other data (RAF-DB, FED 2023, OAHEGA), four classes; fits 500 test faces", (500,)),
    "s3_per_label": Source("S3 many sources: precision and recall by class", "other data, four classes", key="label"),
    "s3_validation": Source("S3 many sources: validation by epoch", "other data, four classes; three epochs"),
    "s4_results": Source("S4 balanced VGG: baseline, balancing, ensemble", "seven classes; where training data is ROS, SMOTE or SMOTE-Tomek, and for "
                         f"the ensemble, {_LEAKY}"),
}
# Faces in the test part, where the published network says how FER-2013 was split: 20 and 25 % of 35,887, and the official test part.
_TEST_FACES = {"10-layer CNN": 7177, "AlexNet": 8972, "VGG (Khaireddin and Chen)": 3589}


def published_names() -> list[str]:
    """The published tables that ship with the product."""
    return sorted(p.name.removesuffix(".csv") for p in _FOLDER.iterdir() if p.name.endswith(".csv"))


def published(name: str) -> pd.DataFrame:
    """The published table `name`, e.g. "s0_bias_before".

    Raises:
        NotFound: no such table.
    """
    return _read(name)


def printed(name: str) -> pd.DataFrame:
    """The same as text, with every digit that was printed. Raises: NotFound."""
    return _read(name, str)


def _read(name: str, dtype: type | None = None) -> pd.DataFrame:
    if name not in published_names():
        raise NotFound("Unknown published table", repr(name), f"Choose one of {', '.join(published_names())}")
    with (_FOLDER / f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, keep_default_na=False, dtype=dtype)


def inconsistencies(name: str) -> list[str]:
    """What in a published table does not fit together, a sentence each; none where all that can be checked fits. Raises: NotFound.

    Checked: averages are the means of their rows; micro precision, recall, F1 and accuracy are one number; macro F1 is not above the harmonic
    mean of macro precision and recall (it cannot be: the F1 of a class is concave in both), nor equal to it in every row; accuracies
    are whole numbers of the faces behind them; top-1 <= top-2 <= top-3; S3's macro figures are the means of its classes. Tolerance
    is one unit of the last digit printed, as some figures are cut off rather than rounded.
    """
    texts, table, source = printed(name), published(name), TABLES[name]
    unit = {c: max(map(_unit, texts[c])) for c in table.columns if pd.api.types.is_numeric_dtype(table[c])}
    factor = 1 if source.share else 100
    found = [*_averages(table, unit, source.key), *_micro(table, unit, source.key), *_macro_f1(table, unit, source.key)]
    if source.n:
        for row, text in zip(table.to_dict("records"), texts["accuracy"], strict=True):
            if str(row[source.key]).lower() != "average" and not any(_whole(float(text) / factor, n, _unit(text) / factor) for n in source.n):
                found.append(f"{row[source.key]}: accuracy {text} is no whole number of {' or '.join(f'{n:,}' for n in source.n)} faces")
    for row in table.to_dict("records") if "top1" in table else ():
        tops = [float(row[c]) for c in ("top1", "top2", "top3") if row[c] != ""]
        if tops != sorted(tops):
            found.append(f"{row['model']}: top-1, top-2 and top-3 accuracy do not rise")
    return found + (_classes_of_s3(table) if name == "s3_models" else [])


def benchmark() -> pd.DataFrame:
    """The ten published networks: network, year, split, preprocessing, accuracy, n, low, high (percent; 95 % Wilson; NA where n cannot be known)."""
    table = published("s2_related_work")
    n = table["network"].map(_TEST_FACES)
    limits = [wilson(a / 100, m) if m == m else (math.nan, math.nan) for a, m in zip(table["accuracy"], n, strict=True)]
    return table.assign(n=n.astype("Int64"), low=pd.array([100 * x for x, _ in limits], dtype="Float64"),
                        high=pd.array([100 * x for _, x in limits], dtype="Float64"))


def _unit(text: str) -> float:
    """One in the last digit printed."""
    return float(10.0 ** -len(text.partition(".")[2]))


def _whole(share: float, n: int, unit: float) -> bool:
    """Whether some k of n, rounded or cut off, is printed as `share`."""
    return any(k / n - share < unit and share - k / n <= unit / 2 + 1e-12 for k in (math.floor(share * n), math.ceil(share * n)))


def _off(a: float, b: float, unit: float) -> bool:
    return abs(a - b) > unit + 1e-9


def _averages(table: pd.DataFrame, unit: dict[str, float], key: str) -> list[str]:
    if key not in ("fold", "group"):
        return []
    parts: list[tuple[str, dict[str, Any], pd.DataFrame]] = []
    last = table[key].astype(str).str.lower()
    rows = table[~last.str.contains("average")]
    for place in table.index[last.str.contains("average")]:
        row = table.to_dict("records")[place]
        attribute = row.get("attribute", "")
        parts.append((f"{attribute} {row[key]}".strip(), row, rows[rows["attribute"] == attribute] if attribute else rows))
    return [f"{name}: {c.replace('_', ' ')} is printed as {row[c]}, the mean of its rows is {one[c].mean():.{_digits(unit[c])}f}"
            for name, row, one in parts for c in unit if _off(row[c], one[c].mean(), unit[c])]


def _micro(table: pd.DataFrame, unit: dict[str, float], key: str) -> list[str]:
    names = [c for c in ("micro_precision", "micro_recall", "micro_f1", "accuracy") if c in table]
    wrong = [str(row[key]) for row in table.to_dict("records") if len(names) > 1
             and _off(max(row[c] for c in names), min(row[c] for c in names), max(unit[c] for c in names))]
    return [f"{_listed(wrong)}: micro precision, recall, F1 and accuracy are one number and are printed as several"] if wrong else []


def _macro_f1(table: pd.DataFrame, unit: dict[str, float], key: str) -> list[str]:
    """Of rows, not of averages of rows: those are means of F1 too, and fit the rule, but are checked as averages."""
    p, r, f = (next((c for c in (f"macro_{name}", name) if c in table), "") for name in ("precision", "recall", "f1"))
    if not (p and r and f):
        return []
    harmonic = 2 * table[p] * table[r] / (table[p] + table[r])
    width = max(unit[p], unit[r], unit[f])
    above = [str(row[key]) for row, h in zip(table.to_dict("records"), harmonic, strict=True) if row[f] > h + width + 1e-9]
    found = [f"{_listed(above)}: macro F1 is above the harmonic mean of macro precision and recall, which it cannot be"] if above else []
    if (abs(table[f] - harmonic) <= width + 1e-9).all():
        found.append("what is printed as macro F1 is the harmonic mean of macro precision and recall in every row, not the mean F1 of the classes")
    return found


def _classes_of_s3(table: pd.DataFrame) -> list[str]:
    by_class, rows, found = published("s3_per_label"), {r["model"]: r for r in table.to_dict("records")}, []
    for model, name in (("Main", "main"), ("Variant 1", "variant1"), ("Variant 2", "variant2")):
        p, r = by_class[f"{name}_precision"], by_class[f"{name}_recall"]
        for column, ours in (("macro_precision", p.mean()), ("macro_recall", r.mean()), ("macro_f1", (2 * p * r / (p + r)).mean())):
            if _off(rows[model][column], ours, 0.01):
                found.append(f"{model}: {column.replace('_', ' ')} is printed as {rows[model][column]:.2f}, its classes give {ours:.2f}")
    return found


def _digits(unit: float) -> int:
    return max(2, round(-math.log10(unit)))


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
