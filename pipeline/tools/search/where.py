"""A condition on the columns of a dataset, such as `lang = 'en' and year > 2000`: parsed here, and nothing else.

    condition  = both {"or" both}            both  = single {"and" single}
    single     = "not" single | "(" condition ")" | COLUMN [test]
    test       = ("=" | "!=" | "<>" | "<" | "<=" | ">" | ">=") VALUE | "is" ["not"] "null"
               | ["not"] ("in" "(" VALUE {"," VALUE} ")" | "like" TEXT | "ilike" TEXT | "between" VALUE "and" VALUE)

A column is a word or is in double quotes or backticks, and one without a test has to be true. A value is a number,
true, false or text in quotes. As in SQL, nothing is true of a null but `is null`; in `like` % is any text and _ any
character.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from pipeline.errors import UsageError

MAX_CHARACTERS = 10_000
MAX_DEPTH = 50  # of brackets and `not`
TOKENS = re.compile(
    r"""\s*(?:
    (?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?!\w))
  | (?P<text>'(?:[^']|'')*')
  | (?P<quoted>"(?:[^"]|"")*"|`[^`]*`)
  | (?P<word>[^\W\d][\w.]*)
  | (?P<sign><=|>=|<>|!=|==|[=<>(),])
  | (?P<end>\Z)
  | (?P<other>.)
    )""",
    re.VERBOSE | re.DOTALL,
)
COMPARISONS = {"=": "=", "==": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
KEYWORDS = ("and", "or", "not", "in", "is", "like", "ilike", "between", "null", "true", "false")

Value = str | bool | int | float


class Token(NamedTuple):
    """A piece of a condition, and the character at which it begins."""

    kind: str
    text: str
    at: int

    @property
    def keyword(self) -> str:
        """The keyword that a word is, in lower case, or the sign; "" for anything else."""
        lower = self.text.lower()
        return lower if (self.kind == "word" and lower in KEYWORDS) or self.kind == "sign" else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What is asked of one column: `sign` is a comparison, "in", "like", "ilike" or "null"."""

    column: str
    sign: str
    values: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite of a condition."""

    one: Condition


@dataclass(frozen=True, slots=True)
class Joined:
    """Conditions, two at least, of which all have to be true, or one where `is_or`."""

    of: tuple[Condition, ...]
    is_or: bool = False


Condition = Comparison | Not | Joined


def parse_where(text: str) -> Condition:
    """Return a condition; raises UsageError with what is wrong and at which character."""
    if len(text) > MAX_CHARACTERS:
        raise UsageError(f"--where: expected at most {MAX_CHARACTERS:,} characters, found {len(text):,}")
    return _Parser(text).whole()


def columns_of(condition: Condition) -> list[str]:
    """Return the names of the columns of a condition, each once, in their order."""
    return list(dict.fromkeys(_names(condition)))


def _names(condition: Condition) -> Iterator[str]:
    if isinstance(condition, Comparison):
        yield condition.column
        return
    for one in condition.of if isinstance(condition, Joined) else (condition.one,):
        yield from _names(one)


class _Parser:
    def __init__(self, text: str) -> None:
        found = ((str(match.lastgroup), match) for match in TOKENS.finditer(text))
        self._tokens = [Token(kind, match[kind], match.start(kind)) for kind, match in found]
        self._next = 0
        self._depth = 0

    def whole(self) -> Condition:
        condition = self._either()
        if self._token.kind != "end":
            self._refuse("and, or, or the end")
        return condition

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def _take(self, *keywords: str) -> str:
        """Return the keyword or sign that is next, and go on; "" where it is none of these."""
        found = self._token.keyword
        if found not in keywords:
            return ""
        self._next += 1
        return found

    def _expect(self, keyword: str, wanted: str) -> None:
        if not self._take(keyword):
            self._refuse(wanted)

    def _refuse(self, wanted: str) -> NoReturn:
        token = self._token
        found = "the end" if token.kind == "end" else repr(token.text)
        raise UsageError(
            f"--where: expected {wanted}, found {found} at character {token.at + 1}; such as \"lang = 'en' and "
            'year > 2000"'
        )

    def _either(self) -> Condition:
        found = [self._both()]
        while self._take("or"):
            found.append(self._both())
        return found[0] if len(found) == 1 else Joined(tuple(found), is_or=True)

    def _both(self) -> Condition:
        found = [self._single()]
        while self._take("and"):
            found.append(self._single())
        return found[0] if len(found) == 1 else Joined(tuple(found))

    def _single(self) -> Condition:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UsageError(f"--where: expected at most {MAX_DEPTH} brackets and `not` in each other, found more")
        try:
            if self._take("not"):
                return Not(self._single())
            if self._take("("):
                condition = self._either()
                self._expect(")", ")")
                return condition
            return self._test(self._column())
        finally:
            self._depth -= 1

    def _column(self) -> str:
        token = self._token
        if token.kind == "quoted":
            self._next += 1
            return _unquoted(token.text)
        if token.kind != "word" or token.keyword:
            self._refuse("a column")
        self._next += 1
        return token.text

    def _test(self, column: str) -> Condition:
        if self._token.kind == "end" or self._token.keyword in ("and", "or", ")"):
            return Comparison(column=column, sign="=", values=(True,))
        if self._take("is"):
            is_not = self._take("not")
            self._expect("null", "null")
            is_null = Comparison(column=column, sign="null")
            return Not(is_null) if is_not else is_null
        if sign := self._take(*COMPARISONS):
            return Comparison(column=column, sign=COMPARISONS[sign], values=(self._value(),))
        is_not = self._take("not")
        test = self._range(column)
        return Not(test) if is_not else test

    def _range(self, column: str) -> Condition:
        sign = self._take("in", "like", "ilike", "between")
        if sign == "in":
            self._expect("(", "( behind in")
            values = [self._value()]
            while self._take(","):
                values.append(self._value())
            self._expect(")", ", or )")
            return Comparison(column=column, sign="in", values=tuple(values))
        if sign == "between":
            low = self._value()
            self._expect("and", "and behind the first value of between")
            least = Comparison(column=column, sign=">=", values=(low,))
            return Joined((least, Comparison(column=column, sign="<=", values=(self._value(),))))
        if not sign:
            self._refuse(f"=, !=, <, <=, >, >=, in, like, between or is behind {column}")
        if self._token.kind not in ("text", "quoted"):
            self._refuse(f"text in single quotes behind {sign}")
        return Comparison(column=column, sign=sign, values=(self._value(),))

    def _value(self) -> Value:
        token = self._token
        if token.kind not in ("text", "quoted", "number") and token.keyword not in ("true", "false"):
            self._refuse("a number, true, false or text in single quotes")
        self._next += 1
        if token.keyword:
            return token.keyword == "true"
        if token.kind == "number":
            return int(token.text) if re.fullmatch(r"[+-]?\d{1,4000}", token.text) else float(token.text)
        return _unquoted(token.text)


def _unquoted(text: str) -> str:
    return text[1:-1].replace(text[0] * 2, text[0])
