"""Label schemes: versioned lists of classes with stable ids, one colour and one key each."""

from collections.abc import Iterable
from dataclasses import dataclass

from fercore.errors import NotFound

CANNOT_TELL = "cannot_tell"


@dataclass(frozen=True)
class LabelClass:
    """One class. `class_id` never changes; `keys` are KeyboardEvent.code values (physical keys); a retired class is read but not offered."""

    class_id: str
    name: str
    colour: str
    keys: tuple[str, ...] = ()
    retired: bool = False


@dataclass(frozen=True)
class Scheme:
    """One immutable version, "name@N", of an ordered list of classes for one field; the place of a class in `ids` is its index in model outputs."""

    scheme_id: str
    field: str
    name: str
    classes: tuple[LabelClass, ...]

    @property
    def slug(self) -> str:
        """The name that all versions share."""
        return self.scheme_id.rpartition("@")[0]

    @property
    def number(self) -> int:
        return int(self.scheme_id.rpartition("@")[2])

    @property
    def offered(self) -> tuple[LabelClass, ...]:
        """The classes that can be chosen: all but the retired ones."""
        return tuple(c for c in self.classes if not c.retired)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the offered classes."""
        return tuple(c.class_id for c in self.offered)

    def __getitem__(self, class_id: str) -> LabelClass:
        """Also of a retired class: its votes stay readable. Raises: NotFound."""
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

# Apart from the eight and from each other by at least their own smallest distance (OKLab 0.118), with contrast of 3 on both themes.
_ENGAGED = LabelClass("engaged", "Engaged", "#9900FF", ("KeyE",))
_FOCUSED = LabelClass("focused", "Focused", "#7777FF", ("KeyU",))
_BORED = LabelClass("bored", "Bored", "#776600", ("KeyI",))

# FER-2013's own order: index 0-6 are the integers in its `emotion` column.
FER7 = Scheme("fer7@1", "expression", "FER-2013, 7 classes", (_ANGRY, _DISGUST, _FEAR, _HAPPY, _SAD, _SURPRISE, _NEUTRAL))
FER8 = Scheme("fer8@1", "expression", "FER+, 8 classes", (*FER7.classes, _CONTEMPT))
# These ask another question than "expression": each has a field of its own, so that no answer to one overwrites an answer to another.
ENGAGED4 = Scheme("engaged4@1", "engaged4", "Engaged, 4 classes", (_ENGAGED, _HAPPY, _NEUTRAL, _SURPRISE))
FOCUS4 = Scheme("focus4@1", "focus4", "Focused and bored, 4 classes", (_NEUTRAL, _ANGRY, _FOCUSED, _BORED))
MERGED4 = Scheme("merged4@1", "merged4", "Many sources, 4 classes", (_ANGRY, _ENGAGED, _HAPPY, _NEUTRAL))
FED4 = Scheme("fed4@1", "fed4", "FED 2023, 4 classes", (
    LabelClass("amenability", "Amenability", "#CC0066", ("KeyA", "Digit1")),
    LabelClass("confusion", "Confusion", "#FF11FF", ("KeyS", "Digit2")),
    LabelClass("aversion", "Aversion", "#885577", ("KeyK", "Digit3")),
    LabelClass("concentration", "Concentration", "#0055FF", ("KeyL", "Digit4")),
))

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
FLAGS = {"non_face": ("Non-face", "KeyN"), "dark": ("Too dark", "KeyB"), "occluded": ("Occluded", "KeyO"),
         "artificial": ("Artificial (drawn or filtered)", ""), "extreme_pose": ("Extreme pose (over 75 degrees)", "")}
# A flag without a key is asked in a wall of faces or set from the audit, never in the row of flags beside a single face.
# Why a face is left out of versions (field "exclude"), and what is done to its copy in a version (field "transform"); the face stays as it is.
EXCLUSIONS = {"duplicate": "Duplicate", "non_face": "No face", "artificial": "Artificial", "extreme_pose": "Extreme pose", "dark": "Too dark",
              "bright": "Too bright", "blurred": "Blurred", "flat": "Nothing to see", "wrong_label": "Label cannot be right", "other": "Other"}
TRANSFORMS = {"brighten_1.25": "Brightened by 1.25", "brighten_1.5": "Brightened by 1.5", "brighten_2": "Brightened by 2",
              "gamma_0.67": "Brightened by gamma 0.67", "gamma_0.5": "Brightened by gamma 0.5"}

SCHEMES = {s.scheme_id: s for s in (FER7, FER8, ENGAGED4, FOCUS4, MERGED4, FED4, AGE_BANDS, GENDERS)}
CLASSES = {c.class_id: c for s in SCHEMES.values() for c in s.classes}
# Keys that the labeling component acts on itself; no class or flag has one.
RESERVED_KEYS = frozenset({"Space", "Backspace", "KeyZ", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "Digit0", "KeyC", "KeyG",
                           "KeyX", "KeyH", "Escape", "Tab", "Enter", "NumpadEnter", "Slash"})

# FER+ vote columns, in file order, as class ids; "unknown" and "non_face" are answers outside the scheme.
FERPLUS_COLUMNS = {"neutral": "neutral", "happiness": "happy", "surprise": "surprise", "sadness": "sad", "anger": "angry",
                   "disgust": "disgust", "fear": "fear", "contempt": "contempt", "unknown": "unknown", "NF": "non_face"}


def values_of(field: str, more: Iterable[Scheme] = ()) -> frozenset[str]:
    """The values a vote on `field` may take, by the built-in schemes and `more`.

    Class ids, also of retired classes, and "cannot_tell"; "yes" or "no" for a flag; for a second choice ("expression_2") the class ids alone;
    reasons for "exclude", edits for "transform".

    Raises:
        NotFound: no scheme asks for the field.
    """
    if field.startswith("flag_") and field.removeprefix("flag_") in FLAGS:
        return frozenset({"yes", "no"})
    if field in ("exclude", "transform"):
        return frozenset(EXCLUSIONS if field == "exclude" else TRANSFORMS)
    asked, base = (*SCHEMES.values(), *more), field.removesuffix("_2")
    ids = {c.class_id for s in asked if s.field == base for c in s.classes}
    if not ids:
        raise NotFound("Unknown field", f"{field!r} cannot be labelled", f"Choose {', '.join(dict.fromkeys(s.field for s in asked))} or a flag")
    return frozenset(ids if field != base else {*ids, CANNOT_TELL})


# What an annotator looks for in a 48x48 face: "class" in every scheme, "scheme/class" where a scheme draws the line elsewhere.
GUIDELINES = {
    CANNOT_TELL:
        "Answer cannot tell when the part of the face that decides is hidden, cut off or too blurred, or when two answers stay equally likely "
        "after a second look. Do not guess from age, gender, clothing or background.",
    "angry":
        "Brows lowered and drawn together, often with an upright crease between them; eyes hard or narrowed; lips pressed thin, or the mouth "
        "squared with teeth. Confused with disgust (there the nose wrinkles and the upper lip rises) and with concentration (brows down, mouth "
        "relaxed). Cannot tell when only a shadow makes the brows look low.",
    "disgust":
        "Nose wrinkled, upper lip raised, cheeks pushed up under narrowed eyes; the mouth may be open with the lower lip forward. Confused with "
        "anger (lips pressed, nose smooth) and contempt (one side of the mouth only). Cannot tell when nose and mouth are covered.",
    "fear":
        "Brows raised and drawn together, so that the forehead creases in the middle; upper lids high, white above the iris; lips stretched "
        "sideways. Confused with surprise (brows arched and apart, jaw dropped and loose). Cannot tell when eyes and brows are not visible.",
    "happy":
        "Corners of the mouth drawn up and back, cheeks raised, folds below the eyes; teeth may show. A mouth that smiles while the eyes do not "
        "is still perceived as happy here. Confused with contempt (one corner only) and with teeth bared in anger or pain. Cannot tell when the "
        "mouth is covered.",
    "sad":
        "Inner ends of the brows raised, lids heavy or gaze down, corners of the mouth drawn down, chin sometimes bunched. Confused with neutral "
        "(a mouth that droops at rest, often in older faces) and fear (eyes wide). Cannot tell when the head is bowed so far that brows and mouth "
        "are lost.",
    "surprise":
        "Brows high and arched, eyes wide, jaw dropped with a loose oval mouth. Confused with fear (brows drawn together, mouth stretched) and "
        "with speaking or singing (mouth open, brows at rest). Cannot tell when only an open mouth is visible.",
    "neutral":
        "No part of the face is clearly moved: brows level, lids at rest, lips closed or slightly parted. Confused with sad (corners of the mouth "
        "drawn down) and angry (brows drawn together); features that droop at rest are neutral. Cannot tell when blur may hide a faint movement.",
    "contempt":
        "One corner of the mouth tightened and raised, the other at rest, often with the head tilted back. Confused with a crooked smile (cheek "
        "and eye move too) and disgust (both sides, nose wrinkled). Cannot tell in a strong profile, where the sides cannot be compared.",
    "engaged":
        "Gaze directed at something, eyes open and steady, brows level or slightly down, mouth at rest: the person is perceived as attentive. "
        "Confused with neutral (gaze idle, lids at rest) and with anger (brows drawn together, lips pressed). Cannot tell when the eyes are "
        "closed, dark or cut off.",
    "engaged4/neutral":
        "Face at rest and gaze idle: nothing suggests attention to something. Confused with engaged (gaze fixed, eyes alert); when the eyes are "
        "alert, choose engaged. Cannot tell when the eyes are not visible.",
    "focused":
        "Eyes fixed on one thing, lids slightly narrowed, brows level or slightly down, mouth still. Confused with angry (lips pressed or teeth "
        "shown, upright crease between the brows) and neutral (gaze idle). Cannot tell when the eyes are not visible.",
    "bored":
        "Lids half closed or gaze drifting away, cheeks slack, mouth slack or corners slightly down, head often propped up. Confused with sad "
        "(inner brows raised) and neutral (lids open, gaze straight). Cannot tell when closed eyes may be only a blink.",
    "focus4/neutral":
        "Face at rest, lids open, gaze neither fixed nor drifting. Confused with focused (eyes fixed, lids narrowed) and bored (lids half closed, "
        "cheeks slack). Cannot tell when the eyes are not visible.",
    "amenability":
        "Open and approving: light smile or soft mouth, brows relaxed or slightly raised, gaze towards the viewer. Confused with concentration "
        "(no smile, gaze fixed). Cannot tell when eyes and mouth contradict each other.",
    "confusion":
        "Brows uneven or drawn together without hardness, eyes narrowed or searching, lips pursed or pulled to one side, head tilted. Confused "
        "with concentration (brows even, gaze steady) and aversion (face turned or nose wrinkled). Cannot tell when the brows are hidden.",
    "aversion":
        "Face or gaze turned away, nose slightly wrinkled, mouth tight or pulled down: the person is perceived as wanting distance. Confused with "
        "confusion (gaze searching, not leaving). Cannot tell when only the pose of the head is turned and the face is at rest.",
    "concentration":
        "Gaze steady on one thing, brows slightly down and even, mouth still or lips lightly pressed. Confused with confusion (brows uneven, head "
        "tilted) and amenability (mouth soft or smiling). Cannot tell when the eyes are not visible.",
    "child":
        "Perceived age up to about 12: large forehead and eyes for the face, full cheeks, small nose and chin, smooth skin. Confused with young "
        "(jaw and nose grown out). This is how old the face looks, not how old the person is. Cannot tell when blur smooths every face.",
    "young":
        "Perceived age from about 13 to 35: adult proportions, smooth skin, firm contour of cheeks and jaw. Confused with child (full cheeks, "
        "small chin) and middle-aged (lines that stay at rest). Make-up and low resolution make faces look younger. Cannot tell when the skin is "
        "not visible.",
    "middle_aged":
        "Perceived age from about 36 to 60: lines beside the nose and on the forehead that stay at rest, softer jaw, hair thinning or greying. "
        "Confused with young (lines only from the expression) and senior (sagging skin, many fine lines). Cannot tell in hard shadow.",
    "senior":
        "Perceived age above about 60: sagging lids and cheeks, many lines at rest, thin lips, often white hair. Confused with middle-aged; a "
        "strong expression adds lines, so look at cheeks and neck. Grey hair alone does not decide. Cannot tell when the face is blurred.",
    "female":
        "Gender presentation perceived as female, from the whole picture: face, hair, make-up, dress. It says how the person is perceived, not "
        "who they are. Cannot tell for most young children, for cropped or covered faces, and whenever you would have to guess.",
    "male":
        "Gender presentation perceived as male, from the whole picture: face, hair, beard, dress. It says how the person is perceived, not who "
        "they are. Cannot tell for most young children, for cropped or covered faces, and whenever you would have to guess.",
    "flags/non_face":
        "No human face: an object, text, an empty or broken picture, an animal, or so little of a face that no expression could show. Drawings, "
        "statues and masks are no faces either. A blurred or turned face is still a face: answer cannot tell instead.",
    "flags/dark":
        "Too dark to judge: brows, eyes or mouth cannot be made out even while you hold G to brighten. A dark picture in which the expression can "
        "still be seen gets its answer and no flag.",
    "flags/occluded":
        "A hand, hair, glasses, a mask, text or the edge of the picture covers brows, eyes or mouth. Set it also when the expression is still "
        "clear, and give the answer as well; without a clear expression answer cannot tell.",
    "flags/artificial":
        "A human face that no camera saw as it is here: painted or drawn in part, morphed, or under a filter that changes its features. A face "
        "that is wholly a drawing, a doll or a statue is a non-face. Colours, grain and contrast of an old photograph are not artificial.",
    "flags/extreme_pose":
        "The head is turned or tilted by more than about 75 degrees: in a full profile one eye is not seen at all; from above or below the mouth "
        "or the eyes are hidden by the head itself. Both eyes in the picture mean no extreme pose.",
}
GUIDELINES["merged4/neutral"] = GUIDELINES["engaged4/neutral"]


def guideline_of(slug: str, class_id: str) -> str:
    """The built-in guideline of a class in a scheme; "" where there is none."""
    return GUIDELINES.get(f"{slug}/{class_id}", GUIDELINES.get(class_id, ""))
