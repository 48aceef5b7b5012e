"""``rwpm-fast info --estimate``."""

import json

import pytest

from rwpm_fast import cli


def test_table_and_json_say_the_same(capsys):
    words = ["info", "--estimate", "45x80x160", "--steps", "5", "--value-channels", "3"]
    assert cli.main(words) == 0
    title, _, *table = capsys.readouterr().out.splitlines()
    assert title.startswith("walk of 45x80 = 3600 pixels, 160 channels, 3 value channels, 5 steps")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
    assert cli.main([*words, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["height"], record["width"], record["channels"], record["steps"]) == (45, 80, 160, 5)
    found = record["exact"], record["tolerance"]["least"], record["tolerance"]["most"]
    for row, estimate in zip(rows, found, strict=True):
        assert row[1] == estimate["path"]
        assert row[3] == f"{estimate['seconds']:.3g}" and row[4] == f"{estimate['bytes'] / 2**20:.0f}"
    assert found[1]["seconds"] < found[0]["seconds"] < found[2]["seconds"]


@pytest.mark.parametrize("size", ["90x160", "90x160x0", "90x-1x8", "axbxc", "", "1x2x3x4"])
def test_a_size_that_is_none(capsys, size):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["info", "--estimate", size])
    assert f"expected height x width x channels of the embeddings, such as 184x320x256, got {size!r}" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", "3"], "--steps: expected --estimate HxWxD with it, got it alone"),
        (["--estimate", "9x9x9", "--steps", "-1"], "steps: expected 0 or more transitions, got -1"),
        (["--estimate", "9x9x9", "--threads", "0"], "--threads: expected 1 or more"),
    ],
)
def test_settings_that_do_not_fit(capsys, words, message):
    assert cli.main(["info", *words]) == 2
    assert message in capsys.readouterr().err
