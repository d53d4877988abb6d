"""The dataset card: a README.md that tells people what a dataset is, and Hugging Face datasets how to open it."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.dataset.manifest import Dataset
from pipeline.dataset.store import Store

CARD = """\
---
{metadata}
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
    from huggingface_hub import DatasetCardData

    model = dataset.config["model"]
    metadata = DatasetCardData(
        configs=[{"config_name": "default", "data_files": "data/*.parquet"}],
        license="other",
        license_name=model["licence"],
        tags=["embeddings"],
    )
    text = CARD.format(
        name=model["name"],
        metadata=metadata.to_yaml(original_order=["configs"]),
        dim=dataset.recipe["run.dim"],
        fingerprint=dataset.fingerprint,
        rows="\n".join(f"| {key} | `{value!r}` |" for key, value in dataset.recipe.items()),
        **sums,
    )
    store.write_text("README.md", text)
