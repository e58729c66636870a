"""A table of a page as a file."""

from collections.abc import Callable
from typing import Any, Literal

import pandas as pd
import streamlit as st

from fercore import evaluation


def as_csv(rows: Any) -> str:
    """A data frame or a list of records, as `--json` prints them; an estimate stands in columns of its own: value, low, high, n, note."""
    records = evaluation.to_json(rows)
    table = pd.json_normalize([{k: v for k, v in row.items() if v is not None} for row in records], sep="_")
    names = list(rows.columns) if isinstance(rows, pd.DataFrame) else dict.fromkeys(key for row in records for key in row)
    columns = dict.fromkeys(c for name in names for c in ([c for c in table.columns if c == name or c.startswith(f"{name}_")] or [name]))
    return str(table.reindex(columns=list(columns)).convert_dtypes().to_csv(index=False))


def csv(name: str, rows: Any) -> None:
    """"Data as CSV", to stand under a table."""
    button(name, lambda: as_csv(rows), "tertiary")


def button(name: str, make: Callable[[], str], kind: Literal["secondary", "tertiary"] = "secondary") -> None:
    """"Data as CSV" of a text that is made when it is asked for."""
    st.download_button("Data as CSV", make, f"{name}.csv", "text/csv", icon=":material/download:", type=kind,
                       key=f"csv-{name}", on_click="ignore")  # a run of the page would revoke the file that was asked for
