"""MIN and MAX of text, by bytes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tests.fuzz.draw import Draw, text_array
from velostream.kernels import Cells, TextState, select_rows


def check(data: bytes) -> None:
    draw = Draw(data)
    lead = draw.number(10)
    groups = 1 + draw.number(4)
    texts = draw.texts()
    state = TextState(pa.string(), ["least", "greatest"])
    cells = Cells([state])
    cells.reserve(groups)
    held: list[list[bytes]] = [[] for _ in range(groups)]
    # Two batches, so that a group meets what it holds from before.
    half = len(texts) // 2
    for batch in (texts[:half], texts[half:]):
        slots = (np.arange(len(batch)) % groups).astype(np.int32)
        values = text_array(batch, lead)
        rows = select_rows(len(batch), None, values)
        cells.update(slots if rows is None else slots[rows], [(values, None, None)], rows)
        for slot, text in zip(slots.tolist(), batch, strict=True):
            if text is not None:
                held[slot].append(text.encode())
    everything = np.arange(groups, dtype=np.int32)
    for best, (result, _) in (
        (min, state.least(cells, everything)),
        (max, state.greatest(cells, everything)),
    ):
        result.validate(full=True)
        assert result.to_pylist() == [best(group).decode() if group else None for group in held]
