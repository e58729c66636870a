"""Finished runs on pages that read them."""

import streamlit as st

from dashboard import cache
from fercore.training.rundir import Run


def finished_or_stop() -> dict[str, Run]:
    """Finished runs by id, newest first; without any, the page says so, links to Train and ends."""
    runs = {r.run_id: r for r in cache.finished_runs()}
    if not runs:
        st.info("No finished run yet.", icon=":material/model_training:")
        st.page_link("app_pages/train.py", label="Train", icon=":material/model_training:")
        st.stop()
    return runs
