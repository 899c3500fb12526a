"""The description of a service in OpenAPI 3.1, made from the schemas that check its requests."""

from __future__ import annotations

from typing import Any

import textclf
from textclf.serving.limits import Limits
from textclf.serving.models import ServedModel

_PROBLEM = {
    "type": "object",
    "properties": {
        "where": {"type": "string", "description": "The place in the request"},
        "problem": {"type": "string", "description": "What is wrong there"},
        "expected": {"type": "string", "description": "What is expected there"},
    },
    "required": ["where", "problem", "expected"],
}

_ERROR = {
    "type": "object",
    "properties": {
        "error": {"type": "string"},
        "problems": {"type": "array", "items": {"$ref": "#/components/schemas/Problem"}},
    },
    "required": ["error", "problems"],
}

_OBJECT = {"type": "object"}

_RETRY_AFTER = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}}


def openapi_document(model: ServedModel, limits: Limits, *, with_token: bool) -> dict[str, Any]:
    """Returns the OpenAPI document of a service."""
    body, schemas = model.body.json_schemas()
    needs_token: dict[str, Any] = {"security": [{"token": []}]} if with_token else {}
    refused = {"401": _error("The token is missing or wrong")} if with_token else _FOREIGN_HOST
    predict = {
        "summary": model.summary,
        "operationId": model.path.strip("/"),
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": _json_response("A result for each text, in their order", {"$ref": "#/components/schemas/Results"}),
            **refused,
            "408": _error("The body did not arrive in time"),
            "413": _error(f"The body has more than {limits.max_body:,} bytes"),
            "415": _error("The body is not declared as application/json"),
            "422": _error("The body does not fit the schema"),
            "429": {**_error("The queue is full"), "headers": _RETRY_AFTER},
        },
        **needs_token,
    }
    always = {} if with_token else _FOREIGN_HOST
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "textclf", "version": textclf.__version__, "description": model.summary},
        "paths": {
            model.path: {"post": predict},
            "/model": {
                "get": _get(
                    "The labels, the settings and the limits", _json_response("Facts", _OBJECT), refused, needs_token
                )
            },
            "/health": {"get": _get("Whether the service runs", _json_response("It runs", _HEALTH), always, {})},
            "/metrics": {
                "get": _get(
                    "Numbers for Prometheus", _content("Prometheus' text format", "text/plain"), refused, needs_token
                )
            },
            "/openapi.json": {"get": _get("This description", _json_response("OpenAPI 3.1", _OBJECT), always, {})},
            "/": {"get": _get("A page to try the model", _content("HTML", "text/html"), always, {})},
        },
        "components": {"schemas": {**schemas, "Results": model.result_schema(), "Error": _ERROR, "Problem": _PROBLEM}},
    }
    if with_token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return document


_HEALTH = {"type": "object", "properties": {"status": {"const": "ok"}}, "required": ["status"]}


def _get(summary: str, response: dict[str, Any], errors: dict[str, Any], security: dict[str, Any]) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": response, **errors}, **security}


def _json_response(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _content(description: str, media_type: str) -> dict[str, Any]:
    return {"description": description, "content": {media_type: {"schema": {"type": "string"}}}}


def _error(description: str) -> dict[str, Any]:
    return _json_response(description, {"$ref": "#/components/schemas/Error"})


_FOREIGN_HOST = {"403": _error("The request uses a name that is not one of this machine")}
