"""What a generated column can look like: one dataclass per distribution, its fields the settings."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from velostream.connectors.generator.draws import Draws, Index
from velostream.connectors.generator.scalars import column, is_exact, stored, stored_span
from velostream.errors import ConfigError, ConnectorError
from velostream.sql.typenames import type_name
from velostream.sql.types import DOUBLE, VARCHAR

# Records to the column's values, without NULLs.
Maker = Callable[[Index, Draws], pa.Array]


@dataclass
class Distribution:
    """What all have."""

    # Probability of NULL.
    nulls: float = 0.0

    @abstractmethod
    def maker(self, type: pa.DataType, timezone: str) -> Maker:
        """What makes columns of `type`. Raises ConfigError: settings that do not fit the type."""

    def _refuse(self, type: pa.DataType) -> ConfigError:
        return ConfigError(
            f"distribution '{name_of(self)}' makes no {type_name(type)}",
            hint="use constant, cycle, choice or zipf",
        )


@dataclass
class Constant(Distribution):
    """One value."""

    value: Any = None

    def maker(self, type: pa.DataType, timezone: str) -> Maker:
        values = _values([self.value], type, timezone)
        return lambda index, draws: values.take(pa.array(np.zeros(len(index), dtype=np.int64)))


@dataclass
class Sequence(Distribution):
    """`start + step * i` for record `i`, moved by up to `jitter` either way."""

    start: Any = 0
    step: Any = 1
    jitter: Any = None

    def maker(self, type: pa.DataType, timezone: str) -> Maker:
        if type == DOUBLE:
            start, step, jitter = float(self.start), float(self.step), float(self.jitter or 0)
            return lambda index, draws: pa.array(
                start + step * index + (2 * jitter * draws.unit(index) - jitter if jitter else 0.0)
            )
        if not is_exact(type):
            raise self._refuse(type)
        first = stored(self.start, type, timezone)
        by = stored_span(self.step, type, timezone)
        around = 0 if self.jitter is None else abs(stored_span(self.jitter, type, timezone))

        def make(index: Index, draws: Draws) -> pa.Array:
            last = first + by * int(index[-1]) if len(index) else first
            if not -(2**63) + around <= last < 2**63 - around:
                raise ConnectorError(f"a sequence from {self.start} by {self.step} leaves 64 bits")
            values = first + by * index.view(np.int64)
            if around:
                values += draws.between(index, -around, around)
            return column(values, type)

        return make


@dataclass
class _Listed(Distribution):
    """Values of a list: `values`, or `pattern` (a format of Python) applied to 0 to `count` - 1."""

    values: list[Any] = field(default_factory=list)
    pattern: str = ""
    count: int = 0

    def listed(self, type: pa.DataType, timezone: str) -> pa.Array:
        if bool(self.values) == bool(self.pattern):
            raise ConfigError("give either values, or pattern and count")
        if self.values:
            return _values(self.values, type, timezone)
        if self.count < 1:
            raise ConfigError(f"a pattern for {self.count} values", hint="set count to 1 or more")
        try:
            texts = [self.pattern.format(number) for number in range(self.count)]
        except (ValueError, IndexError, KeyError) as exc:
            raise ConfigError(
                f"'{self.pattern}' is not a pattern: {exc}", hint="write it as in SYM{:03d}"
            ) from exc
        if type != VARCHAR:
            raise ConfigError(f"a pattern makes VARCHAR, not {type_name(type)}")
        return pa.array(texts, VARCHAR)


@dataclass
class Cycle(_Listed):
    """The values one after the other, again and again."""

    def maker(self, type: pa.DataType, timezone: str) -> Maker:
        values = self.listed(type, timezone)
        n = np.uint64(len(values))
        return lambda index, draws: values.take(pa.array(index % n))


@dataclass
class Choice(_Listed):
    """One of the values at random, each as likely as its weight, or all alike."""

    weights: list[float] = field(default_factory=list)

    def maker(self, type: pa.DataType, timezone: str) -> Maker:
        values = self.listed(type, timezone)
        if not self.weights:
            return lambda index, draws: values.take(pa.array(draws.between(index, 0, len(values) - 1)))
        if len(self.weights) != len(values):
            raise ConfigError(f"{len(self.weights)} weights for {len(values)} values")
        return _weighted(values, np.array(self.weights))


@dataclass
class Zipf(_Listed):
    """One of the values, the k-th as likely as `k ** -exponent`: few are frequent, most are rare."""

    exponent: float = 1.0

    def maker(self, type: pa.DataType, timezone: str) -> Maker:
        values = self.listed(type, timezone)
        return _weighted(values, np.arange(1, len(values) + 1, dtype=np.float64) ** -self.exponent)


@dataclass
class Uniform(Distribution):
    """Between `low` and `high`, all alike; both included, but `high` for DOUBLE."""

    low: Any = 0
    high: Any = 1
    # Digits behind the point of a DOUBLE; null: all.
    digits: int | None = None

    def maker(self, type: pa.DataType, timezone: str) -> Maker:
        if type == DOUBLE:
            low, high = float(self.low), float(self.high)
            return lambda index, draws: pa.array(
                _rounded(low + (high - low) * draws.unit(index), self.digits)
            )
        if not is_exact(type):
            raise self._refuse(type)
        least, most = stored(self.low, type, timezone), stored(self.high, type, timezone)
        if least > most:
            raise ConfigError(f"low '{self.low}' is above high '{self.high}'")
        return lambda index, draws: column(draws.between(index, least, most), type)


@dataclass
class Normal(Distribution):
    """Around `mean`, with standard deviation `deviation`; integers and DECIMAL are rounded."""

    mean: float = 0.0
    deviation: float = 1.0
    # Digits behind the point of a DOUBLE; null: all.
    digits: int | None = None

    def maker(self, type: pa.DataType, timezone: str) -> Maker:
        exact = pa.types.is_integer(type) or pa.types.is_decimal(type)
        if type != DOUBLE and not exact:
            raise self._refuse(type)
        scale = 10.0**type.scale if pa.types.is_decimal(type) else 1.0

        def make(index: Index, draws: Draws) -> pa.Array:
            # Box and Muller; 1 - u is never 0.
            radius = np.sqrt(-2.0 * np.log(1.0 - draws.unit(index)))
            values = self.mean + self.deviation * radius * np.cos(2.0 * np.pi * draws.unit(index, 1))
            if type == DOUBLE:
                return pa.array(_rounded(values, self.digits))
            return column(pa.array(np.rint(values * scale)).cast(pa.int64()).to_numpy(), type)

        return make


DISTRIBUTIONS: dict[str, type[Distribution]] = {
    "choice": Choice,
    "constant": Constant,
    "cycle": Cycle,
    "normal": Normal,
    "sequence": Sequence,
    "uniform": Uniform,
    "zipf": Zipf,
}


def name_of(distribution: Distribution) -> str:
    return next(name for name, kind in DISTRIBUTIONS.items() if kind is type(distribution))


def _values(values: list[Any], type: pa.DataType, timezone: str) -> pa.Array:
    """A list of the configuration as a column; None is NULL."""
    if is_exact(type):
        present = [0 if value is None else stored(value, type, timezone) for value in values]
        made = column(np.array(present, dtype=np.int64), type)
        missing = pa.array([value is None for value in values])
        return pa.compute.if_else(missing, pa.scalar(None, type), made)
    try:
        return pa.array(values, type)
    except (pa.ArrowException, TypeError) as exc:
        raise ConfigError(f"'{values}' are not values of {type_name(type)}") from exc


def _weighted(values: pa.Array, weights: npt.NDArray[np.float64]) -> Maker:
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
        raise ConfigError("weights are numbers from 0 on, not all 0")
    bounds = np.cumsum(weights / weights.sum())
    # Rounding may leave the last bound below the largest draw.
    bounds[-1] = 1.0
    return lambda index, draws: values.take(
        pa.array(np.searchsorted(bounds, draws.unit(index), side="right"))
    )


def _rounded(values: npt.NDArray[np.float64], digits: int | None) -> npt.NDArray[np.float64]:
    return values if digits is None else np.round(values, digits)
