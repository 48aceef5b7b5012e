"""Real-time anomaly segmentation for driving by random walks on pixel manifolds.

Importing it registers ``torch.ops.rwpm.walk``; the other names are imported on first use. Where torch is not installed,
``rwpm_fast.numpy`` and ``rwpm-fast info`` work all the same.
"""

from contextlib import suppress
from importlib import import_module

__version__ = "0.1.0"

# A torch that is missing or broken says so when something that needs it is used.
with suppress(ImportError, OSError):
    from .ops import registration as registration  # registers torch.ops.rwpm.walk

_HOMES = {
    "walk": "ops.functional",
    "walk_map": "ops.maps",
    "Walk": "ops.maps",
    "transition": "ops.graph",
    "Transition": "ops.graph",
    "calibrate": "scoring.calibration",
    "Scorer": "scoring.scorer",
    "attach": "networks.attach",
}
_MODULES = (
    "baselines",
    "data",
    "evaluate",
    "metrics",
    "networks",
    "numpy",
    "presets",
    "reference",
    "scores",
    "submission",
)

__all__ = [*_HOMES, *_MODULES]


def __getattr__(name: str):
    if name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    elif name in _MODULES:
        value = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
