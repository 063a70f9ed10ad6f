"""Files: whole, compressed, zipped, in folders, or growing; and files written complete or not at all.

Formats are elsewhere (`velostream/formats`), and so is whoever decides what is read when.
Read `source.py` and `sink.py` first; `parts.py` finds files, `streams.py` unpacks, `readers.py` cuts blocks;
`appended.py` is a file whose length can be gone back to, `target.py` makes a text sink of it and
`parquet_parts.py` one of Parquet; `committed.py` reads what these have committed.
"""

from velostream.connectors.file.sink import FileSink, FileSinkConfig
from velostream.connectors.file.source import FileSource, FileSourceConfig

__all__ = ["FileSink", "FileSinkConfig", "FileSource", "FileSourceConfig"]
