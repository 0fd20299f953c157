"""``python -m learned_opt_rl`` is ``learned-opt-rl``."""

import sys


def main() -> int:
    """Run the command line; an interrupt during its imports ends without a trace."""
    try:
        from learned_opt_rl.cli import main as run

        return run()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
