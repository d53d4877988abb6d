"""Search: the passages nearest to a query, by reading every vector once."""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Config
from pipeline.dataset import Manifest, Store, open_part
from pipeline.errors import UsageError
from pipeline.vectors import to_numpy, to_unit_float16


def embed_query(query: str, config: Config) -> NDArray[np.float32]:
    """Return the unit vector of a query behind the model's query prompt, shape (dim,)."""
    if not query.strip():
        raise UsageError("search: expected a query, found nothing but white space")
    from pipeline.engines import make_embedder
    from pipeline.model import make_tokenizer

    tokenizer = make_tokenizer(config, max_tokens=config.model.max_tokens)
    ids = tokenizer.windows([config.model.query_prompt + query])[0][0].ids
    vector: NDArray[np.float32] = to_unit_float16(make_embedder(config).embed([ids]), config.dim)[0].astype(np.float32)
    return vector


def nearest(store: Store, manifest: Manifest, vector: NDArray[np.float32], k: int) -> list[dict[str, Any]]:
    """Return the `k` entries with the largest cosine to `vector`, shape (dim,), best first, as score and columns.

    Raises DamageError for a part that cannot be read or has no vectors of that shape, all of them finite.
    """
    best: list[tuple[float, int, dict[str, Any]]] = []
    n_seen = 0
    for part in manifest.receipts:
        with open_part(store.data_path(part), len(vector)) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                scores = to_numpy(table.column("embedding")).astype(np.float32) @ vector
                if not np.isfinite(scores).all():
                    raise ValueError("vectors that are not finite")
                columns = table.drop_columns(["embedding", "content_hash"])
                for at in np.argsort(-scores, kind="stable")[:k]:
                    if len(best) < k or scores[at] > best[0][0]:
                        entry = columns.slice(int(at), 1).to_pylist()[0]
                        item = (float(scores[at]), -(n_seen + int(at)), entry)
                        (heapq.heappush if len(best) < k else heapq.heappushpop)(best, item)
                n_seen += len(table)
    return [{"score": round(score, 4), **entry} for score, _, entry in sorted(best, reverse=True)]
