"""The card of a checkpoint: which model its files say they are, held against the name in the config.

Only a contradiction counts. A folder without a card says nothing, and a fine-tuned model has a name of its own.
`_name_or_path` of a config.json is no name either: it is the model that training began with, or a copy came from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from pipeline.config import ModelConfig
from pipeline.errors import ConfigError, EngineError

CARD = "README.md"
FRONT_MATTER = re.compile(r"\A\s*---\r?\n(.*?)\r?\n---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
TITLE = re.compile(r"^#{1,2}[ \t]+(?:Model Card for[ \t]+)?(.*?)[ \t#]*$", re.MULTILINE | re.IGNORECASE)
NAME = re.compile(r"(?=.*[-_])(?=.*[\d/])[A-Za-z0-9][\w.-]*(/[\w.-]+)?")  # what is no word of a language
USE = re.compile(  # how the card's own examples load the model: ORGANISATION/NAME, no placeholder and no path
    r"""(?:SentenceTransformer|FlagModel|LLM|Model\w*\.from_pretrained)\(\s*(?:\w+\s*=\s*)?["']"""
    r"""(?!path/|your|user|outputs?/|models?/|checkpoints?/)([A-Za-z0-9][\w.-]*/[\w.-]+)["']"""
)
CACHE = re.compile(r"models--(.+)")  # a folder of the hub's cache


class Card(NamedTuple):
    """What a card says; every field is empty without one."""

    text: str
    metadata: dict[str, Any]
    names: list[str]  # that it gives its model
    uses: list[str]  # the models that its examples load


def read_card(folder: Path) -> Card:
    """Return the card of a folder; raises EngineError for one that cannot be read."""
    path = folder / CARD
    try:
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    except OSError as error:
        raise EngineError(f"{path}: expected a card that can be read, found: {error.strerror}") from error
    front = FRONT_MATTER.match(text)
    metadata = _metadata(front[1]) if front else {}
    return Card(text, metadata, list(_names(metadata, text[front.end() :] if front else text)), USE.findall(text))


def name_of(folder: Path) -> str:
    """Return the name that a folder gives its model: of the hub's cache, of its card, else its own."""
    card = read_card(folder)
    return next(iter([*_cached(folder), *card.names, *card.uses]), folder.name)


def check_name(model: ModelConfig, folder: Path) -> None:
    """Raise ConfigError when the files in a folder say that they are another model than `model.name`.

    They say so by the card's title or metadata, by the model that its examples load while the card does not mention
    `model.name`, by a base model of that name, or by the folder of the hub's cache. Raises EngineError for a card that
    cannot be read.
    """
    path, (card, metadata, names, uses) = folder / CARD, read_card(folder)
    named = [(path, name) for name in names]
    named += [(folder, name) for name in _cached(folder)]
    used = [(path, name) for name in uses]
    if any(_is_same(model.name, other) for _, other in (*named, *used)):
        return
    bases = metadata.get("base_model")
    for base in bases if isinstance(bases, list) else [bases]:
        if isinstance(base, str) and base.lower() == model.name.lower():
            raise ConfigError(_refusal(model, f"{path} says that they were made from it"))
    if named or (used and not _is_mentioned(model.name, card)):
        where, other = [*named, *used][0]
        raise ConfigError(_refusal(model, f"{where} says {other}"))


def _refusal(model: ModelConfig, found: str) -> str:
    return (
        f"model.name {model.name}: expected the name of the model at model.location {model.location}, found that "
        f"{found}; set model.name, model.location and model.revision of one model, or mend the card"
    )


def _metadata(text: str) -> dict[str, Any]:
    """Return the metadata of a card; one that is not written well says nothing."""
    try:
        found = msgspec.yaml.decode(text)
    except (msgspec.DecodeError, ValueError):  # the latter for a date that no calendar has
        return {}
    return found if isinstance(found, dict) else {}


def _names(metadata: dict[str, Any], body: str) -> Iterator[str]:
    """Yield the names that a card gives its model; what a trainer writes there is the name of an output folder."""
    tags = metadata.get("tags")
    if isinstance(tags, list) and "generated_from_trainer" in tags:
        return
    title = TITLE.search(body)
    index = metadata.get("model-index")
    entries = index if isinstance(index, list) else []
    names = [title and title[1].strip("`*_ "), metadata.get("model_name")]
    names += [entry.get("name") for entry in entries if isinstance(entry, dict)]
    yield from (name for name in names if isinstance(name, str) and NAME.fullmatch(name))


def _cached(folder: Path) -> list[str]:
    found = [CACHE.fullmatch(part) for part in folder.parts]
    return [match[1].replace("--", "/") for match in found if match]


def _is_same(name: str, other: str) -> bool:
    """Whether two names are of one model; a copy in another organisation keeps the last part."""
    ours, theirs = (re.sub(r"[-_.\s]+", "-", text.rpartition("/")[2].casefold()) for text in (name, other))
    return ours == theirs


def _is_mentioned(name: str, card: str) -> bool:
    """Whether a card has a name as a whole: one card may serve a family of models."""
    return re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-]|\.\w)", card, re.IGNORECASE) is not None
