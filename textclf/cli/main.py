"""Runs one command. Every failure ends with one message and an exit code."""

from __future__ import annotations

import faulthandler
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import click

from textclf.cli import (  # noqa: F401 - their commands
    answering,
    app,
    demo,
    examples,
    model_maker,
    models,
    new,
    runs,
    serving,
    training,
)
from textclf.cli.group import InterruptedError, cli, write_help
from textclf.cli.usage import usage_message
from textclf.errors import TextclfError
from textclf.terminal import door as terminal
from textclf.terminal.door import write_message

DEBUG = "TEXTCLF_DEBUG"
"""This environment variable requests the traceback of a bug in textclf."""

COMPLETION = "_TEXTCLF_COMPLETE"
"""The environment variable with which a shell asks for its script, or for words."""


# --- Running a command -----------------------------------------------------------------------------------------------
def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and exits with 0 (done), 2 (an error that the user can fix), 3 (done, but the user should look at
    the result, for example at rows without a label), 130 (interrupted) or 1 (any other failure)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with terminal.surroundings():
        if not faulthandler.is_enabled():
            # A stream in memory has no file number. Then only the system reports a crash.
            with suppress(OSError, ValueError):
                faulthandler.enable(2)
        try:
            code = _exit_code(words)
        except BaseException:
            code = 1
            _report_fault()
        try:
            terminal.leave()
        except BrokenPipeError:
            code = code or 1
        except TextclfError as error:
            if code != 2:  # otherwise the reason was printed already, perhaps the same
                write_message(str(error), "error")
            code = code or 2
    sys.exit(code)


def _exit_code(words: list[str]) -> int:
    """Runs the command and returns its exit code. Every failure is printed as one message."""
    if os.environ.get(COMPLETION):
        from textclf.cli import completion

        completion.register()
    try:
        ended = cli.main(args=words, prog_name="textclf", standalone_mode=False, obj=words)
        return ended if isinstance(ended, int) else 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except TextclfError as error:
        write_message(str(error), "error")
        return 2
    except click.exceptions.NoArgsIsHelpError as error:
        write_help(error.message)  # the help of the group
        return 2
    except click.ClickException as error:
        write_message(usage_message(error, words), "error")
        return 2
    except InterruptedError as error:
        write_message(str(error))
        return 130
    except (KeyboardInterrupt, click.Abort):
        write_message("Interrupted")
        return 130
    except BrokenPipeError:
        terminal.forget_output()
        return 1
    except MemoryError:
        write_message("memory ran out; use smaller data, a smaller batch, fewer threads or more memory", "error")
        return 1
    except OSError as error:
        code, message = _system_message(error)
        write_message(message, "error")
        return code


def _report_fault() -> None:
    """Prints an unexpected failure in one line, after its traceback if it was requested."""
    kind, fault, trace = sys.exc_info()
    assert kind is not None
    last = traceback.extract_tb(trace)[-1] if trace else None
    place = f" at {os.path.basename(last.filename)}:{last.lineno}" if last else ""
    if os.environ.get(DEBUG, "") not in ("", "0"):
        write_message(traceback.format_exc().rstrip())
    said = " ".join(str(fault).split())
    said = said if len(said) <= 300 else said[:299] + "…"
    write_message(
        f"textclf has a bug ({kind.__name__}: {said}{place}); "
        f"set {DEBUG}=1 and run the command again to see the traceback, then report it",
        "error",
    )


def _system_message(error: OSError) -> tuple[int, str]:
    """Returns the exit code and the message for a system error that no module handles."""
    try:
        os.getcwd()
    except OSError:
        return 2, "the current folder no longer exists; change to another one, then run the command again"
    file = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes | os.PathLike) else ""
    remedy = "check the path, its permissions and the space on the disk"
    return 1, f"{file}{error.strerror or error}; {remedy}"
