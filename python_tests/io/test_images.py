from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from python_tests import codings
from rwpm_fast.io.files import atomic_write
from rwpm_fast.io.images import (
    ImageError,
    as_image,
    find_images,
    list_images,
    pair_labels,
    read_header,
    read_image,
    read_labels,
)

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def color() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


@pytest.fixture
def gray() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (5, 7), dtype=np.uint8)


# Row 0 lies at the top, top, bottom, bottom, left, right, right, left; column 0 at the side that is left over.
UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored),
}


def save(array: np.ndarray, path: Path, **options) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


class TestReadPhoto:
    def test_color(self, tmp_path, color):
        photo = read_image(save(color, tmp_path / "a.png"))
        assert photo.dtype == np.uint8
        np.testing.assert_array_equal(photo, color)

    def test_grayscale_is_repeated(self, tmp_path, gray):
        photo = read_image(save(gray, tmp_path / "a.png"))
        np.testing.assert_array_equal(photo, np.stack([gray] * 3, -1))

    def test_alpha_is_dropped(self, tmp_path, color, gray):
        photo = read_image(save(np.dstack([color, gray]), tmp_path / "a.png"))
        np.testing.assert_array_equal(photo, color)

    def test_palette_is_looked_up(self, tmp_path):
        picture = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8))
        picture = picture.convert("P")
        picture.putpalette([10, 20, 30, 40, 50, 60])
        picture.save(tmp_path / "a.png", transparency=b"\x00\xff")
        np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0], [[10, 20, 30], [40, 50, 60]])

    def test_sixteen_bits_are_scaled(self, tmp_path):
        deep = np.array([[0, 257, 65535, 32896]], np.uint16)
        photo = read_image(save(deep, tmp_path / "a.png"))
        np.testing.assert_array_equal(photo[0, :, 0], [0, 1, 255, 128])

    def test_float_pixels_are_refused(self, tmp_path):
        path = save(np.zeros((2, 2), np.float32), tmp_path / "a.tif")
        with pytest.raises(ImageError, match=r"a\.tif: .*floating-point"):
            read_image(path)

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize(
        ("suffix", "options"),
        [("png", {}), ("webp", {"lossless": True}), ("tif", {}), ("tif", {"compression": "tiff_lzw"})],
        ids=["png", "webp", "tif", "tif, compressed"],
    )
    def test_orientation_is_followed_on_demand(self, tmp_path, color, orientation, suffix, options):
        """The numbers say where row 0 and column 0 of the stored pixels belong."""
        exif = Image.Exif()
        exif[274] = orientation
        path = save(color, tmp_path / f"a.{suffix}", exif=exif, **options)
        upright = UPRIGHT[orientation](color)
        np.testing.assert_array_equal(read_image(path), color)
        np.testing.assert_array_equal(read_image(path, upright=True), upright)
        header = read_header(path)
        assert (header.orientation, header.size, header.upright_size) == (orientation, (5, 7), upright.shape[:2])

    def test_orientation_behind_the_pixels_of_a_png(self, tmp_path, color):
        exif = Image.Exif()
        exif[274] = 3
        content = save(color, tmp_path / "a.png", exif=exif).read_bytes()
        start = content.index(b"eXIf") - 4
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")
        (tmp_path / "a.png").write_bytes(content[:start] + content[end:-12] + content[start:end] + content[-12:])
        np.testing.assert_array_equal(read_image(tmp_path / "a.png", upright=True), color[::-1, ::-1])
        assert read_header(tmp_path / "a.png").orientation == 3

    def test_orientation_that_cannot_be_read_counts_for_nothing(self, tmp_path, color):
        for number, exif in enumerate((b"Exif\0\0not TIFF", b"Exif\0\0MM\0*", b"")):
            path = save(color, tmp_path / f"{number}.png", exif=exif)
            np.testing.assert_array_equal(read_image(path, upright=True), color)
        exif = Image.Exif()
        exif[274] = 9
        np.testing.assert_array_equal(read_image(save(color, path, exif=exif), upright=True), color)

    @pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tif"])
    def test_truncated_file_is_named(self, tmp_path, suffix):
        color = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        path = save(color, tmp_path / f"cut.{suffix}")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ImageError, match=rf"cut\.{suffix}"):
            read_image(path)

    def test_cut_anywhere(self, tmp_path, color):
        whole = save(color, tmp_path / "a.png").read_bytes()
        path = tmp_path / "cut.png"
        # The pixels end 20 bytes before the file does: check sums and the end mark follow them.
        for length in range(0, len(whole) - 20, 3):
            path.write_bytes(whole[:length])
            with pytest.raises(ImageError, match=r"cut\.png"):
                read_image(path)

    def test_no_picture_and_no_file(self, tmp_path):
        path = tmp_path / "notes.jpg"
        path.write_text("not a picture")
        with pytest.raises(ImageError, match=r"notes\.jpg: not a picture"):
            read_image(path)
        with pytest.raises(ImageError, match=r"none\.jpg: cannot be read: No such file"):
            read_image(tmp_path / "none.jpg")

    def test_without_pillow(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "PIL", None)
        with pytest.raises(ImportError, match=r"pip install 'rwpm-fast\[cli\]'"):
            read_image(tmp_path / "a.png")


class TestReadLabels:
    def test_class_ids_stay(self, tmp_path, gray):
        np.testing.assert_array_equal(read_labels(save(gray, tmp_path / "a.png")), gray)

    def test_wide_ids_stay(self, tmp_path):
        ids = np.array([[7, 26001]], np.uint16)
        np.testing.assert_array_equal(read_labels(save(ids, tmp_path / "a.png")), ids)

    @pytest.mark.parametrize("coding", codings.EXACT)
    def test_every_coding_gives_what_viewers_show(self, tmp_path, coding):
        labels = np.random.default_rng(0).choice(np.array([0, 1, 255], np.uint8), (5, 9))
        codings.EXACT[coding](labels, tmp_path / "a.png")
        read = read_labels(tmp_path / "a.png")
        np.testing.assert_array_equal(read, labels)
        assert read.flags.writeable and read.flags.c_contiguous and read.dtype.isnative

    @pytest.mark.parametrize(("bits", "shown"), [(1, [0, 255]), (2, [0, 85, 170, 255]), (4, range(0, 256, 17))])
    def test_few_bits_of_gray_span_the_range(self, tmp_path, bits, shown):
        samples = np.arange(2**bits, dtype=np.uint8)[None]
        codings.write_png(tmp_path / "a.png", samples, bits)
        np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), [list(shown)])

    @pytest.mark.parametrize("bits", [1, 2, 4, 8])
    def test_palette_with_a_color_gives_indices(self, tmp_path, bits):
        """Also where no pixel has a color: all files of a data set are read alike."""
        ids = np.arange(2, dtype=np.uint8)[None]
        palette = [(255, 255, 255), (0, 0, 0), (128, 64, 128)][: 2**bits]
        if bits == 1:
            palette[1] = (1, 0, 0)
        codings.write_png(tmp_path / "a.png", ids, bits, palette)
        np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), ids)
        assert read_header(tmp_path / "a.png").indexed

    @pytest.mark.parametrize("bits", [1, 2, 4, 8])
    def test_palette_of_grays_gives_grays(self, tmp_path, bits):
        codings.write_png(tmp_path / "a.png", np.array([[0, 1, 1]], np.uint8), bits, [(255, 255, 255), (1, 1, 1)])
        np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), [[255, 1, 1]])
        assert not read_header(tmp_path / "a.png").indexed

    def test_index_without_an_entry(self, tmp_path):
        codings.write_png(tmp_path / "a.png", np.array([[0, 3]], np.uint8), 8, [(0, 0, 0), (1, 1, 1)])
        with pytest.raises(ImageError, match=r"a\.png: index 3 is beyond the 2 entries of its palette"):
            read_labels(tmp_path / "a.png")

    @pytest.mark.parametrize("mode", ["LA", "RGBA"])
    def test_transparent_pixels_are_refused(self, tmp_path, gray, mode):
        picture = Image.fromarray(gray).convert(mode)
        picture.putalpha(Image.fromarray(np.where(gray > 99, 255, 0).astype(np.uint8)))
        picture.save(tmp_path / "a.png")
        hidden = (gray <= 99).sum()
        with pytest.raises(ImageError, match=rf"a\.png: expected opaque pixels, got {hidden} that are transparent"):
            read_labels(tmp_path / "a.png")

    @pytest.mark.parametrize("channels", [2, 3, 4])
    def test_sixteen_bits_in_several_channels_are_refused(self, tmp_path, channels):
        """Pillow would cut them to the high byte: nothing but zeros of ids below 256."""
        codings.write_png(tmp_path / "a.png", np.ones((2, 3, channels), np.uint16), 16)
        with pytest.raises(ImageError, match=r"a\.png: expected one channel, got several of 16 bits"):
            read_labels(tmp_path / "a.png")

    def test_orientation_is_not_followed(self, tmp_path, gray):
        exif = Image.Exif()
        exif[274] = 6
        for name, kind in (("a.png", "PNG"), ("b.png", "TIFF")):
            np.testing.assert_array_equal(read_labels(save(gray, tmp_path / name, format=kind, exif=exif)), gray)

    def test_color_is_refused(self, tmp_path, color):
        with pytest.raises(ImageError, match=r"a\.png: expected one channel .* got mode RGB"):
            read_labels(save(color, tmp_path / "a.png"))


class TestAsPhoto:
    def test_forms_agree(self, color):
        tensor = torch.tensor(color).permute(2, 0, 1)
        alpha = np.dstack([color, color[..., 0]])
        for form in (color, alpha, color.astype(np.float32), tensor, tensor.float(), tensor.double()):
            photo = as_image(form)
            assert photo.dtype == np.uint8
            assert photo.flags.c_contiguous
            np.testing.assert_array_equal(photo, color)
        np.testing.assert_array_equal(as_image(Image.fromarray(color)), color)

    def test_grayscale(self, gray):
        np.testing.assert_array_equal(as_image(gray), np.stack([gray] * 3, -1))
        np.testing.assert_array_equal(as_image(Image.fromarray(gray)), np.stack([gray] * 3, -1))

    def test_views(self, color):
        np.testing.assert_array_equal(as_image(color[:, ::-1, ::-1]), color[:, ::-1, ::-1])

    def test_black_float_photo(self):
        assert not as_image(torch.zeros(3, 2, 2)).any()

    def test_floats_up_to_one_are_refused(self, color):
        for form in (color / 255.0, torch.rand(3, 4, 4)):
            with pytest.raises(ImageError, match="multiply by 255"):
                as_image(form)

    @pytest.mark.parametrize("value", [-1.0, 256.0, float("nan"), float("inf")])
    def test_values_out_of_range(self, value):
        with pytest.raises(ImageError, match=r"expected values in 0\.\.255"):
            as_image(np.full((2, 2, 3), value))

    @pytest.mark.parametrize(
        "form",
        [np.zeros((3, 4, 5), np.uint8), np.zeros((4, 5, 2), np.uint8), torch.zeros(4, 5, 3), torch.zeros(1, 3, 4, 5)],
        ids=["channels first", "two channels", "channels last tensor", "batch"],
    )
    def test_wrong_shape_is_told(self, form):
        with pytest.raises(ImageError, match=r"expected an? (array|tensor) of shape .* got \["):
            as_image(form)

    def test_no_pixels(self):
        with pytest.raises(ImageError, match="at least one pixel"):
            as_image(np.zeros((0, 5, 3), np.uint8))

    def test_wrong_types(self):
        with pytest.raises(TypeError, match="got int64"):
            as_image(np.zeros((2, 2, 3), np.int64))
        with pytest.raises(TypeError, match="got str"):
            as_image("street.jpg")


class TestFindPhotos:
    @pytest.fixture
    def folder(self, tmp_path):
        for name in ("frame10.jpg", "frame9.JPG", "frame1.png", "notes.txt", "._frame1.png"):
            (tmp_path / name).touch()
        (tmp_path / "deeper.jpg").mkdir()
        return tmp_path

    def test_folder_in_natural_order(self, folder):
        assert [p.name for p in find_images(folder)] == ["frame1.png", "frame9.JPG", "frame10.jpg"]

    def test_a_folder_is_read_at_once(self, folder, monkeypatch):
        """No file is looked at by itself: of 100 000 on a network disk that takes minutes."""
        looked_at = []
        stat = Path.stat
        monkeypatch.setattr(Path, "stat", lambda path, **how: looked_at.append(path) or stat(path, **how))
        monkeypatch.setattr(os.path, "isfile", lambda path: looked_at.append(path))
        assert len(find_images(folder)) == 3
        assert set(looked_at) == {folder}

    def test_the_folders_below_are_told_of(self, folder):
        with pytest.raises(
            ImageError, match=r"deeper\.jpg: no photos in this folder; the pattern '.*/deeper\.jpg/\*\*/\*'"
        ):
            find_images(folder / "deeper.jpg")
        (folder / "deeper.jpg/a/b").mkdir(parents=True)
        (folder / "deeper.jpg/a/b/1.png").touch()
        assert [path.name for path in find_images(f"{folder}/deeper.jpg/**/*")] == ["1.png"]

    def test_what_is_left_out_is_listed(self, folder):
        for name in (".hidden.txt", "more.HEIC", "Frame2.PPM", "frame3.jfif"):
            (folder / name).touch()
        listing = list_images(folder)
        assert [p.name for p in listing.used][:3] == ["frame1.png", "Frame2.PPM", "frame3.jfif"]
        assert [p.name for p in listing.unused] == ["more.HEIC", "notes.txt"]
        assert [p.name for p in list_images([folder, folder / "notes.txt"]).unused] == ["more.HEIC"]

    def test_links(self, folder, tmp_path_factory):
        """Linked photos and folders are photos and folders; a link to nothing is a photo that cannot be read."""
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        (folder / "frame2.png").symlink_to(folder / "frame1.png")
        (folder / "frame3.png").symlink_to("gone/frame3.png")
        (folder / "frame4.png").symlink_to(elsewhere)
        (folder / "frame5.png").symlink_to("frame5.png")
        (elsewhere / "linked").symlink_to(folder)
        names = [p.name for p in find_images(elsewhere / "linked")]
        assert names == ["frame1.png", "frame2.png", "frame3.png", "frame5.png", "frame9.JPG", "frame10.jpg"]
        assert find_images(folder / "frame3.png") == [folder / "frame3.png"]
        with pytest.raises(ImageError, match=r"frame3\.png: cannot be read: a link to gone/frame3\.png, which is not"):
            read_image(folder / "frame3.png")
        with pytest.raises(ImageError, match=r"frame5\.png: cannot be read"):
            read_header(folder / "frame5.png")

    def test_pattern(self, folder):
        assert [p.name for p in find_images(f"{folder}/frame1*")] == ["frame1.png", "frame10.jpg"]

    def test_file_of_any_suffix(self, folder):
        assert find_images([folder / "notes.txt"]) == [folder / "notes.txt"]

    def test_file_that_looks_like_a_pattern(self, tmp_path):
        path = tmp_path / "a[1].jpg"
        path.touch()
        assert find_images(str(path)) == [path]

    def test_each_once_in_the_order_given(self, folder):
        names = [p.name for p in find_images([folder / "frame10.jpg", folder])]
        assert names == ["frame10.jpg", "frame1.png", "frame9.JPG"]

    def test_nothing_there(self, folder):
        with pytest.raises(ImageError, match=r"deeper\.jpg: no photos in this folder"):
            find_images(folder / "deeper.jpg")
        for nothing in ("night*.jpg", "night.jpg"):
            with pytest.raises(ImageError, match="no such file or folder, nor a pattern with a match"):
                find_images([folder, folder / nothing])


class TestPairLabels:
    def test_equal_stems(self, tmp_path):
        for stem in ("a", "b"):
            (tmp_path / f"{stem}.png").touch()
        photos = [Path("photos/b.jpg"), Path("photos/a.webp")]
        assert pair_labels(photos, tmp_path) == [(photos[0], tmp_path / "b.png"), (photos[1], tmp_path / "a.png")]

    def test_missing_labels_are_named(self, tmp_path):
        (tmp_path / "0.png").touch()
        with pytest.raises(ImageError, match=r"7 of 8 labels missing: 1\.png, .*5\.png and 2 more"):
            pair_labels([Path(f"{i}.jpg") for i in range(8)], tmp_path)

    def test_suffix_in_any_case(self, tmp_path):
        (tmp_path / "a.PNG").touch()
        assert pair_labels([Path("a.jpg")], tmp_path) == [(Path("a.jpg"), tmp_path / "a.PNG")]
        (tmp_path / "a.png").touch()
        with pytest.raises(ImageError, match=r"a\.(png|PNG): two label files of one photo; keep one"):
            pair_labels([Path("a.jpg")], tmp_path)

    def test_labels_of_another_suffix_are_named(self, tmp_path):
        (tmp_path / "a.tif").touch()
        with pytest.raises(ImageError, match=r"labels missing: a\.png; .*; files there of another suffix: a\.tif"):
            pair_labels([Path("a.jpg")], tmp_path)

    def test_shared_stem(self, tmp_path):
        (tmp_path / "a.png").touch()
        with pytest.raises(ImageError, match="share the label"):
            pair_labels([Path("day/a.jpg"), Path("night/a.jpg")], tmp_path)


class TestWriteWhole:
    def test_new_and_replaced(self, tmp_path):
        path = tmp_path / "score.npy"
        for value in (1.0, 2.0):
            atomic_write(path, lambda file, value=value: np.save(file, np.full(3, value)))
            np.testing.assert_array_equal(np.load(path), np.full(3, value))
        assert os.listdir(tmp_path) == ["score.npy"]

    def test_usual_permissions(self, tmp_path):
        atomic_write(tmp_path / "a", lambda file: file.write(b"x"))
        (tmp_path / "b").write_bytes(b"x")
        assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode

    @pytest.mark.parametrize("old", [None, b"old"])
    @pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()], ids=["error", "interrupt"])
    def test_failure_midway_leaves_nothing(self, tmp_path, old, error):
        path = tmp_path / "score.npy"
        if old is not None:
            path.write_bytes(old)

        def fail(file):
            file.write(b"half")
            raise error

        with pytest.raises(type(error)):
            atomic_write(path, fail)
        assert os.listdir(tmp_path) == ([] if old is None else ["score.npy"])
        assert old is None or path.read_bytes() == old

    def test_full_disk_is_told(self, tmp_path):
        def fill(file):
            file.write(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with pytest.raises(OSError, match=r"cannot write .*score\.npy: No space left") as caught:
            atomic_write(tmp_path / "score.npy", fill)
        assert caught.value.errno == errno.ENOSPC
        assert os.listdir(tmp_path) == []

    def test_folder_is_missing_or_a_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"cannot write .*a\.png"):
            atomic_write(tmp_path / "none" / "a.png", lambda file: None)
        (tmp_path / "file").touch()
        with pytest.raises(NotADirectoryError, match=r"cannot write .*a\.png"):
            atomic_write(tmp_path / "file" / "a.png", lambda file: None)

    def test_unwritable_folder(self, tmp_path):
        folder = tmp_path / "locked"
        folder.mkdir(mode=0o555)
        if os.access(folder, os.W_OK):
            pytest.skip("this user may write anywhere")
        with pytest.raises(PermissionError, match=r"cannot write .*a\.png: Permission denied"):
            atomic_write(folder / "a.png", lambda file: None)

    def test_path_is_a_folder(self, tmp_path):
        (tmp_path / "a").mkdir()
        with pytest.raises(OSError, match="cannot write"):
            atomic_write(tmp_path / "a", lambda file: None)
        assert os.listdir(tmp_path) == ["a"]
