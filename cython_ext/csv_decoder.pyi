from typing import Any, final

import pyarrow as pa
from typing_extensions import Buffer

from cython_ext.batch_builder import BatchBuilder

@final
class CsvDecoder(BatchBuilder):
    def __init__(
        self,
        types: list[pa.DataType],
        places: list[int],
        zoned: bool,
        targets: list[int],
        delimiter: int,
        quote: int,
        nulls: list[str],
        max_record: int,
        max_columns: int,
        max_text: int,
    ) -> None: ...
    def decode(self, data: Buffer, start: int, max_rows: int) -> tuple[Any, ...]: ...
