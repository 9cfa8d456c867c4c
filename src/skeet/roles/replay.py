"""A recorded session through the very parser, sequences and topics of a live feed (``skeet feed replay``).

Frames of all files are merged by their time of receipt. Each frame's ``ts_init`` is the recorded one, so that a second
replay makes the same ids; what the log holds already is not written again. A file has no venue behind it: its gaps end as
unfillable. What is counted, and what is not published:

* every frame is a raw frame; trades, book tickers, the REST book and every diff that applies to it are events;
* diffs that the REST book already contains (``u <= lastUpdateId``) are raw frames only.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from skeet.agents.feed import FeedPublisher
from skeet.agents.feed_resume import LogEnd, read_log_ends
from skeet.config import Settings
from skeet.core.errors import DecodeError, InvalidInput, UnknownEvent
from skeet.core.market import GapOpened, InstrumentDefined, RawFrame
from skeet.core.values import NS_PER_S
from skeet.streams.registry import registered_codec
from skeet.venues.binance.capture import CapturedFrame, read_capture, stream_counts, symbols_of
from skeet.venues.binance.dropping import FrameDropper
from skeet.venues.binance.instruments import definition_from_capture, instrument_id, next_version, unified_symbol
from skeet.venues.binance.normaliser import LastIds, Normaliser
from skeet.venues.binance.parsers import MarketData, Parser

SAMPLE_FRAMES = 2_000
"""Frames at a file's beginning that tell its symbol and the decimals of its prices; the REST book stands among them."""
REPLAY_LINGER_MS = 20.0
"""Throughput matters here, not latency: batches fill up."""
POLL_EVERY = 256
"""Frames between two looks at the producer's failures."""
UNREADABLE_NAMED = 5
"""Unreadable lines that the summary names; all of them are dead letters."""

Progress = Callable[[int], None]
"""Called with the number of frames done so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """How to replay. ``speed`` multiplies the recorded pace; None is as fast as possible.

    ``symbol`` (unified) is for files whose frames do not tell theirs. ``drop_rate`` of trade and depth frames are lost by
    ``drop_seed`` (None: none are).
    """

    venue: str = "BINANCE"
    symbol: str = ""
    speed: float | None = None
    drop_seed: int | None = None
    drop_rate: float = 0.01


@dataclass(slots=True, kw_only=True)
class ReplaySummary:
    """What a replay did. ``written`` counts records by event type, ``gaps`` by channel."""

    frames: int = 0
    repeated: int = 0
    dropped: int = 0
    seconds: float = 0.0
    written: Counter[str] = field(default_factory=Counter)
    gaps: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0
    unreadable_lines: list[str] = field(default_factory=list)
    diffs_without_book: int = 0
    """Diffs held to the end because no REST book came: the session's earlier file has it."""

    @property
    def frames_per_second(self) -> float:
        return self.frames / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    path: Path
    venue_symbol: str
    connection_id: str
    definition: InstrumentDefined


def replay(
    settings: Settings, paths: Sequence[Path], options: ReplayOptions, progress: Progress | None = None
) -> ReplaySummary:
    """Push the files into the topics; returns once every record is acknowledged.

    Raises
    ------
    InvalidInput
        a file cannot be read as a capture (named, with its line); nothing is known of the frames behind it.
    InfrastructureError
        Kafka or the registry did not answer; the replay may be repeated.
    """
    files = [_inspect(path, options) for path in paths]
    codec = registered_codec(settings)
    ends = read_log_ends(settings, codec, {file.definition.instrument_id for file in files})
    publisher = FeedPublisher(settings, codec, linger_ms=REPLAY_LINGER_MS)
    run = _Replay(files, options, ends, publisher, progress or (lambda _: None))
    started = time.perf_counter()
    try:
        run.run()
    finally:
        publisher.close()
    run.summary.seconds = time.perf_counter() - started
    run.summary.written = publisher.written
    return run.summary


class _Replay:
    def __init__(
        self,
        files: Sequence[_File],
        options: ReplayOptions,
        ends: dict[str, LogEnd],
        publisher: FeedPublisher,
        progress: Progress,
    ) -> None:
        self._files, self._options, self._ends = files, options, ends
        self._publisher, self._progress = publisher, progress
        self._normaliser = Normaliser(
            {file.venue_symbol: file.definition.instrument_id for file in files},
            recoverable=False,
            last={
                each: LastIds(
                    trade_id=end.trade_id, book_update_id=end.book_update_id, quote_update_id=end.quote_update_id
                )
                for each, end in ends.items()
            },
        )
        self._dropper: FrameDropper | None = None
        if options.drop_seed is not None:
            totals = stream_counts(file.path for file in files)
            self._dropper = FrameDropper(options.drop_seed, options.drop_rate, totals)
        self.summary = ReplaySummary()

    def run(self) -> None:
        self._publish_definitions()
        pace = _Pace(self._options.speed)
        for file, frame in _merged(self._files):
            pace.wait(frame.received_ns)
            self._frame(file, frame)
            if self.summary.frames % POLL_EVERY == 0:
                self._publisher.poll()
                self._progress(self.summary.frames)
        self._progress(self.summary.frames)
        self.summary.diffs_without_book = sum(
            sequences.book.held for sequences in self._normaliser.sequences.values() if sequences.book.waiting
        )

    def _publish_definitions(self) -> None:
        first = {file.definition.instrument_id: file.definition for file in reversed(self._files)}
        known = {each: self._ends[each].definition for each in first}
        self._publisher.events(
            version for each, found in first.items() if (version := next_version(found, known[each])) is not None
        )

    def _frame(self, file: _File, frame: CapturedFrame) -> None:
        summary, instrument = self.summary, file.definition.instrument_id
        summary.frames += 1
        if self._dropper is not None:
            in_sync = not self._normaliser.sequences[instrument].book.waiting
            if self._dropper.drops(frame, in_sync=in_sync):
                summary.dropped += 1
                return
        raw = RawFrame(
            instrument_id=instrument,
            ts_event=frame.received_ns,
            ts_init=frame.received_ns,
            venue=self._options.venue,
            connection_id=file.connection_id,
            sequence=frame.line,
            payload=frame.payload,
        )
        try:
            normalised = self._normaliser.normalise(frame.payload, frame.received_ns, file.venue_symbol)
        except (DecodeError, UnknownEvent) as error:
            self._unreadable(file, frame, raw, error)
            return
        if normalised.fresh:
            self._publisher.frame(raw, normalised.events)
            if len(normalised.events) > 1:
                summary.gaps.update(e.channel.value for e in normalised.events if isinstance(e, GapOpened))
        elif normalised.instrument_id:
            summary.repeated += 1

    def _unreadable(self, file: _File, frame: CapturedFrame, raw: RawFrame, error: Exception) -> None:
        self._publisher.unreadable(raw, str(error))
        self.summary.unreadable += 1
        if len(self.summary.unreadable_lines) < UNREADABLE_NAMED:
            self.summary.unreadable_lines.append(f"{file.path}, line {frame.line}: {error}")


class _Pace:
    """Waits so that frames come in their recorded rhythm, faster or slower by a factor."""

    def __init__(self, speed: float | None) -> None:
        self._speed = speed
        self._begin: tuple[int, float] | None = None

    def wait(self, received_ns: int) -> None:
        if self._speed is None:
            return
        if self._begin is None:
            self._begin = (received_ns, time.monotonic())
        first_ns, started = self._begin
        delay = started + (received_ns - first_ns) / NS_PER_S / self._speed - time.monotonic()
        if delay > 0:
            time.sleep(delay)


def _merged(files: Sequence[_File]) -> Iterator[tuple[_File, CapturedFrame]]:
    """Frames of all files by time of receipt; those of one file stay in its order."""
    if len(files) == 1:
        return _labelled(files[0])
    return heapq.merge(*(_labelled(file) for file in files), key=_received)


def _labelled(file: _File) -> Iterator[tuple[_File, CapturedFrame]]:
    return ((file, frame) for frame in read_capture(file.path))


def _received(labelled: tuple[_File, CapturedFrame]) -> int:
    return labelled[1].received_ns


def _inspect(path: Path, options: ReplayOptions) -> _File:
    """What a file holds, from its first frames."""
    sample = list(islice(read_capture(path), SAMPLE_FRAMES))
    if not sample:
        raise InvalidInput(f"{path}: no frames in it")
    symbols = symbols_of(sample)
    if len(symbols) > 1:
        raise InvalidInput(f"{path}: frames of {', '.join(sorted(symbols))}; a file must hold one instrument")
    venue_symbol = next(iter(symbols), options.symbol.replace("/", ""))
    if not venue_symbol:
        raise InvalidInput(f"{path}: its frames name no symbol; name it: --symbol BASE/QUOTE")
    symbol = options.symbol if options.symbol.replace("/", "") == venue_symbol else unified_symbol(venue_symbol)
    definition = definition_from_capture(
        options.venue, symbol, venue_symbol, _readable(sample, venue_symbol, options.venue), sample[0].received_ns
    )
    return _File(
        path=path,
        venue_symbol=venue_symbol,
        connection_id=f"file:{path.name}:{sample[0].received_ns}",
        definition=definition,
    )


def _readable(sample: Sequence[CapturedFrame], venue_symbol: str, venue: str) -> Iterator[MarketData]:
    parser = Parser({venue_symbol: instrument_id(venue, venue_symbol)})
    for frame in sample:
        try:
            event = parser.parse(frame.payload, frame.received_ns, venue_symbol)
        except (DecodeError, UnknownEvent):
            continue  # Counted and dead-lettered when the file is replayed.
        if event is not None:
            yield event
