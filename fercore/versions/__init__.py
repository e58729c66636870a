"""Dataset versions: freeze, review, approve; files that verify against one content hash."""

from fercore.versions.files import card, listed, manifest, manifest_sha256, pixels_of, state, verify
from fercore.versions.lifecycle import approve, freeze, reject, submit
from fercore.versions.recipe import Recipe, read_recipe

__all__ = ["Recipe", "approve", "card", "freeze", "listed", "manifest", "manifest_sha256", "pixels_of", "read_recipe",
           "reject", "state", "submit", "verify"]
