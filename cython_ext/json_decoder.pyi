from typing import Any, final

import pyarrow as pa
from typing_extensions import Buffer

from cython_ext.batch_builder import BatchBuilder

@final
class JsonDecoder(BatchBuilder):
    def __init__(
        self,
        types: list[pa.DataType],
        places: list[int],
        zoned: bool,
        names: list[str],
        max_depth: int,
        max_record: int,
        max_columns: int,
        max_text: int,
    ) -> None: ...
    def decode(self, data: Buffer, start: int, max_rows: int) -> tuple[Any, ...]: ...
    def decode_file(
        self, descriptor: int, offset: int, size: int, start: int, max_rows: int, piece_bytes: int
    ) -> tuple[Any, ...]: ...
