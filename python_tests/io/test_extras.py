"""What an extra brings is asked for before any work, in one way."""

import sys

import pytest

pytest.importorskip("matplotlib.figure")  # now, since it imports Pillow itself

from rwpm_fast import cli
from rwpm_fast.io.extras import import_extra, require_extras
from rwpm_fast.training import agreement


def test_a_module_that_is_there():
    assert import_extra("json", "this").dumps(1) == "1"
    require_extras("this", "json", "os.path")


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("PIL.Image", r"^this needs Pillow \(.*PIL.*\): pip install 'rwpm-fast\[cli\]'$"),
        ("matplotlib.figure", r"^this needs matplotlib \(.*\): pip install 'rwpm-fast\[cli\]'$"),
        ("cv2", r"^this needs OpenCV \(.*\): pip install 'rwpm-fast\[flow\]'$"),
        ("h5py", r"^this needs h5py \(.*\): pip install 'rwpm-fast\[submission\]'$"),
        ("scipy.ndimage", r"^this needs SciPy \(.*\): pip install 'rwpm-fast\[metrics\]'$"),
        ("sklearn.manifold", r"^this needs scikit-learn \(.*\): pip install 'rwpm-fast\[figure\]'$"),
    ],
)
def test_a_module_that_is_missing(monkeypatch, module, text):
    monkeypatch.setitem(sys.modules, module.partition(".")[0], None)
    with pytest.raises(ImportError, match=text):
        require_extras("this", "json", module)


COMMANDS = [
    ("score . --out out", "PIL"),
    ("score . --out out", "matplotlib"),
    ("check anomaly_track .", "PIL"),
    ("evaluate --images . --labels .", "PIL"),
    ("evaluate --images . --labels . --html out/e.html", "matplotlib"),
    ("evaluate --images . --labels . --components generic", "scipy"),
    ("temporal street_obstacle_sequences .", "PIL"),
    ("temporal street_obstacle_sequences .", "cv2"),
    ("submit fishyscapes . out", "PIL"),
    ("train compact --out out", "PIL"),
    ("train compact --out out", "matplotlib"),
    ("demo --out out", "matplotlib"),
    ("figure tighten a.png --out out/f.png", "matplotlib"),
    ("figure tighten a.png --out out/f.png", "sklearn"),
    ("figure tighten a.png --out out/f.png --projection tsne", "sklearn"),
    ("demo --out out --photo a.png", "PIL"),
    ("serve --port 0", "starlette"),
    ("serve --port 0", "uvicorn"),
    ("serve --port 0", "PIL"),
]


@pytest.mark.parametrize(("words", "missing"), COMMANDS)
def test_a_command_says_so_first(monkeypatch, capsys, tmp_path, words, missing):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, missing, None)
    assert cli.main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and f"{words.split()[0]} needs " in err and "pip install 'rwpm-fast[" in err
    assert not list(tmp_path.iterdir())


def test_agreement_says_so_first(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert agreement.main(["--photos", ".", "--teacher", "t.npz", "--json", "new/file"]) == 2
    assert "needs Pillow" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_score_needs_pictures_only_for_its_panels(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cli.main(["score", str(tmp_path), "--out", "out", "--no-panel"]) == 2
    assert "no photos in this folder" in capsys.readouterr().err
