"""The one door to the kernels: every other module takes them from here, none imports `cython_ext`."""

from cython_ext import arithmetic as arithmetic
from cython_ext import casts as casts
from cython_ext import like as like
from cython_ext import text as text
from cython_ext.aggregate_state import Count as Count
from cython_ext.aggregate_state import ExtremeDecimal as ExtremeDecimal
from cython_ext.aggregate_state import ExtremeDouble as ExtremeDouble
from cython_ext.aggregate_state import ExtremeInt64 as ExtremeInt64
from cython_ext.aggregate_state import ExtremeText as ExtremeText
from cython_ext.aggregate_state import State as State
from cython_ext.aggregate_state import SumDecimal as SumDecimal
from cython_ext.aggregate_state import SumDouble as SumDouble
from cython_ext.aggregate_state import SumInt64 as SumInt64
from cython_ext.aggregate_state import change_ops as change_ops
from cython_ext.aggregate_state import select_rows as select_rows
from cython_ext.groups import GroupTable as GroupTable
from cython_ext.keys import KEY_HASH_VERSION as KEY_HASH_VERSION
from cython_ext.keys import KeyEncoder as KeyEncoder
from cython_ext.keys import Keys as Keys
from cython_ext.windows import judge_late as judge_late
from cython_ext.windows import tumble_start as tumble_start
