"""An estimate is near the truth, and its interval has the truth in it, however a corpus is ordered and packed."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.chunk import Shard, ShardSpan, Span
from pipeline.corpus import Corpus, find_files, open_corpus
from pipeline.dataset import Receipt, Run
from pipeline.driver import draw, rate_of, speed, tally
from pipeline.driver.measure import Measured, measure
from scripts.sample_corpus import build_sample
from tests.support import HASHING, embed_corpus, local_config, status, texts, write_jsonl, write_parquet

CONFIG = local_config("engine.kind=hashing", "model.max_tokens=64")
WORDS = ("a", "be", "the", "river", "gammadelta", "internationalisation")
N_ROWS = 12_000
SUFFIXES = ("jsonl", "parquet", "jsonl.gz", "jsonl.zst")


def rows_of(order: str, seed: int = 0) -> list[dict[str, str]]:
    """Return rows of which a tenth is long, and cut."""
    chance = random.Random(seed)

    def row(n_words: int) -> dict[str, str]:
        return {"text": " ".join(chance.choices(WORDS, k=n_words))}

    long = [row(chance.randint(40, 600)) for _ in range(N_ROWS // 10)]
    short = [row(chance.randint(2, 30)) for _ in range(N_ROWS - len(long))]
    rows = [*long, *short] if order == "long first" else [*short, *long]
    return random.Random(seed).sample(rows, N_ROWS) if order == "mixed" else rows


def truth(rows: Sequence[dict[str, str]]) -> tuple[int, int, int]:
    """Return the tokens that are embedded, those that are cut off, and how many rows are cut."""
    n_words = [len(row["text"].split()) for row in rows]
    most = CONFIG.model.max_tokens
    return sum(min(n, most) for n in n_words), sum(max(0, n - most) for n in n_words), sum(n > most for n in n_words)


def opened(path: Path, rows: Sequence[dict[str, Any]]) -> tuple[Corpus, list[Shard]]:
    """Write rows; return the corpus and its shards."""
    (write_parquet if path.suffix == ".parquet" else write_jsonl)(path, rows)
    found = find_files(str(path))
    return open_corpus(found.root, found.shards, CONFIG.corpus), found.shards


def misses(measured: Measured, tokens: int) -> bool:
    """Whether an interval leaves the truth out; it must be tight and near the truth, whatever the chance."""
    assert abs(measured.tokens - tokens) <= 0.05 * tokens
    assert 2 * measured.margin <= 0.2 * tokens
    return abs(measured.tokens - tokens) > measured.margin


@pytest.fixture
def nothing_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw, "COUNTED_BYTES", 0)


@pytest.fixture
def nothing_is_looked_at_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw, "WHOLE_BYTES", 0)
    monkeypatch.setattr(draw, "PLACES_BYTES", 1 << 20)


@pytest.mark.parametrize("order", ["long first", "short first", "mixed"])
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.usefixtures("nothing_is_small")
def test_an_estimate_is_near_whatever_the_order(tmp_path: Path, order: str, suffix: str) -> None:
    rows = rows_of(order)
    tokens, lost, n_cut = truth(rows)
    measured = measure(*opened(tmp_path / f"a.{suffix}", rows), CONFIG)
    assert not misses(measured, tokens)
    assert measured.rows == pytest.approx(N_ROWS)
    assert measured.lost_tokens == pytest.approx(lost, rel=0.05)
    assert measured.truncated == pytest.approx(n_cut, rel=0.05)


@pytest.mark.parametrize("order", ["long first", "mixed"])
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.usefixtures("nothing_is_small", "nothing_is_looked_at_whole")
def test_an_estimate_from_places_is_near(tmp_path: Path, order: str, suffix: str) -> None:
    rows = rows_of(order)
    options = {"row_group_size": 100} if suffix == "parquet" else {}
    if options:
        write_parquet(tmp_path / "a.parquet", rows, **options)
        found = find_files(str(tmp_path / "a.parquet"))
        measured = measure(open_corpus(found.root, found.shards, CONFIG.corpus), found.shards, CONFIG)
    else:
        measured = measure(*opened(tmp_path / f"a.{suffix}", rows), CONFIG)
    tokens, _, _ = truth(rows)
    assert abs(measured.tokens - tokens) <= measured.margin
    assert measured.rows == pytest.approx(N_ROWS, rel=0.2)


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_is_small")
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_nine_of_ten_intervals_have_the_truth(tmp_path: Path, suffix: str) -> None:
    rows = rows_of("long first")
    tokens, _, _ = truth(rows)
    corpus, shards = opened(tmp_path / f"a.{suffix}", rows)
    assert sum(misses(measure(corpus, shards, CONFIG, seed=seed), tokens) for seed in range(200)) <= 20


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_small_corpus_is_counted(tmp_path: Path, suffix: str) -> None:
    rows = rows_of("mixed")[:2000]
    tokens, _, n_cut = truth(rows)
    measured = measure(*opened(tmp_path / f"a.{suffix}", [*rows, {"text": " "}]), CONFIG)
    assert (round(measured.tokens), measured.margin, round(measured.truncated)) == (tokens, 0.0, n_cut)
    assert round(measured.rows) == 2001


@pytest.mark.parametrize("suffix", ["jsonl.zst", "jsonl"])
def test_of_a_file_that_unpacks_to_much_few_rows_are_kept(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of("long first")
    monkeypatch.setattr(tally, "KEPT_BYTES", 1 << 18)
    sizes: list[int] = []
    lines = tally.Tally.lines

    def counted(self: tally.Tally, counts: tally.Counts, *rest: Any) -> tally.Lines:
        def count(texts: Sequence[str], factors: tally.Floats) -> tally.Floats:
            sizes.append(len(texts))
            return counts(texts, factors)

        return lines(self, count, *rest)

    monkeypatch.setattr(tally.Tally, "lines", counted)
    measured = measure(*opened(tmp_path / f"a.{suffix}", rows), CONFIG)
    assert not misses(measured, truth(rows)[0])
    assert measured.rows == pytest.approx(N_ROWS)
    assert max(sizes) == tally.MOST_ROWS


def test_a_plan_of_a_packed_file_says_that_it_read_the_beginning(
    tmp_path: Path, nothing_is_looked_at_whole: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.corpus.blocks.PACKED_PLACE_BYTES", 1)
    monkeypatch.setattr("pipeline.corpus.blocks.PIECE_BYTES", 1 << 16)
    measured = measure(*opened(tmp_path / "a.jsonl.gz", rows_of("mixed")), CONFIG)
    assert measured.beginnings == ("a.jsonl.gz",)


def test_a_plan_equals_what_the_run_does(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", texts(500))
    where = ("--input", tmp_path / "in", "--output", tmp_path / "out", *HASHING)
    before = json.loads(embed_corpus("plan", *where, "--json").stdout)
    assert embed_corpus("run", *where).returncode == 0
    found = status(tmp_path / "out")
    assert (before["tokens"], before["tokens_low"], before["parts"]) == (
        found["tokens"],
        found["tokens"],
        found["parts"],
    )
    assert (found["estimated_tokens"], found["engine_tokens"]) == (before["tokens"], found["tokens"])
    assert before["output_bytes"] == pytest.approx(found["size_bytes"], rel=0.25)
    after = json.loads(embed_corpus("plan", *where, "--json").stdout)
    assert (after["tokens"], after["chunks"], after["parts"], after["kept_rows"]) == (0, 0, found["parts"], 500)
    write_jsonl(tmp_path / "in/a.jsonl", [*texts(400), *texts(50, start=900)])
    changed = json.loads(embed_corpus("plan", *where, "--json").stdout)
    assert (changed["input_rows"], changed["removed_rows"]) == (450, 100)
    assert changed["reused_rows"] == pytest.approx(400, rel=0.05)  # by the characters of their texts
    assert embed_corpus("run", *where, "--prune").returncode == 0
    assert changed["tokens"] == pytest.approx(status(tmp_path / "out")["engine_tokens"], rel=0.2)


def test_a_plan_counts_the_texts_that_parts_have(tmp_path: Path) -> None:
    build_sample(tmp_path / "in")
    sizes = []
    for stored in ("true", "false"):
        output = tmp_path / stored
        settings = (*HASHING, "--set", f"corpus.store_text={stored}", "--dim", "16", "--allow-untrained-dim")
        where = ("--input", tmp_path / "in", "--output", output, *settings)
        planned = json.loads(embed_corpus("plan", *where, "--json").stdout)["output_bytes"]
        assert embed_corpus("run", *where).returncode == 0
        sizes.append(status(output)["size_bytes"])
        assert planned == pytest.approx(sizes[-1], rel=0.25)
    assert sizes[0] > 1.5 * sizes[1]


def run_of(engine_tokens: int, engine_s: float) -> Run:
    return Run(state="complete", input="in", started_at=0.0, load_s=7.0, engine_tokens=engine_tokens, engine_s=engine_s)


def test_a_speed_is_kept_for_the_next_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = local_config()
    speed.keep_speed(config, run_of(1000, 0.5))
    assert speed.known_rate(config) is None, "too short to tell"
    speed.keep_speed(config, run_of(60_000, 30.0))
    found = speed.known_rate(config)
    assert found is not None
    assert (found.tokens_per_s, found.source[:24]) == (2000.0, "measured on this machine")
    assert speed.known_rate(local_config("model.max_tokens=128")) is None
    assert (speed.last_load_s(config), speed.last_load_s(local_config("model.max_tokens=128"))) == (7.0, 0.0)
    (tmp_path / "embed-corpus/speeds.json").write_text("{")
    assert speed.known_rate(config) is None


def test_a_plan_here_goes_by_the_parts_that_were_made_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    rented = receipt(container="ta-1", gpu="H100", engine_tokens=10**6, engine_s=10.0)
    here = receipt(engine_tokens=30_000, engine_s=10.0)
    rates = [rate_of(local_config(), kept) for kept in ([rented, here], [rented], [])]
    assert rates[0] is not None
    assert rates[0].tokens_per_s == 3000.0
    assert rates[1] == rates[2] != rates[0]


def receipt(**more: Any) -> Receipt:
    span = ShardSpan(shard=Shard(source="a", size_bytes=1, mtime_ns=0), span=Span(row_start=0, row_stop=1), last=True)
    counts = {"input_rows": 1, "embedded_rows": 1, "rejected_rows": 0, "passages": 1, "truncated": 0, "tokens": 1}
    of_part = {"chunk": "c", "part": "p", "has_rejects": False, "fingerprint": "f", "spans": (span,)}
    return msgspec.convert({**of_part, **counts, **more}, Receipt)
