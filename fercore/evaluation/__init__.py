"""Metrics, tables and published figures: pure functions over a run's predictions."""

from fercore.evaluation.estimate import Estimate, masked, to_json
from fercore.evaluation.leakage import Leak, Leaks, leak, leaks
from fercore.evaluation.metrics import (
    ClassReport,
    accuracy,
    confusion,
    log_loss,
    macro,
    normalise,
    per_class,
    summary,
    top_k_accuracy,
)
from fercore.evaluation.published import published, published_names
from fercore.evaluation.read import classes_of, predictions, require_unseen
from fercore.evaluation.study import Study, studies, study
from fercore.evaluation.tables import kfold_table, pooled_accuracy

__all__ = ["ClassReport", "Estimate", "Leak", "Leaks", "Study", "accuracy", "classes_of", "confusion", "kfold_table", "leak", "leaks", "log_loss",
           "macro", "masked", "normalise", "per_class", "pooled_accuracy", "predictions", "published", "published_names", "require_unseen",
           "studies", "study", "summary", "to_json", "top_k_accuracy"]
