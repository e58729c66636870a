"""Tag perceived age and gender, in a pass of their own."""

from dashboard import labeling
from fercore.schemes import AGE_BANDS, GENDERS

labeling.page("Tag", "How old does the person look, and how do they present? It is what you perceive; key 0 says that you cannot tell.",
              AGE_BANDS, GENDERS)
