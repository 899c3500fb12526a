"""The command line, thin over the public functions."""

from textclf.cli.main import main

__all__ = ["main"]
