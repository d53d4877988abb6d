"""Data sets of the hub: a branch is resolved once and recorded, and a moved one embeds what changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.dataset.store import Store
from pipeline.errors import UsageError
from tests.support import HASHING, REPOSITORY, embed_corpus, read_dataset, status, texts
from tests.support.formats import encoded
from tests.support.hub import Hub, hub

NAME = "tests/words"
ROWS = texts(40)


@pytest.fixture
def server() -> Iterator[Hub]:
    with hub(NAME, "datasets") as running:
        yield running


def files(rows: list[dict[str, str]]) -> dict[str, bytes]:
    return {
        "README.md": b"# words",
        "image.png": b"none of our business",
        "data/train-0.parquet": encoded(rows[:20], ".parquet"),
        "data/train-1.jsonl.gz": encoded(rows[20:], ".jsonl.gz"),
        "other/x.csv": encoded(rows[:3], ".csv"),
    }


def test_a_data_set_is_embedded_its_commit_recorded_and_a_moved_branch_costs_what_changed(
    tmp_path: Path, server: Hub
) -> None:
    first, env, out = server.commit("main", files(ROWS)), server.environment(tmp_path / "home"), tmp_path / "out"
    address = f"hf://datasets/{NAME}/data"
    done = embed_corpus("run", "--input", address, "--output", out, *HASHING, env=env)
    assert done.returncode == 0, done.stderr
    assert f"input hf://datasets/{NAME}@{first}/data: fetching" in done.stderr
    assert sorted(server.downloads()) == ["train-0.parquet", "train-1.jsonl.gz"]
    assert sorted(read_dataset(out).column("id").to_pylist()) == sorted(row["id"] for row in ROWS)
    run = Store(root=out).read_manifest().run
    assert run is not None
    assert run.input == f"hf://datasets/{NAME}@{first}/data"
    changed = [{**row, "text": "other words"} if at == 5 else row for at, row in enumerate(ROWS)]
    server.requests.clear()
    server.commit("main", files(changed))
    assert embed_corpus("run", "--input", address, "--output", out, *HASHING, env=env).returncode == 0
    assert (status(out)["embedded_now"], status(out)["embedded_rows"]) == (1, 40)
    assert server.downloads() == ["train-0.parquet"]
    done = embed_corpus("verify", out, "--input", address, "--json", env=env)
    assert (done.returncode, json.loads(done.stdout)["problems"]) == (0, [])
    old = embed_corpus("verify", out, "--input", f"hf://datasets/{NAME}@{first}/data", "--json", env=env)
    assert {each["kind"] for each in json.loads(old.stdout)["problems"]} == {"outdated"}


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (f"hf://datasets/{NAME}@none", "expected a revision of the data set"),
        ("hf://datasets/tests/none", "expected a data set of the hub, found none of that name"),
        (f"hf://datasets/{NAME}/none", "expected a file, a folder or a glob, found no such"),
        (f"hf://{NAME}", r"expected hf://datasets/OWNER/NAME[@REVISION][/PATH], found another address"),
        (f"hf://datasets/{NAME}/../x", "found another address of the hub"),
    ],
)
def test_what_is_not_there_is_one_line_and_makes_nothing(tmp_path: Path, server: Hub, address: str, said: str) -> None:
    server.commit("main", files(ROWS))
    env = server.environment(tmp_path / "home")
    done = embed_corpus("run", "--input", address, "--output", tmp_path / "out", *HASHING, env=env)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_file_that_differs_from_the_hubs_hash_is_refused_and_fetched_again(tmp_path: Path, server: Hub) -> None:
    server.commit("main", files(ROWS))
    server.corrupt = "data/train-0.parquet"
    asked: list[str | Path] = ["run", "--input", f"hf://datasets/{NAME}/data", "--output", tmp_path / "out", *HASHING]
    env = server.environment(tmp_path / "home")
    done = embed_corpus(*asked, env=env)
    assert (done.returncode, "removed it: run again" in done.stderr.splitlines()[-1]) == (2, True), done.stderr
    assert not (tmp_path / "out").exists()
    server.corrupt = ""
    server.requests.clear()
    done = embed_corpus(*asked, env=env)
    assert done.returncode == 0, done.stderr
    assert server.downloads() == ["train-0.parquet"]
    assert len(read_dataset(tmp_path / "out")) == len(ROWS)


def test_what_a_process_that_died_had_not_looked_at_is_looked_at_by_the_next(tmp_path: Path, server: Hub) -> None:
    server.commit("main", files(ROWS))
    server.corrupt = "data/train-0.parquet"
    address, env = f"hf://datasets/{NAME}/data", server.environment(tmp_path / "home")
    dies = (
        "import os, sys\nfrom pipeline.corpus import hub\nhub._verify = lambda _: os._exit(9)\n"
        "hub.fetched(sys.argv[1], ('.parquet', '.jsonl.gz'))"
    )
    died = subprocess.run([sys.executable, "-c", dies, address], cwd=REPOSITORY, env={**os.environ, **env}, check=False)
    assert died.returncode == 9
    done = embed_corpus("run", "--input", address, "--output", tmp_path / "out", *HASHING, env=env)
    assert (done.returncode, "removed it: run again" in done.stderr.splitlines()[-1]) == (2, True), done.stderr


def test_without_the_hub_what_is_here_is_read_if_it_is_known_to_be_all(tmp_path: Path, server: Hub) -> None:
    server.commit("main", files(ROWS))
    env, address = server.environment(tmp_path / "home"), f"hf://datasets/{NAME}/data"
    run = ("run", "--input", address, "--output", tmp_path / "out", *HASHING)
    assert embed_corpus(*run, env=env).returncode == 0
    away = env | {"HF_HUB_OFFLINE": "1"}
    done = embed_corpus(*run, env=away)
    assert (done.returncode, status(tmp_path / "out")["embedded_now"]) == (0, 0), done.stderr
    for listing in (tmp_path / "home").rglob("trees/*.json"):
        listing.unlink()
    done = embed_corpus(*run, env=away)
    assert done.returncode == 2
    assert "expected the hub within reach, or a cache that knows which files there are" in done.stderr.splitlines()[-1]


def test_one_file_and_a_glob_of_a_tag(tmp_path: Path, server: Hub) -> None:
    server.commit("v1", files(ROWS))
    env = server.environment(tmp_path / "home")
    for address, n_rows in ((f"hf://datasets/{NAME}@v1/other/x.csv", 3), (f"hf://datasets/{NAME}@v1/data/*.gz", 20)):
        done = embed_corpus("plan", "--input", address, *HASHING, "--json", env=env)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["input_rows"] == n_rows


def test_a_gated_data_set_says_what_to_do(tmp_path: Path, server: Hub) -> None:
    server.commit("main", files(ROWS))
    server.token = "right"
    done = embed_corpus("plan", "--input", f"hf://datasets/{NAME}", *HASHING, env=server.environment(tmp_path / "home"))
    assert (done.returncode, "expected the token of an account with access in HF_TOKEN" in done.stderr) == (2, True)


def test_other_addresses_say_how_their_files_come_here(tmp_path: Path) -> None:
    from pipeline.corpus.apart import check_input

    for address, command in (
        ("s3://b/in", "aws s3 cp --recursive s3://b/in input/"),
        ("r2://b/in", "--endpoint-url https://ACCOUNT.r2.cloudflarestorage.com s3://b/in input/"),
        ("https://x/a.csv", "curl -fLO https://x/a.csv"),
    ):
        with pytest.raises(UsageError, match="copy them here first, as by `") as error:
            check_input(address, tmp_path / "out")
        assert command in str(error.value)
