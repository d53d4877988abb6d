"""BERT in NumPy: an encoder for a few texts that loads in the time that torch takes to be imported, and without it.

The network is that of "BERT" (Devlin et al., 2019) and of "RoBERTa" (Liu et al., 2019), which counts positions from
another number. The golden check holds it against sentence-transformers whenever it is loaded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from pipeline.config import Config
from pipeline.errors import EngineError
from pipeline.model import locate, open_checkpoint

Array = NDArray[np.float32]
WEIGHTS = "model.safetensors"
PREFIXES = {"BertModel": "bert.", "RobertaModel": "roberta.", "XLMRobertaModel": "roberta."}  # of a tensor's name
MODULES = {"Transformer", "Pooling", "Normalize", "Dropout"}  # of sentence-transformers; the last two change no ranking
WANTED = {"hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False}  # each also where unsaid


def refusal(config: Config) -> str:
    """Return in words why this engine cannot take a model; "" where it can. Raises EngineError as `locate` does."""
    return _refusal(locate(config.model, settings_only=True))


def _refusal(folder: Path) -> str:
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        path = folder / "modules.json"
        modules = {each["type"].rpartition(".")[2] for each in json.loads(path.read_text())} if path.exists() else set()
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"settings that cannot be read ({error})"
    if (architecture := (settings.get("architectures") or [""])[0]) not in PREFIXES:
        return architecture or "a model without an architecture"
    if unknown := modules - MODULES:
        return f"the module {min(unknown)}"
    return next((f"{key} {settings[key]!r}" for key, it in WANTED.items() if settings.get(key, it) != it), "")


class BertEmbedder:
    """One text after the other in float32, whatever the dtype of the config; nothing is padded."""

    def __init__(self, config: Config) -> None:
        folder = open_checkpoint(config)
        if found := _refusal(folder):
            raise EngineError(f"numpy with {config.model.name}: expected a BERT, found {found}")
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self._weights = _read(folder / WEIGHTS, PREFIXES[settings["architectures"][0]])
        self._n_heads = int(settings["num_attention_heads"])
        self._n_layers = int(settings["num_hidden_layers"])
        self._epsilon = np.float32(settings.get("layer_norm_eps", 1e-12))
        is_roberta = settings["architectures"][0] != "BertModel"
        self._padding = int(settings.get("pad_token_id", 1)) if is_roberta else None
        self._pooling = config.model.pooling
        self._threads = ThreadpoolController()

    def embed(self, token_ids: Sequence[Sequence[int]]) -> Array:
        """Return one vector of the model's full width for each list of token ids, shape (n, width)."""
        try:
            # Of two threads on a busy machine, each waits for the other 20 times as long as it computes.
            with self._threads.limit(limits=1, user_api="blas"):
                return np.stack([self._pooled(self._hidden(np.asarray(ids, np.int64))) for ids in token_ids])
        except (LookupError, ValueError) as error:
            raise EngineError(f"numpy: {len(token_ids)} passages were not embedded: {error}") from error

    def _pooled(self, hidden: Array) -> Array:
        vector: Array = {"mean": hidden.mean(axis=0), "cls": hidden[0], "last": hidden[-1]}[self._pooling]
        return vector

    def _hidden(self, ids: NDArray[np.int64]) -> Array:
        """Return the last hidden state of one text, shape (n, width)."""
        of = "embeddings"
        positions = np.arange(len(ids))
        if self._padding is not None:  # RoBERTa counts from behind its padding, and the padding not at all
            is_text = ids != self._padding
            positions = self._padding + np.cumsum(is_text) * is_text
        state = self._weights[f"{of}.word_embeddings.weight"][ids]
        state = state + self._weights[f"{of}.position_embeddings.weight"][positions]
        state = self._normalised(state + self._weights[f"{of}.token_type_embeddings.weight"][0], f"{of}.LayerNorm")
        for layer in range(self._n_layers):
            of = f"encoder.layer.{layer}"
            attended = self._linear(self._attended(state, f"{of}.attention.self"), f"{of}.attention.output.dense")
            state = self._normalised(state + attended, f"{of}.attention.output.LayerNorm")
            inner = _gelu(self._linear(state, f"{of}.intermediate.dense"))
            state = self._normalised(state + self._linear(inner, f"{of}.output.dense"), f"{of}.output.LayerNorm")
        return state

    def _attended(self, state: Array, of: str) -> Array:
        """Return what every token takes from all tokens, shape (n, width)."""
        n, width = state.shape
        query, key, value = (
            self._linear(state, f"{of}.{name}").reshape(n, self._n_heads, -1).transpose(1, 0, 2)
            for name in ("query", "key", "value")
        )  # each of shape (heads, n, width of a head)
        scores = query @ key.transpose(0, 2, 1) * np.float32(1 / math.sqrt(width // self._n_heads))
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        attended: Array = (shares @ value).transpose(1, 0, 2).reshape(n, width)
        return attended

    def _linear(self, state: Array, of: str) -> Array:
        product: Array = state @ self._weights[f"{of}.weight"].T + self._weights[f"{of}.bias"]
        return product

    def _normalised(self, state: Array, of: str) -> Array:
        centred = state - state.mean(axis=-1, keepdims=True)
        scale = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + self._epsilon)
        normalised: Array = centred / scale * self._weights[f"{of}.weight"] + self._weights[f"{of}.bias"]
        return normalised


def _gelu(x: Array) -> Array:
    """Return x times the share of a normal distribution below x (Hendrycks and Gimpel, 2016).

    erf is that of Abramowitz and Stegun 7.1.26, with an error of at most 1.5e-7; NumPy has none.
    """
    z = np.abs(x) * np.float32(math.sqrt(0.5))
    t: Array = np.reciprocal(np.float32(0.3275911) * z + np.float32(1))
    tail: Array = np.full_like(t, 1.061405429)
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        tail = tail * t + np.float32(factor)
    erf = np.copysign(1 - tail * t * np.exp(-z * z), x)
    gelu: Array = x * (1 + erf) * np.float32(0.5)
    return gelu


def _read(path: Path, prefix: str) -> dict[str, Array]:
    """Return the tensors of a checkpoint by their names, without the prefix that some have, in float32."""
    from safetensors import SafetensorError, safe_open

    untyped: Any = safe_open
    try:
        with untyped(path, framework="np") as file:
            tensors = {name.removeprefix(prefix): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, TypeError) as error:  # NumPy has no bfloat16
        raise EngineError(f"{path}: expected weights in float32 or float16, found: {error}") from error
    return {name: tensor.astype(np.float32, copy=False) for name, tensor in tensors.items()}
