"""The command line: what a person types, and what they see.

Holds no rule about jobs (those are in `velostream/config`) and nothing that a program would call, except
`api.run`. Read `main.py` first, then `arguments.py` and the modules of `commands`.
"""
