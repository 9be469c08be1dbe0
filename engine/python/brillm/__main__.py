"""The program: ``brillm``, or ``python -m brillm``."""

import signal
import sys

from ._native import command


def main() -> int:
    """Run the command line of this process."""
    # Ctrl-C ends the program as it would one without an interpreter.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return command([sys.executable, "-m", "brillm"], ["brillm", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
