"""Configuration: a TOML file and overrides become frozen records, or one line saying what to change."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta

from pipeline.errors import ConfigError
from pipeline.kinds import ENGINES as ENGINES
from pipeline.kinds import Dtype as Dtype
from pipeline.kinds import EngineKind as EngineKind
from pipeline.tables import Places, converted, read_tables, set_overrides, set_value

MAX_DIM = 65_536  # no model has wider vectors
ONE_MODEL = ("name", "location", "revision")  # the keys of [model] that together say which model it is
HASH = re.compile("sha256:.*|[0-9a-f]{40}")  # a revision that only one model has
BUCKET = re.compile("((s3|gs)://[a-z0-9][a-z0-9._-]+|r2://[a-z0-9][a-z0-9._-]+(?= .)) (https?://.+)?")
Positive = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Width = Annotated[int, Meta(ge=1, le=MAX_DIM)]
Size = Annotated[int, Meta(ge=0, le=2**53)]
Amount = Annotated[float, Meta(ge=0)]
# Of a kept column, by the names that Arrow has for them.
ColumnType = Literal[
    "string",
    "bool",
    "int32",
    "int64",
    "float32",
    "float64",
    "date32",
    "timestamp[ms]",
    "timestamp[us]",
    "timestamp[ms, tz=UTC]",
    "timestamp[us, tz=UTC]",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The model and how its vectors are meant to be made."""

    name: str
    revision: str
    location: str = ""  # "" = Hugging Face hub, a folder, or package:MODULE/SUBFOLDER
    dtype: Dtype | Literal["auto"] = "bfloat16"  # "auto" never leaves `settle_dtype`
    pooling: Literal["mean", "last", "cls"]
    dims: Annotated[tuple[Width, ...], Meta(min_length=1)]
    max_tokens: Positive
    document_prompt: str = ""
    query_prompt: str = ""
    attention: Literal["causal", "bidirectional", ""] = ""  # "" = whatever the checkpoint says
    final_token: str = ""  # the special token that ends every text; "" = whatever the tokenizer says
    normalized: bool = True  # whether the model's own vectors have unit length; those stored always have
    golden: str = ""  # a file of reference vectors, absolute or below the repository
    n_parameters: Amount = 0.0  # 0 = not known; with it memory is checked before a GPU is rented
    kv_bytes_per_token: Size = 0
    flop_per_token: Amount
    licence: str
    licence_notice: str = ""  # a line that a run prints before it starts
    trust_remote_code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """How the engine runs; only `kind` can change a vector."""

    kind: str = "vllm"  # a name of ENGINES
    max_num_seqs: Positive = 256
    max_num_batched_tokens: Positive = 8192
    enforce_eager: bool = True
    gpu_memory_utilization: Annotated[float, Meta(gt=0, le=1)] = 0.9
    kv_cache_bytes: Size = 0
    sleep_mode: bool = False
    batch_passages: Positive = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusConfig:
    """Where text, ids and kept columns are found in a row."""

    text: str = "text"
    id: str = ""
    keep: tuple[str, ...] = ()
    types: dict[str, ColumnType] = field(default_factory=dict, hash=False)  # of kept columns, where files have texts
    store_text: bool = True  # whether parts have the passages themselves
    on_long: Literal["truncate", "split", "reject"] = "truncate"
    overlap: Size = 0
    licence: str = ""  # of the texts, for the card; "" = not said

    @property
    def kept(self) -> tuple[str, ...]:
        """The columns of `keep` that are copied: all but one that every part has as its own column `text`."""
        from pipeline.schema import TEXT

        own = TEXT.name if self.store_text and self.text == TEXT.name else None
        return tuple(name for name in self.keep if name != own)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """What one run makes and in which steps."""

    dim: int = 0
    chunk_tokens: Size = 0  # 0 = follows the corpus
    max_removed: Annotated[float, Meta(ge=0, le=1)] = 0.1  # share of a dataset's rows that a run may remove unasked


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketConfig:
    """How a bucket is reached."""

    secret: str = ""  # the Modal secret with its keys; "" = it is public
    endpoint: str = ""  # URL of the service; "" = that of Amazon or Google


@dataclass(frozen=True, slots=True, kw_only=True)
class ModalConfig:
    """What a run on Modal rents, and at which price."""

    gpu: str = ""  # "" = CPU
    max_containers: Positive = 1
    usd_per_hour: Amount = 0.0  # of one container with its GPU
    driver_hours: Annotated[float, Meta(gt=0)] = 22.0
    snapshot: bool = True
    output_version: Literal[1, 2] = 2
    buckets: dict[str, BucketConfig] = field(default_factory=dict, hash=False)  # that inputs may be in, by "s3://NAME"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A whole config file, one field per table."""

    model: ModelConfig
    engine: EngineConfig = field(default_factory=EngineConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    run: RunConfig = field(default_factory=RunConfig)
    modal: ModalConfig = field(default_factory=ModalConfig)

    @property
    def dim(self) -> int:
        """Width of the stored vectors: `run.dim`, or the model's full width."""
        return self.run.dim or self.model.dims[0]


def load_config(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    dim: int | None = None,
    allow_untrained_dim: bool = False,
    named_by: str = "",
) -> Config:
    """Read a config file and apply `table.key=value` overrides, whose values are TOML or bare text.

    `named_by` is what named the file, where that is not a flag. Raises ConfigError naming the key and where its value
    comes from: unknown (with the nearest known name), missing, of a wrong type, out of range, or at odds with another.
    """
    where = f"{path} ({named_by})" if named_by else str(path)
    tables = read_tables(path, f"config {where}")
    return configure(tables, overrides, where=where, dim=dim, allow_untrained_dim=allow_untrained_dim)


def configure(
    tables: dict[str, Any], overrides: Sequence[str], *, where: str, dim: int | None, allow_untrained_dim: bool
) -> Config:
    """Return parsed TOML tables, which it changes, as a Config with overrides; raises as `load_config` does."""
    before = tables["model"].get("name") if isinstance(tables.get("model"), dict) else None
    flags = dict.fromkeys(set_overrides(tables, overrides, where=where), "--set")
    if dim is not None:
        set_value(tables, "run", "dim", dim, where=where)
        flags["run.dim"] = "--dim"
    config = _parsed(tables, places := Places(file=where, flags=flags))
    if ENGINES[config.engine.kind].needs_weights and before not in (None, config.model.name):
        _check_one_model(config.model, flags.keys(), where)
    _check_dim(config, allow_untrained_dim, places.of("run.dim"))
    return config


def parse_config(tables: Mapping[str, Any], *, where: str) -> Config:
    """Turn parsed TOML tables into a Config; raises ConfigError naming `where` and the key."""
    return _parsed(tables, Places(file=where))


def _parsed(tables: Mapping[str, Any], places: Places) -> Config:
    config = converted(tables, Config, places)
    for key, wanted, found in _at_odds(config):
        raise ConfigError(f"{places.of(key)} expected {wanted}, found {found}")
    return config


def _at_odds(config: Config) -> Iterator[tuple[str, str, object]]:
    """Yield keys whose values do not go together with others, each with what was expected and found."""
    from pipeline.schema import kept_name  # and with it pyarrow, which the words of a help do without

    kind, dims, overlap, most = config.engine.kind, config.model.dims, config.corpus.overlap, config.model.max_tokens
    if kind not in ENGINES:
        yield "engine.kind", f"one of {', '.join(ENGINES)}", repr(kind)
    if list(dims) != sorted(set(dims), reverse=True):
        yield "model.dims", "sizes in falling order", dims
    if overlap >= most // 2:
        yield "corpus.overlap", f"0 to under half of model.max_tokens ({most})", overlap
    kept = [kept_name(name) for name in config.corpus.kept]
    for name in kept:
        if kept.count(name) > 1:
            yield "corpus.keep", "columns of different names in a part", f"{name!r} twice"
    for name, bucket in config.modal.buckets.items():
        if not BUCKET.fullmatch(found := f"{name} {bucket.endpoint}"):
            yield "modal.buckets", "s3://NAME, gs://NAME or r2://NAME, at r2 with a URL as endpoint", repr(found)
    for name in config.corpus.types:
        if name not in config.corpus.kept:
            yield "corpus.types", "columns that corpus.keep copies", repr(name)


def keys_of_tables() -> dict[str, list[str]]:
    """Return the keys that there are, by table."""
    return {table: [each.name for each in fields(kind)] for table, kind in get_type_hints(Config).items()}


def to_tables(config: Config) -> dict[str, Any]:
    """Return the config as plain tables, for the wire; `parse_config` reads them back."""
    tables: dict[str, Any] = msgspec.to_builtins(config)
    return tables


def _check_one_model(model: ModelConfig, changed: Set[str], where: str) -> None:
    """Refuse a new name beside a location or a hash that the file gives for its own model."""
    kept = [key for key in ONE_MODEL if f"model.{key}" not in changed]
    if ("location" in kept and model.location) or ("revision" in kept and HASH.fullmatch(model.revision)):
        found = (f"model.{key} {getattr(model, key)!r} ({'file' if key in kept else '--set'})" for key in ONE_MODEL)
        raise ConfigError(
            f"{where}: expected a name, a location and a revision of one model, found {', '.join(found)}; set all "
            "three together, or use a config of its own"
        )


def _check_dim(config: Config, allow_untrained_dim: bool, place: str) -> None:
    dims, dim = config.model.dims, config.dim
    if not 1 <= dim <= dims[0]:
        raise ConfigError(f"{place} expected 1 to {dims[0]}, the width of {config.model.name}, found {dim}")
    if dim not in dims and not allow_untrained_dim:
        raise ConfigError(
            f"{place} {dim}: {config.model.name} was trained for {', '.join(map(str, dims))}; "
            "choose one of these, or accept the loss of quality with --allow-untrained-dim"
        )
