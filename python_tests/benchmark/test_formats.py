"""Formats in turn: each is checked against eager before it gets a time, and one that cannot run says why."""

import json
import stat
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from python_tests.tiny_network import TinyNetwork
from rwpm_fast import Scorer, Walk
from rwpm_fast.benchmark.formats import Format, Program, formats_table, time_formats
from rwpm_fast.cli import main
from rwpm_fast.deploy.runners import EagerRunner
from rwpm_fast.scenes import render_scene

PHOTO = render_scene(np.random.default_rng(0), (64, 96))[0]


class Other(EagerRunner):
    """Fails, ends its process or gives another score, at its second call or at once."""

    def __init__(self, scorer, how):
        super().__init__(scorer)
        self.how, self.calls = how, 0

    def run(self, photo):
        self.calls += 1
        score, segmentation = super().run(photo)
        if self.how == "wrong":
            return score + 1, segmentation
        if self.how == "fails later" and self.calls == 2:
            raise RuntimeError("no more\nand more of it")
        return score, segmentation


def tiny(how=None):
    scorer = Scorer(TinyNetwork(), walk=Walk(steps=2))
    if how == "does not open":
        raise ValueError("no such thing")
    return EagerRunner(scorer) if how is None else Other(scorer, how)


PROGRAM = """#!{python}
import json, sys
from pathlib import Path
import numpy as np
words = sys.argv[1:]
after = lambda option: words[words.index(option) + 1]
assert after("--threads") == "1" and after("--repeat") == "2" and Path(after("--library")).name == "ops.so"
header, pixels = Path(words[1]).read_bytes().split(b"255\\n", 1)
assert header == b"P6 96 64 " and len(pixels) == 96 * 64 * 3
score = np.load({score!r})
if words[0] == "broken.pt2":
    sys.exit("broken.pt2: cannot be loaded")
np.save(Path(after("--out"), "photo.npy"), score)
record = {{"load_ms": 2000, "peak_bytes": 7340032, "run": {{"first_ms": 500, "median_ms": 250}}}}
Path(after("--json")).write_text(json.dumps(record))
"""


def test_formats_take_turns_and_are_checked(tmp_path):
    np.save(tmp_path / "score.npy", tiny().run(PHOTO)[0])
    program = tmp_path / "rwpm-score"
    program.write_text(PROGRAM.format(python=sys.executable, score=str(tmp_path / "score.npy")))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    done = []
    results = time_formats(
        [
            Format("eager", tiny),
            Format("wrong", partial(tiny, "wrong")),
            Format("later", partial(tiny, "fails later")),
            Format("closed", partial(tiny, "does not open")),
            Format("missing", tiny, missing="no such file"),
            Program("program", program, Path("good.pt2"), Path("ops.so")),
            Program("broken", program, Path("broken.pt2"), Path("ops.so")),
            Program("nowhere", tmp_path / "missing", Path("good.pt2"), Path("ops.so")),
        ],
        PHOTO,
        rounds=3,
        on_round=done.append,
    )
    eager, wrong, later, closed, missing, by_program, broken, nowhere = results
    assert done == [1, 2, 3]
    assert len(eager.seconds) == 3 and eager.error == 0 and eager.reason is None and eager.peak_bytes > 2**26
    assert 0 < eager.walk < sum(eager.seconds)
    assert wrong.reason.startswith("differs from eager by") and not wrong.seconds
    assert later.reason == "no more" and not later.seconds
    assert closed.reason == "no such thing"
    assert missing.reason == "no such file" and missing.load is None
    assert by_program.seconds == [0.25] * 3 and (by_program.load, by_program.first) == (2.0, 0.5)
    assert by_program.peak_bytes == 7340032 and by_program.error == 0 and by_program.walk == eager.walk
    assert broken.reason == "broken.pt2: cannot be loaded" and not broken.seconds
    assert "No such file" in nowhere.reason
    table = formats_table(results)
    assert "| program | 250.0 | 250.0 |" in table and "| closed | no such thing |" in table


def test_the_command_writes_its_record(tmp_path, capsys):
    words = ["benchmark", "compact", "--formats", "eager", "pt2", "--size", "64", "96", "--rounds", "1"]
    assert main([*words, "--steps", "1", "--json", str(tmp_path / "record.json")]) == 0
    record = json.loads((tmp_path / "record.json").read_text())
    assert [result["name"] for result in record["formats"]] == ["eager", "pt2"]
    assert record["formats"][0]["median"] > 0
    assert "rwpm-fast export compact --format pt2" in record["formats"][1]["reason"]
    assert "compact at 96x64" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--formats", "engine"], "--formats: expected some of eager, compile"),
        (["--rounds", "0"], "--rounds: expected 1 or more, got 0"),
        (["--photo", "a.png", "--size", "64", "96"], "--size: of the rendered photo; give it or --photo"),
    ],
)
def test_bad_options_are_told(words, message, capsys):
    assert main(["benchmark", "compact", *words]) == 2
    assert message in capsys.readouterr().err
