from typing_extensions import Buffer

def prefixes(
    data: Buffer, delimiter: int
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]: ...
