# SPDX-License-Identifier: Apache-2.0
"""The errors that dfips_ros raises: each says what was expected, what came and what to do.

All of them derive from :class:`DfipsError`; those about a caller's input are ``ValueError`` too.
"""


class DfipsError(Exception):
    """Base of every error that dfips_ros raises on purpose."""


class InputError(DfipsError, ValueError):
    """Base of the errors about a value that the caller passed."""


class ShapeError(InputError):
    """An array or tensor has the wrong shape or type."""


class ConfigError(InputError):
    """A configuration value is unknown, of the wrong type or out of range."""


class MeshError(InputError):
    """A mesh is missing, unreadable, empty, or not in metres."""


class MaskError(InputError):
    """A segmentation mask cannot be used."""


class CameraError(InputError):
    """A camera matrix or a camera calibration cannot be used."""


class PoseError(InputError):
    """A pose is not a rigid transform, or lies where the camera cannot see it."""


class EncodingError(InputError):
    """An image message has an encoding or a data layout that cannot be read."""


class MissingDependencyError(DfipsError, ImportError):
    """A package that this feature needs is not installed."""


class CheckpointError(DfipsError):
    """A weights file is missing, corrupt, or made for another version or network."""


def require(package: str, purpose: str, install: str) -> None:
    """Raise :class:`MissingDependencyError` unless ``package`` can be imported.

    Args:
        package: import name, for example ``"pyrender"``.
        purpose: what needs it, for the message.
        install: the command that installs it.
    """
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise MissingDependencyError(
            f"{purpose} needs the package '{package}', which is not installed. Install it with: {install}"
        )
