"""The dialogs of the Train page: one run, a study, an ensemble."""

from itertools import product
from typing import Any

import streamlit as st
import yaml

from dashboard import cache
from fercore import jobs, versions
from fercore.domain import Person
from fercore.errors import BadInput, FerError
from fercore.models import BACKBONES, MODELS
from fercore.training.config import SETTINGS, RunConfig, run_config
from fercore.training.presets import PRESETS, settings_of

_BALANCES = {"none": "nothing", "class_weights": "class weights", "weighted_sampler": "weighted sampler", "ros": "random over-sampling",
             "rus": "random under-sampling", "smote": "SMOTE", "tomek": "Tomek links", "smote_tomek": "SMOTE and Tomek links",
             "smote_enn": "SMOTE and ENN"}
_OWN = ("protocol", "folds", "epochs", "seed", "balance", "option", "weights", "device")  # asked for by their own fields, or not from a page


@st.dialog("Launch training", width="medium")
def launch(person: Person, listed: list[dict[str, Any]]) -> None:
    """Asks for a run or a study, checks it and queues it."""
    states = {c["version_id"]: c["state"] for c in listed}
    version_id = st.selectbox("Version", list(states), format_func=lambda v: f"{v} ({states[v].replace('_', ' ')})")
    what = st.selectbox("Preset or model", list(dict.fromkeys([*PRESETS, *MODELS, *BACKBONES])),
                        format_func=lambda n: PRESETS[n].title if n in PRESETS else f"Model {n}")
    preset = {"model": what} if what in BACKBONES else settings_of(what)
    if what in PRESETS and PRESETS[what].differs:
        st.caption(f"{PRESETS[what].differs}.")
    own = versions.files.folds(next(c for c in listed if c["version_id"] == version_id))
    said = {0: "test read once", own or 10: "the version's own, held-out faces only" if own else "held-out faces only", -1: "for comparison only"}
    ways = [0, own, -1] if own else [0, 3, 5, 10, -1]
    folds = st.radio("Protocol", ways, horizontal=True, captions=[said.get(k, "") for k in ways], key=f"protocol-{own}",
                     format_func=lambda k: "hold-out" if k == 0 else "leaky" if k < 0 else f"{k} folds")
    left, middle, right = st.columns(3)
    epochs = left.number_input("Epochs at most", 1, 1000, int(str(preset.get("epochs", 15))), key=f"epochs-{what}")
    seed = middle.number_input("Seed", 0, 2**31, 0)
    balance = right.selectbox("Balance classes by", list(_BALANCES), format_func=_BALANCES.__getitem__, index=3 if folds < 0 else 0,
                              key=f"balance-{folds < 0}", help="On training faces only, after the split.")
    if folds < 0:
        st.warning("Leaky balances before it splits, as published systems did: test faces have copies in training. Every number of the run is "
                   "marked, and says how much of it is inflation.", icon=":material/water_drop:")
    defaults = run_config({"version_id": version_id, **preset}).model_dump(mode="json", include=set(SETTINGS) - set(_OWN))
    with st.expander("All other settings"):
        written = st.text_area("Settings", yaml.safe_dump(defaults, sort_keys=False), height=260, key=f"settings-{what}",
                               label_visibility="collapsed")
    with st.expander("Repeat as a study"):
        study = st.text_input("Name of the study", placeholder="kernels")
        models = st.multiselect("Models", list(MODELS), [], placeholder="the one above")
        balances = st.multiselect("Balances", list(_BALANCES), [], format_func=_BALANCES.__getitem__, placeholder="the one above")
        seeds = st.number_input("Seeds from the one above on", 1, 20, 3)
        if study:
            st.caption(f"{max(len(models), 1) * max(len(balances), 1) * seeds} runs; those that a study of this name has already are not repeated.")
    unapproved = not versions.trainable(states[version_id])
    sure = not unapproved or st.checkbox(f"{version_id} is not approved: launch an exploratory run, which is marked as such")
    if st.button("Launch", type="primary", icon=":material/play_arrow:", disabled=not sure):
        try:
            values = _read(written) | {"version_id": version_id, "epochs": epochs, "seed": seed, "balance": balance, "exploratory": unapproved,
                                       "protocol": "leaky" if folds < 0 else "k_fold" if folds else "hold_out", "folds": max(folds, 0)}
            if study:
                started = jobs.start_study(cache.workspace(), study, _grid(values, models, balances, seed, seeds), person)
                st.query_params.from_dict({"run": started[0]} if started else {})
            else:
                st.query_params.from_dict({"run": jobs.start(cache.workspace(), run_config(values), person)})
        except FerError as error:
            st.error(str(error))
        else:
            st.rerun()


def _grid(values: dict[str, Any], models: list[str], balances: list[str], seed: int, seeds: int) -> list[RunConfig]:
    return [run_config(values | {"model": model, "balance": balance, "seed": s})
            for model, balance, s in product(models or [values["model"]], balances or [values["balance"]], range(seed, seed + seeds))]


def _read(text: str) -> dict[str, Any]:
    """Raises: BadInput: not lines of "key: value", or a setting that has a field of its own or is not for a page."""
    try:
        found = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise BadInput("The settings cannot be read", str(error).replace("\n", " "), "Write one key: value a line") from error
    if not isinstance(found, dict):
        raise BadInput("The settings cannot be read", f"They are a {type(found).__name__}", "Write one key: value a line")
    if wrong := set(found) & {*_OWN, "version_id", "exploratory"}:
        raise BadInput("This setting has its own field", f"{sorted(wrong)[0]!r} is among the other settings", "Take it out")
    return found


@st.dialog("Make an ensemble")
def ensemble(person: Person, finished: list[str]) -> None:
    """Asks for finished runs and makes their mean a run."""
    members = st.multiselect("Runs on the same faces", finished)
    st.caption("Its probabilities are the mean of theirs. For hold-out runs this reads the test faces once more.")
    if st.button("Make the ensemble", type="primary", disabled=len(members) < 2):
        try:
            run_id = jobs.ensemble(cache.workspace(), members, person)
        except FerError as error:
            st.error(str(error))
        else:
            st.query_params.from_dict({"run": run_id})
            st.rerun()
