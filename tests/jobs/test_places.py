"""Inputs that are not on the corpus volume: data sets of the hub, which are put there first, and buckets."""

from __future__ import annotations

import os
import re
import signal
import tomllib
from pathlib import Path

import pytest
from modal._utils.async_utils import synchronizer
from modal.cloud_bucket_mount import cloud_bucket_mounts_to_proto
from modal_proto import api_pb2 as api

from jobs import buckets
from jobs.request import named_inputs
from pipeline.config import BucketConfig, parse_config
from pipeline.dataset.store import Store
from pipeline.errors import ConfigError, UsageError
from tests.support import read_dataset, status, texts, write_jsonl
from tests.support.hub import Hub, hub
from tests.support.modal_jobs import (
    CLASS,
    HASHING_TOML,
    House,
    deploy_cron,
    house,
    needs_plane,
    replace_in,
    tick,
)
from tests.support.plane import eventually

NAME = "tests/words"
ROWS = texts(60)
WHOLE = re.compile("/blobs/[0-9a-f]+$")  # the name of a file that was fetched to its end


def point_at(server: Hub, home: House) -> None:
    """Let the containers take a hub of this machine for that of Hugging Face."""
    replace_in(home, "jobs/resources.py", '"HF_HOME": ', f'"HF_ENDPOINT": "{server.url}", "HF_HOME": ')


def files(folder: Path, rows: list[dict[str, str]]) -> dict[str, bytes]:
    parts = {"data/a.jsonl": rows[:40], "data/b.jsonl": rows[40:], "other/c.jsonl": rows[:3]}
    return {name: write_jsonl(folder / name, each).read_bytes() for name, each in parts.items()}


@needs_plane
def test_a_data_set_comes_onto_the_volume_once_whatever_dies_and_a_moved_branch_costs_what_changed(
    tmp_path: Path,
) -> None:
    address, killed = f"hf://datasets/{NAME}/data", list[int]()
    with hub(NAME, "datasets") as server, house(tmp_path, seeded=False, background_commit_s=0.2) as home:

        def kill(path: str) -> None:
            """Kill the container once as it fetches the second file, when the first is safe."""
            if path == "data/b.jsonl" and not killed:
                eventually(lambda: any(map(WHOLE.search, home.plane.committed("embedding-corpus"))))
                killed.append(home.plane.seen.of("fetch")[0].pid)
                os.kill(killed[0], signal.SIGKILL)

        point_at(server, home)
        server.before = kill
        first = server.commit("main", files(tmp_path / "first", ROWS))
        said = home.run("--input", address, "--output", "words")
        assert f"input {address}: what is not on the volume embedding-corpus yet is fetched before" in said
        home.check_complete("words", tmp_path / "out", ROWS)
        run = Store(root=tmp_path / "out").read_manifest().run
        assert run is not None
        assert run.input == f"hf://datasets/{NAME}@{first}/data"
        assert [container.why for container in home.plane.seen.of("fetch")][:1] == ["crashed"]
        assert sorted(server.downloads()) == ["a.jsonl", "b.jsonl", "b.jsonl"]
        server.requests.clear()
        server.commit("main", files(tmp_path / "then", [*ROWS[:59], {**ROWS[59], "text": "other words"}]))
        planned = home.run("--input", address, "--output", "words", "--dry-run")
        assert "about 2 tokens to embed" in planned
        assert server.downloads() == ["b.jsonl"]
        home.run("--input", address, "--output", "words")
        found = status(home.dataset("words", tmp_path / "then-out"))
        assert (found["embedded_now"], found["embedded_rows"]) == (1, 60)
        assert "other words" in read_dataset(tmp_path / "then-out").column("text").to_pylist()
        assert server.downloads() == ["b.jsonl"]
        n_services = len(home.plane.seen.of(CLASS))
        missing = home.run("--input", f"hf://datasets/{NAME}@none", "--output", "none", code=2)
        assert "embed-corpus: input hf://datasets/tests/words@none: expected a revision of the data set" in missing
        assert len(home.plane.seen.of(CLASS)) == n_services
        assert {path.partition("/")[0] for path in home.plane.committed("embedding-corpus")} == {".hub"}


@needs_plane
def test_a_tick_fetches_and_embeds_what_a_branch_has_changed(tmp_path: Path) -> None:
    with hub(NAME, "datasets") as server, house(tmp_path, seeded=False) as home:
        point_at(server, home)
        server.commit("main", files(tmp_path / "first", ROWS))
        deploy_cron(home, (f"hf://datasets/{NAME}/data", "words"))
        assert tick(home)[0] == "SUCCESS"
        server.requests.clear()
        server.commit("main", files(tmp_path / "then", [*ROWS[:59], {**ROWS[59], "text": "other words"}]))
        assert tick(home)[0] == "SUCCESS"
        found = status(home.dataset("words", tmp_path / "out"))
        assert (found["embedded_now"], found["embedded_rows"], found["state"]) == (1, 60, "complete")
        assert server.downloads() == ["b.jsonl"]


@needs_plane
def test_a_bucket_that_the_config_names_is_an_input(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "bucket/wiki/a.jsonl", ROWS[:30])
    write_jsonl(tmp_path / "corpus/b.jsonl", ROWS[30:])
    named = 'buckets = {"s3://texts" = {secret = "keys"}}'
    there, keys = {"texts": tmp_path / "bucket"}, {"keys": {"AWS_ACCESS_KEY_ID": "k"}}
    with house(tmp_path, seeded=False, modal=named, buckets=there, secrets=keys) as home:
        home.plane.seed("embedding-corpus", tmp_path / "corpus")
        home.run("--input", "s3://texts/wiki/, b.jsonl", "--output", "both")
        home.check_complete("both", tmp_path / "out", ROWS)
        assert 'buckets = {"s3://other" = {secret = "NAME"}}' in home.run("--input", "s3://other/x", code=2)


def test_a_bucket_is_mounted_to_be_read_from_the_service_that_its_name_says() -> None:
    named = {
        "s3://a": BucketConfig(),
        "gs://b": BucketConfig(),
        "r2://c": BucketConfig(endpoint="https://me.r2.cloudflarestorage.com"),
    }
    made = [
        (str(path), synchronizer._translate_in(mount))  # type: ignore[no-untyped-call]
        for path, mount in buckets.mounts(named).items()
    ]
    protos, _ = cloud_bucket_mounts_to_proto(made, include_secrets=False)
    kind = api.CloudBucketMount.BucketType
    assert [(each.mount_path, each.bucket_name, each.bucket_type) for each in protos] == [
        ("/buckets/s3/a", "a", kind.S3),
        ("/buckets/gs/b", "b", kind.GCP),
        ("/buckets/r2/c", "c", kind.R2),
    ]
    assert all(each.read_only for each in protos)


@pytest.mark.parametrize(
    ("input", "said"),
    [
        ("s3://none/x", "expected a bucket that the deployed config (EMBED_CONFIG) mounts, found none; write there"),
        ("hf://tests/words", "expected hf://datasets/OWNER/NAME[@REVISION][/PATH], found another address of the hub"),
        ("wiki,hf://datasets/a/b", "--input hf://datasets/a/b: expected an address of the hub alone, found 2 inputs"),
        ("https://x/a.csv", "expected a path below the volume, such as wiki/, found an address"),
    ],
)
def test_an_address_that_leads_nowhere_says_what_to_do(input: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        named_inputs(input)
    assert said in str(error.value)


@pytest.mark.parametrize("path", ["../x", "/etc", "a/../../x"])
def test_a_path_stays_inside_its_bucket(path: str) -> None:
    with pytest.raises(UsageError, match="expected a path inside the bucket"):
        buckets.place_of(f"s3://a/{path}", {"s3://a": BucketConfig()})


@pytest.mark.parametrize(
    ("name", "endpoint"),
    [
        ("a", ""),
        ("ftp://a", ""),
        ("s3://a/b", ""),
        ("s3://", ""),
        ("s3://texts with", ""),
        ("r2://mine", ""),
        ("r2://mine", "me.r2.cloudflarestorage.com"),
        ("s3://texts", "minio:9000"),
    ],
)
def test_a_bucket_of_another_name_or_without_its_url_is_refused(name: str, endpoint: str) -> None:
    tables = tomllib.loads(HASHING_TOML.read_text()) | {"modal": {"buckets": {name: {"endpoint": endpoint}}}}
    with pytest.raises(ConfigError, match=f"expected s3://NAME, .* as endpoint, found '{name} {endpoint}'"):
        parse_config(tables, where="tests")


@pytest.mark.parametrize("name", ["s3://texts", "gs://texts", "r2://texts"])
def test_a_bucket_may_be_of_another_service(name: str) -> None:
    bucket = {"endpoint": "https://example.org"}
    tables = tomllib.loads(HASHING_TOML.read_text()) | {"modal": {"buckets": {name: bucket}}}
    assert parse_config(tables, where="tests").modal.buckets[name].endpoint == bucket["endpoint"]
