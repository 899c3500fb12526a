"""`python -m textclf`, and the command `textclf`: the same."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one command; see `textclf.cli.main`."""
    try:
        from textclf.cli.main import main as run
    except KeyboardInterrupt:  # so early that there is nothing to say
        sys.exit(130)
    run(arguments)


if __name__ == "__main__":
    main()
