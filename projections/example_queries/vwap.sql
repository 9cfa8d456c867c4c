-- Volume weighted average price per instrument and hour, exact.
SELECT instrument_id, toStartOfHour(ts_event) AS hour,
    sum(toDecimal256(price, 18) * size) / sum(size) AS vwap, sum(size) AS volume, count() AS trades
FROM trades
GROUP BY instrument_id, hour
ORDER BY instrument_id, hour DESC
LIMIT 1000
