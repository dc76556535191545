# SPDX-License-Identifier: Apache-2.0
"""Every publisher and subscription of the nodes takes its quality of service from parameters."""

from __future__ import annotations

import pytest

rclpy = pytest.importorskip("rclpy")
pytestmark = pytest.mark.ros

from rclpy.lifecycle import LifecycleNode  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import DurabilityPolicy, HistoryPolicy, ReliabilityPolicy  # noqa: E402
from std_msgs.msg import Empty  # noqa: E402

from dfips_ros.nodes import ros_api  # noqa: E402

ENDPOINTS = {
    f"{node}.{name}": endpoint for node, tables in ros_api.NODES.items() for name, endpoint in tables.endpoints.items()
}


@pytest.fixture(scope="module")
def context(ros_domain):
    context = rclpy.Context()
    rclpy.init(context=context)
    yield context
    context.try_shutdown()


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS)
def test_overrides_reach_the_endpoint(context, endpoint):
    """The opposite of each default is asked for, and read back from the endpoint."""
    topic = endpoint.topic.replace("~", "/holder") if endpoint.topic[0] in "~/" else f"/{endpoint.topic}"
    side = "subscription" if endpoint.direction == "in" else "publisher"
    wanted = {
        "depth": endpoint.depth + 7,
        "reliability": "best_effort" if endpoint.reliable else "reliable",
        "durability": "volatile" if endpoint.latched else "transient_local",
    }
    prefix = f"qos_overrides.{topic}.{side}"
    given = [Parameter(f"{prefix}.{policy}", value=value) for policy, value in wanted.items()]
    node = LifecycleNode("holder", context=context, parameter_overrides=given)
    try:
        kind = Empty if endpoint.message_type is None else None
        if side == "subscription":
            made = endpoint.subscription(node, lambda _: None, kind)
            infos = node.get_subscriptions_info_by_topic(topic)
        else:
            made = endpoint.publisher(node, kind)
            infos = node.get_publishers_info_by_topic(topic)
        assert made.topic_name == topic and infos
        qos = infos[0].qos_profile  # as the middleware has it; it does not tell the depth
        assert (qos.reliability, qos.durability) == (
            ReliabilityPolicy.BEST_EFFORT if endpoint.reliable else ReliabilityPolicy.RELIABLE,
            DurabilityPolicy.VOLATILE if endpoint.latched else DurabilityPolicy.TRANSIENT_LOCAL,
        )
        assert node.get_parameter(f"{prefix}.depth").value == wanted["depth"]
        assert node.get_parameter(f"{prefix}.history").value == HistoryPolicy.KEEP_LAST.short_key
    finally:
        node.destroy_node()
