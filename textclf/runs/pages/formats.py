"""Numbers and texts as people read them in a report, a model card or a terminal."""

from __future__ import annotations

import re

from textclf.terminal.door import printable


def percent(share: float) -> str:
    """A share as a percentage. It is never "100.0%" for less than all, nor "0.0%" for more than nothing."""
    if 0.9995 <= share < 1:
        return ">99.9%"
    return "<0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def points(share: float) -> str:
    """A difference of shares in percentage points."""
    return f"{100 * share:.1f} points"


def signed_points(share: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    rounded = round(100 * share, 1)
    return f"{rounded:+.1f} points" if rounded else "0.0 points"


def size(count: int) -> str:
    """A number of bytes."""
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def duration(seconds: float) -> str:
    """A duration in at most two units."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def shortened(text: str, limit: int) -> str:
    """The beginning of a long text."""
    return text if len(text) <= limit else text[:limit].rstrip() + " …"


def markdown_text(text: object) -> str:
    """A text of the user as Markdown that shows it unchanged, also in a table or at the beginning of a line."""
    visible = printable(" ".join(str(text).split()))
    escaped = re.sub(r"([\\`*_{}\[\]<>#|~&!$@])", r"\\\1", visible)
    return re.sub(r"^([-+=]|\d+(?=[.)]))", lambda start: _at_line_start(start[1]), escaped)


def _at_line_start(start: str) -> str:
    """Escapes what would begin a list or underline a heading there."""
    return start + "\\" if start.isdigit() else "\\" + start
