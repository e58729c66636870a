"""Launch training on a version and watch it."""

import pandas as pd
import streamlit as st

from dashboard import access, cache, charts
from dashboard.links import named_in_url
from dashboard.state import session
from fercore import jobs, versions
from fercore.domain import Permission
from fercore.errors import FerError
from fercore.models import MODELS
from fercore.training.config import run_config
from fercore.training.rundir import read_metrics

person = access.actor()
person.require(Permission.READ_RESULTS)
workspace = cache.workspace()
runs = jobs.list_runs(workspace)
_STATES = {"queued": ":gray-badge[queued]", "running": ":blue-badge[running]", "finished": ":green-badge[finished]", "failed": ":red-badge[failed]",
           "cancelled": ":orange-badge[cancelled]", "dead": ":red-badge[dead]"}


@st.dialog("Launch training", width="medium")
def launch_dialog(listed: list[dict]) -> None:
    states = {c["version_id"]: c["state"] for c in listed}
    version_id = st.selectbox("Version", list(states), format_func=lambda v: f"{v} ({states[v].replace('_', ' ')})")
    model = st.selectbox("Model", list(MODELS))
    folds = st.radio("Protocol", [0, 3, 5, 10], horizontal=True, format_func=lambda k: f"{k} folds" if k else "hold-out",
                     captions=["test read once", "", "", "held-out faces only"])
    left, right = st.columns(2)
    epochs = left.number_input("Epochs at most", 1, 300, 15)
    seed = right.number_input("Seed", 0, 2**31, 0)
    flip = st.checkbox("Mirror half of the training faces in each epoch", help="The published SimpleCNN was trained without.")
    if states[version_id] != "approved":
        st.warning(f"{version_id} is not approved: the run is marked exploratory.", icon=":material/science:")
    if st.button("Launch", type="primary", icon=":material/play_arrow:"):
        try:
            run_id = jobs.start(workspace, run_config({"version_id": version_id, "model": model, "protocol": "k_fold" if folds else "hold_out",
                                                       "folds": folds, "epochs": epochs, "seed": seed, "flip": flip}), person)
        except FerError as error:
            st.error(str(error))
        else:
            st.query_params["run"] = run_id
            st.rerun()


@st.fragment(run_every=2.0 if any(r.status.state in ("queued", "running") for r in runs) else None)
def watch(run_id: str) -> None:
    status = jobs.status(workspace, run_id)
    progress = status.progress
    st.markdown(f"{_STATES[status.state]}" + (f" on **{status.device}**" if status.device else ""))
    if status.state in ("queued", "running") and not progress.epochs:
        st.progress(0.0, "Waiting for the device" if status.state == "queued" else "Starting the worker")
    elif status.state in ("queued", "running"):
        eta = "" if progress.eta_s is None else f", about {progress.eta_s:,.0f} s left"
        fold = f"fold {progress.fold + 1} of {progress.folds}, " if progress.folds > 1 else ""
        st.progress(progress.fraction, f"{fold}epoch {progress.epoch} of at most {progress.epochs}, {progress.images_per_s:,.0f} images/s{eta}")
    elif run_id in session().watching:
        session().watching.remove(run_id)
        st.rerun()  # it has just ended: redraw the whole page once, without the clock
    if status.state in ("queued", "running"):
        session().watching.add(run_id)
    if status.error:
        st.error(f"**{status.error.title}.** {status.error.detail}")
        st.caption(status.error.remedy)
    epochs = pd.DataFrame(read_metrics(workspace.runs / run_id))
    if epochs.empty:
        st.caption("No epoch has ended yet.")
        return
    left, right = st.columns(2)
    with left:
        charts.draw(charts.curves(epochs, "loss", "loss"), f"loss-{run_id}", height=280)
    with right:
        charts.draw(charts.curves(epochs, "accuracy", "accuracy"), f"accuracy-{run_id}", height=280)


with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Train")
    listed = versions.listed(workspace)
    if person.may(Permission.TRAIN) and listed and st.button("Launch training", type="primary", icon=":material/play_arrow:"):
        launch_dialog(listed)
if not listed:
    st.info("Training starts from a version, and there is none yet. A data lead freezes one.", icon=":material/ac_unit:")
    if person.may(Permission.FREEZE):
        st.page_link("app_pages/versions.py", label="Versions", icon=":material/history:")
    st.stop()
if not runs:
    st.info("No run yet." + (" Launch one." if person.may(Permission.TRAIN) else " A data lead launches them."), icon=":material/model_training:")
    st.stop()
run_id = named_in_url("run", [r.run_id for r in runs])
left, right = st.columns([2, 3], gap="medium")
with left:
    for run in runs[:30]:
        with st.container(border=run.run_id == run_id):
            st.page_link("app_pages/train.py", label=f"**{run.run_id}**", query_params={"run": run.run_id}, icon=":material/model_training:")
            kind = "" if run.config is None else f"{run.config.folds} folds" if run.config.folds else "hold-out"
            mark = " :violet-badge[exploratory]" if run.config and run.config.exploratory else ""
            st.markdown(f"{_STATES[run.status.state]}{mark} {kind}")
with right:
    st.subheader(run_id)
    state = next(r.status.state for r in runs if r.run_id == run_id)
    watch(run_id)
    with st.container(horizontal=True):
        if state == "finished":
            st.page_link("app_pages/results.py", label="Results", icon=":material/table_chart:", query_params={"run": run_id})
            st.page_link("app_pages/bias.py", label="Bias", icon=":material/balance:", query_params={"run": run_id})
        if person.may(Permission.TRAIN):
            if state in ("queued", "running"):
                with st.popover("Cancel", icon=":material/stop:"):
                    st.markdown(f"Cancel **{run_id}**? It stops at its next step and can be resumed.")
                    if st.button("Cancel the run", type="primary"):
                        jobs.cancel(workspace, run_id, person)
                        st.rerun()
            if state in ("failed", "cancelled", "dead") and st.button("Resume", icon=":material/resume:"):
                jobs.resume(workspace, run_id, person)
                st.rerun()
