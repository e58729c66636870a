"""What "balance, then split" does to an accuracy: the figures of a leaky run, with intervals, beside a clean one."""

import json
from dataclasses import dataclass

from fercore.domain import Workspace
from fercore.errors import BadInput
from fercore.evaluation.estimate import Estimate, wilson
from fercore.evaluation.metrics import accuracy
from fercore.evaluation.read import predictions


@dataclass(frozen=True)
class Leak:
    """A leaky run explained. Shares are 0-1 with 95 % Wilson intervals over test rows, in which copies count as the published systems counted them.

    Attributes:
        leaky: accuracy over every row of the leaky test part.
        clean: accuracy of the clean run, over its own test or out-of-fold faces; without one, of this run's test faces that were not trained on.
        clean_from: the clean run, or None.
        copied: share of the test rows whose very pixels were trained on; `copied_by_class` by class.
        on_copied, on_made, on_fresh: accuracy over those rows, over faces that balancing made, and over the rest.
        predicted: copied + (1 - copied) * clean: the accuracy if every copy is right and the rest as good as clean.
        inflation: leaky - clean, in shares; an unpaired difference over different rows.
    """

    run_id: str
    method: str
    leaky: Estimate
    clean: Estimate
    clean_from: str | None
    copied: Estimate
    copied_by_class: dict[str, Estimate]
    on_copied: Estimate
    on_made: Estimate
    on_fresh: Estimate
    predicted: float | None
    inflation: float | None


def leak(workspace: Workspace, run_id: str, clean: str | None = None) -> Leak:
    """Explain a leaky run, against a clean run when one is named.

    Raises:
        NotFound: no such run. BadInput: it is not leaky, the clean one is, or they are on different versions.
        Conflict: a run is not finished.
    """
    path = workspace.runs / run_id / "leak.json"
    predictions(workspace, run_id)  # refuses what cannot be read, as for any run
    if not path.is_file():
        raise BadInput("Not a leaky run", f"{run_id} splits before it balances", "Choose a run with protocol=leaky")
    found = json.loads(path.read_bytes())

    def share(about: dict[str, int]) -> Estimate:
        return _share(about["k"], about["n"])

    cleaned = share(found["accuracy_fresh"])
    if clean:
        other = predictions(workspace, clean)
        if (workspace.runs / clean / "leak.json").is_file():
            raise BadInput("Not a clean run", f"{clean} is leaky itself", "Choose a hold-out or k-fold run")
        versions = [json.loads((workspace.runs / r / "config.json").read_bytes())["version_id"] for r in (run_id, clean)]
        if versions[0] != versions[1]:
            raise BadInput("Runs on different versions", f"{run_id} is on {versions[0]}, {clean} on {versions[1]}", "Choose runs on one version")
        cleaned = accuracy(other)
    copied, leaky = share(found["share_copied"]), share(found["accuracy"])
    known = cleaned.value is not None and copied.value is not None and leaky.value is not None
    return Leak(run_id, found["method"], leaky, cleaned, clean, copied, {c: share(v) for c, v in found["share_copied_by_class"].items()},
                share(found["accuracy_copied"]), share(found["accuracy_made"]), share(found["accuracy_fresh"]),
                copied.value + (1 - copied.value) * cleaned.value if known else None,  # type: ignore[operator]
                leaky.value - cleaned.value if known else None)  # type: ignore[operator]


def _share(k: int, n: int) -> Estimate:
    return Estimate(k / n, *wilson(k / n, n), n) if n else Estimate(None, None, None, 0, "no such rows")

