"""The head of a version: its state, who signed it, and what the person at the keyboard may do with it."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import access, cache
from fercore import versions
from fercore.domain import Permission, Person
from fercore.errors import FerError

BADGES = {"draft": ":orange-badge[changes requested: draft]", "frozen": ":gray-badge[frozen]", "in_review": ":orange-badge[in review]",
          "approved": ":green-badge[approved]", "released": ":blue-badge[released]", "deprecated": ":gray-badge[deprecated]",
          "revoked": ":red-badge[revoked]"}


def may_decide(person: Person, version: pd.Series, signing: cache.Signing) -> bool:
    """Whether this person's approval is wanted: the version is in review, not theirs, and they have not approved it yet."""
    return bool(version["state"] == "in_review" and person.may(Permission.APPROVE) and (
        signing.policy.creator or version["person_id"] != person.person_id) and person.person_id not in {a["person_id"] for a in signing.given})


def head(person: Person, version: pd.Series, timeline: pd.DataFrame, signing: cache.Signing) -> None:
    """Title, state, signatures and hash, and the acts that are open to this person; the first of them is the primary one of the page."""
    version_id, state = str(version.name), str(version["state"])
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.subheader(f"{version_id} {BADGES[state]}", width="content")
        with st.container(horizontal=True, width="content"):
            _acts(person, version, signing)
    names = dict(zip(timeline["person_id"], timeline["person"], strict=True))
    st.markdown(" · ".join(filter(None, (
        f"frozen by {access.plain(str(version['creator']))}", _signatures(signing.given, names, state),
        f"still needs {signing.missing}" if state == "in_review" else "", f"policy: {_policy(timeline, signing)}"))))
    st.caption(f"Manifest SHA-256 `{version['manifest_sha256']}`")
    if problems := cache.broken(version_id):
        st.error(f"**Broken: this is not what was {'approved' if signing.given else 'frozen'}.** {access.plain('; '.join(problems[:3]))}.  \n"
                 "It is not released, and no run starts on changed files. Restore it from a backup, or freeze it anew.",
                 icon=":material/broken_image:")
    if signing.stale:
        st.warning(f"Stale: {_signatures(signing.stale, names, 'stale')}. The datasheet or a waiver changed afterwards; it must be approved again.",
                   icon=":material/history_toggle_off:")
    _told(person, version, timeline)


def _policy(timeline: pd.DataFrame, signing: cache.Signing) -> str:
    """The policy a version was approved under; before that, the one that holds now."""
    signed = timeline.loc[(timeline["act"] == "approve") & timeline["detail"].notna(), "detail"]
    return versions.policy.of_approval(signed.iloc[-1]).sentence() if len(signed) else signing.policy.sentence()


def _signatures(given: list[dict[str, Any]], names: dict[str, str], state: str) -> str:
    """Who approved, and what sign-in stands behind it."""
    if not given:
        return ""
    ways = dict.fromkeys(a["authentication"] for a in given)
    who = " and ".join(f"{access.plain(names.get(a['person_id'], ''))} ({a['role'].replace('_', ' ')})" for a in given)
    return f"**{'approval' if state == 'in_review' else 'approved'} by {who}** ({access.plain(', '.join(ways))})"


def _told(person: Person, version: pd.Series, timeline: pd.DataFrame) -> None:
    """What somebody must know about this state."""
    last = timeline[timeline["state"].notna()].iloc[-1]
    said = f"{access.plain(str(last['person']))}: {access.plain(str(last['reason']))}" if isinstance(last["reason"], str) else ""
    if version["state"] == "draft":
        st.info(f"Changes were requested by {said}  \nThis manifest stays what it is: with other faces, labels or splits it is another version, so "
                f"freeze {access.plain(version['name'])} anew. After changes to the datasheet only, submit this one again.",
                icon=":material/edit_note:")
    elif version["state"] in ("deprecated", "revoked"):
        st.warning(f"{str(version['state']).capitalize()} by {said}", icon=":material/block:")
    elif version["state"] == "in_review" and version["person_id"] == person.person_id and not cache.signing(str(version.name)).policy.creator:
        st.info("You froze this version; somebody else must decide on it.", icon=":material/group:")


def _acts(person: Person, version: pd.Series, signing: cache.Signing) -> None:
    version_id, state = str(version.name), version["state"]
    if state in ("frozen", "draft") and person.may(Permission.FREEZE):
        if st.button("Submit for review", type="primary"):
            _submit(version_id)
    elif state == "in_review" and may_decide(person, version, signing):
        ask("Approve", version_id, versions.approve, icon="check", primary=True, optional=True)
        ask("Ask for changes", version_id, versions.reject, icon="edit_note", button=f"Ask for changes to {version_id}")
    elif state in ("approved", "released", "deprecated") and person.may(Permission.RELEASE):
        if state == "approved":
            ask("Release", version_id, versions.release, icon="publish", primary=True)
        elif state == "released":
            ask("Deprecate", version_id, versions.deprecate, icon="archive")
        ask("Revoke", version_id, versions.revoke, icon="block")


def _submit(version_id: str) -> None:
    bar = st.progress(0.0, "Checking that it comes back whole: export, import, build")
    st.button("Stop", icon=":material/stop:")  # any press ends this run, and with it the check: nothing is left
    try:
        versions.submit(cache.store(), access.actor(), version_id,
                        lambda done, total: bar.progress(done / max(total, 1), f"{done:,} of {total:,}, faces out and in again"))
    except FerError as error:
        st.error(access.plain(str(error)))
    else:
        st.rerun()


def ask(act: str, version_id: str, do: Callable[..., object], *args: str, icon: str, primary: bool = False, optional: bool = False,
        button: str = "") -> None:
    """A popover that names the thing, takes a reason and asks once."""
    person, told = access.actor(), button or f"{act} {version_id}"
    with st.popover(act, icon=f":material/{icon}:", type="primary" if primary else "secondary"):
        st.markdown(f"**{access.plain(told)}?** It is recorded under {access.plain(person.name)}, {access.plain(person.authentication)}.")
        reason = st.text_area("Reason (optional)" if optional else "Reason", max_chars=1000, key=f"reason-{act}-{version_id}-{'-'.join(args)}")
        if st.button(told, type="primary", key=f"do-{act}-{version_id}-{'-'.join(args)}"):
            _do(do, version_id, *args, reason)


def _do(act: Callable[..., object], version_id: str, *args: str) -> None:
    try:
        with st.spinner("Checking the version"):
            act(cache.store(), access.actor(), version_id, *args)
    except FerError as error:
        st.error(access.plain(str(error)))
    else:
        st.rerun()
