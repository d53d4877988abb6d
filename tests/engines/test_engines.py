"""The engines against each other: real MiniLM on vLLM and on sentence-transformers, through every step to the file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.cli import main
from pipeline.config import Config, load_config
from pipeline.dataset import Store
from pipeline.engines import ENGINES
from pipeline.engines.bert import BertEmbedder
from pipeline.engines.vllm import engine_arguments, pooler_arguments
from pipeline.errors import EngineError
from pipeline.files import VOLUMES_VARIABLE
from pipeline.tools import own_config
from pipeline.tools.search.searcher import Encoder
from tests.support import REPOSITORY, embed_corpus, read_dataset, status, texts, write_jsonl
from tests.support.many import Call, run_all

PROGRESS = re.compile(
    r"(reading the input|read the input|loading the model|loaded the model|embedding|publishing|checking)\b.*"
)
ROWS = [
    {"id": "json", "text": "Deserialize a JSON document from a string to a Python object."},
    {"id": "long", "text": "A sentence that is repeated until it does not fit. " * 60},
    {"id": "unicode", "text": "Größe, 漢字, emoji 🙂 and a\ttab"},
    {"id": "one", "text": "x"},
    *({"id": row["id"], "text": row["text"]} for row in texts(60)),
]


KINDS = {  # of engine and dtype -> least cosine to the reference
    ("vllm", "float32"): 0.9999,
    ("vllm", "bfloat16"): 0.999,
    ("sentence-transformers", "float32"): 0.9999,
    ("numpy", "float32"): 0.9999,
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Embed ROWS with each kind of engine; return the outputs."""
    folder = tmp_path_factory.mktemp("engines")
    source = write_jsonl(folder / "in.jsonl", ROWS)
    found = {kind: folder / "-".join(kind) for kind in KINDS}
    sets = {kind: ("--set", f"engine.kind={kind[0]}", "--set", f"model.dtype={kind[1]}") for kind in KINDS}
    for done in run_all([Call(("run", "--input", source, "--output", found[kind], *sets[kind])) for kind in KINDS]):
        assert done.returncode == 0, done.stderr
        assert all(PROGRESS.fullmatch(line) for line in done.stderr.splitlines()), done.stderr
    return found


@pytest.fixture(scope="module")
def reference() -> NDArray[np.float32]:
    """Vectors of ROWS by sentence-transformers as its users call it, in float32, from texts."""
    script = (
        "import json, sys, numpy as np\n"
        "from sentence_transformers import SentenceTransformer\n"
        "from pipeline.config import load_config\n"
        "from pipeline.model.files import locate\n"
        "from pathlib import Path\n"
        "model = SentenceTransformer(str(locate(load_config(Path('configs/local.toml')).model)))\n"
        "np.save(sys.argv[1], model.encode(json.load(sys.stdin)))\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "reference.npy"
        texts_of_rows = json.dumps([row["text"] for row in ROWS])
        subprocess.run([sys.executable, "-c", script, file], input=texts_of_rows, text=True, check=True, cwd=REPOSITORY)
        found: NDArray[np.float32] = np.load(file)
    return found


@pytest.mark.parametrize(("kind", "least_cosine"), KINDS.items())
def test_vectors_in_the_file_are_those_of_sentence_transformers(
    outputs: dict[tuple[str, str], Path],
    reference: NDArray[np.float32],
    kind: tuple[str, str],
    least_cosine: float,
) -> None:
    found = np.stack(read_dataset(outputs[kind]).column("embedding").to_pylist()).astype(np.float32)
    cosine = np.sum(found * reference, axis=1) / np.linalg.norm(found, axis=1)
    assert cosine.min() >= least_cosine
    assert status(outputs[kind])["truncated"] == 1


def test_search_finds_the_meaning(outputs: dict[tuple[str, str], Path]) -> None:
    done = embed_corpus("search", outputs["vllm", "float32"], "parse a JSON document", "-k", "1", "--json")
    assert [hit["id"] for hit in json.loads(done.stdout)] == ["json"]
    assert all(PROGRESS.fullmatch(line) for line in done.stderr.splitlines()), done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_what_answers_a_query_gives_the_vectors_of_every_engine(
    outputs: dict[tuple[str, str], Path], kind: tuple[str, str]
) -> None:
    dataset = Store(root=outputs[kind]).read_manifest().dataset
    assert dataset is not None
    config = own_config(dataset, None)
    encoder = Encoder(config)
    assert isinstance(encoder.embedder, BertEmbedder)
    table = read_dataset(outputs[kind])
    texts_of_rows = {row["id"]: row["text"] for row in ROWS}
    for stored, row in zip(table.column("embedding").to_pylist(), table.column("id").to_pylist(), strict=True):
        vector = np.array(stored, np.float32)
        assert encoder.encode(texts_of_rows[row]) @ vector / np.linalg.norm(vector) >= 0.999


# What of vLLM is called by name, and with which arguments.
CALLED = """
import inspect, json
from vllm import LLM
from vllm.config import PoolerConfig
from vllm.engine.arg_utils import EngineArgs
from vllm.inputs import TokensPrompt
from vllm.platforms import current_platform

current_platform.is_sleep_mode_available()
called = {"engine": EngineArgs, "pooler": PoolerConfig, "encode": LLM.encode, "sleep": LLM.sleep, "wake": LLM.wake_up}
known = {name: list(inspect.signature(what).parameters) for name, what in called.items()}
passes_on = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(LLM.__init__).parameters.values())
print(json.dumps(known | {"prompt": list(TokensPrompt.__annotations__), "passes on": passes_on}))
"""


@pytest.fixture(scope="module")
def known() -> dict[str, list[str]]:
    """Return the parameters that the installed vLLM takes, by what takes them."""
    done = subprocess.run([sys.executable, "-c", CALLED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    assert found["passes on"], "LLM hands its keyword arguments on to EngineArgs"
    return found


@pytest.mark.parametrize("name", ["local", "kalm-gemma3-12b", "qwen3-embedding-0.6b", "e5-small-v2"])
def test_our_arguments_are_in_the_signature_of_the_installed_vllm(known: dict[str, list[str]], name: str) -> None:
    config = load_config(REPOSITORY / f"configs/{name}.toml")
    assert {"model", "pooler_config", *engine_arguments(config)} <= set(known["engine"])
    assert set(pooler_arguments(config)) <= set(known["pooler"])
    assert {"prompts", "pooling_task", "use_tqdm"} <= set(known["encode"])
    assert "level" in known["sleep"]
    assert "prompt_token_ids" in known["prompt"]


@pytest.mark.parametrize("dropped", ["task", "device", "override_pooler_config", "swap_space"])
def test_an_argument_that_vllm_has_dropped_would_be_seen(known: dict[str, list[str]], dropped: str) -> None:
    assert dropped not in known["engine"]


def does_not_load(config: Config) -> NoReturn:
    raise EngineError(f"vLLM with {config.model.name}: did not start: no memory")


def test_an_engine_that_does_not_load_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(ENGINES, "vllm", replace(ENGINES["vllm"], make=f"{__name__}:does_not_load"))
    source = write_jsonl(tmp_path / "in.jsonl", ROWS[:3])
    assert main(["run", "--input", str(source), "--output", str(tmp_path / "out"), "--set", "model.dtype=float32"]) == 1
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].endswith(": did not start: no memory")


@pytest.mark.slow
def test_vllm_refuses_what_it_cannot_embed_and_forgets_a_call_that_failed_in_the_middle() -> None:
    """Requests left in line by a step that fails would be answered in the next call, in the place of its own."""
    script = """
import numpy as np
from pipeline.engines.thread import EngineThread
from tests.support import local_config

thread = EngineThread(local_config())
rows = [[101, 2000 + i, 3000 + 7 * i, 102] for i in range(40)]
whole = thread.embed(rows, 384)
assert not whole.refused

def agree(embedded):
    good = [i for i in range(40) if i not in embedded.refused]
    return (embedded.vectors[good].astype("f4") * whole.vectors[good]).sum(1).min() > 0.999

bad = [[*row[:1], 10**6, *row[2:]] if i in (7, 31) else row for i, row in enumerate(rows)]
found = thread.embed(bad, 384)
assert found.refused.keys() == {7, 31} and agree(found), found.refused
assert "out of vocabulary" in found.refused[7]

executor = thread._loading.result()[0]._llm.llm_engine.engine_core.engine_core.model_executor
step = executor.execute_model
def fail_once(*arguments, **options):
    executor.execute_model = step
    raise RuntimeError("this step fails")
executor.execute_model = fail_once
found = thread.embed(rows, 384)
assert found.calls == 3 and not found.refused and agree(found), found
thread.close()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_vllm_says_much_while_it_loads_and_nothing_of_a_batch() -> None:
    """On Modal it is at INFO for as long as a container lives: a line for each batch would be the whole log."""
    script = """
import sys
from pipeline.engines.thread import EngineThread
from tests.support import local_config

thread = EngineThread(local_config())
thread.wait()
print("LOADED", file=sys.stderr, flush=True)
for i in range(50):
    assert not thread.embed([[101, 2000 + i, 102]] * 8, 384).refused
print("EMBEDDED", file=sys.stderr, flush=True)
thread.close()
"""
    env = {**os.environ, "EMBED_LOGGED": "1", "VLLM_LOGGING_LEVEL": "INFO"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=REPOSITORY, env=env)
    assert done.returncode == 0, done.stderr
    loading, loaded, after = done.stderr.partition("LOADED\n")
    assert loaded
    assert " INFO " in loading
    assert after.partition("EMBEDDED\n")[0] == ""


def test_on_volumes_the_weights_are_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(REPOSITORY / "configs/local.toml")
    assert "safetensors_load_strategy" not in engine_arguments(config)
    monkeypatch.setenv(VOLUMES_VARIABLE, "1")
    assert engine_arguments(config)["safetensors_load_strategy"] == "prefetch"
