"""Buckets that the config names, mounted to be read: what is below a mount is an input like a folder of the volume."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import modal

from pipeline.config import BucketConfig
from pipeline.errors import UsageError

Mounts = dict[str | PurePosixPath, modal.Volume | modal.CloudBucketMount]  # by where they are in a container
ROOT = Path("/buckets")
ADDRESS = re.compile("((?:s3|gs|r2)://[^/]+)(?:/(.*))?")
GOOGLE = "https://storage.googleapis.com"


def mounts(buckets: Mapping[str, BucketConfig]) -> Mounts:
    """Return the mount of each bucket by its folder."""
    return {str(_folder(name)): _mount(name, bucket) for name, bucket in buckets.items()}


def place_of(address: str, buckets: Mapping[str, BucketConfig]) -> tuple[Path, str] | None:
    """Return where a bucket is mounted and the path below it; None for what is no address of a bucket.

    Raises UsageError for a bucket without a mount.
    """
    found = ADDRESS.fullmatch(address)
    if found is None:
        return None
    if found[1] not in buckets:
        named = f"found {', '.join(buckets)}" if buckets else "found none"
        raise UsageError(
            f"--input {address}: expected a bucket that the deployed config (EMBED_CONFIG) mounts, {named}; write "
            f'there, in [modal], buckets = {{"{found[1]}" = {{secret = "NAME"}}}} (docs/modal.md), and deploy again'
        )
    path = PurePosixPath(found[2] or ".")
    if path.is_absolute() or ".." in path.parts:
        raise UsageError(f"--input {address}: expected a path inside the bucket, found one that leaves it")
    return _folder(found[1]), str(path)


def _folder(name: str) -> Path:
    return ROOT / name.replace("://", "/")


def _mount(name: str, bucket: BucketConfig) -> modal.CloudBucketMount:
    scheme, _, own_name = name.partition("://")
    return modal.CloudBucketMount(
        own_name,
        bucket_endpoint_url=bucket.endpoint or (GOOGLE if scheme == "gs" else None),
        secret=modal.Secret.from_name(bucket.secret) if bucket.secret else None,
        read_only=True,
    )
