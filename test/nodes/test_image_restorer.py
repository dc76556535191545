# SPDX-License-Identifier: Apache-2.0
"""The node image_restorer over the real middleware, in a process of its own, with the weights that ship."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytestmark = pytest.mark.ros

from builtin_interfaces.msg import Time  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from PIL import Image as Picture  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402

from dfips_ros.tasks.deblocking import JpegRestorer  # noqa: E402
from dfips_ros.tasks.deblocking.restorer import LUMINANCE  # noqa: E402

NAME = "/camera/image_restorer"
ERROR = b"\x02"


def jpeg(height=60, width=84, colour=True, kind="JPEG"):
    y, x = np.mgrid[:height, :width]
    planes = [np.uint8(127 + 100 * np.sin(x / (7.0 + i) + y / 11.0)) for i in range(3)]
    out = io.BytesIO()
    Picture.fromarray(np.dstack(planes) if colour else planes[0]).save(out, kind, quality=20)
    return out.getvalue()


def message(data, stamp, kind="rgb8; jpeg compressed bgr8"):
    made = CompressedImage(format=kind)
    made.header.frame_id = "camera_optical_frame"
    made.header.stamp = Time(sec=int(stamp), nanosec=int(stamp % 1.0 * 1e9))
    made.data = data
    return made


def seconds(header):
    return header.stamp.sec + 1e-9 * header.stamp.nanosec


@pytest.fixture(scope="module")
def restorer(client, lifecycle_process):
    publisher = client.node.create_publisher(CompressedImage, f"{NAME}/image/compressed", QoSProfile(depth=1))
    topics = {"restored": (Image, f"{NAME}/restored"), "diagnostics": (DiagnosticArray, "/diagnostics")}
    parameters = {"diagnostics_period": 0.1, "device": "cpu"}
    node = lifecycle_process(client, ["-m", "dfips_ros.nodes.image_restorer"], NAME, parameters, topics)
    node.publisher, node.stamp = publisher, 100.0
    first_answer(node)
    yield node
    assert node.stop() == 0, node.output()
    assert "Traceback" not in node.output()


def first_answer(node):
    """Publish until an image comes back: each side learns of the other in its own time."""
    node.discover(node.publisher)
    before, end = len(node.client.received["restored"]), time.monotonic() + 30.0
    while len(node.client.received["restored"]) == before:
        assert time.monotonic() < end, f"no image came back: {node.output()}"
        send(node, jpeg(), wait=False)
        time.sleep(0.5)


def send(node, data, kind="jpeg", wait=True):
    """Publish; the restored image of that stamp."""
    node.stamp += 0.1
    stamp = node.stamp
    node.publisher.publish(message(data, stamp, kind))

    def answer():
        found = [m for m in list(node.client.received["restored"]) if abs(seconds(m.header) - stamp) < 1e-4]
        return found[0] if found else None

    return node.client.wait(answer, "a restored image") if wait else stamp


def test_restored_images_have_the_header_and_are_those_of_the_api(restorer):
    plain = JpegRestorer(device="cpu")
    for colour, encoding in ((True, "rgb8"), (False, "mono8")):
        data = jpeg(colour=colour)
        found = send(restorer, data)
        assert (found.header.frame_id, found.encoding, found.height, found.width) == (
            "camera_optical_frame", encoding, 60, 84,
        )  # fmt: skip
        pixels = np.frombuffer(bytes(found.data), np.uint8).reshape((60, 84, 3) if colour else (60, 84))
        # another number of threads adds up in another order
        assert np.abs(pixels.astype(int) - plain.restore(data)).max() <= 2

    def restored(status):
        counts = [int(pair.value) for pair in status.values if pair.key == "images restored"]
        return status.message.startswith("restoring") and counts[0] >= 2

    status = restorer.status(restored, "restoring two images", lambda: send(restorer, jpeg(), wait=False))
    values = {pair.key: pair.value for pair in status.values}
    assert float(values["coefficients that agree (%)"]) > 95.0
    assert float(values["solve time median (ms)"]) > 0.0


@pytest.mark.parametrize(
    ("data", "kind", "reason"),
    [
        (jpeg(kind="PNG"), "png", "format 'png': expected jpeg"),
        (jpeg(kind="PNG"), "jpeg", "expected a JPEG"),
        (b"", "jpeg", "expected a JPEG"),
        (jpeg()[:300], "jpeg", "cut short"),
        (jpeg()[:-200], "jpeg", "cut short"),
    ],
)
def test_what_is_no_jpeg_is_refused_with_a_reason_and_the_node_lives_on(restorer, data, kind, reason):
    send(restorer, data, kind, wait=False)
    restorer.status(lambda s: s.level == ERROR and reason in s.message, reason)
    assert send(restorer, jpeg()).width == 84


def test_the_newest_image_wins(restorer):
    """Many large images in a burst: few answers, in order, the last among them."""
    data = jpeg(480, 640)
    sent = [send(restorer, data, wait=False) for _ in range(30)]
    last = sent[-1]

    def stamps():
        return [s for m in list(restorer.client.received["restored"]) if (s := seconds(m.header)) > sent[0] - 0.01]

    restorer.client.wait(lambda: any(abs(s - last) < 1e-4 for s in stamps()), "the last image", 60.0)
    time.sleep(0.2)
    assert len(stamps()) < 25 and stamps() == sorted(stamps())


def test_lifecycle_and_wrong_parameters(restorer):
    assert restorer.change("deactivate")
    restorer.status(lambda s: "inactive: not restoring" in s.message, "inactive")
    assert restorer.change("cleanup")
    assert restorer.set_parameters(weights="/nowhere.safetensors") == []
    assert not restorer.change("configure")
    restorer.status(lambda s: s.level == ERROR and "no file '/nowhere.safetensors'" in s.message, "no weights")
    (refused,) = restorer.set_parameters(consistency="maybe")
    assert "allowed is 'exact' | 'project' | 'off'" in refused
    assert restorer.set_parameters(weights=str(LUMINANCE)) == []
    assert restorer.change("configure") and restorer.change("activate")
    first_answer(restorer)
    assert send(restorer, jpeg()).width == 84
