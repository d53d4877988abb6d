"""How many parameters a model has, from the headers of its .safetensors: no weights are read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import errors, get_local_safetensors_metadata

from pipeline.errors import EngineError

TABLE = re.compile(r"(?:^|\.)\w*embed\w*\.weight$")  # looked up, not multiplied
HEAD = re.compile(r"(?:^|\.)(?:pooler|lm_head)\.")  # saved with the layers, and no part of an embedding


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Counts of parameters."""

    n_parameters: int
    n_multiplied: int  # those that a token is multiplied with: no embedding tables, no head of a language model


def read_weights(folder: Path) -> Weights | None:
    """Count the parameters in a folder; None where it has no weights. Raises EngineError for ones that are not read."""
    try:
        files = get_local_safetensors_metadata(folder).files_metadata.values()
    except (errors.NotASafetensorsRepoError, FileNotFoundError):
        return None
    except (OSError, ValueError, errors.SafetensorsParsingError) as error:
        raise EngineError(f"{folder}: expected weights as .safetensors, found: {error}") from error
    return count({name: tensor.shape for file in files for name, tensor in file.tensors.items()})


def count(shapes: Mapping[str, Sequence[int]]) -> Weights:
    """Count the parameters of a model by the shapes of its tensors."""
    layers = {name: shape for name, shape in shapes.items() if not (HEAD.search(name) or _is_table(name, shape))}
    n_parameters, n_multiplied = (sum(map(math.prod, each.values())) for each in (shapes, layers))
    return Weights(n_parameters=n_parameters, n_multiplied=n_multiplied)


def _is_table(name: str, shape: Sequence[int]) -> bool:
    return len(shape) == 2 and TABLE.search(name) is not None
