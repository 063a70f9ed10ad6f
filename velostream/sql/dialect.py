"""The dialect: its words and marks, and the parser of its expressions."""

from __future__ import annotations

from typing import ClassVar

from sqlglot import tokens
from sqlglot.dialects.dialect import Dialect
from sqlglot.tokenizer_core import TokenType

from velostream.sql.grammar import ExpressionParser
from velostream.sql.reader import RESERVED

_OPERATORS = ("==", "::", "||", ">=", "<=", "<>", "!=", "->", "=>")


class Velostream(Dialect):
    class Tokenizer(tokens.Tokenizer):
        # Lone marks are tokens that no rule takes, never part of a word.
        SINGLE_TOKENS: ClassVar[dict[str, TokenType]] = {
            **tokens.Tokenizer.SINGLE_TOKENS,
            "!": TokenType.HASH,
            "`": TokenType.HASH,
            "$": TokenType.HASH,
        }
        COMMENTS: ClassVar[list[str | tuple[str, str]]] = ["--", ("/*", "*/")]
        COMMANDS: ClassVar[set[TokenType]] = set()
        KEYWORDS: ClassVar[dict[str, TokenType]] = {
            **{word: tokens.Tokenizer.KEYWORDS.get(word, TokenType.COMMAND) for word in RESERVED},
            **{mark: tokens.Tokenizer.KEYWORDS[mark] for mark in _OPERATORS},
        }

    Parser = ExpressionParser


# sqlglot adds Jinja's comments to every tokenizer.
Velostream.Tokenizer._COMMENTS.pop("{#")
