"""``rwpm-fast evaluate`` as a module, for ``torchrun -m rwpm_fast.evaluate``."""

import sys

from ..cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
