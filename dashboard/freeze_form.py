"""The dialog that freezes a version."""

import streamlit as st

from dashboard import cache
from fercore import versions
from fercore.domain import Person
from fercore.errors import FerError
from fercore.schemes import FLAGS


@st.dialog("Freeze a version", width="medium")
def freeze_dialog(person: Person) -> None:
    """Asks for a recipe in the plainest way, freezes a version and submits it."""
    st.caption("A version is an immutable list of faces, labels and splits. It is built from what the workspace holds now.")
    here = cache.options()
    name = st.text_input("Name", "fer7", max_chars=60)
    labels = st.radio("Labels", ["current", "given"], horizontal=True, captions=["annotators' plurality, else as given", "as the source says"])
    flags = st.multiselect("Exclude faces flagged as", list(FLAGS), ["non_face"], format_func=lambda f: FLAGS[f][0])
    excluded = st.checkbox("Exclude faces that somebody left out, with a reason", True)
    gone = st.checkbox("Exclude faces whose file is no longer in its source", True)
    brighten = st.checkbox("Brighten the faces that are marked for it; the copies in the version only", False)
    conflicts = st.checkbox("Exclude identical faces with different labels", True)
    duplicates = st.radio("Identical faces", ["keep_one", "keep_all"], horizontal=True,
                          format_func={"keep_one": "keep one", "keep_all": "keep all, in one split"}.__getitem__)
    split = st.radio("Split", ["source", "ratios"], horizontal=True,
                     format_func={"source": f"as the source ({', '.join(here['splits'])})", "ratios": "70 / 15 / 15, stratified"}.__getitem__)
    seed = st.number_input("Seed", 0, 2**31, 0)
    if st.button("Freeze and submit for review", type="primary"):
        try:
            recipe = versions.Recipe(labels=labels, exclude_flags=tuple(flags), drop_excluded=excluded, drop_gone=gone,
                                     transforms=("brighten",) if brighten else (), drop_conflicting=conflicts, duplicates=duplicates,
                                     split=split, seed=seed)
            with st.spinner("Building the version"):
                made = versions.freeze(cache.store(), person, recipe, name)
                versions.submit(cache.store(), person, made)
        except FerError as error:
            st.error(str(error))
        else:
            st.query_params["version"] = made
            st.rerun()
