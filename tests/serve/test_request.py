"""What a request for embeddings may hold, decided from its bytes: fields, kinds of input, and how much of it."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.serve.request import MAX_BODY_BYTES, MAX_IDS, MAX_INPUTS, Fault, settle

DIMS = (384, 128)
MAX_TOKENS = 256
TEXTS = st.text().filter(lambda text: text.strip() and text.isascii())
IDS = st.lists(st.integers(0, 30521), min_size=1, max_size=MAX_TOKENS)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


def settled(request: Any) -> Any:
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    return json.loads(settle(body, dims=DIMS, max_tokens=MAX_TOKENS))


def fault(request: Any) -> str:
    with pytest.raises(Fault) as found:
        settled(request)
    return str(found.value)


@given(
    st.one_of(TEXTS, st.lists(TEXTS, min_size=1, max_size=9), IDS, st.lists(IDS, min_size=1, max_size=9)),
    st.fixed_dictionaries(
        {},
        optional={
            "model": st.just("m"),
            "dimensions": st.sampled_from([None, *DIMS]),
            "encoding_format": st.sampled_from([None, "float", "base64"]),
            "truncate_prompt_tokens": st.sampled_from([None, -1, 1, MAX_TOKENS]),
        },
    ),
    st.sampled_from([None, 1, "\t"]),
)
def test_what_openai_takes_comes_in_as_it_was(asked: Any, options: dict[str, Any], indent: Any) -> None:
    body = json.dumps({"input": asked, **options, "user": "someone"}, indent=indent).encode()
    assert settled(body) == {"input": asked} | {name: value for name, value in options.items() if value is not None}


@given(JSON, JSON, JSON)
def test_other_json_has_a_fault_or_is_texts_or_token_ids(asked: Any, dimensions: Any, cut: Any) -> None:
    try:
        found = settled({"input": asked, "dimensions": dimensions, "truncate_prompt_tokens": cut})
    except Fault:
        return
    inputs = found["input"] if isinstance(found["input"], list) else [found["input"]]
    assert {type(value) for value in inputs} in ({str}, {int}, {list})
    assert all(value.strip() for value in inputs if isinstance(value, str))
    assert found.get("dimensions") in (None, *DIMS)
    assert found.get("truncate_prompt_tokens") in (None, -1, *range(1, MAX_TOKENS + 1))


@given(st.binary())
def test_no_bytes_break_it(body: bytes) -> None:
    assert fault(body)


@given(st.lists(st.text('"\\a,[] é\n', min_size=1).filter(str.strip), min_size=1, max_size=30))
def test_quotes_and_brackets_in_texts_are_text(texts: list[str]) -> None:
    for ascii_only in (True, False):
        assert settled(json.dumps({"input": texts}, ensure_ascii=ascii_only).encode()) == {"input": texts}


CHAT = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:8799/x"}}]}]


@pytest.mark.parametrize(
    "more",
    [
        {"messages": CHAT},
        {"messages": [CHAT]},
        {"mm_processor_kwargs": {}},
        {"chat_template": "{{ x }}"},
        {"add_special_tokens": False},
        {"priority": 1},
        {"truncation_side": "left"},
        {"use_activation": False},
        {"Model": "m"},
        {"": 1},
    ],
    ids=lambda more: str(next(iter(more))),
)
def test_a_field_that_is_not_meant_is_named(more: dict[str, Any]) -> None:
    assert f"unknown field `{next(iter(more))}`" in fault({"input": "hi", **more})


@pytest.mark.parametrize("asked", [CHAT, [CHAT], {"role": "user"}, [["text"]], [[[1]]], ["a", [1]], [1, [2]], [[1], 2]])
def test_an_input_that_is_neither_texts_nor_token_ids_is_refused(asked: Any) -> None:
    assert "expected" in fault({"input": asked})


@pytest.mark.parametrize("dimensions", [1, 127, 385, 10**9, -1, 0])
def test_a_width_that_the_model_was_not_trained_for_is_refused_with_the_list(dimensions: int) -> None:
    expected = f"dimensions: expected one of 384, 128, found {dimensions}"
    assert fault({"input": "x", "dimensions": dimensions}) == expected


@pytest.mark.parametrize("blank", ["", " ", "\n\t", "\u00a0\u2003"])
def test_a_text_of_white_space_is_named(blank: str) -> None:
    assert fault({"input": blank}) == "input[0]: expected a text, found nothing but white space"
    assert fault({"input": ["x", blank]}) == "input[1]: expected a text, found nothing but white space"


def test_a_list_of_token_ids_without_one_is_named() -> None:
    assert fault({"input": [[1], []]}) == "input[1]: expected token ids, found none"
    assert fault({"input": [[]]}) == "input[0]: expected token ids, found none"


def test_the_last_of_two_equal_fields_is_checked_and_the_only_one_that_goes_on() -> None:
    ids = b"[" + b"1," * MAX_TOKENS + b"1]"
    assert settled(b'{"input": ' + ids + b', "input": "x"}') == {"input": "x"}
    assert "257" in fault(b'{"input": "x", "input": ' + ids + b"}")


def test_more_token_ids_than_the_model_takes_are_refused_with_the_number() -> None:
    most = [1] * MAX_TOKENS
    assert settled({"input": most}) == {"input": most}
    assert settled({"input": [most, [2]]}) == {"input": [most, [2]]}
    assert fault({"input": [*most, 1]}) == "input: expected at most 256 token ids (model.max_tokens), found 257"
    assert fault({"input": [[2], [*most, 1]]}).startswith("input[1]: expected at most 256 token ids")
    assert fault({"input": [[*most, 1]], "truncate_prompt_tokens": -1}).startswith("input[0]: expected at most 256")


@pytest.mark.parametrize("n_over", [0, 1])
def test_lists_texts_and_all_token_ids_have_a_limit(n_over: int) -> None:
    texts = {"input": ["x"] * (MAX_INPUTS + n_over)}
    lists = {"input": [[1]] * (MAX_INPUTS + n_over)}
    ids = {"input": [[1] * 200] * (MAX_IDS // 200 - 1) + [[1] * 199] + [[1]] * (1 + n_over)}
    if n_over:
        assert fault(texts) == "input: expected at most 2,048 texts, found more"
        assert fault(lists) == "input: expected at most 2,048 lists of token ids, found more"
        assert fault(ids) == "input: expected at most 300,000 token ids in all, found more"
    else:
        for request in (texts, lists, ids):
            assert settled(request) == request


@pytest.mark.parametrize("cut", [0, -2, MAX_TOKENS + 1, 10**30, True, "5", 1.5])
def test_a_cut_that_is_none_is_refused_by_its_name(cut: Any) -> None:
    assert "truncate_prompt_tokens" in fault({"input": "x", "truncate_prompt_tokens": cut})


@pytest.mark.parametrize(
    "asked",
    [
        b"[" + b"1," * 4_100_000 + b"1]",
        b"[[" + b"1," * 4_100_000 + b"1]]",
        b"[" + b"[1]," * 2_000_000 + b"[1]]",
        b"[" + b"[]," * 2_700_000 + b"[]]",
        b"[" * 4_000_000 + b"]" * 4_000_000,
        b"[" + b'"",' * 2_700_000 + b'""]',
        b'["a"' + b",1" * 4_000_000 + b"]",
        b"[" + b"null," * 1_600_000 + b"null]",
        b"[" + b"{}," * 2_700_000 + b"{}]",
        b"[" + b"1" * 8_000_000 + b"]",
        b"[" + b" " * 8_000_000 + b"]",
        b'"' + b'\\"' * 4_100_000,
    ],
    ids=lambda asked: repr(asked[:9]),
)
def test_eight_megabytes_are_refused_in_milliseconds_and_not_made_objects(asked: bytes) -> None:
    body = b'{"model": "m", "input": ' + asked + b"}"
    assert 7_500_000 < len(body) <= MAX_BODY_BYTES
    tracemalloc.start()
    began = time.process_time()
    fault(body)
    took_s = time.process_time() - began
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    began = time.process_time()
    for _ in range(10):
        json.loads(b'"' + b"a" * MAX_BODY_BYTES + b'"')
    assert took_s < 2 * (time.process_time() - began)  # so that no machine's clock counts
    assert peak_bytes < 3 * MAX_BODY_BYTES
