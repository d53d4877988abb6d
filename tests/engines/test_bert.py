"""BERT in NumPy against sentence-transformers, and which engine a few texts are embedded with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from pipeline.config import ENGINES, Config, EngineKind, parse_config
from pipeline.engines import make_embedder, make_lightest
from pipeline.engines.bert import BertEmbedder, refusal
from pipeline.engines.sentence_transformers import SentenceTransformersEmbedder
from pipeline.errors import EngineError
from pipeline.model import locate
from tests.support import local_config
from tests.support.checkpoints import DIMS, change_config, model_tables, write_modules, write_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch and transformers, about themselves

IDS = [[2, 5, 1], [2, *range(4, 90), 1], [2, 319, 7, 7, 1], [2, 1]]
LEAST_COSINE = 0.999999


def write_encoder(folder: Path, kind: str, *, dtype: str = "float32", **settings: Any) -> Path:
    """Write a random encoder of a kind, which any network but its own gives other vectors of."""
    import torch
    import transformers

    torch.manual_seed(3)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=320,
        hidden_size=DIMS[0],
        intermediate_size=480,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=128,
        initializer_range=0.2,
        **settings,
    )
    model = getattr(transformers, f"{kind}Model")(config)
    for name, tensor in model.named_parameters():
        if "LayerNorm" in name or name.endswith("bias"):  # as they begin, these are ones and zeros
            torch.nn.init.normal_(tensor, std=0.3, mean=1.0 if name.endswith("LayerNorm.weight") else 0.0)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def config_of(folder: Path, **model: Any) -> Config:
    return parse_config(model_tables(folder, **model), where="tests")


def cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    a, b = one.astype(np.float64), other.astype(np.float64)
    found: NDArray[np.float64] = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return found


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("encoders")
    for kind in ("Bert", "Roberta", "XLMRoberta"):
        write_encoder(root / kind, kind)
    return root


@pytest.mark.parametrize("kind", ["Bert", "Roberta", "XLMRoberta"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_vectors_are_those_of_sentence_transformers(encoders: Path, kind: str, pooling: str) -> None:
    config = config_of(encoders / kind, pooling=pooling)
    assert refusal(config) == ""
    found, expected = (make(config).embed(IDS) for make in (BertEmbedder, SentenceTransformersEmbedder))
    assert found.shape == (len(IDS), DIMS[0])
    assert cosines(found, expected).min() >= LEAST_COSINE
    assert cosines(found, np.roll(expected, 1, axis=0)).max() < 0.99  # or any vectors would do


def test_weights_in_float16_are_read(tmp_path: Path) -> None:
    config = config_of(write_encoder(tmp_path / "half", "Bert", dtype="float16"), pooling="mean")
    found, expected = (make(config).embed(IDS) for make in (BertEmbedder, SentenceTransformersEmbedder))
    assert cosines(found, expected).min() >= LEAST_COSINE


def test_a_token_that_the_model_has_not_is_an_error_of_the_engine(encoders: Path) -> None:
    engine = BertEmbedder(config_of(encoders / "Bert", pooling="mean"))
    for ids in ([2, 320, 1], [2] * 129):
        with pytest.raises(EngineError, match="numpy: 1 passages were not embedded"):
            engine.embed([ids])


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"architectures": ["BertForMaskedLM"]}, "BertForMaskedLM"),
        ({"architectures": []}, "a model without an architecture"),
        ({"hidden_act": "relu"}, "hidden_act 'relu'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'"),
        ({"is_decoder": True}, "is_decoder True"),
    ],
)
def test_a_network_of_another_kind_is_refused_by_its_name(
    encoders: Path, tmp_path: Path, settings: dict[str, Any], found: str
) -> None:
    folder = Path(shutil.copytree(encoders / "Bert", tmp_path / "copy"))
    change_config(folder, **settings)
    config = config_of(folder, pooling="mean")
    assert refusal(config) == found
    with pytest.raises(EngineError, match="numpy with tests/copy: expected a BERT, found"):
        BertEmbedder(config)


def test_a_module_behind_the_pooling_is_refused(encoders: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(encoders / "Bert", tmp_path / "copy"))
    write_modules(folder, pooling="mean_tokens")
    assert refusal(config_of(folder, pooling="mean")) == ""
    table = json.loads((folder / "modules.json").read_text())
    dense = {"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"}
    (folder / "modules.json").write_text(json.dumps([*table, dense]))
    assert refusal(config_of(folder, pooling="mean")) == "the module Dense"


def test_weights_that_numpy_has_no_type_for_are_one_line(tmp_path: Path) -> None:
    config = config_of(write_encoder(tmp_path / "brain", "Bert", dtype="bfloat16"), pooling="mean")
    with pytest.raises(EngineError, match=r"expected weights in float32 or float16, found: .*bfloat16"):
        BertEmbedder(config)


# --- which engine ---

MADE: list[str] = []


class Recorded:
    """An engine that says it was made."""

    def __init__(self, config: Config) -> None:
        MADE.append(config.engine.kind)

    def embed(self, token_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        return np.ones((len(token_ids), DIMS[0]), np.float32)


def fails(config: Config) -> NoReturn:
    MADE.append(config.engine.kind)
    raise EngineError(f"{config.engine.kind} gives other vectors")


def no(config: Config) -> str:
    return f"the like of {config.model.name}"


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> dict[str, EngineKind]:
    """Let all engines that load a model only say that they were made; they are installed, and refuse nothing."""
    MADE.clear()
    for kind, engine in ENGINES.items():
        if engine.needs_weights:
            monkeypatch.setitem(ENGINES, kind, replace(engine, make=f"{__name__}:Recorded", package="", refuses=""))
    return ENGINES


def without_golden(kind: str) -> Config:
    return local_config(f"engine.kind={kind}", "model.golden=", "model.dtype=float32")


@pytest.mark.parametrize("kind", ["vllm", "sentence-transformers", "numpy"])
def test_the_one_that_starts_soonest_is_made(engines: dict[str, EngineKind], kind: str) -> None:
    make_lightest(without_golden(kind))
    assert MADE == ["numpy"]


@pytest.mark.parametrize(
    ("change", "made", "reason"),
    [
        ({"refuses": f"{__name__}:no"}, [], "does not take the like of sentence-transformers/all-MiniLM-L6-v2"),
        ({"package": "no_such_package"}, [], "is not installed"),
        ({"make": f"{__name__}:fails"}, ["numpy"], "did not load: numpy gives other vectors"),
    ],
)
def test_one_that_cannot_is_passed_over_and_the_slowest_says_why(
    engines: dict[str, EngineKind],
    capfd: pytest.CaptureFixture[str],
    change: dict[str, Any],
    made: list[str],
    reason: str,
) -> None:
    engines["numpy"] = replace(engines["numpy"], **change)
    make_lightest(without_golden("vllm"))
    assert [*made, "sentence-transformers"] == MADE
    assert "loading" not in capfd.readouterr().err
    MADE.clear()
    engines["sentence-transformers"] = replace(engines["sentence-transformers"], package="no_such_package")
    make_lightest(without_golden("vllm"))
    assert [*made, "vllm"] == MADE
    [line] = [line for line in capfd.readouterr().err.splitlines() if "loading" in line]
    assert line == (
        f"embed-corpus: loading vllm, which starts more slowly: numpy {reason}; sentence-transformers is not installed"
    )


def test_where_none_loads_it_is_the_configured_one_that_says_why(engines: dict[str, EngineKind]) -> None:
    for kind in ("numpy", "sentence-transformers", "vllm"):
        engines[kind] = replace(engines[kind], make=f"{__name__}:fails")
    with pytest.raises(EngineError, match=r"^vllm gives other vectors$"):
        make_lightest(without_golden("vllm"))


def test_an_engine_without_a_model_has_no_lighter_one() -> None:
    hashing = local_config("engine.kind=hashing")
    found, expected = (make(hashing).embed(IDS) for make in (make_lightest, make_embedder))
    assert (found == expected).all()


def test_the_golden_check_decides_what_is_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of other weights than those of the golden file is passed over, and any other engine of such vectors."""
    config = local_config("model.dtype=bfloat16")
    assert isinstance(make_lightest(config), BertEmbedder)
    folder = Path(shutil.copytree(locate(config.model), tmp_path / "model"))
    with safe_open(folder / "model.safetensors", framework="np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors["encoder.layer.3.output.dense.weight"] *= -1
    save_file(tensors, folder / "model.safetensors")
    changed = replace(config, model=replace(config.model, location=str(folder), revision="main"))
    with pytest.raises(EngineError, match="expected a cosine of at least"):
        make_embedder(replace(changed, engine=replace(config.engine, kind="numpy")))
    monkeypatch.setitem(ENGINES, "sentence-transformers", replace(ENGINES["hashing"], needs_weights=True))
    monkeypatch.setitem(ENGINES, "vllm", replace(ENGINES["vllm"], make=f"{__name__}:fails"))
    with pytest.raises(EngineError, match="vllm gives other vectors"):
        make_lightest(changed)
