"""A confusion matrix as a table of buttons: each cell opens its faces."""

from pathlib import Path

import pandas as pd
import streamlit as st

from dashboard.charts import colour_of, name_of

_HERE = Path(__file__).parent
_MOUNT = st.components.v2.component("fercore_confusion", js=(_HERE / "confusion.js").read_text(encoding="utf-8"),
                                    css=(_HERE / "confusion.css").read_text(encoding="utf-8"))


def confusion_matrix(counts: pd.DataFrame, shares: pd.DataFrame | None, *, key: str, axes: tuple[str, str] = ("true", "predicted"),
                     texts: pd.DataFrame | None = None, of: str = "row") -> tuple[str, str] | None:
    """Draws counts [true x predicted]; returns the (true, predicted) class ids of a cell once, when it is opened.

    Args:
        shares: what colours the cells and stands in them as percent, 0-1 with NA; None shows counts.
        axes: what rows and columns are called.
        texts: what stands in the cells instead. of: "row" colours a cell by its share of its row, "all" by its share of the largest cell.
    """
    classes = [{"id": c, "name": name_of(c), "colour": colour_of(c)} for c in counts.index]
    rows = counts.sum(axis=1)
    by_row = counts.div(rows.where(rows > 0), axis=0) if of == "row" else counts / max(counts.to_numpy().max(), 1)
    if texts is None:
        texts = counts.map("{:,}".format) if shares is None else shares.map(lambda s: "–" if pd.isna(s) else f"{s * 100:.1f}")
    cells = [[{"n": int(counts.loc[t, p]), "share": None if pd.isna(by_row.loc[t, p]) else float(by_row.loc[t, p]), "text": str(texts.loc[t, p])}
              for p in counts.columns] for t in counts.index]
    result = _MOUNT(key=key, data={"classes": classes, "cells": cells, "totals": [f"{int(n):,}" for n in rows], "axes": list(axes)},
                    on_opened_change=lambda: None)
    opened = result.opened
    return (opened["true"], opened["predicted"]) if opened else None
