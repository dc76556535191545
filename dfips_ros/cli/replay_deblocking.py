# SPDX-License-Identifier: Apache-2.0
"""``dfips replay deblocking``: the JPEG images of a bag, restored."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from ..tasks.deblocking import JpegRestorer
    from ..tasks.deblocking.restorer import Restoration
    from .replay_run import Output
    from .view_report import Report

DESCRIPTION = """\
Restore the JPEG images of a recording: a rosbag2 file or folder in, another one out, without ROS.

Does what the node image_restorer does with its default parameters, for every CompressedImage of IN. OUT gets the
restored images with the headers and times of IN. --view writes report.html, with the images that were hardest.

Exit status 1 when the bag is damaged in the middle; what was read until then is written.

examples:
  dfips replay deblocking in.mcap out.mcap
  dfips replay deblocking recording/ out.mcap --image-topic /camera/image_raw/compressed --view out/view
"""

COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
KINDS = {"RESTORED": "good", "REFUSED": "bad"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from .replay_run import add_arguments as add_common

    add_common(parser, "/image_restorer")
    parser.add_argument("--image-topic", metavar="TOPIC", help="JPEG images (the only CompressedImage)")
    parser.add_argument("--consistency", default="exact", choices=["exact", "project", "off"],
                        help="how strictly the luminance must explain the JPEG (exact)")  # fmt: skip
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights file (those that ship)")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="where the solver runs")


def run(options: argparse.Namespace) -> int:
    """Replay one bag."""
    from ..bags.reader import Bag
    from ..tasks.deblocking import JpegRestorer
    from .replay_run import check_arguments, conclude, pass_through

    check_arguments(options)
    with Bag(options.bag) as bag:
        topic = bag.choose(COMPRESSED_IMAGE, options.image_topic, "--image-topic")
        bag.check_definition(topic)
        restorer = JpegRestorer(options.weights, options.device, options.consistency)
        pipeline = DeblockingReplay(topic.name, options.namespace, restorer, options.view is not None)
        passage = pass_through(bag, pipeline, options)
        content = pipeline.summary()
        rows = [f"{label}: {value}" for label, value in facts(content)]
        return conclude(options, "deblocking", bag, passage, content, rows, pipeline.report(options, content))


@dataclass(frozen=True)
class Picture:
    """What became of one image: its time [ns], and the figures of :class:`Restoration`; None when it was refused."""

    time: int
    found: tuple[float, float, float, float] | None


class DeblockingReplay:
    """Restores each image as the node ``image_restorer`` does.

    Args:
        topic: to read.
        namespace: before the topic that is written.
        restorer: the solver.
        keep_stills: keep pictures of those images that agree least with their JPEG.
    """

    def __init__(self, topic: str, namespace: str, restorer: JpegRestorer, keep_stills: bool) -> None:
        from ..messages.stream import MaskStream
        from .view_video import Stills

        self._restorer, self._stream = restorer, MaskStream()
        self._topic, self._out = topic, f"{namespace}/restored"
        self._stills = Stills() if keep_stills else None
        self.pictures: list[Picture] = []
        self.late = 0

    @property
    def inputs(self) -> set[str]:
        """Topics to read."""
        return {self._topic}

    @property
    def outputs(self) -> set[str]:
        """Topics to write."""
        return {self._out}

    def take(self, topic: str, message: Any, time: int) -> Iterable[Output]:
        """Restore one image. Raises as :class:`~.replay_run.Pipeline` says."""
        from ..bags.types import make, nanoseconds_from_stamp
        from ..errors import EncodingError
        from ..messages.image import image_fields
        from ..messages.stream import Arrival
        from .replay_run import Output

        stamp = nanoseconds_from_stamp(message.header.stamp)
        if self._stream.receive(1e-9 * stamp if stamp else None, 1e-9 * time) is Arrival.LATE:
            self.late += 1
            return ()
        self.pictures.append(Picture(stamp or time, None))
        kind = message.format.lower()
        if kind and "jpeg" not in kind and "jpg" not in kind:
            raise EncodingError(f"format '{message.format}': expected jpeg.")
        data = bytes(message.data)
        found = self._restorer.solve(data)
        figures = (found.residual_norms[0], found.residual_norms[-1], found.agreement, 1e3 * found.seconds)
        self.pictures[-1] = Picture(stamp or time, figures)
        if self._stills is not None:
            self._keep(data, found, stamp or time)
        encoding = "mono8" if found.image.ndim == 2 else "rgb8"
        image = make("sensor_msgs/msg/Image", header=message.header, **image_fields(found.image, encoding))
        return (Output(self._out, image, time),)

    def finish(self) -> Iterable[Output]:
        """Nothing is left over."""
        return ()

    def _keep(self, data: bytes, found: Restoration, time: int) -> None:
        """Offer the middle of an image, before and after, as a still."""
        import cv2
        import numpy as np

        assert self._stills is not None
        before = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if before is None or before.shape[:2] != found.image.shape[:2]:
            return
        after = cv2.cvtColor(found.image, cv2.COLOR_GRAY2RGB) if found.image.ndim == 2 else found.image
        rows, columns = (slice(max(n // 2 - 60, 0), n // 2 + 60) for n in after.shape[:2])
        pair = np.hstack([cv2.cvtColor(before, cv2.COLOR_BGR2RGB)[rows, columns], after[rows, columns]])
        seconds = 1e-9 * (time - self.pictures[0].time)
        caption = f"{seconds:.2f} s: JPEG left, restored right; {100 * found.agreement:.2f} % of the coefficients agree"
        self._stills.add(time, 1.0 - found.agreement, caption, pair)

    def summary(self) -> dict:
        """The figures, ready for JSON."""
        from .demo_report import statistics

        found = [picture.found for picture in self.pictures if picture.found is not None]
        return {
            "topics": {"image": self._topic},
            "images": len(self.pictures),
            "restored": len(found),
            "late_images": self.late,
            "residual_before": statistics([f[0] for f in found], (50,)),
            "residual_after": statistics([f[1] for f in found], (50,)),
            "agreement": statistics([f[2] for f in found], (50, 5)),
            "solve_ms": statistics([f[3] for f in found], (50, 99)),
        }

    def report(self, options: argparse.Namespace, content: dict) -> Report:
        """What ``--view`` shows."""
        import numpy as np

        from .view_plots import Plot
        from .view_report import Report

        nothing = (float("nan"),) * 4
        values = np.array([picture.found or nothing for picture in self.pictures]).reshape(-1, 4)
        first = self.pictures[0].time if self.pictures else 0
        residuals: tuple[tuple[str, np.ndarray], ...] = (
            ("of the decoded JPEG", values[:, 0]), ("restored", values[:, 1]),
        )  # fmt: skip
        return Report(
            title=f"Restored images of {self._topic}",
            subtitle=f"{options.bag}, replayed into {options.out}",
            facts=facts(content),
            time=np.array([1e-9 * (picture.time - first) for picture in self.pictures]),
            states=["REFUSED" if picture.found is None else "RESTORED" for picture in self.pictures],
            kinds=KINDS,
            plots=(
                Plot("Residual of the luminance, encoded again [grey levels]", residuals, low=0.0),
                Plot("Share of JPEG coefficients that agree", (("agreement", values[:, 2]),), high=1.0),
                Plot("Solve time [ms]", (("solve time", values[:, 3]),), low=0.0),
            ),
            stills=() if self._stills is None else self._stills.worst(),
        )


def facts(content: dict) -> list[tuple[str, str]]:
    """Label and value of each figure."""
    from .replay_run import pair

    found = [
        ("images", f"{content['images']} from {content['topics']['image']}"),
        ("restored", f"{content['restored']}"),
        ("coefficients that agree, median / p5", pair(content["agreement"], ("median", "p5"), ".4f")),
        ("solve time median / p99", f"{pair(content['solve_ms'], ('median', 'p99'), '.1f')} ms"),
    ]
    if content["late_images"]:
        found.append(("left out", f"{content['late_images']} images whose stamp is not newer than the one before"))
    return found
