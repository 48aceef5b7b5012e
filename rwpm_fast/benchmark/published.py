"""Published frames a second of the walk: the main paper's ablation on n (Zeng & Tomite, ECCV 2024)."""

from __future__ import annotations

from typing import NamedTuple

from .cases import PAPER, Case

# RbA on RoadAnomaly, T = 20, alpha = 0.99; network and walk together on an RTX A6000, n = 1 on a card of 80 GB.
SOURCE = "RbA on RoadAnomaly, RTX A6000; uncut on a card of 80 GB"
WITHOUT_WALK = 11.12


class Published(NamedTuple):
    """A row of the ablation: frames a second with the network, and GiB of GPU memory, the network's included."""

    with_network: float
    memory: float

    @property
    def alone(self) -> float:
        """Frames a second of the walk alone: what it adds to the network's time."""
        return 1 / (1 / self.with_network - 1 / WITHOUT_WALK)


ABLATION = {1: Published(0.32, 74.96), 2: Published(2.04, 7.24), 4: Published(4.35, 3.49), 8: Published(6.26, 3.55)}


def published_row(case: Case) -> Published | None:
    """The published row of a case; None where none is of its map, width and T."""
    same = (case.height, case.width) == PAPER[0][0] and (case.value_channels, case.steps) == (256, 20)
    return ABLATION.get(case.parts) if same and case.settings.alpha == 0.99 else None
