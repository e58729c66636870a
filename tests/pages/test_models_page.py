"""The Models page with AppTest: the zoo in one table, the layers of the model that the address names."""

from app_helpers import app_as, text

from fercore.models import BACKBONES, MODELS
from fercore.store import Store


def test_the_zoo_with_its_counts_and_the_layers_of_the_first_model(peopled: Store) -> None:
    at = app_as("rosa", "models")
    zoo, layers = (frame.value for frame in at.dataframe)
    assert list(zoo["model"]) == [*MODELS, *BACKBONES]
    assert dict(zip(zoo["model"], zoo["parameters"], strict=True))["cnn_lstm"] == 457_031
    assert set(zoo.loc[zoo[""] != "", "model"]) == {"s3_cnn", "s3_cnn_k4", "s3_cnn_4conv"}
    assert layers["parameters"].sum() == 1_199_495 and "1,199,495" in text(at)


def test_a_link_names_the_model_and_choosing_another_changes_the_link(peopled: Store) -> None:
    at = app_as("rosa", "models", model="s3_cnn")
    assert "reconstruction" in text(at) and "option.channels" in text(at)
    at.selectbox(key="choose-model").set_value("vggnet").run()
    assert not at.exception and at.query_params["model"] == "vggnet"
    assert at.dataframe[1].value["parameters"].sum() == 29_890_759


def test_a_link_to_an_unknown_model_says_so_and_imports_nothing(peopled: Store) -> None:
    at = app_as("rosa", "models", model="os:system")
    assert at.warning and at.query_params["model"] == "simple_cnn"


def test_an_annotator_may_not_read_it(peopled: Store) -> None:
    at = app_as("ann", "models")
    assert "You may not" in text(at) and not at.dataframe
