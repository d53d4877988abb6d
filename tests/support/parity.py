"""Our vLLM engine and Hugging Face eager over the same checkpoints, in a process of its own: vectors into one .npz.

python -m tests.support.parity CHECKPOINTS OUT DTYPE NAME…
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config import parse_config
from pipeline.engines import vllm
from pipeline.engines.golden import Golden, golden_cosines, make_golden
from pipeline.model.checkpoint import pin_and_check
from pipeline.model.tokens import make_tokenizer
from tests.support.checkpoints import MAX_TOKENS, model_tables

TEXTS = ["the other then", "x", "words " * 60, "漢字 emoji 🙂", "a text that the window of sixteen tokens cannot hold"]
REFUSED = "bidirectional-lm"  # by the guard; here it is loaded all the same, to show why


def main(root: Path, out: Path, dtype: str, names: list[str]) -> None:
    bidirectional = pin_and_check(parse_config(model_tables(root / "bidirectional-text"), where="tests"))
    golden = make_golden(bidirectional)
    found: dict[str, NDArray[np.float64] | NDArray[np.float32]] = {}
    for name in names:
        found |= {f"{name}/{what}": vectors for what, vectors in vectors_of(root / name, dtype, golden).items()}
    np.savez(out, allow_pickle=False, **found)


def vectors_of(folder: Path, dtype: str, golden: Golden) -> dict[str, NDArray[np.float64] | NDArray[np.float32]]:
    config = parse_config(model_tables(folder, dtype=dtype), where="tests")
    if folder.name == REFUSED:
        setattr(vllm, "open_checkpoint", lambda config: folder)  # noqa: B010  not a name that it exports
    windows = make_tokenizer(config, max_tokens=MAX_TOKENS).windows(TEXTS)
    ids = [of_text[0].ids for of_text in windows]
    engine = vllm.VLLMEmbedder(config)
    found = {
        "batch": engine.embed(ids),
        "alone": np.concatenate([engine.embed([tokens]) for tokens in ids]),
        "cut": engine.embed([tokens[:-1] for tokens in ids]),
        "golden": golden_cosines(config, engine.embed, golden)[1],
        "eager": eager(folder, ids),
    }
    engine._llm.llm_engine.engine_core.shutdown()  # the next one needs its place
    return found


def eager(folder: Path, ids: list[list[int]]) -> NDArray[np.float32]:
    """Return the hidden state of the last token of each text, embedded alone and in float32."""
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    with torch.inference_mode():
        return np.stack([model(torch.tensor([tokens])).last_hidden_state[0, -1].numpy() for tokens in ids])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4:])
