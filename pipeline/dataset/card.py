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
# Those that the hub knows by name, of the kind that corpora have; any other one is "other" with its name.
LICENCES = frozenset(
    (
        "apache-2.0",
        "mit",
        "bsd",
        "bsd-2-clause",
        "bsd-3-clause",
        "isc",
        "cc",
        "cc0-1.0",
        "cc-by-2.0",
        "cc-by-2.5",
        "cc-by-3.0",
        "cc-by-4.0",
        "cc-by-sa-3.0",
        "cc-by-sa-4.0",
        "cc-by-nc-2.0",
        "cc-by-nc-3.0",
        "cc-by-nc-4.0",
        "cc-by-nd-4.0",
        "cc-by-nc-nd-3.0",
        "cc-by-nc-nd-4.0",
        "cc-by-nc-sa-2.0",
        "cc-by-nc-sa-3.0",
        "cc-by-nc-sa-4.0",
        "cdla-sharing-1.0",
        "cdla-permissive-1.0",
        "cdla-permissive-2.0",
        "agpl-3.0",
        "gfdl",
        "gpl",
        "gpl-2.0",
        "gpl-3.0",
        "lgpl",
        "lgpl-3.0",
        "mpl-2.0",
        "odc-by",
        "odbl",
        "pddl",
        "unlicense",
        "wtfpl",
        "etalab-2.0",
        "eupl-1.2",
        "openrail",
    )
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

{licences}

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
    """Return the YAML that says which files are data and under which licence, between its two lines of dashes.

    The licence is that of the corpus, and none where the config says none: the model's is not the dataset's.
    """
    from huggingface_hub import DatasetCardData

    licence = licence_of(dataset, "corpus")
    is_known = licence.lower() in LICENCES
    card = DatasetCardData(
        configs=[{"config_name": "default", "data_files": "data/*.parquet"}],
        license=(licence.lower() if is_known else "other") if licence else None,
        license_name=in_one_line(licence) if licence and not is_known else None,
        tags=["embeddings"],
    )
    return f"---\n{card.to_yaml(original_order=['configs'])}\n---\n".encode()


def body_of(dataset: Dataset, sums: Mapping[str, int]) -> bytes:
    """Return what the card says of a dataset with these sums."""
    rows = "\n".join(f"| {_escaped(key)} | {_code(repr(value))} |" for key, value in dataset.recipe.items())
    return BODY.format(
        name=_escaped(maker(dataset.recipe)),
        dim=dataset.recipe["run.dim"],
        fingerprint=_escaped(dataset.fingerprint),
        rows=rows,
        licences=_licences(dataset),
        texts=WITH_TEXTS if sums["stored_texts"] else WITHOUT_TEXTS,
        **sums,
    ).encode()


def licence_of(dataset: Dataset, table: str) -> str:
    """Return the licence in a table of the config, `corpus` or `model`; "" where it says none."""
    values = dataset.config.get(table)
    licence = values.get("licence") if isinstance(values, dict) else None
    return licence.strip() if isinstance(licence, str) else ""


def _licences(dataset: Dataset) -> str:
    corpus, model = (licence_of(dataset, table) for table in ("corpus", "model"))
    of_texts = f"The texts are under {_escaped(corpus)}." if corpus else "No licence of the texts was named."
    is_model = _needs_weights(dataset.recipe)
    return of_texts + (
        f" The licence of the model that made the vectors is {_escaped(model)}." if model and is_model else ""
    )


def maker(recipe: Mapping[str, Any]) -> str:
    """Return whose vectors they are: a model's, unless the engine needs none."""
    kind = str(recipe.get("engine.kind"))
    return str(recipe.get("model.name")) if _needs_weights(recipe) else f"the {kind} engine, without a model"


def _needs_weights(recipe: Mapping[str, Any]) -> bool:
    kind = str(recipe.get("engine.kind"))
    return kind not in ENGINES or ENGINES[kind].needs_weights


def _code(text: str) -> str:
    """Return Markdown that shows a text as code, in a table as well."""
    return f"<code>{_escaped(text)}</code>" if re.search(r"[`|<]", text) else f"`{in_one_line(text)}`"


def _escaped(text: str) -> str:
    """Return Markdown that shows a text as it is, whatever of Markdown or HTML is in it."""
    return MARKDOWN.sub(lambda found: f"&#{ord(found[0])};", in_one_line(text))


def _digest(text: bytes) -> bytes:
    """Return 16 hex digits, the same for both kinds of line ends."""
    return hashlib.blake2b(text.replace(b"\r\n", b"\n"), digest_size=8).hexdigest().encode()
