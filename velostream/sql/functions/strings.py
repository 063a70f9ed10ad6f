"""Functions and operators of text. A character is a Unicode code point, and positions count from 1."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from velostream.errors import BindError
from velostream.kernels import like as like_kernel
from velostream.kernels import text as text_kernel
from velostream.sql.functions.registry import PROPAGATE, Invocation, Value, function
from velostream.sql.functions.rules import Match, Rule, Types, signatures
from velostream.sql.functions.values import null_where, scalar
from velostream.sql.types import BIGINT, VARCHAR

# Unicode's space separators (Zs), which is what TRIM removes; tabs and line ends are none.
SPACES = " \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"

_TEXT = signatures("VARCHAR -> VARCHAR")
_TEXT_COUNT = signatures("VARCHAR, BIGINT -> VARCHAR")
_TWO_TEXTS_TEST = signatures("VARCHAR, VARCHAR -> BOOLEAN")
_TWO_TEXTS_POSITION = signatures("VARCHAR, VARCHAR -> BIGINT")


def _any_to_text(minimum: int) -> Rule:
    def apply(types: Types) -> Match | None:
        return ((VARCHAR,) * len(types), VARCHAR) if len(types) >= minimum else None

    return Rule((", ".join(["any type"] * minimum) + ", …",), apply)


@function("upper", rule=_TEXT, nulls=PROPAGATE, example=(("aé",), "AÉ"), aliases=("ucase",))
def upper(call: Invocation, text: Value) -> Value:
    """The text in upper case, character by character."""
    return pc.utf8_upper(text)


@function("lower", rule=_TEXT, nulls=PROPAGATE, example=(("AÉ",), "aé"), aliases=("lcase",))
def lower(call: Invocation, text: Value) -> Value:
    """The text in lower case, character by character."""
    return pc.utf8_lower(text)


@function("trim", rule=_TEXT, nulls=PROPAGATE, example=(("  a b ",), "a b"))
def trim(call: Invocation, text: Value) -> Value:
    """The text without spaces at both ends."""
    return pc.utf8_trim(text, SPACES)


@function("ltrim", rule=_TEXT, nulls=PROPAGATE, example=((" a ",), "a "))
def ltrim(call: Invocation, text: Value) -> Value:
    """The text without spaces at its beginning."""
    return pc.utf8_ltrim(text, SPACES)


@function("rtrim", rule=_TEXT, nulls=PROPAGATE, example=((" a ",), " a"))
def rtrim(call: Invocation, text: Value) -> Value:
    """The text without spaces at its end."""
    return pc.utf8_rtrim(text, SPACES)


@function(
    "length",
    rule=signatures("VARCHAR -> BIGINT"),
    nulls=PROPAGATE,
    example=(("aé",), 2),
    aliases=("len", "char_length", "character_length"),
)
def length(call: Invocation, text: Value) -> Value:
    """The number of characters."""
    return pc.cast(pc.utf8_length(text), BIGINT)


@function(
    "substring",
    rule=signatures("VARCHAR, BIGINT -> VARCHAR", "VARCHAR, BIGINT, BIGINT -> VARCHAR"),
    nulls=PROPAGATE,
    example=(("hello", 2, 3), "ell"),
    aliases=("substr",),
)
def substring(call: Invocation, text: Value, position: Value, count: Value | None = None) -> Value:
    """The characters from a position on, all or `count`; a negative position counts from the end."""
    return text_kernel.substring(text, position, _TO_THE_END if count is None else count)


# Longer than any text.
_TO_THE_END = scalar(2**40, BIGINT)


@function("left", rule=_TEXT_COUNT, nulls=PROPAGATE, example=(("hello", 2), "he"))
def left(call: Invocation, text: Value, count: Value) -> Value:
    """The first characters; for a negative count all but that many at the end."""
    return text_kernel.left(text, count)


@function("right", rule=_TEXT_COUNT, nulls=PROPAGATE, example=(("hello", 2), "lo"))
def right(call: Invocation, text: Value, count: Value) -> Value:
    """The last characters; for a negative count all but that many at the beginning."""
    return text_kernel.right(text, count)


@function("position", rule=_TWO_TEXTS_POSITION, nulls=PROPAGATE, example=(("l", "hello"), 3))
def position(call: Invocation, part: Value, text: Value) -> Value:
    """Where the first text occurs first in the second: the position of its first character, 0 if nowhere."""
    return text_kernel.find_text(text, part)


@function(
    "strpos", rule=_TWO_TEXTS_POSITION, nulls=PROPAGATE, example=(("hello", "l"), 3), aliases=("instr",)
)
def strpos(call: Invocation, text: Value, part: Value) -> Value:
    """Where the second text occurs first in the first: the position of its first character, 0 if nowhere."""
    return text_kernel.find_text(text, part)


@function("starts_with", rule=_TWO_TEXTS_TEST, nulls=PROPAGATE, example=(("hello", "he"), True))
def starts_with(call: Invocation, text: Value, prefix: Value) -> Value:
    """Whether the first text begins with the second."""
    return text_kernel.starts_with(text, prefix)


@function("ends_with", rule=_TWO_TEXTS_TEST, nulls=PROPAGATE, example=(("hello", "lo"), True))
def ends_with(call: Invocation, text: Value, suffix: Value) -> Value:
    """Whether the first text ends with the second."""
    return text_kernel.ends_with(text, suffix)


@function(
    "replace",
    rule=signatures("VARCHAR, VARCHAR, VARCHAR -> VARCHAR"),
    nulls=PROPAGATE,
    example=(("banana", "an", "o"), "booa"),
)
def replace(call: Invocation, text: Value, old: Value, new: Value) -> Value:
    """The text with every occurrence of the second replaced by the third, from left to right."""
    return text_kernel.replace(text, old, new)


@function(
    "concat", rule=_any_to_text(1), nulls="never NULL: a NULL adds nothing", example=(("a", None, 1), "a1")
)
def concat(call: Invocation, *texts: Value) -> Value:
    """The texts of all arguments, one after the other."""
    # Not null_handling="skip": with a NULL among constants it gives too few rows (pyarrow 26).
    known = [pc.fill_null(text, "") for text in texts]
    return pc.binary_join_element_wise(*known, "", null_handling="emit_null")


@function("||", rule=_any_to_text(2), nulls=PROPAGATE, example=(("a", 1), "a1"), form="{0} || {1}")
def concat_operator(call: Invocation, *texts: Value) -> Value:
    """The texts of all operands, one after the other."""
    return pc.binary_join_element_wise(*texts, "", null_handling="emit_null")


# --- LIKE ---------------------------------------------------------------------------------------------


def _check_escape(value: object) -> None:
    if isinstance(value, str) and len(value) > 1:
        raise BindError(f"the ESCAPE of LIKE is one character, not '{value}'")


_LIKE = signatures("VARCHAR, VARCHAR -> BOOLEAN", "VARCHAR, VARCHAR, VARCHAR -> BOOLEAN")


@function(
    "like",
    rule=_LIKE,
    nulls=PROPAGATE,
    example=(("50%", "50#%", "#"), True),
    form="{0} LIKE {1}",
    literals=(2,),
    check=_check_escape,
)
def like(call: Invocation, text: Value, pattern: Value, escape: pa.Scalar | None = None) -> Value:
    """Whether all of the text is like a pattern: `%` is any characters, `_` one, after the escape itself."""
    if escape is None:
        mark = b""
    elif escape.is_valid:
        mark = escape.as_py().encode()
    else:
        return pa.nulls(call.rows, pa.bool_())
    result, incomplete = like_kernel.match_like(text, pattern, mark)
    call.fail(incomplete, "like", "a pattern of LIKE ends with its escape character")
    return null_where(result, incomplete)


@function(
    "ilike",
    rule=_LIKE,
    nulls=PROPAGATE,
    example=(("HELLO", "h%o"), True),
    form="{0} ILIKE {1}",
    literals=(2,),
    check=_check_escape,
)
def ilike(call: Invocation, text: Value, pattern: Value, escape: pa.Scalar | None = None) -> Value:
    """LIKE on text and pattern in lower case."""
    return like(call, pc.utf8_lower(text), pc.utf8_lower(pattern), escape)
