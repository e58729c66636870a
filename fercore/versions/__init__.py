"""Dataset versions: freeze, review, approve; files that verify against one content hash."""

from fercore.versions import build, export, shipped
from fercore.versions.files import card, listed, manifest, manifest_sha256, pixels_of, state, verify
from fercore.versions.lifecycle import approve, freeze, recover, reject, submit
from fercore.versions.recipe import Recipe, as_yaml, parse_recipe, read_recipe

__all__ = ["Recipe", "approve", "as_yaml", "build", "card", "export", "freeze", "listed", "manifest", "manifest_sha256", "parse_recipe",
           "pixels_of", "read_recipe", "recover", "reject", "shipped", "state", "submit", "verify"]
