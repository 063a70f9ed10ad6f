"""Names of columns that the query does not name: the expression's text, as DuckDB writes it."""

from __future__ import annotations

from collections.abc import Iterable

from sqlglot import exp

from velostream.errors import BindError
from velostream.sql.grammar import Plus
from velostream.sql.typenames import parse_type, type_name

SYMBOLS: dict[type[exp.Expr], str] = {
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.Mod: "%",
    exp.DPipe: "||",
    exp.EQ: "=",
    exp.NEQ: "!=",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.And: "AND",
    exp.Or: "OR",
}


def text_of(node: exp.Expr) -> str:
    """The expression in one spelling: keywords in capitals, functions in small letters, parentheses.

    >>> from velostream.sql.parser import parse
    >>> text_of(parse("SELECT SUM(price*2) FROM t").statements[0].select.items[0].expr)
    'sum((price * 2))'
    """
    if (symbol := SYMBOLS.get(type(node))) is not None:
        return f"({text_of(node.this)} {symbol} {text_of(node.expression)})"
    match node:
        case exp.Column():
            return node.name if not node.table else f"{node.table}.{node.name}"
        case exp.Literal():
            return "'" + node.name.replace("'", "''") + "'" if node.is_string else node.name
        case exp.Null():
            return "NULL"
        case exp.Boolean():
            return "true" if node.this else "false"
        case exp.Paren():
            return text_of(node.this)
        case exp.Neg():
            inner = text_of(node.this)
            return f"-{inner}" if isinstance(node.this, exp.Literal) else f"(-({inner}))"
        case Plus():
            return f"(+({text_of(node.this)}))"
        case exp.Not(this=exp.Is(expression=exp.Null())):
            return f"({text_of(node.this.this)} IS NOT NULL)"
        case exp.Not():
            return f"(NOT {text_of(node.this)})"
        case exp.Is():
            return f"({text_of(node.this)} IS {text_of(node.expression).upper()})"
        case exp.In():
            return f"({text_of(node.this)} IN ({_list(node.expressions)}))"
        case exp.Between():
            low, high = text_of(node.args["low"]), text_of(node.args["high"])
            return f"({text_of(node.this)} BETWEEN {low} AND {high})"
        case exp.Escape():
            return f"{text_of(node.this)[:-1]} ESCAPE {text_of(node.expression)})"
        case exp.Like() | exp.ILike():
            word = f"{'NOT ' if node.args.get('negate') else ''}{type(node).__name__.upper()}"
            return f"({text_of(node.this)} {word} {text_of(node.expression)})"
        case exp.Cast():
            word = "TRY_CAST" if isinstance(node, exp.TryCast) else "CAST"
            return f"{word}({text_of(node.this)} AS {_type(node.args['to'].name)})"
        case exp.Case():
            return _case(node)
        case exp.Extract():
            return f"date_part('{node.this.name.lower()}', {text_of(node.expression)})"
        case exp.Filter():
            return f"{text_of(node.this)} FILTER (WHERE {text_of(node.expression)})"
        case exp.Distinct():
            return f"DISTINCT {_list(node.expressions)}"
        case exp.Anonymous():
            if node.name.lower() == "count" and isinstance(next(iter(node.expressions), None), exp.Star):
                return "count_star()"
            return f"{node.name.lower()}({_list(node.expressions)})"
        case exp.Star():
            return "*"
    return type(node).__name__.lower()  # the binder refuses it


def column_name(node: exp.Expr) -> str:
    """The name of an unnamed column of a SELECT list."""
    while isinstance(node, exp.Paren):
        node = node.this
    return str(node.name) if isinstance(node, exp.Column) else text_of(node)


def _list(nodes: Iterable[exp.Expr]) -> str:
    return ", ".join(map(text_of, nodes))


def _type(text: str) -> str:
    try:
        return type_name(parse_type(text))
    except BindError:
        return text


def _case(node: exp.Case) -> str:
    whens = []
    for branch in node.args["ifs"]:
        when = text_of(branch.this)
        if node.this is not None:
            when = f"({text_of(node.this)} = {when})"
        whens.append(f"WHEN ({when}) THEN ({text_of(branch.args['true'])})")
    default = node.args.get("default")
    otherwise = text_of(default) if default is not None else "NULL"
    return f"CASE {' '.join(whens)} ELSE {otherwise} END"


def unique_names(names: Iterable[str]) -> list[str]:
    """The names with `_1`, `_2`, … behind those that came before, in any case.

    >>> unique_names(["a", "a", "b", "A"])
    ['a', 'a_1', 'b', 'A_2']
    """
    every = list(names)
    taken = {name.lower() for name in every}
    seen: set[str] = set()
    result = []
    for name in every:
        unique, count = name, 0
        while unique.lower() in seen or (count and unique.lower() in taken):
            count += 1
            unique = f"{name}_{count}"
        seen.add(unique.lower())
        result.append(unique)
    return result
