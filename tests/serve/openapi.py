"""The service's own OpenAPI, as its door has it, and `make fuzz-http`, which throws it at a server by schemathesis.

`python -m tests.serve.openapi FOLDER SECONDS` writes it into the folder; the service itself has no path for it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from pipeline.serve.middleware import METHODS
from pipeline.serve.request import MAX_INPUTS, Embeddings
from tests.support import local_config
from tests.support.http_server import KEY, serving

SCHEMATHESIS = "schemathesis==4.32.5"
CHECKS = "not_a_server_error,status_code_conformance,unsupported_method,content_type_conformance"
MODEL = local_config().model
N_IDS = 30_522  # in the vocabulary of the model
TEXT = {"type": "string", "pattern": r"^[!-~]"}
ID = {"type": "integer", "minimum": 0, "maximum": N_IDS - 1}
IDS = {"type": "array", "items": ID, "minItems": 1, "maxItems": MODEL.max_tokens}
LIMITS = {
    "model": {"enum": [MODEL.name, None]},
    "dimensions": {"enum": [*MODEL.dims, None]},
    "truncate_prompt_tokens": {
        "anyOf": [{"type": "integer", "minimum": 1, "maximum": MODEL.max_tokens}, {"enum": [-1, None]}]
    },
}
KINDS = [TEXT, IDS, *({"type": "array", "items": kind, "minItems": 1, "maxItems": MAX_INPUTS} for kind in (TEXT, IDS))]
FAULTS = {str(status): {"description": "an error as OpenAI words it"} for status in (400, 401, 404, 405, 413, 503)}


def openapi() -> dict[str, Any]:
    """Return the description: each path with its method, and the fields of a request from what the door decodes."""
    _, components = msgspec.json.schema_components([Embeddings], ref_template="#/components/schemas/{name}")
    components["Embeddings"]["properties"] |= {"input": {"anyOf": KINDS}, **LIMITS}
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Embeddings"}}}, "required": True}
    responses = {"200": {"description": "what was asked for"}, **FAULTS}
    paths = {
        path: {method.lower(): {"responses": responses, **({"requestBody": body} if method == "POST" else {})}}
        for path, method in METHODS.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "embed-corpus serve", "version": "1"},
        "paths": paths,
        "components": {"schemas": components},
    }


def main(folder: Path, seconds: str) -> int:
    """Start a server, let schemathesis ask it what the description allows and does not, and return its exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    description = folder / "openapi.json"
    description.write_text(json.dumps(openapi(), indent=1))
    uv = Path(sys.executable).with_name("uv")
    with serving(folder) as served:
        command = [uv, "tool", "run", SCHEMATHESIS, "run", description, "--checks", CHECKS, "--max-time", seconds]
        address = ["--url", served.url.removesuffix("/v1"), "-H", f"Authorization: Bearer {KEY}"]
        return subprocess.run([*map(str, command), *address]).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
