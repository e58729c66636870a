"""Tag perceived age and gender, in a pass of their own."""

from dashboard import labeling

labeling.page("tag", "Tag", "How old does the person look, and how do they present? It is what you perceive; key 0 says that you cannot tell.",
              "No tagging campaign is open for you.")
