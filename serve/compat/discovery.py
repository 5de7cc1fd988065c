"""Perspective's discovery document, by which Google's clients learn the methods: made of the messages themselves."""

# No `from __future__ import annotations` here: FastAPI reads the parameters' types.

import re
from functools import lru_cache
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.responses import JSONResponse

from serve.compat.errors import documented, route_class
from serve.compat.google import error_of
from serve.compat.perspective_wire import (
    AnalyzeCommentRequest,
    AnalyzeCommentResponse,
    SuggestCommentScoreRequest,
    SuggestCommentScoreResponse,
)
from serve.http.problems import Problem
from serve.http.wire import example_response

API = "commentanalyzer"
VERSION = "v1alpha1"

_HOST = re.compile(r"^(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?$")
_FORMATS = {"integer": "int32", "number": "float"}
_METHODS: dict[str, tuple[str, type[BaseModel], type[BaseModel]]] = {
    "analyze": ("Scores a text by the requested attributes.", AnalyzeCommentRequest, AnalyzeCommentResponse),
    "suggestscore": (
        "Says how a text should be scored, and is kept as labels.",
        SuggestCommentScoreRequest,
        SuggestCommentScoreResponse,
    ),
}
# Of every request to a Google API; a client refuses to send what is not listed. None of them changes an answer.
_PARAMETERS = {
    "$.xgafv": ("string", "Error format: taken and ignored."),
    "access_token": ("string", "Taken and ignored."),
    "alt": ("string", "Answers are JSON, whatever is asked."),
    "callback": ("string", "Taken and ignored."),
    "fields": ("string", "Answers are whole, whatever is asked."),
    "key": ("string", "An API key: taken and ignored."),
    "oauth_token": ("string", "Taken and ignored."),
    "prettyPrint": ("boolean", "Taken and ignored."),
    "quotaUser": ("string", "Taken and ignored."),
    "uploadType": ("string", "Taken and ignored."),
    "upload_protocol": ("string", "Taken and ignored."),
}

router = APIRouter(route_class=route_class(error_of))


def document(root: str) -> dict[str, Any]:
    """The document.

    Args:
        root: where the service is, as its client names it: scheme, host and port, ending in a slash.
    """
    return {
        "kind": "discovery#restDescription",
        "discoveryVersion": "v1",
        "id": f"{API}:{VERSION}",
        "name": API,
        "version": VERSION,
        "revision": "20261124",
        "title": "Seawall as Perspective",
        "description": "Perspective's comments:analyze and comments:suggestscore, answered by Seawall's models.",
        "protocol": "rest",
        "rootUrl": root,
        "baseUrl": root,
        "servicePath": "",
        "basePath": "",
        "batchPath": "batch",
        "parameters": {
            name: {"type": kind, "location": "query", "description": text} for name, (kind, text) in _PARAMETERS.items()
        },
        "schemas": _schemas(),
        # No `auth`: with scopes, a client without a key would look for Google credentials.
        "resources": {"comments": {"methods": {name: _method(name) for name in _METHODS}}},
    }


def _method(name: str) -> dict[str, Any]:
    text, request, response = _METHODS[name]
    path = f"{VERSION}/comments:{name}"
    return {
        "id": f"{API}.comments.{name}",
        "description": text,
        "httpMethod": "POST",
        "path": path,
        "flatPath": path,
        "parameters": {},
        "parameterOrder": [],
        "request": {"$ref": request.__name__},
        "response": {"$ref": response.__name__},
    }


@lru_cache(maxsize=1)
def _schemas() -> dict[str, Any]:
    """The messages' schemas, in the form of discovery documents."""
    _, defined = models_json_schema(
        [(model, "validation") for _, *pair in _METHODS.values() for model in pair], by_alias=True
    )
    return {name: {"id": name, **_described(schema)} for name, schema in sorted(defined["$defs"].items())}


def _described(schema: dict[str, Any]) -> dict[str, Any]:
    """JSON Schema as pydantic writes it -> a discovery document's: references by name, no null, number formats."""
    if "$ref" in schema:
        return {"$ref": schema["$ref"].rsplit("/", 1)[-1]} | _kept(schema)
    if "anyOf" in schema:
        [only] = [option for option in schema["anyOf"] if option.get("type") != "null"]
        return _described(only) | _kept(schema)
    described: dict[str, Any] = {"type": schema["type"]} | _kept(schema)
    if schema["type"] in _FORMATS:
        described["format"] = _FORMATS[schema["type"]]
    if "items" in schema:
        described["items"] = _described(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        described["additionalProperties"] = _described(schema["additionalProperties"])
    if "properties" in schema:
        described["properties"] = {name: _described(field) for name, field in schema["properties"].items()}
    return described


def _kept(schema: dict[str, Any]) -> dict[str, Any]:
    return {name: schema[name] for name in ("description", "enum") if name in schema}


def root_of(request: Request) -> str:
    """Where the client reached the service: the Host that it sent, and the scheme, which a proxy may have to tell.

    Raises:
        Problem: 400 for a Host that is none.
    """
    host = request.headers.get("host", "")
    if not _HOST.match(host):
        raise Problem(400, f"Host is {host[:200]!r}; it must be a host with an optional port")
    told = request.headers.get("x-forwarded-proto", "").split(",")[0].strip().lower()
    scheme = told if told in ("http", "https") else request.url.scheme
    return f"{scheme}://{host}/"


@router.get(
    "/$discovery/rest",
    responses=example_response(document("http://127.0.0.1:8000/")) | documented("Google's", 400, 404),
    summary="Perspective's discovery document",
)
async def discovery(request: Request, version: str = VERSION) -> Response:
    """For Google's clients: `rootUrl` is the host that was asked."""
    if version != VERSION:
        raise Problem(404, f"version is {version[:64]!r}; there is {VERSION!r} alone")
    # A cache must not hand one host's document to the clients of another.
    return JSONResponse(document(root_of(request)), headers={"Vary": "Host, X-Forwarded-Proto"})


@router.get(f"/discovery/v1/apis/{API}/{{version}}/rest", include_in_schema=False)
async def discovery_by_path(request: Request, version: str) -> Response:
    """Where older clients look for it."""
    return await discovery(request, version)
