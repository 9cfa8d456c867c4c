-- Open, high, low, close and volume of one instrument, per minute of its last day of trades.
SELECT ts_open, open, high, low, close, volume, quote_volume / volume AS vwap, trade_count
FROM ohlcv_1m
WHERE instrument_id = {instrument:String}
ORDER BY ts_open DESC
LIMIT 1440
