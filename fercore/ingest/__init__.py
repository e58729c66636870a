"""Source formats into samples; every rejected row is reported with its reason."""

from fercore.ingest.fer2013 import ImportReport, Progress, check, import_fer2013
from fercore.ingest.tags import import_tags

__all__ = ["ImportReport", "Progress", "check", "import_fer2013", "import_tags"]
