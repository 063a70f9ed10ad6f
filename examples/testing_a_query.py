"""Tests of a query, with no broker, no files and no waiting: the driver has its input, its clock, its output.

pytest examples/testing_a_query.py
"""

from __future__ import annotations

from datetime import datetime, timedelta

from velostream.testing import JobDriver

# The query under test: a job would name the same text, or its .sql file.
ALERTS = """
    SELECT card, COUNT(*) AS payments, SUM(amount) AS total
    FROM payments
    WHERE amount > 0
    GROUP BY card
    WINDOW TUMBLING(ts, INTERVAL '1' MINUTE)
    HAVING COUNT(*) >= 3
"""
TABLES = {"payments": {"ts": "TIMESTAMP", "card": "VARCHAR", "amount": "DECIMAL(10, 2)"}}
NOON = datetime(2025, 1, 2, 12)


def payment(seconds: float, card: str, amount: str) -> dict[str, object]:
    from decimal import Decimal

    return {"ts": NOON + timedelta(seconds=seconds), "card": card, "amount": Decimal(amount)}


def test_three_payments_in_a_minute_raise_an_alert() -> None:
    with JobDriver(ALERTS, TABLES, time=NOON, out_of_orderness="10s") as driver:
        driver.send("payments", [payment(0, "A", "9.99"), payment(20, "B", "1.00"), payment(30, "A", "0.01")])
        driver.send("payments", [payment(59, "A", "5.00"), payment(59, "A", "-5.00")])
        assert driver.read() == [], "the minute is not over: a payment may come 10 s late"

        driver.send("payments", [payment(70, "B", "1.00")])
        (alert,) = driver.read()
        assert alert.key == {"card": "A"}
        assert (alert.row["payments"], str(alert.row["total"])) == (3, "15.00")


def test_a_payment_that_comes_too_late_is_counted_and_changes_nothing() -> None:
    driver = JobDriver(ALERTS, TABLES, "v2:4", time=NOON, out_of_orderness="0s")
    driver.send("payments", [payment(1, "A", "1.00"), payment(2, "A", "1.00"), payment(61, "A", "1.00")])
    driver.send("payments", [payment(3, "A", "1.00")])
    driver.end()
    assert driver.read() == []
    assert driver.close().records["late"] == 1


def test_a_payment_from_the_future_fails_alone() -> None:
    driver = JobDriver(ALERTS, TABLES, time=NOON, max_ahead="1h")
    driver.send("payments", [payment(7200, "A", "1.00"), payment(1, "A", "1.00")])
    driver.advance(NOON + timedelta(hours=2))
    driver.send("payments", [payment(7200, "A", "1.00")])
    report = driver.close()
    assert (report.records["failed"], report.records["used"]) == (1, 2)
