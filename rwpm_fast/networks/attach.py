"""Make a ``Network`` of any torch segmentation model, by changing how copies of two of its modules are called.

The copies share the model's weights (:mod:`.private_copy`), and the model itself never changes: it may run in other
threads, be compiled, and be attached more than once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from ..memory import is_out_of_memory
from .base import Network, device_of
from .checkpoint import check_finite
from .classes import kept_classes
from .map_size import Size, check_area, check_map, check_size, find_stride, image_size
from .precision import at_least_float32
from .private_copy import copy_path, copy_tree, modules_to, plain, plain_path
from .probe import ModuleProbe, describe
from .resize import resize_photos
from .tokens import map_to_tokens, tokens_to_map


def attach(
    model: nn.Module,
    embedding: str,
    head: str,
    *,
    preprocess: Callable[[Tensor], Tensor] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    stride: int | tuple[int, int] | None = None,
    linear_head: bool | None = None,
    align_corners: bool = False,
    padded_to: int = 1,
    classes: Sequence[str] | None = None,
    trial_size: tuple[int, int] = (128, 192),
    size: tuple[int, int] | None = None,
    leave_out: Sequence[str | int] = (),
    reshape: int | Callable[[Any, Size], Tensor] | None = None,
    embedding_call: int | None = None,
    head_call: int | None = None,
) -> Attached:
    """Wrap a model as a network whose pixels can walk between two of its modules.

    Passes over a trial photo of noise show whether the modules fit: that both are called once, that the embedding is a
    map, that the head reads just that map, and gives logits. The model stays as it is, in use by others or not: passes
    run on copies of its modules that share its weights. A model that ``torch.compile`` made, or parts of it, may be
    given; what leads to the embedding then runs as written, the rest as compiled.

    Args:
        model: called with the preprocessed photos alone; put into evaluation mode. What it returns does not matter.
        embedding: path of the module whose output is the embedding map [B, D, h, w], as in ``model.named_modules()``.
            The map covers the whole input of the model: with n pixels along a side it has n // stride there, or one
            more. Any other is refused, here and for each photo. Of tokens, see ``reshape``. The model must call the
            module: where it enters its ``forward`` directly no hook runs, nor does what stops there.
        head: path of the module that turns the map into logits [B, K, h, w], called with the map alone. With tokens, it
            may read and give those of the patches alone, or with the others before them, if it treats each by itself.
        preprocess: function from RGB photos [B, 3, H, W], uint8 or floating point in 0..255, to the model's input. It
            may resize, but neither pad nor crop. Give either it or ``mean`` and ``std``.
        mean: of red, green and blue in 0..1, three numbers that are subtracted; ImageNet's are (0.485, 0.456, 0.406).
        std: of red, green and blue in 0..1, three positive numbers to divide by; ImageNet's are (0.229, 0.224, 0.225).
        stride: pixels of the model's input per side of a map pixel, or per row and per column; when None it is found in
            the trial pass, the same for both.
        linear_head: whether the head is linear for each pixel by itself, so that a walk may act on its logits; when
            None it is found by mixing pixels of the map before and after the head, again where the head is exchanged.
        align_corners: how the model brings logits to the size of its input.
        padded_to: for models that take only sides that are multiples of a number, which is 32 for many. The input is
            filled up with zeros at the bottom and on the right, after ``preprocess``, which must keep the photo's size;
            scores are cropped to the photo. With ``mean`` and ``std``, zero is the mean color.
        classes: names of the K classes; "class 0" and so on when None.
        trial_size: height and width of the trial photo, for models that take no other.
        size: height and width to which photos are resized before ``preprocess``, antialiased, for models and protocols
            that fix it; scores come at the photo's own size all the same. It is the trial photo's too.
        leave_out: names of classes, or their numbers from 0, that no score reads, such as a void class.
        reshape: how the embedding's output becomes a map. For tokens [B, N, D] in the order of rows: their number
            before the patches, such as 1 for a class token, 5 with four registers; they are left out. For anything
            else, such as a tuple or a map [B, h, w, D]: a function that is given the output, and height and width of
            the model's input, and returns the map that the head reads.
        embedding_call: which call of the embedding to take, from 0, or from the end by -1 for the last in the trial
            pass, where the model calls it several times.
        head_call: the same of the head. :meth:`Attached.walked` is then not to be had.

    Returns:
        The network, with ``model`` inside.

    Raises:
        TypeError: ``model`` is no module.
        ValueError: a model of TorchScript or an exported one, no preprocessing or two, or one that pads or crops, a
            path that names no module (the message lists close names and layers that give maps), a pass that fails,
            modules that do not fit or that the model calls otherwise than by their path, several times or not at all, a
            head that walks already, weights that are not finite, a size below 1, or a class to leave out that is not
            there.

    Example:
        >>> model = torchvision.models.segmentation.deeplabv3_resnet50(weights="DEFAULT")
        >>> mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        >>> network = attach(model, embedding="classifier.3", head="classifier.4", mean=mean, std=std)
        >>> Scorer(network, walk=Walk(steps=20))(photo).score  # [H, W]
    """
    if not isinstance(model, nn.Module):
        way_out = "; give the model that it was made of" if isinstance(model, torch.export.ExportedProgram) else ""
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}{way_out}")
    if not isinstance(padded_to, int) or padded_to < 1:
        raise ValueError(f"padded_to: expected an integer of 1 or more, got {padded_to!r}")
    if size is not None:
        check_size(size)
        trial_size = size = (size[0], size[1])
    if not (reshape is None or callable(reshape) or (isinstance(reshape, int) and reshape >= 0)):
        raise ValueError(f"reshape: expected a number of tokens, 0 or more, or a function, got {reshape!r}")
    _evaluating(model)
    _refuse_walking_heads(model)
    check_finite(model, type(model).__name__)
    network = Attached(model, embedding, head, _preprocessing(preprocess, mean, std), align_corners)
    network.padded_to, network.trial_size, network.fixed_size = padded_to, trial_size, size
    network._reshape = reshape
    if preprocess is not None:
        check_area(preprocess, trial_size, device_of(model))

    images = network._trial_images()
    shown = image_size(images) or trial_size
    probe = ModuleProbe(
        model,
        images,
        network.embedding_path,
        network.head_path,
        calls=(embedding_call, head_call),
        as_map=lambda output: network._as_map(output, images, stride),
    )
    network._calls, network._head_reads_tokens = probe.call_numbers, probe.head_reads_tokens
    network._called_once = probe.head_called_once
    logits = _apply_alone(probe, lambda map_: network._call_head(network._head, map_))
    network.stride = find_stride(shown, probe.map) if stride is None else stride
    check_map(shown, probe.map, network.stride)
    network._linear = linear_head
    network._try_head(probe.map)
    network._name_outputs([f"class {k}" for k in range(logits.shape[1])] if classes is None else classes, leave_out)
    network._check_outputs(logits)
    # The probe's pass copies all modules, these copy the paths alone: both must come by embedding and head.
    network.embed(images)
    network._trial_map()
    return network


class Attached(Network):
    """A model and the paths of its embedding and its head. Made by :func:`rwpm_fast.attach`.

    The model may change: its weights, dtype, device and modules count as they are at the time of a call. What its
    ``forward`` notes down on the modules of a path is lost, since they are copies.

    Embedding map and logits are at least float32 whatever dtype the model runs in, so that a walk loses no digits.

    Attributes:
        model: as given.
        embedding_path: path of the embedding, without names of wrappers of ``torch.compile``.
        head_path: path of the head, likewise.
        trial_size: height and width of the trial photo.
    """

    trial_size: Size

    def __init__(
        self,
        model: nn.Module,
        embedding: str,
        head: str,
        preprocess: Callable[[Tensor], Tensor] | tuple[Sequence[float], Sequence[float]],
        align_corners: bool,
    ) -> None:
        super().__init__()
        self.name = type(plain(model)).__name__
        self.model = model
        self.embedding_path = plain_path(embedding)
        self.head_path = plain_path(head)
        self.align_corners = align_corners
        self._preprocess = preprocess
        self._reshape: int | Callable[[Any, Size], Tensor] | None = None
        self._calls = (0, 0)  # of embedding and head, which are taken
        self._called_once = True  # the head, in a pass
        self._head_reads_tokens = False
        self._outputs: tuple[str, ...] = ()  # names of all that the head gives
        self._kept: list[int] = []
        self._linear: bool | None = None  # as given; None to find it
        self._tried: tuple[nn.Module, ...] = ()  # modules of the head for which it was found

    def preprocess(self, photos: Tensor) -> Tensor:
        if self.fixed_size is not None:
            photos = resize_photos(photos, self.fixed_size)
        size = (photos.shape[-2], photos.shape[-1])
        if callable(self._preprocess):
            images = self._preprocess(photos)
            if self.padded_to > 1 and image_size(images) != size:
                raise ValueError(
                    f"padded_to: expected a preprocess that keeps the size of a photo {list(size)}, got "
                    f"{describe(images)}"
                )
        else:
            dtype = next((p.dtype for p in self.model.parameters()), torch.float32)
            mean, std = (torch.tensor(values, device=photos.device).view(3, 1, 1) for values in self._preprocess)
            images = ((photos.to(mean.dtype) / 255 - mean) / std).to(dtype)
        return self.pad(images, size) if self.padded_to > 1 else images

    def embed(self, images: Tensor) -> Tensor:
        model, end = copy_path(self.model, self.embedding_path, _LeavesAfter)
        _skip_calls(end, self._calls[0])
        output = self._leave(model, images, "embedding", self.embedding_path)
        embedding_map = at_least_float32(self._as_map(output, images, self.stride))
        self._try_head(embedding_map)
        return embedding_map

    def head(self, embedding_map: Tensor) -> Tensor:
        dtype = next((p.dtype for p in self._head.parameters()), embedding_map.dtype)
        logits = at_least_float32(self._call_head(self._head, embedding_map.to(dtype)))
        self._check_outputs(logits)
        return logits if len(self._kept) == len(self._outputs) else logits[:, self._kept]

    def walked(self, walk: Callable[..., Tensor]) -> nn.Module:
        """Make a model whose own ``forward`` classifies walked pixels.

        Its head gets the walked map; where the head is linear its logits walk instead, which gives the same and is
        cheaper. Other modules that read the map see it unchanged. Gradients flow through the walked values and the
        graph, so that the model can be trained with the walk.

        It shares weights and most modules with the model, which itself does not change, and can be compiled and
        exported as it can. The modules that lead to the head are copies as of now: later changes of their mode, hooks,
        or submodules are seen by one of the two alone.

        Args:
            walk: a walk on maps, such as :class:`rwpm_fast.Walk`.

        Returns:
            The model with its pixels walked.

        Raises:
            ValueError: the head walks already, reads tokens, which do not tell their rows from their columns, or the
                model does not call it by its path, or calls it several times.

        Example:
            >>> segmentation = network.walked(Walk(steps=20))(images)["out"].argmax(1)
        """
        _refuse_walking_heads(self.model)
        if not self._called_once or self._head_reads_tokens:
            why = "reads tokens" if self._head_reads_tokens else "is called several times in a pass"
            raise ValueError(
                f"head: expected a module that reads a map once in a pass, {self.head_path!r} {why}; score by a "
                "Scorer, or attach a head that does"
            )
        self._try_head(self._trial_map())
        model, head = copy_path(self.model, self.head_path, _WalksLogits if self.linear_head else _WalksMap)
        vars(head)["_pixel_walk"] = walk  # no submodule, which would be in the model's state
        return model

    @property
    def _head(self) -> nn.Module:
        return modules_to(self.model, self.head_path)[-1]

    def _trial_images(self) -> Tensor:
        """The model's input for a photo of noise."""
        generator = torch.Generator().manual_seed(0)
        photo = torch.randint(0, 256, (1, 3, *self.trial_size), dtype=torch.uint8, generator=generator)
        return self.preprocess(photo.to(device_of(self.model)))

    @torch.no_grad()
    def _trial_map(self) -> Tensor:
        """The map that the head reads in a pass over the trial photo; of copies, whatever mode the model is in."""
        model, end = copy_path(copy_tree(self.model), self.head_path, _LeavesBefore)
        _skip_calls(end, self._calls[1])
        images = self._trial_images()
        value = self._leave(model, images, "head", self.head_path)
        return self._as_map(value, images, self.stride) if self._head_reads_tokens else value

    def _as_map(self, output: Any, images: Tensor, stride: int | Size | None) -> Tensor:
        """What the embedding gives, or tokens that the head reads or gives, as a map."""
        size = image_size(images)
        if callable(self._reshape):
            return self._reshape(output, size or self.trial_size)
        if self._reshape is None or not isinstance(output, Tensor) or output.dim() != 3:
            return output
        return tokens_to_map(output, self._reshape, size, stride)

    def _call_head(self, head: nn.Module, embedding_map: Tensor) -> Tensor:
        """Call the head, or a copy of it, with the map as it reads it, for logits [B, K, h, w]."""
        if not self._head_reads_tokens:
            return head(embedding_map)
        logits = head(map_to_tokens(embedding_map))
        if not isinstance(logits, Tensor) or logits.dim() != 3:
            return logits
        return logits.mT.reshape(logits.shape[0], -1, *embedding_map.shape[-2:])

    def _leave(self, model: nn.Module, images: Tensor, role: str, path: str) -> Any:
        """Run a copy of the model up to its module of this path, which leaves it with a map."""
        try:
            model(images)
        except _Reached as reached:
            return reached.value
        except Exception as error:
            size = image_size(images)
            if self.padded_to > 1 or size in (None, self.trial_size) or is_out_of_memory(error):
                raise  # it is not the size's fault, or is told better by who asks for less memory
            raise ValueError(
                f"model: a pass over an input of {describe(images)} failed ({error}); if the model takes only sides "
                "that are multiples of a number, give it to attach as padded_to"
            ) from error
        raise ValueError(
            f"{role}: {path!r} was not called in this pass, as it was in the trial's; a module is found only where its "
            "parent calls it, not by another of its names, nor by a function that took the place of a forward"
        )

    def _try_head(self, embedding_map: Tensor) -> None:
        """Find whether the head is linear, unless that was given or found before."""
        modules = tuple(self._head.modules())
        if self._linear is not None:
            self.linear_head = self._linear
        elif modules != self._tried:
            self.linear_head, self._tried = self._commutes(embedding_map), modules

    def _commutes(self, embedding_map: Tensor) -> bool:
        """Whether mixing pixels before the head gives the same as after it, as for one that is linear pixel by
        pixel."""
        try:
            # In float64, where rounding cannot look like a nonlinearity. A head that cannot run in float64 counts as
            # nonlinear: walking the map is right for every head.
            head = deepcopy(copy_tree(self._head)).to("cpu", torch.float64)
            with torch.no_grad():
                return _commutes(lambda map_: self._call_head(head, map_), embedding_map.to("cpu", torch.float64))
        except Exception:
            return False

    def _name_outputs(self, names: Sequence[str], leave_out: Sequence[str | int] = ()) -> None:
        """Name all that the head gives, and say what no score reads."""
        self._outputs = tuple(names)
        self._kept = kept_classes(self._outputs, leave_out)
        self.classes = tuple(self._outputs[k] for k in self._kept)

    def _check_outputs(self, logits: Tensor) -> None:
        if (count := logits.shape[1]) != len(self._outputs):
            raise ValueError(
                f"classes: expected {count} names for the {count} logits of {self.head_path!r}, "
                f"got {len(self._outputs)}"
            )


class _Reached(BaseException):
    """Raised to leave a model's ``forward`` with a value; not an Exception, which the model might catch."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


class _LeavesAfter(nn.Module):
    _calls_to_skip = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        output = super().__call__(*args, **kwargs)
        if _skips(self):
            return output
        raise _Reached(output)


class _LeavesBefore(nn.Module):
    _calls_to_skip = 0

    def __call__(self, embedding_map: Tensor) -> Any:
        if _skips(self):
            return super().__call__(embedding_map)
        raise _Reached(embedding_map)


def _skip_calls(end: Any, calls: int) -> None:
    """Let the end of a copied path count so many calls before it leaves. The copy serves one pass."""
    if calls:
        vars(end)["_calls_to_skip"] = calls


def _skips(end: Any) -> bool:
    if end._calls_to_skip == 0:
        return False
    vars(end)["_calls_to_skip"] -= 1
    return True


class _WalksLogits(nn.Module):
    _pixel_walk: Callable[..., Tensor]

    def __call__(self, embedding_map: Tensor) -> Tensor:
        return _walked(self._pixel_walk, embedding_map, super().__call__(embedding_map))


class _WalksMap(nn.Module):
    _pixel_walk: Callable[..., Tensor]

    def __call__(self, embedding_map: Tensor) -> Tensor:
        return super().__call__(_walked(self._pixel_walk, embedding_map, embedding_map))


def _walked(walk: Callable[..., Tensor], embedding_map: Tensor, values: Tensor) -> Tensor:
    return walk(at_least_float32(embedding_map), value_map=at_least_float32(values)).to(values.dtype)


def _evaluating(model: nn.Module) -> None:
    """Put a model into evaluation mode, if Python calls its modules."""
    kind = "TorchScript" if isinstance(model, torch.jit.ScriptModule) else "an exported program"
    try:
        model.eval()
    except NotImplementedError:
        pass
    else:
        if kind != "TorchScript":
            return
    raise ValueError(
        f"model: expected a model whose modules Python calls, got {kind}, which runs them by itself, so that no pass "
        "can stop there; give the model that it was made of"
    )


def _refuse_walking_heads(model: nn.Module) -> None:
    for path, module in model.named_modules():
        if isinstance(module, _WalksLogits | _WalksMap):
            raise ValueError(
                f"model: its head {path!r} walks already, and would walk twice; give the model without a walk"
            )


def _preprocessing(
    preprocess: Callable[[Tensor], Tensor] | None, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Callable[[Tensor], Tensor] | tuple[Sequence[float], Sequence[float]]:
    if (preprocess is None) == (mean is None and std is None):
        raise ValueError(
            "preprocess: expected either a callable or mean and std, got "
            f"{'neither' if preprocess is None else 'both'}; ImageNet's are mean=(0.485, 0.456, 0.406), "
            "std=(0.229, 0.224, 0.225)"
        )
    if preprocess is not None:
        if not callable(preprocess):
            raise TypeError(f"preprocess: expected a callable, got {type(preprocess).__name__}")
        return preprocess
    if mean is None or len(mean) != 3:
        raise ValueError(f"mean: expected three numbers, got {mean}")
    if std is None or len(std) != 3 or min(std) <= 0:
        raise ValueError(f"std: expected three positive numbers, got {std}")
    return mean, std


def _apply_alone(probe: ModuleProbe, head: Callable[[Tensor], Tensor]) -> Tensor:
    """Call the head with the map alone, and check that its logits are those of the model's own pass."""
    try:
        with torch.no_grad():
            logits = head(probe.map)
    except Exception as error:
        raise ValueError(
            f"head: {probe.head!r} cannot be called with the map {describe(probe.map)} alone ({error})"
        ) from error
    same = isinstance(logits, Tensor) and logits.shape == probe.logits.shape
    if not (same and torch.allclose(logits, probe.logits, rtol=1e-3, atol=1e-3, equal_nan=True)):
        raise ValueError(
            f"head: {probe.head!r} called with the map {describe(probe.map)} alone gives {describe(logits)}, and not "
            f"what it gives in the model's own pass, {describe(probe.logits)}"
        )
    return logits


def _commutes(head: Callable[[Tensor], Tensor], map_: Tensor) -> bool:
    """Whether a head of float64 maps on the CPU commutes with mixing pixels, near the map's values and far from
    them."""
    generator = torch.Generator().manual_seed(0)
    wide = 3 * map_.abs().max().clamp(min=1) * torch.randn(map_.shape, generator=generator, dtype=map_.dtype)
    order = torch.randperm(map_.shape[-2:].numel(), generator=generator)

    def mix(pixels: Tensor) -> Tensor:
        return (0.7 * pixels.flatten(2) + 0.3 * pixels.flatten(2)[..., order]).view_as(pixels)

    def commutes(pixels: Tensor) -> bool:
        logits = head(pixels)
        if logits.shape[-2:] != pixels.shape[-2:]:
            return False
        return bool((head(mix(pixels)) - mix(logits)).abs().max() <= 1e-9 * logits.abs().max())

    return commutes(map_) and commutes(wide)
