"""First votes: one face, one key."""

from dashboard import labeling

labeling.page("label", "Label", "Which expression do you perceive? The given label and other people's votes are not shown.",
              "No labeling campaign is open for you.")
