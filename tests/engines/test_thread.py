"""The engine thread: what fails is found in few calls, and a vector that an engine should not have given is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.config import load_config
from pipeline.engines import thread as engine
from pipeline.engines.hashing import HashingEmbedder
from pipeline.engines.thread import MAX_REFUSED, MIN_COSINE, TEXTS, EngineThread
from pipeline.errors import BrokenEngineError
from tests.support import REPOSITORY

Vectors = NDArray[np.float32]
BATCH = 32
CONFIG = load_config(REPOSITORY / "configs/hashing.toml", [f"engine.batch_passages={BATCH}"])
DIM = 64
RNG = np.random.default_rng(0)


class Spoilt(HashingEmbedder):
    """The hashing engine, with `spoil` between its vectors and the world; it notes the sizes of its calls."""

    def __init__(self, spoil: Callable[[Sequence[Sequence[int]], Vectors], Vectors]) -> None:
        super().__init__(CONFIG)
        self.spoil = spoil
        self.sizes: list[int] = []

    def embed(self, token_ids: Sequence[Sequence[int]]) -> Vectors:
        self.sizes.append(len(token_ids))
        return self.spoil(token_ids, super().embed(token_ids))


def sound(token_ids: Sequence[Sequence[int]], full: Vectors) -> Vectors:
    return full


@contextmanager
def thread_with(spoilt: Spoilt) -> Iterator[EngineThread]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "make_embedder", lambda config: spoilt)
        thread = EngineThread(CONFIG)
        try:
            yield thread
        finally:
            thread.close()


def passages(n: int) -> list[list[int]]:
    return [[i, i + 1] for i in range(n)]


@given(n=st.integers(1, 100), data=st.data())
def test_what_fails_is_refused_alone_in_few_calls(n: int, data: st.DataObject) -> None:
    bad = data.draw(st.sets(st.integers(0, n - 1), max_size=min(n, 6)))
    how = data.draw(st.sampled_from(["raise", "nan", "zero"]))

    def spoil(token_ids: Sequence[Sequence[int]], full: Vectors) -> Vectors:
        at = [i for i, ids in enumerate(token_ids) if len(ids) == 2 and ids[0] in bad]
        if at and how == "raise":
            raise RuntimeError(f"no {token_ids[at[0]][0]}")
        full[at] = np.nan if how == "nan" else 0
        return full

    with thread_with(Spoilt(spoil)) as thread, thread_with(Spoilt(sound)) as other:
        found, expected = thread.embed(passages(n), DIM), other.embed(passages(n), DIM)
    assert found.refused.keys() == bad
    assert how != "raise" or all(found.refused[i] == f"no {i}" for i in bad)
    good = [i for i in range(n) if i not in bad]
    assert np.array_equal(found.vectors[good], expected.vectors[good])
    assert not found.vectors[sorted(bad)].any()
    assert found.calls <= expected.calls + len(bad) * 2 * math.log2(BATCH)


def test_canaries_sing_alone_once_when_loaded_and_once_a_chunk() -> None:
    spoilt = Spoilt(sound)
    with thread_with(spoilt) as thread:
        thread.wait()
        assert spoilt.sizes == [1] * len(TEXTS)
        embedded = thread.embed(passages(70), DIM)
        assert spoilt.sizes[len(TEXTS) :] == [32, 32, 6, 1]
        assert embedded.calls == 3
        thread.embed(passages(3), DIM, checked=False)
        thread.embed([], DIM)
        assert spoilt.sizes[len(TEXTS) + 4 :] == [3]


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda ids, full: full[:0], "expected 1 vectors"),
        (lambda ids, full: full[:, :9], "to stay"),
        (lambda ids, full: full[0], "expected 1 vectors"),
        (lambda ids, full: full * np.inf, "finite"),
        (lambda ids, full: full * 0, "finite"),
        (lambda ids, full: -full, "to stay"),
        (lambda ids, full: np.roll(full, 1, axis=1), "to stay"),
    ],
)
def test_an_engine_that_goes_wrong_altogether_is_found_out(spoil: Callable[..., Vectors], what: str) -> None:
    spoilt = Spoilt(sound)
    with thread_with(spoilt) as thread:
        thread.embed(passages(40), DIM)
        spoilt.spoil = spoil
        with pytest.raises(BrokenEngineError, match=what):
            thread.embed(passages(40), DIM)
        spoilt.spoil = sound
        with pytest.raises(BrokenEngineError, match=what):  # it is not trusted again
            thread.embed(passages(40), DIM)


def test_one_vector_for_different_texts_is_never_taken() -> None:
    spoilt = Spoilt(lambda ids, full: full * 0 + full[:1])
    with thread_with(spoilt) as thread:
        thread.embed(passages(1), DIM)
        thread.embed([[5], [5], [5]], DIM)
        with pytest.raises(BrokenEngineError, match="found 2 times the same one"):
            thread.embed(passages(2), DIM)


@pytest.mark.parametrize("spoil", [lambda ids, full: full * 0 + 1, lambda ids, full: full * np.nan])
def test_an_engine_that_is_wrong_from_the_start_is_not_used(spoil: Callable[..., Vectors]) -> None:
    with thread_with(Spoilt(spoil)) as thread:
        with pytest.raises(BrokenEngineError):
            thread.embed(passages(3), DIM)
        assert thread.ready_at == 0


def test_an_engine_that_takes_its_canary_alone_is_at_fault_and_not_the_rows() -> None:
    def only_canaries(token_ids: Sequence[Sequence[int]], full: Vectors) -> Vectors:
        if len(token_ids[0]) == 2:
            raise RuntimeError("out of memory")
        return full

    spoilt = Spoilt(only_canaries)
    with thread_with(spoilt) as thread:
        assert len(thread.embed(passages(MAX_REFUSED), DIM).refused) == MAX_REFUSED
        with pytest.raises(BrokenEngineError, match="found 65 in a row, the last with: out of memory"):
            thread.embed(passages(500), DIM)


@pytest.mark.parametrize(("noise", "passes"), [(0.05, True), (0.3, False)])
def test_the_noise_of_bfloat16_is_no_drift(noise: float, passes: bool) -> None:
    spoilt = Spoilt(sound)
    with thread_with(spoilt) as thread:
        thread.wait()
        spoilt.spoil = lambda ids, full: full + RNG.normal(scale=noise * np.std(full), size=full.shape).astype("f4")
        if passes:
            thread.embed(passages(40), DIM)
        else:
            with pytest.raises(BrokenEngineError, match=f"at least {MIN_COSINE}"):
                thread.embed(passages(40), DIM)


def test_an_engine_that_comes_back_from_sleep_as_another_is_found_out() -> None:
    spoilt = Spoilt(sound)
    with thread_with(spoilt) as thread:
        thread.sleep()
        thread.wake()
        spoilt.spoil = lambda ids, full: full[:, ::-1]
        with pytest.raises(BrokenEngineError, match="to stay"):
            thread.wake()
