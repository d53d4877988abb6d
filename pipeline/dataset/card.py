"""The card of a dataset: README.md, of which a run writes its own part and leaves a person's words as they are.

Our part is the metadata at the top and what is between two markers. The first marker has a digest of each: where a
person changed one of them, that one stays as it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.config import ENGINES
from pipeline.console import in_one_line, note
from pipeline.dataset.manifest import Dataset
from pipeline.dataset.store import Store
from pipeline.files import is_file, kind_of, publish_file, read_file

NAME = "README.md"
BEGIN = "<!-- embed-corpus {metadata} {body}: a run writes what follows, down to the next such line -->\n"
END = b"<!-- embed-corpus -->\n"
OURS = re.compile(
    rb"(?P<before>.*?)<!-- embed-corpus (?P<metadata>[0-9a-f]{16}) (?P<digest>[0-9a-f]{16}): [^\n]*-->\r?\n"
    rb"(?P<body>.*?)<!-- embed-corpus -->\r?\n?(?P<after>.*)",
    re.DOTALL,
)
METADATA = re.compile(rb"---\n.*?\n---\n", re.DOTALL)
MARKDOWN = re.compile(r"[^\w ./,+-]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")  # what may mean something in a page
BODY = """\
# Embeddings by {name}

{passages:,} passages of {embedded_rows:,} rows as {dim}-dimensional float16 vectors of unit length; a dot product is
the cosine. {rejected_rows:,} rows could not be embedded; `rejects/` says why. {texts}

| recipe | |
| --- | --- |
{rows}

```python
import pyarrow.dataset as ds

table = ds.dataset("data", format="parquet").to_table(columns=["id", "embedding"])
```

Made with embed-corpus; `embed-corpus verify` checks the files against `manifest.jsonl`. Fingerprint {fingerprint}.
"""

WITH_TEXTS = "Column `text` has the passages themselves; `corpus.store_text = false` leaves them out."
WITHOUT_TEXTS = "The passages themselves are not in `data/`."


def write_card(store: Store, dataset: Dataset, sums: Mapping[str, int]) -> None:
    """Bring our part of the card up to date; a card that a person wrote or changed there stays, which is said."""
    path = store.root / NAME
    is_odd = kind_of(path) not in ("a file", "")
    found = read_file(path) if is_file(path) else None
    card = None if is_odd else merged(found, metadata_of(dataset), body_of(dataset, sums))
    if card is None:
        note(f"{path}: left as it is, as a person wrote or changed our part of it; move it away for a new one")
    elif card != found:
        publish_file(path, pa.py_buffer(card), store.volume.check_held)


def merged(found: bytes | None, metadata: bytes, body: bytes) -> bytes | None:
    """Return the card that is to be, from the one there is; None where that is not ours to change."""
    ours = OURS.fullmatch(found or b"")
    if found and (ours is None or _digest(ours["body"]) != ours["digest"]):
        return None
    before, after = (ours["before"], ours["after"]) if ours else (metadata, b"")
    top = METADATA.match(before)
    if ours and top and _digest(top[0]) == ours["metadata"]:
        before = metadata + before[top.end() :]
    marker = BEGIN.format(metadata=_digest(metadata).decode(), body=_digest(body).decode()).encode()
    return before + marker + body + END + after


def is_ours(path: Path) -> bool:
    """Whether a file is a card that a run wrote."""
    return is_file(path) and OURS.fullmatch(read_file(path)) is not None


def metadata_of(dataset: Dataset) -> bytes:
    """Return the YAML that says which files are data and under which licence, between its two lines of dashes."""
    from huggingface_hub import DatasetCardData

    model = dataset.config.get("model")
    licence = model.get("licence") if isinstance(model, dict) else None
    card = DatasetCardData(
        configs=[{"config_name": "default", "data_files": "data/*.parquet"}],
        license="other",
        license_name=in_one_line(licence) if isinstance(licence, str) else "unknown",
        tags=["embeddings"],
    )
    return f"---\n{card.to_yaml(original_order=['configs'])}\n---\n".encode()


def body_of(dataset: Dataset, sums: Mapping[str, int]) -> bytes:
    """Return what the card says of a dataset with these sums."""
    rows = "\n".join(f"| {_escaped(key)} | {_code(repr(value))} |" for key, value in dataset.recipe.items())
    return BODY.format(
        name=_escaped(_maker(dataset.recipe)),
        dim=dataset.recipe["run.dim"],
        fingerprint=_escaped(dataset.fingerprint),
        rows=rows,
        texts=WITH_TEXTS if sums["stored_texts"] else WITHOUT_TEXTS,
        **sums,
    ).encode()


def _maker(recipe: Mapping[str, Any]) -> str:
    """Return whose vectors they are: a model's, unless the engine needs none."""
    kind = str(recipe.get("engine.kind"))
    is_model = kind not in ENGINES or ENGINES[kind].needs_weights
    return str(recipe.get("model.name")) if is_model else f"the {kind} engine, without a model"


def _code(text: str) -> str:
    """Return Markdown that shows a text as code, in a table as well."""
    return f"<code>{_escaped(text)}</code>" if re.search(r"[`|<]", text) else f"`{in_one_line(text)}`"


def _escaped(text: str) -> str:
    """Return Markdown that shows a text as it is, whatever of Markdown or HTML is in it."""
    return MARKDOWN.sub(lambda found: f"&#{ord(found[0])};", in_one_line(text))


def _digest(text: bytes) -> bytes:
    """Return 16 hex digits, the same for both kinds of line ends."""
    return hashlib.blake2b(text.replace(b"\r\n", b"\n"), digest_size=8).hexdigest().encode()
