"""Draw serve.webp: the page of `rwpm-fast serve` with a rendered street, and a pixel of its road held.

python -m docs.images.serve
"""

import io
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from python_tests.serve.browser import browser

OUT = Path(__file__).with_suffix(".webp")
SEED = 4


def draw() -> None:
    command = [sys.executable, "-m", "rwpm_fast", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split()[0]
            with TemporaryDirectory() as profile, browser(profile) as page:
                page.screen(1280, 1000)
                page.open(f"{address}#{SEED}")
                page.wait("return document.querySelector('#times').textContent", seconds=60)
                page.point("#walked", -0.1, 0.3, click=True)
                page.wait("return document.querySelectorAll('.bar').length")
                picture = page.picture()
        finally:
            server.terminate()
    Image.open(io.BytesIO(picture)).convert("RGB").save(OUT, quality=90)


if __name__ == "__main__":
    draw()
