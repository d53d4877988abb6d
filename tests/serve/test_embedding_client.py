"""The HTTP service as its clients see it.

With BASE_URL set, the server there is tested with the key of OPENAI_API_KEY, and EMBED_CONFIG names its config. Else
`embed-corpus serve` is started here with MiniLM, and its vectors are held against those of a batch.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import itertools
import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import aiohttp
import httpx
import numpy as np
import openai
import pyarrow.dataset as ds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.config import load_config
from pipeline.model.tokens import make_tokenizer
from scripts.sample_corpus import CLASSES, FUNCTIONS, build_sample
from tests.serve import crowd
from tests.support import REPOSITORY, embed_corpus, read_dataset, status, write_jsonl
from tests.support.http_server import KEY, Served, alive, engine_of, serving, tree, words

BASE_URL = os.environ.get("BASE_URL", "").rstrip("/").removesuffix("/v1")
SETS = () if BASE_URL else ("--set", "model.dims=[384,128]")  # a second size, as if MiniLM were trained for it
CONFIG = load_config(REPOSITORY / os.environ.get("EMBED_CONFIG", "configs/local.toml"), SETS[1:])
MODEL, DIMS = CONFIG.model.name, CONFIG.model.dims
LONG = "A sentence that is repeated until it does not fit. " * CONFIG.model.max_tokens
CLIENTS = 64
on_this_machine = pytest.mark.skipif(bool(BASE_URL), reason="the server of BASE_URL is not on this machine")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("served"), *SETS) as found:
        yield found


@pytest.fixture(scope="module")
def url(request: pytest.FixtureRequest) -> str:
    """Return the address of the server, /v1 left out."""
    return BASE_URL or request.getfixturevalue("served").url.removesuffix("/v1")


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=key(), max_retries=0) as found:
        yield found


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of real texts, the first one too long and some of them odd."""
    odd = [LONG, "Größe, 漢字, emoji 🙂 and a\ttab", "x", "  spaces around  ", "a\0zero"]
    paragraphs = dict.fromkeys(
        text for topic in topics.values() for text in topic.split("\n\n") if 40 < len(text) < 400
    )
    texts = [*odd, *paragraphs][:256]
    return write_jsonl(tmp_path_factory.mktemp("corpus") / "in.jsonl", [{"text": text} for text in texts])


@pytest.fixture(scope="module")
def batch(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.float32]:
    """Return the vectors that a run writes for the corpus."""
    output = tmp_path_factory.mktemp("batch") / "out"
    done = embed_corpus("run", "--input", corpus, "--output", output)
    assert done.returncode == 0, done.stderr
    return np.stack(read_dataset(output).column("embedding").to_pylist()).astype(np.float32)


def key() -> str:
    return os.environ.get("OPENAI_API_KEY", "") if BASE_URL else KEY


def texts_of(corpus: Path) -> list[str]:
    return [json.loads(line)["text"] for line in corpus.read_text().splitlines()]


def embed(client: openai.OpenAI, asked: Any, **options: Any) -> NDArray[np.float32]:
    answer = client.embeddings.create(model=MODEL, input=asked, **options)
    return np.array([found.embedding for found in answer.data], np.float32)


def cosine(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(some, axis=-1) * np.linalg.norm(others, axis=-1)
    return np.asarray(np.sum(some * others, axis=-1) / norms)


@on_this_machine
def test_the_vectors_are_those_of_the_batch(client: openai.OpenAI, corpus: Path, batch: NDArray[np.float32]) -> None:
    found = embed(client, texts_of(corpus), extra_body={"truncate_prompt_tokens": -1})
    assert cosine(found, batch).min() >= 0.9999


@on_this_machine
def test_token_ids_give_the_vectors_of_their_texts(
    client: openai.OpenAI, corpus: Path, batch: NDArray[np.float32]
) -> None:
    tokenizer = make_tokenizer(CONFIG, max_tokens=CONFIG.model.max_tokens)
    ids = [windows[0].ids for windows in tokenizer.windows(texts_of(corpus))]
    assert cosine(embed(client, ids), batch).min() >= 0.9999
    assert cosine(embed(client, ids[1])[0], batch[1]) >= 0.9999


def test_float_and_base64_are_the_same_vectors_of_unit_length(client: openai.OpenAI) -> None:
    asked = ["one text", "and another"]
    found = embed(client, asked, encoding_format="float")
    assert found.shape == (2, DIMS[0])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-3)
    encoded = client.embeddings.with_raw_response.create(model=MODEL, input=asked, encoding_format="base64")
    raw = [base64.b64decode(item["embedding"]) for item in json.loads(encoded.content)["data"]]
    np.testing.assert_allclose(np.stack([np.frombuffer(data, np.float32) for data in raw]), found, atol=1e-6)
    np.testing.assert_allclose(embed(client, asked[0])[0], found[0], atol=1e-2)


def test_dimensions_cut_and_normalise_and_other_sizes_are_refused_with_the_list(client: openai.OpenAI) -> None:
    [full] = embed(client, "a text", dimensions=DIMS[0])
    for dim in DIMS:
        [cut] = embed(client, "a text", dimensions=dim)
        np.testing.assert_allclose(cut, full[:dim] / np.linalg.norm(full[:dim]), atol=1e-4)
    for dim in (DIMS[-1] - 1, DIMS[0] + 1, 0, -1):
        with pytest.raises(openai.BadRequestError, match=f"expected one of {', '.join(map(str, DIMS))}, found {dim}"):
            embed(client, "a text", dimensions=dim)


GET = ("/v1/models", "/metrics", "/docs", "/openapi.json", "/version", "/ping", "/load")
POST = ("/v1/embeddings", "/v2/embed", "/pooling", "/invocations", "/tokenize", "/score")


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer"}])
def test_who_has_no_key_is_turned_away_everywhere_but_from_health(url: str, headers: dict[str, str]) -> None:
    with httpx.Client(base_url=url, headers=headers) as stranger:
        answers = [stranger.get(path) for path in GET]
        answers += [stranger.post(path, json={"model": MODEL, "input": "x"}) for path in POST]
        assert {answer.status_code for answer in answers} == {401}
        assert stranger.get("/health").status_code == 200
    with (
        openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError, match="expected `Authorization: Bearer` with the key"),
    ):
        client.models.list()


def test_who_has_the_key_comes_in(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list().data] == [MODEL]


def test_who_has_the_key_finds_what_this_service_means_and_no_path_of_its_machine(url: str) -> None:
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key()}"}) as client:
        meant = [client.get(path) for path in ("/health", "/v1/models", "/metrics")]
        assert [answer.status_code for answer in meant] == [200] * 3
        assert not re.search(r"/(work|root|home|usr|opt|tmp|weights|site-packages)/", "".join(a.text for a in meant))
        others = [client.get(path) for path in GET if path not in ("/v1/models", "/metrics")]
        others += [client.post(path, json={"model": MODEL, "input": "x"}) for path in POST if path != "/v1/embeddings"]
        assert {answer.status_code for answer in others} == {404}


def test_no_url_is_fetched(client: openai.OpenAI) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.5)
        image = {"url": f"http://127.0.0.1:{listener.getsockname()[1]}/latest/meta-data"}
        chat = [{"role": "user", "content": [{"type": "image_url", "image_url": image}]}]
        for asked, more in (("hi", {"messages": chat}), (chat, {}), ([chat], {})):
            with pytest.raises(openai.BadRequestError, match=r"messages|got `(object|array)`"):
                embed(client, asked, extra_body=more)
        with pytest.raises(TimeoutError):
            listener.accept()


@on_this_machine
def test_the_client_of_the_page_gets_a_vector(url: str, tmp_path: Path) -> None:
    page = (REPOSITORY / "docs/http.md").read_text()
    [script] = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "openai" in block]
    (tmp_path / "key").write_text(f"{KEY}\n")
    script = f"{script.replace('http://127.0.0.1:8000', url)}\nprint(len(answer.data[0].embedding))"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == f"{DIMS[0]}\n", done.stderr


@on_this_machine
def test_no_process_shows_the_key(served: Served) -> None:
    below = tree(served.process.pid)
    assert len(below) >= 2
    for pid in (served.process.pid, *below):
        assert KEY not in words(pid, "cmdline")
        assert KEY not in words(pid, "environ")


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (LONG, "maximum context length is"),
        ([[1] * (CONFIG.model.max_tokens + 1)], r"input\[0\]: expected at most .* token ids"),
        ([1] * (CONFIG.model.max_tokens + 1), "input: expected at most .* token ids"),
        ("", r"input\[0\]: expected a text, found nothing but white space"),
        (["fine", " \n"], r"input\[1\]: expected a text, found nothing but white space"),
        ([], "found an empty list"),
        ([[]], r"input\[0\]: expected token ids, found none"),
        (None, "Expected `str | array`, got `null`"),
        (5, "Expected `str | array`, got `int`"),
        (["fine", None], r"got `null` - at `\$.input\[1\]`"),
        ([True], "got `bool`"),
        ([{"text": "x"}], "got `object`"),
        ([{"role": "user", "content": "x"}], "got `object`"),
        (["a", [1]], r"got `array` - at `\$.input\[1\]`"),
        ([1, [1]], "found both"),
        ([[10**7]], "out of vocabulary"),
        ([[-1]], "out of vocabulary"),
        (["x"] * 2049, "expected at most 2,048 texts, found more"),
    ],
)
def test_what_cannot_be_embedded_is_a_400_that_says_why(client: openai.OpenAI, asked: Any, text: str) -> None:
    with pytest.raises(openai.BadRequestError, match=text):
        embed(client, asked)
    assert embed(client, "it goes on").shape == (1, DIMS[0])


NAMES = ["input", "model", "dimensions", "encoding_format", "truncate_prompt_tokens", "user", "messages"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)
NEAR = st.fixed_dictionaries(
    {"input": VALUES | st.lists(st.integers(0, 40_000), max_size=9) | st.lists(st.text(min_size=1), max_size=3)},
    optional={
        "model": st.just(MODEL) | VALUES,
        "dimensions": st.sampled_from(DIMS) | VALUES,
        "encoding_format": st.sampled_from(["float", "base64", "bytes"]) | VALUES,
        "truncate_prompt_tokens": st.integers(-3, 600) | VALUES,
    },
)


@settings(max_examples=100, deadline=None)
@given(NEAR | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=9), VALUES, max_size=5) | VALUES)
def test_whatever_is_asked_the_answer_is_vectors_or_a_400(url: str, asked: Any) -> None:
    answer = httpx.post(f"{url}/v1/embeddings", json=asked, headers={"Authorization": f"Bearer {key()}"}, timeout=60)
    assert answer.status_code in (200, 400, 404), answer.text  # 404: another model
    assert ("data" if answer.status_code == 200 else "error") in answer.json()


@pytest.mark.parametrize("asked", ['"' + "word " * 2_000_000 + '"', '["a text"' + ',"a text"' * 1_200_000 + "]"])
def test_ten_megabytes_are_a_413_that_says_why(client: openai.OpenAI, url: str, asked: str) -> None:
    def ask(key: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        return httpx.post(f"{url}/v1/embeddings", content=f'{{"model": "{MODEL}", "input": {asked}}}', headers=headers)

    refused = ask(key())
    assert refused.status_code == 413
    assert "body: expected at most 8,388,608 bytes, found more" in refused.text
    assert ask("wrong").status_code == 401
    assert embed(client, "it goes on").shape == (1, DIMS[0])


def test_openai_s_client_hears_why_ten_megabytes_are_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError, match="body: expected at most 8,388,608 bytes, found more"):
        embed(client, "word " * 2_000_000)


async def load(
    url: str, texts: Sequence[str], expected: NDArray[np.float32], seconds: float, per_request: int = 1
) -> float:
    """Let 64 clients embed these texts, each its own ones; return how many were embedded in a second."""
    n_done, began = 0, time.perf_counter()
    turns = itertools.count()

    async def ask(session: aiohttp.ClientSession) -> None:
        nonlocal n_done
        while time.perf_counter() - began < seconds:
            ats = [next(turns) % len(texts) for _ in range(per_request)]
            request = {"model": MODEL, "input": [texts[at] for at in ats], "encoding_format": "base64"}
            async with session.post(f"{url}/v1/embeddings", json=request | {"truncate_prompt_tokens": -1}) as answer:
                body = await answer.read()
            assert answer.status == 200, body
            found = [base64.b64decode(item["embedding"]) for item in json.loads(body)["data"]]
            vectors = np.stack([np.frombuffer(data, np.float32) for data in found])
            own, others = cosine(vectors, expected[ats]), cosine(vectors, expected[[at - 1 for at in ats]])
            assert own.min() >= 0.999, texts[ats[own.argmin()]]
            assert (own > others).all(), texts[ats[(own - others).argmin()]]
            n_done += per_request

    connector = aiohttp.TCPConnector(limit=CLIENTS)
    async with aiohttp.ClientSession(connector=connector, headers={"Authorization": f"Bearer {key()}"}) as session:
        await asyncio.gather(*(ask(session) for _ in range(CLIENTS)))
    return n_done / (time.perf_counter() - began)


@on_this_machine
def test_64_clients_at_once_get_each_their_own_vector(url: str, corpus: Path, batch: NDArray[np.float32]) -> None:
    assert asyncio.run(load(url, texts_of(corpus), batch, seconds=3)) > 1


@on_this_machine
@pytest.mark.parametrize(
    ("header_bytes", "seconds", "most_s"),
    [
        pytest.param(20 << 20, 4, 3.5, id="20 MB"),  # beside other tests; it was 4 to 14 s
        pytest.param(170 << 20, 20, 0.5, id="170 MB", marks=pytest.mark.slow),
    ],
)
def test_who_means_no_good_starves_no_one(
    served: Served, url: str, corpus: Path, batch: NDArray[np.float32], header_bytes: int, seconds: float, most_s: float
) -> None:
    texts, below = texts_of(corpus), served.process.pid
    asyncio.run(load(url, texts, batch, 1))
    idle_bytes = crowd.memory_bytes(below)

    async def all_at_once() -> tuple[list[float], list[int], list[int]]:
        address = f"{url}/v1/embeddings"
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, headers={"Authorization": f"Bearer {KEY}"}) as session:
            with crowd.watching(below, served.port) as (took_s, held_bytes):
                slow = [asyncio.create_task(crowd.slow(served.port, number)) for number in range(400)]
                leave = [crowd.leaving(session, address, {"model": MODEL, "input": texts[:8]}) for _ in range(200)]
                ids = [crowd.too_many_ids(session, address, MODEL) for _ in range(4)]
                header = crowd.endless_header(served.port, header_bytes)
                statuses, *_ = await asyncio.gather(
                    asyncio.gather(*ids), asyncio.gather(*leave), header, load(url, texts, batch, seconds)
                )
                assert not [task for task in slow if task.done()]
                for task in slow:
                    task.cancel()
            return took_s, held_bytes, statuses

    took_s, held_bytes, statuses = asyncio.run(all_at_once())
    assert statuses == [400] * 4
    assert max(took_s) < most_s
    assert max(held_bytes) < idle_bytes + (300 << 20)


def sentences(folder: Path) -> list[str]:
    """Return the docstrings of the standard library, about 50 tokens each."""
    build_sample(folder)
    found: list[str] = ds.dataset(folder / CLASSES).to_table(columns=["text"]).column("text").to_pylist()
    with gzip.open(folder / FUNCTIONS, "rt") as lines:
        return found + [json.loads(line)["text"] for line in lines]


def passages(folder: Path) -> list[str]:
    """Return pieces of the standard library's sources, about 200 tokens each."""
    sources = [path.read_text() for path in sorted(Path(os.__file__).parent.glob("*.py"))]
    return [source[at : at + 600] for source in sources for at in range(0, len(source) - 600, 600)][:2500]


@on_this_machine
@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "per_request", "at_least"),
    [
        pytest.param(passages, 1, 0.8, id="passages"),
        pytest.param(sentences, 8, 0.8, id="lists"),
        pytest.param(sentences, 1, 0.6, id="sentences"),  # HTTP takes a quarter of the cores, for want of lists
    ],
)
def test_64_clients_for_30_seconds_against_a_batch_of_their_texts(
    url: str, tmp_path: Path, make: Callable[[Path], list[str]], per_request: int, at_least: float
) -> None:
    texts = sorted({text for text in make(tmp_path / "sample") if text.strip()})
    random.Random(7).shuffle(texts)  # so that neighbours differ
    write_jsonl(tmp_path / "in.jsonl", [{"text": text} for text in texts])
    ratios = []
    for number in range(3):
        output = tmp_path / f"out-{number}"
        assert embed_corpus("run", "--input", tmp_path / "in.jsonl", "--output", output).returncode == 0
        done = status(output)
        expected = np.stack(read_dataset(output).column("embedding").to_pylist()).astype(np.float32)
        assert len(expected) == done["embedded_now"] == len(texts)
        rate = asyncio.run(load(url, texts, expected, 30, per_request))
        ratios.append(rate * done["engine_s"] / len(texts))
    assert statistics.median(ratios) >= at_least, ratios


# These two end the server: they stand last.


@on_this_machine
def test_when_the_engine_is_killed_the_supervisor_ends_with_its_last_words(served: Served) -> None:
    below = tree(served.process.pid)
    os.kill(engine_of(served.process.pid), 9)
    printed, errors = served.process.communicate(timeout=30)
    assert served.process.returncode == 1
    last = errors.splitlines()[-1]
    assert last == "embed-corpus: server: ended with exit code 1; engine: ended by signal 9"
    assert KEY not in printed + errors
    assert not [pid for pid in below if alive(pid)]


@on_this_machine
@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 15], ids=["SIGINT", "SIGTERM"])
def test_what_is_under_way_is_answered_before_the_end(tmp_path: Path, corpus: Path, number: int) -> None:
    async def ask_and_stop(served: Served) -> list[int]:
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session:

            async def ask() -> int:
                async with session.post(f"{served.url}/embeddings", json=request) as answer:
                    return len((await answer.json())["data"])

            asked = [asyncio.create_task(ask()) for _ in range(8)]
            await asyncio.sleep(0.5)
            assert not [task for task in asked if task.done()]
            served.process.send_signal(number)
            return await asyncio.gather(*asked)

    request = {"model": MODEL, "input": texts_of(corpus)[1:101]}
    with serving(tmp_path) as served:
        assert asyncio.run(ask_and_stop(served)) == [100] * 8
        _, errors = served.process.communicate(timeout=30)
        assert (served.process.returncode, errors) == (0, "")


@on_this_machine
@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 9, 15], ids=["SIGINT", "SIGKILL", "SIGTERM"])
def test_when_the_supervisor_ends_nothing_of_the_server_is_left(tmp_path: Path, number: int) -> None:
    with serving(tmp_path) as served:
        below = tree(served.process.pid)
        served.process.send_signal(number)
        assert served.process.wait(timeout=15) == (-9 if number == 9 else 0)
        for pid in below:
            subprocess.run(["tail", f"--pid={pid}", "-f", "/dev/null"], timeout=15, check=True)
