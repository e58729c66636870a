"""A wall of faces. One picture carries all of them; a click or Enter opens one.

Where faces can be selected, a click or Space does that (Shift: up to here, Ctrl+A: all, Esc: none), and a double click or Enter opens one.
"""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

from fercore.domain import SIDE
from fercore.errors import BadInput

COLUMNS = 16  # faces in one row of the sheet; face_grid.js takes it from the data
_HERE = Path(__file__).parent
_COMPONENT = st.components.v2.component(
    "fercore_face_grid", js=(_HERE / "face_grid.js").read_text("utf-8"), css=(_HERE / "face_grid.css").read_text("utf-8"))


@dataclass(frozen=True)
class Tile:
    """One face: 2,304 raw gray bytes (0-255), a label with its colour, a note, a second chip (a prediction), a badge over the face (what was done
    to it), and the name of the group with which it is framed. Colours are '#rrggbb'."""

    sample_id: str
    pixels: bytes
    label: str
    colour: str
    note: str = ""
    second: str = ""
    second_colour: str = ""
    badge: str = ""
    group: str = ""


def selected(key: str) -> list[str]:
    """Sample ids that are selected in the grid with this key, in reading order; they come from a browser. To be read before or after mounting."""
    return [i for i in (st.session_state.get(key) or {}).get("selected") or () if isinstance(i, str)]


def face_grid(tiles: Sequence[Tile], *, key: str, scale: int = 2, select: bool = False) -> str | None:
    """Draws the tiles and returns the sample id that was opened in this run, else None.

    Args:
        tiles: faces in reading order; neighbours of one group share a frame.
        key: Streamlit key.
        scale: whole factor of enlargement; a tile is 48 * scale pixels wide.
        select: faces can be selected; see `selected`.

    Raises:
        BadInput: a tile has not 2,304 bytes, or `scale` is less than 1.
    """
    if scale < 1:
        raise BadInput("Scale not usable", f"{scale} is less than 1", "Enlarge by 1 or more")
    opened = _mount(key, {**_drawn(tiles), "scale": scale, "select": select, "selected": selected(key)})
    return opened if opened in {t.sample_id for t in tiles} else None


def paged(tiles_of: Callable[[int], Sequence[Tile]], last: int, *, key: str, listed: str, page: int, what: str) -> tuple[str | None, int]:
    """Draws a list of faces a page at a time; turning pages is up to the browser, which asks for those it does not hold.

    Args:
        tiles_of: the faces of a page, 1 to `last`.
        listed: names the list as it is now; under another name the browser forgets its pages and starts at `page`.
        what: how many of what the list holds, behind the number of the page.

    Returns:
        The sample id that was opened in this run, else None, and the page that is shown.
    """
    view = (st.session_state.get(key) or {}).get("view")
    held: set[int] = set()
    if isinstance(view, dict) and view.get("list") == listed and isinstance(view.get("page"), int) and isinstance(view.get("held"), list):
        page, held = min(max(view["page"], 1), last), {n for n in view["held"] if isinstance(n, int)}
    wanted = [page] if page not in held else [n for n in (page + 1, page + 2, page - 1) if 1 <= n <= last and n not in held]
    sent = [{"number": n, **_drawn(tiles_of(n))} for n in wanted]
    opened = _mount(key, {"list": listed, "page": page, "last": last, "what": what, "pages": sent, "scale": 2, "select": False, "selected": []})
    return opened, page


def _drawn(tiles: Sequence[Tile]) -> dict[str, Any]:
    if short := [t.sample_id for t in tiles if len(t.pixels) != SIDE * SIDE]:
        raise BadInput("Face cannot be shown", f"{short[0]} has not {SIDE * SIDE} bytes", "Pass standard images only")
    return {"sheet": _sheet(tuple(t.pixels for t in tiles)), "columns": COLUMNS, "tiles": [
        {"id": t.sample_id, "label": t.label, "colour": t.colour, "note": t.note, "second": t.second, "second_colour": t.second_colour,
         "badge": t.badge, "group": t.group} for t in tiles]}


def _mount(key: str, data: dict[str, Any]) -> str | None:
    opened: str | None = _COMPONENT(key=key, data=data, on_selected_change=lambda: None, on_open_change=lambda: None,
                                    on_view_change=lambda: None).open
    return opened


@lru_cache(maxsize=64)
def _sheet(faces: tuple[bytes, ...]) -> str:
    """The faces in rows of `COLUMNS` as a base64 grayscale PNG; '' for none."""
    if not faces:
        return ""
    rows = -(-len(faces) // COLUMNS)
    wall = np.zeros((rows * COLUMNS, SIDE, SIDE), np.uint8)
    wall[: len(faces)] = np.frombuffer(b"".join(faces), np.uint8).reshape(-1, SIDE, SIDE)
    out = io.BytesIO()
    Image.fromarray(wall.reshape(rows, COLUMNS, SIDE, SIDE).swapaxes(1, 2).reshape(rows * SIDE, COLUMNS * SIDE)).save(out, "PNG", compress_level=1)
    return base64.b64encode(out.getvalue()).decode()
