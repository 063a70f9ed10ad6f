import pyarrow as pa

class BatchBuilder:
    def __init__(self, types: list[pa.DataType], places: list[int], zoned: bool, *args: object) -> None: ...
