"""The exchange as one durable thing: commands in, outcomes out, everything on disk before anyone hears of it.

``execute`` is the only way in:

1. the command is appended to the command log;
2. engine and flow carry it out (deterministically);
3. account events go to the accounts' journal, trades to the tape;
4. listeners (market streams, user streams) hear of it, and the caller gets its answer.

A process killed anywhere in between is made whole by `_recover`: newest snapshot, then the commands after it again. What
step 3 had already written must equal what the replay makes, so a difference is found and named, never papered over.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skeet.core.errors import InfrastructureError
from skeet.venues.sim.account_events import AccountEvent
from skeet.venues.sim.bars import MINUTE_MS, Bar, BarSeries
from skeet.venues.sim.blotter import Blotter, OrderView
from skeet.venues.sim.commands import NS_PER_S, Command, StepFlow, from_record, perform, to_record
from skeet.venues.sim.engine import Engine, Outcome
from skeet.venues.sim.flow import Flow
from skeet.venues.sim.history import HISTORY_SYMBOLS, past_bars
from skeet.venues.sim.instruments import CommissionAsset, default_instruments
from skeet.venues.sim.journal import AccountJournal
from skeet.venues.sim.linefile import LineFile
from skeet.venues.sim.orders import Rejection, Trade
from skeet.venues.sim.snapshot import SnapshotStore, dump_engine, load_engine
from skeet.venues.sim.tape import KEEP_TRADES, Tape, TapeTrade

MAX_CATCH_UP_NS = 500_000_000
"""After a stall the flow plays at most this much wall time at once; the rest of the silence stays silent."""
SNAPSHOT_AFTER = 40_000
"""Trades, quotes and account events after which a snapshot is taken: replaying as many takes about two seconds."""
WARM_UP_S = 20.0
"""Flow played before the first customer comes, so that there is a book."""

Clock = Callable[[], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeOptions:
    """What a fresh exchange is made of. `history_days` of bars and `history_trades_s` of trades lie before its start."""

    seed: int = 7
    commission: CommissionAsset = CommissionAsset.QUOTE
    history_days: int = 0
    history_trades_s: int = 0
    fsync: bool = False


@dataclass(slots=True)
class Report:
    """What listeners hear: an outcome, and beside each account event its order as it stood right after it."""

    outcome: Outcome
    account_events: list[tuple[AccountEvent, OrderView | None]] = field(default_factory=list)


class Exchange:
    """Engine, flow, journal, tape and blotter behind one `execute`. Not thread-safe: one event loop owns it."""

    def __init__(self, directory: Path, clock: Clock, options: ExchangeOptions | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.options = options or ExchangeOptions()
        self.directory = directory
        self.instruments = default_instruments(self.options.commission)
        self.engine = Engine(self.instruments)
        self.flow = Flow(self.engine, self.options.seed)
        self.blotter = Blotter()
        self.tapes = {symbol: Tape(directory, symbol) for symbol in self.instruments}
        self.bars = {symbol: BarSeries(directory, symbol) for symbol in self.instruments}
        self.listeners: list[Callable[[Report], None]] = []
        self._clock = clock
        self._now_ns = 0
        self._work = 0
        self._journal = AccountJournal(directory, fsync=self.options.fsync)
        self._snapshots = SnapshotStore(directory, fsync=self.options.fsync)
        self._number = 0
        self._log: LineFile | None = None
        self._recover()

    # --- living -------------------------------------------------------------------------------------------------------

    @property
    def now_ns(self) -> int:
        """The wall clock, never going back."""
        return max(self._clock(), self._now_ns)

    def execute(self, command: Command) -> int:
        """Log, perform, record and announce one command; returns the id it made (order or transfer), else 0.

        Raises
        ------
        Rejection
            the engine refused; the refusal changed nothing.
        """
        ts_ns = self.now_ns
        assert self._log is not None
        self._log.append([to_record(command, ts_ns)])
        try:
            return self._perform(command, ts_ns)
        finally:
            if self._work >= SNAPSHOT_AFTER:
                self.snapshot()

    def step_flow(self, speed: float) -> None:
        """Play the background flow up to now, `speed` seconds of it for each second of the wall clock."""
        now = self.now_ns
        elapsed = min(now - self._now_ns, MAX_CATCH_UP_NS)
        if elapsed > 0:
            self.execute(StepFlow(from_ns=now - elapsed, flow_ns=int(elapsed * speed)))

    def rest_flow(self) -> None:
        """Let the time since the last step pass in silence (the flow is paused)."""
        self._now_ns = self.now_ns

    def snapshot(self) -> None:
        """Write the memory down and start a new command log, so that a restart has little to replay."""
        for tape in self.tapes.values():
            if len(tape.file) - tape.file.base > KEEP_TRADES:
                tape.file.drop_before(len(tape.file) - KEEP_TRADES // 2)
        self._number += 1
        self._snapshots.write(self._number, self._dump())
        self._start_log()
        self._work = 0

    def close(self) -> None:
        """Snapshot and close the files."""
        self.snapshot()
        assert self._log is not None
        self._log.close()
        self._journal.close()
        for symbol in self.instruments:
            self.tapes[symbol].file.close()
            self.bars[symbol].file.close()

    # --- carrying out -------------------------------------------------------------------------------------------------

    def _perform(self, command: Command, ts_ns: int) -> int:
        try:
            return perform(self.engine, self.flow, command, ts_ns)
        finally:
            self._now_ns = ts_ns
            outcome = self.engine.take()
            self._record(outcome)

    def _record(self, outcome: Outcome) -> None:
        self._work += 1 + len(outcome.trades) + len(outcome.tops) + len(outcome.events)
        if outcome.events:
            self._journal.append(outcome.events)
        for symbol, trades in _by_symbol(outcome.trades).items():
            self.tapes[symbol].append([_tape_trade(trade) for trade in trades])
            bars = self.bars[symbol]
            for trade in trades:
                bars.add(trade.ts_ns, trade.price, trade.quantity, buyer_took=not trade.buyer_is_maker)
        report = Report(outcome)
        for event in outcome.events:
            view = self.blotter.apply(event)
            # A copy, because several fills of one order come in one report and each must show its own sums.
            report.account_events.append((event, copy(view) if self.listeners else view))
        for listener in self.listeners:
            listener(report)

    # --- dying and coming back ----------------------------------------------------------------------------------------

    def _recover(self) -> None:
        found = self._snapshots.newest()
        if found is None:
            self._begin()
            return
        self._number, content = found
        if content["seed"] != self.options.seed or content["commission"] != self.options.commission:
            raise InfrastructureError(
                f"{self.directory} belongs to an exchange with seed {content['seed']} and commission in "
                f"{content['commission']}; use these settings, or another data directory"
            )
        self._load(content)
        # More than one log follows only a snapshot whose successor cannot be read.
        for number in self._snapshots.logs_from(self._number):
            self._number = number
            self._start_log()
            self._replay()
        if self._log is None:
            self._start_log()
        self._journal.finish_replay()

    def _replay(self) -> None:
        assert self._log is not None
        for record in self._log.read():
            command, ts_ns = from_record(record)
            try:
                self._perform(command, ts_ns)
            except Rejection:
                pass  # it was refused then, too

    def _begin(self) -> None:
        """A fresh exchange: history, a warm book, the first snapshot."""
        if next(self._journal.read(0), None) is not None or self._journal.lines:
            raise InfrastructureError(f"{self.directory} has a journal but no snapshot; move it away to start afresh")
        for symbol in self.instruments:
            self.tapes[symbol].file.truncate(0)
            self.bars[symbol].file.truncate(0)
        self._now_ns = self._clock()
        self._write_history()
        self.snapshot()

    def _write_history(self) -> None:
        """Bars drawn at once, then trades by playing the flow through the last part of the past, up to now."""
        trades_ns = self.options.history_trades_s * NS_PER_S
        first_minute = (self._now_ns - trades_ns) // (MINUTE_MS * 1_000_000)
        with_history = [self.instruments[symbol] for symbol in HISTORY_SYMBOLS]
        minutes = self.options.history_days * 1_440 - self.options.history_trades_s // 60
        if minutes > 0:
            for symbol, bars in past_bars(with_history, self.options.seed, minutes, first_minute * MINUTE_MS).items():
                self.bars[symbol].file.append(bars)
        for end in range(self._now_ns - trades_ns, self._now_ns, NS_PER_S):
            self.flow.advance(1.0, end - NS_PER_S, end, HISTORY_SYMBOLS)
            self._record(self.engine.take())
        self.flow.advance(WARM_UP_S, self._now_ns - NS_PER_S, self._now_ns)
        self._record(self.engine.take())

    def _start_log(self) -> None:
        if self._log is not None:
            self._log.close()
        self._log = LineFile(self._snapshots.commands_path(self._number), fsync=self.options.fsync)

    def _dump(self) -> dict[str, Any]:
        return {
            "format": 1,
            "seed": self.options.seed,
            "commission": self.options.commission,
            "now_ns": self._now_ns,
            "journal_lines": self._journal.lines,
            "engine": dump_engine(self.engine),
            "flow": {symbol: each.dump() for symbol, each in self.flow.instruments.items()},
            "tapes": {symbol: len(tape.file) for symbol, tape in self.tapes.items()},
            "bars": {
                symbol: [len(series.file), list(series.open) if series.open else None]
                for symbol, series in self.bars.items()
            },
        }

    def _load(self, content: dict[str, Any]) -> None:
        self._now_ns = content["now_ns"]
        for event in self._journal.read(content["journal_lines"]):
            self.engine.remember(event)
            self.blotter.apply(event)
        load_engine(self.engine, content["engine"])
        for symbol, dumped in content["flow"].items():
            self.flow.instruments[symbol].load(dumped)
        for symbol, count in content["tapes"].items():
            self.tapes[symbol].file.truncate(count)
        for symbol, (count, open_bar) in content["bars"].items():
            self.bars[symbol].file.truncate(count)
            self.bars[symbol].open = None if open_bar is None else Bar(*open_bar)


def _by_symbol(trades: list[Trade]) -> dict[str, list[Trade]]:
    grouped: dict[str, list[Trade]] = {}
    for trade in trades:
        grouped.setdefault(trade.symbol, []).append(trade)
    return grouped


def _tape_trade(trade: Trade) -> TapeTrade:
    return TapeTrade(
        trade.trade_id, trade.aggregate_id, trade.price, trade.quantity, trade.ts_ns, int(trade.buyer_is_maker)
    )
