"""A small real OpenID provider for tests: discovery, consent form, code flow with PKCE, RS256 id tokens. Prints its issuer, then serves.

    python oidc_provider.py        # client "fercore", secret "provider-secret"
"""

import base64
import hashlib
import html
import json
import secrets
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "fercore", "provider-secret"
KEY = RSAKey.generate_key(2048, parameters={"use": "sig", "alg": "RS256", "kid": "k1"})
CODES: dict[str, dict[str, str]] = {}  # code -> what was asked for and who allowed it; used once
FORM = """<!doctype html><title>Provider</title><h1>Allow fercore to know who you are?</h1>
<form method="post" action="/authorize?{query}">
<label>Subject <input name="sub"></label> <label>E-mail <input name="email"></label>
<label><input type="checkbox" name="verified" checked> verified</label> <button>Allow</button></form>"""


class Provider(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, status: int, body: str, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body.encode())), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/.well-known/openid-configuration":
            self.answer(200, json.dumps({
                "issuer": self.issuer, "authorization_endpoint": f"{self.issuer}/authorize", "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/jwks", "response_types_supported": ["code"], "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"], "code_challenge_methods_supported": ["S256"]}))
        elif url.path == "/jwks":
            self.answer(200, json.dumps({"keys": [KEY.as_dict(private=False)]}))
        elif url.path == "/authorize" and parse_qs(url.query).get("client_id") == [CLIENT]:
            self.answer(200, FORM.format(query=html.escape(url.query)), "text/html")
        else:
            self.answer(404, "{}")

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        form = {k: v[0] for k, v in parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()).items()}
        if url.path == "/authorize":
            asked = {k: v[0] for k, v in parse_qs(url.query).items()}
            code = secrets.token_urlsafe(16)
            CODES[code] = asked | {"sub": form["sub"], "email": form["email"], "verified": form.get("verified", "")}
            self.answer(302, "", Location=f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}")
        elif url.path == "/token":
            self.token(form)
        else:
            self.answer(404, "{}")

    def token(self, form: dict[str, str]) -> None:
        basic = "Basic " + base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        asked = CODES.pop(form.get("code", ""), None)
        proof = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest()).rstrip(b"=").decode()
        if self.headers.get("Authorization") != basic or not asked or asked["redirect_uri"] != form["redirect_uri"] or asked["code_challenge"] != proof:
            self.answer(400, json.dumps({"error": "invalid_grant"}))
            return
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "sub": asked["sub"], "iat": now, "exp": now + 300, "nonce": asked["nonce"],
                  "email": asked["email"], "email_verified": asked["verified"] == "on"}
        token = jwt.encode({"alg": "RS256", "kid": "k1"}, claims, KEY)
        self.answer(200, json.dumps({"access_token": secrets.token_urlsafe(16), "token_type": "Bearer", "expires_in": 300, "id_token": token}))


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
