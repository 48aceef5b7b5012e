"""Check two modules of a model, an embedding and a head named by their paths, in one pass over a trial photo."""

from __future__ import annotations

from collections import defaultdict
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from .private_copy import copy_tree

MAX_CANDIDATES = 6  # in a message


class ModuleProbe:
    """Run a model once and record what its embedding and its head give, if the head reads only the embedding.

    Args:
        model: run in evaluation mode; passes run on copies of it.
        images: input of the model, [B, ...].
        embedding: path of the module whose output is the embedding map.
        head: path of the module that turns the map into logits.

    Attributes:
        map: output of the embedding, [B, D, h, w].
        logits: output of the head, [B, K, h', w'].

    Raises:
        ValueError: the modules do not fit; the message names others to use. See :func:`rwpm_fast.attach`.
    """

    def __init__(self, model: nn.Module, images: Tensor, embedding: str, head: str) -> None:
        self.model = model
        self.modules = dict(copy_tree(model).named_modules(remove_duplicate=False))  # by path
        self.images = images
        self.embedding = embedding
        self.head = head
        self.shapes: dict[str, list[int]] = {}  # of maps by path, in the order in which they are computed
        self.calls: dict[str, int] = defaultdict(int)
        self._embedding_output: Any
        self._head_input: Any
        self._head_output: Any

        self._run(self._record)  # sets the last three, if the paths are right
        for role, path in (("embedding", embedding), ("head", head)):
            self._check_path(role, path)
        outputs = (("embedding", embedding, self._embedding_output), ("head", head, self._head_output))
        for role, path, output in outputs:
            if not isinstance(output, Tensor) or output.dim() != 4:
                what = "a map [B, D, h, w]" if role == "embedding" else "logits [B, K, h, w]"
                raise ValueError(
                    f"{role}: expected {what} from {path!r}, got {describe(output)}; {self._candidates(path)}"
                )
        self.map: Tensor = self._embedding_output
        self.logits: Tensor = self._head_output
        if not _same(self._head_input, self.map):
            raise ValueError(self._describe_head_input())

    def _run(self, record: Any) -> None:
        """Run the model and call ``record(path, inputs, output)`` at every call of a module."""
        model = copy_tree(self.model)  # others may use the model, and compiled modules call no hooks
        for path, module in model.named_modules(remove_duplicate=False):
            module.register_forward_hook(
                lambda _module, inputs, output, path=path: record(path, inputs, output)  # its None keeps the output
            )
        try:
            with torch.no_grad():
                model(self.images)
        except Exception as error:
            raise ValueError(
                f"model: a pass over a trial photo {describe(self.images)} failed ({error}); see that preprocess or "
                "mean and std are the model's, or give a trial_size that it takes, or padded_to if it takes only "
                "multiples of a number"
            ) from error

    def _record(self, path: str, inputs: tuple[Any, ...], output: Any) -> None:
        self.calls[path] += 1
        if isinstance(output, Tensor) and output.dim() == 4:
            self.shapes[path] = list(output.shape)
        # Copies, because a later layer may work in place.
        if path == self.embedding:
            self._embedding_output = _copy(output)
        if path == self.head:
            self._head_input, self._head_output = _copy(inputs[0] if inputs else None), _copy(output)

    def _check_path(self, role: str, path: str) -> None:
        if path not in self.modules or path == "":
            raise ValueError(f"{role}: the model has no module {path!r}; {self._candidates(path)}")
        if self.calls[path] != 1:
            calls = f"is called {self.calls[path]} times" if self.calls[path] else "is never called by its parent"
            raise ValueError(
                f"{role}: expected a module that is called once in a pass, {path!r} {calls}; {self._candidates(path)}"
            )

    def _candidates(self, path: str) -> str:
        """Text that lists modules that may be meant: close names, then layers that give maps, the last one first."""
        others = [name for name in self.modules if name not in ("", path)]
        names = get_close_matches(path, others, n=MAX_CANDIDATES, cutoff=0.7)
        maps = [
            name
            for name in reversed(self.shapes)
            if isinstance(self.modules.get(name), nn.Conv2d) and max(self.shapes[name][-2:]) > 1 and name not in names
        ]
        parts = []
        if names:
            parts.append(f"close names: {', '.join(map(self._with_shape, names))}")
        if maps:
            listed = ", ".join(map(self._with_shape, maps[:MAX_CANDIDATES]))
            parts.append(f"convolutions that give maps, last first: {listed}")
        return "; ".join(parts) or "no module of it gives a map"

    def _with_shape(self, path: str) -> str:
        return f"{path} {self.shapes[path]}" if path in self.shapes else path

    def _describe_head_input(self) -> str:
        """Text that says what the head reads in place of the embedding."""
        sources: dict[str, None] = {}

        def compare(path: str, _inputs: tuple[Any, ...], output: Any) -> None:
            if path not in ("", self.head) and _same(self._head_input, output):
                sources[path] = None

        self._run(compare)
        text = (
            f"head: {self.head!r} reads {describe(self._head_input)}, which is not what {self.embedding!r} gives, "
            f"{describe(self.map)}; "
        )
        if sources:
            return text + f"it is what {' and '.join(map(repr, sources))} give: take one as embedding"
        return text + "no module gives it: take as head a module that holds all that follows the embedding"


def describe(value: Any) -> str:
    """Text with the shape of a tensor, or the type of anything else."""

    return f"shape {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _same(a: Any, b: Any) -> bool:
    return isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape and torch.equal(a, b)
