"""The command group. Its help, version and interruptions are printed by `terminal.door`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from textclf import __version__
from textclf.files.locations import without_secrets
from textclf.terminal.door import command_line, result_screen, write_result, write_styled
from textclf.terminal.screen import Part, Style


class InterruptedError(Exception):
    """Ctrl-C, with the line that is printed for it."""


_EXAMPLES, _NEXT = "Examples", "Next"


def help_end(*examples: str, then: str | None = None) -> str:
    """The end of a command's help: examples, and the command that comes next."""
    return "\n".join(examples) + (f"\n\n{then}" if then else "")


class _HelpWithExamples(click.Command):
    """Its `epilog` is a `help_end`."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        examples, _, then = (self.epilog or "").partition("\n\n")
        for heading, lines in ((_EXAMPLES, examples), (_NEXT, then)):
            if lines:
                with formatter.section(heading):
                    for line in lines.split("\n"):
                        formatter.write(f"{'':{formatter.current_indent}}{line}\n")


class _Command(_HelpWithExamples):
    """A command that says how to continue when it is interrupted."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise InterruptedError(_after_interruption(ctx)) from None

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        return _through_the_door(super().get_help_option(ctx))


_BY_USE = (
    "new",
    "check",
    "train",
    "classify",
    "answer",
    "evaluate",
    "verify",
    "inspect",
    "compare",
    "export",
    "demo",
    "app",
    "serve",
    "runs",
)
"""The first commands in the help, in the order in which a person needs them."""


class _Group(_HelpWithExamples, click.Group):
    command_class = _Command
    group_class = type

    def list_commands(self, ctx: click.Context) -> list[str]:
        names = super().list_commands(ctx)
        return [*(name for name in _BY_USE if name in names), *(name for name in names if name not in _BY_USE)]

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        return _through_the_door(super().get_help_option(ctx))


def _through_the_door(option: click.Option | None) -> click.Option | None:
    """Returns the option --help, which prints through `terminal.door`."""

    def show_help(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
        if wanted and not context.resilient_parsing:
            write_help(context.get_help())
            context.exit()

    if option is not None:
        option.callback = show_help
    return option


def write_help(text: str) -> None:
    """Writes the help of a command to standard output."""
    if not result_screen().is_styled:
        write_result(text)
        return
    lines: list[list[Part]] = []
    section = ""
    for line in text.split("\n"):
        heading, colon, rest = line.partition(":")
        if colon and line[:1].isupper():
            section = heading
            lines.append([(heading + colon, Style.TITLE), (rest, None)])
        else:
            lines.append([(line, Style.COMMAND if section in (_EXAMPLES, _NEXT) else None)])
    write_styled(lines)


def _show_version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        write_result(f"textclf {__version__}")
        context.exit()


_UNFINISHED = "textclf.unfinished"
"""The key of a function that returns whether --resume has something to continue, for the message after Ctrl-C."""


def _after_interruption(context: click.Context) -> str:
    unfinished: Callable[[], bool] | None = context.meta.get(_UNFINISHED)
    if unfinished is None:
        return "Interrupted"
    if not unfinished():
        return "Interrupted before anything was saved; run the command again"
    words = [word for word in context.obj if word != "--force"]
    words += [] if "--resume" in words else ["--resume"]
    return f"Interrupted; continue with: {command_line(['textclf', *map(without_secrets, words)])}"


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=help_end(
        "textclf new tickets.csv",
        "textclf train tickets.yaml",
        "textclf classify runs/NAME inbox.csv -o sorted.csv",
        then="textclf COMMAND --help",
    ),
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.pass_context
def cli(context: click.Context) -> None:
    """Train a checked TFLite model from a table and a short recipe, and use it on tables of any size.

    The model classifies texts, or answers questions from a text. Tables are CSV, JSON Lines, Parquet or Excel.
    """


def _forbid_network(context: click.Context, parameter: click.Parameter, forbidden: bool) -> None:
    """Keeps this command from the network, but not what runs after it in this process."""
    if forbidden:
        from textclf.files.network import offline

        context.with_resource(offline())


offline_option = click.option(
    "--offline", is_flag=True, expose_value=False, callback=_forbid_network, help="Never use the network."
)


def continues_if(unfinished: Callable[[], bool]) -> None:
    click.get_current_context().meta[_UNFINISHED] = unfinished
