"""The query of `benchmarks/tumble.py` in each engine, the way it runs best: types declared, threads set.

`run` reads NDJSON trades, writes NDJSON rows, and returns seconds from the first read to the last row
written, without start-up. Packages come with the extra `bench`.
"""
