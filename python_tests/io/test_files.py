"""Files are written whole or not at all, and devices are written into."""

import os
import stat
import subprocess
import sys

import pytest

from rwpm_fast.io.files import atomic_write, make_folder_of, write_text


def test_names_that_are_not_utf8_are_escaped(tmp_path):
    write_text(tmp_path / "a.csv", f"photo {os.fsdecode(bytes([255]))}.png, ü\n")
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == "photo \\udcff.png, ü\n"


@pytest.mark.parametrize("length", [1, 240, 255])
def test_a_name_of_any_length(tmp_path, length):
    atomic_write(tmp_path / ("x" * length), lambda file: file.write(b"content"))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"content"]


def test_a_pipe_is_written_into(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE)
    make_folder_of(pipe, "--json")
    write_text(pipe, "content")
    assert reader.communicate(timeout=60)[0] == b"content"
    assert stat.S_ISFIFO(pipe.stat().st_mode) and list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize("redirected", [False, True], ids=["pipe", "file"])
def test_standard_output_is_written_into(tmp_path, redirected):
    code = "import pathlib; from rwpm_fast.io.files import *; p = pathlib.Path('/dev/stdout')"
    code += "; make_folder_of(p, '--json'); write_text(p, 'content')"
    with open(tmp_path / "out", "w+b") as file:
        done = subprocess.run([sys.executable, "-c", code], stdout=file if redirected else subprocess.PIPE, check=True)
        assert (file.read() if redirected else done.stdout) == b"content"
    assert stat.S_ISLNK(os.lstat("/dev/stdout").st_mode)
