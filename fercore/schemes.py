"""Label schemes: versioned lists of classes with stable ids, one colour and one key each."""

from dataclasses import dataclass

from fercore.errors import NotFound

CANNOT_TELL = "cannot_tell"


@dataclass(frozen=True)
class LabelClass:
    """One class. `class_id` never changes; `keys` are KeyboardEvent.code values (physical keys)."""

    class_id: str
    name: str
    colour: str
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scheme:
    """An ordered list of classes for one field; the position of a class is its index in model outputs."""

    scheme_id: str
    field: str
    name: str
    classes: tuple[LabelClass, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(c.class_id for c in self.classes)

    def __getitem__(self, class_id: str) -> LabelClass:
        for c in self.classes:
            if c.class_id == class_id:
                return c
        raise NotFound("Unknown class", f"{class_id!r} is not in {self.scheme_id}", f"Choose one of {', '.join(self.ids)}")


# Okabe-Ito colours; every page and plot uses this assignment.
_ANGRY = LabelClass("angry", "Angry", "#D55E00", ("KeyA", "Digit1"))
_DISGUST = LabelClass("disgust", "Disgust", "#009E73", ("KeyD", "Digit2"))
_FEAR = LabelClass("fear", "Fear", "#CC79A7", ("KeyF", "Digit3"))
_HAPPY = LabelClass("happy", "Happy", "#E69F00", ("KeyJ", "Digit4"))
_SAD = LabelClass("sad", "Sad", "#0072B2", ("KeyS", "Digit5"))
_SURPRISE = LabelClass("surprise", "Surprise", "#56B4E9", ("KeyK", "Digit6"))
_NEUTRAL = LabelClass("neutral", "Neutral", "#999999", ("KeyL", "Digit7"))
_CONTEMPT = LabelClass("contempt", "Contempt", "#F0E442", ("Semicolon", "Digit8"))

# FER-2013's own order: index 0-6 are the integers in its `emotion` column.
FER7 = Scheme("fer7@1", "expression", "FER-2013, 7 classes", (_ANGRY, _DISGUST, _FEAR, _HAPPY, _SAD, _SURPRISE, _NEUTRAL))
FER8 = Scheme("fer8@1", "expression", "FER+, 8 classes", (*FER7.classes, _CONTEMPT))

# Groups use a second palette (Tol's muted), so that no group looks like an expression.
AGE_BANDS = Scheme("age_band@1", "age_band", "Perceived age", (
    LabelClass("child", "Child", "#332288", ("Digit1",)),
    LabelClass("young", "Young", "#117733", ("Digit2",)),
    LabelClass("middle_aged", "Middle-aged", "#AA4499", ("Digit3",)),
    LabelClass("senior", "Senior", "#882255", ("Digit4",)),
))
GENDERS = Scheme("gender@1", "gender", "Perceived gender presentation", (
    LabelClass("female", "Female", "#44AA99", ("KeyQ",)),
    LabelClass("male", "Male", "#999933", ("KeyW",)),
))
FLAGS = {"non_face": ("Non-face", "KeyN"), "dark": ("Too dark", "KeyB"), "occluded": ("Occluded", "KeyO")}

SCHEMES = {s.scheme_id: s for s in (FER7, FER8, AGE_BANDS, GENDERS)}

# FER+ vote columns, in file order, as class ids; "unknown" and "non_face" are answers outside the scheme.
FERPLUS_COLUMNS = {"neutral": "neutral", "happiness": "happy", "surprise": "surprise", "sadness": "sad", "anger": "angry",
                   "disgust": "disgust", "fear": "fear", "contempt": "contempt", "unknown": "unknown", "NF": "non_face"}


def values_of(field: str) -> frozenset[str]:
    """The values a vote on `field` may take: class ids and "cannot_tell", or "yes" for a flag."""
    if field.removeprefix("flag_") in FLAGS and field.startswith("flag_"):
        return frozenset({"yes"})
    for scheme in (FER8, AGE_BANDS, GENDERS):
        if scheme.field == field:
            return frozenset({*scheme.ids, CANNOT_TELL})
    raise NotFound("Unknown field", f"{field!r} cannot be labelled", "Choose expression, age_band, gender or a flag")
