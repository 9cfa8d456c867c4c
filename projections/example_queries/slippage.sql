-- Slippage against the mid price at the decision, in basis points (positive: worse than mid), by strategy and liquidity.
SELECT book_id, instrument_id, liquidity, side, count() AS fills,
    avg(slippage_bps) AS mean_bps, quantile(0.5)(slippage_bps) AS p50_bps, quantile(0.99)(slippage_bps) AS p99_bps
FROM fills
GROUP BY book_id, instrument_id, liquidity, side
ORDER BY book_id, instrument_id, liquidity, side
