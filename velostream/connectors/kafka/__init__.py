"""Apache Kafka as a source and as a sink: fetched record batches come in as blocks, finished ones go out.

Nothing here unpacks a record: that is the kernels' work, in the lanes. Read `settings.py` and `client.py`
first (what both sides share), then `source.py` or `sink.py`.
"""

from velostream.connectors.kafka.sink import KafkaSink, KafkaSinkConfig
from velostream.connectors.kafka.source import KafkaSource, KafkaSourceConfig

__all__ = ["KafkaSink", "KafkaSinkConfig", "KafkaSource", "KafkaSourceConfig"]
