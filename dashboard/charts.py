"""Data frame -> plotly figure, pure; and the one way a figure is drawn."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from fercore.evaluation import Estimate
from fercore.schemes import CLASSES

NO_LABEL = "no label"


def name_of(class_id: str | None) -> str:
    return CLASSES[class_id].name if class_id in CLASSES else (class_id or NO_LABEL).replace("_", " ")


def colour_of(class_id: str | None) -> str:
    return CLASSES[class_id].colour if class_id in CLASSES else "#666666"


def many(n: int) -> str:
    return f"{n:,} face{'s' * (n != 1)}"


def ordered(labels: Iterable[str]) -> list[str]:
    """Each label once: classes in the order of their schemes, then what no scheme knows, then "no label"."""
    found = set(labels)
    return [*(c for c in CLASSES if c in found), *sorted(found - CLASSES.keys() - {NO_LABEL}), *({NO_LABEL} & found)]


def draw(figure: go.Figure, key: str, *, height: int = 300, select: bool | Callable[[], None] = False, picture: str = "SVG") -> list[dict[str, Any]]:
    """Draws a figure in the house style; returns the selected points when `select`, a function that is called as they change, or True.

    Args:
        picture: format in which the camera above the figure saves it, "PNG" or "SVG"; the browser makes the file.
    """
    config = {"displaylogo": False, "modeBarButtons": [["toImage"]],
              "toImageButtonOptions": {"format": picture.lower(), "scale": 2, "filename": key}}
    figure.update_layout(height=height, margin={"l": 8, "r": 8, "t": 34, "b": 8}, font_size=13, hoverlabel_align="left", dragmode=False,
                         legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "title": None, "font_size": 12}, bargap=0.25,
                         clickmode="event+select" if select else "event")
    figure.update_xaxes(fixedrange=True)
    figure.update_yaxes(fixedrange=True)
    if not select:
        st.plotly_chart(figure, key=key, config=config)
        return []
    event: Any = st.plotly_chart(figure, key=key, config=config, on_select="rerun" if select is True else select, selection_mode="points")
    return list(event["selection"]["points"])


def _split_first(part: tuple[str, pd.DataFrame]) -> tuple[bool, str]:
    """Training before validation before test, by the sources' names and ours."""
    order = ("train", "Training", "val", "PublicTest", "test", "PrivateTest")
    return part[0] not in order, f"{order.index(part[0]):02}" if part[0] in order else part[0]


def class_bars(counts: pd.DataFrame, by: str | None = None) -> go.Figure:
    """Bars of n per label; with `by` (a column), a group of bars a value, told apart by pattern. Columns: label, n[, by]. Marks: (label, value)."""
    figure = go.Figure()
    order = ordered(counts["label"])
    parts = {"": counts} if by is None else {str(value): part for value, part in counts.groupby(by)}
    for (value, part), pattern in zip(sorted(parts.items(), key=_split_first), cycle(("", "/", "x", ".", "-", "\\", "+")), strict=False):
        group = name_of(value) if by else ""
        n = part.groupby("label")["n"].sum().reindex(order, fill_value=0)
        figure.add_bar(x=[name_of(c) for c in order], y=n, name=group, customdata=[(c, value) for c in order],
                       marker_color=[colour_of(c) for c in order],
                       marker_pattern_shape=pattern, marker_pattern_fillmode="overlay", marker_pattern_fgcolor="rgba(255,255,255,.8)",
                       text=None if by else [f"{v:,}" for v in n],
                       textposition="outside", cliponaxis=False, hovertemplate=f"%{{x}} {group}: n = %{{y:,}}<extra></extra>")
    top = max((max(bar.y, default=0) for bar in figure.data), default=0)
    figure.update_yaxes(range=[0, 1.12 * top or 1], title="faces")
    return figure


def curves(epochs: pd.DataFrame, quantity: str, title: str) -> go.Figure:
    """Training and validation `quantity` ("loss" or "accuracy") by epoch; one pair of lines a fold, the best epoch marked."""
    figure = go.Figure()
    for fold, part in epochs.groupby("fold"):
        for side, colour, dash in (("train", "#0072B2", "dot"), ("val", "#D55E00", "solid")):
            figure.add_scatter(x=part["epoch"], y=part[f"{side}_{quantity}"], mode="lines+markers",
                               name=side,
                               line={"color": colour, "dash": dash, "width": 2}, marker_size=5, showlegend=bool(fold == epochs["fold"].min()),
                               legendgroup=side, hovertemplate=f"fold {fold}, epoch %{{x}}: %{{y:.3f}}<extra>{side}</extra>")
        best = part[part["best"]].tail(1)
        figure.add_scatter(x=best["epoch"], y=best[f"val_{quantity}"], mode="markers",
                           marker={"size": 11, "symbol": "circle-open", "color": "#D55E00"},
                           name="kept", showlegend=bool(fold == epochs["fold"].min()), legendgroup="best",
                           hovertemplate=f"fold {fold}: kept epoch %{{x}}<extra></extra>")
    figure.update_xaxes(title="epoch", dtick=-(-int(epochs["epoch"].max()) // 8), tickangle=0)
    figure.update_yaxes(title=title, rangemode="tozero", tickformat=".0%" if quantity == "accuracy" else None)
    return figure


GROUPS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F8A99")  # of what is no class


def compared_curves(epochs: dict[str, pd.DataFrame], quantity: str) -> go.Figure:
    """Validation `quantity` by epoch, a line a run; the mean over folds."""
    figure = go.Figure()
    for (run, part), colour in zip(epochs.items(), cycle(GROUPS), strict=False):
        mean = part.groupby("epoch")[f"val_{quantity}"].mean()
        figure.add_scatter(x=mean.index, y=mean, mode="lines+markers", name=run, line={"color": colour, "width": 2}, marker_size=5,
                           hovertemplate=f"{run}, epoch %{{x}}: %{{y:.3f}}<extra></extra>")
    figure.update_xaxes(title="epoch", tickangle=0)
    figure.update_yaxes(title=f"validation {quantity}", rangemode="tozero", tickformat=".0%" if quantity == "accuracy" else None)
    return figure


def pairs(points: pd.DataFrame, across: str, lines: str | None) -> go.Figure:
    """Mean accuracy in percent by one varied setting, a line for each value of another. Columns: across, line, mean, low, high, runs, n."""
    figure = go.Figure()
    for (value, part), colour in zip(points.groupby("line", sort=False), cycle(GROUPS), strict=False):
        name = "" if lines is None else f"{lines} {value}".strip()
        figure.add_scatter(x=part["across"].map(str), y=100 * part["mean"], mode="lines+markers", name=name,
                           showlegend=lines is not None, line={"color": colour, "width": 1.5}, marker_size=8, customdata=part[["runs", "n"]],
                           error_y={"type": "data", "symmetric": False, "array": 100 * (part["high"] - part["mean"]),
                                    "arrayminus": 100 * (part["mean"] - part["low"]), "thickness": 1.4},
                           hovertemplate=f"{across} %{{x}}: %{{y:.1f}} %, %{{customdata[0]}} runs, n = %{{customdata[1]:,}}<extra></extra>")
    figure.update_xaxes(title=across, type="category")
    figure.update_yaxes(title="accuracy", ticksuffix=" %")
    return figure


def reliability(bins: pd.DataFrame) -> go.Figure:
    """Accuracy with its interval at the mean confidence of each bin, in percent, beside the line of perfect calibration, and how many faces each bin
    has. Columns: confidence, accuracy (Estimate), n."""
    filled = bins[bins["n"] > 0]
    values, lows, highs = (np.array([getattr(e, part) * 100 for e in filled["accuracy"]]) for part in ("value", "low", "high"))
    x = 100 * filled["confidence"].astype(float)
    figure = go.Figure()
    figure.add_bar(x=100 * (bins["low"] + bins["high"]) / 2, y=100 * bins["n"] / max(bins["n"].sum(), 1), width=100 / len(bins), opacity=0.35,
                   marker_color="#7F8A99", name="share of faces", customdata=bins["n"], hovertemplate="n = %{customdata:,}<extra></extra>")
    figure.add_scatter(x=[0, 100], y=[0, 100], mode="lines", line={"color": "#7F8A99", "dash": "dot"}, name="as right as sure", hoverinfo="skip")
    figure.add_scatter(x=x, y=values, mode="markers", marker={"color": "#0072B2", "size": 9}, name="accuracy, 95 % interval",
                       customdata=[e.percent() for e in filled["accuracy"]],
                       error_y={"type": "data", "symmetric": False, "array": highs - values, "arrayminus": values - lows, "thickness": 1.4},
                       hovertemplate="confidence %{x:.1f} %: %{customdata}<extra></extra>")
    figure.update_xaxes(title="confidence", range=[0, 101], ticksuffix=" %")
    figure.update_yaxes(title="accuracy", range=[0, 103], ticksuffix=" %")
    return figure


def whiskers(names: list[str], estimates: list[Estimate], colours: list[str], title: str) -> go.Figure:
    """Points with interval whiskers, in percent, one a group; every estimate must have a value."""
    values, lows, highs = (np.array([getattr(e, part) * 100 for e in estimates]) for part in ("value", "low", "high"))
    figure = go.Figure()
    figure.add_scatter(x=values, y=names, mode="markers", marker={"color": colours, "size": 10}, customdata=[e.percent() for e in estimates],
                       error_x={"type": "data", "symmetric": False, "array": highs - values, "arrayminus": values - lows, "thickness": 1.6,
                                "color": "#7F8A99"},
                       hovertemplate="%{y}: %{customdata}<extra></extra>")
    figure.update_xaxes(title=title, ticksuffix=" %")
    figure.update_yaxes(autorange="reversed")
    return figure


def vote_bars(votes: Sequence[tuple[str, int]], names: Mapping[str, str]) -> go.Figure:
    """Bars of (value, count), lying, the commonest on top. `names`: value -> what it is called."""
    values = [v for v, _ in votes][::-1]
    figure = go.Figure(go.Bar(y=[names.get(v, v) for v in values], x=[n for _, n in votes][::-1], orientation="h", text=[n for _, n in votes][::-1],
                              marker_color=[colour_of(v) for v in values], cliponaxis=False, hovertemplate="%{y}: n = %{x}<extra></extra>"))
    figure.update_xaxes(rangemode="tozero", title="votes", dtick=1 if max((n for _, n in votes), default=0) < 12 else None)
    return figure


def share_bars(shares: Mapping[str, float]) -> go.Figure:
    """Lying bars of the probability (0-1) of each class, in the order of `shares`."""
    percents = [f"{100 * p:.1f} %" for p in shares.values()]
    figure = go.Figure(go.Bar(y=[name_of(c) for c in shares], x=[100 * p for p in shares.values()], orientation="h", text=percents,
                              textposition="outside", marker_color=[colour_of(c) for c in shares], cliponaxis=False,
                              hovertemplate="%{y}: %{text}<extra></extra>"))
    figure.update_xaxes(range=[0, 115], dtick=25, ticksuffix=" %")
    figure.update_yaxes(autorange="reversed")
    return figure


def over_time(estimates: dict[str, Estimate], title: str, *, percent: bool = False) -> go.Figure:
    """Points with interval whiskers in the order of `estimates`; a gap where one has no value."""
    factor = 100 if percent else 1
    values, lows, highs = (np.array([np.nan if getattr(e, part) is None else getattr(e, part) * factor for e in estimates.values()], dtype=float)
                           for part in ("value", "low", "high"))
    figure = go.Figure()
    figure.add_scatter(x=list(estimates), y=values, mode="markers+lines", marker={"color": "#0072B2", "size": 9}, line={"width": 1},
                       customdata=[e.percent() if percent else e.number() for e in estimates.values()],
                       error_y={"type": "data", "symmetric": False, "array": highs - values, "arrayminus": values - lows, "thickness": 1.6,
                                "color": "#7F8A99"},
                       hovertemplate="%{x}: %{customdata}<extra></extra>")
    figure.update_xaxes(type="category")
    figure.update_yaxes(title=title, ticksuffix=" %" if percent else "")
    return figure


def count_bars(names: list[str], counts: list[int], title: str) -> go.Figure:
    """Bars of counts in one colour, e.g. by day."""
    figure = go.Figure(go.Bar(x=names, y=counts, marker_color="#0072B2", hovertemplate="%{x}: n = %{y:,}<extra></extra>"))
    figure.update_xaxes(type="category")
    figure.update_yaxes(title=title, rangemode="tozero")
    return figure


_AGAINST, _FOR = "0, 114, 178", "213, 94, 0"  # blue and vermillion: told apart by every eye


def saliency(face: np.ndarray | None, values: np.ndarray, unit: str = "percentage points") -> go.Figure:
    """Signed shares of a probability [48, 48] over a face of 0-255, or alone: vermillion speaks for the class, blue against it, none is clear."""
    top = float(np.abs(values).max()) or 1.0
    figure = go.Figure()
    if face is not None:
        figure.add_heatmap(z=face, colorscale="gray", zmin=0, zmax=255, showscale=False, hoverinfo="skip")
    figure.add_heatmap(z=100 * values, zmin=-100 * top, zmax=100 * top,
                       colorbar={"title": {"text": unit, "side": "bottom"}, "thickness": 10, "orientation": "h", "nticks": 5,
                                 "y": -0.02, "yanchor": "top"},
                       colorscale=[[0, f"rgba({_AGAINST}, .9)"], [0.5, f"rgba({_AGAINST}, 0)"], [0.5, f"rgba({_FOR}, 0)"], [1, f"rgba({_FOR}, .9)"]],
                       hovertemplate="row %{y}, column %{x}: %{z:+.2f} points<extra></extra>")
    figure.update_xaxes(visible=False, constrain="domain")
    figure.update_yaxes(visible=False, autorange="reversed", scaleanchor="x", constrain="domain")
    return figure


def fences(values: pd.Series) -> tuple[float, float]:
    """Tukey's fences: 1.5 box lengths beyond the quartiles."""
    q1, q3 = np.quantile(values, [0.25, 0.75])
    return q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)


def boxes(groups: dict[str, pd.Series], title: str, *, most: int = 400, clickable: bool = False) -> go.Figure:
    """Box and whiskers of each group of values, by five numbers and Tukey's fences; what lies outside as points with the index of the series, the
    farthest `most` of a group. With `clickable` the boxes are marks too: (group, "box")."""
    figure = go.Figure()
    for name, values in groups.items():
        q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75])
        within = values.between(*fences(values))
        inside, outside = values[within], values[~within]
        outside = outside.loc[(outside - median).abs().sort_values(ascending=False).index[:most]]
        colour = colour_of(name)
        figure.add_box(x=[name_of(name)], q1=[q1], median=[median], q3=[q3], lowerfence=[inside.min()], upperfence=[inside.max()], name=name_of(name),
                       marker_color=colour, showlegend=False, hoverinfo="skip")
        if clickable:  # plotly opens no box: a bar lies over it
            figure.add_bar(x=[name_of(name)], base=[q1], y=[q3 - q1], width=0.5, marker_color=colour, opacity=0.25, showlegend=False,
                           customdata=[(name, "box")],
                           hovertemplate=f"{name_of(name)}, n = {len(values):,}: quartiles {q1:.1f}, {median:.1f}, {q3:.1f}<extra></extra>")
        figure.add_scatter(x=[name_of(name)] * len(outside), y=outside, mode="markers", customdata=outside.index, showlegend=False,
                           marker={"color": colour, "size": 6, "opacity": 0.7}, hovertemplate=f"{name_of(name)}: %{{y:.1f}}<extra></extra>")
    figure.update_layout(barmode="overlay")
    figure.update_yaxes(title=title)
    return figure


def pixel_histogram(counts: dict[str, np.ndarray], colours: dict[str, str] | None = None, bins: int = 4) -> go.Figure:
    """Share of pixels of each value, `bins` values a step, one line a group; counts [256]. Marks are (group, least value of the step).

    Args:
        colours: of groups that are no classes.
    """
    figure = go.Figure()
    for name, n in counts.items():
        share = n.reshape(-1, bins).sum(axis=1) / max(n.sum(), 1) * 100
        figure.add_scatter(x=np.arange(0, 256, bins) + (bins - 1) / 2, y=share, name=name_of(name), mode="lines+markers", marker_size=5,
                           line={"color": (colours or {}).get(name, colour_of(name)), "shape": "hvh"},
                           customdata=[(name, low) for low in range(0, 256, bins)],
                           hovertemplate=f"{name_of(name)}, pixel values from %{{customdata[1]}}: %{{y:.2f}} %<extra></extra>")
    figure.update_xaxes(title="pixel value", range=[-4, 259])
    figure.update_yaxes(rangemode="tozero", title="share of pixels", ticksuffix=" %")
    return figure


def calibration(found: pd.DataFrame, at: float) -> go.Figure:
    """Lines in percent along the bound, where they are known; `at` is marked. Columns: bound, recall, precision, flagged."""
    figure = go.Figure()
    for column, colour, dash in (("recall", "#0072B2", "solid"), ("precision", "#D55E00", "dash"), ("flagged", "#7F8A99", "dot")):
        known = found[found[column].notna()]
        if len(known):
            figure.add_scatter(x=known["bound"], y=100 * known[column], name=column, showlegend=True, line={"color": colour, "dash": dash},
                               hovertemplate=f"{column} at %{{x:.4g}}: %{{y:.1f}} %<extra></extra>")
    figure.add_vline(x=at, line_color="#7F8A99", line_width=1)
    figure.update_xaxes(title="bound")
    figure.update_yaxes(range=[0, 103], ticksuffix=" %")
    return figure


def bubbles(counts: pd.DataFrame, title: str) -> go.Figure:
    """Marks of a size by n at (column, label). Columns: label, column (middle), n. Marks are (label, column)."""
    figure = go.Figure()
    top = max(counts["n"].max(), 1) if len(counts) else 1
    for label in ordered(counts["label"])[::-1]:
        part = counts[counts["label"] == label]
        figure.add_scatter(x=part["column"], y=[name_of(label)] * len(part), mode="markers", showlegend=False,
                           customdata=[(label, float(c)) for c in part["column"]], text=part["n"],
                           marker={"color": colour_of(label), "size": 4 + 30 * np.sqrt(part["n"] / top)},
                           hovertemplate="%{y}, about %{x}: n = %{text:,}<extra></extra>")
    figure.update_xaxes(title=title)
    return figure


def funnel(steps: list[tuple[str, int, int]]) -> go.Figure:
    """Lying bars of the rows left after each (step, rows taken out, rows left)."""
    names = [name for name, _, _ in steps]
    figure = go.Figure(go.Bar(y=names, x=[left for _, _, left in steps], orientation="h", marker_color="#0072B2", customdata=names,
                              text=[f"{left:,}" + (f" (−{out:,})" if out else "") for _, out, left in steps], cliponaxis=False,
                              hovertemplate="%{y}: %{text}<extra></extra>"))
    figure.update_xaxes(rangemode="tozero", title="rows left")
    figure.update_yaxes(autorange="reversed")
    return figure
