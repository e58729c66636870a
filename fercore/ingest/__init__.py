"""Source formats into samples; every rejected row is reported with its reason."""

from fercore.ingest.exported import ExportReport, check_export, import_export
from fercore.ingest.fer2013 import ImportReport, Progress, check, import_fer2013, import_votes
from fercore.ingest.files import read_mapping
from fercore.ingest.images import Method
from fercore.ingest.label_maps import MAPS, LabelMap
from fercore.ingest.label_maps import find as find_map
from fercore.ingest.labels import LabelReport, import_labels
from fercore.ingest.listing import Columns, box_of
from fercore.ingest.pictures import PictureReport, Provenance, import_pictures
from fercore.ingest.tags import import_tags

__all__ = ["MAPS", "Columns", "ExportReport", "ImportReport", "LabelMap", "LabelReport", "Method", "PictureReport", "Progress", "Provenance",
           "box_of", "check", "check_export", "find_map", "import_export", "import_fer2013", "import_labels", "import_pictures", "import_tags",
           "import_votes", "read_mapping"]
