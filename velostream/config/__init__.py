"""What a job's configuration may say: the schema of the root, composing, the checks between keys.

Nothing here knows a connector, a format or SQL: their dataclasses come in as arguments, and what needs
them to be opened is checked by `velostream/runtime/prepare.py`. Read `schema.py` first, then `compose.py`.
"""
