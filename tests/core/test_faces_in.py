"""Faces found in pictures: a photograph, drawn faces in known places, pictures without a face, and pictures of awkward shapes."""

import time
from itertools import islice

import cv2
import numpy as np
import pytest

from fercore.demo_faces import draw_demo
from fercore.domain import Pixels
from fercore.ingest import images
from fercore.ingest.faces_in import MARGIN, METHOD, MOST, Face, found, middle


@pytest.fixture(scope="module")
def drawn() -> Pixels:
    """Drawn faces that a cascade finds on their own, uint8 [5, 48, 48]."""
    demo = draw_demo(100, 7)
    sound = demo.pixels[(demo.truth["problem"] == "none").to_numpy()]
    return np.stack([*islice((p for p in sound if len(found(on(p, 144, 300, 300, (80, 70)))) == 1), 5)])


def on(face: Pixels, side: int, height: int, width: int, at: tuple[int, int]) -> Pixels:
    """A gray picture with the face in it; at = (left, top)."""
    picture = np.full((height, width), 128, np.uint8)
    left, top = at
    picture[top:top + side, left:left + side] = cv2.resize(face, (side, side), interpolation=cv2.INTER_CUBIC)
    return picture


def overlap(face: Face, left: int, top: int, side: int) -> float:
    """Intersection over union of a face's box and a square."""
    a, b, c, d = face.box
    shared = max(min(c, left + side) - max(a, left), 0) * max(min(d, top + side) - max(b, top), 0)
    return shared / ((c - a) * (d - b) + side * side - shared)


def test_the_one_face_of_a_photograph() -> None:
    photograph = pytest.importorskip("skimage.data", reason="scikit-image is not installed").astronaut()
    faces = found(photograph)
    assert len(faces) == 1 and overlap(faces[0], 177, 66, 97) > 0.85
    assert faces[0].pixels.shape == (48, 48) and faces[0].pixels.dtype == np.uint8 and faces[0].pixels.std() > 20


def test_drawn_faces_are_found_where_they_are_the_largest_first(drawn: Pixels) -> None:
    picture = np.full((500, 900), 128, np.uint8)
    places = [(30, 40, 150), (300, 60, 220), (600, 100, 300)]
    for face, (left, top, side) in zip(drawn, places, strict=False):
        picture[top:top + side, left:left + side] = cv2.resize(face, (side, side), interpolation=cv2.INTER_CUBIC)
    faces = found(picture)
    assert [overlap(face, *place) > 0.5 for face, place in zip(faces, places[::-1], strict=True)] == [True] * 3
    colour = found(np.repeat(picture[..., None], 3, axis=2))
    assert [f.box for f in colour] == [f.box for f in faces]


def test_a_face_is_what_an_importer_makes_of_its_box(drawn: Pixels) -> None:
    picture = on(drawn[0], 144, 300, 300, (80, 70))
    face, = found(picture)
    left, top, right, bottom = face.box
    assert right - left == bottom - top and face.margin == round(MARGIN * (right - left - 2 * face.margin)) > 0
    data = cv2.imencode(".png", picture)[1].tobytes()
    assert (images.standard(images.decode(data, face.box)[0], METHOD) == face.pixels).all()


def seeing(monkeypatch: pytest.MonkeyPatch, *squares: tuple[int, int, int]) -> list[tuple[int, ...]]:
    """Lets the cascade see these (left, top, side); the shapes of what it is shown come in the list that is returned."""
    shown = list[tuple[int, ...]]()

    class Sees:
        def __init__(self, path: str) -> None: ...

        def detectMultiScale(self, picture: Pixels, *args: object, **kwargs: object) -> np.ndarray:
            shown.append(picture.shape)
            return np.array([(*s, s[2]) for s in squares], np.int32)

    monkeypatch.setattr(cv2, "CascadeClassifier", Sees)
    return shown


@pytest.mark.parametrize(("at", "box", "margin"), [((0, 50), (0, 50, 100, 150), 0), ((199, 50), (198, 49, 300, 151), 1),
                                                   ((50, 298), (48, 296, 152, 400), 2), ((50, 50), (47, 47, 153, 153), 3)])
def test_at_the_edge_the_margin_gives_way_so_that_the_box_stays_a_square(monkeypatch: pytest.MonkeyPatch, at: tuple[int, int], box: tuple[int, ...],
                                                                        margin: int) -> None:
    seeing(monkeypatch, (*at, 100))
    face, = found(np.zeros((400, 300), np.uint8))
    assert (face.box, face.margin) == (box, margin)


def test_no_more_than_1280_pixels_a_side_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = seeing(monkeypatch, (0, 0, 960))
    assert found(np.zeros((3000, 4000, 3), np.uint8))[0].box == (0, 0, 3000, 3000) and shown == [(960, 1280)]


def test_a_large_picture_is_searched_quickly_and_boxes_are_in_its_own_pixels(drawn: Pixels) -> None:
    picture = on(drawn[0], 1200, 3000, 4000, (2500, 1500))
    began = time.process_time()  # of all cores, whatever else they do
    faces = found(np.repeat(picture[..., None], 3, axis=2))
    assert time.process_time() - began < 1.5
    assert len(faces) == 1 and overlap(faces[0], 2500, 1500, 1200) > 0.5


def test_a_small_picture_is_a_face(drawn: Pixels) -> None:
    face, = found(drawn[0])
    assert face.box == (0, 0, 48, 48) and face.margin == 0 and (face.pixels == drawn[0]).all()
    assert found(np.zeros((64, 40, 3), np.uint8))[0].box == (0, 0, 40, 64) and found(np.zeros((1, 1), np.uint8))[0].pixels.shape == (48, 48)


def test_without_a_face_nothing_is_found_and_the_middle_can_be_taken() -> None:
    ramp = np.tile(np.arange(200, dtype=np.uint8), (100, 1))
    assert found(ramp) == []
    face = middle(ramp)
    assert face.box == (50, 0, 150, 100) and face.margin == 0 and face.pixels.shape == (48, 48)
    assert abs(int(face.pixels.mean()) - 99) <= 1


@pytest.mark.parametrize("shape", [(2, 9_999), (9_999, 3), (65, 1), (1, 65, 3), (20, 1_300)])
def test_strips_have_no_face_and_harm_nothing(shape: tuple[int, ...]) -> None:
    strip = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert found(strip) == [] and middle(strip).pixels.shape == (48, 48)


def test_a_crowd_gives_no_more_than_the_largest(drawn: Pixels) -> None:
    tile = cv2.copyMakeBorder(cv2.resize(drawn[0], (72, 72), interpolation=cv2.INTER_CUBIC), 14, 14, 14, 14, cv2.BORDER_CONSTANT, value=128)
    faces = found(np.tile(tile, (8, 12)))
    assert len(faces) == MOST
    sides = [f.box[2] - f.box[0] for f in faces]
    assert sides == sorted(sides, reverse=True)
