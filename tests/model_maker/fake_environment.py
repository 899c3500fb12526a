"""An environment of Model Maker whose Python starts the stand-in, so that whole commands run with it."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from tests.conftest import REPOSITORY
from textclf.model_maker.environment import FACTS, requirements

FAKE = REPOSITORY / "tests" / "fake_model_maker.py"


def write_fake_environment(cache: Path) -> None:
    """Writes it into a cache folder, which TEXTCLF_CACHE names."""
    folder = cache / "model-maker" / "environment"
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    made_of = hashlib.sha256(requirements().encode()).hexdigest()
    facts = {"folder": "", "python": "", "requirements_sha256": made_of, "versions": {}, "seconds": 1.0, "bytes": 1}
    (folder / FACTS).write_text(json.dumps(facts))
    # The last argument is the folder of the job.
    python.write_text(f'#!/bin/sh\nfor job; do :; done\nexec "{sys.executable}" "{FAKE}" "$job"\n')
    python.chmod(0o755)
