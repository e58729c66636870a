"""Train, Studies and Results of leaky runs, on runs of a small version."""

from collections.abc import Iterator

import pytest
import yaml
from app_helpers import app_as, text
from helpers import LEAD, REVIEWER

from dashboard import cache, train_forms
from fercore import jobs
from fercore.domain import Workspace
from fercore.errors import BadInput
from fercore.store import Store
from fercore.training.config import run_config
from fercore.training.worker import run
from tests.core.test_protocols import BASE, with_votes
from tests.core.version_files import make_version


@pytest.fixture
def trained(peopled: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A study of two seeds and a leaky run, all finished in this process; nothing else starts."""
    monkeypatch.setenv("FERCORE_DEVICES", "0")
    workspace = make_version(peopled.workspace.root)
    with_votes(workspace)
    jobs.start_study(workspace, "seeds", [run_config(BASE | {"epochs": 1, "seed": s, "flip": s < 1}) for s in (0, 1)], LEAD)
    jobs.start(workspace, run_config(BASE | {"epochs": 1, "protocol": "leaky", "balance": "ros"}), LEAD)
    for found in jobs.list_runs(workspace):
        assert run(found.path, 0) == "finished"
    yield workspace
    cache.finished_runs()


def of(workspace: Workspace, protocol: str) -> str:
    return next(r.run_id for r in jobs.list_runs(workspace) if r.config and r.config.protocol == protocol)


def test_train_lists_runs_with_their_marks_and_shows_the_one_of_the_link(trained: Workspace) -> None:
    run_id = of(trained, "leaky")
    at = app_as(REVIEWER.person_id, "train", run=run_id)
    assert run_id in text(at) and ":red-badge[leaky]" in text(at) and ":violet-badge[exploratory]" in text(at) and "study seeds" in text(at)
    assert not [b.label for b in at.button if b.label in ("Launch training", "Make an ensemble")]  # a reviewer launches nothing
    other = of(trained, "hold_out")
    at.multiselect[0].set_value([other]).run()
    assert not at.exception


def test_the_form_offers_all_settings_and_launches_nothing_unapproved_before_that_is_confirmed(trained: Workspace) -> None:
    at = app_as(LEAD.person_id, "train")
    next(b for b in at.button if b.label == "Launch training").click().run()  # what a dialog does next is for a browser: the journey launches
    assert next(b for b in at.button if b.label == "Launch").disabled and any("not approved" in c.label for c in at.checkbox)
    settings = yaml.safe_load(at.text_area[0].value)
    values = settings | {"version_id": "blobs-1", "seed": 4, "balance": "none", "epochs": 3}
    made = train_forms._grid(values, ["simple_cnn", "cnn_lstm"], [], 4, 3)
    assert [(c.model, c.seed, c.balance) for c in made] == [(m, s, "none") for m in ("simple_cnn", "cnn_lstm") for s in (4, 5, 6)]


@pytest.mark.parametrize(("written", "says"), [("- 1", "They are a list"), ("a: [", "cannot be read"), ("weights: /etc/passwd", "own field")])
def test_settings_that_are_no_settings_are_refused(written: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        train_forms._read(written)


def test_studies_show_runs_means_and_a_warning_about_test(trained: Workspace) -> None:
    at = app_as(REVIEWER.person_id, "studies")
    assert "2 of 2 runs finished" in text(at) and "too good by chance" in text(at) and len(at.dataframe) == 2
    assert set(at.dataframe[1].value["state"]) == {"finished"}


def test_without_a_study_the_page_says_how_to_make_one(peopled: Store) -> None:
    assert "No study yet" in text(app_as(REVIEWER.person_id, "studies"))


def test_results_of_a_leaky_run_say_so_and_bias_explains_why_it_shows_no_table(trained: Workspace) -> None:
    run_id = of(trained, "leaky")
    at = app_as(REVIEWER.person_id, "results", run=run_id)
    assert "Leaky, for comparison only" in text(at) and "identical copy in training" in text(at)
    at.query_params["run"] = run_id
    at.switch_page("app_pages/bias.py").run()
    assert not at.exception and "No predicted face has a tag" in text(at)
    assert len(at.dataframe) == 1 and "to tag" in at.dataframe[0].value.columns  # who is missing
