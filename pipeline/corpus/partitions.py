"""Partitions: the columns that the folders of a shard give all its rows, as Hive names them: lang=en/year=2026/."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

PARTITION = re.compile(r"([^=]+)=(.*)", re.DOTALL)
NULL = "__HIVE_DEFAULT_PARTITION__"


def given_columns(source: str) -> Mapping[str, str | None]:
    """Return the value of each partition that a shard is in, by its column; a value is text, percent signs decoded.

    Source: the partition discovery of Apache Hive and Spark.
    """
    found = (PARTITION.fullmatch(folder) for folder in source.split("/")[:-1])
    pairs = ((unquote(each[1]), unquote(each[2])) for each in found if each)
    return {name: None if value == NULL else value for name, value in pairs}
