-- The history of every topic flagged history=True, one row a record, exactly as a read_committed consumer was delivered it.
--
-- Every table begins with where the record stands in the log. PARTITION BY the log's month, never the event's: positions
-- and append times rise together, so one inserted block never spans two table partitions, and a block is all or nothing.
-- The deduplication window is counted in blocks and must exceed the blocks in flight (partitions x projection instances).

CREATE TABLE projection_store
(
    store_id String COMMENT 'random identity of this database, made once: a position committed for another store does not apply here',
    created_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when this database was made (UTC)'
)
ENGINE = MergeTree ORDER BY store_id
COMMENT 'identity of this copy of the history';

CREATE TABLE trades
(
    log_topic LowCardinality(String) DEFAULT 'market.trades.v1' COMMENT 'topic, without the installation prefix',
    log_partition UInt16 COMMENT 'partition of the topic',
    log_offset UInt64 COMMENT 'offset in the partition',
    log_ts DateTime64(3, 'UTC') COMMENT 'append time of the broker (UTC, ms)',
    record_crc UInt32 COMMENT 'CRC-32 (zlib) of the record value as it stands in Kafka',
    instrument_id LowCardinality(String) COMMENT 'VENUE:BASE/QUOTE',
    ts_event DateTime64(9, 'UTC') COMMENT 'time of the trade at the venue (UTC, ns)',
    ts_init DateTime64(9, 'UTC') COMMENT 'when the frame reached SKEET (UTC, ns)',
    trade_id String COMMENT 'the venue''s trade id, unique per instrument',
    price Decimal(38, 18) COMMENT 'quote units per base unit, exact',
    size Decimal(38, 18) COMMENT 'base units, exact',
    price_scale UInt8 COMMENT 'decimal places of the price on the wire',
    size_scale UInt8 COMMENT 'decimal places of the size on the wire',
    aggressor_side LowCardinality(String) COMMENT 'side of the taker: BUY, SELL, UNKNOWN',
    backfilled Bool COMMENT 'fetched by REST after a gap instead of received live',
    event_id String ALIAS lower(hex(substring(SHA256(concat(unhex('000000055472616465'), reinterpretAsFixedString(byteSwap(toUInt32(length(instrument_id)))), instrument_id, reinterpretAsFixedString(byteSwap(toUInt32(length(trade_id)))), trade_id)), 1, 16))) COMMENT 'derived id of the trade (computed when asked for); causation_id of what it caused'
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(log_ts)
ORDER BY (instrument_id, ts_event, log_offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'trades of market.trades.v1; a feed that was restarted may have written one twice (same trade_id)';

CREATE TABLE quotes
(
    log_topic LowCardinality(String) DEFAULT 'market.quotes.v1' COMMENT 'topic, without the installation prefix',
    log_partition UInt16 COMMENT 'partition of the topic',
    log_offset UInt64 COMMENT 'offset in the partition',
    log_ts DateTime64(3, 'UTC') COMMENT 'append time of the broker (UTC, ms)',
    record_crc UInt32 COMMENT 'CRC-32 (zlib) of the record value as it stands in Kafka',
    instrument_id LowCardinality(String) COMMENT 'VENUE:BASE/QUOTE',
    ts_event DateTime64(9, 'UTC') COMMENT 'time of the quote at the venue, ours where it gives none (UTC, ns)',
    ts_init DateTime64(9, 'UTC') COMMENT 'when the frame reached SKEET (UTC, ns)',
    update_id Int64 COMMENT 'the venue''s book update that made the quote',
    bid_price Decimal(38, 18) COMMENT 'best bid, quote units per base unit, exact',
    bid_size Decimal(38, 18) COMMENT 'size at the best bid, base units, exact',
    ask_price Decimal(38, 18) COMMENT 'best ask, quote units per base unit, exact',
    ask_size Decimal(38, 18) COMMENT 'size at the best ask, base units, exact',
    price_scale UInt8 COMMENT 'decimal places of prices on the wire',
    size_scale UInt8 COMMENT 'decimal places of sizes on the wire',
    event_id String ALIAS lower(hex(substring(SHA256(concat(unhex('0000000551756F7465'), reinterpretAsFixedString(byteSwap(toUInt32(length(instrument_id)))), instrument_id, reinterpretAsFixedString(byteSwap(toUInt32(length(toString(update_id))))), toString(update_id))), 1, 16))) COMMENT 'derived id of the quote (computed when asked for); causation_id of what it caused'
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(log_ts)
ORDER BY (instrument_id, ts_event, log_offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'best bid and ask, every change, from market.quotes.v1';

CREATE TABLE book_updates
(
    log_topic LowCardinality(String) DEFAULT 'market.books.v1' COMMENT 'topic, without the installation prefix',
    log_partition UInt16 COMMENT 'partition of the topic',
    log_offset UInt64 COMMENT 'offset in the partition',
    log_ts DateTime64(3, 'UTC') COMMENT 'append time of the broker (UTC, ms)',
    record_crc UInt32 COMMENT 'CRC-32 (zlib) of the record value as it stands in Kafka',
    event_type LowCardinality(String) COMMENT 'BookSnapshot (replaces the book) or BookDelta (changes levels)',
    instrument_id LowCardinality(String) COMMENT 'VENUE:BASE/QUOTE',
    ts_event DateTime64(9, 'UTC') COMMENT 'time of the update at the venue (UTC, ns)',
    ts_init DateTime64(9, 'UTC') COMMENT 'when the frame reached SKEET (UTC, ns)',
    first_update_id Int64 COMMENT 'first book update included; of a snapshot its last_update_id',
    last_update_id Int64 COMMENT 'last book update included',
    bid_prices Array(Decimal(38, 18)) COMMENT 'bid levels, quote units per base unit, exact; a snapshot is best first',
    bid_sizes Array(Decimal(38, 18)) COMMENT 'size at each bid level, base units, exact; 0 removes the level',
    ask_prices Array(Decimal(38, 18)) COMMENT 'ask levels, quote units per base unit, exact; a snapshot is best first',
    ask_sizes Array(Decimal(38, 18)) COMMENT 'size at each ask level, base units, exact; 0 removes the level',
    price_scale UInt8 COMMENT 'decimal places of prices on the wire',
    size_scale UInt8 COMMENT 'decimal places of sizes on the wire'
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(log_ts)
ORDER BY (instrument_id, ts_event, log_offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'order book snapshots and deltas of market.books.v1';

CREATE TABLE bars
(
    log_topic LowCardinality(String) DEFAULT 'market.bars.v1' COMMENT 'topic, without the installation prefix',
    log_partition UInt16 COMMENT 'partition of the topic',
    log_offset UInt64 COMMENT 'offset in the partition',
    log_ts DateTime64(3, 'UTC') COMMENT 'append time of the broker (UTC, ms)',
    record_crc UInt32 COMMENT 'CRC-32 (zlib) of the record value as it stands in Kafka',
    event_id String COMMENT 'derived id of the bar; causation_id of what it caused',
    cause_at String COMMENT 'topic/partition/offset of the record that closed it; empty for history fetched from the venue',
    through_at String COMMENT 'topic/partition/offset of the last trade taken into account; empty for history fetched from the venue',
    instrument_id LowCardinality(String) COMMENT 'VENUE:BASE/QUOTE',
    ts_event DateTime64(9, 'UTC') COMMENT 'equal to ts_close (UTC, ns)',
    ts_init DateTime64(9, 'UTC') COMMENT 'when the frame that closed it reached SKEET (UTC, ns)',
    interval LowCardinality(String) COMMENT 'length of the bar: 1s, 1m',
    ts_open DateTime64(9, 'UTC') COMMENT 'start of the interval, included (UTC, ns)',
    ts_close DateTime64(9, 'UTC') COMMENT 'end of the interval, excluded (UTC, ns)',
    revision Int64 COMMENT 'rises when a bar is published again',
    open Decimal(38, 18) COMMENT 'first price, quote units per base unit, exact',
    high Decimal(38, 18) COMMENT 'highest price, quote units per base unit, exact',
    low Decimal(38, 18) COMMENT 'lowest price, quote units per base unit, exact',
    close Decimal(38, 18) COMMENT 'last price, quote units per base unit, exact',
    volume Decimal(38, 18) COMMENT 'traded, base units, exact',
    buy_volume Decimal(38, 18) COMMENT 'traded by aggressive buyers, base units, exact',
    quote_volume Decimal(38, 18) COMMENT 'sum of price x size, quote units, exact',
    trade_count Int64 COMMENT 'trades in the bar',
    late_trades Int64 COMMENT 'trades that came after an earlier bar had closed; they are in no bar',
    complete Bool COMMENT 'false while a gap in the trades was open',
    price_scale UInt8 COMMENT 'decimal places of prices on the wire',
    size_scale UInt8 COMMENT 'decimal places of volumes on the wire'
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(log_ts)
ORDER BY (instrument_id, interval, ts_open, log_offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'bars of market.bars.v1, each closed once';

CREATE TABLE market_status
(
    log_topic LowCardinality(String) DEFAULT 'market.status.v1' COMMENT 'topic, without the installation prefix',
    log_partition UInt16 COMMENT 'partition of the topic',
    log_offset UInt64 COMMENT 'offset in the partition',
    log_ts DateTime64(3, 'UTC') COMMENT 'append time of the broker (UTC, ms)',
    record_crc UInt32 COMMENT 'CRC-32 (zlib) of the record value as it stands in Kafka',
    event_type LowCardinality(String) COMMENT 'GapOpened, GapClosed, MarketDataStale, MarketDataResumed, VenueStatusChanged',
    event_id String COMMENT 'derived id of the event',
    instrument_id LowCardinality(String) COMMENT 'VENUE:BASE/QUOTE',
    ts_event DateTime64(9, 'UTC') COMMENT 'time of the event (UTC, ns)',
    ts_init DateTime64(9, 'UTC') COMMENT 'when its cause reached SKEET (UTC, ns)',
    channel LowCardinality(String) COMMENT 'of gaps: TRADES, BOOK, QUOTES; else empty',
    first_missing Nullable(Int64) COMMENT 'of gaps: first id that did not arrive (trade id or book update id)',
    last_missing Nullable(Int64) COMMENT 'of gaps: last id that did not arrive',
    outcome LowCardinality(String) COMMENT 'of closed gaps: FILLED, RESYNCED, UNFILLABLE; else empty',
    recovered Nullable(Int64) COMMENT 'of closed gaps: ids that were fetched afterwards',
    reason String COMMENT 'why, in words',
    last_seen Nullable(DateTime64(9, 'UTC')) COMMENT 'of MarketDataStale: when the instrument was last heard of (UTC, ns)',
    venue LowCardinality(String) COMMENT 'of VenueStatusChanged: the venue',
    status LowCardinality(String) COMMENT 'of VenueStatusChanged: UP, DEGRADED, DOWN'
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(log_ts)
ORDER BY (instrument_id, ts_event, log_offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'gaps, silences and venue states of market.status.v1; they qualify the market history';

CREATE TABLE instruments
(
    log_topic LowCardinality(String) DEFAULT 'instruments.v1' COMMENT 'topic, without the installation prefix',
    log_partition UInt16 COMMENT 'partition of the topic',
    log_offset UInt64 COMMENT 'offset in the partition',
    log_ts DateTime64(3, 'UTC') COMMENT 'append time of the broker (UTC, ms)',
    record_crc UInt32 COMMENT 'CRC-32 (zlib) of the record value as it stands in Kafka',
    event_id String COMMENT 'derived id of the event',
    instrument_id LowCardinality(String) COMMENT 'VENUE:BASE/QUOTE',
    ts_event DateTime64(9, 'UTC') COMMENT 'from when the version was seen (UTC, ns)',
    ts_init DateTime64(9, 'UTC') COMMENT 'when the venue''s answer reached SKEET (UTC, ns)',
    version Int64 COMMENT 'number of the version; decisions name the one they used',
    venue LowCardinality(String) COMMENT 'the venue',
    symbol String COMMENT 'unified symbol BASE/QUOTE',
    venue_symbol String COMMENT 'the venue''s own symbol',
    base LowCardinality(String) COMMENT 'base asset',
    quote LowCardinality(String) COMMENT 'quote asset',
    active Bool COMMENT 'whether the venue takes orders',
    tick_size Decimal(38, 18) COMMENT 'price step, quote units',
    step_size Decimal(38, 18) COMMENT 'quantity step, base units',
    min_quantity Decimal(38, 18) COMMENT 'smallest order, base units; 0: none',
    max_quantity Decimal(38, 18) COMMENT 'largest order, base units; 0: none',
    min_notional Decimal(38, 18) COMMENT 'smallest order value, quote units; 0: none',
    max_notional Decimal(38, 18) COMMENT 'largest order value, quote units; 0: none',
    maker_fee Decimal(38, 18) COMMENT 'fee of a maker, fraction of the notional',
    taker_fee Decimal(38, 18) COMMENT 'fee of a taker, fraction of the notional',
    price_scale UInt8 COMMENT 'decimal places of prices',
    size_scale UInt8 COMMENT 'decimal places of quantities'
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(log_ts)
ORDER BY (instrument_id, version, log_offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'every version of every instrument''s rules, from instruments.v1';

CREATE TABLE signals
(
    log_topic LowCardinality(String) DEFAULT 'signals.v1' COMMENT 'topic, without the installation prefix',
    log_partition UInt16 COMMENT 'partition of the topic',
    log_offset UInt64 COMMENT 'offset in the partition',
    log_ts DateTime64(3, 'UTC') COMMENT 'append time of the broker (UTC, ms)',
    record_crc UInt32 COMMENT 'CRC-32 (zlib) of the record value as it stands in Kafka',
    event_id String COMMENT 'derived id of the signal; causation_id of what it caused',
    causation_id String COMMENT 'event_id of the record that completed the computation',
    cause_at String COMMENT 'topic/partition/offset of that record',
    instrument_id LowCardinality(String) COMMENT 'VENUE:BASE/QUOTE',
    ts_event DateTime64(9, 'UTC') COMMENT 'time of the causing record (UTC, ns)',
    ts_init DateTime64(9, 'UTC') COMMENT 'when the frame that started it reached SKEET (UTC, ns)',
    name LowCardinality(String) COMMENT 'the rule',
    version LowCardinality(String) COMMENT 'version of the rule',
    interval LowCardinality(String) COMMENT 'bar interval it works on; empty: every record',
    parameters Map(String, String) COMMENT 'the rule''s parameters',
    values Map(String, Float64) COMMENT 'computed values (doubles, never amounts)'
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(log_ts)
ORDER BY (instrument_id, name, ts_event, log_offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'signals of signals.v1';

CREATE TABLE commands
(
    log_topic LowCardinality(String) DEFAULT 'orders.commands.v1' COMMENT 'topic, without the installation prefix',
    log_partition UInt16 COMMENT 'partition of the topic',
    log_offset UInt64 COMMENT 'offset in the partition',
    log_ts DateTime64(3, 'UTC') COMMENT 'append time of the broker (UTC, ms)',
    record_crc UInt32 COMMENT 'CRC-32 (zlib) of the record value as it stands in Kafka',
    event_type LowCardinality(String) COMMENT 'OpenAccount, Deposit, SubmitOrder, CancelOrder, CancelAllOrders',
    event_id String COMMENT 'the command id; causation_id of what it caused',
    tenant_id LowCardinality(String) COMMENT 'tenant',
    account_id LowCardinality(String) COMMENT 'account it is asked of',
    principal_id LowCardinality(String) COMMENT 'who asked',
    correlation_id String COMMENT 'id of what started it all',
    causation_id String COMMENT 'event_id of the record just before; its own id when it came from outside',
    cause_at String COMMENT 'topic/partition/offset of that record; empty when it came from outside',
    ts_event DateTime64(9, 'UTC') COMMENT 'time of the command (UTC, ns)',
    ts_init DateTime64(9, 'UTC') COMMENT 'when the outside thing that started it reached SKEET (UTC, ns)',
    ts_cause DateTime64(9, 'UTC') COMMENT 'append time of the causing record (UTC)',
    valid_until DateTime64(9, 'UTC') COMMENT 'the desk refuses it afterwards (UTC, ns)',
    order_id String COMMENT 'the order: of SubmitOrder the command id itself, of CancelOrder its target',
    book_id LowCardinality(String) COMMENT 'sub-book (strategy instance, or manual)',
    instrument_id LowCardinality(String) COMMENT 'VENUE:BASE/QUOTE',
    side LowCardinality(String) COMMENT 'BUY or SELL',
    order_type LowCardinality(String) COMMENT 'LIMIT or MARKET',
    time_in_force LowCardinality(String) COMMENT 'GTC, IOC, FOK',
    post_only Bool COMMENT 'must not take liquidity',
    quantity Nullable(Decimal(38, 18)) COMMENT 'of orders: base units',
    limit_price Nullable(Decimal(38, 18)) COMMENT 'of limit orders: quote units per base unit',
    code_version String COMMENT 'SHA-256 of the strategy''s sources and parameters; empty for a person',
    rule LowCardinality(String) COMMENT 'which of the strategy''s rules asked',
    venue LowCardinality(String) COMMENT 'of OpenAccount: the venue',
    label String COMMENT 'of OpenAccount: name shown to people',
    asset LowCardinality(String) COMMENT 'of Deposit: the asset',
    amount Nullable(Decimal(38, 18)) COMMENT 'of Deposit: units of the asset',
    external_ref String COMMENT 'of Deposit: the venue''s transfer id'
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(log_ts)
ORDER BY (account_id, ts_event, log_offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'what was asked of accounts, from orders.commands.v1';

CREATE TABLE venue_reports
(
    log_topic LowCardinality(String) DEFAULT 'venue.reports.v1' COMMENT 'topic, without the installation prefix',
    log_partition UInt16 COMMENT 'partition of the topic',
    log_offset UInt64 COMMENT 'offset in the partition',
    log_ts DateTime64(3, 'UTC') COMMENT 'append time of the broker (UTC, ms)',
    record_crc UInt32 COMMENT 'CRC-32 (zlib) of the record value as it stands in Kafka',
    event_type LowCardinality(String) COMMENT 'SubmitAttempted, SubmitAcknowledged, FillReported …: the report''s type',
    event_id String COMMENT 'id of the report; causation_id of what it caused',
    tenant_id LowCardinality(String) COMMENT 'tenant',
    account_id LowCardinality(String) COMMENT 'account',
    principal_id LowCardinality(String) COMMENT 'who reported',
    correlation_id String COMMENT 'id of what started it all',
    causation_id String COMMENT 'event_id of the record just before',
    cause_at String COMMENT 'topic/partition/offset of that record; empty when the venue was the cause',
    ts_event DateTime64(9, 'UTC') COMMENT 'time at the venue where it gives one, else ours (UTC, ns)',
    ts_init DateTime64(9, 'UTC') COMMENT 'when the outside thing that started it reached SKEET (UTC, ns)',
    order_id String COMMENT 'the order; empty on balances',
    client_order_id String COMMENT 'the id the venue was given',
    instrument_id LowCardinality(String) COMMENT 'VENUE:BASE/QUOTE',
    venue_order_id String COMMENT 'the venue''s order id',
    sent_ts Nullable(DateTime64(9, 'UTC')) COMMENT 'of attempts: the timestamp signed into the request (UTC, ns)',
    send_until Nullable(DateTime64(9, 'UTC')) COMMENT 'of attempts: the venue refuses the request afterwards (UTC, ns)',
    written_ts Nullable(DateTime64(9, 'UTC')) COMMENT 'of acknowledgements: just before the socket write (UTC, ns); null when learned by asking',
    answered_ts Nullable(DateTime64(9, 'UTC')) COMMENT 'of acknowledgements: just after the answer (UTC, ns); null when learned by asking',
    trade_id String COMMENT 'of fills: the venue''s trade id',
    side LowCardinality(String) COMMENT 'of attempts and fills: BUY or SELL',
    quantity Nullable(Decimal(38, 18)) COMMENT 'of attempts and fills: base units',
    limit_price Nullable(Decimal(38, 18)) COMMENT 'of attempts: quote units per base unit',
    price Nullable(Decimal(38, 18)) COMMENT 'of fills: quote units per base unit',
    fee Nullable(Decimal(38, 18)) COMMENT 'of fills: units of fee_asset',
    fee_asset LowCardinality(String) COMMENT 'of fills: asset of the fee',
    liquidity LowCardinality(String) COMMENT 'of fills: MAKER or TAKER',
    cancel_id String COMMENT 'of cancel attempts and refusals: id of the CancelOrder command',
    filled_quantity Nullable(Decimal(38, 18)) COMMENT 'of cancels and expiries: executed before, base units',
    code String COMMENT 'of refusals: the venue''s code',
    reason String COMMENT 'why, in words',
    evidence String COMMENT 'of OrderFoundAbsent: how it is known',
    asset LowCardinality(String) COMMENT 'of balances: the asset',
    free Nullable(Decimal(38, 18)) COMMENT 'of balances: free at the venue, units of the asset',
    locked Nullable(Decimal(38, 18)) COMMENT 'of balances: locked at the venue, units of the asset',
    INDEX order_ids order_id TYPE bloom_filter GRANULARITY 4
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(log_ts)
ORDER BY (account_id, ts_event, log_offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'the venues'' facts, from venue.reports.v1';

CREATE TABLE account_events
(
    log_topic LowCardinality(String) DEFAULT 'accounts.events.v1' COMMENT 'topic, without the installation prefix',
    log_partition UInt16 COMMENT 'partition of the topic',
    log_offset UInt64 COMMENT 'offset in the partition',
    log_ts DateTime64(3, 'UTC') COMMENT 'append time of the broker (UTC, ms)',
    record_crc UInt32 COMMENT 'CRC-32 (zlib) of the record value as it stands in Kafka',
    event_type LowCardinality(String) COMMENT 'OrderAuthorized, OrderFilled, FundsDeposited …: the event''s type',
    event_id String COMMENT 'id of the event; causation_id of what it caused',
    tenant_id LowCardinality(String) COMMENT 'tenant',
    account_id LowCardinality(String) COMMENT 'account; ~N on ControlApplied of partition N',
    principal_id LowCardinality(String) COMMENT 'on whose behalf',
    correlation_id String COMMENT 'id of what started it all',
    causation_id String COMMENT 'event_id of the command or report decided on',
    cause_at String COMMENT 'topic/partition/offset of that record',
    ts_event DateTime64(9, 'UTC') COMMENT 'the venue''s time where it has one, else the desk''s (UTC, ns)',
    ts_init DateTime64(9, 'UTC') COMMENT 'when the outside thing that started it reached SKEET (UTC, ns)',
    stream_version Int64 COMMENT 'number of the event in its account''s stream, from 1 without holes',
    order_id String COMMENT 'the order; empty where there is none',
    book_id LowCardinality(String) COMMENT 'sub-book (strategy instance, or manual)',
    instrument_id LowCardinality(String) COMMENT 'VENUE:BASE/QUOTE',
    status LowCardinality(String) COMMENT 'of order events: status of the order after it',
    side LowCardinality(String) COMMENT 'BUY or SELL',
    order_type LowCardinality(String) COMMENT 'LIMIT or MARKET',
    time_in_force LowCardinality(String) COMMENT 'GTC, IOC, FOK',
    post_only Bool COMMENT 'must not take liquidity',
    quantity Nullable(Decimal(38, 18)) COMMENT 'base units: of the order, or of the fill',
    limit_price Nullable(Decimal(38, 18)) COMMENT 'quote units per base unit; a market order''s collar',
    price Nullable(Decimal(38, 18)) COMMENT 'of fills: quote units per base unit',
    fee Nullable(Decimal(38, 18)) COMMENT 'of fills: units of fee_asset',
    fee_asset LowCardinality(String) COMMENT 'of fills: asset of the fee',
    liquidity LowCardinality(String) COMMENT 'of fills: MAKER or TAKER',
    trade_id String COMMENT 'of fills: the venue''s trade id',
    venue_order_id String COMMENT 'the venue''s order id',
    filled_quantity Nullable(Decimal(38, 18)) COMMENT 'executed so far, base units',
    leaves_quantity Nullable(Decimal(38, 18)) COMMENT 'still open, base units',
    outcome LowCardinality(String) COMMENT 'of OrderEndAwaitsFills: the end the order comes to once its fills are booked',
    ts_cause Nullable(DateTime64(9, 'UTC')) COMMENT 'of authorisations: append time of the causing record (UTC)',
    valid_until Nullable(DateTime64(9, 'UTC')) COMMENT 'of authorisations: the gateway may not send afterwards (UTC, ns)',
    sent_ts Nullable(DateTime64(9, 'UTC')) COMMENT 'of OrderSubmitted: the timestamp signed into the request (UTC, ns)',
    send_until Nullable(DateTime64(9, 'UTC')) COMMENT 'of OrderSubmitted: the venue refuses the request afterwards (UTC, ns)',
    code_version String COMMENT 'SHA-256 of the strategy''s sources and parameters; empty for a person',
    rule LowCardinality(String) COMMENT 'which of the strategy''s rules asked',
    reserved_asset LowCardinality(String) COMMENT 'of authorisations: asset set aside',
    reserved_amount Nullable(Decimal(38, 18)) COMMENT 'of authorisations: units of reserved_asset set aside',
    reference_bid Nullable(Decimal(38, 18)) COMMENT 'of decisions: best bid used, quote units per base unit',
    reference_ask Nullable(Decimal(38, 18)) COMMENT 'of decisions: best ask used, quote units per base unit',
    reference_ts Nullable(DateTime64(9, 'UTC')) COMMENT 'of decisions: time of that reference (UTC, ns)',
    reference_at String COMMENT 'of decisions: topic/partition/offset of that reference',
    instrument_version Nullable(Int64) COMMENT 'of decisions: version of the instrument''s rules used',
    limits_version Nullable(Int64) COMMENT 'of decisions: version of the limits used',
    cancel_id String COMMENT 'of cancels: id of the CancelOrder command',
    code String COMMENT 'of rejections: the venue''s code',
    reason String COMMENT 'why, in words',
    evidence String COMMENT 'of OrderAbsent: how it is known',
    command_id String COMMENT 'of CommandDenied: the command',
    command LowCardinality(String) COMMENT 'of CommandDenied: type of the command',
    breach_control Array(String) COMMENT 'of denials: the controls that were breached, in their order',
    breach_detail Array(String) COMMENT 'of denials: each breach in words',
    breach_observed Array(String) COMMENT 'of denials: what was observed',
    breach_allowed Array(String) COMMENT 'of denials: what is allowed',
    venue LowCardinality(String) COMMENT 'of AccountOpened: the venue',
    label String COMMENT 'of AccountOpened: name shown to people',
    asset LowCardinality(String) COMMENT 'of deposits and balance differences: the asset',
    amount Nullable(Decimal(38, 18)) COMMENT 'of deposits: units of the asset',
    external_ref String COMMENT 'of deposits: the venue''s transfer id',
    ledger_total Nullable(Decimal(38, 18)) COMMENT 'of BalanceDiffered: the ledger''s balance, units of the asset',
    venue_total Nullable(Decimal(38, 18)) COMMENT 'of BalanceDiffered: the venue''s balance, units of the asset',
    duplicate_of String COMMENT 'of DuplicateIgnored: id of what came again',
    input LowCardinality(String) COMMENT 'of DuplicateIgnored: its type',
    report LowCardinality(String) COMMENT 'of ReportIgnored: type of the report',
    control_offset Nullable(Int64) COMMENT 'of ControlApplied: offset in control.events.v1 acted upon, included',
    control_event LowCardinality(String) COMMENT 'of ControlApplied: type of that event',
    posting_ledger Array(LowCardinality(String)) COMMENT 'ledger lines: FREE, RESERVED, EXTERNAL, MARKET, FEES',
    posting_asset Array(LowCardinality(String)) COMMENT 'ledger lines: the asset',
    posting_amount Array(Decimal(38, 18)) COMMENT 'ledger lines: units of the asset; zero in sum per asset',
    posting_book_id Array(LowCardinality(String)) COMMENT 'ledger lines: the sub-book',
    INDEX order_ids order_id TYPE bloom_filter GRANULARITY 4
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(log_ts)
ORDER BY (account_id, stream_version, log_offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'decisions and facts of accounts, from accounts.events.v1';

CREATE TABLE control_events
(
    log_topic LowCardinality(String) DEFAULT 'control.events.v1' COMMENT 'topic, without the installation prefix',
    log_partition UInt16 COMMENT 'partition of the topic',
    log_offset UInt64 COMMENT 'offset in the partition',
    log_ts DateTime64(3, 'UTC') COMMENT 'append time of the broker (UTC, ms)',
    record_crc UInt32 COMMENT 'CRC-32 (zlib) of the record value as it stands in Kafka',
    event_type LowCardinality(String) COMMENT 'Genesis, KillSwitchSet, LimitsSet, StrategyStarted …: the event''s type',
    event_id String COMMENT 'id of the event',
    tenant_id LowCardinality(String) COMMENT 'tenant',
    account_id LowCardinality(String) COMMENT 'account; empty where there is none',
    principal_id LowCardinality(String) COMMENT 'who decided',
    correlation_id String COMMENT 'id of what started it all',
    causation_id String COMMENT 'event_id of the record just before',
    cause_at String COMMENT 'topic/partition/offset of that record; empty when it came from outside',
    ts_event DateTime64(9, 'UTC') COMMENT 'time of the decision (UTC, ns)',
    ts_init DateTime64(9, 'UTC') COMMENT 'when it reached SKEET (UTC, ns)',
    stream_version Int64 COMMENT 'always 0: control events are in no account''s stream',
    scope LowCardinality(String) COMMENT 'of switches and limits: platform, tenant:ID or account:ID',
    active Nullable(Bool) COMMENT 'of KillSwitchSet: whether orders are stopped',
    cancel_open Nullable(Bool) COMMENT 'whether open orders are canceled',
    reason String COMMENT 'why, in words',
    version Nullable(Int64) COMMENT 'of LimitsSet: number of the version',
    max_quantity Nullable(Decimal(38, 18)) COMMENT 'of LimitsSet: largest order, base units; null: unlimited',
    max_notional Nullable(Decimal(38, 18)) COMMENT 'of LimitsSet: largest order value, quote units; null: unlimited',
    instance_id LowCardinality(String) COMMENT 'of strategies: the instance',
    strategy LowCardinality(String) COMMENT 'of StrategyStarted: module:Class or entry point',
    instrument_id LowCardinality(String) COMMENT 'of StrategyStarted: VENUE:BASE/QUOTE',
    parameters String COMMENT 'of StrategyStarted: JSON object',
    code_version String COMMENT 'of StrategyStarted: SHA-256 of sources and parameters',
    handler LowCardinality(String) COMMENT 'of StrategyHalted: the handler that failed',
    file String COMMENT 'of StrategyHalted: file of the error',
    line Nullable(Int64) COMMENT 'of StrategyHalted: line of the error',
    error String COMMENT 'of StrategyHalted: the error',
    label String COMMENT 'of SessionMark: the mark',
    account_partitions Nullable(Int64) COMMENT 'of Genesis: partitions of account-keyed topics',
    market_partitions Nullable(Int64) COMMENT 'of Genesis: partitions of instrument-keyed topics',
    partitioner LowCardinality(String) COMMENT 'of Genesis: murmur2'
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(log_ts)
ORDER BY (ts_event, log_offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'what operators decided, from control.events.v1';

CREATE TABLE unreadable_records
(
    log_topic LowCardinality(String) COMMENT 'topic, without the installation prefix',
    log_partition UInt16 COMMENT 'partition of the topic',
    log_offset UInt64 COMMENT 'offset in the partition',
    log_ts DateTime64(3, 'UTC') COMMENT 'append time of the broker (UTC, ms)',
    record_crc UInt32 COMMENT 'CRC-32 (zlib) of the record value as it stands in Kafka',
    record_key String COMMENT 'key of the record, bytes',
    record_value String COMMENT 'value of the record, bytes',
    cause String COMMENT 'why it could not be read'
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(log_ts)
ORDER BY (log_topic, log_partition, log_offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'records of history topics that this version cannot read, kept as they are';
