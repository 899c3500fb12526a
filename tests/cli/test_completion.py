"""What a shell is told when Tab is pressed, through click's environment variables."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import run
from textclf.recipe.completion import complete_setting
from textclf.recipe.settings import Recipe


@pytest.fixture
def complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary):
    monkeypatch.chdir(tmp_path)

    def in_bash(line: str, breaks: str = " \t\n\"'><=;|&(:") -> list[str]:
        monkeypatch.setenv("_TEXTCLF_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_LINE", line)
        monkeypatch.setenv("COMP_POINT", str(len(line)))
        monkeypatch.setenv("TEXTCLF_WORDBREAKS", breaks)
        assert run() == 0
        return [line for line in capfdbinary.readouterr().out.decode().splitlines() if line]

    return in_bash


def test_every_key_of_a_recipe_is_completed(complete):
    words = complete("textclf train recipe.yaml ")
    assert {"plain,training.epochs=", "plain,encoder.max_length=", "plain,name=", "plain,training.watchers.stuck="} <= {
        *words
    }
    assert complete("textclf check recipe.yaml training.ep") == ["plain,training.epochs="]
    assert complete("textclf export runs/a quant") == ["plain,quantization="]


def test_the_values_of_a_key_are_completed_after_the_equals_sign(complete):
    assert complete("textclf train recipe.yaml training.calibrate=") == ["plain,true", "plain,false"]
    assert complete("textclf train recipe.yaml training.head=fr") == ["plain,fresh"]
    assert complete("textclf train recipe.yaml encoder=av") == ["plain,average-words"]
    assert complete("textclf train recipe.yaml training.head=fr", breaks=" \t\n") == ["plain,training.head=fresh"]
    assert complete("textclf train recipe.yaml training.no=") == []


def test_paths_are_completed_behind_a_key(complete):
    Path("data").mkdir()
    Path("data/train.csv").touch()
    assert complete("textclf train recipe.yaml dataset.train=da") == ["plain,data/"]
    assert complete("textclf train recipe.yaml dataset.train=data/t") == ["plain,data/train.csv"]


def test_files_commands_options_and_examples_are_completed(complete):
    assert complete("textclf train rec") == ["file,rec"]
    assert complete("textclf ne") == ["plain,new"]
    assert complete("textclf new table.csv --text-") == ["plain,--text-pair"]
    assert complete("textclf examples copy app") == ["plain,app_reviews"]


def test_zsh_and_fish_get_the_meaning_of_each_key(monkeypatch, capfdbinary):
    monkeypatch.setenv("COMP_WORDS", "textclf train recipe.yaml training.ep")
    monkeypatch.setenv("COMP_CWORD", "3")
    monkeypatch.setenv("_TEXTCLF_COMPLETE", "zsh_complete")
    assert run() == 0
    assert capfdbinary.readouterr().out == b"plain\ntraining.epochs=\nHow often each training row is used\n"
    monkeypatch.setenv("COMP_CWORD", "training.ep")
    monkeypatch.setenv("_TEXTCLF_COMPLETE", "fish_complete")
    assert run() == 0
    assert b"training.epochs=\tHow often each training row is used" in capfdbinary.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(monkeypatch, capfdbinary, shell):
    monkeypatch.setenv("_TEXTCLF_COMPLETE", f"{shell}_source")
    assert run() == 0
    script = capfdbinary.readouterr().out.decode()
    assert f"_TEXTCLF_COMPLETE={shell}_complete" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_completion_loads_nothing_heavy():
    code = (
        "import atexit, sys\n"
        "heavy = ('tensorflow', 'numpy', 'pandas', 'pydantic', 'rich')\n"
        "atexit.register(lambda: print(sorted({n.split('.')[0] for n in sys.modules} & {*heavy}), file=sys.stderr))\n"
        "from textclf.__main__ import main\nmain([])\n"
    )
    line = "textclf train recipe.yaml training.calibrate=t"
    environment = {
        **os.environ,
        "_TEXTCLF_COMPLETE": "bash_complete",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("plain,true\n", "[]\n")


def test_all_settings_are_known_to_the_completion():
    def leaves(section, prefix=""):
        for name, definition in section.model_fields.items():
            kind = definition.annotation
            if isinstance(kind, type) and hasattr(kind, "model_fields"):
                yield from leaves(kind, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}="

    assert {one.word for one in complete_setting("")} == {*leaves(Recipe), "encoder="}
    assert all(one.help for one in complete_setting(""))
