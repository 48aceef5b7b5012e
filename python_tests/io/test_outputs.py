"""No result replaces what is read or another result, by whatever name the file is reached."""

import os
from pathlib import Path

import pytest

from rwpm_fast.io import outputs
from rwpm_fast.io.outputs import OutputError, check_outputs


def itself(photo):
    return photo


def by_another_spelling(photo):
    return photo.parent / ".." / photo.parent.name / photo.name


def by_a_link(photo):
    link = photo.with_name("link.png")
    link.symlink_to(photo)
    return link


def by_a_linked_folder(photo):
    folder = photo.parents[1] / "linked"
    folder.symlink_to(photo.parent)
    return folder / photo.name


def by_a_hard_link(photo):
    link = photo.with_name("hard.png")
    os.link(photo, link)
    return link


def by_a_dead_link(photo):
    link = photo.with_name("dead.png")
    photo.rename(photo.with_name("gone.png"))
    photo.symlink_to("missing.png")
    link.symlink_to("missing.png")
    return link


def by_a_relative_path(photo):
    return Path(os.path.relpath(photo))


WAYS = [itself, by_another_spelling, by_a_link, by_a_linked_folder, by_a_hard_link, by_a_dead_link, by_a_relative_path]


@pytest.fixture
def photo(tmp_path):
    photo = tmp_path / "photos" / "a.png"
    photo.parent.mkdir()
    photo.write_bytes(b"photo")
    return photo


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("turned", [False, True], ids=["output", "input"])
def test_an_input_is_not_replaced(photo, way, turned):
    output, read = (way(photo), photo)[:: -1 if turned else 1]
    with pytest.raises(OutputError) as caught:
        check_outputs([("--json", output)], [None, photo.parent / "other.png", read], "give another file")
    assert all(text in str(caught.value) for text in ("--json", str(output), str(read), "give another file"))


def test_a_folder_stands_for_the_files_in_it(photo):
    with pytest.raises(OutputError, match=r"a\.png"):
        check_outputs([("--json", photo)], [photo.parent], "")


def test_files_that_are_apart(photo):
    old, linked = photo.with_name("old.json"), photo.with_name("linked.json")
    old.write_text("of the last run")
    os.link(old, linked)  # as programs do that save space: each is replaced alone
    new = photo.with_name("new") / "a.json"
    check_outputs([("a", old), ("b", linked), ("c", new), ("d", photo.with_name("A.PNG"))], [photo, new], "")
    assert sorted(path.name for path in photo.parent.iterdir()) == ["a.png", "linked.json", "old.json"]


@pytest.mark.parametrize("way", [itself, by_another_spelling, by_a_linked_folder, by_a_link])
def test_two_outputs_are_not_one_file(photo, way):
    photo.unlink()
    with pytest.raises(OutputError, match=r"--json and --csv: both would write .*give each its own"):
        check_outputs(
            [("--json", photo), ("--html", photo.with_name("b")), ("--csv", way(photo))], [], "give each its own"
        )


def test_names_that_differ_in_case(photo, monkeypatch):
    pair = [("A.png", photo.with_name("A.npy")), ("a.png", photo.with_name("a.npy"))]
    check_outputs(pair, [], "")
    monkeypatch.setattr(outputs, "_ignores_case", lambda folder: folder == photo.parent)
    with pytest.raises(OutputError, match=r"A\.png and a\.png"):
        check_outputs(pair, [], "")


def test_a_folder_that_tells_case_apart_is_left_as_it_was(photo):
    assert not outputs._ignores_case(photo.parent / "not" / "there")
    assert [path.name for path in photo.parent.iterdir()] == [photo.name]
