"""The one error tree of the product.

FerError
├── BadInput        what was given cannot be used (file, row, value, path)
├── WorkspaceError  the workspace cannot be opened or written
├── NotAllowed      the person's role does not permit the act
├── NotFound        a named thing does not exist
├── Conflict        the act contradicts what is already recorded
└── TrainingError   a run could not start or finish
"""


class FerError(Exception):
    """An error a person can act on.

    Args:
        title: what went wrong, in one short sentence without a full stop.
        detail: what happened, with the file, row or value at fault.
        remedy: what to do now.
    """

    def __init__(self, title: str, detail: str = "", remedy: str = "") -> None:
        super().__init__(title)
        self.title, self.detail, self.remedy = title, detail, remedy

    def __str__(self) -> str:
        return ". ".join(part.rstrip(".") for part in (self.title, self.detail, self.remedy) if part) + "."


class BadInput(FerError):
    """What was given cannot be used."""


class WorkspaceError(FerError):
    """The workspace cannot be opened or written."""


class NotAllowed(FerError):
    """The person's role does not permit the act."""


class NotFound(FerError):
    """A named thing does not exist."""


class Conflict(FerError):
    """The act contradicts what is already recorded."""


class TrainingError(FerError):
    """A run could not start or finish."""
