"""Where golden files and real data lie: as the environment says, else beside the checkout."""

import os
from pathlib import Path

_SHARED = Path(__file__).parents[1] / ".." / "shared"

CONFORMANCE = Path(os.environ.get("RWPM_CONFORMANCE", _SHARED / "conformance"))
DATA = Path(os.environ.get("RWPM_DATA", _SHARED / "data"))
