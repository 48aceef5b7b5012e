"""What may be said of a network besides its name and its weights, and which goes with which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from .map_size import check_size
from .own import is_place

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """Settings of :func:`rwpm_fast.networks.load`, checked.

    Attributes:
        embedding: path of the embedding in a module of the user's own; see :func:`rwpm_fast.attach`.
        head: path of its head.
        mean: of red, green and blue in 0..1, subtracted from its photos; None for ImageNet's.
        std: of red, green and blue in 0..1, to divide by; None for ImageNet's.
        size: height and width to which photos are resized; None for the network's own rule.
        leave_out: names of classes, or their numbers, that no score reads.

    Raises:
        ValueError: a setting is outside its range.
    """

    embedding: str | None = None
    head: str | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    size: tuple[int, int] | None = None
    leave_out: Sequence[str | int] = ()

    def __post_init__(self) -> None:
        if self.size is not None:
            check_size(self.size)
            object.__setattr__(self, "size", tuple(self.size))
        if (self.embedding is None) != (self.head is None):
            given, other = ("embedding", "head") if self.head is None else ("head", "embedding")
            raise ValueError(
                f"{other}: expected the path of a module beside the {given}, got {getattr(self, given)!r} alone"
            )

    @property
    def of_modules(self) -> list[str]:
        """Names of the settings that are given and only modules of the user's own have."""
        return [name for name in ("embedding", "head", "mean", "std") if getattr(self, name) is not None]

    def check(self, network: str) -> None:
        """Check what does not depend on the network itself.

        Args:
            network: its name, or the place of what builds it.

        Raises:
            ValueError: settings that a named network has not.
        """
        if self.of_modules and not is_place(network):
            name = self.of_modules[0]
            raise ValueError(
                f"{name}: expected only with a module of your own, my.module:build or file.py:build, got "
                f"{getattr(self, name)!r} with {network}, which has its own"
            )

    def text(self) -> str:
        """Text with the settings that are given, for records."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return ", ".join(f"{name} {_shown(value)}" for name, value in given.items() if value not in (None, (), []))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else " ".join(map(str, value))
