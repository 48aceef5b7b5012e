"""Exports to ONNX: against the module that they were made from, what they say of themselves, and errors."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from python_tests.helpers import relative_error
from python_tests.places import DATA
from python_tests.tiny_network import TinyNetwork
from rwpm_fast import Scorer, Walk, deploy, networks
from rwpm_fast.deploy import onnx_runtime
from rwpm_fast.deploy.errors import ExportError
from rwpm_fast.deploy.metadata import Metadata
from rwpm_fast.deploy.onnx_runtime import OPERATORS, load_onnx
from rwpm_fast.deploy.pipeline import Pipeline
from rwpm_fast.io.images import read_image
from rwpm_fast.ops.score_map import score_map

onnx = pytest.importorskip("onnx")
onnx_ir = pytest.importorskip("onnx_ir")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from rwpm_fast.deploy.onnx import export_onnx, finish  # noqa: E402
from rwpm_fast.deploy.onnx_pure_walk import expand_walks  # noqa: E402

METADATA = Metadata("tiny", TinyNetwork.classes, "energy", threshold=-1.5)


def photo(height, width, seed=0):
    return torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def write_pure(path, export):
    """The plain form of an export, without tracing its module again."""
    model = onnx_ir.load(export)
    expand_walks(model)
    path.write_bytes(finish(model, {**model.metadata_props, "rwpm.onnx": "pure"}).SerializeToString())


class Reducing(TinyNetwork):
    """Reduces photos first, as the compact network does, and walks a mixture of dtypes."""

    def preprocess(self, photos):
        height, width = (torch.sym_max(8, side * 2 // 3) for side in photos.shape[2:])
        images = super().preprocess(photos)
        return nn.functional.interpolate(images, (height, width), mode="bilinear", antialias=True)


@pytest.fixture(scope="module")
def pipeline():
    scorer = Scorer(Reducing(), walk=Walk(temperature=0.1, steps=4, anchor_share=0.2))
    return Pipeline(scorer)


@pytest.fixture(scope="module")
def exports(pipeline, tmp_path_factory):
    """Paths of the two forms of an export."""
    folder = tmp_path_factory.mktemp("onnx")
    forms = {"operator": folder / "operator.onnx", "pure": folder / "pure.onnx"}
    export_onnx(pipeline, photo(96, 128), forms["operator"], metadata=METADATA.to_strings())
    write_pure(forms["pure"], forms["operator"])
    return forms


def check_equal(export, module, image, tolerance):
    score, segmentation = module(image)
    got, classes = export.run(image.numpy())
    assert (got.dtype, classes.dtype) == (np.float32, np.uint8)
    assert got.shape == classes.shape == tuple(image.shape[:2])
    assert relative_error(got, score) <= tolerance
    # Where two classes are all but equal rounding decides.
    assert (classes != segmentation.numpy()).mean() <= 1e-3


@pytest.mark.parametrize("form", ["operator", "pure"])
@pytest.mark.parametrize("size", [(96, 128), (65, 141), (150, 64)], ids=str)
def test_equals_the_module(exports, pipeline, form, size):
    check_equal(load_onnx(exports[form], threads=1), pipeline, photo(*size, seed=1), 1e-5)


def test_says_what_it_is(exports):
    for form, path in exports.items():
        export = load_onnx(path)
        assert export.metadata == METADATA
        assert export.pure == (form == "pure")
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=form == "pure")
        assert {opset.domain: opset.version for opset in model.opset_import} == (
            {"": 18} if form == "pure" else {"": 18, "rwpm": 1}
        )
        (given,) = model.graph.input
        sides = [dim.dim_param or dim.dim_value for dim in given.type.tensor_type.shape.dim]
        assert (given.name, sides) == ("photo", ["height", "width", 3])
        assert [value.name for value in model.graph.output] == ["score", "segmentation"]
        # The exporter notes where the code lies.
        assert str(Path(torch.__file__).parent).encode() not in path.read_bytes()
        assert str(Path(__file__).parents[1]).encode() not in path.read_bytes()
    (walk,) = [node for node in onnx.load(exports["operator"]).graph.node if node.domain]
    settings = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in walk.attribute}
    assert settings == pytest.approx(
        {"alpha": 0.99, "steps": 4, "temperature": 0.1, "tolerance": 1e-4, "anchor": -1, "anchor_share": 0.2}
    )


def test_strides_of_a_photo_do_not_matter(exports):
    export, image = load_onnx(exports["operator"]), photo(65, 128).numpy()
    wanted, _ = export.run(image)
    for other in (np.asfortranarray(image), np.ascontiguousarray(image[:, ::-1])[:, ::-1]):
        np.testing.assert_array_equal(export.run(other)[0], wanted)


@pytest.mark.parametrize(
    ("wrong", "kind", "text"),
    [
        (np.zeros((80, 80, 3), "f4"), TypeError, "photo: expected dtype uint8 with values in 0..255, got float32"),
        (np.zeros((3, 80, 80), "u1"), ValueError, r"photo: expected shape \[H, W, 3\], got \[3, 80, 80\]"),
        (np.zeros((1, 80, 80, 3), "u1"), ValueError, r"photo: expected shape .* got \[1, 80, 80, 3\]"),
        (np.zeros((80, 80, 4), "u1"), ValueError, r"photo: expected shape .* got \[80, 80, 4\]"),
        (np.zeros((80, 63, 3), "u1"), ValueError, "photo: expected sides of at least 64 pixels, got"),
        (torch.zeros(80, 80, 3, dtype=torch.uint8), TypeError, "photo: expected a numpy.ndarray, got Tensor"),
    ],
    ids=["dtype", "channels first", "batch", "alpha", "small", "tensor"],
)
def test_wrong_photos(exports, wrong, kind, text):
    with pytest.raises(kind, match=text):
        load_onnx(exports["operator"]).run(wrong)


def test_wrong_files(exports, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*missing\.onnx"):
        load_onnx(tmp_path / "missing.onnx")
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"PK and other things")
    with pytest.raises(ExportError, match=r"junk.onnx: onnxruntime [\d.]+ does not load it: .*Protobuf parsing failed"):
        load_onnx(junk)
    model = onnx.load(exports["operator"])
    for key, value, text in (
        ("rwpm.op_abi", "2", r"other\.onnx: expected a file for operators of ABI 1, got one for ABI 2"),
        ("rwpm.format", "2", r"other\.onnx: expected metadata of format 1, got 2"),
    ):
        for entry in model.metadata_props:
            entry.value = value if entry.key == key else entry.value
        (tmp_path / "other.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(ExportError, match=text):
            load_onnx(tmp_path / "other.onnx")
    del model.metadata_props[:]
    (tmp_path / "foreign.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match=r"foreign\.onnx: expected an export of rwpm-fast, got a file without its"):
        load_onnx(tmp_path / "foreign.onnx")


def test_without_the_library(exports, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_runtime, "OPERATORS", tmp_path / "librwpm_ort.so")
    with pytest.raises(ExportError, match=r"operator.onnx: cannot run its walk: librwpm_ort.so is not built; build it"):
        load_onnx(exports["operator"])
    assert load_onnx(exports["pure"]).pure
    (tmp_path / "librwpm_ort.so").write_bytes(b"no library")
    with pytest.raises(ExportError, match=r"operator.onnx: cannot run its walk: Failed to load library"):
        load_onnx(exports["operator"])


def test_without_onnxruntime(exports, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"a model in ONNX needs onnxruntime .*pip install 'rwpm-fast\[onnx\]'"):
        load_onnx(exports["operator"])


class Toy(nn.Module):
    """A module of the right form; ``compute`` makes [1, H, W] of [H, W, 3]."""

    def __init__(self, compute):
        super().__init__()
        self.compute = compute

    def forward(self, photo):
        score = self.compute(photo.float()).mean(0)
        return score, score.to(torch.uint8)


def branching(photo):
    return photo.permute(2, 0, 1) * (2 if max(photo.shape[:2]) > 600 else 3)


def deciding(photo):
    return photo.permute(2, 0, 1) * (2 if photo.mean() > 600 else 3)


def walking(photo):
    return torch.ops.rwpm.walk.default(photo.flatten(0, 1).double()).T.unflatten(1, photo.shape[:2])


def scoring(photo):
    return score_map(photo.permute(2, 0, 1), photo.shape[:2], photo.shape[:2])[0][None]


def untranslatable(photo):
    return torch.special.bessel_j0(photo.permute(2, 0, 1))


@pytest.mark.parametrize(
    ("compute", "text"),
    [
        (
            untranslatable,
            r"^module: torch \S+ does not translate it to ONNX: No ONNX function found for .*bessel_j0",
        ),
        (branching, "module: expected one graph for photos of all sizes, but traced it is wrong for .*600"),
        (deciding, r"module: torch [\d.+a-z]+ does not trace it: Could not guard on data-dependent"),
        (walking, "module: expected a walk in float32 or less, got float64; use module.float"),
        (scoring, "module: expected a score in operators of torch, got rwpm::score_map; use one_pass=False"),
    ],
    ids=["no operator of ONNX", "branch on the size", "branch on values", "float64", "one pass"],
)
def test_modules_that_are_no_graph(tmp_path, compute, text):
    with pytest.raises(ExportError, match=text):
        export_onnx(Toy(compute), photo(96, 128), tmp_path / "toy.onnx", metadata=METADATA.to_strings())
    assert not list(tmp_path.iterdir())


def test_errors_before_any_work(tmp_path):
    with pytest.raises(ValueError, match=r"photo: expected shape \[H, W, 3\], got \[3, 96, 128\]"):
        export_onnx(
            Toy(branching), photo(96, 128).permute(2, 0, 1), tmp_path / "toy.onnx", metadata=METADATA.to_strings()
        )
    with pytest.raises(FileNotFoundError, match=r"path: expected a file in a folder that exists, got .*missing"):
        export_onnx(Toy(branching), photo(96, 128), tmp_path / "missing" / "toy.onnx", metadata=METADATA.to_strings())


SCRIPT = Path(deploy.__file__).with_name("templates") / "run_onnx.py"


def run_script(*words, env=None):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, words)], capture_output=True, text=True, check=False, env=env
    )


def test_the_script_beside_an_export(exports, tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.fromarray(photo(96, 128).numpy()).save(tmp_path / "street.png")
    done = run_script(exports["operator"], tmp_path / "street.png", "--library", OPERATORS, "--out", tmp_path / "maps")
    assert done.returncode == 0, done.stderr
    assert "of the pixels above -1.5" in done.stdout
    wanted, _ = load_onnx(exports["operator"]).run(photo(96, 128).numpy())
    np.testing.assert_array_equal(np.load(tmp_path / "maps" / "street.npy"), wanted)
    assert image.open(tmp_path / "maps" / "street_overlay.png").size == (128, 96)

    failed = run_script(exports["operator"], tmp_path / "street.png", "--library", tmp_path / "missing.so")
    assert failed.returncode == 1
    assert "cannot run its walk" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


# Folders of other versions: pip install --target FOLDER onnxruntime==1.16.0 'numpy<2'
RUNTIMES = list(filter(None, os.environ.get("RWPM_ONNXRUNTIMES", "").split(os.pathsep)))


@pytest.mark.slow
@pytest.mark.skipif(not RUNTIMES, reason="set RWPM_ONNXRUNTIMES to folders of other versions of onnxruntime")
@pytest.mark.parametrize("form", ["operator", "pure"])
@pytest.mark.parametrize("folder", RUNTIMES)
def test_other_versions_of_onnxruntime(exports, tmp_path, folder, form):
    image = pytest.importorskip("PIL.Image")
    image.fromarray(photo(151, 67).numpy()).save(tmp_path / "street.png")
    words = [exports[form], tmp_path / "street.png", "--library", OPERATORS, "--out", tmp_path / "maps"]
    done = run_script(*words, env={**os.environ, "PYTHONPATH": folder})
    if form == "operator" and "onnxruntime 1.15" in done.stderr:
        assert "is too old: rwpm needs API 16, which onnxruntime 1.16 and later have" in done.stderr
        assert len(done.stderr.splitlines()) == done.returncode == 1
        return
    assert done.returncode == 0, done.stderr
    wanted, _ = load_onnx(exports[form]).run(photo(151, 67).numpy())
    np.testing.assert_allclose(np.load(tmp_path / "maps" / "street.npy"), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["operator", "pure"])
@pytest.mark.parametrize("size", [(96, 128), (65, 141)], ids=str)
def test_openvino(exports, pipeline, form, size):
    openvino = pytest.importorskip("openvino")
    from rwpm_fast.deploy.openvino import add_walk

    core = openvino.Core()
    if form == "operator":
        add_walk(core)
    # In bfloat16, which it takes where the processor has it, embeddings are too coarse for a walk.
    ready = core.compile_model(str(exports[form]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    score, segmentation = pipeline(photo(*size))
    got, classes = ready({"photo": photo(*size).numpy()}).values()
    assert relative_error(got, score) <= 1e-5
    assert (classes != segmentation.numpy()).mean() <= 1e-3


FULL_SIZES = [(720, 1280), (375, 1242), (361, 639)]
REAL = sorted((DATA / "road_anomaly" / "images").glob("*.jpg"))[::12]


@pytest.fixture(scope="module", params=["compact", "dabnet"])
def real(request, tmp_path_factory):
    """A real network's module, with the tolerance of commands and without, and paths of its export's forms."""
    weights = [DATA / "networks" / "dabnet_cityscapes.npz"] if request.param == "dabnet" else []
    if not all(file.exists() for file in weights):
        pytest.skip("no weights of DABNet")
    network = networks.load(request.param, *weights)
    folder = tmp_path_factory.mktemp(request.param)
    modules = {
        form: Pipeline(Scorer(network, walk=Walk(tolerance=tolerance, anchor_share=network.default_anchor_share)))
        for form, tolerance in (("operator", 1e-4), ("pure", 0.0))
    }
    forms = {form: folder / f"{form}.onnx" for form in modules}
    export_onnx(modules["operator"], photo(720, 1280), forms["operator"], metadata=METADATA.to_strings())
    write_pure(forms["pure"], forms["operator"])
    return modules, forms


@pytest.mark.slow
@pytest.mark.parametrize(("form", "tolerance"), [("operator", 1e-5), ("pure", 1e-4)])
@pytest.mark.parametrize("size", FULL_SIZES, ids=str)
def test_real_networks(real, form, tolerance, size):
    if not REAL:
        pytest.skip(f"no photos in {DATA}")
    modules, forms = real
    export = load_onnx(forms[form])
    for path in REAL[: 5 if form == "operator" else 1]:
        whole = torch.from_numpy(read_image(path)).permute(2, 0, 1)[None].float()
        resized = nn.functional.interpolate(whole, size, mode="bilinear", antialias=True)
        check_equal(export, modules[form], resized.round().byte()[0].permute(1, 2, 0).contiguous(), tolerance)
