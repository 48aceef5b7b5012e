"""The examples of README.md and docs/: Python blocks print what their comments say, commands end well.

A block that cannot run has ``<!-- not executed: reason -->`` directly above it.
"""

import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from rwpm_fast.cli import main

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES += sorted((ROOT / "bench" / "results").rglob("*.md"))

RUN = {"python", "bash"}
PROSE = {"text", "bibtex", "{toctree}", "{eval-rst}", "{include}"}
MARK = re.compile(r"<!-- not executed: (.+) -->")


class Block(NamedTuple):
    page: str
    line: int  # of its first line of code
    language: str
    code: str
    reason: str | None  # why it does not run

    def __str__(self):
        return f"{self.page}:{self.line}"


def blocks_of(path):
    lines = path.read_text().splitlines()
    page, opened, reason = str(path.relative_to(ROOT)), None, None
    for number, line in enumerate(lines, 1):
        if not line.startswith("```"):
            continue
        if opened is None:
            opened, language = number, line[3:].split()[0] if line[3:].strip() else ""
            marked = MARK.fullmatch(lines[number - 2]) if number > 1 else None
            reason = marked[1] if marked else None
        else:
            yield Block(page, opened + 1, language, "\n".join(lines[opened : number - 1]), reason)
            opened = None
    assert opened is None, f"{page}:{opened}: a block that never ends"


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def runnable(language):
    return [block for block in BLOCKS if block.language == language and block.reason is None]


def commands_of(code):
    """The words of each command line of a shell block, comments left out."""
    for line in code.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


@pytest.fixture(scope="module")
def street():
    """A small rendered street and its labels: 0 inlier, 1 anomaly, 255 void."""
    from rwpm_fast.scenes import render_holdout_scene

    return render_holdout_scene(0, (128, 256))


@pytest.fixture
def folder(street, tmp_path, monkeypatch):
    """A folder with the files that the pages speak of, as the current one."""
    from PIL import Image

    image, labels = street
    Image.fromarray(image).save(tmp_path / "image.jpg", quality=95)
    for name, values in {"images": image, "labels": labels.astype(np.uint8)}.items():
        (tmp_path / name).mkdir()
        Image.fromarray(values).save(tmp_path / name / "street.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("block", runnable("python"), ids=str)
def test_code_prints_what_its_comments_say(block, folder):
    expected = [line.removeprefix("# ") for line in block.code.splitlines() if line.startswith("# ")]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block.code, str(block), "exec"), {"__name__": "__main__"})
    assert printed.getvalue().splitlines() == expected


@pytest.mark.parametrize("block", runnable("bash"), ids=str)
def test_commands_end_well(block, folder, capsys):
    for program, *arguments in commands_of(block.code):
        assert program == "rwpm-fast", f"{block}: {program} cannot run here; mark the block as not executed"
        assert main(arguments) == 0, capsys.readouterr().err


def test_every_block_runs_or_says_why():
    unknown = [str(block) for block in BLOCKS if block.language not in RUN | PROSE]
    assert not unknown, f"expected one of {', '.join(sorted(RUN | PROSE))} after the backquotes"
    marked = [block for block in BLOCKS if block.reason is not None]
    assert all(block.language in RUN for block in marked), "prose needs no mark"
    marks = sum(len(re.findall(r"^<!-- not executed", page.read_text(), re.M)) for page in PAGES)
    assert len(marked) == marks, "a mark stands directly above its block"
    assert len(runnable("python")) >= 10
    assert len(runnable("bash")) >= 5


def test_no_command_hides_in_an_indented_block():
    hidden = re.compile(r"^    (rwpm-fast|python|pip|make|torchrun|>>>|import|from) ?")
    inside = {(block.page, block.line + k) for block in BLOCKS for k in range(block.code.count("\n") + 1)}
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        for number, line in enumerate(page.read_text().splitlines(), 1):
            assert (name, number) in inside or not hidden.match(line), f"{name}:{number}: {line.strip()}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: {target}"


def test_the_readme_is_short():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 180
    headings = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    assert headings == [
        "Install",
        "Quick start",
        "Performance",
        "Accuracy",
        "What is inside",
        "Differences from the papers",
        "Contributing, citation, license",
    ]
