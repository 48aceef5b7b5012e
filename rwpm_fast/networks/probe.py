"""Check two modules of a model, an embedding and a head named by their paths, in one pass over a trial photo."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from ..io.text import listed
from .map_size import image_size
from .private_copy import copy_tree
from .tokens import likely_prefix

MAX_CANDIDATES = 6  # in a message


class ModuleProbe:
    """Run a model once and record what its embedding and its head give, if the head reads only the embedding.

    Args:
        model: run in evaluation mode; passes run on copies of it.
        images: input of the model, [B, ...].
        embedding: path of the module whose output is the embedding map.
        head: path of the module that turns the map into logits.
        calls: which call of each counts, from 0 or from the end; None for modules that are called once.
        as_map: makes a map of the embedding's output, and of tokens; None for maps.

    Attributes:
        map: output of the embedding, [B, D, h, w].
        logits: output of the head, [B, K, h', w'].
        call_numbers: which calls of embedding and head those are, from 0.
        head_called_once: the head is called once in a pass.
        head_reads_tokens: the head reads the map as tokens.

    Raises:
        ValueError: the modules do not fit; the message names others to use. See :func:`rwpm_fast.attach`.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        embedding: str,
        head: str,
        *,
        calls: tuple[int | None, int | None] = (None, None),
        as_map: Callable[[Any], Any] | None = None,
    ) -> None:
        self.model = model
        self.modules = dict(copy_tree(model).named_modules(remove_duplicate=False))  # by path
        self.images = images
        self.embedding = embedding
        self.head = head
        self.shapes: dict[str, list[int]] = {}  # of maps by path, in the order in which they are computed
        self.calls: dict[str, int] = defaultdict(int)
        self._as_map = as_map or (lambda output: output)
        self._embedding_outputs: list[Any] = []  # of each call
        self._head_inputs: list[Any] = []
        self._head_outputs: list[Any] = []

        self._run(self._record)
        self.call_numbers = (self._call("embedding", embedding, calls[0]), self._call("head", head, calls[1]))
        self.head_called_once = self.calls[head] == 1
        output = self._embedding_outputs[self.call_numbers[0]]
        self._head_input = self._head_inputs[self.call_numbers[1]]
        self.head_reads_tokens = isinstance(self._head_input, Tensor) and self._head_input.dim() == 3
        self.map: Tensor = self._checked("embedding", embedding, output, self._as_map(output))
        logits = self._head_outputs[self.call_numbers[1]]
        self.logits: Tensor = self._checked("head", head, logits, self._tokens_as_map(logits))
        if not _same(self._tokens_as_map(self._head_input), self.map):
            raise ValueError(self._describe_head_input())

    def _tokens_as_map(self, value: Any) -> Any:
        """Tokens that the head reads or gives as a map; a map as it is."""
        return self._as_map(value) if self.head_reads_tokens and _is_of(value, 3) else value

    def _checked(self, role: str, path: str, output: Any, map_: Any) -> Any:
        if _is_of(map_, 4):
            return map_
        what = "a map [B, D, h, w]" if role == "embedding" else "logits [B, K, h, w]"
        text = f"{role}: expected {what} from {path!r}, got {describe(map_)}"
        if _is_of(output, 3) and role == "embedding":
            prefix = likely_prefix(output.shape[1], image_size(self.images))
            number = (
                "the number of them before the patches" if prefix is None else f"here {prefix}, so many before them"
            )
            raise ValueError(f"{text}; if these are the tokens of patches, give reshape, {number}")
        raise ValueError(f"{text}; {self._candidates(path)}")

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
                "mean and std are the model's, or give size if it takes one size only, a trial_size that it takes, or "
                "padded_to if it takes only multiples of a number"
            ) from error

    def _record(self, path: str, inputs: tuple[Any, ...], output: Any) -> None:
        self.calls[path] += 1
        if isinstance(output, Tensor) and output.dim() == 4:
            self.shapes[path] = list(output.shape)
        # Copies, because a later layer may work in place.
        if path == self.embedding:
            self._embedding_outputs.append(_copy(output))
        if path == self.head:
            self._head_inputs.append(_copy(inputs[0] if inputs else None))
            self._head_outputs.append(_copy(output))

    def _call(self, role: str, path: str, wanted: int | None) -> int:
        """Check that a module is called, and return which of its calls counts, from 0."""
        if path not in self.modules or path == "":
            raise ValueError(f"{role}: the model has no module {path!r}; {self._candidates(path)}")
        count = self.calls[path]
        if count == 1 or (wanted is not None and count):
            numbers = range(count)
            if wanted is not None and not -count <= wanted < count:
                raise ValueError(
                    f"{role}_call: expected a call of {path!r} from 0 to {count - 1}, or from the end by -1 to "
                    f"-{count}, got {wanted}"
                )
            return numbers[wanted or 0]
        text = f"{role}: expected a module that is called once in a pass, {path!r} "
        if count:
            raise ValueError(
                f"{text}is called {count} times; say which call counts by {role}_call, from 0, or -1 for the last; "
                f"{self._candidates(path)}"
            )
        if self._is_entered(path):
            raise ValueError(
                f"{text}is entered by its forward, past __call__, so that no hook of it runs; have the model call it, "
                f"or take modules inside it, {self._inside(path)}"
            )
        raise ValueError(f"{text}is never called by its parent; {self._candidates(path)}")

    def _is_entered(self, path: str) -> bool:
        """Whether the model enters a module's ``forward`` without a call of the module."""
        model = copy_tree(self.model)
        module = dict(model.named_modules(remove_duplicate=False))[path]
        if isinstance(module, torch.jit.ScriptModule):
            return False
        entered, forward = [], module.forward
        attributes: Any = vars(module)

        def recorded(*args: Any, **kwargs: Any) -> Any:
            entered.append(path)
            return forward(*args, **kwargs)

        attributes["forward"] = recorded
        with torch.no_grad():
            model(self.images)
        return bool(entered)

    def _inside(self, path: str) -> str:
        """Text that lists modules inside another that give maps, the last one first."""
        inside = [name for name in reversed(self.shapes) if name.startswith(f"{path}.")]
        return listed(map(self._with_shape, inside), MAX_CANDIDATES) or "of which none gives a map"

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


def _is_of(value: Any, dimensions: int) -> bool:
    return isinstance(value, Tensor) and value.dim() == dimensions


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _same(a: Any, b: Any) -> bool:
    return isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape and torch.equal(a, b)
