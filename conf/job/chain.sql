CREATE STREAM large AS
SELECT ts, symbol, trader, price * quantity AS value
FROM trades
WHERE quantity >= 900;

CREATE STREAM per_minute AS
SELECT symbol, _window_start AS minute, COUNT(*) AS trades, SUM(value) AS value
FROM large
GROUP BY symbol
WINDOW TUMBLING(ts, INTERVAL '1' MINUTE)
EMIT FINAL;
