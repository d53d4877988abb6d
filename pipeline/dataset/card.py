"""The dataset card: a README.md that tells people what a dataset is, and Hugging Face datasets how to open it."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.dataset.manifest import Dataset
from pipeline.dataset.store import Store

CARD = """\
---
configs:
- config_name: default
  data_files: data/*.parquet
license: other
license_name: {licence}
tags:
- embeddings
---
# Embeddings by {name}

{passages:,} passages of {embedded_rows:,} rows as {dim}-dimensional float16 vectors of unit length; a dot product is
the cosine. {rejected_rows:,} rows could not be embedded and stand with a reason in `rejects/`.

| recipe | |
| --- | --- |
{rows}

```python
import pyarrow.dataset as ds

table = ds.dataset("data", format="parquet").to_table(columns=["id", "embedding"])
```

Made with embed-corpus; `embed-corpus verify` checks the files against `manifest.jsonl`. Fingerprint {fingerprint}.
"""


def write_card(store: Store, dataset: Dataset, sums: Mapping[str, int]) -> None:
    """Write the card of a dataset unless it already says the same."""
    model = dataset.config["model"]
    text = CARD.format(
        name=model["name"],
        licence=model["licence"],
        dim=dataset.recipe["run.dim"],
        fingerprint=dataset.fingerprint,
        rows="\n".join(f"| {key} | `{value!r}` |" for key, value in dataset.recipe.items()),
        **sums,
    )
    store.write_text("README.md", text)
