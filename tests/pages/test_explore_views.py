"""The views of Explore on drawn faces: what a link to a mark opens, what a filter leaves, and what stays hidden from annotators."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from app_helpers import app_as, text
from helpers import ANNOTATOR, LEAD, fer_line, write_fer, write_votes
from PIL import Image
from uuid_utils import uuid7

from dashboard import cache, charts, explore_views, faces
from fercore import audit, curation, ingest
from fercore.audit import actions
from fercore.demo_faces import draw_demo
from fercore.domain import Filter
from fercore.store import Store

N = 64


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    """uint8 [64, 48, 48]: 0-3 dark, 63 a copy of 4."""
    pictures = draw_demo(120, 3).pixels[:N].copy()
    pictures[:4] //= 6
    pictures[63] = pictures[4]
    return pictures


@pytest.fixture
def store(tmp_path: Path, peopled: Store, drawn: np.ndarray) -> Store:
    usages = ["Training"] * 50 + ["PublicTest"] * (N - 50)
    path = write_fer(tmp_path / "f.csv", [fer_line(i % 7, f, usages[i]) for i, f in enumerate(drawn)])
    votes = write_votes(tmp_path / "v.csv", [[5, 5, 0, 0, 0, 0, 0, 0, 0, 0] if i < 3 else [10] + [0] * 9 for i in range(N)], usages)
    ingest.import_fer2013(peopled, LEAD, path, ferplus=votes)
    audit.run(peopled, LEAD)
    return peopled


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[pd.DataFrame]:
    """What walls with pages were given; the last is what stands on the page."""
    given: list[pd.DataFrame] = []
    monkeypatch.setattr(faces, "pages", lambda rows, key: given.append(rows))
    return given


def rows_of(store: Store, where: str) -> list[str]:
    return [r[0] for r in store.rows(f"SELECT sample_id FROM samples WHERE {where} ORDER BY source_id, source_row")]


@pytest.mark.parametrize(("query", "where"), [
    ({"view": "Faces"}, "true"),
    ({"view": "Distribution", "open": ["happy", "Training"]}, "given_label = 'happy' AND source_split = 'Training'"),
    ({"view": "Distribution", "by": "Perceived age", "open": ["happy", "none"]}, "given_label = 'happy'"),
    ({"view": "Samples", "open": ["sad"], "split": "PublicTest"}, "given_label = 'sad' AND source_split = 'PublicTest'"),
    ({"view": "Mean faces", "open": ["fear"]}, "given_label = 'fear'"),
    ({"view": "Mean faces", "mean_by": "Source split", "open": ["PublicTest"]}, "source_split = 'PublicTest'"),
    ({"view": "Votes", "open": ["angry", "1.0"]}, "given_label = 'angry' AND source_row < 3"),
    ({"view": "Votes", "open": ["angry", "0.0"]}, "given_label = 'angry' AND source_row >= 3"),
    ({"view": "Funnel", "open": ["rows in"], "given": "Happy"}, "given_label = 'happy'"),
    ({"view": "Box plots", "open": ["happy", "box"]}, """given_label = 'happy' AND mean BETWEEN
        (SELECT quantile_cont(mean, 0.25) FROM samples WHERE given_label = 'happy') AND
        (SELECT quantile_cont(mean, 0.75) FROM samples WHERE given_label = 'happy')"""),
])
def test_a_link_to_a_mark_opens_its_faces(store: Store, opened: list[pd.DataFrame], query: dict[str, str], where: str) -> None:
    app_as("dana", "explore", **query)
    wanted = rows_of(store, where)
    assert wanted and opened[-1]["sample_id"].tolist() == wanted


def test_a_link_to_an_outlier_opens_the_outliers_of_its_class(store: Store, opened: list[pd.DataFrame]) -> None:
    rows = store.frame("SELECT sample_id, given_label, mean FROM samples")
    outside = {}
    for label, part in rows.groupby("given_label"):
        q1, q3 = np.percentile(part["mean"], [25, 75])
        outside[label] = part[(part["mean"] < q1 - 1.5 * (q3 - q1)) | (part["mean"] > q3 + 1.5 * (q3 - q1))]["sample_id"].tolist()
    label, ids = next((k, v) for k, v in outside.items() if v)
    app_as("dana", "explore", view="Box plots", open=ids[-1])
    assert opened[-1]["sample_id"].iloc[0] == ids[-1] and sorted(opened[-1]["sample_id"]) == sorted(ids), label


def test_a_bin_of_the_histogram_opens_the_faces_with_most_of_it(store: Store, opened: list[pd.DataFrame], drawn: np.ndarray) -> None:
    app_as("dana", "explore", view="Pixel values", open=["angry", "20"])
    shares = {i: ((drawn[i] >= 20) & (drawn[i] < 24)).mean() for i in range(0, N, 7)}
    found = opened[-1].assign(row=opened[-1]["sample_id"].map(dict(store.rows("SELECT sample_id, source_row FROM samples"))))
    assert dict(zip(found["row"], found["share"], strict=True)) == pytest.approx({i: s for i, s in shares.items() if s})
    assert found["share"].is_monotonic_decreasing and len(found) > 1


def test_the_funnel_and_the_duplicates_keep_to_the_filter(store: Store, opened: list[pd.DataFrame], drawn: np.ndarray) -> None:
    face = store.value("SELECT image_id FROM samples WHERE source_row = 30")
    actions.mark(store, LEAD, [face], "exclude", "artificial")
    at = app_as("dana", "explore", view="Funnel", split="Training", open="excluded: artificial")
    assert opened[-1]["image_id"].tolist() == [face] and "**excluded\\: artificial:** 1 face" in text(at)
    app_as("dana", "explore", view="Funnel", split="PublicTest", open="excluded: artificial")
    assert len(opened) == 1  # an empty wall says so instead
    groups = store.rows("SELECT count(*) FROM samples GROUP BY image_id HAVING count(*) > 1 AND bool_or(source_split = 'PublicTest')")
    copies = app_as("dana", "explore", view="Duplicates", split="PublicTest")
    assert groups and f"**{len(groups)}** groups, **{sum(n for n, in groups)}** faces" in text(copies)  # whole groups, of which one face matches
    assert "No such group among these faces" in text(app_as("dana", "explore", view="Duplicates", finding="Dark"))


@pytest.mark.parametrize(("person", "query"), [
    ("dana", {"given": "Disgust", "split": "PublicTest"}), ("ann", {"given": "Happy"}), ("dana", {"finding": "Dark", "given": "Surprise"})])
def test_narrow_filters_draw_or_say_why_not(store: Store, person: str, query: dict[str, str]) -> None:
    for view in explore_views.VIEWS:
        at = app_as(person, "explore", view=view, **query)
        drew = at.get("plotly_chart") or at.get("bidi_component") or at.get("number_input")
        assert drew or at.info, (view, query)


def test_classes_of_every_scheme_are_drawn_and_filtered(store: Store, opened: list[pd.DataFrame], tmp_path: Path, drawn: np.ndarray) -> None:
    """A source may bring classes that FER-2013 does not have."""
    for i, folder in enumerate(("Agree", "Confusion", "Contempt")):
        (tmp_path / "fed" / folder).mkdir(parents=True)
        Image.fromarray(255 - drawn[i + 10]).save(tmp_path / "fed" / folder / "a.png")
    known = ingest.LabelMap("mine@1", {"agree": "amenability", "confusion": "confusion", "contempt": "contempt"})
    ingest.import_pictures(store, LEAD, tmp_path / "fed", ingest.Provenance("fed"), label_map=known)
    for view, open_ in (("Distribution", ("amenability", "none")), ("Samples", ("amenability",)), ("Box plots", ("amenability", "box"))):
        app_as("dana", "explore", view=view, given=["Amenability", "Contempt"], open=open_)
        assert opened[-1]["sample_id"].tolist() == rows_of(store, "given_label = 'amenability'"), view
    counts = pd.DataFrame({"label": ["confusion", "no label", "own class", "happy"], "n": [1, 2, 3, 4]})
    assert list(charts.class_bars(counts).data[0].x) == ["Happy", "Confusion", "own class", "no label"]
    assert "Confusion" in charts.bubbles(counts.assign(column=0.0), "").data[2].y
    assert app_as("dana", "explore", view="Samples").button(key="all-amenability").label == "Amenability: 1 face"


def test_an_unknown_mark_says_so(store: Store) -> None:
    for view, mark in (("Distribution", ["nobody", "x"]), ("Samples", ["nobody"]), ("Mean faces", ["nobody"]), ("Votes", ["x", "y"]), ("Funnel", ["x"])):
        assert "No face behind this mark" in text(app_as("dana", "explore", view=view, open=mark)), view


def test_filters_in_memory_match_what_the_database_says(store: Store) -> None:
    someone = store.value("SELECT image_id FROM samples WHERE source_row = 10")
    actions.mark(store, LEAD, [someone], "flag_non_face", "yes")
    for labels, splits, findings, flags in product(((), ("happy", "sad")), ((), ("Training",)), ((), ("dark", "exact_duplicate")), ((), ("non_face",))):
        found = cache.members(Filter(labels=labels, splits=splits, findings=findings, flags=flags))["sample_id"].tolist()
        assert found == rows_of(store, f"""({not labels} OR current_label IN ('happy', 'sad')) AND ({not splits} OR source_split = 'Training')
            AND ({not findings} OR sample_id IN (SELECT sample_id FROM findings WHERE kind IN ('dark', 'exact_duplicate')))
            AND ({not flags} OR image_id = '{someone}')""")
    assert cache.members(Filter(age_bands=("not_tagged",), relabelled=False)).shape[0] == N and cache.members(Filter(relabelled=True)).empty


def test_an_annotator_learns_no_answer_of_others(store: Store, opened: list[pd.DataFrame]) -> None:
    """Every view, with links a lead would send: the same before and after others relabel and flag."""
    asked = {"finding": "Divided votes", "label": "Angry", "by": "Perceived age", "mean_by": "Perceived age", "flag": "Non-face"}
    marks = {"Distribution": ["angry", "Training"], "Samples": ["angry"], "Mean faces": ["angry"], "Box plots": ["angry", "box"]}
    links = [{"view": view, **asked, **({"open": marks[view]} if view in marks else {})} for view in explore_views.VIEWS]

    def seen() -> list[tuple[str, list[str]]]:
        out = []
        for link in links:
            opened.clear()
            at = app_as("ann", "explore", **link)
            charts = [c.proto.spec for c in at.get("plotly_chart")]
            out.append((text(at) + str(charts), cache.pictured(ANNOTATOR, opened[-1])["current_label"].tolist() if opened else []))
        return out

    before = seen()
    assert len(before[0][1]) == N  # nothing of the link narrows what an annotator sees
    images = [r[0] for r in store.rows("SELECT DISTINCT image_id FROM samples WHERE source_row < 14")]
    curation.record(store, LEAD, [{"event_id": str(uuid7()), "op": "set", "image_id": i, "field": f, "value": v, "gesture": str(uuid7())}
                                  for i in images for f, v in (("expression", "surprise"), ("flag_non_face", "yes"), ("age_band", "senior"))])
    assert store.value("SELECT count(*) FROM samples WHERE current_label <> given_label") >= 10
    assert seen() == before
