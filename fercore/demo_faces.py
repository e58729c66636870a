"""Demo data: drawn faces with planted problems. No real face; every pixel comes from the parameters and the seed.

A face is a set of polygons in face coordinates (x: -1 to 1 across the head, y: -1.28 crown to 1.28 chin, in half head
widths) that a pose maps to a canvas of 4 x 48 pixels, averaged down to 48 x 48. Expressions are cartoons of facial action units.
"""

from dataclasses import dataclass
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, ImageDraw, ImageFilter

from fercore.domain import SIDE, Pixels
from fercore.errors import BadInput
from fercore.schemes import FER7, FERPLUS_COLUMNS

Floats = npt.NDArray[np.float64]
CANVAS = 4 * SIDE
USAGES = {"Training": 0.70, "PublicTest": 0.15, "PrivateTest": 0.15}
AGES = {"young": 0.42, "middle_aged": 0.33, "senior": 0.25}
INTENSITY = {"young": (0.85, 1.20), "middle_aged": (0.75, 1.15), "senior": (0.25, 0.80)}  # uniform; seniors are harder
CLASSES = {"angry": 0.14, "disgust": 0.09, "fear": 0.13, "happy": 0.20, "sad": 0.15, "surprise": 0.13, "neutral": 0.16}
PROBLEMS = {"exact_duplicate": 0.02, "near_duplicate": 0.025, "conflicting_duplicate": 0.015, "dark": 0.025, "bright": 0.01,
            "non_face": 0.02, "wrong_label": 0.05}  # share of rows; the rest is "none"
COPIES = ("exact_duplicate", "near_duplicate", "conflicting_duplicate")


class _Look(NamedTuple):
    """What an expression adds to a resting face at intensity 1: face units, up is positive; lid, under, teeth are shares."""

    brow_in: float = 0.0  # inner end of the brows
    brow_out: float = 0.0
    pinch: float = 0.0  # inner ends drawn together
    lid: float = 0.0  # upper lid opens
    under: float = 0.0  # lower lid rises
    corner: float = 0.0  # mouth corners
    gape: float = 0.0  # mouth opens
    wide: float = 0.0  # mouth widens
    lip: float = 0.0  # upper lip rises on one side, nose wrinkles
    teeth: float = 0.0  # share of the opening that shows teeth


LOOKS = {
    "angry": _Look(-0.19, 0.12, 0.08, -0.20, 0.20, -0.08, 0.12, 0.02, 0.00, 1.0),
    "disgust": _Look(-0.07, -0.07, 0.03, -0.62, 0.60, -0.10, 0.07, -0.07, 0.20, 0.3),
    "fear": _Look(0.20, 0.02, 0.07, 0.50, -0.15, -0.10, 0.18, 0.10, 0.00, 0.9),
    "happy": _Look(0.03, 0.04, 0.00, -0.12, 0.45, 0.20, 0.15, 0.14, 0.00, 0.7),
    "sad": _Look(0.17, -0.13, 0.04, -0.38, 0.05, -0.17, 0.00, -0.08, 0.00, 0.0),
    "surprise": _Look(0.20, 0.21, 0.00, 0.60, -0.20, 0.00, 0.36, -0.17, 0.00, 0.0),
    "neutral": _Look(),
}
# Where the votes go that miss the true class: weights.
MISTAKEN = {"angry": {"disgust": 3, "neutral": 3, "sad": 1, "contempt": 1}, "disgust": {"angry": 4, "contempt": 3, "sad": 1},
            "fear": {"surprise": 5, "sad": 2, "angry": 1}, "happy": {"neutral": 4, "surprise": 2, "contempt": 1},
            "sad": {"neutral": 4, "fear": 1, "disgust": 1}, "surprise": {"fear": 4, "happy": 2, "neutral": 1},
            "neutral": {"sad": 3, "happy": 1, "angry": 1, "contempt": 1}, "non_face": {"unknown": 1}}


@dataclass(frozen=True)
class DemoSet:
    """Drawn samples and, apart from them, the truth about them.

    pixels: uint8 [n, 48, 48], 0-255.
    rows: what an import sees: row (0-based), label (given class id), usage, age_band, gender (both null for non-faces), and ten
        counts of votes that sum to 10 (columns FERPLUS_COLUMNS).
    truth: row, true_label and intensity (null for non-faces), problem, copy_of (row or null), cross_split (usage differs).
    """

    pixels: Pixels
    rows: pd.DataFrame
    truth: pd.DataFrame


class _Pen:
    """Draws polygons and strokes given in face coordinates, under one pose; tones are 0-255."""

    def __init__(self, rng: np.random.Generator, tone: float) -> None:
        self.image = Image.new("L", (CANVAS, CANVAS), int(tone))
        self.draw = ImageDraw.Draw(self.image)
        self.yaw, self.pitch = rng.uniform(-0.2, 0.2), rng.uniform(-0.05, 0.05)
        tilt, self.unit = rng.normal(0, 0.04), CANVAS * rng.uniform(0.33, 0.36)
        self.turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]]) * self.unit
        self.centre = CANVAS * (np.array([0.5, 0.53]) + rng.uniform(-0.02, 0.02, 2))

    def _place(self, x: Any, y: Any) -> list[float]:
        x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
        depth = np.sqrt(np.clip(1 - x * x - (y / 1.45) ** 2, 0, None))  # the head is taken as an ellipsoid
        turned = np.stack([x * np.cos(self.yaw) + depth * np.sin(self.yaw), y + depth * self.pitch], -1)
        flat: list[float] = (turned @ self.turn + self.centre).ravel().tolist()
        return flat

    def fill(self, x: Any, y: Any, tone: float) -> None:
        self.draw.polygon(self._place(x, y), fill=int(np.clip(tone, 0, 255)))

    def band(self, x: Floats, above: Floats, below: Floats, tone: float) -> None:
        self.fill(np.r_[x, x[::-1]], np.r_[above, below[::-1]], tone)

    def oval(self, x: float, y: float, rx: float, ry: float, tone: float) -> None:
        self.fill(x + rx * _SIN, y + ry * _COS, tone)

    def stroke(self, x: Any, y: Any, width: float, tone: float) -> None:
        self.draw.line(self._place(x, y), fill=int(np.clip(tone, 0, 255)), width=max(1, round(width * self.unit)), joint="curve")


_T = np.linspace(0, 2 * np.pi, 40, endpoint=False)
_SIN, _COS = np.sin(_T), np.cos(_T)
_U = np.linspace(-1, 1, 17)  # along a lid, a lip or a brow
_DOME = 1 - _U**2
_Y, _X = np.mgrid[-1:1:SIDE * 1j, -1:1:SIDE * 1j]


def _hair(pen: _Pen, rng: np.random.Generator, female: bool, age: str, tone: float) -> None:
    """Hair above the forehead; long hair behind the head is drawn before the head."""
    top = rng.uniform(0.80, 0.95) if female or age == "young" else rng.uniform(0.88, 1.0) + 0.06 * (age == "senior")
    line = -top + (top + rng.uniform(-0.1, 0.2)) * np.abs(_U) ** rng.uniform(4, 9) + rng.uniform(-0.1, 0.1) * _U * _DOME
    if not female and age != "young":  # temples recede
        line = line - rng.uniform(0, 0.16) * np.exp(-(((np.abs(_U) - 0.5) / 0.2) ** 2))
    arc = np.linspace(1.75, -1.75, 25)
    volume = rng.uniform(1.05, 1.16) * (1 + rng.uniform(0, 0.03) * np.sin(arc * rng.integers(5, 14)))
    pen.fill(np.r_[_U * 0.99, volume * np.sin(arc)], np.r_[line, -1.28 * volume * np.cos(arc)], tone)
    for shift in rng.uniform(-0.6, 0.6, 3):  # strands
        pen.stroke(shift + 0.25 * _U, -1.24 + 0.12 * _U**2 + 0.3 * np.abs(shift), 0.025, tone + 28)


def _head(pen: _Pen, rng: np.random.Generator, female: bool, age: str, skin: float) -> float:
    """Shoulders, hair, ears, head, beard, cheeks. Returns the tone of the hair."""
    grey = {"young": 0.0, "middle_aged": 0.5, "senior": 1.0}[age]
    hair = rng.uniform(12, 85) if rng.random() >= grey else rng.uniform(70, 150) if grey < 1 else rng.uniform(185, 240)
    long, bald = female and rng.random() < 0.75, not female and rng.random() < 0.04 + 0.3 * grey**2
    if long:
        pen.fill(rng.uniform(1.18, 1.34) * np.sign(_SIN) * np.abs(_SIN) ** 0.8, 0.25 - rng.uniform(1.62, 1.75) * _COS, hair * 0.8)
    pen.fill([-2.2, -1.5, -0.5, 0.5, 1.5, 2.2], [2.4, 1.65, 1.4, 1.4, 1.65, 2.4], rng.uniform(25, 230))
    pen.fill([-0.45, 0.45, 0.5, 0, -0.5], [0.8, 0.8, 1.4, 1.62, 1.4], skin * 0.7)
    if bald:
        pen.oval(0, -0.15, 1.12, 0.62, hair)
    if not long:
        for side in (-1, 1):
            pen.oval(1.03 * side, 0.06, 0.15, 0.25, skin * 0.78)
    jaw, square, light = (0.24 if female else 0.10) + rng.uniform(-0.05, 0.05), 1.0 if female else 0.86, rng.uniform(-0.03, 0.03)
    x, y = np.sign(_SIN) * np.abs(_SIN) ** square * (1 - jaw * np.clip(-_COS, 0, 1) ** 2), -1.28 * _COS
    for k in range(6):  # a lighter middle makes the head round
        pen.fill(x * (1 - 0.08 * k) + light * k, y * (1 - 0.08 * k), skin * (0.80 + 0.04 * k))
    if not female and rng.random() < 0.25:
        edge = 0.12 + 0.54 * (1 - _U**6) - 0.14 * np.exp(-((_U / 0.35) ** 2))  # cheeks, then the moustache
        pen.fill(np.r_[x[y > 0.15] * 0.99, 0.93 * _U], np.r_[y[y > 0.15] * 0.99, edge], 0.5 * skin + 0.35 * hair)
    if not bald:
        _hair(pen, rng, female, age, hair)
    for side in (-1, 1):
        pen.oval(0.52 * side, 0.40, 0.2, 0.13, skin * (0.93 if female else 0.98))
    return hair


def _eyes(pen: _Pen, rng: np.random.Generator, look: _Look, female: bool, skin: float, hair: float) -> None:
    """Eyes, lashes, brows, glasses."""
    gaze, size, iris = rng.uniform(-0.05, 0.05), rng.uniform(0.9, 1.1) * (1.08 if female else 0.96), rng.uniform(30, 105)
    along = (_U + 1) / 2  # of a brow: 0 at the inner end, 1 at the outer
    thick, inner = (0.04 if female else 0.07) * (1.1 - 0.6 * along), 0.17 - look.pinch
    brow = -0.40 - look.brow_in * (1 - along) - look.brow_out * along - 0.07 * _DOME
    for side in (-1, 1):
        x, slant = side * (0.42 + 0.25 * size * _U), 0.12 * (look.brow_in - look.brow_out) * _U
        up = -0.06 + slant - 0.17 * size * max(0.14, 1 + look.lid) * _DOME**0.8
        low = -0.06 + slant + 0.13 * size * (1 - look.under) * _DOME
        pen.band(x, up, low, 0.35 * skin + 160)
        for radius, tone in ((0.14, iris), (0.07, 12.0)):  # clipped by the lids
            across = side * 0.42 + gaze + radius * _SIN
            lids = (np.interp(across, x[::side], lid[::side]) for lid in (up, low))
            pen.fill(across, np.clip(-0.07 + radius * _COS, *lids), tone)
        pen.oval(side * 0.42 + gaze + 0.05, -0.11 - 0.03 * look.lid, 0.03, 0.035, 245)
        pen.stroke(x, up, 0.075 if female else 0.05, min(0.42 * skin, 45))
        pen.stroke(x, low, 0.025, 0.42 * skin)
        if female:
            pen.stroke([x[-1] - 0.02 * side, x[-1] + 0.1 * side], [up[-1], up[-1] - 0.09], 0.05, 30)
        pen.band(side * (inner + (0.73 - inner) * along), brow - thick, brow + thick, 0.8 * min(hair, 0.75 * skin))
    if rng.random() < 0.10:
        pen.stroke([-0.1, 0, 0.1], [-0.08, -0.11, -0.08], 0.035, 25)
        for side in (-1, 1):
            pen.stroke(side * 0.43 + 0.34 * np.r_[_SIN, _SIN[:2]], -0.04 + 0.3 * np.r_[_COS, _COS[:2]], 0.035, 25)


def _mouth(pen: _Pen, rng: np.random.Generator, look: _Look, female: bool, skin: float, tongue: bool) -> None:
    """Lips, teeth, tongue."""
    width, y0 = rng.uniform(0.38, 0.44) + look.wide, 0.76 - 0.25 * look.gape
    x, round_ = width * _U, np.sqrt(_DOME)
    base = y0 + look.corner * (0.45 - 1.1 * _U**2)
    sneer = look.lip * np.exp(-(((_U - rng.choice([-0.35, 0.35])) / 0.45) ** 2)) * round_
    up, low = base - 0.45 * look.gape * round_ - 0.6 * sneer, base + 0.9 * look.gape * round_
    full, lips = (0.085, skin * 0.55) if female else (0.05, skin * 0.72)
    pen.band(x, up - full * _DOME * (1 - 0.3 * np.exp(-((_U / 0.15) ** 2))), low + 1.3 * full * _DOME, lips)
    if np.max(low - up) < 0.045:
        pen.stroke(x, base, 0.05, skin * 0.28)
    else:
        pen.band(x, up, low, 22)
        if look.teeth > 0.05:
            pen.band(x * 0.95, up + 0.01, up + min(look.teeth, 0.94) * (low - up), 238)
        if look.teeth > 0.8:  # clenched: two rows
            pen.stroke(x * 0.9, (up + low) / 2, 0.025, 90)
        pen.stroke(x, up, 0.03, skin * 0.3)
        pen.stroke(x, low, 0.03, skin * 0.35)
    if tongue:
        pen.band(0.16 * _U, base, base[8] + 0.05 + 0.26 * round_, skin * 0.5 + 25)
        pen.stroke([0, 0], [base[8] + 0.04, base[8] + 0.18], 0.025, skin * 0.35)


def _lines(pen: _Pen, rng: np.random.Generator, look: _Look, age: str, skin: float, happy: bool) -> None:
    """Nose, folds and wrinkles."""
    wear = {"young": 0.0, "middle_aged": 0.35, "senior": 1.0}[age]
    pen.stroke(np.copysign([0.09, 0.12, 0.2, 0.14], pen.yaw), [-0.12, 0.15, 0.36, 0.43], 0.04, skin * 0.68)
    for s in (-1, 1):
        pen.oval(0.1 * s, 0.42 - 0.15 * look.lip, 0.05, 0.03, skin * 0.4)
        fold = min(1.0, (0.6 * happy + 5 * look.lip) + wear * rng.uniform(0.4, 1.0))
        if fold > 0.15:  # nose to mouth corner
            y = [0.36 - 0.4 * look.lip, 0.5, 0.72]
            pen.stroke(s * np.array([0.22, 0.36, 0.5 + look.wide]), y, 0.035, skin * (1 - 0.4 * fold))
        if wear and rng.random() < wear:  # bags, crow's feet, jowls
            pen.stroke(0.42 * s + 0.22 * _U, 0.17 + 0.07 * _DOME, 0.03, skin * (1 - 0.3 * wear))
            for lift in (-0.1, 0.0, 0.1):
                pen.stroke([0.72 * s, 0.88 * s], [-0.04 + lift * 0.4, -0.04 + lift * 1.3], 0.025, skin * (1 - 0.35 * wear))
            pen.stroke([0.52 * s, 0.58 * s, 0.52 * s], [0.84, 0.96, 1.06], 0.03, skin * (1 - 0.3 * wear))
    for k in range(round(wear * rng.uniform(1, 4))):  # forehead
        pen.stroke(0.5 * _U, -0.66 - 0.1 * k + rng.uniform(-0.05, 0.05) * _U**2, 0.028, skin * (1 - 0.33 * wear))
    if (look.pinch > 0.03 and look.brow_in < 0) or rng.random() < 0.4 * wear:  # frown
        for s in (-1, 1):
            pen.stroke([0.06 * s, 0.08 * s], [-0.5, -0.28], 0.03, skin * 0.6)
    if look.lip > 0.05:
        for k in range(3):
            pen.stroke([-0.13, 0, 0.13], [-0.02 + 0.09 * k, -0.07 + 0.09 * k, -0.02 + 0.09 * k], 0.03, skin * 0.62)


def _face(rng: np.random.Generator, label: str, female: bool, age: str, intensity: float) -> Pixels:
    """One face: uint8 [48, 48] with a mean of about 75 to 195."""
    back, skin = rng.uniform(50, 210), rng.uniform(120, 222)
    rest = rng.normal(0, (0.015, 0.015, 0.005, 0.04, 0.04, 0.012, 0, 0.01, 0, 0))  # nobody rests at zero
    full = np.array(LOOKS[label])
    look = full * intensity * rng.uniform(0.85, 1.15, full.size) + rest
    look[6] *= {"angry": rng.choice([0.0, 1.6]), "happy": rng.choice([0.3, 1.0, 1.3])}.get(label, 1.0)  # mouth shut or open
    look[9] = full[9]
    pen, shown = _Pen(rng, back), _Look(*look.tolist())
    for _ in range(rng.integers(0, 4)):  # things behind
        x, y, w, h = rng.uniform((0, 0, 20, 20), (CANVAS, CANVAS, 90, 150)).tolist()
        pen.draw.rectangle((x - w / 2, y - h / 2, x + w / 2, y + h / 2), fill=int(np.clip(back + rng.uniform(-55, 55), 0, 255)))
    hair = _head(pen, rng, female, age, skin)
    _lines(pen, rng, shown, age, skin, label == "happy" and intensity > 0.4)
    _eyes(pen, rng, shown, female, skin, hair)
    _mouth(pen, rng, shown, female, skin, label == "disgust" and intensity > 0.5 and rng.random() < 0.6)
    if label == "sad" and intensity > 0.6 and rng.random() < 0.5:
        pen.oval(rng.choice([-0.5, 0.5]), rng.uniform(0.22, 0.42), 0.06, 0.11, 250)
    wear = 1.0 if age == "senior" else 0.0
    image = pen.image.filter(ImageFilter.BoxBlur(rng.uniform(0, 2.0) + wear)).reduce(4)
    angle, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.3)
    lit = np.asarray(image, float) * (1 + depth * (np.cos(angle) * _X + np.sin(angle) * _Y))
    lit = (lit - lit.mean()) * rng.uniform(0.9, 1.2) + lit.mean() * rng.uniform(0.8, 1.15)
    lit *= np.clip(lit.mean(), 75, 195) / lit.mean()
    return _grainy(rng, lit, rng.uniform(1, 4) + wear * rng.uniform(2, 7))


def _grainy(rng: np.random.Generator, grey: Floats, sigma: float) -> Pixels:
    return np.clip(np.rint(grey + rng.normal(0, sigma, grey.shape)), 0, 255).astype(np.uint8)


def _non_face(rng: np.random.Generator) -> Pixels:
    """A cloud, stripes, lines of signs, or a house: uint8 [48, 48]."""
    image = Image.new("L", (CANVAS, CANVAS), int(rng.uniform(90, 200)))
    draw, tone, kind = ImageDraw.Draw(image), int(rng.uniform(20, 90)), rng.integers(4)
    if kind == 0:
        image = Image.fromarray(rng.integers(40, 220, (6, 6), dtype=np.uint8)).resize((CANVAS, CANVAS), Image.Resampling.BICUBIC)
    elif kind == 1:
        wave = np.sin((_X * rng.uniform(-1, 1) + _Y * rng.uniform(0.3, 1)) * rng.uniform(8, 30))
        image = Image.fromarray((130 + 70 * wave).astype(np.uint8)).resize((CANVAS, CANVAS))
    elif kind == 2:
        for y in range(12, CANVAS - 12, 22):
            for x in range(10, CANVAS - int(rng.integers(10, 90)), 12):
                draw.line(rng.uniform((x, y) * 3, (x + 9, y + 14) * 3).tolist(), fill=tone, width=3)
    else:
        x, y, w = rng.uniform((20, 90, 50), (70, 110, 100)).tolist()
        draw.ellipse((x - 90, 120, x + 230, 330), fill=tone + 60)
        draw.rectangle((x, y, x + w, y + 65), fill=tone + 120)
        draw.polygon([x - 12, y, x + w / 2, y - 50, x + w + 12, y], fill=tone)
        draw.rectangle((x + w * 0.4, y + 25, x + w * 0.6, y + 65), fill=tone)
    return _grainy(rng, np.asarray(image.reduce(4), float), rng.uniform(2, 8))


def _near(rng: np.random.Generator, pixels: Pixels, kind: int) -> Pixels:
    """`pixels` shifted, brightened, cropped, mirrored or compressed (kind 0 to 4): uint8 [48, 48]."""
    image = Image.fromarray(pixels)
    if kind == 0:
        dx, dy = rng.permutation([0, rng.choice([-1, 1])])
        image = Image.fromarray(np.pad(pixels, 1, mode="edge")).crop((1 + dx, 1 + dy, SIDE + 1 + dx, SIDE + 1 + dy))
    elif kind == 1:
        return _grainy(rng, pixels * rng.choice([0.85, 1.15]) + 4, 0)
    elif kind == 2:
        image = image.crop((1, 1, SIDE - 1, SIDE - 1)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    elif kind == 3:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    else:
        image.save(file := BytesIO(), "JPEG", quality=60)
        image = Image.open(file)
    return np.asarray(image, np.uint8)


def _votes(rng: np.random.Generator, true: str, certain: float) -> list[int]:
    """Ten votes in the order of FERPLUS_COLUMNS; `certain` is the chance that one is right."""
    missed = MISTAKEN[true]
    chance = [certain if c == true else (1 - certain) * missed.get(c, 0) / sum(missed.values()) for c in FERPLUS_COLUMNS.values()]
    return [int(v) for v in rng.multinomial(10, chance)]


def _plan(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """What to draw in each row: the columns of DemoSet.rows and DemoSet.truth but the votes, filled for non-faces too."""
    counts = {problem: max(1, round(n * share)) for problem, share in PROBLEMS.items()}
    problem = rng.permutation(np.repeat(["none", *counts], [n - sum(counts.values()), *counts.values()]))
    usage = rng.permutation(np.repeat(list(USAGES), np.diff(np.rint(np.cumsum([0, *USAGES.values()]) * n).astype(int))))
    age, true = rng.choice(list(AGES), n, p=list(AGES.values())), rng.choice(list(CLASSES), n, p=list(CLASSES.values()))
    gender, intensity = rng.choice(["female", "male"], n), rng.uniform(*np.array([INTENSITY[a] for a in age]).T)
    source, copies, cross = np.arange(n), np.flatnonzero(np.isin(problem, COPIES)), np.zeros(n, bool)
    source[copies] = rng.choice(np.flatnonzero((problem == "none") & (usage != "PrivateTest")), len(copies), replace=False)
    cross[copies[::2]] = True
    usage = np.where(cross, np.where(usage[source] == "Training", "PublicTest", "Training"), usage[source])
    wrong = np.isin(problem, ["wrong_label", "conflicting_duplicate"])
    given = np.array([FER7.ids.index(c) for c in true])[source] + np.where(wrong, rng.integers(1, 7, n), 0)  # 1 to 6 classes on
    return pd.DataFrame({"row": np.arange(n), "label": np.array(FER7.ids)[given % 7], "usage": usage, "age_band": age[source],
                         "gender": gender[source], "true_label": true[source], "intensity": intensity[source], "problem": problem,
                         "copy_of": pd.Series(source, dtype="Int64").where(source != np.arange(n)), "cross_split": cross})


def draw_demo(n: int = 2000, seed: int = 7) -> DemoSet:
    """Draw `n` synthetic samples; equal (n, seed) give equal bytes.

    Raises:
        BadInput: n is too small to hold every planted problem, or seed is negative.
    """
    if n < 100 or seed < 0:
        raise BadInput("Cannot draw this demo", f"n = {n}, seed = {seed}", "Ask for at least 100 faces and a seed of 0 or more")
    plan = _plan(n, np.random.default_rng([seed, n]))  # rows draw from [seed, row], and row < n
    pixels, votes = np.empty((n, SIDE, SIDE), np.uint8), np.empty((n, len(FERPLUS_COLUMNS)), np.int64)
    for p in sorted(plan.to_dict("records"), key=lambda p: p["problem"] in COPIES):  # sources before copies
        row, problem, rng = p["row"], p["problem"], np.random.default_rng([seed, p["row"]])
        if problem == "non_face":
            face = _non_face(rng)
        elif problem in COPIES:
            face = pixels[p["copy_of"]]
            face = _near(rng, face, row % 5) if problem == "near_duplicate" else face
        else:
            face = _face(rng, p["true_label"], p["gender"] == "female", p["age_band"], p["intensity"])
        if problem == "dark":
            face = _grainy(rng, face * (rng.uniform(12, 32) / face.mean()), 1.5)
        elif problem == "bright":
            face = _grainy(rng, 255 - (255.0 - face) * (rng.uniform(10, 20) / (255 - face.mean())), 1.5)
        pixels[row] = face
        certain = min(0.95, 0.55 + 0.35 * p["intensity"]) - 0.2 * (problem in ("dark", "bright"))
        votes[row] = _votes(rng, "non_face", 0.9) if problem == "non_face" else _votes(rng, p["true_label"], certain)
    plan.loc[plan["problem"] == "non_face", ["true_label", "age_band", "gender", "intensity"]] = None
    rows = plan[["row", "label", "usage", "age_band", "gender"]].join(pd.DataFrame(votes, columns=list(FERPLUS_COLUMNS)))
    return DemoSet(pixels, rows, plan[["row", "true_label", "intensity", "problem", "copy_of", "cross_split"]])
