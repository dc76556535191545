# SPDX-License-Identifier: Apache-2.0
"""pyrender's off-screen renderer, one for each thread."""

from __future__ import annotations

import os
import threading
from typing import Any

from ..errors import MissingDependencyError, require

_own = threading.local()


def import_pyrender(user: str) -> Any:
    """The module pyrender, set up for machines without a screen.

    Raises:
        MissingDependencyError: it is not installed.
    """
    os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
    os.environ.setdefault("PYGLET_HEADLESS", "1")  # pyrender imports a viewer that wants X11
    require("pyrender", user, "pip install pyrender==0.1.45")
    import pyrender

    return pyrender


def offscreen_renderer(size: tuple[int, int], user: str) -> Any:
    """The renderer of this thread, set to an image size.

    There is one, and it is never deleted: pyrender ends the whole EGL display with a renderer, and with it every other
    renderer of the process.

    Args:
        size: (height, width).
        user: who asks, for the message.

    Raises:
        MissingDependencyError: pyrender, or an OpenGL driver, is not installed.
    """
    pyrender = import_pyrender(user)
    renderer = getattr(_own, "renderer", None)
    if renderer is None:
        try:
            renderer = _own.renderer = pyrender.OffscreenRenderer(size[1], size[0])
        except Exception as cause:
            raise MissingDependencyError(
                f"{user}: no off-screen OpenGL context ({type(cause).__name__}: {cause}). "
                "Install libegl1 and libgl1-mesa-dri, and set PYOPENGL_PLATFORM=egl."
            ) from cause
    renderer.viewport_height, renderer.viewport_width = size
    return renderer
