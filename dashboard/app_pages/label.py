"""Relabel: one face, one key."""

from dashboard import labeling
from fercore.schemes import FER7

labeling.page("Label", "Which expression do you perceive? The given label and other people's votes are not shown.", FER7)
