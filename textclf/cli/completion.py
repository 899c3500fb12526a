"""Completion in bash, zsh and fish by click, with the settings of a recipe.

Importing this module registers scripts for bash and zsh that differ from click's in two points: no space follows
`KEY=`, and bash's splitting of words at `=` and `:` is undone.
"""

from __future__ import annotations

import os

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

_BASH = r"""
%(complete_func)s() {
    local IFS=$'\n' response completion type value
    response=$(env COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" TEXTCLF_WORDBREAKS="$COMP_WORDBREAKS" \
        %(complete_var)s=bash_complete "$1")
    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"
        if [[ $type == dir ]]; then
            compopt -o dirnames
        elif [[ $type == file ]]; then
            compopt -o default
        else
            COMPREPLY+=("$value")
            [[ $value == *[=/] ]] && compopt -o nospace
        fi
    done
    return 0
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

_ZSH = r"""#compdef %(prog_name)s
%(complete_func)s() {
    local -a words_ described open response
    (( ! $+commands[%(prog_name)s] )) && return 1
    response=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) %(complete_var)s=zsh_complete %(prog_name)s)}")
    for type key help in ${response}; do
        if [[ "$type" == "dir" ]]; then
            _path_files -/
        elif [[ "$type" == "file" ]]; then
            _path_files -f
        elif [[ "$key" == *[=/] ]]; then
            open+=("$key":"$help")
        elif [[ "$help" == "_" ]]; then
            words_+=("$key")
        else
            described+=("$key":"$help")
        fi
    done
    [ -n "$open" ] && _describe -V unsorted open -U -S ''
    [ -n "$described" ] && _describe -V unsorted described -U
    [ -n "$words_" ] && compadd -U -V unsorted -a words_
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""


class _Bash(BashComplete):
    """Reads the command line itself, because bash splits `training.seed=1` into three words."""

    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        text = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
        words = split_arg_string(text)
        incomplete = words.pop() if words and not text[-1].isspace() else ""
        self._replaced = incomplete
        return words[1:], incomplete

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Bash replaces only what follows the last of its word breaks."""
        breaks = [mark for mark in "=:" if mark in os.environ.get("TEXTCLF_WORDBREAKS", "=:")]
        start = max((self._replaced.rfind(mark) + 1 for mark in breaks), default=0)
        return f"{item.type},{item.value[start:]}"


class _Zsh(ZshComplete):
    source_template = _ZSH

    def format_completion(self, item: CompletionItem[str]) -> str:
        help_text = item.help or "_"
        value = item.value if help_text == "_" and item.value[-1:] not in "=/" else item.value.replace(":", r"\:")
        return f"{item.type}\n{value}\n{help_text}"


def register() -> None:
    """Makes click use these scripts."""
    add_completion_class(_Bash)
    add_completion_class(_Zsh)
