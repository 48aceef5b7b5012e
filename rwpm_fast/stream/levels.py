"""The ways to make a walk cheaper, in the order in which they are taken."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..ops.maps import Walk
from ..ops.settings import WalkSettings
from ..scoring.scorer import Scorer
from .settings import StreamSettings

NO_WALK = "no walk"


@dataclass(frozen=True)
class Level:
    """A scorer that is cheaper than that of the level before, at a price that can be said.

    Attributes:
        scorer: with the walk of this level.
        masked: leave irrelevant pixels out of the walk: the sky of the last frame, and the ego vehicle.
        degradations: what was changed, in words; empty for the scorer as it was given.
    """

    scorer: Scorer
    masked: bool = False
    degradations: tuple[str, ...] = ()


def levels(scorer: Scorer, settings: StreamSettings, map_size: tuple[int, int]) -> list[Level]:
    """List the levels of degradation; each keeps what the one before did.

    1. The tolerance is raised to its bound.
    2. The number of steps is halved, down to its bound.
    3. Sky and ego vehicle are left out of the walk.
    4. The map is cut into twice, then four times as many parts along a side.
    5. Nothing walks.

    A level that would change nothing is left out; a walk of another kind than :class:`rwpm_fast.Walk` has no settings
    to change, so that only masks and its absence remain.

    Args:
        scorer: as given; with nothing that walks there is no other level.
        settings: with the bounds.
        map_size: height and width of its embedding map, which has at least so many pixels a side as parts.
    """
    found = [Level(scorer)]
    walk = scorer.walk
    if walk is None:
        return found
    if isinstance(walk, Walk):
        setting = walk.settings
        if setting.tolerance < settings.loosest_tolerance:
            setting = replace(setting, tolerance=settings.loosest_tolerance)
            found.append(_degraded(found[-1], walk, setting, f"tolerance {setting.tolerance:g}"))
        while setting.steps > settings.fewest_steps:
            setting = replace(setting, steps=max(setting.steps // 2, settings.fewest_steps))
            found.append(_degraded(found[-1], walk, setting, f"steps {setting.steps}"))
    irrelevant = [*(["sky"] * ("sky" in scorer.network.classes)), *(["ego"] * (settings.ego_mask is not None))]
    if irrelevant:
        degradation = f"{' and '.join(irrelevant)} masked"
        found.append(replace(found[-1], masked=True, degradations=(*found[-1].degradations, degradation)))
    if isinstance(walk, Walk):
        for parts in (2 * setting.parts, 4 * setting.parts):
            if parts <= min(map_size):
                found.append(_degraded(found[-1], walk, replace(setting, parts=parts), f"parts {parts}"))
    return [*found, Level(scorer.with_walk(None, walk_values="auto"), False, (NO_WALK,))]


def _degraded(level: Level, walk: Walk, setting: WalkSettings, degradation: str) -> Level:
    """A level with another walk; a further degradation of one kind takes the place of the one before."""
    kind = degradation.split()[0]
    kept = [text for text in level.degradations if text.split()[0] != kind]
    changed = Walk(**{**vars(setting), "temperature": walk.temperature}, backend=walk.backend)
    return replace(level, scorer=level.scorer.with_walk(changed), degradations=(*kept, degradation))
