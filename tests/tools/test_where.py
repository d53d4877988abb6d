"""Conditions of `search --where`, held against DuckDB's SQL, and what is said of those that are none."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.tools.search.mask import mask
from pipeline.tools.search.where import Comparison, Condition, Joined, Not, columns_of, parse_where

TABLE = pa.table(
    {
        "lang": ["en", "de", None, "en", "it's", "EN_"],
        "year": pa.array([1999, 2001, None, -5, 2**40, 2000], pa.int64()),
        "share": [0.1, -2.5, None, 1e300, 0.0, 7.0],
        "kept": [True, False, None, True, None, False],
    }
)


def found(where: str, table: pa.Table = TABLE) -> list[bool]:
    answer: list[bool] = mask(parse_where(where), table).tolist()
    return answer


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


SIGNS = st.sampled_from(["=", "!=", "<>", "<", "<=", ">", ">="])
NUMBERS = st.one_of(
    st.integers(-(2**62), 2**62).map(str),
    st.sampled_from([1999, 2000, 2001, -5, 2**40]).map(str),
    st.sampled_from([0.1, -2.5, 7.0, 1e300, 2000.5]).map(repr),
)
TEXTS = st.sampled_from(["en", "de", "it's", "EN_", "", "e", "zz"]).map(quoted)
PATTERNS = st.sampled_from(["e%", "%n", "_n", "%", "", "it''s", "EN_", "e_%", "."]).map(lambda text: f"'{text}'")
LEAVES = st.one_of(
    st.builds("lang {} {}".format, SIGNS, TEXTS),
    st.builds("{} {} {}".format, st.sampled_from(["year", "share"]), SIGNS, NUMBERS),
    st.builds("{} is {}null".format, st.sampled_from(TABLE.column_names), st.sampled_from(["", "not "])),
    st.builds("lang {}in ({})".format, st.sampled_from(["", "NOT "]), st.lists(TEXTS, min_size=1).map(", ".join)),
    st.builds("year {}between {} and {}".format, st.sampled_from(["", "not "]), NUMBERS, NUMBERS),
    st.builds("lang {}{} {}".format, st.sampled_from(["", "not "]), st.sampled_from(["like", "ILIKE"]), PATTERNS),
    st.builds("kept {}".format, st.sampled_from(["", "= true", "= FALSE", "!= false"])),
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds("({})".format, inner),
        st.builds("not {}".format, inner.map(lambda text: f"({text})")),
        st.builds("{} {} {}".format, inner, st.sampled_from(["and", "or", "AND", "Or"]), inner),
    ),
    max_leaves=8,
)


@given(CONDITIONS)
def test_a_condition_means_what_it_means_in_sql(where: str) -> None:
    with duckdb.connect() as database:
        rows = database.register("rows", TABLE).execute(f"select coalesce(({where}), false) from rows").fetchall()
    assert found(where) == [bool(row[0]) for row in rows], where


@given(st.text() | st.lists(st.sampled_from(["(", ")", "'", '"', "and", "not", "a", "=", "1", ","])).map(" ".join))
def test_any_text_is_a_condition_or_one_line_that_says_what_it_lacks(text: str) -> None:
    try:
        parsed = parse_where(text)
    except UsageError as error:
        assert str(error).startswith("--where: expected ")  # noqa: PT017
    else:
        assert columns_of(parsed)


def test_the_tree_of_a_condition() -> None:
    def test(column: str, sign: str, *values: object) -> Condition:
        return Comparison(column=column, sign=sign, values=values)  # type: ignore[arg-type]

    assert parse_where("a = 1 or b == 2.0 and not `c d` <> 'x'") == Joined(
        (test("a", "=", 1), Joined((test("b", "=", 2.0), Not(test("c d", "!=", "x"))))), is_or=True
    )
    assert parse_where('"a ""b""" = "it\'s" and á.b is not null') == Joined(
        (test('a "b"', "=", "it's"), Not(test("á.b", "null")))
    )


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("lang == ", "a number, true, false or text in single quotes, found the end at character 9"),
        ("lang = en", "a number, true, false or text in single quotes, found 'en' at character 8"),
        ("(lang = 'en'", "), found the end at character 13"),
        ("lang = 'en' year > 1", "and, or, or the end, found 'year' at character 13"),
        ("lang = 'en", """a number, true, false or text in single quotes, found "'" at character 8"""),
        ("1 = 1", "a column, found '1' at character 1"),
        ("year ! 1", "=, !=, <, <=, >, >=, in, like, between or is behind year, found '!' at character 6"),
        ("year in ()", "a number, true, false or text in single quotes, found ')' at character 10"),
        ("lang like 5", "text in single quotes behind like, found '5' at character 11"),
        ("year = 5abc", "a number, true, false or text in single quotes, found '5' at character 8"),
        ("not " * 51 + "kept", "at most 50 brackets and `not` in each other, found more"),
        ("(" * 51 + "kept" + ")" * 51, "at most 50 brackets and `not` in each other, found more"),
        ("x" * 10_001, "at most 10,000 characters, found 10,001"),
    ],
)
def test_what_is_no_condition_is_one_line(where: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_where(where)
    assert str(refused.value).startswith(f"--where: expected {said}")


def test_a_long_condition_is_no_deep_one() -> None:
    assert found(" and ".join(["kept"] * 1_100)) == found("kept")


UTC = dt.UTC
NOON = dt.datetime(2026, 1, 31, 12)
ODD = pa.table(
    {
        "day": [dt.date(2020, 1, 1), dt.date(2026, 1, 31), None],
        "at": pa.array([NOON - dt.timedelta(seconds=1), NOON, None], pa.timestamp("ms")),
        "utc": pa.array([NOON.replace(tzinfo=UTC) - dt.timedelta(seconds=1), NOON.replace(tzinfo=UTC), None]),
        "price": pa.array([Decimal("1.50"), Decimal("2.50"), None]),
        "big": pa.array([1, 2**64 - 1, None], pa.uint64()),
        "small": pa.array([1, 2, None], pa.int8()),
        "half": pa.array([0.5, 1.5, None], pa.float16()),
        "single": pa.array([0.2, 0.1, None], pa.float32()),
        "label": pa.array(["a", "b", None]).dictionary_encode(),
        "large": pa.array(["a", "b", None], pa.large_string()),
        "view": pa.array(["a", "b", None], pa.string_view()),
        "json": pa.array(['"a"', '"b"', None], pa.json_()),
        "tags": pa.array([["a"], [], None]),
        "none": pa.nulls(3),
    }
)


@pytest.mark.parametrize(
    "where",
    [
        "day = '2026-01-31'",
        "day > '2026-01-30'",
        "at >= '2026-01-31 12:00:00'",
        "at >= '2026-01-31T12:00:00'",
        "utc = '2026-01-31 12:00:00'",
        "utc = '2026-01-31T13:00:00+01:00'",
        "price > 1.5",
        "price = 2.50",
        "big > 9223372036854775807",
        "big > 1.5",
        "big = 18446744073709551615",
        "small > 1 and small < 1000",
        "half > 1",
        "single = 0.1",
        "label = 'b'",
        "large like 'b%'",
        "view ilike 'B'",
        "json = '\"b\"'",
        "tags is not null and small = 2",
        "not (small = 1)",
    ],
)
def test_a_value_is_read_as_the_type_of_its_column(where: str) -> None:
    assert found(where, ODD) == [False, True, False]


def test_nothing_is_true_of_a_column_without_values_but_that_it_is_null() -> None:
    assert found("none = 1 or none != 'x' or none like 'x' or not none in (1)", ODD) == [False] * 3
    assert found("none is null", ODD) == [True] * 3


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("small = 'x'", "small, which is int8, found 'x'"),
        ("small = true", "small, which is int8, found True"),
        ("large = 3", "large, which is large_string, found 3; write text in single quotes"),
        ("day = 'today'", "day, which is date32[day], found 'today'; write a time as '2026-01-31'"),
        ("day = 3", "day, which is date32[day], found 3; write a time as '2026-01-31'"),
        ("tags = 'a'", "tags, which is list<"),
        ("small like 'a'", "small, which is int8, found 'a'"),
        ("small in (1, 'a')", "small, which is int8, found 1, 'a'"),
        (f"small < {10**30}", f"small, which is int8, found {10**30}"),
        (f"price < {10**90}", "price, which is decimal128(3, 2), found 1000"),
    ],
)
def test_a_value_of_another_type_is_named_with_that_of_the_column(where: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        found(where, ODD)
    assert str(refused.value).startswith(f"--where: expected what compares with {said}")
