"""The page of a service: a form to try the model, and its routes. It loads nothing from anywhere else."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

from textclf.serving.models import ServedAnswerer, ServedClassifier, ServedModel

_TEMPLATE = Path(__file__).with_name("page.html")


class Page:
    """The bytes of the page and the headers that keep it from every other address."""

    def __init__(self, openapi: dict[str, Any], model: ServedModel) -> None:
        routes = "\n".join(
            f"<tr><td>{method.upper()}</td><td><code>{html.escape(path)}</code></td>"
            f"<td>{html.escape(operation['summary'])}</td></tr>"
            for path, operations in openapi["paths"].items()
            for method, operation in operations.items()
        )
        facts = {"path": model.path, "fields": _fields(model), "token": "securitySchemes" in openapi["components"]}
        page = _TEMPLATE.read_text(encoding="utf-8")
        for name, value in (
            ("ROUTES", routes),
            ("SUMMARY", html.escape(model.summary)),
            ("FACTS", html.escape(json.dumps(facts))),
        ):
            page = page.replace(f"{{{{{name}}}}}", value)
        self.content = page.encode()
        policy = [
            "default-src 'none'",
            f"style-src {_hash(page, 'style')}",
            f"script-src {_hash(page, 'script')}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
        self.headers = {"Content-Security-Policy": "; ".join(policy), "Referrer-Policy": "no-referrer"}


def _fields(model: ServedModel) -> list[str]:
    """Returns the names of the fields of the form."""
    if isinstance(model, ServedAnswerer):
        return ["question", "context"]
    assert isinstance(model, ServedClassifier)
    columns = list(model.opened.text_columns)
    return columns if len(columns) == 2 else ["text"]


def _hash(page: str, element: str) -> str:
    found = re.search(rf"<{element}>(.*?)</{element}>", page, re.DOTALL)
    assert found is not None
    return f"'sha256-{base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()}'"
