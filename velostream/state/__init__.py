"""A job's saved state on disk: what its operators hold, where its sources stand, what its sinks have written.

No connector is known here and no operator is made: positions and sink tokens are JSON of those who gave them,
changes are Arrow tables. `store.py` is the way in; `manifest.py` and `changes_file.py` are the formats.
"""
