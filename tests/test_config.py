"""A config is read whole or refused with one line that names the key."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.config import Config, load_config, parse_config, to_tables
from pipeline.corpus.texts import text_columns
from pipeline.errors import ConfigError
from pipeline.recipe import fingerprint, recipe
from pipeline.schema import kept_name
from tests.support import HASHING, REPOSITORY, texts, write_jsonl
from tests.support.many import Call, run_all

LOCAL = REPOSITORY / "configs/local.toml"

# Every key of a config stands in exactly one of these two, with a value that differs from LOCAL's.
CHANGES_VECTORS: dict[str, Any] = {
    "model.name": "other/model",
    "model.revision": "sha256:00",
    "model.dtype": "float32",
    "model.pooling": "last",
    "model.max_tokens": 128,
    "model.document_prompt": "passage: ",
    "engine.kind": "hashing",
    "corpus.text": "{title}\n{body}",
    "corpus.on_long": "reject",
    "corpus.overlap": 16,  # where long texts are split
    "run.dim": 192,
}
CHANGES_NO_VECTOR: dict[str, Any] = {
    "model.location": "/elsewhere",
    "model.dims": [384, 192],
    "model.query_prompt": "query: ",
    "model.attention": "causal",  # one that the checkpoint does not have is refused
    "model.final_token": "",  # the same
    "model.normalized": False,
    "model.golden": "elsewhere.json",
    "model.n_parameters": 1.0,
    "model.kv_bytes_per_token": 2,
    "model.flop_per_token": 1.0,
    "model.licence": "MIT",
    "model.licence_notice": "Read it.",
    "model.trust_remote_code": True,
    "engine.max_num_seqs": 8,
    "engine.max_num_batched_tokens": 1024,
    "engine.enforce_eager": False,
    "engine.gpu_memory_utilization": 0.5,
    "engine.kv_cache_bytes": 1,
    "engine.batch_passages": 7,
    "corpus.id": "doc",
    "corpus.keep": ["year"],
    "corpus.types": {"year": "int64"},
    "corpus.licence": "CC-BY-4.0",
    "corpus.store_text": False,
    "engine.sleep_mode": True,
    "run.chunk_tokens": 99,
    "run.max_removed": 0.5,
    "modal.gpu": "H100",
    "modal.max_containers": 3,
    "modal.usd_per_hour": 9.0,
    "modal.driver_hours": 1.0,
    "modal.snapshot": False,
    "modal.output_version": 1,
    "modal.buckets": {"s3://texts": {"secret": "keys"}},
}


def config(*overrides: str, **options: Any) -> Config:
    return load_config(LOCAL, overrides, **options)


def changed(key: str, value: Any, *others: str) -> str:
    """Return the fingerprint of the local config with one key changed."""
    table, name = key.split(".")
    tables = to_tables(config(*others))
    tables[table][name] = value
    return fingerprint(recipe(parse_config(tables, where="test")))


def test_every_key_is_known_to_change_vectors_or_not_to() -> None:
    tables = {field.name: getattr(config(), field.name) for field in dataclasses.fields(Config)}
    keys = {f"{table}.{field.name}" for table, record in tables.items() for field in dataclasses.fields(record)}
    assert keys == CHANGES_VECTORS.keys() | CHANGES_NO_VECTOR.keys()
    assert not CHANGES_VECTORS.keys() & CHANGES_NO_VECTOR.keys()


@pytest.mark.parametrize("key", CHANGES_VECTORS)
def test_what_changes_a_vector_changes_the_fingerprint(key: str) -> None:
    others = ["corpus.on_long=split"] if key == "corpus.overlap" else []
    assert changed(key, CHANGES_VECTORS[key], *others) != fingerprint(recipe(config(*others)))


@pytest.mark.parametrize("key", CHANGES_NO_VECTOR)
def test_what_changes_no_vector_leaves_the_fingerprint(key: str) -> None:
    table, name = key.split(".")
    assert getattr(getattr(config(), table), name) != CHANGES_NO_VECTOR[key]
    others = ['corpus.keep=["year"]'] if key == "corpus.types" else []
    assert changed(key, CHANGES_NO_VECTOR[key], *others) == fingerprint(recipe(config(*others)))


def test_how_texts_are_split_is_part_of_a_recipe_that_splits_alone() -> None:
    assert "passages.cut" not in recipe(config())
    assert "passages.cut" in recipe(config("corpus.on_long=split"))


def test_overlap_is_no_part_of_a_recipe_that_does_not_split() -> None:
    assert changed("corpus.overlap", 16) == fingerprint(recipe(config()))


def test_the_full_width_is_one_recipe_whether_it_is_named_or_not() -> None:
    assert changed("run.dim", 384) == fingerprint(recipe(config()))


def test_a_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    found = recipe(config())
    assert fingerprint(dict(reversed(found.items()))) == fingerprint(found)


def test_a_config_survives_the_trip_through_a_manifest() -> None:
    before = config('corpus.keep=["a", "b.c"]', "model.document_prompt=é: ")
    assert parse_config(json.loads(json.dumps(to_tables(before))), where="test") == before


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("model.dtyp=float32", "model.dtype"),
        ("engine.max_seqs=3", "engine.max_num_seqs"),
        ("run.chunk_token=3", "run.chunk_tokens"),
        ("modle.dtype=float32", "model"),
        ("corpus.zzz=1", "corpus."),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_name(override: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match="unknown key") as refusal:
        config(override)
    assert override.split("=")[0].split(".")[0] in str(refusal.value)
    assert f"did you mean {nearest}" in str(refusal.value)


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("model.dtype=float32", "dtype", "float32"),
        ('model.dtype="float32"', "dtype", "float32"),
        (" model.licence = a b ", "licence", "a b"),
        ("model.licence=a=b", "licence", "a=b"),
        ("model.document_prompt=", "document_prompt", ""),
        ("model.dims=[384, 128]", "dims", (384, 128)),
        ("model.max_tokens=1_000", "max_tokens", 1000),
        ("model.trust_remote_code=true", "trust_remote_code", True),
        ("model.flop_per_token=2", "flop_per_token", 2.0),
    ],
)
def test_an_override_is_toml_or_bare_text(override: str, key: str, value: object) -> None:
    found = getattr(config(override).model, key)
    assert (found.strip() if key == "licence" else found) == value


def test_the_later_of_two_overrides_wins_and_dim_wins_over_both() -> None:
    assert config("run.chunk_tokens=5", "run.chunk_tokens=6").run.chunk_tokens == 6
    assert config("run.dim=5", dim=384).dim == 384


@pytest.mark.parametrize("override", ["dtype=float32", "model.dtype", "model=3", "=3", "model.=3", ""])
def test_a_malformed_override_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=r"expected table\.key=value"):
        config(override)


@pytest.mark.parametrize(
    "override",
    [
        "model.dtype=int8",
        "model.max_tokens=many",
        "model.max_tokens=0",
        "model.max_tokens=true",
        "model.max_tokens=1",  # leaves no overlap
        "model.dims=[]",
        "model.dims=[128, 384]",
        "model.dims=[384, 384]",
        "model.dims=[384, 0]",
        "engine.max_num_seqs=0",
        "engine.max_num_batched_tokens=0",
        "engine.batch_passages=-1",
        "engine.kind=onnx",
        "run.chunk_tokens=-1",
        "run.max_removed=1.1",
        "modal.max_containers=0",
        "corpus.keep=year",
        "corpus.on_long=drop",
        "corpus.overlap=-1",
        "corpus.overlap=128",
    ],
)
def test_a_value_out_of_range_is_refused_by_its_key(override: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        config(override)
    assert override.split("=")[0] in str(refusal.value)
    is_blamed = not override.startswith("model.max_tokens=1")  # is sound by itself
    assert str(refusal.value).startswith("--set " if is_blamed else f"{LOCAL}: corpus.overlap")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.max_tokens=0", "model.max_tokens expected int >= 1, found 0"),
        ("model.max_tokens=many", "model.max_tokens expected int, found 'many'"),
        ("model.dims=[384, 0]", "model.dims[1] expected int >= 1, found [384, 0]"),
        ("model.dims=[]", "model.dims expected array of length >= 1, found []"),
        ("model.dtype=int8", "model.dtype expected one of bfloat16, float32, float16, auto, found 'int8'"),
        (
            "model.dtype=fp16",
            "model.dtype expected one of bfloat16, float32, float16, auto, found 'fp16'; did you mean float16?",
        ),
        ("model.dtype=16", "model.dtype expected one of bfloat16, float32, float16, auto, found 16"),
        ("model.attention=no", "model.attention expected one of causal, bidirectional, \"\", found 'no'"),
        ("modal.output_version=3", "modal.output_version expected one of 1, 2, found 3"),
        ("corpus.keep=kind", "corpus.keep expected a list, found 'kind'; write corpus.keep='[\"kind\"]'"),
        ("corpus.keep=a,b", "corpus.keep expected a list, found 'a,b'; write corpus.keep='[\"a\", \"b\"]'"),
        ("model.dims=384", "model.dims expected a list, found 384; write model.dims='[384]'"),
        ("engine.enforce_eager=yes", "engine.enforce_eager expected true or false, found 'yes'"),
        ("corpus.id=7", "corpus.id expected a text, found 7; write corpus.id='\"7\"'"),
        ("corpus.id=true", "corpus.id expected a text, found True; write corpus.id='\"true\"'"),
        ("run.chunk_tokens=1.5", "run.chunk_tokens expected int, found 1.5"),
        ("modal.usd_per_hour=nan", "modal.usd_per_hour expected float >= 0.0, found nan"),
        ("engine.kind=onnx", "engine.kind expected one of vllm, sentence-transformers, numpy, hashing, found 'onnx'"),
        ("corpus.overlap=-1", "corpus.overlap expected int >= 0, found -1"),
        ("corpus.overlap=128", "corpus.overlap expected 0 to under half of model.max_tokens (256), found 128"),
    ],
)
def test_a_refusal_says_what_was_expected_and_what_was_found(override: str, words: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        config(override)
    assert str(refusal.value) == f"--set {words}"


@pytest.mark.parametrize(
    ("table", "line", "words"),
    [
        ("corpus", 'keep = "kind"', "corpus.keep expected a list, found 'kind'; write keep = [\"kind\"]"),
        ("corpus", "id = 7", 'corpus.id expected a text, found 7; write id = "7"'),
        (
            "run",
            "dim = 385",
            "run.dim expected 1 to 384, the width of sentence-transformers/all-MiniLM-L6-v2, found 385",
        ),
        ("run", "dim = 100", "run.dim 100: sentence-transformers/all-MiniLM-L6-v2 was trained for 384"),
        ("corpus", "tetx = 1", "unknown key corpus.tetx; did you mean corpus.text?"),
    ],
)
@pytest.mark.parametrize("named_by", ["", "$EMBED_CONFIG"])
def test_a_value_of_a_file_is_blamed_on_it(tmp_path: Path, table: str, line: str, words: str, named_by: str) -> None:
    path = write_config(tmp_path / "mine.toml", line, table)
    with pytest.raises(ConfigError) as refusal:
        load_config(path, named_by=named_by)
    assert str(refusal.value).startswith(f"{path}{f' ({named_by})' if named_by else ''}: {words}")
    with pytest.raises(ConfigError) as refusal:  # an override of another key is not to blame
        load_config(path, ["model.max_tokens=128"])
    assert str(refusal.value).startswith(f"{path}: {words}")


def write_config(path: Path, line: str, table: str) -> Path:
    """Write LOCAL with one more line in a table, which takes the place of one of the same key."""
    key = line.split()[0]
    kept = [each for each in LOCAL.read_text().splitlines() if not each.startswith(f"{key} = ")]
    kept = kept if f"[{table}]" in kept else [*kept, f"[{table}]"]
    at = kept.index(f"[{table}]") + 1
    path.write_text("\n".join([*kept[:at], line, *kept[at:]]) + "\n")
    return path


def test_the_flag_of_a_width_is_blamed_for_it() -> None:
    for dim, words in ((385, "--dim expected 1 to 384, "), (100, "--dim 100: ")):
        with pytest.raises(ConfigError) as refusal:
            config("run.dim=384", dim=dim)
        assert str(refusal.value).startswith(words)
    with pytest.raises(ConfigError, match=r"^--set run\.dim 100: "):
        config("run.dim=100")
    with pytest.raises(ConfigError, match=r"^--set: unknown key modle; did you mean model\?"):
        config("modle.name=x")


@given(
    number=st.integers(1, 2**31 - 1),
    key=st.sampled_from(["model.max_tokens", "engine.max_num_seqs", "engine.kv_cache_bytes", "run.chunk_tokens"]),
)
@settings(derandomize=True, max_examples=50)
def test_a_whole_number_may_be_written_as_any_number(number: int, key: str) -> None:
    assume(number >= 8)
    table, name = key.split(".")
    for typed in (str(number), f"{number:_}", f"{number}.0", f"{number}e0", f"{number / 1000!r}e3"):
        found = getattr(getattr(config(f"{key}={typed}"), table), name)
        assert (found, type(found)) == (number, int)


def test_whole_numbers_of_a_file_and_of_a_list_are_taken_as_well(tmp_path: Path) -> None:
    found = load_config(write_config(tmp_path / "mine.toml", "chunk_tokens = 1e6", "run"), ["model.dims=[3.84e2, 1e2]"])
    assert found.run.chunk_tokens == 1_000_000
    assert found.model.dims == (384, 100)
    assert found.modal.usd_per_hour == 0.0
    for value in ("1e300", "9007199254740994.0", "inf", "nan"):
        with pytest.raises(ConfigError, match=r"^--set run\.chunk_tokens expected int, found "):
            config(f"run.chunk_tokens={value}")


FLOATS = [
    "model.flop_per_token",
    "model.n_parameters",
    "engine.gpu_memory_utilization",
    "run.max_removed",
    "modal.usd_per_hour",
    "modal.driver_hours",
]


def test_these_are_all_the_keys_that_take_a_fraction() -> None:
    found = {
        f"{table}.{key}" for table, keys in to_tables(config()).items() for key in keys if type(keys[key]) is float
    }
    assert found == {*FLOATS}


@pytest.mark.parametrize("key", FLOATS)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "+nan", "1e999", "-1.0"])
def test_a_number_that_is_not_finite_or_below_zero_is_refused(key: str, value: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        config(f"{key}={value}")
    assert f"{key} expected " in str(refusal.value)
    assert f", found {float(value)}" in str(refusal.value)


def test_a_number_that_is_not_finite_never_gets_into_a_manifest(tmp_path: Path) -> None:
    """There it was a line that its own reader refused: a complete dataset was incomplete for good."""
    source, text = write_jsonl(tmp_path / "in.jsonl", texts(3)), LOCAL.read_text()
    path = tmp_path / "nan.toml"
    path.write_text(f"{text}\n[modal]\nusd_per_hour = nan\n")
    run = ("run", "--input", source, "--output", tmp_path / "out", *HASHING)
    for call in run_all([Call((*run, "--config", path)), Call((*run, "--set", "modal.usd_per_hour=inf"))]):
        assert call.returncode == 2
        assert "modal.usd_per_hour expected " in call.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.dims=[9999999999]", "model.dims[0] expected int <= 65536, found [9999999999]"),
        ("model.dims=[65537]", "model.dims[0] expected int <= 65536"),
        ("model.max_tokens=9999999999", "model.max_tokens expected int <= 2147483647"),
        (f"model.max_tokens={10**30}", f"model.max_tokens expected int <= 2147483647, found {10**30}"),
        ("model.max_tokens=0x" + "f" * 9999, "found a number of thousands of digits"),
        ("model.max_tokens=" + "9" * 9999, "model.max_tokens expected int, found '999"),
        ("engine.max_num_seqs=1000000000000", "engine.max_num_seqs expected int <= 2147483647"),
        ("engine.kv_cache_bytes=-1", "engine.kv_cache_bytes expected int >= 0"),
        (f"engine.kv_cache_bytes={10**20}", "engine.kv_cache_bytes expected int <= 9007199254740992"),
        (f"corpus.overlap={10**20}", "corpus.overlap expected int <= 9007199254740992"),
        ("engine.gpu_memory_utilization=1.5", "engine.gpu_memory_utilization expected float <= 1.0, found 1.5"),
        ("corpus.keep=" + "[" * 100_000, "--set corpus.keep: expected TOML or bare text, found: "),
        ("a=" + "[" * 100_000, "--set a=[[["),
    ],
)
def test_an_absurd_size_is_one_line(override: str, words: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        config(override)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("text", ["a=" + "[" * 100_000, "a=" + "9" * 9999, "a={b=" * 100_000])
def test_a_file_that_nests_or_counts_too_far_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"config\.toml: expected TOML, found: "):
        load_config(path)


@pytest.mark.parametrize(("table", "key"), [("model", "name"), ("model", "licence"), ("corpus", "licence")])
@pytest.mark.parametrize("value", ["a\nlicense: mit", "a\rb", "a\x1b[2J", "\u2028", "\u202egpj"])
def test_a_name_and_a_licence_are_one_line_that_can_be_printed(table: str, key: str, value: str) -> None:
    tables = to_tables(config())
    tables[table][key] = value
    with pytest.raises(
        ConfigError, match=rf"{table}\.{key} expected printable characters in one line, found '"
    ) as refusal:
        parse_config(tables, where="here")
    assert str(refusal.value).isprintable()


REQUIRED = ("name", "revision", "pooling", "dims", "max_tokens", "flop_per_token", "licence")


@given(given_keys=st.sets(st.sampled_from(REQUIRED)))
@settings(derandomize=True, max_examples=60)
def test_all_keys_that_are_missing_are_named_at_once(given_keys: set[str]) -> None:
    model = {key: value for key, value in to_tables(config())["model"].items() if key in given_keys}
    missing = ", ".join(f"model.{key}" for key in REQUIRED if key not in given_keys)
    for tables in ({"model": model}, {"model": model, "run": {}}, *([] if model else [{}])):
        if not missing:
            parse_config(tables, where="here")
            continue
        with pytest.raises(ConfigError) as refusal:
            parse_config(tables, where="here")
        assert str(refusal.value).startswith(f"here: expected {missing}, found none; ")


@pytest.mark.parametrize(
    "text",
    ["model = 3\n", "[[model]]\nname = 'x'\n", "run = 3\n", "[model]\nname = 'x'\n", "[model\n", "", "\xff"],
)
@pytest.mark.parametrize("override", [(), ("model.dtype=float32",)])
@pytest.mark.parametrize("dim", [None, 384])
def test_a_file_that_is_no_config_is_refused_by_its_name(
    tmp_path: Path, text: str, override: tuple[str, ...], dim: int | None
) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"config\.toml"):
        load_config(path, override, dim=dim)


def test_a_file_that_is_not_there_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml.*No such file"):
        load_config(tmp_path / "none.toml")


@pytest.mark.parametrize("dim", [-1, 385, 100_000])
def test_a_dim_that_the_model_does_not_have_is_refused(dim: int) -> None:
    with pytest.raises(ConfigError, match="expected 1 to 384"):
        config(dim=dim, allow_untrained_dim=True)


def test_a_dim_that_the_model_was_not_trained_for_is_refused_unless_allowed() -> None:
    with pytest.raises(ConfigError, match="allow-untrained-dim"):
        config(dim=100)
    assert config(dim=100, allow_untrained_dim=True).dim == 100
    assert config("model.dims=[384, 100]", dim=100).dim == 100


@pytest.mark.parametrize("template", ["{text:>99}", "{text!r}", "{text:{title}}", "{text} {}", "{text!s:>9} {title}"])
def test_a_format_or_a_conversion_in_a_template_is_refused(template: str) -> None:
    with pytest.raises(ConfigError, match=r"corpus\.text .*: expected names of columns alone in braces, found \{"):
        text_columns(config(f"corpus.text={template}").corpus.text)


@pytest.mark.parametrize("template", ["{title", "title}", "{title}\n{body"])
def test_a_template_with_an_open_brace_is_refused(template: str) -> None:
    with pytest.raises(ConfigError, match=r"corpus\.text"):
        text_columns(config(f"corpus.text={template}").corpus.text)


@pytest.mark.parametrize("name", ["source", "id", "content_hash", "embedding", "text"])
def test_a_kept_column_with_the_name_of_a_column_of_a_part_takes_another_there(name: str) -> None:
    assert kept_name(config(f'corpus.keep=["{name}"]').corpus.keep[0]) == f"corpus_{name}"


@pytest.mark.parametrize("keep", [["a", "a"], ["source", "corpus_source"], ["corpus_row", "x", "row"], ["id", "id"]])
def test_two_kept_columns_of_one_name_in_a_part_are_refused(keep: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"corpus\.keep .*twice"):
        config(f"corpus.keep={json.dumps(keep)}")


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ((), ("year",)),
        (("corpus.text=body",), ("text", "year")),
        (('corpus.text="{text}"',), ("text", "year")),
        (("corpus.store_text=false",), ("text", "year")),
    ],
)
def test_the_text_column_is_not_kept_a_second_time(settings: Sequence[str], kept: tuple[str, ...]) -> None:
    assert config('corpus.keep=["text", "year"]', *settings).corpus.kept == kept


FOLDER = "model.location=/models/e5"
NAME = "model.name=intfloat/e5-small-v2"


@pytest.mark.parametrize(
    ("file", "overrides"),
    [
        ("local", [NAME]),
        ("local", [NAME, FOLDER]),
        ("local", [NAME, "model.revision=main"]),
        ("local", [NAME, 'model.location=""']),
        ("local", ["engine.kind=sentence-transformers", NAME]),
        ("e5-small-v2", ["model.name=intfloat/e5-large-v2"]),
        ("e5-small-v2", ["model.name=intfloat/e5-large-v2", FOLDER]),
    ],
)
def test_a_name_beside_what_the_file_says_of_its_own_model_is_refused_with_all_three(
    file: str, overrides: list[str]
) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_config(REPOSITORY / f"configs/{file}.toml", overrides)
    said = str(refusal.value)
    for key in ("name", "location", "revision"):
        is_changed = any(override.startswith(f"model.{key}=") for override in overrides)
        assert f"model.{key} " in said
        assert said.partition(f"model.{key} ")[2].partition("(")[2].startswith("--set" if is_changed else "file")
    assert "intfloat/e5" in said


@pytest.mark.parametrize(
    ("file", "overrides"),
    [
        ("local", [NAME, FOLDER, "model.revision=main"]),
        ("local", [NAME, 'model.location=""', "model.revision=main"]),
        ("local", ["model.name=sentence-transformers/all-MiniLM-L6-v2"]),
        ("local", [FOLDER]),  # the digest says whether it is the same model
        ("local", ["model.revision=main"]),
        ("local", [NAME, "engine.kind=hashing"]),
        ("hashing", [NAME]),
        ("e5-small-v2", [FOLDER]),
        ("e5-small-v2", ["model.revision=main"]),
        ("e5-small-v2", ["model.name=intfloat/e5-large-v2", "model.revision=main"]),
        ("kalm-gemma3-12b", ["model.name=tencent/another"]),  # a branch is looked for in the repository of the name
    ],
)
def test_values_that_may_well_be_of_one_model_pass(file: str, overrides: list[str]) -> None:
    load_config(REPOSITORY / f"configs/{file}.toml", overrides)
