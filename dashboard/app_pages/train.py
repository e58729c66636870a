"""Launch training on a version, watch it, and compare runs while they train."""

import pandas as pd
import streamlit as st

from dashboard import access, cache, charts, train_forms
from dashboard.links import named_in_url
from dashboard.state import session
from fercore import jobs, versions
from fercore.domain import Permission
from fercore.training.rundir import Run, read_log, read_metrics

person = access.actor()
person.require(Permission.READ_RESULTS)
workspace = cache.workspace()
runs = jobs.list_runs(workspace)
SHOWN = 30
_STATES = {"queued": ":gray-badge[queued]", "running": ":blue-badge[running]", "finished": ":green-badge[finished]", "failed": ":red-badge[failed]",
           "cancelled": ":orange-badge[cancelled]", "dead": ":red-badge[dead]"}
_GOING = ("queued", "running")


def marks(run: Run) -> str:
    """What a reader must know about a run, as badges."""
    config = run.config
    if config is None:
        return ""
    return (" :red-badge[leaky]" * (config.protocol == "leaky") + " :violet-badge[exploratory]" * config.exploratory
            + f" {config.folds} folds" * bool(config.folds) + " hold-out" * (config.protocol == "hold_out")
            + " ensemble" * (config.protocol == "ensemble")
            + (f" · study {access.plain(config.study)}" if config.study else ""))


@st.fragment(run_every=2.0 if any(r.status.state in _GOING for r in runs) else None)
def watch(run_id: str, beside: list[str]) -> None:
    status = jobs.status(workspace, run_id)
    progress = status.progress
    place = jobs.place_in_queue(workspace, run_id) if status.state == "queued" else 0
    memory = f", {progress.memory_mb:,.0f} MB of device memory" if progress.memory_mb else ""
    st.markdown(f"{_STATES[status.state]}" + (f" on **{status.device}**{memory}" if status.device else ""))
    if status.state == "queued":
        st.progress(0.0, f"Number {place} of those that wait for a device" if place else "Waiting for a device")
    elif status.state == "running" and not progress.epochs:
        st.progress(0.0, "Starting the worker")
    elif status.state == "running":
        eta = "" if progress.eta_s is None else f", at most {progress.eta_s:,.0f} s left"
        fold = f"fold {progress.fold + 1} of {progress.folds}, " if progress.folds > 1 else ""
        st.progress(progress.fraction, f"{fold}epoch {progress.epoch} of at most {progress.epochs}, {progress.images_per_s:,.0f} images/s{eta}")
    elif run_id in session().watching:
        session().watching.remove(run_id)
        st.rerun()  # it has just ended: redraw the whole page once, without the clock
    if status.state in _GOING:
        session().watching.add(run_id)
    if status.error:
        st.error(f"**{status.error.title}.** {status.error.detail}")
        st.caption(status.error.remedy)
    epochs = {r: pd.DataFrame(read_metrics(workspace.runs / r)) for r in (run_id, *beside)}
    epochs = {r: e for r, e in epochs.items() if len(e)}
    if not epochs:
        st.caption("No epoch has ended yet." if status.state in _GOING else "Nothing was trained in this run.")
    else:
        for column, quantity in zip(st.columns(2), ("loss", "accuracy"), strict=True):
            with column:
                figure = charts.curves(epochs[run_id], quantity, quantity) if set(epochs) == {run_id} else charts.compared_curves(epochs, quantity)
                charts.draw(figure, f"{quantity}-{run_id}", height=280)
    with st.expander("Log"):
        st.code(read_log(workspace.runs / run_id), language=None, height=220)


with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    st.title("Train")
    listed = versions.listed(workspace)
    finished = [r.run_id for r in runs if r.status.state == "finished" and r.config and r.config.protocol in ("hold_out", "k_fold")]
    if person.may(Permission.TRAIN) and listed:
        with st.container(horizontal=True, width="content"):
            if len(finished) > 1 and st.button("Make an ensemble", icon=":material/join_inner:"):
                train_forms.ensemble(person, finished)
            if st.button("Launch training", type="primary", icon=":material/play_arrow:"):
                train_forms.launch(person, listed)
if not listed:
    st.info("Training starts from a version, and there is none yet. A data lead freezes one.", icon=":material/ac_unit:")
    if person.may(Permission.FREEZE):
        st.page_link("app_pages/versions.py", label="Versions", icon=":material/history:")
    st.stop()
if not runs:
    st.info("No run yet." + (" Launch one." if person.may(Permission.TRAIN) else " A data lead launches them."), icon=":material/model_training:")
    st.stop()
run_id = named_in_url("run", [r.run_id for r in runs])
run = next(r for r in runs if r.run_id == run_id)
left, right = st.columns([2, 3], gap="medium")
with left:
    for other in runs[:SHOWN]:
        with st.container(border=other.run_id == run_id):
            st.page_link("app_pages/train.py", label=f"**{other.run_id}**", query_params={"run": other.run_id}, icon=":material/model_training:")
            st.markdown(f"{_STATES[other.status.state]}{marks(other)}")
    if len(runs) > SHOWN:
        st.caption(f"The newest {SHOWN} of {len(runs):,} runs.")
with right:
    st.subheader(run_id)
    beside = st.multiselect("Compare with", [r.run_id for r in runs if r.run_id != run_id], placeholder="other runs", key=f"beside-{run_id}")
    watch(run_id, beside)
    state = run.status.state
    with st.container(horizontal=True):
        if state == "finished":
            st.page_link("app_pages/results.py", label="Results", icon=":material/table_chart:", query_params={"run": run_id})
            st.page_link("app_pages/bias.py", label="Bias", icon=":material/balance:", query_params={"run": run_id})
        if run.config and run.config.study:
            st.page_link("app_pages/studies.py", label="Study", icon=":material/grid_on:", query_params={"study": run.config.study})
        if person.may(Permission.TRAIN):
            if state in _GOING:
                with st.popover("Cancel", icon=":material/stop:"):
                    st.markdown(f"Cancel **{run_id}**? It stops at its next step and can be resumed.")
                    if st.button("Cancel the run", type="primary"):
                        jobs.cancel(workspace, run_id, person)
                        st.rerun()
            if state in ("failed", "cancelled", "dead") and st.button("Resume", icon=":material/resume:"):
                jobs.resume(workspace, run_id, person)
                st.rerun()
    if run.config:
        with st.expander("Settings"):
            st.json(run.config.model_dump(mode="json"))
