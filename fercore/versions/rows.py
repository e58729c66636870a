"""The manifest as gates, diff and datasheet read it: chosen columns, text missing as "", columns that old manifests lack filled in."""

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fercore.domain import Workspace
from fercore.versions import files

TAGS = ("age_band", "gender")


def rows_of(workspace: Workspace, version_id: str, *columns: str) -> pd.DataFrame:
    """The rows of a version with these columns, all as text, in the order of the file. Raises: NotFound."""
    files.card(workspace, version_id)
    path = workspace.versions / version_id / "manifest.parquet"
    held = pq.read_schema(path).names
    read = pq.read_table(path, columns=[c for c in columns if c in held])
    texts = {c: pc.fill_null(read[c].cast(pa.string()), "") if c in held else pa.array([""] * len(read), pa.string()) for c in columns}
    found: pd.DataFrame = pa.table(texts).to_pandas(strings_to_categorical=False)
    return found
