"""The command serve: what it refuses, what it prints, and how it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
from functools import partial

import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")

from python_tests.serve.serving import Client, encoded, picture
from rwpm_fast import cli


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--port 70000", "--port: expected 0 to 65535, got 70000"),
        ("--port 0 --host no.such.host.invalid", "--host no.such.host.invalid --port 0: "),
        ("--port 0 --walk-values none", "--walk-values: expected what walks"),
        ("--port 0 --stop-after 0", "--stop-after: expected a time above 0, got 0"),
        ("--port 0 --alpha 2", "alpha: expected a number in [0, 1]"),
        ("--port 0 --score unknown", "expected one of energy, "),
    ],
)
def test_what_it_refuses(capsys, words, text):
    assert cli.main(["serve", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert text in err and out == ""


def test_a_port_in_use(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["serve", "--port", str(port)]) == 2
    assert f"--port {port}: " in capsys.readouterr().err


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_it_says_where_it_is_and_who_may_come(capsys, host, warned):
    assert cli.main(["serve", "--port", "0", "--host", host, "--stop-after", "0.2"]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(rf"http://{re.escape(host)}:\d+/  \(Ctrl\+C ends it\)\n", out)
    assert (f"warning: --host {host}: " in err and "without a password" in err) if warned else err == ""


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_ends_it_and_nothing_is_left(tmp_path, number):
    own = {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "rwpm_fast", "serve", "--port", "0", "--steps", "3"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # shells ignore it in the background
    ) as process:
        try:
            client = Client(int(re.search(r":(\d+)/", process.stdout.readline())[1]))
            session = client.open(encoded(picture()))
            assert client.get(f"/api/photos/{session['id']}/walked").status == 200
            hanging = client.raw(b"POST /api/photos HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
            process.send_signal(number)
            _, err = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == (130 if number == signal.SIGINT else -number), err
    assert "Traceback" not in err
    hanging.close()
    with pytest.raises(ConnectionRefusedError):
        client.raw()
    assert not list(tmp_path.iterdir())
