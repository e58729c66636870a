"""Dataset versions: freeze, review, sign; files that verify against one content hash."""

from fercore.versions import build, datasheet, diff, export, gates, policy, record, shipped
from fercore.versions.files import card, listed, manifest, manifest_sha256, pixels_of, state, trainable, verify
from fercore.versions.lifecycle import answer, approve, check_round_trip, deprecate, freeze, recover, reject, release, revoke, submit, waive
from fercore.versions.recipe import Recipe, as_yaml, parse_recipe, read_recipe

__all__ = ["Recipe", "answer", "approve", "as_yaml", "build", "card", "check_round_trip", "datasheet", "deprecate", "diff", "export", "freeze",
           "gates", "listed", "manifest", "manifest_sha256", "parse_recipe", "pixels_of", "policy", "read_recipe", "record", "recover", "reject",
           "release", "revoke", "shipped", "state", "submit", "trainable", "verify", "waive"]
