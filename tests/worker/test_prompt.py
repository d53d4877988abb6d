"""A whole run with a document prompt, against the model itself on prompt and text; long texts in pieces as well."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from pipeline.model import locate
from tests.support import REPOSITORY, embed_corpus, local_config, read_dataset, write_jsonl

PROMPT = "passage: "
OVERLAP, MAX_TOKENS = 5, 40
SHORT = ["The rain stays mainly in the plain.", "x", "A canary sings; the mine is silent.", "naïve 日本語 🙂"]
LONG = " ".join(f"The {i}th hour has a bell of its own, which nobody hears but those who wait." for i in range(12))
SENTENCE_TRANSFORMERS = ("engine.kind=sentence-transformers", "model.dtype=float32", f"model.document_prompt={PROMPT}")


def embedded(folder: Path, texts: list[str], *settings: str) -> pa.Table:
    """Return the dataset of a run over texts, in the order of its rows and passages."""
    source = write_jsonl(folder / "in.jsonl", [{"id": str(i), "text": text} for i, text in enumerate(texts)])
    sets = [part for setting in (*SENTENCE_TRANSFORMERS, *settings) for part in ("--set", setting)]
    config = REPOSITORY / "configs/local.toml"
    done = embed_corpus("run", "--input", source, "--output", folder / "out", "--config", config, *sets)
    assert done.returncode == 0, done.stderr
    return read_dataset(folder / "out").sort_by([("row", "ascending"), ("passage", "ascending")])


@pytest.fixture(scope="module")
def model() -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(locate(local_config().model)), device="cpu")


def cosines(table: pa.Table, expected: NDArray[np.float32]) -> NDArray[np.float64]:
    found = np.stack(table.column("embedding").to_numpy(zero_copy_only=False)).astype(np.float64)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    cosine: NDArray[np.float64] = np.sum(found * expected, axis=1) / lengths
    return cosine


def test_a_vector_is_that_of_prompt_and_text(tmp_path: Path, model: Any) -> None:
    table = embedded(tmp_path, SHORT)
    assert cosines(table, model.encode([PROMPT + text for text in SHORT])).min() >= 0.9999
    assert cosines(table, model.encode(SHORT)).max() < 0.99, "the prompt makes no difference"
    lengths = [len(model.tokenizer(PROMPT + text)["input_ids"]) for text in SHORT]
    assert table.column("n_tokens").to_pylist() == lengths


@pytest.mark.parametrize("engine", ["sentence-transformers", "vllm"])
def test_pieces_of_a_long_text_overlap_and_leave_room_for_the_prompt(tmp_path: Path, model: Any, engine: str) -> None:
    limits = (f"model.max_tokens={MAX_TOKENS}", "corpus.on_long=split", f"corpus.overlap={OVERLAP}")
    table = embedded(tmp_path, [LONG, SHORT[0]], *limits, f"engine.kind={engine}")
    pieces = [row for row in table.to_pylist() if row["row"] == 0]
    assert len(pieces) > 5
    texts = [LONG[row["char_start"] : row["char_end"]] for row in pieces]
    assert cosines(table, model.encode([PROMPT + text for text in (*texts, SHORT[0])])).min() >= 0.9999

    def n_tokens(text: str) -> int:
        return len(model.tokenizer(text)["input_ids"])

    assert [row["n_tokens"] for row in pieces] == [n_tokens(PROMPT + text) for text in texts]
    assert max(row["n_tokens"] for row in pieces) <= MAX_TOKENS
    assert min(row["n_tokens"] for row in pieces[:-1]) >= MAX_TOKENS // 2, "room is left unused"
    assert all(text.endswith(".") for text in texts), "a sentence is cut"
    assert not any(row["truncated"] for row in pieces)
    assert (pieces[0]["char_start"], pieces[-1]["char_end"]) == (0, len(LONG))
    for before, after in itertools.pairwise(pieces):
        shared = LONG[after["char_start"] : before["char_end"]]
        assert OVERLAP <= n_tokens(shared) - 2 <= 2 * OVERLAP
        assert LONG[after["char_start"] - 1] == " "
