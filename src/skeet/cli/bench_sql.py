"""``skeet bench sql``: the saved example queries on synthetic history."""

from __future__ import annotations

from typing import Annotated

import typer

from skeet.cli.output import console, print_json, print_rows
from skeet.config import load_settings
from skeet.core.errors import SkeetError
from skeet.projections.bench_sql import LIMIT_S, discard, measure, prepare


def sql(
    trades: Annotated[int, typer.Option(help="Synthetic trades; half as many quotes, one order in 500.")] = 10_000_000,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the synthetic database (NAME_bench) behind.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time each example query of docs/queries on synthetic trades; fails when one takes a second or more."""
    with console().status("making synthetic history …") as shown:
        store = prepare(load_settings(), trades, lambda what: shown.update(f"making synthetic {what} …"))
        try:
            shown.update("running the example queries …")
            timings = measure(store)
        finally:
            if not keep:
                discard(store)
    rows = [
        {
            "query": timing.query,
            "trades": trades,
            "rows": timing.rows,
            "median_s": round(timing.seconds, 3),
            "limit_s": LIMIT_S,
            "ok": timing.within_limit,
        }
        for timing in timings
    ]
    print_rows("", rows, as_json=False) if not as_json else print_json(rows)
    slow = [timing.query for timing in timings if not timing.within_limit]
    if slow:
        raise SkeetError(f"{', '.join(slow)} took {LIMIT_S:.0f} s or more on {trades} trades")
