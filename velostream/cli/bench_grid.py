"""What `command=bench` measures: its options, and the settings that come of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from velostream.config.fit import fit
from velostream.config.overrides import parse_override
from velostream.config.schema import ProcessorConfig
from velostream.config.units import parse_bytes
from velostream.errors import ConfigError, VelostreamError, Where, raise_all

# How long a job without an end runs when neither records nor seconds are given.
DEFAULT_SECONDS = 5.0


@dataclass
class BenchOptions:
    """The keys of `bench.`: what is measured, and how often."""

    # Lanes of v2; null: 1, 2, 4, … up to twice the CPUs. v1 is always measured.
    partitions: list[int] | None = None
    # Bytes of a block.
    block_size: list[str] = field(default_factory=lambda: ["1MiB", "4MiB", "8MiB", "16MiB"])
    # Runs of each setting, all settings in turn; the table has the median.
    runs: int = 3
    # Stop a run after that many records; null: at the end of the input.
    records: int | None = None
    # Stop a run after that many seconds; null: at the end of the input, or after 5 s where it has none.
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """One processor to measure; `partitions` is None for v1."""

    partitions: int | None
    block_size: str

    @property
    def overrides(self) -> list[str]:
        """What to type to run a job like this."""
        version = "v1" if self.partitions is None else "v2"
        lanes = [] if self.partitions is None else [f"processor.partitions={self.partitions}"]
        return [f"processor={version}", *lanes, f"processor.block_size={self.block_size}"]

    def processor(self, base: ProcessorConfig) -> ProcessorConfig:
        """The job's own processor with this setting; blocks are by size."""
        changed = replace(base, partitions=self.partitions, block_size=self.block_size, block_records=0)
        if self.partitions is None:
            return replace(changed, version="v1", affinity=False)
        return replace(changed, version="v2")


def bench_options(given: Mapping[str, str]) -> BenchOptions:
    """The options typed as `bench.KEY=VALUE`, lists as `[1,2]`, `1,2` or `1`. Raises ConfigError or
    Problems with everything that is wrong."""
    errors: list[VelostreamError] = []
    values = {key.partition(".")[2]: _value(key, text) for key, text in given.items()}
    options = fit(values, BenchOptions, ("bench",), errors)
    errors += _misuses(options)
    for error in errors:
        key = (error.where.key or "").partition("[")[0] if error.where is not None else ""
        if key in given:
            error.where = Where(key=f"override '{key}={given[key]}'")
    raise_all(errors)
    assert isinstance(options, BenchOptions)
    return options


def _value(key: str, text: str) -> object:
    override = parse_override(f"{key}={text}")
    if override.several:
        return [part.strip() for part in str(override.value).split(",")]
    one_of_a_list = key in ("bench.partitions", "bench.block_size") and not isinstance(override.value, list)
    return [override.value] if one_of_a_list and override.value is not None else override.value


def _misuses(options: BenchOptions) -> Iterator[ConfigError]:
    numbers: list[tuple[str, float | None]] = [("runs", options.runs), ("records", options.records)]
    numbers += [("partitions", lanes) for lanes in options.partitions or ()]
    for name, value in numbers:
        if value is not None and value < 1:
            key = f"bench.{name}"
            yield ConfigError(f"'{key}' has {value}, expected at least 1", where=Where(key=key))
    if options.seconds is not None and options.seconds <= 0:
        message = f"'bench.seconds' is {options.seconds}, expected more than 0"
        yield ConfigError(message, where=Where(key="bench.seconds"))
    if not options.block_size:
        yield ConfigError("'bench.block_size' is empty", where=Where(key="bench.block_size"))
    for size in options.block_size:
        try:
            parse_bytes(size)
        except ConfigError as error:
            yield ConfigError(error.message, where=Where(key="bench.block_size"), hint=error.hint)


def settings(options: BenchOptions, cpus: int) -> list[Setting]:
    """All settings, v1 first, block sizes ascending within the lanes.

    >>> [setting.overrides for setting in settings(BenchOptions([2], ["4MiB"]), 2)][1]
    ['processor=v2', 'processor.partitions=2', 'processor.block_size=4MiB']
    """
    lanes: Sequence[int] | None = options.partitions
    if lanes is None:
        lanes = [1 << power for power in range((2 * cpus).bit_length())]
    sizes = sorted(dict.fromkeys(options.block_size), key=parse_bytes)
    return [Setting(count, size) for count in dict.fromkeys((None, *lanes)) for size in sizes]
