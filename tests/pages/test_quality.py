"""Quality, My progress and Rules: the numbers against other packages, who sees what, and what stands in the URL."""

from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import krippendorff
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from helpers import ANNOTATOR, LEAD, REVIEWER, SECOND_LEAD, some_faces, write_votes
from sklearn.metrics import cohen_kappa_score
from streamlit.testing.v1 import AppTest
from uuid_utils import uuid7

from fercore import ingest
from fercore.curation import quality
from fercore.curation.quality import Scope
from fercore.domain import Permission, Person, image_id
from fercore.errors import NotAllowed, NotFound
from fercore.store import Store, now
from fercore.store import people as people_table

APP = str(Path(__file__).parents[2] / "dashboard" / "app.py")
FACES = list(dict.fromkeys(image_id(f) for i, f in enumerate(some_faces(70)) if i not in (7, 10, 65)))  # as small_file has them
MONDAY = datetime(2026, 3, 2, 9)  # of 2026-W10


def rows(person: Person, values: list[str], *, start: datetime = MONDAY, step: float = 2, faces: list[str] = FACES, **more: Any) -> list[dict[str, Any]]:
    """One answer a face, `step` seconds apart."""
    return [{"image_id": face, "value": v, "person_id": person.person_id, "recorded_at": start + timedelta(seconds=i * step), "field": "expression",
             "round": "vote", "campaign_id": None, "lead_ms": 900, **more} for i, (face, v) in enumerate(zip(faces, values, strict=False))]


def record(store: Store, acts: list[dict[str, Any]]) -> None:
    """Appends the acts, in this order, and folds them."""
    start = store.value("SELECT coalesce(max(seq), 0) FROM facts.label_event")
    batch = pa.Table.from_pylist([{**a, "event_id": str(uuid7()), "seq": start + 1 + i} for i, a in enumerate(acts)]).cast(pa.schema(
        [("image_id", pa.string()), ("value", pa.string()), ("person_id", pa.string()), ("recorded_at", pa.timestamp("us")), ("field", pa.string()),
         ("round", pa.string()), ("campaign_id", pa.string()), ("lead_ms", pa.int32()), ("event_id", pa.string()), ("seq", pa.int64())]))
    with store.write("labels") as w:
        w.bulk("""INSERT INTO facts.label_event (event_id, seq, op, image_id, field, value, gesture, person_id, role, authentication, mode, lead_ms,
                                                 recorded_at, round, campaign_id)
                  SELECT event_id::UUID, seq, 'set', image_id, field, value, event_id::UUID, person_id, 'annotator', 'test', 'single', lead_ms,
                         recorded_at, round, campaign_id FROM batch""", batch)
        w.run("DELETE FROM projection.standing")
        w.run("INSERT INTO projection.standing SELECT * FROM facts.fold(NULL, NULL)")


def noisy(seed: int, n: int = 67) -> list[str]:
    """Answers that are right on most faces."""
    rng = np.random.default_rng(seed)
    return [("angry", "happy", "sad")[i % 3 if rng.random() < 0.7 else rng.integers(3)] for i in range(n)]


def gold(store: Store, faces: list[str], accept: list[list[str]]) -> None:
    with store.write("campaigns") as w:
        for face, values in zip(faces, accept, strict=True):
            w.run("INSERT INTO facts.gold VALUES ($i, 'expression', $v, true, 'dana', now()::TIMESTAMP)", {"i": face, "v": values})


@pytest.fixture
def store(tmp_path: Path, peopled: Store, small_file: Path) -> Store:
    """The app's store: 67 distinct faces, all of them angry by 10 of 10 imported votes."""
    people_table.add(peopled, SECOND_LEAD)
    votes = write_votes(tmp_path / "v.csv", [[0, 0, 0, 0, 10, 0, 0, 0, 0, 0]] * 70, ["Training"] * 56 + ["PublicTest"] * 14)
    ingest.import_fer2013(peopled, LEAD, small_file, ferplus=votes)
    return peopled


@pytest.fixture
def voted(store: Store) -> Store:
    """Three people on all faces in week 10, Ann and Rosa for campaign c1; Lee on 5 faces in week 11."""
    record(store, [*rows(ANNOTATOR, noisy(1), campaign_id="c1"), *rows(REVIEWER, noisy(2), campaign_id="c1"), *rows(LEAD, noisy(3)),
                   *rows(SECOND_LEAD, noisy(4, 5), start=MONDAY + timedelta(days=7))])
    return store


def app_as(person: Person, page: str, **query: str) -> AppTest:
    at = AppTest.from_file(APP, default_timeout=60)
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    at.button(key=f"profile-{person.person_id}").click().run()
    at.switch_page(f"app_pages/{page}.py").run()
    assert not at.exception, at.exception
    return at


def text(at: AppTest) -> str:
    return "\n".join(str(e.value) for kind in (at.title, at.subheader, at.markdown, at.caption, at.info, at.error, at.warning) for e in kind)


def metrics(at: AppTest) -> dict[str, str]:
    return {m.label: m.value for m in at.metric}


def alpha_of(*answers: list[str]) -> float:
    width = max(map(len, answers))
    codes = [[float("nan") if i >= len(a) else float(("angry", "happy", "sad").index(a[i])) for i in range(width)] for a in answers]
    return float(krippendorff.alpha(reliability_data=codes, level_of_measurement="nominal"))


# ---- Quality --------------------------------------------------------------------------------------------------------------------


def test_quality_shows_agreement_with_its_interval(voted: Store) -> None:
    at = app_as(REVIEWER, "quality")
    expected = alpha_of(noisy(1), noisy(2), noisy(3), noisy(4, 5))
    assert metrics(at)["Krippendorff's alpha"] == f"{expected:.3f}" and "Fleiss' kappa, faces with 3 votes" in metrics(at)
    assert "206 independent votes of 4 people on 67 faces" in text(at) and "n = 67" in text(at) and "n = 62" in text(at)
    pairs = at.dataframe[0].value.set_index(["first", "second"])["Cohen's kappa"]
    assert pairs["Ann", "Rosa"].startswith(f"{cohen_kappa_score(noisy(1), noisy(2)):.3f} [") and len(pairs) == 6
    assert pairs["Ann", "Lee"] == "n = 5 < 20"


def test_quality_narrows_to_a_campaign_and_to_weeks_by_its_url(voted: Store) -> None:
    only = app_as(REVIEWER, "quality", campaign="c1", view="Classes")
    assert metrics(only)["Krippendorff's alpha"] == f"{alpha_of(noisy(1), noisy(2)):.3f}"
    assert set(only.dataframe[0].value["answer"]) == {"Angry", "Happy", "Sad"}
    week = app_as(REVIEWER, "quality", weeks="2026-W11")
    assert "5 independent votes of 1 people" in text(week) and "Only one person has answered here" in text(week)
    assert metrics(week)["Krippendorff's alpha"] == "–" and "no face has two votes" in text(week)


def test_every_view_of_quality_opens_and_tells_no_speed(voted: Store) -> None:
    gold(voted, FACES[:30], [["angry", "happy"]] * 30)
    record(voted, rows(ANNOTATOR, noisy(1)[:40], round="repeat", start=MONDAY + timedelta(days=2)))
    seen = set()
    for view in ("Pairs", "Classes", "Weeks", "Annotators", "Confusion"):
        at = app_as(REVIEWER, "quality", view=view)
        seen |= {c for d in at.dataframe for c in d.value.columns}
        if view == "Annotators":
            table = at.dataframe[0].value.set_index("annotator")
            met = np.mean([v in ("angry", "happy") for v in noisy(1)[:30]])
            assert table.loc["Ann", "known answers met"].startswith(f"{met * 100:.1f} % [") and table.loc["Lee", "known answers met"] == "n = 5 < 20"
            assert table.loc["Ann", "equal to the first answer"].startswith("100.0 % [") and table.loc["Rosa", "equal to the first answer"] == "n = 0"
    assert seen == {"first", "second", "faces", "Cohen's kappa", "answer", "alpha", "Fleiss' kappa", "annotator", "votes", "known answers met",
                    "equal to the first answer"}


def test_confusion_of_one_annotator(voted: Store) -> None:
    counts, left_out = quality.annotator_confusion(voted, REVIEWER, Scope(campaign="c1"), "ann")
    expected = pd.crosstab(pd.Series(noisy(2)), pd.Series(noisy(1)))
    assert left_out == 0 and counts.to_numpy().tolist() == expected.to_numpy().tolist() and list(counts.index) == ["angry", "happy", "sad"]
    counts, left_out = quality.annotator_confusion(voted, REVIEWER, Scope(), "ann", "imported")
    assert left_out == 0 and counts.loc["angry"].to_dict() == pd.Series(noisy(1)).value_counts().to_dict()
    sad = [f for f, v in zip(FACES, noisy(1), strict=True) if v == "sad"]
    assert sorted(quality.confusion_faces(voted, REVIEWER, Scope(), "ann", "imported", "angry", "sad")) == sorted(sad)
    at = app_as(REVIEWER, "quality", view="Confusion", annotator="Ann", against="imported votes", true="angry", given="sad")
    assert "n = 67; 0 answers left out" in text(at) and f"**Angry, answered Sad:** {len(sad)} faces" in text(at)
    assert "n = 4 < 20" in text(app_as(REVIEWER, "quality", view="Confusion", annotator="Lee"))  # on one of the five the others tie
    with pytest.raises(NotFound, match="No votes"):
        quality.annotator_confusion(voted, REVIEWER, Scope(), "nobody")


def test_quality_says_what_is_missing(store: Store) -> None:
    at = app_as(REVIEWER, "quality")
    assert "at least two people" in text(at) and not at.metric


def test_annotators_see_neither_quality_nor_rules(voted: Store) -> None:
    for page in ("quality", "rules"):
        at = app_as(ANNOTATOR, page)
        assert Permission.READ_RESULTS.value in text(at) and not at.dataframe and not at.metric
    for act in (lambda: quality.choices(voted, ANNOTATOR), lambda: quality.quality(voted, ANNOTATOR, Scope()),
                lambda: quality.annotator_confusion(voted, ANNOTATOR, Scope(), "rosa")):
        with pytest.raises(NotAllowed, match="You may not read results"):
            act()


# ---- My progress ----------------------------------------------------------------------------------------------------------------


def test_my_progress_counts_my_own_answers_alone(store: Store) -> None:
    record(store, [*rows(ANNOTATOR, noisy(1, 40), step=3, campaign_id="expression"),
                   *rows(ANNOTATOR, noisy(2, 20), faces=FACES[40:], start=MONDAY + timedelta(days=1), lead_ms=1500),
                   *rows(REVIEWER, noisy(5), lead_ms=50)])
    gold(store, [*FACES[:10], *FACES[40:49]], [["happy"]] * 19)
    record(store, [*rows(ANNOTATOR, ["angry"] * 30, round="repeat", start=MONDAY + timedelta(days=3)),
                   *rows(REVIEWER, noisy(5), round="repeat", start=MONDAY + timedelta(days=3))])
    at = app_as(ANNOTATOR, "my_progress")
    gaps = 39 * 3 + 19 * 2  # seconds of work; the night between is none
    assert metrics(at) == {"Answers": "60", "Today": "0", "Median time for an answer": "0.9 s", "Faces an hour": f"{58 * 3600 / gaps:,.0f}"}
    assert at.dataframe[0].value.to_dict("list") == {"campaign": ["Expression, all faces", "no campaign"], "answers": [40, 20]}
    same = np.mean([v == "angry" for v in noisy(1, 40)[:30]])
    assert f"your answer was the same: {same * 100:.1f} % [" in text(at) and "n = 30" in text(at)
    mine = quality.my_progress(store, ANNOTATOR)
    assert list(mine.gold) == ["2026-03-02"] and mine.gold["2026-03-02"].n == 10  # the second day has 9 known answers
    assert mine.gold["2026-03-02"].value == np.mean([v == "happy" for v in noisy(1, 40)[:10]])
    values = [*noisy(1, 40), *noisy(2, 20)]
    assert mine.serial.observed == pytest.approx(np.mean([a == b for a, b in pairwise(values)]))
    assert "Rosa" not in text(at) and quality.my_fields(store, ANNOTATOR) == ["expression"]


def test_my_progress_asks_for_a_break_after_25_minutes(store: Store) -> None:
    record(store, rows(ANNOTATOR, noisy(1), step=30, start=now() - timedelta(seconds=66 * 30)))
    record(store, rows(REVIEWER, noisy(1), step=30, start=now() - timedelta(seconds=66 * 30 + 600)))
    assert "25 minutes without a pause" in text(app_as(ANNOTATOR, "my_progress"))
    assert "25 minutes" not in text(app_as(REVIEWER, "my_progress"))  # stopped ten minutes ago


def test_my_progress_of_somebody_new_says_so(voted: Store) -> None:
    people_table.add(voted, new := Person("new", "New", ANNOTATOR.role))
    assert "not answered a face yet" in text(app_as(new, "my_progress"))


# ---- Rules ----------------------------------------------------------------------------------------------------------------------


def test_rules_lists_what_each_rule_makes_of_the_votes(voted: Store) -> None:
    at = app_as(REVIEWER, "rules")
    about = at.dataframe[0].value
    assert len(about) == 8 and (about["Angry"] == 70).all() and "0** of 70 rows change" in text(at)
    own = app_as(REVIEWER, "rules", votes="annotators' votes").dataframe[0].value
    assert (own.drop(columns=["what it does", "source"]).sum(axis=1) == 70).all() and own.loc["argmax@1", "Angry"] < 70


def test_a_cell_of_the_diff_opens_its_faces_by_its_url(voted: Store) -> None:
    link = {"votes": "annotators' votes", "rule_a": "argmax@1", "rule_b": "strict_majority@1"}
    at = app_as(REVIEWER, "rules", **link)
    table = at.dataframe[1].value
    assert table.to_numpy().sum() == 70 and "Choose a cell" in text(at)
    changed = [(a, b) for a in table.index for b in table.columns if a != b and table.loc[a, b]]
    assert not changed or all(b == "ambiguous" for _, b in changed)
    n = int(table.loc["Angry", "Angry"])
    shown = app_as(REVIEWER, "rules", **link, **{"from": "angry", "to": "angry"})
    assert n and f"**Angry** by argmax@1, **Angry** by strict_majority@1: {n} rows" in text(shown)
    assert "Choose a cell" in text(app_as(REVIEWER, "rules", **link, **{"from": "nonsense", "to": "angry"}))


def test_rules_say_when_there_are_no_such_votes(store: Store) -> None:
    assert "No face has such a vote yet" in text(app_as(REVIEWER, "rules", votes="annotators' votes"))
