-- Profit and loss by strategy and hour, after fees, open positions valued at the hour's last trade.
SELECT account_id, book_id, instrument_id, hour, fills, position, close, fees, pnl, equity
FROM pnl_hourly
ORDER BY account_id, book_id, instrument_id, hour
LIMIT 10000
