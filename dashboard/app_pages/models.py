"""The model zoo: every network a run can train, and the layers of the chosen one."""

import pandas as pd
import streamlit as st

from dashboard import access, cache
from dashboard.links import choose_in_url
from fercore.domain import Permission
from fercore.models import BACKBONES, MODELS

access.actor().require(Permission.READ_RESULTS)
KNOWN = MODELS | BACKBONES
_PARAMETERS = {"parameters": st.column_config.NumberColumn(format="localized")}

st.title("Models")
with st.spinner("Counting parameters", show_time=True):
    counts = cache.parameter_counts()
st.dataframe(pd.DataFrame([{"model": m.name, "title": m.title, "parameters": counts[m.name], "input": str(m.input), "source": m.source,
                            "": "reconstruction" * m.reconstruction} for m in KNOWN.values()]), hide_index=True, height=240,
             column_config=_PARAMETERS)
st.caption("Trainable parameters for 7 classes. Input: channels, height and width, and how gray values 0-255 are scaled. Reconstruction: the "
           "source does not say enough to rebuild it exactly.")

name = choose_in_url("model", {m.name: f"{m.name}: {m.title}" for m in KNOWN.values()}, label="Model", width=520)
spec = KNOWN[name]
st.subheader(spec.title)
st.markdown(f"**{counts[name]:,}** trainable parameters for 7 classes · input {spec.input} · {access.plain(spec.source)}"
            + " · :orange-badge[reconstruction]" * spec.reconstruction)
st.markdown(access.plain(spec.notes))
if spec.options:
    st.caption("A run may set " + ", ".join(f"`option.{o}` ({', '.join(map(str, v)) if isinstance(v, tuple) else v})"
                                            for o, v in spec.options.items()))
st.dataframe(cache.architecture(name), hide_index=True, column_config=_PARAMETERS)
