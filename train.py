"""Train a recipe: `python train.py RECIPE [KEY=VALUE …]` is the same as `textclf train RECIPE [KEY=VALUE …]`."""

from __future__ import annotations

import sys

from textclf.__main__ import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
