"""Made-up records: columns with distributions, the same for a seed whatever reads them in what blocks.

What columns can look like is in `distributions.py`, randomness in `draws.py`; both know nothing of blocks.
Read `source.py` first.
"""

from velostream.connectors.generator.source import GeneratorSource, GeneratorSourceConfig

__all__ = ["GeneratorSource", "GeneratorSourceConfig"]
