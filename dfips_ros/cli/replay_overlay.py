# SPDX-License-Identifier: Apache-2.0
"""The overlays of ``dfips replay object_pose``: each waits until the colour image nearest to its mask is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ..bags.types import make, make_header, nanoseconds_from_stamp
from ..errors import EncodingError
from ..evaluation.figures import axes_origin, draw_overlay
from ..messages.camera import CameraView
from ..messages.image import colour_from_image
from .replay_object import Frame, ReplayedObject
from .replay_run import Output

MAX_IMAGE_OFFSET = 200_000_000  # ns: a colour image that is further from the mask is not its background
AXIS_SHARE = 0.45  # of the diameter
JPEG_QUALITY = 88

OnOverlay = Callable[[Sequence[Frame], np.ndarray], None]


@dataclass(frozen=True, eq=False)
class Drawing:
    """What an overlay is drawn from.

    Attributes:
        frames: of each object.
        recorded: time of recording of the mask, nanoseconds.
        frame_id: of the camera.
        mask: (H, W) of all objects.
        view: the camera.
    """

    frames: Sequence[Frame]
    recorded: int
    frame_id: str
    mask: np.ndarray
    view: CameraView


class ReplayOverlays:
    """Draws what waits as soon as no nearer image can come.

    Args:
        topic: to write.
        objects: whose poses are drawn.
        has_images: the bag holds colour images.
        on_overlay: is called with the frames of a mask, one for each object, and the overlay (H, W, 3) uint8 RGB.
    """

    def __init__(self, topic: str, objects: Sequence[ReplayedObject], has_images: bool, on_overlay: OnOverlay) -> None:
        self.topic = topic
        self._objects, self._has_images, self._on_overlay = objects, has_images, on_overlay
        self._origins = [axes_origin(each.estimator.mesh.vertices) for each in objects]
        self._waiting: list[Drawing] = []
        self._image: Any = None

    def add(self, drawing: Drawing) -> list[Output]:
        """A mask was answered."""
        self._waiting.append(drawing)
        if not self._has_images:
            return self.finish()
        known = 0 if self._image is None else nanoseconds_from_stamp(self._image.header.stamp)
        return self._draw(None, max(known, drawing.frames[0].time - MAX_IMAGE_OFFSET))

    def take_image(self, message: Any) -> Iterator[Output]:
        """A colour image came."""
        yield from self._draw(message, nanoseconds_from_stamp(message.header.stamp))
        self._image = message

    def finish(self) -> list[Output]:
        """Draw all that wait."""
        return self._draw(None, None)

    def _draw(self, newer: Any, until: int | None) -> list[Output]:
        """Draw the overlays of masks up to ``until`` [ns], None: all; ``newer``: an image that came."""
        ready = [d for d in self._waiting if until is None or d.frames[0].time <= until]
        self._waiting = [d for d in self._waiting if until is not None and d.frames[0].time > until]
        return [self._draw_one(drawing, newer) for drawing in ready]

    def _draw_one(self, drawing: Drawing, newer: Any) -> Output:
        colour = self._background(drawing, [image for image in (self._image, newer) if image is not None])
        picture = _grey(drawing.mask) if colour is None else colour
        height, width = drawing.mask.shape
        camera_matrix = drawing.view.camera_matrix
        for each, frame, origin in zip(self._objects, drawing.frames, self._origins, strict=True):
            pose = frame.T_camera_object
            if pose is not None:
                silhouette = each.estimator.render_mask(pose, camera_matrix, (height, width))
                length = AXIS_SHARE * each.estimator.mesh.diameter
                picture = draw_overlay(picture, silhouette, pose, camera_matrix, length, origin, frame.state)
        inset = None if colour is None else drawing.mask
        worst = min((frame.state for frame in drawing.frames), key=("LOST", "INITIALISING", "TRACKING").index)
        picture = draw_overlay(picture, None, None, camera_matrix, 0.0, state=worst, lines=self._lines(drawing),
                               mask=inset)  # fmt: skip
        self._on_overlay(drawing.frames, picture)
        _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        header = make_header(drawing.frames[0].time, drawing.frame_id)
        message = make("sensor_msgs/msg/CompressedImage", header=header, format="bgr8; jpeg compressed bgr8",
                       data=data.ravel())  # fmt: skip
        return Output(self.topic, message, drawing.recorded)

    def _lines(self, drawing: Drawing) -> list[str]:
        """The text: of one object two lines, of several one for each below the time."""
        seconds = 1e-9 * (drawing.frames[0].time - self._objects[0].frames[0].time)
        told = [
            frame.reason if frame.T_camera_object is None else f"IoU {frame.iou:.3f}   {frame.reason}"
            for frame in drawing.frames
        ]
        if len(told) == 1:
            return [f"{self._objects[0].name}   {seconds:6.2f} s   {drawing.frames[0].state}", *told]
        rows = zip(self._objects, drawing.frames, told, strict=True)
        return [f"{seconds:6.2f} s", *(f"{each.name}   {frame.state}   {text}" for each, frame, text in rows)]

    def _background(self, drawing: Drawing, images: list[Any]) -> np.ndarray | None:
        """The colour image nearest to a mask, as the pinhole camera sees it, RGB; None where none can be used."""

        def offset(image: Any) -> int:
            return abs(nanoseconds_from_stamp(image.header.stamp) - drawing.frames[0].time)

        near = min(images, key=offset, default=None)
        if near is None or offset(near) > MAX_IMAGE_OFFSET:
            return None
        try:
            colour = _colour(near)
        except (EncodingError, cv2.error):
            return None
        height, width = drawing.mask.shape
        if colour.shape[:2] != (height, width):
            return cv2.resize(colour, (width, height), interpolation=cv2.INTER_AREA)
        return drawing.view.rectify_image(colour)


def _colour(message: Any) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an Image or a CompressedImage."""
    if not hasattr(message, "format"):
        return np.ascontiguousarray(colour_from_image(message, "rgb"))
    pixels = cv2.imdecode(np.asarray(message.data, dtype=np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise EncodingError(f"image of format '{message.format}': cannot be decoded.")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _grey(mask: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) of the mask alone."""
    return np.repeat((40 + mask.view(np.uint8) * np.uint8(85))[..., None], 3, axis=2)
