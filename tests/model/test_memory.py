"""What fits a GPU is computed before one is rented."""

from __future__ import annotations

import re

import pytest

from pipeline.config import Config, load_config
from pipeline.errors import ConfigError
from pipeline.model.dtype import modal_device, settle_dtype
from pipeline.model.memory import GIB, check_memory, kv_bytes_per_token, room_bytes, weight_bytes
from tests.support import REPOSITORY

CONFIGS = [path for path in sorted((REPOSITORY / "configs").glob("*.toml")) if path.name != "cron.toml"]


def kalm(*overrides: str) -> Config:
    return load_config(REPOSITORY / "configs/kalm-gemma3-12b.toml", overrides)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_configs_fit_what_they_rent(path: object) -> None:
    config = load_config(path)  # type: ignore[arg-type]
    check_memory(settle_dtype(config, modal_device(config.modal.gpu)), config.modal.gpu)


def test_the_numbers_in_the_config_are_so() -> None:
    config = kalm()
    room = room_bytes(config, "A100-40GB") or 0.0
    assert round(weight_bytes(config) / GIB, 1) == 21.9
    assert kv_bytes_per_token(config) == 384 * 1024
    assert round(room / GIB, 1) == 11.6
    assert room / kv_bytes_per_token(config) // 100 == 315
    text = (REPOSITORY / "configs/kalm-gemma3-12b.toml").read_text()
    assert config.engine.kv_cache_bytes // kv_bytes_per_token(config) // 100 == 177
    assert config.engine.kv_cache_bytes >= config.engine.max_num_batched_tokens * kv_bytes_per_token(config)
    assert "6.5 GiB are for 17,700 tokens" in text
    assert re.search(r"the weights take 21\.9 .* 2\.0\. The other 11\.6 .*\n.* 31,500 tokens: 61 passages of 512", text)
    assert (31_500 // 512, 31_500 // 256) == (61, 123)


@pytest.mark.parametrize(
    ("gpu", "overrides", "numbers"),
    [
        ("L4", (), ("21.9 GiB", "22.5 GiB * 0.9")),
        ("A100-40GB", ("model.dtype=float32",), ("43.8 GiB", "39.4 GiB * 0.9")),
        ("A100-40GB", ("engine.max_num_batched_tokens=32768",), ("32,768 tokens", "384 KiB", "12.0 GiB")),
        ("A100-40GB", ("model.max_tokens=32768",), ("32,768 tokens", "12.0 GiB")),
        ("A100-40GB", ("engine.gpu_memory_utilization=0.6",), ("39.4 GiB * 0.6",)),
        ("L40S:2", ("model.dtype=float32",), ("L40S:2", "44.5 GiB")),
    ],
)
def test_what_cannot_fit_is_refused_with_the_numbers(
    gpu: str, overrides: tuple[str, ...], numbers: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError, match="expected room for weights") as refusal:
        check_memory(kalm(*overrides), gpu)
    assert all(number in str(refusal.value) for number in numbers), refusal.value


@pytest.mark.parametrize("gpu", ["A100-80GB", "H100!", "H200", "", "GPU-OF-2028"])
def test_a_larger_gpu_takes_more_and_an_unknown_one_is_not_judged(gpu: str) -> None:
    check_memory(kalm("engine.max_num_batched_tokens=32768"), gpu)


def test_a_step_is_never_more_than_its_sequences() -> None:
    check_memory(kalm("engine.max_num_batched_tokens=1000000", "engine.max_num_seqs=60"), "A100-40GB")
