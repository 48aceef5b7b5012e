"""The ranks of a process group that share one graph: what they agree on before they work, and rows from all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from ..io.processes import together

T = TypeVar("T")

# Torch 2.13 gave it another name.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor

# What a check raises, so that it can be raised on all ranks; a class before those that it derives from.
_ERRORS = {error.__name__: error for error in (TypeError, ValueError, NotImplementedError, RuntimeError)}


class Ranks:
    """The ranks of a process group. All of them call the methods in the same order.

    Attributes:
        rank: number of this rank, from 0.
        count: number of ranks.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        """
        Args:
            group: of which this process is a rank; torch's default group when None.

        Raises:
            RuntimeError: there is no process group.
            ValueError: this process is no rank of the group.
        """
        if not dist.is_available() or not dist.is_initialized():
            raise RuntimeError(
                "group: expected a process group, and none is initialized; call "
                "torch.distributed.init_process_group() in every process, or walk in one process with rwpm_fast.walk"
            )
        self.rank, self.count = dist.get_rank(group), dist.get_world_size(group)
        if self.rank < 0:
            raise ValueError("group: expected a process group that this process is in, got one of others")
        self._group = group

    def check_device(self, device: torch.device) -> None:
        """Check that the group can exchange tensors of a device.

        Raises:
            ValueError: the group has no backend for it.
        """
        served = [part.split(":")[0] for part in dist.get_backend_config(self._group).split(",")]
        if device.type not in served:
            backend = dist.get_backend(self._group)
            raise ValueError(
                f"embeddings: expected a device that the process group exchanges tensors of ({', '.join(served)}, by "
                f"{backend}), got {device}; move the tensors there, or initialize the group with "
                'backend="cpu:gloo,cuda:nccl"'
            )

    def agree(self, check: Callable[[], tuple[T, Mapping[str, Any]]]) -> tuple[T, list[Mapping[str, Any]]]:
        """Check on every rank, and raise on all of them where one finds an error: none is left waiting.

        Args:
            check: checks this rank's part; returns what it prepared, and facts by name for the other ranks.

        Returns:
            What was prepared here, and the facts of all ranks.

        Raises:
            TypeError, ValueError, NotImplementedError, RuntimeError: what ``check`` raised, on the first rank where it
                did.
            ConnectionError: a rank went away.
        """
        cause: Exception | None = None
        prepared: T | None = None
        report: dict[str, Any] = {}
        try:
            prepared, report["facts"] = check()
        except Exception as error:
            cause = error
            kind = next((name for name, known in _ERRORS.items() if isinstance(error, known)), "RuntimeError")
            report["error"] = kind, str(error)
        reports: list = [None] * self.count
        with together():
            dist.all_gather_object(reports, report, group=self._group)
        for rank, other in enumerate(reports):
            if "error" in other:
                kind, text = other["error"]
                raise _ERRORS[kind](f"{text} (rank {rank} of {self.count})") from cause
        return cast(T, prepared), [other["facts"] for other in reports]

    def gather_rows(self, own: Tensor, sizes: Sequence[int]) -> Tensor:
        """Put the rows of all ranks one after the other.

        Args:
            own: [r, C], rows of this rank.
            sizes: number of rows of every rank.

        Returns:
            [sum of sizes, C].

        Raises:
            ConnectionError: a rank went away.
        """
        if self.count == 1:
            return own
        # Not all backends gather different sizes.
        most = max(sizes)
        own = own.contiguous() if len(own) == most else torch.nn.functional.pad(own, (0, 0, 0, most - len(own)))
        gathered = own.new_empty(self.count * most, own.shape[1])
        with together():
            _all_gather(gathered, own, group=self._group)
        if min(sizes) == most:
            return gathered
        return torch.cat([rows[:size] for rows, size in zip(gathered.split(most), sizes, strict=True)])
