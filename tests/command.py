"""Runs a command of textclf in the process of the test."""

from __future__ import annotations

from textclf.cli.main import main


def run(*arguments: object) -> int:
    """The exit code of a command in this process."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0
