"""The real application on a real socket, in a thread of the tests; and a plain client."""

import http.client
import io
import json
import socket
import threading
import time
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from PIL import Image

from rwpm_fast import Scorer, Walk, networks
from rwpm_fast.serve.app import PageServer
from rwpm_fast.serve.limits import Limits
from rwpm_fast.serve.server import listen, make_server


class Answer(NamedTuple):
    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class Client:
    """Asks a server on 127.0.0.1; every request has a connection of its own."""

    def __init__(self, port, page=None):
        self.port, self.page = port, page

    def ask(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, names)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path, **headers):
        return self.ask("GET", path, **headers)

    def post(self, path, body=b"", **headers):
        return self.ask("POST", path, body, **headers)

    def open(self, photo):
        """Upload a photo; its session's description."""
        answer = self.post("/api/photos", photo)
        assert answer.status == 201, answer
        return answer.json

    def raw(self, data=b""):
        """A connection on which so much is sent, and no more."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sendall(data)
        return connection


def scorer(network=None):
    return Scorer(network or networks.load("compact"), walk=Walk(steps=3, anchor_share=0.03))


@contextmanager
def serving(limits, *, network=None, bound="127.0.0.1", sample_size=(48, 96)):
    page = PageServer(scorer(network), bound, limits, sample_size=sample_size)
    with listen("127.0.0.1", 0) as listener:
        server = make_server(page.app, limits)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            end = time.monotonic() + 60
            while not server.started:
                assert thread.is_alive() and time.monotonic() < end
                time.sleep(0.01)
            yield Client(listener.getsockname()[1], page)
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


def picture(size=(64, 96), seed=0):
    """A smooth random photo [H, W, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))


def encoded(pixels, format="PNG", **options):
    file = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(file, format, **options)
    return file.getvalue()


def unpack(data):
    """Head, scores [H, W] float64, classes [h, w] and labels [H, W] or None of a packed map."""
    length = int.from_bytes(data[:4], "little")
    head = json.loads(data[4 : 4 + length])
    pixels, cells = head["width"] * head["height"], head["rows"] * head["columns"]
    assert length % 4 == 0 and len(data) == 4 + length + 2 * pixels + cells + head["labels"] * pixels
    shape, at = (head["height"], head["width"]), 4 + length
    levels = np.frombuffer(data, "<u2", pixels, at).reshape(shape)
    classes = np.frombuffer(data, np.uint8, cells, at + 2 * pixels).reshape(head["rows"], head["columns"])
    labels = np.frombuffer(data, np.uint8, pixels, at + 2 * pixels + cells).reshape(shape) if head["labels"] else None
    return head, head["low"] + levels.astype(np.float64) * head["step"], classes, labels


MANY = Limits(requests_a_second=1e5, photos_a_minute=1e6)  # for tests of anything but rates
