"""What a source's labels mean: named, versioned maps from its texts to class ids. What a map does not know stays unmapped, never dropped."""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fercore.curation import schemes as book
from fercore.errors import BadInput, NotFound
from fercore.ingest.files import read_mapping
from fercore.ingest.folder import shown
from fercore.schemes import SCHEMES
from fercore.store import Store

_WORDS = {
    "angry": ("anger", "angry"), "disgust": ("disgust", "disgusted"), "fear": ("fear", "fearful", "scared", "afraid"),
    "happy": ("happy", "happiness", "joy"), "sad": ("sad", "sadness"), "surprise": ("surprise", "surprised"),
    "neutral": ("neutral", "neutrality"), "contempt": ("contempt",),
}
_GENERIC = {word: class_id for class_id, words in _WORDS.items() for word in words}
_SEVEN = {word: class_id for word, class_id in _GENERIC.items() if class_id != "contempt"}


@dataclass(frozen=True)
class LabelMap:
    """One map. Keys of `classes` are folded texts, its values class ids."""

    map_id: str
    classes: dict[str, str]

    def __call__(self, text: str | None) -> str | None:
        """The class id of a source's text; None when there is none."""
        return self.classes.get(folded(text)) if text is not None else None


def folded(text: str) -> str:
    """Texts that differ in case, blanks, dashes or underscores only are one."""
    return re.sub(r"[\s_-]+", " ", text).strip().casefold()


def _numbered(first: int, *class_ids: str | None) -> dict[str, str]:
    return {str(n): c for n, c in enumerate(class_ids, first) if c}


_FER2013 = {**_numbered(0, "angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"), **_SEVEN}
MAPS = {m.map_id: m for m in (
    LabelMap("generic@1", _GENERIC),
    LabelMap("fer2013@1", _FER2013),
    LabelMap("expw@1", _FER2013),
    LabelMap("rafdb@1", {**_numbered(1, "surprise", "fear", "disgust", "happy", "sad", "angry", "neutral"), **_SEVEN}),
    # Eight classes to the common seven: contempt (7) stays unmapped, and so do none, uncertain and no face (8-10).
    LabelMap("affectnet@1", {**_numbered(0, "neutral", "happy", "sad", "surprise", "fear", "disgust", "angry"), **_SEVEN}),
    LabelMap("fed@1", {"agree": "amenability", "amenability": "amenability", "think": "concentration", "concentration": "concentration",
                       "confusion": "confusion", "aversion": "aversion"}),
    LabelMap("oahega@1", {w: c for w, c in _SEVEN.items() if c in ("angry", "happy", "neutral", "sad", "surprise")}),
)}


def find(name: str, store: Store | None = None) -> LabelMap:
    """A built-in map by id ("rafdb@1"; without "@N" its newest version), or a YAML or JSON file of text: class id (null leaves unmapped).

    Args:
        store: whose own schemes' classes a file may name, beside the built-in ones.

    Raises:
        NotFound: no such map or file. BadInput: the file is no such map, or names an unknown class.
    """
    newest = max((m for m in MAPS if m.split("@")[0] == name), default=name, key=lambda m: int(m.split("@")[1]) if "@" in m else 0)
    if newest in MAPS:
        return MAPS[newest]
    path = Path(name)
    if path.suffix.lower() not in (".yaml", ".yml", ".json"):
        raise NotFound("Unknown label map", f"{name!r} is neither built in nor a YAML or JSON file", f"Built in: {', '.join(MAPS)}")
    data = read_mapping(path)
    if isinstance(data.get("labels"), dict):
        data = data["labels"]
    classes, allowed = dict[str, str](), {c.class_id for s in (book.known(store) if store else SCHEMES).values() for c in s.classes}
    for text, class_id in data.items():
        if isinstance(text, bool) or not (class_id is None or (isinstance(class_id, str) and class_id in allowed)):
            raise BadInput("The label map cannot be used", f"{path}: {text!r}: {class_id!r}",
                           f"Write text: class id, with no and yes in quotes. Class ids: {', '.join(sorted(allowed))}; null leaves unmapped")
        if class_id is not None and classes.setdefault(folded(str(text)), class_id) != class_id:
            raise BadInput("The label map cannot be used", f"{path}: {text!r} is there twice, with other classes")
    digest = hashlib.sha256(json.dumps(classes, sort_keys=True).encode()).hexdigest()[:8]
    return LabelMap(f"{shown(path.stem)}@{digest}", classes)


def preview(labels: Iterable[str | None], chosen: LabelMap) -> list[tuple[str | None, str | None, int]]:
    """(text, class id or None, rows) for every text that occurs, the commonest first; a text of None is a row without a label."""
    counts = dict[str | None, int]()
    for text in labels:
        counts[text] = counts.get(text, 0) + 1
    return sorted(((t, chosen(t), n) for t, n in counts.items()), key=lambda r: (-r[2], r[0] or ""))
