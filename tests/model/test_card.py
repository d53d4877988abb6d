"""The card: a name that the files of a model contradict is refused, and nothing else is."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.model.card import check_name
from pipeline.model.checkpoint import pin_and_check
from pipeline.model.files import locate
from tests.support import HASHING, embed_corpus, local_config, write_jsonl
from tests.support.many import Call, run_all

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
E5 = "intfloat/e5-small-v2"
LOCAL = local_config()
PACKAGE = locate(LOCAL.model)
WHERE = f"model.location={LOCAL.model.location}"

# Cards as they are found on the hub and in the folders of those who train.
E5_CARD = f"""---
tags: [mteb, sentence-transformers]
model-index:
- name: e5-small-v2
  results: []
language: [en]
---

# E5-small-v2

Text embeddings, compared with {MINILM} below.

```python
model = AutoModel.from_pretrained('{E5}')
```
"""
UNTITLED = E5_CARD.replace("# E5-small-v2", "## Usage").replace("name: e5-small-v2", "name: results")
FAMILY = """<h1 align="center">FlagEmbedding</h1>

| [BAAI/bge-large-zh-v1.5](https://huggingface.co/BAAI/bge-large-zh-v1.5) | [BAAI/bge-small-zh-v1.5](https://x) |

```python
model = FlagModel('BAAI/bge-large-zh-v1.5', use_fp16=True)
model = SentenceTransformer('BAAI/bge-large-zh-v1.5')
```
"""
TRAINED = f"""---
tags:
- sentence-transformers
- generated_from_trainer
base_model: {E5}
model-index:
- name: checkpoint-500
---

# checkpoint-500

This is a model finetuned from [{E5}](https://huggingface.co/{E5}).

```python
tokenizer = AutoTokenizer.from_pretrained("{E5}")
model = SentenceTransformer("sentence_transformers_model_id")
```
"""
ON_TWO = TRAINED.replace(f"base_model: {E5}", f"base_model:\n- {MINILM}\n- {E5}")
TEMPLATE = """---
{}
---
# Model Card for Model ID

```python
SentenceTransformer("path/to/model-1"); SentenceTransformer('{MODEL_NAME}')
AutoModel.from_pretrained("your-org/name-2")
```
"""


def check(folder: Path, name: str, card: str | None) -> None:
    """Check a name against a folder with a card."""
    if card is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "README.md").write_text(card)
    check_name(replace(LOCAL.model, name=name, location=str(folder)), folder)


@pytest.mark.parametrize(
    ("card", "name", "said"),
    [
        (E5_CARD, MINILM, "says E5-small-v2"),
        (E5_CARD, "intfloat/e5-large-v2", "says E5-small-v2"),
        (E5_CARD.replace("# E5-small-v2", "Of five layers."), MINILM, "says e5-small-v2"),
        (UNTITLED, "acme/legal-2", f"says {E5}"),
        (FAMILY, MINILM, "says BAAI/bge-large-zh-v1.5"),
        (FAMILY, "BAAI/bge-small-zh", "says BAAI/bge-large-zh-v1.5"),
        (TRAINED, E5, "made from it"),
        (TRAINED, E5.upper(), "made from it"),
        (ON_TWO, MINILM, "made from it"),
        (f"# `{E5}`\n", MINILM, f"says {E5}"),
        ("# Model Card for e5-small-v2 #\r\n", MINILM, "says e5-small-v2"),
        ("---\nmodel_name: legal-bert-2\n---\n# Bert of the law\n", MINILM, "says legal-bert-2"),
    ],
)
def test_a_name_that_the_card_contradicts_is_refused(tmp_path: Path, card: str, name: str, said: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        check(tmp_path, name, card)
    assert str(refusal.value).startswith(f"model.name {name}: ")
    assert said in str(refusal.value)
    assert str(tmp_path / "README.md") in str(refusal.value)


@pytest.mark.parametrize(
    ("card", "name"),
    [
        (None, "acme/whatever-2"),
        ("", "acme/whatever-2"),
        (E5_CARD, E5),
        (E5_CARD, "E5_Small_v2"),
        (E5_CARD, "our-mirror/e5-small-v2"),
        (UNTITLED, E5),
        (UNTITLED, MINILM),  # mentioned: one card may serve several models, and it does not say that it is another
        (FAMILY, "BAAI/bge-small-zh-v1.5"),
        (TRAINED, "acme/legal-2"),
        (ON_TWO, "acme/legal-2"),
        (TEMPLATE, "acme/legal-2"),
        ("# Embeddings of the law\n\n## Fine-tuning\n", "acme/legal-2"),
        ("## Pre-training\n", "acme/legal-2"),
        ("---\n: [not YAML\n---\n# Notes\n", "acme/legal-2"),
        ("---\n- a list\n---\ntext\n", "acme/legal-2"),
        ("---\nbase_model: 5\ntags: x\nmodel-index: [1, {name: 2}]\n---\n", "acme/legal-2"),
        ("\ufeff\x00\udcff".encode(errors="surrogatepass").decode(errors="replace"), "acme/legal-2"),
    ],
)
def test_a_name_that_nothing_contradicts_passes(tmp_path: Path, card: str | None, name: str) -> None:
    check(tmp_path, name, card)


PIECES = [
    "---\n", "- ", "tags: ", "model-index:\n", "name: ", "base_model: ", "# ", "`", "\n", "x-1", E5, MINILM, "[", "{",
    "&a *a", "SentenceTransformer('", "')", "Model Card for ", "\u2028", " ", "2026-13-45",
]  # fmt: skip


@given(pieces=st.lists(st.sampled_from(PIECES), max_size=20))
def test_whatever_a_card_says_it_is_a_refusal_in_one_line_or_none(tmp_path: Path, pieces: list[str]) -> None:
    card = "".join(pieces)
    if not any(name in card for name in ("x-1", E5, MINILM, "2026")):
        check(tmp_path, "acme/legal-2", card)
    with contextlib.suppress(ConfigError):
        check(tmp_path, "acme/legal-2", card)
    check(tmp_path, "acme/legal-2", f"# acme/legal-2\n{card}")


def test_a_folder_of_the_hubs_cache_is_known_by_its_repository(tmp_path: Path) -> None:
    folder = tmp_path / "models--intfloat--e5-small-v2/snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    check(folder, E5, None)
    with pytest.raises(ConfigError, match=f"snapshots/0+ says {E5}"):
        check(folder, MINILM, None)


def test_the_model_of_this_machine_is_what_its_config_says_and_nothing_else(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [{"text": "one"}])
    bare = shutil.copytree(PACKAGE, tmp_path / "bare", ignore=shutil.ignore_patterns("README.md"))
    other = shutil.copytree(bare, tmp_path / "other")
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    named, any_revision = f"model.name={E5}", "model.revision=main"

    refused = {
        (named,): ("model.name", "model.location", "model.revision", E5),
        (named, WHERE, any_revision): (E5, "all-MiniLM-L6-v2"),
        (named, WHERE, f"model.revision={LOCAL.model.revision}"): (E5, "all-MiniLM-L6-v2"),
        ("model.name=nreimers/MiniLM-L6-H384-uncased", WHERE, any_revision): ("nreimers", "all-MiniLM-L6-v2"),
        ("model.revision=sha256:" + "0" * 64,): ("sha256 000", LOCAL.model.revision.removeprefix("sha256:")),
        (f"model.location={other}",): (str(other), LOCAL.model.revision.removeprefix("sha256:")),
    }
    taken = [
        (f"model.location={bare}",),
        (f"model.location={bare}", named, any_revision),  # no card: nothing says that it is another
        ("model.name=all-minilm-l6-v2", WHERE, any_revision),
    ]

    def call(command: str, sets: tuple[str, ...]) -> Call:
        output = ("--output", tmp_path / "out")
        return Call((command, "--input", source, *output, *(word for each in sets for word in ("--set", each))))

    done = run_all([call("run", sets) for sets in refused] + [call("plan", sets) for sets in taken])
    for each, said in zip(done, refused.values(), strict=False):
        assert each.returncode == 2, each
        assert len(each.stderr.splitlines()) == 1
        assert all(word in each.stderr for word in said), each.stderr
    assert [each.returncode for each in done[len(refused) :]] == [0] * len(taken)
    assert not (tmp_path / "out").exists()


def test_an_engine_without_a_model_takes_any_name(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "in.jsonl", [{"text": "one"}])
    done = embed_corpus("run", "--input", source, "--output", tmp_path / "out", *HASHING, "--set", f"model.name={E5}")
    assert done.returncode == 0, done.stderr


def test_weights_are_read_once_by_a_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = shutil.copytree(PACKAGE, tmp_path / "model")
    opened: list[Path] = []
    real = Path.open

    def counted(path: Path, *arguments: Any, **options: Any) -> Any:
        opened.append(path)
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", counted)
    config = replace(LOCAL, model=replace(LOCAL.model, location=str(folder)))
    for _ in range(2):
        assert pin_and_check(config) == config
    assert opened.count(folder / "model.safetensors") == 1
