"""Word wrap: at the terminal's width, and never inside what is read or copied as a whole."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from textclf.terminal.wrapping import wrapped

WIDTHS = (40, 80, 120, 200)

MESSAGE = (
    "small_test.csv: 3 of 5,105 texts are longer than 128 tokens and will be truncated (99 % need ≤ 69; the longest "
    "needs 144), so the file is 12.5 MB and takes 1.4 s; remove them with `textclf check recipe.yaml a=b`, p = 0.042"
)


def words(text: str) -> list[str]:
    return text.split()


@pytest.mark.parametrize("width", WIDTHS)
def test_lines_fit_the_width_and_lose_nothing(width):
    lines = wrapped(MESSAGE, width, first=2, hanging=2)
    assert all(cell_len(line) <= width for line in lines[1:])
    assert cell_len(lines[0]) <= width - 2
    assert words(" ".join(lines)) == words(MESSAGE)
    assert len(lines) == {40: 7, 80: 3, 120: 2, 200: 2}[width]


@pytest.mark.parametrize("width", range(8, 90))
def test_numbers_keep_their_units_and_commands_stay_whole(width):
    text = "\n".join(wrapped(MESSAGE, width))
    for whole in ("99 %", "≤ 69", "12.5 MB", "1.4 s", "5,105", "`textclf check recipe.yaml a=b`", "= 0.042"):
        assert whole in text


@pytest.mark.parametrize("width", range(10, 60))
def test_a_command_at_the_end_of_a_sentence_stays_whole(width):
    command = "textclf train recipe.yaml training.epochs=5 --resume"
    assert command in "\n".join(wrapped(f"Interrupted; continue with: {command}", width))
    assert f"{command}." in "\n".join(wrapped(f"no such file; for example: {command}. See the help", width))


def test_what_is_wider_than_the_line_stays_whole_for_the_clipboard():
    path = "runs/a-name-that-is-longer-than-the-line/model.tflite"
    assert wrapped(f"written to {path} now", 20) == ["written to", path, "now"]


def test_wide_characters_take_two_cells():
    assert wrapped("請求 請求 請求", 9) == ["請求 請求", "請求"]


def test_continuations_begin_where_the_line_begins_or_below_a_named_value():
    assert wrapped("  one two three", 10) == ["  one two", "  three"]
    assert wrapped("labels   a, b, c, d, e", 18) == ["labels   a, b, c,", "         d, e"]
