"""Metrics, tables and published figures: pure functions over a run's predictions."""

from fercore.evaluation.calibration import Calibration, calibration
from fercore.evaluation.ceiling import HUMAN, Ceiling, ceiling
from fercore.evaluation.compare import LEVEL, Comparison, LabelEffect, Pair, compare, confusion_difference, disagreement, label_effect
from fercore.evaluation.estimate import Estimate, masked, to_json
from fercore.evaluation.leakage import NEAR_UNKNOWN, Leak, Leaks, leak, leaks
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
from fercore.evaluation.published import TABLES, Source, benchmark, inconsistencies, printed, published, published_names
from fercore.evaluation.read import classes_of, labels_of, marks, predictions, require_clean, require_faces, require_unseen, scored_on
from fercore.evaluation.scoring import Scoring, score, scorings
from fercore.evaluation.study import Noise, Study, noise, plots, studies, study
from fercore.evaluation.tables import beside_published, kfold_table, pooled_accuracy

__all__ = ["HUMAN", "LEVEL", "NEAR_UNKNOWN", "TABLES", "Calibration", "Ceiling", "ClassReport", "Comparison", "Estimate", "LabelEffect", "Leak",
           "Leaks", "Noise", "Pair", "Scoring", "Source", "Study", "accuracy", "benchmark", "beside_published", "calibration", "ceiling",
           "classes_of", "compare", "confusion", "confusion_difference", "disagreement", "inconsistencies", "kfold_table", "label_effect",
           "labels_of", "leak", "leaks", "log_loss", "macro", "marks", "masked", "noise", "normalise", "per_class", "plots", "pooled_accuracy",
           "predictions", "printed", "published", "published_names", "require_clean", "require_faces", "require_unseen", "score", "scored_on",
           "scorings", "studies", "study", "summary", "to_json", "top_k_accuracy"]
