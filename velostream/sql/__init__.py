"""SQL: text to logical plans, with every name found and every type known.

Grammar, binder, types, functions and window kinds live here; nothing that says how a query runs, reads data
or knows a source. `parser.py` (`parse`) and `binder.py` (`bind`) are the two doors: read these first, then
`logical.py` for what comes out.
"""
