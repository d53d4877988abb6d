"""sentence-transformers: the engine where vLLM has no wheel, and the reference that vLLM is held against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Config
from pipeline.engines.quiet import quiet
from pipeline.errors import EngineError
from pipeline.weights import check_revision, locate

PADDED_BATCH = 32  # passages padded to one length; longer batches only add padding on a CPU


class SentenceTransformersEmbedder:
    """`SentenceTransformer` fed with token ids, shortest first so that little is padded."""

    def __init__(self, config: Config) -> None:
        folder = locate(config.model)
        check_revision(config.model, folder)
        with quiet():
            try:
                import torch
                from sentence_transformers import SentenceTransformer

                self._torch = torch
                self._model = SentenceTransformer(
                    str(folder),
                    trust_remote_code=config.model.trust_remote_code,
                    model_kwargs={"dtype": getattr(torch, config.model.dtype)},
                ).eval()
            except Exception as error:
                raise EngineError(f"sentence-transformers with {config.model.name}: did not start: {error}") from error
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

    def sleep(self) -> None:
        """Hold nothing that could be let go of."""

    def wake(self) -> None:
        """Take nothing back."""

    def _forward(self, token_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        torch = self._torch
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
