"""Wrong usage: takes an error of click and returns a message that says what to write instead."""

from __future__ import annotations

import click

from textclf.files.kinds import kind_of
from textclf.terminal.door import command_line

# --- Wrong usage -----------------------------------------------------------------------------------------------------
_TAKES_SETTINGS = {
    "train": "train RECIPE",
    "check": "check RECIPE",
    "compare": "compare RECIPE",
    "export": "export RUN",
}


def usage_message(error: click.ClickException, words: list[str]) -> str:
    """Returns the message of click, with what to write instead."""
    message = " ".join(error.format_message().split()).rstrip(".")
    message = (
        message[:1].lower() + message[1:] if message.startswith(("No ", "Missing ", "Got ", "Invalid ")) else message
    )
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "textclf"
    if isinstance(error, click.NoSuchOption) and (remedy := _setting_for(error.option_name, context, words)):
        return f"no such option: {error.option_name}; {remedy}"
    if isinstance(error, click.UsageError) and message.startswith("no such command") and words:
        kind = kind_of(words[0])
        if kind in ("recipe", "run", "model"):
            usual = {"recipe": "train", "run": "inspect", "model": "inspect"}[kind]
            return f"{message}; to {usual} it: textclf {usual} {words[0]}"
        if kind == "table":
            return f"{message}; to write a recipe for it: {command_line(['textclf', 'new', words[0]])}"
    if message.startswith("missing argument 'RECIPE'"):
        return f"{message}; for example: {command} my_recipe.yaml. See {command} --help"
    return message if ";" in message else f"{message}; see {command} --help"


def _setting_for(option: str, context: click.Context | None, words: list[str]) -> str | None:
    """Returns how to write a setting of the recipe that was passed as an option, or None if it is not one."""
    from textclf.recipe.reading import OTHER_NAMES, setting_named

    name = option.lstrip("-").replace("-", "_")
    key = OTHER_NAMES.get(name.lower()) or setting_named(name)
    command = context.info_name if context else None
    if key is None or "." not in key:
        return None
    if command not in _TAKES_SETTINGS:
        return f"{key} is a setting of the recipe: textclf train RECIPE {key}=VALUE"
    given = next((word for word in words if word.split("=")[0] == option), option)
    after = words[words.index(given) + 1 :] if given in words else []
    value = given.partition("=")[2] or (after[0] if after and not after[0].startswith("-") else "VALUE")
    return (
        f"settings are written KEY=VALUE: textclf {_TAKES_SETTINGS[command]} {command_line([f'{key}={value}'])}"
        if value != "VALUE"
        else f"settings are written KEY=VALUE: textclf {_TAKES_SETTINGS[command]} {key}=VALUE"
    )
