"""The bias table, the whole examination and its HTML report, beside Fairlearn's bootstrap in the same run. Run: python tests/bench/bench_bias.py [--run RUN]

Prints seconds by the clock and of the processor, which other work on the machine does not change. Fairlearn draws rows one sample after the other, so its time for 1,000 draws is extrapolated from a few, and is said to be.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from fairlearn.metrics import MetricFrame
from sklearn.metrics import accuracy_score, recall_score

from fercore.bias import bias_table, document, examine
from fercore.bias.inference import group_tests
from fercore.bias.report import grouped, table_of
from fercore.domain import Workspace
from tests.core.prediction_frames import CLASSES, faces

FACES, DRAWS, PARTNER_DRAWS = 32_000, 1000, 5


def best(action: Callable[[], object], times: int = 5) -> str:
    seconds = []
    for _ in range(times):
        clock, used = time.perf_counter(), time.process_time()
        action()
        seconds.append((time.perf_counter() - clock, time.process_time() - used))
    return f"{min(s[0] for s in seconds):.2f} s by the clock, {min(s[1] for s in seconds):.2f} s of the processor"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=Path("data/workspace"))
    parser.add_argument("--run", help="also examine this run and write its report")
    asked = parser.parse_args()
    for copies in (0.0, 0.05):
        frame = faces(FACES, copies=copies)
        groups = frame["age_band"].nunique() + frame["gender"].nunique()
        print(f"{FACES:,} predictions, {groups} groups, {DRAWS:,} draws, {copies:.0%} of the rows copies of others")
        print(f"  table with intervals, best of 5       {best(lambda f=frame: bias_table(f, CLASSES))}   (wanted: 0.5)")
        found = grouped(frame, CLASSES)
        print(f"  of which the bootstrap                {best(lambda f=frame: grouped(f, CLASSES))}")
        print(f"  permutation tests of both attributes  {best(lambda g=found: group_tests(g))}")
    frame = faces(FACES)

    def theirs(draws: int) -> MetricFrame:
        return MetricFrame(metrics={"accuracy": accuracy_score, "recall": lambda y, z: recall_score(y, z, average="macro")}, y_true=frame["label"],
                           y_pred=frame["predicted"], sensitive_features=frame[["age_band"]], n_boot=draws, ci_quantiles=[0.025, 0.975],
                           random_state=0)

    start = time.perf_counter()
    theirs(PARTNER_DRAWS)
    a_draw = (time.perf_counter() - start) / PARTNER_DRAWS
    print(f"Fairlearn's MetricFrame, accuracy and macro recall of 3 groups: {a_draw:.2f} s a draw, so {DRAWS * a_draw:,.0f} s for {DRAWS:,} draws "
          f"(extrapolated from {PARTNER_DRAWS})")
    many = MetricFrame(metrics=accuracy_score, y_true=frame["label"], y_pred=frame["predicted"], sensitive_features=frame["age_band"], n_boot=200,
                       ci_quantiles=[0.025, 0.975], random_state=0)
    ours = {r.value: r.accuracy for r in table_of(grouped(frame, CLASSES)).rows if r.accuracy.value is not None}
    apart = max(abs(getattr(ours[g], end) - many.by_group_ci[i][g]) for i, end in enumerate(("low", "high")) for g in many.by_group.index)
    print(f"largest distance of the limits of accuracy from theirs at 200 draws: {100 * apart:.2f} points")
    if asked.run:
        place = Workspace(asked.workspace)
        start = time.perf_counter()
        result = examine(place, asked.run)
        print(f"{asked.run}: examined in {time.perf_counter() - start:.2f} s cold, {best(lambda: examine(place, asked.run), 3)} warm, "
              f"{result.scope.tested:,} faces, {result.scope.tagged:,} tagged")
        start = time.perf_counter()
        made = document.html(result)
        print(f"HTML report: {time.perf_counter() - start:.2f} s cold, {best(lambda: document.html(result), 3)} warm, {np.ceil(len(made) / 1000):,.0f} KB "
              "(wanted: 10 s, 5,000 KB)")


if __name__ == "__main__":
    main()
