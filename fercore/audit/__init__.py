"""Findings: what is noticed about samples. Thresholds on the mean pixel value follow the published systems."""

import pandas as pd

from fercore.domain import Permission, Person
from fercore.store import Store, findings

BRIGHT_ABOVE = 230.0  # mean pixel value; S2's outliers: exactly 28 faces of the whole FER-2013 file
DARK_BELOW = 40.0  # mean pixel value
FLAT_BELOW = 10.0  # standard deviation of pixel values

KINDS = {"exact_duplicate": "Exact duplicates", "conflicting_duplicate": "Duplicates with different labels",
         "cross_split_duplicate": "Duplicates across splits", "dark": "Dark", "bright": "Bright outliers", "flat": "Flat"}


def run(store: Store, actor: Person) -> pd.DataFrame:
    """Audits every sample anew and returns the summary (kind, n_samples, n_groups).

    Raises:
        NotAllowed: the actor may not audit.
    """
    actor.require(Permission.IMPORT)
    findings.replace(store, dark_below=DARK_BELOW, bright_above=BRIGHT_ABOVE, flat_below=FLAT_BELOW)
    return findings.summary(store)
