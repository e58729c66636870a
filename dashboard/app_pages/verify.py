"""A wall of faces that are all said to be one thing: mark the exceptions."""

from dashboard import labeling

labeling.page("verify", "Verify", "", "No verify campaign is open for you.", note="What you leave untouched is confirmed, not voted on")
