"""Where a model's files lie on this machine."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from pipeline.config import ModelConfig
from pipeline.errors import EngineError


def locate(model: ModelConfig) -> Path:
    """Return the folder of a model's files, downloading them from the Hugging Face hub when `location` is empty.

    Raises EngineError when the folder or the package is not there, or its weights are not of `revision`.
    """
    if not model.location:
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(model.name, revision=model.revision))
        except Exception as error:
            raise EngineError(f"model {model.name}@{model.revision}: not available from the hub: {error}") from error
    folder = _local_folder(model.location)
    if not folder.is_dir():
        raise EngineError(
            f"model.location {model.location}: expected a folder with the model, found none; run `make venv`"
        )
    return folder


def check_revision(model: ModelConfig, folder: Path) -> None:
    """Compare the weights with a revision of the form sha256:HEX; any other form is the hub's to keep.

    Raises EngineError with both digests.
    """
    kind, _, expected = model.revision.partition(":")
    if kind != "sha256":
        return
    with (folder / "model.safetensors").open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise EngineError(f"{folder}: expected weights with sha256 {expected} (model.revision), found {found}")


def _local_folder(location: str) -> Path:
    kind, _, rest = location.partition(":")
    if kind != "package":
        return Path(location).expanduser()
    module, _, below = rest.partition("/")
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise EngineError(f"model.location {location}: package {module} is not installed; run `make venv`")
    return Path(spec.submodule_search_locations[0]) / below
