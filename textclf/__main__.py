"""`python -m textclf` is the same as the command `textclf`."""

from __future__ import annotations

from textclf.cli import main

if __name__ == "__main__":
    main()
