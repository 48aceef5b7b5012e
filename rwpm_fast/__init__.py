"""Real-time anomaly segmentation for driving by random walks on pixel manifolds.

Importing the package registers ``torch.ops.rwpm.walk``; the names below are imported on first use. Without torch,
:mod:`rwpm_fast.numpy` and ``rwpm-fast info`` work all the same.
"""

from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Names only: ``from rwpm_fast import *`` must not rebind the caller's modules, such as numpy.
__all__ = [
    "Predictor",
    "Scorer",
    "Transition",
    "Walk",
    "Workspace",
    "attach",
    "calibrate",
    "export",
    "transition",
    "walk",
    "walk_map",
    "walk_sharded",
]

# A torch that is missing or broken says so when something that needs it is used.
with suppress(ImportError, OSError):
    import_module(".ops.registration", __name__)

if TYPE_CHECKING:
    from . import baselines as baselines
    from . import data as data
    from . import evaluate as evaluate
    from . import metrics as metrics
    from . import networks as networks
    from . import numpy as numpy
    from . import presets as presets
    from . import reference as reference
    from . import scenes as scenes
    from . import scores as scores
    from . import stream as stream
    from . import submission as submission
    from . import synboost as synboost
    from .deploy.export import export
    from .deploy.predictor import Predictor
    from .networks.attach import attach
    from .ops.functional import walk
    from .ops.graph import Transition, transition
    from .ops.maps import Walk, walk_map
    from .ops.sharded import walk_sharded
    from .ops.workspace import Workspace
    from .scoring.calibration import calibrate
    from .scoring.scorer import Scorer
else:
    _HOMES = {
        "Predictor": "deploy.predictor",
        "Scorer": "scoring.scorer",
        "Transition": "ops.graph",
        "Walk": "ops.maps",
        "Workspace": "ops.workspace",
        "attach": "networks.attach",
        "calibrate": "scoring.calibration",
        "export": "deploy.export",
        "transition": "ops.graph",
        "walk": "ops.functional",
        "walk_map": "ops.maps",
        "walk_sharded": "ops.sharded",
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
        "scenes",
        "scores",
        "stream",
        "submission",
        "synboost",
    )

    def __getattr__(name):
        if name in _HOMES:
            value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        elif name in _MODULES:
            value = import_module(f"{__name__}.{name}")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *__all__, *_MODULES})
