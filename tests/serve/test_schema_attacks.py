"""Schemathesis makes requests out of our own OpenAPI, sound ones and broken ones, and holds the answers against it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck
from schemathesis.checks import not_a_server_error
from schemathesis.config import (
    GenerationConfig,
    ProjectConfig,
    ProjectsConfig,
    SchemathesisConfig,
)
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from camelid.infer.async_engine import AsyncEngine
from camelid.infer.request import Request, TokenEvent
from camelid.serve import ServedModel, create_app
from camelid.testing.tiny import tiny_model
from served import VOCAB_SIZE, chat_format, serving
from tiny_engines import engine

CHECKS: Any = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]


class Brief(AsyncEngine):
    """Answers have few tokens: attacks ask for a hundred choices, and never for their end."""

    def stream(self, *requests: Request) -> AsyncGenerator[TokenEvent]:
        brief = (replace(one.sampling, max_tokens=min(8, one.sampling.max_tokens)) for one in requests)
        return super().stream(*(replace(one, sampling=own) for one, own in zip(requests, brief, strict=True)))


async def load() -> ServedModel:
    """A real engine with room for little."""
    seeing = chat_format(tiny_model(vision=True).config.vision)
    return ServedModel("tiny", "d1935", "bf16", VOCAB_SIZE, seeing, Brief(engine(vision=True, pages=3)))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving(load=load) as address:
        yield address
        counts = httpx.get(f"{address}/metrics").text
        for route in POSTS:  # an attack that is always refused for one reason is none
            for status in (200, 400):
                assert f'camelid_http_requests_total{{route="{route}",status="{status}"}}' in counts


SOUND: list[Any] = [
    [{"role": "user", "content": "Is a camel a horse?"}],
    [{"role": "system", "content": ""}, {"role": "user", "content": [{"type": "text", "text": "\n" * 20}]}],
]


def described() -> dict[str, Any]:
    """Our OpenAPI; only what random text would never hit is filled in: the model's name, a sound conversation."""
    openapi = create_app(load).openapi()
    for fields in (schema.get("properties", {}) for schema in openapi["components"]["schemas"].values()):
        if {"model", "stream"} <= set(fields):
            fields["model"] = {"enum": ["tiny"]}
        if "messages" in fields:
            fields["messages"] = {"anyOf": [{"enum": SOUND}, fields["messages"]]}
    return openapi


POSTS = [path for path, methods in described()["paths"].items() if "post" in methods]
CONFIG = SchemathesisConfig(
    projects=ProjectsConfig(default=ProjectConfig(generation=GenerationConfig(deterministic=True)))
)
API: Any = schemathesis.openapi.from_dict(described(), config=CONFIG)


@pytest.mark.alone
@API.parametrize()
@hypothesis.settings(
    max_examples=60, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
def test_no_request_finds_more_than_is_documented(address: str, case: Any) -> None:
    case.call_and_validate(base_url=address, checks=CHECKS, timeout=30)
