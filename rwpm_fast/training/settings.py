"""Settings of the compact network's training: how long and how fast it learns, and how the walk sets in."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..checks import check_integers, check_numbers
from ..ops.settings import DEFAULTS, WalkSettings

MULTIPLE = 32  # of the sides of a crop: the coarsest stride of the network
LOOSE_TEMPERATURE = 0.1  # where the walk sets in: at 0.01 the few neighbors of a pixel would be those of a first guess
WALK_BEGINS, WALK_IS_WHOLE = 0.2, 0.6  # shares of the training after which the walk sets in and is that of inference


@dataclass(frozen=True, kw_only=True)
class WalkSchedule:
    """A walk of the logits within the training, and how it sets in.

    Nothing walks in the first fifth of the training. From there to three fifths of it the number of steps grows evenly
    from 0 to ``steps``, and the temperature falls from 0.1, or from ``temperature`` where this is higher, to
    ``temperature``, by the same factor in equal times. Alpha is that of inference, 0.99.

    Attributes:
        steps: transitions at last, 1 or more.
        temperature: softmax temperature at last, > 0.
        anchor_share: share of a crop's cells to anchor, in [0, 1]; 0: the published walk.
        weight: of the losses of walked logits, in [0, 1]; those of the logits themselves weigh ``1 - weight``.

    Raises:
        TypeError: a setting is no number.
        ValueError: a setting is out of its range.
    """

    steps: int = DEFAULTS.steps
    temperature: float = DEFAULTS.temperature
    anchor_share: float = 0.0
    weight: float = 0.5

    def __post_init__(self) -> None:
        self.at(1.0)  # which checks the settings that it shares with a walk
        check_numbers(weight=self.weight)
        if self.steps < 1:
            raise ValueError(f"steps: expected 1 or more, got {self.steps}")
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight: expected a number in [0, 1], got {self.weight}")

    def at(self, done: float) -> WalkSettings:
        """Return the walk at a moment of the training; its ``steps`` are 0 where nothing walks yet.

        Args:
            done: share of the training, in [0, 1].
        """
        grown = min(max((done - WALK_BEGINS) / (WALK_IS_WHOLE - WALK_BEGINS), 0.0), 1.0)
        loose = max(LOOSE_TEMPERATURE, self.temperature)
        # At the ends the numbers given, to the bit.
        temperature = self.temperature if grown == 1 else loose * (self.temperature / loose) ** grown
        return WalkSettings(
            alpha=DEFAULTS.alpha,
            steps=self.steps if grown == 1 else int(self.steps * grown),
            temperature=temperature,
            tolerance=DEFAULTS.tolerance,
            anchor_share=self.anchor_share,
        )


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How the compact network is trained.

    Attributes:
        steps: of the optimizer, 1 or more. The learning rate rises for the first twentieth of them and then falls to
            zero as a cosine.
        batch: crops per step, of all processes together, 1 or more.
        learning_rate: of AdamW, the highest, > 0.
        size: height and width of a crop, multiples of 32.
        seed: of weights, scenes and crops, 0 or more.
        walk: the walk of the logits within the losses; None for none.

    Raises:
        TypeError: a setting is no number.
        ValueError: a setting is out of its range.
    """

    steps: int = 4000
    batch: int = 4
    learning_rate: float = 2e-3
    size: tuple[int, int] = (256, 480)
    seed: int = 0
    walk: WalkSchedule | None = None

    def __post_init__(self) -> None:
        check_integers(steps=self.steps, batch=self.batch, seed=self.seed)
        check_numbers(learning_rate=self.learning_rate)
        for name, least in (("steps", 1), ("batch", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected {least} or more, got {getattr(self, name)}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise ValueError(f"learning_rate: expected a finite number > 0, got {self.learning_rate}")
        size = tuple(self.size)
        if len(size) != 2 or any(side < 1 or side % MULTIPLE for side in size):
            raise ValueError(f"size: expected height and width, positive multiples of {MULTIPLE}, got {size}")

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        done = step / self.steps
        return self.learning_rate * min((step + 1) / (0.05 * self.steps), 0.5 + 0.5 * math.cos(math.pi * done))
