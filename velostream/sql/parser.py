"""Text to statements: the grammar above expressions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NoReturn

import sqlglot.parser
from sqlglot.errors import TokenError
from sqlglot.tokenizer_core import Token, TokenType

from velostream.errors import (
    BindError,
    ConfigError,
    ParseError,
    SqlError,
    UnsupportedError,
    Where,
    did_you_mean,
    raise_all,
)
from velostream.sql import faults
from velostream.sql.clauses import SelectParser
from velostream.sql.dialect import Velostream
from velostream.sql.faults import Fault
from velostream.sql.grammar import WORD
from velostream.sql.statements import DeclaredStream, InputRef, Name, ParsedScript, Statement
from velostream.sql.typenames import parse_type
from velostream.sql.types import Field, Schema

_STARTERS = ("SELECT", "CREATE")
# Statements of SQL, and of the Rust upstream, that velostream does not run.
_OTHER_STATEMENTS = frozenset(
    "ALTER ANALYZE ATTACH BEGIN CALL COMMIT COPY DELETE DEPLOY DESCRIBE DROP EXECUTE EXPLAIN FROM GRANT "
    "INSERT LIST LOAD MERGE PAUSE PRAGMA REFRESH RESUME REVOKE ROLLBACK SET SHOW START STOP TRUNCATE UPDATE "
    "USE VALUES WITH".split()
)
_COLUMN_CONSTRAINTS = frozenset("NOT NULL PRIMARY DEFAULT UNIQUE CHECK REFERENCES GENERATED COLLATE".split())


def parse(text: str, file: str | None = None) -> ParsedScript:
    """The statements of a script, separated by `;`.

    Raises ParseError, UnsupportedError, or BindError where names of streams clash; Problems when there are
    several. `file` is for their places.

    >>> parse("SELECT a FROM 'trades.csv'").inputs[0].path
    'trades.csv'
    """
    _require_pure_sqlglot()
    errors: list[SqlError] = []
    script = _Script()
    for tokens in _split(_tokenize(text, file)):
        parser = StatementParser(text, tokens, Velostream)
        try:
            script.add(parser.parse_statement())
        except Fault as fault:
            errors.append(fault.error(text, file))
        except RecursionError:
            where = Where.in_text(text, tokens[0].start, tokens[0].end + 1, file)
            errors.append(UnsupportedError("an expression nested this deep is not supported", where=where))
    raise_all(errors)
    if not script.statements and not script.declared:
        raise ParseError("the query is empty", where=Where.in_text(text, 0, 1, file), hint="write a SELECT")
    return ParsedScript(text, file, tuple(script.statements), tuple(script.inputs.values()), script.declared)


def _require_pure_sqlglot() -> None:
    # mypyc refuses to make objects of a class of ours that extends a compiled one, and sqlglot takes the
    # compiled modules by itself when another package has brought them.
    if not (sqlglot.parser.__file__ or "").endswith(".py"):
        message = "sqlglot's compiled modules are installed, and no dialect can extend them"
        raise ConfigError(message, hint="run 'pip uninstall sqlglotc'; sqlglot itself stays")


def _tokenize(text: str, file: str | None) -> list[Token]:
    try:
        tokens = Velostream().tokenize(text)
    except TokenError as exc:
        # sqlglot tells where the text or identifier began; of a comment that does not end, it fails to.
        match = re.search(r"Missing (?P<quote>['\"]) from \d+:(?P<start>\d+)", str(exc.__cause__))
        start = int(match["start"]) if match else text.rfind("/*")
        what, mark = ("comment", "*/") if match is None else ("text", "'")
        if match and match["quote"] == '"':
            what, mark = "name", '"'
        if match:
            start = text.index(match["quote"], start)
        message = f"this {what} does not end"
        where = Where.in_text(text, start, len(text), file)
        raise ParseError(message, where=where, hint=f"close it with {mark}") from exc
    for token in tokens:
        if token.token_type == TokenType.VAR and not WORD.fullmatch(token.text):
            bad = WORD.match(token.text)
            start = token.start + (bad.end() if bad else 0)
            where = Where.in_text(text, start, start + 1, file)
            raise ParseError(f"unexpected character {text[start]!r}", where=where)
    return tokens


def _split(tokens: list[Token]) -> list[list[Token]]:
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token.token_type == TokenType.SEMICOLON:
            parts.append([])
        else:
            parts[-1].append(token)
    return [part for part in parts if part]


class _Script:
    """The statements so far, and the streams that they read, create and declare."""

    def __init__(self) -> None:
        self.statements: list[Statement] = []
        self.declared: dict[str, DeclaredStream] = {}
        self.inputs: dict[str, InputRef] = {}
        self._known: set[str] = set()

    def add(self, statement: Statement | DeclaredStream) -> None:
        if isinstance(statement, DeclaredStream):
            self._create(Name(statement.name, False, statement.span))
            self.declared[statement.name] = statement
            return
        self._read(statement)
        if statement.name is not None:
            self._create(statement.name)
        self.statements.append(statement)

    def _create(self, name: Name) -> None:
        if name.text.lower() in self._known:
            raise faults.wrong(f"stream '{name.text}' is created twice", name.span)
        if name.text.lower() in self.inputs:
            message = f"stream '{name.text}' is read before it is created"
            raise faults.wrong(message, name.span, "create it first, or choose another name")
        self._known.add(name.text.lower())

    def _read(self, statement: Statement) -> None:
        source = statement.select.source
        key = source.stream.text.lower()
        if source.path is None and key in self._known:
            declared = next((name for name in self.declared if name.lower() == key), None)
            if declared is not None:
                self.inputs.setdefault(key, InputRef(declared, None, source.stream.span))
            return
        if key in self._known or (key in self.inputs and self.inputs[key].path != source.path):
            message = f"two inputs are called '{source.stream.text}'"
            raise faults.wrong(message, source.span, "give one an alias")
        self.inputs.setdefault(key, InputRef(source.stream.text, source.path, source.stream.span))


class StatementParser(SelectParser):
    """One statement."""

    def parse_statement(self) -> Statement | DeclaredStream:
        first = self._curr
        statement: Statement | DeclaredStream
        if self.at("SELECT"):
            select = self.parse_select()
            statement = Statement(None, "select", select, self.span_from(first))
        elif self.at("CREATE"):
            statement = self._read_create_statement()
        else:
            self._refuse_statement(first)
        if self._curr:
            self.expected("the end of the statement")
        return statement

    def _refuse_statement(self, token: Token) -> NoReturn:
        word = token.text.upper()
        span = self.span_from(token, token)
        if token.token_type == TokenType.L_PAREN:
            self.unsupported("a query in parentheses", span, "start with SELECT")
        if token.token_type not in (TokenType.STRING, TokenType.IDENTIFIER) and word in _OTHER_STATEMENTS:
            self.unsupported(f"the statement {word}", span, "a script is made of SELECT and CREATE")
        hint = did_you_mean(token.text, _STARTERS)
        self.fault(f"expected SELECT or CREATE, found '{token.text}'", span, hint)

    def _read_create_statement(self) -> Statement | DeclaredStream:
        first = self._curr
        self.expect("CREATE")
        if not (self.at("STREAM") or self.at("TABLE")):
            word = self._curr.text.upper() if self._curr else ""
            if word in (
                "OR",
                "TEMP",
                "TEMPORARY",
                "VIEW",
                "MATERIALIZED",
                "INDEX",
                "SCHEMA",
                "FUNCTION",
                "TYPE",
            ):
                self.unsupported(f"CREATE {word}", self.span_from(first, self._curr), "use CREATE STREAM")
            if self._curr and self._curr.token_type == TokenType.VAR:
                token = self._curr
                hint = did_you_mean(token.text, ("STREAM", "TABLE"))
                self.fault(
                    f"expected STREAM or TABLE, found '{token.text}'", self.span_from(token, token), hint
                )
            self.expected("STREAM or TABLE")
        is_table = self.at("TABLE")
        self._advance()
        if self.at("IF", "NOT", "EXISTS"):
            self.unsupported("IF NOT EXISTS", self.span_from(self._curr, self._tokens[self._index + 2]))
        name = self.parse_name("a name")
        if self.at("("):
            return self._read_declaration(first, name)
        options = self.parse_options() if self.at("WITH") else {}
        self.expect("AS")
        if not self.at("SELECT"):
            if self.at("WITH") or self.at("("):
                self.unsupported("a subquery", self.span_from(self._curr, self._curr))
            self.expected("SELECT")
        select = self.parse_select(options)
        return Statement(name, "table" if is_table else "stream", select, self.span_from(first))

    def _read_declaration(self, first: Token, name: Name) -> DeclaredStream:
        self.expect("(")
        fields = [self._read_field(())]
        while self.take(","):
            fields.append(self._read_field(fields))
        self.expect(")")
        options = self.parse_options() if self.at("WITH") else {}
        if self.at("AS"):
            self.unsupported("AS SELECT behind a list of columns", self.span_from(self._curr, self._curr))
        return DeclaredStream(name.text, Schema(tuple(fields)), options, self.span_from(first))

    def _read_field(self, before: Sequence[Field]) -> Field:
        name = self.parse_name("a column")
        if name.text.lower() in {field.name.lower() for field in before}:
            self.fault(f"column '{name.text}' is declared twice", name.span, "names differ in more than case")
        node = self.parse_type_name()
        try:
            type = parse_type(node.name)
        except BindError as exc:
            self.fault(exc.message, node.meta["span"], exc.hint)
        if self._curr and self._curr.text.upper() in _COLUMN_CONSTRAINTS:
            word = "NOT NULL" if self.at("NOT", "NULL") else self._curr.text.upper()
            hint = "every column can be NULL; filter with WHERE … IS NOT NULL"
            self.unsupported(f"the constraint {word}", self.span_from(self._curr, self._curr), hint)
        return Field(name.text, type)
