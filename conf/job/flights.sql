-- Departures and delays per origin airport and hour.
CREATE STREAM departures AS
SELECT origin,
       _window_start        AS hour,
       COUNT(*)             AS flights,
       COUNT(dep_time)      AS departed,
       AVG(dep_delay)       AS mean_dep_delay,
       MAX(dep_delay)       AS max_dep_delay,
       COUNT(*) FILTER (WHERE dep_delay > 15) AS late_departures
FROM flights
GROUP BY origin
WINDOW TUMBLING(time_hour, INTERVAL '1' HOUR)
EMIT FINAL;
