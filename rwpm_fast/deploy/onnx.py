"""Export a module from photo to score to ONNX, with the walk as our operator or in plain ONNX."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..io.arrays import as_array
from ..io.extras import import_extra, require_extras
from ..io.files import atomic_write
from ..ops import registration as registration  # registers the operator
from ..ops import score_map as score_map  # registers another
from .errors import ExportError, reason_of
from .metadata import MIN_SIDE_KEY
from .onnx_operator import register_schema, translation
from .photos import check_photo
from .tracing import quiet, trace

# The oldest that has what networks need: an antialiased Resize.
OPSET = 18
# The oldest that holds the opset. Runtimes refuse newer ones than they know, whatever they hold.
IR_VERSION = 8

_PURPOSE = "the export to ONNX"


def export_onnx(
    module: nn.Module,
    example_photo: Tensor,
    path: str | os.PathLike[str],
    *,
    metadata: Mapping[str, str],
    pure: bool = False,
) -> None:
    """Export a module to ONNX (opset 18), for photos of any size.

    The file has the input ``photo`` [height, width, 3] uint8 and the outputs ``score`` [height, width] float32 and
    ``segmentation`` [height, width] uint8. It equals the module but for rounding, which the walk's temperature
    magnifies; compare before you ship. A walk becomes the operator ``Walk`` of the domain ``rwpm``, which ONNX Runtime
    1.16 and later run with ``librwpm_ort.so``, or plain ONNX, which every runtime runs.

    Args:
        module: from photo to score and segmentation, such as :class:`rwpm_fast.deploy.pipeline.Pipeline`; on the CPU,
            in evaluation mode.
        example_photo: [H, W, 3] uint8; its size does not matter.
        path: of the file, replaced if it exists.
        metadata: what the file says of itself; see :meth:`rwpm_fast.deploy.metadata.Metadata.to_strings`.
        pure: the walk in plain ONNX. It is exact: a ``tolerance`` of the module's walk, which trades mass for speed, is
            left out. It takes several times as long as the operator without a tolerance.

    Raises:
        ImportError: onnx, onnx-ir or onnxscript is not installed.
        TypeError: the photo is no uint8 tensor.
        ValueError: the photo has another shape.
        ExportError: the module cannot be traced for photos of any size, or uses an operator that ONNX lacks, or walks
            in float64, or the file would be larger than 2 GiB, which is the limit of the format.
        OSError: the file cannot be written.

    Example:
        >>> scorer = Scorer(networks.load("compact"), walk=Walk())
        >>> export_onnx(Pipeline(scorer), torch.from_numpy(read_image("street.jpg")), "compact.onnx",
        ...     metadata=Metadata.of(scorer).to_strings())
    """
    require_extras(_PURPOSE, "onnx", "onnx_ir", "onnxscript")
    check_photo(as_array("example_photo", example_photo))
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(f"path: expected a file in a folder that exists, got {path}")
    # Imported here, since they need the extra.
    from .onnx_pure_walk import expand_walks
    from .onnx_resize import expand_resizes

    model, min_side = translate(module, example_photo)
    expand_resizes(model)
    if pure:
        expand_walks(model)
    strings = {**metadata, MIN_SIDE_KEY: str(min_side), "rwpm.onnx": "pure" if pure else "operator"}
    content = finish(model, strings).SerializeToString()
    atomic_write(path, lambda file: file.write(content))


def translate(module: nn.Module, example_photo: Tensor) -> tuple[Any, int]:
    """Translate a module into an ``onnx_ir.Model`` with the operator, for photos from some side on; see
    :func:`export_onnx` and :func:`rwpm_fast.deploy.tracing.trace`.
    """
    program, min_side = trace(module, example_photo)
    for node in program.graph.nodes:
        if node.target is torch.ops.rwpm.walk.default and node.meta["val"].dtype == torch.float64:
            raise ExportError("module: expected a walk in float32 or less, got float64; use module.float()")
        if node.target is torch.ops.rwpm.score_map.default:
            raise ExportError("module: expected a score in operators of torch, got rwpm::score_map; use one_pass=False")
    register_schema()
    table: dict[Any, Any] = {torch.ops.rwpm.walk.default: translation(OPSET)}
    with quiet(), torch.no_grad():  # else parameters ask for gradients that the walk has not
        try:
            exported = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=["photo"],
                output_names=["score", "segmentation"],
                custom_translation_table=table,
                verbose=False,
            )
        except Exception as error:  # of many kinds, and many lines
            raise ExportError(
                f"module: torch {torch.__version__} does not translate it to ONNX: {reason_of(error)}"
            ) from error
    assert exported is not None
    return exported.model, min_side


def _tidy(model: Any) -> None:
    """Call the sides of the photo height and width, also where sizes are computed from them, and drop the notes of the
    exporter, which hold the paths of this machine.
    """
    passes = import_extra("onnx_ir.passes.common", _PURPOSE)
    passes.ClearMetadataAndDocStringPass()(model)
    traced = {str(dim): name for dim, name in zip(model.graph.inputs[0].shape, ("height", "width"), strict=False)}
    symbol = re.compile("|".join(rf"\b{name}\b" for name in traced))
    computed = (value for node in model.graph for value in node.outputs)
    for value in (*model.graph.inputs, *model.graph.initializers.values(), *computed):
        value.metadata_props.clear()
        if value.shape is not None:
            sizes = (dim if isinstance(dim, int) else dim.value for dim in value.shape)
            named = [
                symbol.sub(lambda found: traced[found[0]], size) if isinstance(size, str) else size for size in sizes
            ]
            value.shape = type(value.shape)(named)


def finish(model: Any, metadata: Mapping[str, str]) -> Any:
    """Turn a model into the ``onnx.ModelProto`` that is written."""
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    if size >= 2**31:
        raise ExportError(
            f"module: expected weights of less than 2 GiB, which ONNX can hold, got {size / 2**30:.1f} GiB"
        )
    _tidy(model)
    model.ir_version = IR_VERSION
    model.metadata_props.clear()
    model.metadata_props.update(metadata)
    proto = import_extra("onnx_ir", _PURPOSE).to_proto(model)
    import_extra("onnx.checker", _PURPOSE).check_model(proto)
    return proto
