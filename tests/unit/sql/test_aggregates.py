import pyarrow as pa
import pytest

from velostream.errors import BindError
from velostream.kernels import Cells
from velostream.sql.functions.aggregates import (
    aggregate_kernel,
    aggregate_state,
    aggregates,
    is_aggregate,
    resolve_aggregate,
)
from velostream.sql.windows import Tumble, window_kinds

DECIMAL = pa.decimal128(10, 2)


@pytest.mark.parametrize(
    ("name", "argument", "computed", "result"),
    [
        ("COUNT", None, None, pa.int64()),
        ("COUNT", pa.string(), pa.string(), pa.int64()),
        ("COUNT", pa.null(), pa.int64(), pa.int64()),
        ("SUM", pa.int8(), pa.int64(), pa.int64()),
        ("SUM", pa.float64(), pa.float64(), pa.float64()),
        ("SUM", DECIMAL, DECIMAL, pa.decimal128(38, 2)),
        ("AVG", pa.int32(), pa.int64(), pa.float64()),
        ("AVG", pa.float64(), pa.float64(), pa.float64()),
        ("AVG", DECIMAL, DECIMAL, pa.decimal128(38, 6)),
        ("AVG", pa.decimal128(20, 9), pa.decimal128(20, 9), pa.decimal128(38, 9)),
        ("AVG", pa.null(), pa.int64(), pa.float64()),
        ("MIN", pa.int16(), pa.int16(), pa.int16()),
        ("MAX", pa.date32(), pa.date32(), pa.date32()),
        ("max", pa.bool_(), pa.bool_(), pa.bool_()),
    ],
)
def test_types_of_aggregates(name, argument, computed, result):
    found = resolve_aggregate(name, argument, argument is not None)
    assert (found.name, found.argument_type, found.result_type) == (name.upper(), computed, result)


@pytest.mark.parametrize(
    "type", [pa.int8(), pa.int64(), pa.float64(), DECIMAL, pa.string(), pa.bool_(), pa.date32()]
)
def test_every_resolved_aggregate_has_a_state_whose_result_has_its_type(type):
    for entry in aggregates:
        try:
            found = resolve_aggregate(entry.name, type, False)
        except BindError:
            continue
        kernel = aggregate_kernel(entry.name)
        state = aggregate_state(found.argument_type, () if kernel.part is None else (kernel.part,))
        values, failed = getattr(state, kernel.read)(Cells([state]), pa.array([], pa.int32()).to_numpy())
        assert values.type == found.result_type and failed is None


@pytest.mark.parametrize(
    ("name", "argument", "distinct", "message", "hint"),
    [
        ("SUMM", pa.int64(), False, "unknown aggregate 'SUMM'", "did you mean 'SUM'?"),
        (
            "SUM",
            pa.bool_(),
            False,
            "SUM of 'BOOLEAN' is not defined",
            "count the rows with COUNT(*) FILTER (WHERE …)",
        ),
        ("AVG", pa.string(), False, "AVG of 'VARCHAR' is not defined", "convert it: AVG(CAST(… AS DOUBLE))"),
        (
            "SUM",
            pa.timestamp("us"),
            False,
            "SUM of 'TIMESTAMP' is not defined",
            "it takes integers, DOUBLE and DECIMAL; MIN and MAX take any type",
        ),
        ("MIN", None, False, "MIN(*) has no meaning", "name a column: MIN(column)"),
        ("COUNT", None, True, "COUNT(DISTINCT *) has no meaning", "name a column: COUNT(DISTINCT column)"),
    ],
)
def test_what_cannot_be_aggregated_says_what_to_do(name, argument, distinct, message, hint):
    with pytest.raises(BindError) as caught:
        resolve_aggregate(name, argument, distinct)
    assert (caught.value.message, caught.value.hint, caught.value.where) == (message, hint, None)


def test_names_of_aggregates_are_known_in_any_case():
    assert is_aggregate("avg") and is_aggregate("COUNT") and not is_aggregate("UPPER")


def test_entries_carry_what_the_reference_tables_show():
    assert aggregates.names() == ["AVG", "COUNT", "MAX", "MIN", "SUM"]
    for entry in aggregates:
        assert entry.doc and entry.meta["example"].startswith(f"{entry.name}(") and entry.meta["signature"]
    assert window_kinds.names() == ["tumble"] and window_kinds["tumble"] is Tumble
    assert window_kinds.entry("tumble").meta["example"]
