"""What the server does not take: it says why, and serves the next."""

import socket
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import pytest

from rwpm_fast.serve import photos
from rwpm_fast.serve.limits import Rate
from rwpm_fast.serve.session import Session

from .serving import MANY, encoded, picture, serving


def lives(client):
    return client.get("/").status == 200 and client.open(encoded(picture())) is not None


def png_header(width, height):
    """A PNG that declares its size, and whose pixels are not there."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "status", "text"),
    [
        (b"This is no picture.\n" * 40, 415, "not a picture"),  # whatever its name
        (b"", 415, "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n", 415, "got EPS"),
        (encoded(picture(), "GIF"), 415, "got GIF"),
        (png_header(10_000, 10_000), 413, "expected at most 50 megapixels, got 10000x10000"),
        (png_header(30_000, 30_000), 413, "expected at most 50 megapixels"),
        (encoded(picture(), "JPEG")[:700], 422, "cannot be read"),
    ],
    ids=["text", "empty", "eps", "gif", "100 megapixels", "900 megapixels", "cut"],
)
def test_what_is_no_photo(client, monkeypatch, data, status, text):
    if status != 422:
        monkeypatch.setattr(photos, "read_image", lambda *_, **__: pytest.fail("the pixels were decoded"))
    answer = client.post("/api/photos", data)
    assert answer.status == status and text in answer.json["error"], answer
    monkeypatch.undo()
    assert lives(client)


def test_a_real_photo_of_100_megapixels(client):
    from PIL import Image

    data = encoded(Image.new("1", (10_000, 10_000)))
    answer = client.post("/api/photos", data)
    assert answer.status == 413 and "make the photo smaller" in answer.json["error"]
    assert lives(client)


def test_an_upload_of_too_many_bytes():
    with serving(replace(MANY, upload_bytes=2**21)) as client:
        part = b"x" * 2**20
        declared = client.post("/api/photos", 7 * part)  # more than the buffers between take
        chunked = client.post("/api/photos", iter(3 * [part]))
        at_once = client.raw(b"POST /api/photos HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000000\r\n\r\n")
        assert declared.status == chunked.status == 413 and "at most 2 MiB" in declared.json["error"]
        assert ended(at_once).startswith(b"HTTP/1.1 413 ")
        assert client.post("/api/photos", iter([encoded(picture())])).status == 201


def test_a_form_is_told_what_is_expected(client):
    answer = client.post("/api/photos", b"--x--", **{"Content-Type": "multipart/form-data; boundary=x"})
    assert answer.status == 415 and "as the body of the request, got a form" in answer.json["error"]


def test_all_uploads_together_are_limited():
    with serving(replace(MANY, uploads_bytes=100_000)) as client:
        head = b"POST /api/photos HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 90000\r\n\r\n"
        held = client.raw(head + b"x" * 80_000)
        other = b"x" * 60_000
        while (answer := client.post("/api/photos", other)).status == 415:  # until the first has come
            pass
        assert answer.status == 503 and "other uploads" in answer.json["error"]
        held.close()
        while client.post("/api/photos", other).status == 503:
            pass
        assert client.post("/api/photos", other).status == 415
        assert client.post("/api/photos", encoded(picture())).status == 201


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("alpha=2", "alpha: expected a number in [0, 1], got 2.0"),
        ("alpha=x", "alpha: expected a number, got 'x'"),
        ("alhpa=0.5", "alhpa: expected settings out of alpha, steps"),
        ("alpha=nan", "alpha"),
        ("steps=-1", "steps"),
        ("steps=1.5", "steps: expected an integer"),
        ("steps=201", "steps: expected at most 200 on this page"),
        ("steps=" + "9" * 5000, "steps"),
        ("temperature=0", "temperature: expected a positive"),
        ("temperature=inf", "temperature: expected a positive"),
        ("tolerance=1", "tolerance"),
        ("parts=0", "parts"),
        ("parts=9", "parts: expected at most 8"),
        ("anchor_share=1.5", "anchor_share"),
    ],
)
def test_settings_out_of_range(client, query, text):
    session = client.open(encoded(picture()))
    for what in ("walked?", "neighbors?row=0&column=0&"):
        answer = client.get(f"/api/photos/{session['id']}/{what}{query}")
        assert answer.status == 422 and text in answer.json["error"]


def test_more_parts_than_pixels(client):
    session = client.open(encoded(picture((16, 16))))
    answer = client.get(f"/api/photos/{session['id']}/walked?parts=8")
    assert answer.status == 422 and "parts: expected 1 to 2" in answer.json["error"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/photos/unknown/plain"),
        ("GET", "/nothing"),
        ("GET", "/page/../app.py"),
        ("GET", "/page/..%2fapp.py"),
        ("GET", "/page/__init__.py"),
        ("GET", "/api/photos"),
        ("POST", "/api/samples/-1"),
        ("POST", "/api/samples/99999999999999"),
        ("POST", "/api/samples/%D9%A3"),
    ],
)
def test_nothing_there(client, method, path):
    answer = client.ask(method, path)
    assert answer.status == 404 and answer.json["error"]


def test_only_so_many_photos_are_kept():
    with serving(replace(MANY, sessions=2)) as client:
        first, second, third = (client.open(encoded(picture(seed=seed)))["id"] for seed in range(3))
        gone = client.get(f"/api/photos/{first}/plain")
        assert gone.status == 404 and "open it again" in gone.json["error"]
        assert [client.get(f"/api/photos/{name}/plain").status for name in (second, third)] == [200, 200]
        assert len(client.page.sessions) == 2


def test_rates():
    with serving(replace(MANY, photos_a_minute=4)) as client:
        answers = [client.post("/api/photos", encoded(picture())) for _ in range(3)]  # half of four at once
        assert [answer.status for answer in answers] == [201, 201, 429]
        assert "too many photos" in answers[2].json["error"] and answers[2].headers["retry-after"] == "1"
        assert client.get("/").status == 200
    with serving(replace(MANY, requests_a_second=0.05)) as client:
        assert [client.get("/api/about").status for _ in range(2)] == [200, 429]


def test_a_rate_gives_tokens_back():
    now = [0.0]
    rate = Rate(2.0, 3.0, clients=2, clock=lambda: now[0])
    assert [rate.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    now[0] = 0.6
    assert rate.take("a") == 0 and rate.take("a") > 0
    assert rate.take("b") == rate.take("c") == 0  # and "a", seen longest ago, is forgotten
    assert [rate.take("a") for _ in range(3)] == [0, 0, 0]


def test_fifty_requests_at_once():
    with serving(replace(MANY, waiting=6)) as client:
        session = client.open(encoded(picture()))
        photo = encoded(picture((96, 128)))
        kinds = [
            lambda: client.post("/api/photos", photo),
            lambda: client.get(f"/api/photos/{session['id']}/walked?steps=50"),
            lambda: client.get(f"/api/photos/{session['id']}/neighbors?row=1&column=1"),
            lambda: client.get("/page/app.js"),
            lambda: client.post("/api/photos", b"no photo"),
        ]
        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(lambda k: kinds[k % 5](), range(50)))
        by_kind = [{answer.status for answer in answers[k::5]} for k in range(5)]
        assert by_kind[0] <= {201, 503} and by_kind[1] <= {200, 503} and by_kind[2] <= {200, 503}
        assert by_kind[3] == {200} and by_kind[4] <= {415, 503}
        assert sum(answer.status == 503 for answer in answers) < 50
        busy = [answer for answer in answers if answer.status == 503]
        assert all("busy" in answer.json["error"] and answer.headers["retry-after"] == "1" for answer in busy)
        assert lives(client)


def ended(connection):
    """Read a connection to its end; what came, also where it was reset."""
    came = b""
    try:
        while data := connection.recv(2**16):
            came += data
    except ConnectionResetError:
        pass
    return came


HEAD = b"POST /api/photos HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n"


def test_clients_that_hang():
    with serving(replace(MANY, head_seconds=0.3, upload_seconds=0.3)) as client:
        silent, half_head, half_body = client.raw(), client.raw(HEAD[:30]), client.raw(HEAD + b"\x89PNG")
        assert lives(client)  # meanwhile
        assert ended(silent) == ended(half_head) == b""
        assert ended(half_body).startswith(b"HTTP/1.1 408 ")
        dripping = client.raw()
        with suppress(BrokenPipeError, ConnectionResetError):
            for sent, byte in enumerate(HEAD[:-2] * 3):  # noqa: B007
                dripping.sendall(bytes([byte]))
                time.sleep(0.02)
        assert sent < 60  # a byte now and then does not help
        assert lives(client)


def test_a_client_that_does_not_read():
    with serving(replace(MANY, answer_seconds=0.3)) as client:
        session = client.open(encoded(picture((512, 640))))
        request = f"GET /api/photos/{session['id']}/plain HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(60)
        deaf.connect(("127.0.0.1", client.port))
        deaf.sendall(16 * request)  # 10 MB, more than the buffers between take
        assert lives(client)
        time.sleep(1.0)
        assert len(ended(deaf)) < 16 * 512 * 640 * 2
        assert lives(client)


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9\r\n\r\n", b"A" * 40_000])
def test_what_is_no_http(client, garbage):
    connection = client.raw()
    try:
        connection.sendall(garbage + b"\r\n\r\n")
        assert b"400" in ended(connection)[:20] or garbage[:1] == b"A"
    except OSError:
        pass  # closed before all was sent
    assert lives(client)


def test_the_end_of_the_server_answers_who_waits(monkeypatch):
    begun, release = threading.Event(), threading.Event()

    def hold(_session):
        begun.set()
        release.wait(60)
        return b""

    monkeypatch.setattr(Session, "plain_map", hold)
    with ThreadPoolExecutor(1) as pool:
        with serving(replace(MANY, end_seconds=0.1)) as client:
            session = client.open(encoded(picture()))
            waiting = pool.submit(client.get, f"/api/photos/{session['id']}/plain")
            assert begun.wait(60)
            # The server ends with the job that runs; the client is told before.
            waiting.add_done_callback(lambda _: release.set())
        answer = waiting.result()
    assert answer.status == 503 and "ending" in answer.json["error"]
