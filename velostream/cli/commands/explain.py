"""`command=explain`: the plan of a job."""

from __future__ import annotations

import json

from velostream.cli.command import commands
from velostream.cli.main import OK
from velostream.cli.request import Request, located
from velostream.cli.screen import Screen
from velostream.errors import ConfigError, Where, did_you_mean


@commands.register("explain", options={"format": "text (the default) or json"})
def explain(request: Request) -> int:
    """Show the plan: stages, exchanges, what is pushed down, time, state; run nothing."""
    from velostream.runtime.prepare import prepare

    form = request.arguments.options.get("format", "text")
    if form not in ("text", "json"):
        hint = did_you_mean(form, ("text", "json")) or "expected 'text' or 'json'"
        raise ConfigError(f"unknown format '{form}'", where=Where(key=f"override 'format={form}'"), hint=hint)
    composed = request.compose()
    with located(composed):
        prepared = prepare(composed.job)
    screen = Screen()
    screen.line(prepared.explain_text() if form == "text" else json.dumps(prepared.explain(), indent=2))
    return OK
