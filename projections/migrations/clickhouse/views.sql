-- Views over the history, replaced at every start. They hold nothing, so they are not numbered migrations.

CREATE OR REPLACE VIEW log_records AS
          SELECT log_topic, log_partition, log_offset, log_ts, record_crc FROM trades
UNION ALL SELECT log_topic, log_partition, log_offset, log_ts, record_crc FROM quotes
UNION ALL SELECT log_topic, log_partition, log_offset, log_ts, record_crc FROM book_updates
UNION ALL SELECT log_topic, log_partition, log_offset, log_ts, record_crc FROM bars
UNION ALL SELECT log_topic, log_partition, log_offset, log_ts, record_crc FROM market_status
UNION ALL SELECT log_topic, log_partition, log_offset, log_ts, record_crc FROM instruments
UNION ALL SELECT log_topic, log_partition, log_offset, log_ts, record_crc FROM signals
UNION ALL SELECT log_topic, log_partition, log_offset, log_ts, record_crc FROM commands
UNION ALL SELECT log_topic, log_partition, log_offset, log_ts, record_crc FROM venue_reports
UNION ALL SELECT log_topic, log_partition, log_offset, log_ts, record_crc FROM account_events
UNION ALL SELECT log_topic, log_partition, log_offset, log_ts, record_crc FROM control_events
UNION ALL SELECT log_topic, log_partition, log_offset, log_ts, record_crc FROM unreadable_records
COMMENT 'every record held, whatever its table: count and sum(record_crc) per topic partition are compared with Kafka';

-- Trades of one instrument stand in one partition, so (ts_event, log_offset) orders them. As one Int128 (ts_event x 2^40 + offset)
-- it is four times as fast as a tuple.
CREATE OR REPLACE VIEW ohlcv_1m AS
SELECT
    instrument_id,
    toStartOfMinute(ts_event) AS ts_open,
    argMin(price, toInt128(toUnixTimestamp64Nano(ts_event)) * 1099511627776 + log_offset) AS open,
    max(price) AS high,
    min(price) AS low,
    argMax(price, toInt128(toUnixTimestamp64Nano(ts_event)) * 1099511627776 + log_offset) AS close,
    sum(size) AS volume,
    sumIf(size, aggressor_side = 'BUY') AS buy_volume,
    sum(toDecimal256(price, 18) * size) AS quote_volume,
    count() AS trade_count
FROM trades
GROUP BY instrument_id, ts_open
COMMENT 'open, high, low, close and volume per minute, from the trades';

CREATE OR REPLACE VIEW spread_1m AS
SELECT
    instrument_id,
    toStartOfMinute(ts_event) AS minute,
    count() AS quotes,
    min(ask_price - bid_price) AS spread_min,
    toFloat64(max(ask_price - bid_price)) AS spread_max,
    avg(toFloat64(ask_price - bid_price)) AS spread_avg,
    avg(toFloat64(ask_price - bid_price) / toFloat64(ask_price + bid_price)) * 20000 AS spread_avg_bps
FROM quotes
WHERE bid_price > 0 AND ask_price > 0
GROUP BY instrument_id, minute
COMMENT 'spread per minute: every quote counts once, whatever its life';

CREATE OR REPLACE VIEW decisions AS
SELECT
    order_id, account_id, tenant_id, book_id, instrument_id, event_type, side, order_type, quantity, limit_price,
    reference_bid, reference_ask,
    (toFloat64(reference_bid) + toFloat64(reference_ask)) / 2 AS reference_mid,
    reference_ts, ts_init, ts_event AS decided_ts, log_ts AS decided_log_ts, correlation_id, causation_id, cause_at, code_version, rule
FROM account_events
WHERE event_type IN ('OrderAuthorized', 'OrderDenied')
COMMENT 'every decision on an order, with the reference prices it used';

CREATE OR REPLACE VIEW fills AS
SELECT
    f.account_id AS account_id, f.tenant_id AS tenant_id, f.book_id AS book_id, f.instrument_id AS instrument_id,
    f.order_id AS order_id, f.trade_id AS trade_id, f.stream_version AS stream_version, f.ts_event AS ts_event,
    f.ts_init AS ts_init, f.log_ts AS log_ts, f.side AS side,
    assumeNotNull(f.quantity) AS quantity, assumeNotNull(f.price) AS price,
    assumeNotNull(f.fee) AS fee, f.fee_asset AS fee_asset, f.liquidity AS liquidity,
    toDecimal256(assumeNotNull(f.price), 18) * assumeNotNull(f.quantity) AS notional,
    if(f.fee_asset = splitByChar(':', splitByChar('/', f.instrument_id)[2])[1], assumeNotNull(f.fee), toDecimal128(0, 18)) AS fee_quote,
    d.reference_mid AS reference_mid,
    if(f.side = 'BUY', 1, -1) * (toFloat64(f.price) - d.reference_mid) / d.reference_mid * 10000 AS slippage_bps
FROM account_events AS f
LEFT JOIN (SELECT order_id, reference_mid FROM decisions WHERE event_type = 'OrderAuthorized') AS d ON d.order_id = f.order_id
WHERE f.event_type = 'OrderFilled'
COMMENT 'every execution, with its slippage against the mid price that the decision saw (positive: worse than mid)';

CREATE OR REPLACE VIEW order_latency AS
SELECT
    a.order_id AS order_id, a.account_id AS account_id, a.book_id AS book_id, a.instrument_id AS instrument_id,
    a.ts_init AS tick_ts,
    c.command_log_ts AS command_log_ts, a.authorized_log_ts AS authorized_log_ts,
    r.attempted_log_ts AS attempted_log_ts, r.written_ts AS written_ts, r.answered_ts AS answered_ts,
    r.acknowledged_log_ts AS acknowledged_log_ts, a.first_fill_log_ts AS first_fill_log_ts,
    (toUnixTimestamp64Milli(c.command_log_ts) - toUnixTimestamp64Nano(a.ts_init) / 1e6) AS tick_to_command_ms,
    dateDiff('millisecond', c.command_log_ts, a.authorized_log_ts) AS command_to_authorized_ms,
    dateDiff('millisecond', a.authorized_log_ts, r.attempted_log_ts) AS authorized_to_attempt_ms,
    toUnixTimestamp64Nano(r.written_ts) / 1e6 - toUnixTimestamp64Milli(r.attempted_log_ts) AS attempt_to_written_ms,
    (toUnixTimestamp64Nano(r.answered_ts) - toUnixTimestamp64Nano(r.written_ts)) / 1e6 AS written_to_answered_ms,
    toUnixTimestamp64Milli(a.first_fill_log_ts) - toUnixTimestamp64Nano(r.answered_ts) / 1e6 AS answered_to_fill_ms,
    (toUnixTimestamp64Nano(r.written_ts) - toUnixTimestamp64Nano(a.ts_init)) / 1e6 AS tick_to_written_ms
FROM
(
    SELECT order_id, any(account_id) AS account_id, any(book_id) AS book_id, any(instrument_id) AS instrument_id,
        minIf(ts_init, event_type = 'OrderAuthorized') AS ts_init,
        minIf(log_ts, event_type = 'OrderAuthorized') AS authorized_log_ts,
        minOrNullIf(log_ts, event_type = 'OrderFilled') AS first_fill_log_ts
    FROM account_events
    WHERE event_type IN ('OrderAuthorized', 'OrderFilled')
    GROUP BY order_id
    HAVING countIf(event_type = 'OrderAuthorized') > 0
) AS a
LEFT JOIN
(
    SELECT order_id, min(log_ts) AS command_log_ts FROM commands WHERE event_type = 'SubmitOrder' GROUP BY order_id
) AS c ON c.order_id = a.order_id
LEFT JOIN
(
    SELECT order_id, minOrNullIf(log_ts, event_type = 'SubmitAttempted') AS attempted_log_ts,
        minOrNullIf(log_ts, event_type = 'SubmitAcknowledged') AS acknowledged_log_ts,
        min(written_ts) AS written_ts, min(answered_ts) AS answered_ts
    FROM venue_reports
    WHERE event_type IN ('SubmitAttempted', 'SubmitAcknowledged')
    GROUP BY order_id
) AS r ON r.order_id = a.order_id
COMMENT 'one row an authorised order: when each hop was done, and what it took; append times are whole ms, our clocks ns';

CREATE OR REPLACE VIEW pnl_hourly AS
WITH
    moves AS
    (
        SELECT account_id, book_id, instrument_id, toStartOfHour(ts_event) AS hour,
            sum(if(side = 'BUY', quantity, -quantity)) AS quantity,
            sum(if(side = 'BUY', -notional, notional)) AS cash,
            sum(fee_quote) AS fees, count() AS fills
        FROM fills
        GROUP BY account_id, book_id, instrument_id, hour
    ),
    closes AS
    (
        SELECT instrument_id, toStartOfHour(ts_event) AS hour, argMax(price, toInt128(toUnixTimestamp64Nano(ts_event)) * 1099511627776 + log_offset) AS close
        FROM trades
        WHERE instrument_id IN (SELECT instrument_id FROM account_events WHERE event_type = 'OrderFilled')
        GROUP BY instrument_id, hour
    ),
    ends AS
    (
        SELECT instrument_id, toStartOfHour(max(ts_event)) AS last_hour FROM trades GROUP BY instrument_id
    ),
    books AS
    (
        SELECT account_id, book_id, instrument_id, min(hour) AS first_hour, max(hour) AS last_fill
        FROM moves GROUP BY account_id, book_id, instrument_id
    ),
    hours AS
    (
        SELECT b.account_id AS account_id, b.book_id AS book_id, b.instrument_id AS instrument_id,
            arrayJoin(arrayMap(
                second -> toDateTime(second, 'UTC'),
                range(toUInt32(toDateTime(b.first_hour)), toUInt32(toDateTime(greatest(b.last_fill, e.last_hour))) + 1, 3600)
            )) AS hour
        FROM books AS b LEFT JOIN ends AS e ON e.instrument_id = b.instrument_id
    ),
    filled AS
    (
        SELECT h.account_id AS account_id, h.book_id AS book_id, h.instrument_id AS instrument_id, h.hour AS hour,
            m.quantity AS quantity, m.cash AS cash, m.fees AS fees, m.fills AS fills
        FROM hours AS h LEFT JOIN moves AS m
        ON m.account_id = h.account_id AND m.book_id = h.book_id AND m.instrument_id = h.instrument_id AND m.hour = h.hour
    ),
    marked AS
    (
        SELECT f.account_id AS account_id, f.book_id AS book_id, f.instrument_id AS instrument_id, f.hour AS hour,
            f.fills AS fills, f.fees AS fees, f.quantity AS quantity, f.cash AS cash, c.close AS close
        FROM filled AS f ASOF LEFT JOIN closes AS c ON c.instrument_id = f.instrument_id AND c.hour <= f.hour
    ),
    summed AS
    (
        SELECT *,
            sum(quantity) OVER so_far AS position,
            toDecimal128(sum(cash) OVER so_far - sum(fees) OVER so_far + toDecimal256(sum(quantity) OVER so_far, 18) * close, 18) AS equity
        FROM marked
        WINDOW so_far AS (PARTITION BY account_id, book_id, instrument_id ORDER BY hour)
    )
SELECT account_id, book_id, instrument_id, hour, fills, position, close, fees, equity,
    equity - lagInFrame(equity, 1, toDecimal128(0, 18)) OVER (PARTITION BY account_id, book_id, instrument_id ORDER BY hour ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS pnl
FROM summed
COMMENT 'profit and loss of each book per hour, after fees, open positions valued at the hour''s last trade; quote units';
