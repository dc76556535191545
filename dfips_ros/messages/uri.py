# SPDX-License-Identifier: Apache-2.0
"""Files as ROS names them: by a path, ``file://`` or ``package://``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlparse

from ..errors import ConfigError

INDEX = "share/ament_index/resource_index/packages"


def path_from_uri(text: str) -> Path:
    """The file that is meant.

    Raises:
        ConfigError: unknown kind of URI, or the package is not installed.
    """
    text = text.strip()
    uri = urlparse(text)
    if uri.scheme == "file":
        return Path(unquote(uri.path))
    if uri.scheme == "package":
        return package_share(uri.netloc) / unquote(uri.path).lstrip("/")
    if "://" in text:
        raise ConfigError(f"expected a path, file:// or package://, not {uri.scheme}://.")
    return Path(text).expanduser()


def package_share(package: str) -> Path:
    """The folder ``share/<package>`` of an installed package: of the first overlay in AMENT_PREFIX_PATH that has it.

    Raises:
        ConfigError: none has.
    """
    prefixes = [prefix for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    for prefix in prefixes if re.fullmatch(r"\w[\w-]*", package) else ():
        if (Path(prefix) / INDEX / package).is_file():
            return Path(prefix) / "share" / package
    hint = "" if prefixes else " No ROS 2 is sourced: source its setup.bash, or give a path."
    raise ConfigError(f"the package '{package}' is not installed.{hint}")
