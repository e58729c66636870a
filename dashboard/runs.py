"""Finished runs on pages that read them."""

import streamlit as st

from dashboard import access, cache
from dashboard.links import named_in_url
from fercore import evaluation
from fercore.domain import Permission
from fercore.training.rundir import Run


def finished_or_stop() -> dict[str, Run]:
    """Finished runs by id, newest first; without any, the page says so, links to Train for who may launch one, and ends."""
    runs = {r.run_id: r for r in cache.finished_runs()}
    if not runs:
        st.info("No finished run yet. A data lead launches one on the Train page.", icon=":material/model_training:")
        if access.actor().may(Permission.TRAIN):
            st.page_link("app_pages/train.py", label="Train", icon=":material/model_training:")
        st.stop()
    return runs


def choose(runs: dict[str, Run]) -> str:
    """The run this page is about. It always stands in the URL, so that a sent link never shows another run in silence."""
    wanted = named_in_url("run", runs, "is not in this workspace, or has not finished")
    chosen = st.selectbox("Run", list(runs), index=list(runs).index(wanted), key=f"run-{wanted}")
    if chosen != wanted:
        st.query_params["run"] = chosen
    return chosen


def basis(run: Run) -> str:
    """One line that says what the numbers of a run stand on."""
    config = run.config
    assert config is not None  # a finished run has one
    stand = (f"out-of-fold predictions of {config.folds} grouped folds over train and val; test was not read" if config.folds
             else "a test part that was split off after balancing" if config.protocol == "leaky"
             else f"test split; {cache.test_sets().told_reads(config.version_id)}")
    what = f"ensemble of {len(config.members)} runs" if config.members else f"{config.model}, seed {config.seed}"
    return f"version **{config.version_id}** · {what} · {stand}{marks(run.run_id)}"


def marks(*run_ids: str) -> str:
    """What must stand beside every figure of these runs, to end a line with; empty for nothing."""
    told = dict.fromkeys(mark for run_id in run_ids for mark in evaluation.marks(cache.workspace(), run_id))
    return "".join(f" · **{mark}**" for mark in told)
