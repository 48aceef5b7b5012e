"""Photos and labels as people have them: what score, evaluate and check read, turn, leave out, and say of it."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from python_tests import codings
from rwpm_fast import cli
from rwpm_fast.io.images import read_labels


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """Three photos of a gray street below a blue sky, which is void, two of them with a pink box, which is labeled."""
    root = tmp_path_factory.mktemp("street")
    random = np.random.default_rng(0)
    (root / "images").mkdir()
    (root / "labels").mkdir()
    for i in range(3):
        photo = np.full((180, 320, 3), 120, np.uint8) + random.integers(0, 30, (180, 320, 3), dtype=np.uint8)
        photo[:60] = 90, 140, 220
        labels = np.zeros((180, 320), np.uint8)
        labels[:20] = 255
        if i:
            photo[100:140, 100:160] = 250, 30, 200
            labels[100:140, 100:160] = 1
        Image.fromarray(photo).save(root / f"images/{i}.png")
        Image.fromarray(labels).save(root / f"labels/{i}.png")
    return root


FIGURES = ["98.11", "0.62", "99.93"]  # AP, FPR95 and AuROC of energy without the walk


@pytest.fixture
def evaluate(capsys, street, tmp_path):
    """Evaluate; the status, AP, FPR95 and AuROC without the walk, and all that is printed. Scores are kept."""

    def run(labels, *arguments, images=street / "images"):
        file = tmp_path / "numbers.json"
        file.unlink(missing_ok=True)
        words = ("--images", images, "--labels", labels, "--threads", 1, "--scores", "energy", "--steps", 1)
        words += ("--cache", street / "cache", "--json", file, *arguments)
        status = cli.main(["evaluate", *map(str, words)])
        out, err = capsys.readouterr()
        if not file.exists():
            return status, None, out + err
        row = json.loads(file.read_text())["lines"][0]
        figures = [row[name] for name in ("ap", "fpr95", "auroc")]
        return status, [figure and f"{100 * figure:.2f}" for figure in figures], out + err

    return run


@pytest.fixture
def check(capsys):
    def run(*arguments):
        status = cli.main(["check", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert err == ""
        return status, out

    return run


def recoded(street, folder, write):
    """Write the labels of a street anew into a folder."""
    folder.mkdir()
    for file in (street / "labels").iterdir():
        write(read_labels(file), folder / file.name)
    return folder


def copied(street, folder):
    shutil.copytree(street / "images", folder)
    return folder


@pytest.mark.parametrize("coding", codings.EXACT)
def test_every_coding_of_labels_gives_the_same_figures(evaluate, check, street, tmp_path, coding):
    labels = recoded(street, tmp_path / "labels", codings.EXACT[coding])
    status, figures, text = evaluate(labels)
    assert (status, figures) == (0, FIGURES)
    assert "folders: labels have inlier values 0 (86.11%), anomaly values 1 (2.78%), void values 255 (11.11%)." in text
    assert ("have a palette of colors" in text) == (coding == "palette of colors")
    status, text = check("--images", street / "images", "--labels", labels)
    assert status == 0 and "inlier 86.11%, anomaly 2.78%, void 11.11%; 1 frames without an anomaly" in text
    assert "label values: inlier values 0 (86.11%), anomaly values 1 (2.78%), void values 255 (11.11%)" in text
    assert ("palette of colors, of which the indices are read: 3 (0.png" in text) == (coding == "palette of colors")


def one_bit(value):
    return lambda labels, path: Image.fromarray(labels == value).save(path)


@pytest.mark.parametrize(
    ("write", "there"),
    [
        (one_bit(1), "inlier values 0 (97.22%), void values 255 (2.78%)"),
        (lambda labels, path: codings.write_png(path, labels % 2, 2), "void values 85"),
        (lambda labels, path: Image.fromarray(labels.astype(np.uint16) * 257).save(path), "257, 65535"),
        (
            lambda labels, path: Image.fromarray(np.where(labels == 1, 128, 0).astype(np.uint8)).save(path),
            "128 (2.78%)",
        ),
    ],
    ids=["1 bit", "2 bits", "16 bits, scaled", "another value"],
)
def test_labels_without_an_anomaly_tell_their_values(evaluate, check, street, tmp_path, write, there):
    labels = recoded(street, tmp_path / "labels", write)
    status, figures, text = evaluate(labels)
    assert (status, figures) == (2, None)
    assert "no pixel is labeled 1; there are" in text and there in text and "--positive" in text
    status, text = check("--images", street / "images", "--labels", labels)
    assert status == 1 and "no anomaly: 1" in text and there in text


def test_a_mask_of_one_bit(evaluate, street, tmp_path):
    """Without void pixels: the figures of the same labels in 8 bits."""
    plain = recoded(street, tmp_path / "plain", lambda labels, path: Image.fromarray(labels % 255).save(path))
    status, figures, text = evaluate(recoded(street, tmp_path / "mask", one_bit(1)), "--positive", 255)
    assert status == 0 and figures == evaluate(plain)[1] and "anomaly values 255 (2.78%)" in text


def test_labels_stored_as_jpeg_are_told(evaluate, check, street, tmp_path):
    labels = recoded(
        street, tmp_path / "labels", lambda labels, path: Image.fromarray(labels).save(path, format="JPEG")
    )
    status, figures, text = evaluate(labels)
    assert status == 0 and figures != FIGURES
    assert "3 label files are stored as JPEG, which alters values" in text and "void values 253..255 (11.11%)" in text
    status, text = check("--images", street / "images", "--labels", labels)
    assert status == 1 and "labels stored as JPEG, which alters values: 3" in text
    status, figures, text = evaluate(labels, "--void", 255)
    assert status == 1 and "expected the values 0 inlier, 1 anomaly, 255 void, got 253 (320 pixels)" in text
    status, text = check("--images", street / "images", "--labels", labels, "--void", 255)
    assert status == 1 and "unknown label values: 3" in text


def test_what_is_declared_void(evaluate, street):
    status, figures, _ = evaluate(street / "labels", "--void", 255, 7)
    assert (status, figures) == (0, FIGURES)
    status, _, text = evaluate(street / "labels", "--void", 1)
    assert status == 2 and "void: expected label values that are neither positive nor negative, got [1]" in text


# How pixels are stored that orientation 1..8 turns upright.
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


def turned(street, folder, orientation, suffix="png"):
    """Photos that show the same, stored in another orientation."""
    folder.mkdir()
    exif = Image.Exif()
    exif[274] = orientation
    for file in (street / "images").iterdir():
        photo = np.ascontiguousarray(STORED[orientation](np.array(Image.open(file))))
        Image.fromarray(photo).save(folder / f"{file.stem}.{suffix}", exif=exif)
    return folder


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("orientation", STORED)
def test_photos_that_orientation_turns_beside_upright_labels(evaluate, check, street, tmp_path, orientation, suffix):
    images = turned(street, tmp_path / "turned", orientation, suffix)
    status, figures, text = evaluate(street / "labels", images=images)
    doubt = orientation in (2, 3, 4)  # the stored photo has the labels' size
    assert status == 0 and (figures == FIGURES) == (not doubt)
    told = f"3 photos have the EXIF orientation {orientation} and are read as stored; orientation (stored or upright)"
    assert (told in text) == doubt and ("0.png" in text or "0.tif" in text) == doubt
    status, text = check("--images", images, "--labels", street / "labels")
    assert status == doubt and ("EXIF orientation in doubt: 3" in text) == doubt
    assert ("photos turned by their EXIF orientation, as their labels are: 3" in text) == (orientation > 4)

    for told in ("upright", "stored"):
        status, figures, text = evaluate(street / "labels", "--orientation", told, images=images)
        if told == "upright" or orientation == 1:
            assert (status, figures) == (0, FIGURES)
        elif orientation > 4:
            assert status == 1 and "expected the photo's size 320x180, got 180x320" in text
        assert "EXIF" not in text
    status, text = check("--images", images, "--labels", street / "labels", "--orientation", "upright")
    assert status == 0 and ("photos turned by" in text) == (orientation > 1)


@pytest.mark.parametrize("orientation", STORED)
def test_labels_that_are_stored_as_their_photos_are(evaluate, street, tmp_path, orientation):
    """As in every published data set: nothing is turned, whether told or not."""
    images = turned(street, tmp_path / "turned", orientation)
    labels = recoded(
        street,
        tmp_path / "labels",
        lambda upright, path: Image.fromarray(np.ascontiguousarray(STORED[orientation](upright))).save(path),
    )
    status, figures, text = evaluate(labels, images=images)
    assert status == 0 and ("read as stored" in text) == (orientation in (2, 3, 4))
    assert evaluate(labels, "--orientation", "stored", images=images)[:2] == (0, figures)


def test_square_photos_are_in_doubt(check, tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "images/a.jpg", exif=exif)
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / "labels/a.png")
    status, text = check("--images", tmp_path / "images", "--labels", tmp_path / "labels")
    assert status == 1 and "a.jpg: 6, read as stored; say by orientation how labels belong to it" in text
    status, text = check("--images", tmp_path / "images", "--labels", tmp_path / "labels", "--orientation", "stored")
    assert status == 0


@pytest.mark.parametrize("command", ["check", "evaluate"])
def test_an_unknown_orientation(capsys, street, command):
    folders = ("--images", str(street / "images"), "--labels", str(street / "labels"))
    for data in (folders, ("--dataset", "anomaly_track", "--root", str(street))):
        words = data[1::2] if command == "check" and data is not folders else data
        assert cli.main([command, *words, "--orientation", "left"]) == 2
        assert "orientation: expected stored or upright, got 'left'" in capsys.readouterr().err


@pytest.mark.parametrize("orientation", STORED)
def test_photos_without_labels_are_turned_upright(capsys, street, tmp_path, orientation):
    images = turned(street, tmp_path / "turned", orientation)
    words = ("--no-panel", "--steps", "1", "--threads", "1")
    assert cli.main(["score", str(street / "images/1.png"), "--out", str(tmp_path / "plain"), *words]) == 0
    assert cli.main(["score", str(images / "1.png"), "--out", str(tmp_path / "out"), *words]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out/1.npy"), np.load(tmp_path / "plain/1.npy"))


LEFT_OUT = "2 files are no photos by their suffix and not used: b.heic, notes.txt"


@pytest.fixture
def littered(street, tmp_path):
    """The street with files that are no photos, hidden ones, a folder, and a photo of a rarer suffix."""
    images = copied(street, tmp_path / "littered")
    for name in ("b.heic", "notes.txt", ".DS_Store", "._1.png"):
        (images / name).touch()
    (images / "thumbnails").mkdir()
    (images / "2.png").rename(images / "2.PPM")
    Image.open(street / "images/2.png").save(images / "2.PPM")
    return images


def test_files_that_are_left_out_are_told(capsys, evaluate, check, street, littered, tmp_path):
    assert cli.main(["score", str(littered), "--out", str(tmp_path / "out"), "--no-panel", "--steps", "1"]) == 0
    assert f"{LEFT_OUT}; name a photo of another suffix itself" in capsys.readouterr().err
    assert (tmp_path / "out/2.npy").exists()
    status, figures, text = evaluate(street / "labels", images=littered)
    assert (status, figures) == (0, FIGURES) and LEFT_OUT in text and "DS_Store" not in text
    status, text = check("--images", littered, "--labels", street / "labels")
    assert status == 0 and "files that are no photos by their suffix: 2 (b.heic, notes.txt)" in text
    status, figures, text = evaluate(street / "labels", images=f"{littered}/[0-9]*")
    assert (status, figures) == (0, FIGURES) and "not used" not in text


def test_files_that_are_left_out_of_a_data_set_are_told(capsys, check, street, littered):
    littered.rename(littered.with_name("images"))
    shutil.copytree(street / "labels", littered.with_name("labels"))
    root = littered.parent
    text = check("anomaly_track", root)[1]
    assert (
        "files that are no photos by their suffix: 2 (b.heic, notes.txt)" in text and "1 problems" in text
    )  # their number
    words = ("--dataset", "anomaly_track", "--root", str(root), "--scores", "energy", "--steps", "1")
    assert cli.main(["evaluate", *words]) == 0
    out, err = capsys.readouterr()
    assert LEFT_OUT in err and LEFT_OUT in out


def test_a_dead_link_is_a_photo_that_cannot_be_read(capsys, evaluate, check, street, tmp_path):
    images = copied(street, tmp_path / "linked")
    (images / "2.png").unlink()
    (images / "2.png").symlink_to("gone/2.png")
    told = "2.png: cannot be read: a link to gone/2.png, which is not there"
    status, _, text = evaluate(street / "labels", images=images)
    assert status == 1 and told in text and "2 of 3 photos" in text
    status, text = check("--images", images, "--labels", street / "labels")
    assert status == 1 and told in text
    assert cli.main(["score", str(images), "--out", str(tmp_path / "out"), "--no-panel", "--steps", "1"]) == 1
    assert told in capsys.readouterr().err
    images.rename(tmp_path / "images")
    (tmp_path / "labels").symlink_to(street / "labels")
    status, text = check("anomaly_track", tmp_path)
    assert status == 1 and told in text


def test_linked_files_and_folders_are_files_and_folders(evaluate, check, street, tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    for file in (street / "images").iterdir():
        (images / file.name).symlink_to(file)
    labels.symlink_to(street / "labels")
    assert evaluate(labels, images=images)[:2] == (0, FIGURES)
    assert check("--images", images, "--labels", labels)[0] == 0
    assert "frames: 3" in check("anomaly_track", tmp_path)[1]


def test_labels_that_are_left_over_are_told(evaluate, check, street, tmp_path):
    labels = shutil.copytree(street / "labels", tmp_path / "labels")
    shutil.copy(labels / "0.png", labels / "9.png")
    status, figures, text = evaluate(labels)
    assert (status, figures) == (0, FIGURES) and "1 labels have no photo and are not used: 9.png" in text
    assert "no photo" not in evaluate(street / "labels", "--limit", 2)[2]
    status, text = check("--images", street / "images", "--labels", labels)
    assert status == 1 and "labels without photos: 1" in text and str(labels / "9.png") in text


@pytest.mark.parametrize("layout", ["two folders", "plain"])
def test_suffixes_of_labels_in_any_case(evaluate, check, street, tmp_path, layout):
    labels = recoded(
        street, tmp_path / "labels", lambda labels, path: Image.fromarray(labels).save(path.with_suffix(".PNG"))
    )
    if layout == "two folders":
        assert evaluate(labels)[:2] == (0, FIGURES)
        assert check("--images", street / "images", "--labels", labels)[0] == 0
    else:
        copied(street, tmp_path / "images")
        assert "1 problems" in check("anomaly_track", tmp_path)[1]  # their number


def test_check_of_two_folders_lists_what_evaluate_would_refuse(capsys, check, street, tmp_path):
    labels = shutil.copytree(street / "labels", tmp_path / "labels")
    (labels / "0.png").unlink()
    (labels / "1.png").write_bytes((labels / "1.png").read_bytes()[:60])
    status, text = check("--images", street / "images", "--labels", labels)
    assert status == 1 and "photos without labels: 1" in text and "files that cannot be read: 1" in text
    for words, message in (
        ((), "expected NAME and ROOT, or --images and --labels"),
        (("anomaly_track",), "expected NAME and ROOT"),
        (("anomaly_track", street, "--positive", 2), "--positive: not with NAME and ROOT"),
        (("--images", street, "--labels", street, "--split", "all"), "--split: not with --images and --labels"),
    ):
        assert cli.main(["check", *map(str, words)]) == 2
        assert message in capsys.readouterr().err
