"""Where golden files and real data lie: named by the environment, or else next to the checkout."""

import os
from pathlib import Path

_SHARED = Path(__file__).parents[1] / ".." / "shared"

CONFORMANCE = Path(os.environ.get("RWPM_CONFORMANCE", _SHARED / "conformance"))
DATA = Path(os.environ.get("RWPM_DATA", _SHARED / "data"))
