-- Spread per minute of one instrument, in quote units and basis points of the mid price.
SELECT minute, quotes, spread_min, spread_avg, spread_max, spread_avg_bps
FROM spread_1m
WHERE instrument_id = {instrument:String}
ORDER BY minute DESC
LIMIT 1440
