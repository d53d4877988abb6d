"""The corpus: which files are shards, what is read from them, and which chunks are still to be made."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.chunk import Chunk, ChunkSize, Density, Span
from pipeline.config import Config, load_config
from pipeline.corpus.chunk_reader import ChunkReader
from pipeline.corpus.keep import settle
from pipeline.corpus.reader import shard_at
from pipeline.corpus.shards import Corpus, find_shards, open_corpus
from pipeline.dataset.store import Store
from pipeline.driver.chunks import plan_chunks
from pipeline.driver.fan_out import fan_out_here
from pipeline.driver.inventory import RunOptions
from pipeline.driver.plan import make_plan
from pipeline.driver.run import run
from pipeline.errors import CorpusError
from tests.support import REPOSITORY, local_config, texts, write_jsonl, write_parquet

CONFIG = local_config("engine.kind=hashing", "run.chunk_tokens=100")
SIZE = ChunkSize(tokens=100)
DENSITY = Density(tokens_per_row=10.0, tokens_per_byte=0.2)
numbers = itertools.count()


def with_corpus(**settings: Any) -> Config:
    return load_config(
        REPOSITORY / "configs/local.toml",
        ["engine.kind=hashing", *(f"corpus.{key}={json.dumps(value)}" for key, value in settings.items())],
    )


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b'{"text": "a"}\n')


def sources(target: Path | str) -> list[str]:
    return [shard.source for shard in find_shards(str(target))[1]]


def opened(root: Path, config: Config = CONFIG, **options: Any) -> Corpus:
    return open_corpus(*find_shards(str(root)), config.corpus, **options)


def plan(corpus: Corpus, done: Sequence[Chunk] = (), limit: int | None = None) -> list[Chunk]:
    spans: dict[str, list[tuple[Span, bool]]] = {}
    for chunk in done:
        for each in chunk.spans:
            spans.setdefault(each.source, []).append((each.span, each.last))
    return list(plan_chunks(corpus, spans, DENSITY, CONFIG, SIZE, limit=limit))


def rows_of(chunks: Sequence[Chunk]) -> list[tuple[str, int]]:
    return [
        (each.source, row)
        for chunk in chunks
        for each in chunk.spans
        for row in range(each.span.row_start, each.span.row_stop)
    ]


def three_shards(root: Path, n_rows: Mapping[str, int]) -> Corpus:
    write_parquet(root / "a.parquet", texts(n_rows["a"]), row_group_size=7)
    write_jsonl(root / "b.jsonl", texts(n_rows["b"]))
    write_jsonl(root / "sub/c.jsonl.gz", texts(n_rows["c"]))
    return opened(root)


# Which files are shards.


def test_a_folder_is_searched_all_the_way_down_for_every_kind_of_shard(tmp_path: Path) -> None:
    packed = [
        f"{kind}{packing}"
        for kind in ("jsonl", "ndjson", "json", "csv", "tsv")
        for packing in ("", ".gz", ".zst", ".bz2", ".xz")
    ]
    kinds = ["parquet", "pq", "arrow", "feather", *packed]
    touch(tmp_path, *(f"x/{kind}/a.{kind}" for kind in kinds), "B.PARQUET", "C.Jsonl.GZ")
    assert sources(tmp_path) == sorted(["B.PARQUET", "C.Jsonl.GZ", *(f"x/{kind}/a.{kind}" for kind in kinds)])


def test_other_hidden_and_temporary_files_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.jsonl", ".b.jsonl", "_c.jsonl", ".git/d.jsonl", "_tmp/e.jsonl", "x/.y/f.jsonl")
    touch(tmp_path, "g.html", "h.xls", "i.jsonl.bak", "j.jsonl.lz4", "k.gz", "jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    assert sources(tmp_path) == ["a.jsonl"]


def test_hidden_folders_above_the_input_do_not_hide_it(tmp_path: Path) -> None:
    touch(tmp_path, ".cache/_run/a.jsonl")
    assert sources(tmp_path / ".cache/_run") == ["a.jsonl"]
    assert sources(tmp_path / ".cache/_run/*.jsonl") == ["a.jsonl"]


def test_one_file_is_a_corpus_of_its_own_name(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.jsonl", "x/b.jsonl")
    assert find_shards(str(tmp_path / "x/a.jsonl")) == (tmp_path / "x", [shard_at(tmp_path / "x", "a.jsonl")])


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.jsonl", ["a.jsonl", "b.jsonl"]),
        ("x/*.jsonl", ["c.jsonl"]),
        ("**/*.jsonl", ["a.jsonl", "b.jsonl", "x/c.jsonl", "x/y/d.jsonl"]),
        ("**/**/*.jsonl", ["a.jsonl", "b.jsonl", "x/c.jsonl", "x/y/d.jsonl"]),
        ("[ab].jsonl", ["a.jsonl", "b.jsonl"]),
        ("*/*/?.jsonl", ["x/y/d.jsonl"]),
        ("*", ["a.jsonl", "b.jsonl"]),
    ],
)
def test_a_glob_finds_every_file_once_below_its_fixed_part(tmp_path: Path, pattern: str, found: list[str]) -> None:
    touch(tmp_path, "a.jsonl", "b.jsonl", "x/c.jsonl", "x/y/d.jsonl")
    assert sources(f"{tmp_path}/{pattern}") == found


def test_names_with_glob_characters_are_taken_as_they_are_where_they_exist(tmp_path: Path) -> None:
    touch(tmp_path, "in[1]/a[2].jsonl")
    assert sources(tmp_path / "in[1]") == ["a[2].jsonl"]
    assert sources(tmp_path / "in[1]/a[2].jsonl") == ["a[2].jsonl"]


def test_relative_inputs_are_read_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "in/a.jsonl", "b.jsonl")
    monkeypatch.chdir(tmp_path)
    assert sources("in") == sources("./in/") == sources("in/*.jsonl") == ["a.jsonl"]
    assert sources(".") == ["b.jsonl", "in/a.jsonl"]
    assert sources("*.jsonl") == ["b.jsonl"]


def test_links_are_followed_and_circles_are_not(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/a.jsonl", "in/b.jsonl")
    (tmp_path / "in/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in/circle").symlink_to(tmp_path / "in")
    assert sources(tmp_path / "in") == ["b.jsonl", "link/a.jsonl"]


@pytest.mark.parametrize("target", ["none", "none/*.jsonl", ".", "a.pdf"])
def test_an_input_without_shards_is_refused(tmp_path: Path, target: str) -> None:
    touch(tmp_path, "a.pdf")
    with pytest.raises(CorpusError, match="found no"):
        find_shards(f"{tmp_path}/{target}")


def test_a_name_that_is_no_unicode_is_refused_before_anything_is_embedded(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.jsonl", "in/" + os.fsdecode(b"caf\xe9.jsonl"))
    with pytest.raises(CorpusError):
        make_plan(str(tmp_path / "in"), Store(root=tmp_path / "out"), CONFIG)


# What is read from them.


def test_a_file_without_the_text_column_is_named_with_the_columns_it_has(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [{"title": "x", "n": 1}])
    write_jsonl(tmp_path / "b.jsonl", [{"body": "x"}])
    write_jsonl(tmp_path / "c.jsonl", [{"text": "x"}])
    with pytest.raises(CorpusError) as refusal:
        opened(tmp_path)
    assert "a.parquet: expected column 'text', found title, n" in str(refusal.value)
    assert "b.jsonl: expected column 'text', found body" in str(refusal.value)
    assert "c.jsonl" not in str(refusal.value)


@pytest.mark.parametrize(("setting", "missing"), [({"id": "doc"}, "doc"), ({"text": "{text}{title}"}, "title")])
def test_a_column_that_was_asked_for_is_missed_in_every_kind_of_file(
    tmp_path: Path, setting: dict[str, str], missing: str
) -> None:
    write_parquet(tmp_path / "a.parquet", [{"text": "x"}])
    write_jsonl(tmp_path / "b.jsonl", [{"text": "x"}])
    with pytest.raises(CorpusError) as refusal:
        opened(tmp_path, with_corpus(**setting))
    assert str(refusal.value).count(f"expected column {missing!r}") == 2


def test_a_text_column_of_another_type_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [{"text": 5}])
    with pytest.raises(CorpusError, match="expected text in column 'text', found int64"):
        opened(tmp_path)


def test_two_columns_of_one_name_are_refused_by_the_name_of_the_file(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"])
    pq.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(CorpusError, match=r"twice\.parquet"):
        opened(tmp_path)


def test_bad_files_are_skipped_and_recorded_when_asked(tmp_path: Path) -> None:
    source = tmp_path / "in"
    touch(source, "bad.parquet", "bad.jsonl.gz", "bad.jsonl.zst")
    write_jsonl(source / "none.jsonl", [{"body": "x"}])
    write_jsonl(source / "good.jsonl", [{"text": "x"}])
    corpus = opened(source, skip_bad_files=True)
    assert [shard.source for shard in corpus.shards] == ["good.jsonl"]
    assert sorted(corpus.skipped) == ["bad.jsonl.gz", "bad.jsonl.zst", "bad.parquet", "none.jsonl"]
    config, options = with_corpus(), RunOptions(skip_bad_files=True)
    store = Store(root=tmp_path / "out")
    for _ in range(2):  # also when the good one is finished
        done = run(str(source), store, config, fan_out=fan_out_here(store), options=options)
        assert (done.run.state, done.totals["embedded_rows"], len(done.run.skipped_files)) == ("complete", 1, 4)
    (source / "good.jsonl").unlink()
    with pytest.raises(CorpusError, match=r"none\.jsonl"):
        make_plan(str(source), Store(root=tmp_path / "out"), config, options)


def test_files_without_rows_are_fine(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    (tmp_path / "b.jsonl").write_bytes(b"\n\n")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "c.parquet")
    assert len(opened(tmp_path).shards) == 3


def test_a_kept_column_is_text_where_no_type_holds_its_values(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [{"text": "x", "year": 1, "m": {"n": 1}}])
    write_parquet(tmp_path / "b.parquet", [{"text": "x", "year": "2", "m": {"n": 1}}])
    corpus = settle(opened(tmp_path, with_corpus(keep=["year", "m.n"])), {"year": set(), "m.n": set()})
    assert corpus.columns.types == {"year": pa.string(), "m.n": pa.int64()}


@pytest.mark.parametrize("change", ["grow", "touch", "remove"])
def test_a_shard_that_changed_after_the_survey_is_refused(tmp_path: Path, change: str) -> None:
    write_jsonl(tmp_path / "a.jsonl", texts(5))
    corpus = opened(tmp_path)
    chunk = plan(corpus)[0]
    path = tmp_path / "a.jsonl"
    if change == "grow":
        path.write_bytes(path.read_bytes() + b"\n")
    elif change == "touch":
        os.utime(path, ns=(0, 0))
    else:
        path.unlink()
    with pytest.raises(CorpusError, match=r"a\.jsonl"), ChunkReader() as reader:
        reader.read(tmp_path, corpus.columns, chunk.spans)


# Which chunks are still to be made.

sizes = st.fixed_dictionaries(dict.fromkeys("abc", st.integers(1, 40)))


@given(n_rows=sizes, data=st.data())
def test_the_chunks_hold_every_row_once_whatever_is_done_already(
    n_rows: dict[str, int], data: st.DataObject, tmp_path: Path
) -> None:
    corpus = three_shards(tmp_path / str(next(numbers)), n_rows)
    whole = plan(corpus)
    done = data.draw(st.lists(st.sampled_from(whole), unique=True))
    rest = plan(corpus, done)
    everything = [(shard.source, row) for shard in corpus.shards for row in range(n_rows[Path(shard.source).name[0]])]
    assert rows_of(whole) == everything
    assert sorted(rows_of([*done, *rest])) == sorted(everything)
    assert len({chunk.part_name for chunk in [*done, *rest]}) == len(done) + len(rest)
    ending = [each for chunk in [*done, *rest] for each in chunk.spans if each.last]
    assert {(each.source, each.span.row_stop) for each in ending} == {
        (shard.source, n_rows[Path(shard.source).name[0]]) for shard in corpus.shards
    }
    assert len(ending) == len(corpus.shards)


@given(n_rows=sizes, limit=st.integers(1, 130), again=st.integers(1, 130))
def test_a_limit_counts_rows_over_the_whole_corpus_finished_ones_included(
    n_rows: dict[str, int], limit: int, again: int, tmp_path: Path
) -> None:
    corpus = three_shards(tmp_path / str(next(numbers)), n_rows)
    total = sum(n_rows.values())
    first = plan(corpus, limit=limit)
    assert rows_of(first) == rows_of(plan(corpus))[:limit]
    rest = plan(corpus, first, limit=again)
    assert len(rows_of(rest)) == max(0, min(again, total) - min(limit, total))


def test_a_limit_counts_the_rows_of_finished_shards(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in/a.jsonl", texts(10))
    write_jsonl(tmp_path / "in/b.jsonl", texts(10, start=10))
    store = Store(root=tmp_path / "out")
    config = with_corpus()
    first = run(str(tmp_path / "in"), store, config, fan_out=fan_out_here(store), options=RunOptions(limit=15))
    assert first.totals["embedded_rows"] == 15
    assert make_plan(str(tmp_path / "in"), store, config, RunOptions(limit=15)).chunks == ()


def test_chunk_ids_do_not_depend_on_where_the_input_lies_or_how_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = three_shards(tmp_path / "here", {"a": 30, "b": 30, "c": 30})
    expected = [chunk.id for chunk in plan(corpus)]
    shutil.copytree(tmp_path / "here", tmp_path / "there")  # times are kept
    monkeypatch.chdir(tmp_path)
    for target in ("there", "there/**/*", "./there/"):
        root, shards = find_shards(target)
        assert [chunk.id for chunk in plan(open_corpus(root, shards, CONFIG.corpus))] == expected


@given(order=st.permutations(range(3)))
def test_chunk_ids_do_not_depend_on_the_order_of_the_listing(order: list[int], tmp_path: Path) -> None:
    root = tmp_path / "in"
    if not root.exists():
        three_shards(root, {"a": 30, "b": 30, "c": 30})
    found, shards = find_shards(str(root))
    shuffled = open_corpus(found, [shards[i] for i in order], CONFIG.corpus)
    assert {chunk.id for chunk in plan(shuffled)} == {chunk.id for chunk in plan(opened(root))}


def test_a_survey_tells_the_same_twice_and_writes_nothing(tmp_path: Path) -> None:
    three_shards(tmp_path / "in", {"a": 200, "b": 200, "c": 200})
    before = sorted(tmp_path.rglob("*"))
    first, second = (make_plan(str(tmp_path / "in"), Store(root=tmp_path / "out"), CONFIG) for _ in range(2))
    assert first.chunks == second.chunks
    assert sorted(tmp_path.rglob("*")) == before


def test_chunks_hold_about_the_tokens_that_were_asked_for(tmp_path: Path) -> None:
    words = [{"text": "one two three four five six seven eight nine ten"}] * 1000
    write_jsonl(tmp_path / "in/a.jsonl", words)
    write_parquet(tmp_path / "in/b.parquet", words)
    found = make_plan(str(tmp_path / "in"), Store(root=tmp_path / "out"), CONFIG).chunks
    assert {chunk.n_rows for chunk in found} == {10}


def test_a_packed_file_cut_short_is_refused_before_anything_is_embedded(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in/a.jsonl.gz", texts(5000))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorpusError, match=r"a\.jsonl\.gz"):
        make_plan(str(tmp_path / "in"), Store(root=tmp_path / "out"), CONFIG)


def test_the_same_complaint_about_many_files_is_said_once(tmp_path: Path) -> None:
    for at in range(9):
        write_jsonl(tmp_path / f"{at}.jsonl", [{"body": "a"}])
    with pytest.raises(CorpusError) as refusal:
        opened(tmp_path)
    assert str(refusal.value).endswith(
        f"{tmp_path}/2.jsonl and 6 more: expected column 'text', found body. Mend these, set corpus.text, or try "
        "--skip-bad-files"
    )


def test_a_folder_without_shards_is_answered_with_the_kinds_of_files_that_are_read(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"files ending in \.parquet, .*\.txt, or a text packed as \.jsonl\.gz is"):
        find_shards(str(tmp_path))
