"""A physical plan becomes a Faust app: agents, lanes, exchange, watermarks, the block transport.

No record is looked at here: lanes pass blocks and batches to formats, operators and connectors. Read
`job.py` first, then follow a block: `transport.py`, `intake.py`, `dataflow.py`, `outlets.py`.
"""
