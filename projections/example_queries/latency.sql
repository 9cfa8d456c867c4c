-- Median and 99th percentile of every hop of an order, in ms: tick, command, decision, attempt, socket, answer, fill.
SELECT step.1 AS hop, count() AS orders, quantile(0.5)(step.2) AS p50_ms, quantile(0.99)(step.2) AS p99_ms
FROM
(
    SELECT arrayJoin([
        ('1 tick to command', tick_to_command_ms),
        ('2 command to authorized', toFloat64(command_to_authorized_ms)),
        ('3 authorized to attempt', toFloat64(authorized_to_attempt_ms)),
        ('4 attempt to socket', attempt_to_written_ms),
        ('5 socket to answer', written_to_answered_ms),
        ('6 answer to fill', answered_to_fill_ms),
        ('tick to socket', tick_to_written_ms)
    ]) AS step
    FROM order_latency
)
WHERE step.2 IS NOT NULL
GROUP BY hop
ORDER BY hop
