# SPDX-License-Identifier: Apache-2.0
"""Publishes the overlay, and subscribes to colour images, only while somebody listens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from ..errors import EncodingError
from . import conversions
from .endpoints import ENDPOINTS
from .object_track import Answer
from .overlay import draw_estimate, draw_text, overlay_background

# A colour image that is further from the mask in time is not shown.
MAX_IMAGE_OFFSET_SECONDS = 0.2


class OverlayPublisher:
    """Draws the estimates over the newest colour image, or over the masks where there is none.

    Args:
        node: creates and destroys the image subscription.
        publisher: of ``~/overlay``.
    """

    def __init__(self, node: LifecycleNode, publisher: Any) -> None:
        self._node = node
        self._publisher = publisher
        self._subscription: Any = None
        self._image: Image | None = None
        self.image_problem = ""

    @property
    def is_wanted(self) -> bool:
        """True while somebody listens to the overlay."""
        return bool(self._publisher.get_subscription_count() > 0)

    def stop(self) -> None:
        """Unsubscribe from the colour images."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._subscription = None
        self._image = None

    def publish(
        self,
        header: Header,
        masks: Sequence[np.ndarray],
        view: conversions.CameraView,
        answers: Sequence[Answer],
    ) -> None:
        """Draw and publish; does nothing when nobody listens.

        Args:
            header: stamp and frame of the masks.
            masks: (H, W) bool, as the solver saw them.
            view: the camera of those masks.
            answers: of each object: its estimate is drawn, state and reason are one line of text.
        """
        if not self.is_wanted:
            self.stop()
            return
        if self._subscription is None:
            self._subscription = ENDPOINTS["image"].subscription(self._node, self._on_image)
        union = np.zeros(view.size, bool)
        for mask in masks:
            union |= mask
        canvas = overlay_background(union, self._colour(header, view))
        for line, answer in enumerate(answers):
            if answer.solution is not None:
                estimator, pose = answer.track.estimator, np.asarray(answer.solution.T_camera_object)
                simulated = np.asarray(estimator.render_mask(pose, view.camera_matrix, view.size))
                draw_estimate(canvas, simulated, pose, view.camera_matrix, 0.6 * estimator.mesh.diameter)
            text = f"{answer.track.name}: {answer.track.state.name} {answer.message.reason}"
            draw_text(canvas, text if line or not self.image_problem else f"{text} | image: {self.image_problem}", line)
        self._publisher.publish(conversions.image_from_array(canvas, header))

    def _on_image(self, message: Image) -> None:
        self._image = message

    def _colour(self, header: Header, view: conversions.CameraView) -> np.ndarray | None:
        """The newest colour image as the pinhole camera sees it, if it fits the mask in time and shape."""
        self.image_problem = ""
        if self._image is None:
            return None
        stamps = (conversions.seconds_from_stamp(each) for each in (header.stamp, self._image.header.stamp))
        if abs(next(stamps) - next(stamps)) > MAX_IMAGE_OFFSET_SECONDS:
            return None
        try:
            colour = conversions.colour_from_image(self._image)
        except EncodingError as error:
            self.image_problem = str(error)
            return None
        same_size = colour.shape[:2] == view.size
        return view.rectify_image(colour) if same_size else colour
