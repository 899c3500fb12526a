"""What can be chosen in commands about runs. Commands read it for their help, so it imports nothing."""

from __future__ import annotations

from typing import Literal, get_args

Sort = Literal["date", "name", "score", "rows", "size", "latency", "seconds"]
"""What runs can be sorted by: names from A to Z, latencies with the shortest first, everything else with the newest or largest
first."""

SORTS: tuple[Sort, ...] = get_args(Sort)

Platform = Literal["android", "ios", "web", "flutter", "python"]
"""For what an app can be written."""

PLATFORMS: tuple[Platform, ...] = get_args(Platform)
