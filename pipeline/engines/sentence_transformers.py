"""sentence-transformers: the engine where vLLM has no wheel, and the reference that vLLM is held against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Config
from pipeline.console import quiet
from pipeline.errors import EngineError
from pipeline.model import open_checkpoint

POOLING = {"mean": "mean", "last": "lasttoken", "cls": "cls"}
PADDED_BATCH = 32  # passages padded to one length; longer batches only add padding on a CPU


class SentenceTransformersEmbedder:
    """`SentenceTransformer` fed with token ids, shortest first so that little is padded."""

    def __init__(self, config: Config) -> None:
        self._model = _load(config, dtype=config.model.dtype)
        self._pad = self._model.tokenizer.pad_token_id or 0

    def embed(self, token_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return one vector of the model's full width for each list of token ids, shape (n, width)."""
        order = np.argsort([len(ids) for ids in token_ids], kind="stable")
        vectors = [
            self._forward([token_ids[i] for i in order[at : at + PADDED_BATCH]])
            for at in range(0, len(order), PADDED_BATCH)
        ]
        full = np.concatenate(vectors)
        restored = np.empty_like(full)
        restored[order] = full
        return restored

    def _forward(self, token_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        import torch

        width = max(len(ids) for ids in token_ids)
        ids = torch.full((len(token_ids), width), self._pad)
        mask = torch.zeros((len(token_ids), width), dtype=torch.long)
        for row, tokens in enumerate(token_ids):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        features = {"input_ids": ids.to(self._model.device), "attention_mask": mask.to(self._model.device)}
        try:
            with torch.inference_mode():
                output = self._model(features)["sentence_embedding"]
        except Exception as error:
            raise EngineError(f"sentence-transformers: {len(token_ids)} passages were not embedded: {error}") from error
        vectors: NDArray[np.float32] = output.float().cpu().numpy()
        return vectors


def reference_vectors(config: Config, texts: Sequence[str]) -> tuple[NDArray[np.float32], str]:
    """Return vectors of full width by `SentenceTransformer.encode` in float32, shape (n, width), and what made them.

    Tokens, special ones included, cuts and pooling are those of sentence-transformers, not ours.
    """
    import sentence_transformers

    model = _load(config, dtype="float32")
    model.max_seq_length = config.model.max_tokens
    model.default_prompt_name = None
    with quiet():
        vectors: NDArray[np.float32] = model.encode(list(texts), batch_size=1, show_progress_bar=False)
    return vectors, f"sentence-transformers {sentence_transformers.__version__} in float32"


def _load(config: Config, *, dtype: str) -> Any:
    """Load a SentenceTransformer; a checkpoint that does not say how it pools is pooled as the config says."""
    folder = str(open_checkpoint(config))
    with quiet():
        try:
            import torch
            from sentence_transformers import SentenceTransformer
            from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

            model = config.model
            code: dict[str, Any] = {"trust_remote_code": model.trust_remote_code}
            options = {"dtype": getattr(torch, dtype)}
            if (Path(folder) / "modules.json").exists():
                return SentenceTransformer(folder, **code, model_kwargs=options).eval()
            transformer = Transformer(folder, model_kwargs=options | code, processor_kwargs=code, config_kwargs=code)
            pooling = Pooling(model.dims[0], POOLING[model.pooling])
            return SentenceTransformer(modules=[transformer, pooling, Normalize()]).eval()
        except Exception as error:
            raise EngineError(f"sentence-transformers with {config.model.name}: did not start: {error}") from error
