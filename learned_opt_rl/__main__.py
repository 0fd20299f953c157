"""``python -m learned_opt_rl`` is ``learned-opt-rl``."""

import sys

from learned_opt_rl.cli import main

if __name__ == "__main__":
    sys.exit(main())
