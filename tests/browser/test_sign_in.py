"""Sign-in in a real browser: by password, through a real provider process, and the refusal to be reached while nobody signs in."""

import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from browser_harness import ROOT, Server
from helpers import fer_line, some_faces, write_fer
from playwright.sync_api import Page, expect

from fercore import accounts, ingest, people
from fercore.domain import Person, Role, Workspace
from fercore.store import Store

APP = ROOT / "dashboard/app.py"
GOOD = "correct horse battery"
DANA = Person("dana", "Dana", Role.DATA_LEAD)


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    """Dana, a data lead, Ann, an annotator, and 40 faces; nobody has an account."""
    place = Workspace(tmp_path / "ws")
    with Store(place) as store:
        people.add(store, "Dana", Role.DATA_LEAD)
        people.add(store, "Ann", Role.ANNOTATOR)
        faces = some_faces(40)
        ingest.import_fer2013(store, DANA, write_fer(tmp_path / "f.csv", [fer_line(i % 7, f) for i, f in enumerate(faces)]))
    return place


@pytest.fixture
def issuer() -> Iterator[str]:
    with subprocess.Popen([sys.executable, str(Path(__file__).parent / "oidc_provider.py")], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().strip()
        process.terminate()


def give_passwords(place: Workspace) -> None:
    with Store(place) as store:
        for name in ("Dana", "Ann"):
            accounts.set_password(store, DANA, name, GOOD)


def sign_in(page: Page, name: str, password: str = GOOD) -> None:
    form = page.get_by_test_id("stForm").first
    form.get_by_label("Name").fill(name)
    form.get_by_label("Password", exact=True).fill(password)
    form.get_by_role("button", name="Sign in").click()


def press(page: Page, keys: str) -> list[str]:
    """Presses at a person's pace; returns the images that were on screen."""
    images = []
    for key in keys:
        page.wait_for_timeout(150)
        page.wait_for_function("ready()")
        images.append(str(page.evaluate("grid().dataset.imageId")))
        page.keyboard.press(key)
    return images


def session_cookie(page: Page) -> dict[str, object] | None:
    return next((dict(c) for c in page.context.cookies() if c["name"] == "fercore_session"), None)


@pytest.mark.timeout(180)
def test_labels_survive_the_end_of_a_sign_in(page: Page, serve: Callable[..., Server], place: Workspace) -> None:
    give_passwords(place)
    server = serve(APP, env={"FERCORE_WORKSPACE": str(place.root)})
    page.context.add_cookies([{"name": "fercore_profile", "value": "dana", "url": server.url}])
    page.goto(f"{server.url}/label")
    expect(page.get_by_role("heading", name="Sign in", exact=True)).to_be_visible()
    sign_in(page, "Ann", "not the password")
    expect(page.get_by_text("Name and password do not fit")).to_be_visible()
    assert session_cookie(page) is None
    sign_in(page, "Ann")
    page.wait_for_function("grid()?.dataset.imageId")  # the page that was asked for
    assert page.url.startswith(f"{server.url}/label")
    cookie = session_cookie(page)
    assert cookie and cookie["sameSite"] == "Strict" and not cookie["secure"]
    seen = press(page, "ajk")
    page.wait_for_function("+grid()?.dataset.saved === 3")

    other = page.context.new_page()  # signs out there, which ends the session here
    other.goto(server.url)
    other.get_by_role("button", name="Sign out").click()
    expect(other.get_by_role("heading", name="Sign in", exact=True)).to_be_visible()
    assert session_cookie(page) is None
    other.context.add_cookies([{"name": "fercore_session", "value": str(cookie["value"]), "url": server.url}])
    other.reload()  # the token is worth nothing any more
    expect(other.get_by_text("Your sign-in has ended")).to_be_visible()
    other.close()

    seen += press(page, "a")  # the first report after that brings the sign-in page
    expect(page.get_by_text("answers that were not saved yet are kept in this browser")).to_be_visible()
    sign_in(page, "Ann")
    page.wait_for_function("grid()?.dataset.imageId")
    page.wait_for_function("grid()?.dataset.saved >= 1 && grid().dataset.saved === grid().dataset.made")
    server.close()
    with Store(place) as store:
        stored = store.rows("SELECT image_id, person_id, authentication FROM facts.label_event ORDER BY event_id")
        assert stored == [(image, "ann", "password") for image in seen] and len(seen) == 4


@pytest.mark.timeout(120)
def test_a_one_time_password_is_changed_at_the_first_sign_in(page: Page, serve: Callable[..., Server], place: Workspace) -> None:
    give_passwords(place)
    with Store(place) as store:
        once = accounts.reset_password(store, DANA, "Ann")
    server = serve(APP, env={"FERCORE_WORKSPACE": str(place.root)})
    page.goto(server.url)
    sign_in(page, "Ann", once)
    expect(page.get_by_text("Choose a password of your own")).to_be_visible()
    page.get_by_text("Change your password").click()
    form = page.get_by_test_id("stForm").nth(1)
    form.get_by_label("Name").fill("Ann")
    form.get_by_label("Present password").fill(once)
    form.get_by_label("New password", exact=True).fill("a password of mine")
    form.get_by_label("New password again").fill("a password of mine")
    form.get_by_role("button", name="Change and sign in").click()
    expect(page.get_by_role("heading", name="Overview", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def through(page: Page, sub: str, email: str, *, verified: bool = True) -> None:
    """From the sign-in page through the provider's consent form."""
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Subject").fill(sub)
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("verified").set_checked(verified)
    page.get_by_role("button", name="Allow").click()


@pytest.mark.timeout(240)
def test_sign_in_through_a_provider(page: Page, serve: Callable[..., Server], place: Workspace, issuer: str, tmp_path: Path) -> None:
    with Store(place) as store:
        accounts.set_email(store, DANA, "Dana", "dana@example.org")
    secrets = tmp_path / "secrets.toml"
    secrets.write_text(f"""[auth]
redirect_uri = "http://127.0.0.1:{{port}}/oauth2callback"
cookie_secret = "{'c' * 32}"
client_id = "fercore"
client_secret = "provider-secret"
server_metadata_url = "{issuer}/.well-known/openid-configuration"
""")
    server = serve(APP, "--secrets.files", str(secrets), env={"FERCORE_WORKSPACE": str(place.root)})
    page.context.add_cookies([{"name": "fercore_profile", "value": "dana", "url": server.url}])
    page.goto(f"{server.url}/people?x=1")
    expect(page.get_by_role("heading", name="Sign in", exact=True)).to_be_visible()
    through(page, "subject-1", "stranger@example.org")
    expect(page.get_by_text("You are not registered here")).to_be_visible()
    expect(page.get_by_text("is expected as stranger")).to_be_visible()
    page.get_by_role("button", name="Use another account").click()
    through(page, "subject-2", "dana@example.org", verified=False)
    expect(page.get_by_text("You are not registered here")).to_be_visible()
    page.get_by_role("button", name="Use another account").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()

    page.goto(f"{server.url}/people")
    through(page, "subject-3", "Dana@example.org")
    expect(page.get_by_role("heading", name="People", exact=True)).to_be_visible()  # the page that was asked for
    assert page.url.startswith(f"{server.url}/people")
    form = page.get_by_test_id("stForm").first
    form.get_by_label("Name").fill("Mia")
    form.get_by_label("E-mail").fill("mia@example.org")
    form.get_by_role("button", name="Add").click()
    expect(page.get_by_text("Mia was added")).to_be_visible()
    page.reload()  # Streamlit's cookie and our session are still there
    expect(page.get_by_role("heading", name="People", exact=True)).to_be_visible()
    kept = [c for c in page.context.cookies() if c["name"].startswith("_streamlit_user")]
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    assert not [c for c in page.context.cookies() if c["name"].startswith("_streamlit_user")]
    page.context.add_cookies([{k: c[k] for k in ("name", "value", "domain", "path")} for c in kept])  # type: ignore[misc]
    page.goto(server.url)  # a copied cookie is signed and 30 days valid, and its session has ended
    expect(page.get_by_text("Your sign-in has ended")).to_be_visible()

    page.goto(f"{server.url}/people")
    through(page, "subject-4", "dana@example.org")  # somebody else who got hold of the address
    expect(page.get_by_text("You are not registered here")).to_be_visible()
    page.get_by_role("button", name="Use another account").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    page.goto(f"{server.url}/label")
    through(page, "subject-3", "renamed@example.org")
    page.wait_for_function("grid()?.dataset.imageId")
    assert page.url.startswith(f"{server.url}/label")
    press(page, "a")
    page.wait_for_function("+grid()?.dataset.saved === 1")
    server.close()
    with Store(place) as store:
        assert store.rows("SELECT made_by, authentication FROM facts.person_change WHERE person_id = 'mia'") == [("dana", f"oidc {issuer}")]
        assert store.rows("SELECT person_id, authentication FROM facts.label_event") == [("dana", f"oidc {issuer}")]
        assert store.rows("SELECT issuer, subject FROM facts.accounts WHERE person_id = 'dana'") == [(issuer, "subject-3")]


@pytest.mark.timeout(120)
def test_nobody_comes_in_from_outside_before_people_sign_in(page: Page, serve: Callable[..., Server], place: Workspace) -> None:
    server = serve(APP, "--server.address", "0.0.0.0", env={"FERCORE_WORKSPACE": str(place.root)})
    page.context.add_cookies([{"name": "fercore_profile", "value": "dana", "url": server.url}])
    for path in ("", "/people", "/label"):
        page.goto(server.url + path)
        expect(page.get_by_text("Nobody signs in here yet")).to_be_visible()
        assert not page.get_by_role("button", name="Dana").count() and not page.get_by_role("heading", name="People").count()


@pytest.mark.timeout(120)
def test_serve_listens_beyond_this_machine_once_people_sign_in_and_warns(place: Workspace) -> None:
    give_passwords(place)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    process = subprocess.Popen([str(Path(sys.executable).parent / "fercore"), "serve", "--host", "0.0.0.0", "--port", str(port), "--no-browser"],
                               env=os.environ | {"FERCORE_WORKSPACE": str(place.root)}, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr and process.stdout
    try:
        assert "0.0.0.0 is reached without TLS" in process.stderr.readline()
        assert "sign-in: password" in process.stderr.readline()
        while "URL" not in process.stdout.readline():
            assert process.poll() is None
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=30) as answer:
            assert answer.status == 200
    finally:
        tree = [*psutil.Process(process.pid).children(recursive=True), process]
        for each in tree:
            each.terminate()
        for each in tree:
            each.wait(timeout=20)
        process.stdout.close()
        process.stderr.close()
