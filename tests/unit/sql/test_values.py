"""Constants made without what `pa.scalar` imports."""

from __future__ import annotations

import datetime
import subprocess
import sys
from decimal import Decimal

import pyarrow as pa
import pytest

from velostream.sql.functions.values import scalar


@pytest.mark.parametrize(
    ("value", "type"),
    [
        (-(2**63), pa.int64()),
        (2**31 - 1, pa.int32()),
        (-0.5, pa.float64()),
        (3, pa.float64()),
        (True, pa.bool_()),
        (False, pa.bool_()),
        ("", pa.string()),
        ("é語", pa.string()),
        (Decimal("1.50"), pa.decimal128(5, 2)),
        (datetime.datetime(2024, 2, 29), pa.timestamp("us")),
        (datetime.date(2024, 2, 29), pa.date32()),
        *((None, type) for type in (pa.int64(), pa.string(), pa.bool_(), pa.null())),
    ],
)
def test_a_constant_is_what_arrow_makes_of_its_value(value: object, type: pa.DataType) -> None:
    made = scalar(value, type)
    assert made.type == type
    assert made.equals(pa.scalar(value, type))


PROGRAM = """
import sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        assert name.partition(".")[0] != "pandas"
sys.meta_path.insert(0, Watch())
import velostream.runtime.job, pyarrow as pa
from velostream.operators.chain import Chain
from velostream.plan.planner import SourceTraits, plan
from velostream.plan.nodes import WatermarkSpec
from velostream.sql.binder import StreamInfo, bind
from velostream.sql.parser import parse
schema = pa.schema([("s", pa.string()), ("x", pa.float64()), ("n", pa.int64())])
parsed = parse("SELECT s, x * n AS y FROM t WHERE n > 1 AND s <> 'a'")
script = bind(parsed, {"t": StreamInfo("t", schema, None, True)})
traits = SourceTraits(schema, True, WatermarkSpec("", None, None, None, "drop", 0))
stage = plan(script, {"t": traits}, {"out": "result"}).stages[0]
batch = pa.RecordBatch.from_arrays([pa.nulls(3, field.type) for field in schema], schema=schema)
assert Chain(stage.nodes, schema).run(batch).batch.num_rows == 0
"""


def test_neither_a_start_nor_a_filter_and_a_projection_imports_pandas() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
