"""Dataset versions: freeze, review, sign; files that verify against one content hash."""

from fercore.versions import datasheet, diff, gates, policy, record
from fercore.versions.files import card, listed, manifest, manifest_sha256, pixels_of, state, trainable, verify
from fercore.versions.lifecycle import answer, approve, deprecate, freeze, reject, release, revoke, submit, waive
from fercore.versions.recipe import Recipe, read_recipe

__all__ = ["Recipe", "answer", "approve", "card", "datasheet", "deprecate", "diff", "freeze", "gates", "listed", "manifest", "manifest_sha256",
           "pixels_of", "policy", "read_recipe", "record", "reject", "release", "revoke", "state", "submit", "trainable", "verify", "waive"]
