"""Cameras and network streams: opened again a few times, never waited for without end."""

import http.server
import io
import threading
import time

import numpy as np
import pytest

from rwpm_fast.stream.base import SourceError, decode_picture
from rwpm_fast.stream.frame import BrokenFrame, SourceInfo, VideoFrame
from rwpm_fast.stream.live import RECONNECTED, LiveSource, open_address, open_camera

PHOTO = np.zeros((2, 2, 3), np.uint8)


def info():
    return SourceInfo("camera", "camera", "a test")


def frames_of(count, error=None):
    """Yield frames as a camera that then ends, or fails."""
    for index in range(count):
        yield VideoFrame(index, float(index), PHOTO)
    if error is not None:
        raise error


def connections(*connections):
    """Make what connects: to each of these in turn, then to none."""
    left = list(connections)

    def connect():
        if not left:
            raise SourceError("no such device")
        return left.pop(0)

    return connect


def test_a_vanished_camera_ends_with_a_note():
    with LiveSource(info(), connections(frames_of(3, OSError("unplugged"))), tries=2, wait=0.01) as source:
        frames = list(source)
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert source.info.live
    assert source.info.notes == [
        "broke off 3 times, last after 3 frames: no such device",
        "taken for gone after 2 tries to open it again",
    ]


def test_a_camera_that_comes_back():
    connect = connections(frames_of(2, OSError("lost")), frames_of(3, OSError("lost again")))
    with LiveSource(info(), connect, tries=1, wait=0.01) as source:
        frames = list(source)
    assert [frame.index for frame in frames] == list(range(5))
    assert [frame.marks for frame in frames] == [(), (), (RECONNECTED,), (), ()]


def test_broken_frames_are_counted():
    connect = connections(iter([BrokenFrame(0, None, "damaged"), VideoFrame(1, 0.0, PHOTO)]))
    with LiveSource(info(), connect, tries=0) as source:
        frames = list(source)
    assert [type(frame) for frame in frames] == [BrokenFrame, VideoFrame]


def test_a_camera_that_hangs_is_given_up():
    hangs = threading.Event()

    def connection():
        yield VideoFrame(0, 0.0, PHOTO)
        hangs.wait(20)

    with LiveSource(info(), connections(connection()), patience=0.2) as source:
        frames = list(source)
    hangs.set()
    assert len(frames) == 1
    assert source.info.notes == ["no frame for 0.2 s after frame 0: taken for gone"]


def test_closing_ends_the_wait():
    hangs = threading.Event()

    def connection():
        yield VideoFrame(0, 0.0, PHOTO)
        hangs.wait(20)

    source = LiveSource(info(), connections(connection()))
    frames = []
    thread = threading.Thread(target=lambda: frames.extend(source))
    thread.start()
    while not frames:
        time.sleep(0.01)
    source.close()
    thread.join(10)
    hangs.set()
    assert not thread.is_alive() and len(frames) == 1


def test_whoever_is_slow_gets_every_frame():
    with LiveSource(info(), connections(frames_of(20)), tries=0) as source:
        frames = []
        for frame in source:
            time.sleep(0.002)
            frames.append(frame)
    assert len(frames) == 20


def test_nothing_there_is_an_error_at_once():
    with pytest.raises(SourceError, match="no such device"):
        LiveSource(info(), connections())
    with pytest.raises(SourceError, match="there is no camera /dev/video97"):
        open_camera("97", 97, "auto", "pyav")


@pytest.fixture
def serve():
    """Serve bytes over HTTP once, as a stream without an end, and then be gone; the address."""
    servers = []

    def start(data, kind, **headers):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", kind)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
                threading.Thread(target=server.shutdown).start()

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)

        def run():
            server.serve_forever(poll_interval=0.01)
            server.server_close()

        threading.Thread(target=run, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}/live"

    yield start
    for server in servers:
        server.shutdown()


def test_a_stream_over_the_network_that_ends(serve):
    videos = pytest.importorskip("python_tests.stream.videos")
    data = videos.encode(videos.moving_planes(20), format="mpegts", options={"crf": "18", "bf": "0"})
    with open_address(serve(data, "video/mp2t"), "auto") as source:
        source._tries, source._wait = 1, 0.01
        frames = list(source)
    assert len(frames) == 20 and source.info.live and source.info.kind == "address"
    assert source.info.reader.startswith("PyAV") and source.info.size == (48, 64)
    assert source.info.notes[-1] == "taken for gone after 1 tries to open it again"


def test_a_file_over_the_network_is_read_once(serve):
    videos = pytest.importorskip("python_tests.stream.videos")
    data = videos.encode(videos.moving_planes(10), format="mp4", container={"movflags": "faststart"})
    with open_address(serve(data, "video/mp4", **{"Content-Length": len(data)}), "auto") as source:
        frames = list(source)
    assert len(frames) == 10 and not source.info.live and source.info.frames == 10


def test_motion_jpeg_over_the_network(serve):
    videos = pytest.importorskip("python_tests.stream.videos")
    Image = pytest.importorskip("PIL.Image")
    pictures, parts = [], []
    for luma, *_ in videos.moving_planes(5):
        file = io.BytesIO()
        Image.fromarray(luma).save(file, "JPEG")
        pictures.append(file.getvalue())
        length = f"Content-Length: {len(pictures[-1])}\r\n\r\n".encode()
        parts.append(b"--frame\r\nContent-Type: image/jpeg\r\n" + length + pictures[-1] + b"\r\n")
    address = serve(b"".join(parts) + b"--frame\r\n", "multipart/x-mixed-replace; boundary=frame")
    with open_address(address, "auto") as source:
        source._tries = 0
        frames = list(source)
    assert len(frames) == 5
    for frame, picture in zip(frames, pictures, strict=True):
        assert np.array_equal(frame.photo, decode_picture(picture))
