"""Who may ask, and the headers of every answer."""

import re

import pytest

from rwpm_fast.serve.app import page_files
from rwpm_fast.serve.guard import foreign, host_allowed

from .serving import MANY, encoded, picture, serving


@pytest.mark.parametrize(
    ("header", "bound", "allowed"),
    [
        ("127.0.0.1:8765", "127.0.0.1", True),
        ("localhost:8765", "127.0.0.1", True),
        ("[::1]:8765", "::1", True),
        ("LOCALHOST", "127.0.0.1", True),
        ("evil.example:8765", "127.0.0.1", False),
        ("127.0.0.1.evil.example", "127.0.0.1", False),
        ("192.168.0.7:8765", "127.0.0.1", False),
        ("", "127.0.0.1", False),
        ("[::1", "127.0.0.1", False),
        ("192.168.0.7:8765", "0.0.0.0", True),
        ("[fe80::1]:8765", "::", True),
        ("evil.example", "0.0.0.0", False),
        ("car.lan:80", "car.lan", True),
        ("evil.lan", "car.lan", False),
    ],
)
def test_hosts(header, bound, allowed):
    assert host_allowed(header, bound) == allowed


@pytest.mark.parametrize(
    ("headers", "path", "is_foreign"),
    [
        ({}, "/api/about", False),
        ({"origin": "http://127.0.0.1:1"}, "/api/photos", False),
        ({"origin": "http://127.0.0.1:2"}, "/api/photos", True),
        ({"origin": "null"}, "/api/photos", True),
        ({"origin": "http://evil.example"}, "/api/photos", True),
        ({"sec-fetch-site": "same-origin"}, "/api/photos", False),
        ({"sec-fetch-site": "none"}, "/", False),
        ({"sec-fetch-site": "same-site"}, "/api/photos", True),
        ({"sec-fetch-site": "cross-site"}, "/page/app.js", True),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, "/", False),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, "/api/about", True),
    ],
)
def test_other_sites(headers, path, is_foreign):
    assert foreign({"host": "127.0.0.1:1", **headers}, path) == is_foreign


def test_a_name_pointed_at_the_server_is_refused(client):
    answer = client.get("/api/about", Host="evil.example")
    assert answer.status == 421 and "address" in answer.json["error"]
    assert client.post("/api/photos", encoded(picture()), Host=f"evil.example:{client.port}").status == 421


def test_posts_of_another_site_are_refused(client):
    kept = len(client.page.sessions)
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"}):
        assert client.post("/api/photos", encoded(picture()), **headers).status == 403
    assert len(client.page.sessions) == kept
    own = {"Origin": f"http://127.0.0.1:{client.port}", "Sec_Fetch_Site": "same-origin"}
    assert client.post("/api/photos", encoded(picture()), **own).status == 201


@pytest.mark.parametrize("path", ["/", "/page/app.js", "/api/about", "/nothing", "/api/photos/unknown/plain"])
def test_every_answer_has_the_headers(client, path):
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == ("no-cache" if path in ("/", "/page/app.js") else "no-store")
    assert "server" not in headers and "access-control-allow-origin" not in headers


def test_the_page_needs_nothing_from_elsewhere(client):
    files = page_files()
    assert {"index.html", "style.css", "app.js", "icon.svg"} <= files.keys()
    for name, (content, media_type) in files.items():
        text = content.decode()
        assert set(re.findall(r"https?://[^\s\"'`)]+", text)) <= {"http://www.w3.org/2000/svg"}, name
        for target in re.findall(r"""(?:src|href|from)\s*=?\s*["'](\.?/[^"'#]+)["']""", text):
            assert target.rpartition("/")[2] in files, f"{name}: {target}"
        assert client.get(f"/page/{name}").headers["content-type"] == media_type
        if name.endswith(".html"):  # what the policy forbids would silently not run
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\bsrc=)", text)


def test_connections_are_limited():
    limits = MANY.__class__(**{**vars(MANY), "connections": 3})
    with serving(limits) as client:
        held = [client.raw() for _ in range(3)]
        assert client.get("/").status == 503
        for connection in held:
            connection.close()
        while (status := client.get("/").status) == 503:
            pass
        assert status == 200
