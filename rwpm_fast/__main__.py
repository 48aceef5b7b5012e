"""``python -m rwpm_fast``: the command line, also for ``torchrun -m rwpm_fast evaluate ...``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
