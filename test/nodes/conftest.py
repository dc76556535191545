# SPDX-License-Identifier: Apache-2.0
"""A node under test in its own process, a client in this one, and the real middleware between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
FRAME = "camera_optical_frame"
SIZE = (120, 160)
WAIT = 20.0
COMPILE = 100.0  # on a machine where nothing is compiled yet, configuring takes its time
START = 60.0  # a node imports torch first; on a busy machine that takes long
LOST = 8.0  # an answer that has not come by then may never come, see Client.call


@pytest.fixture(scope="session", autouse=True)
def ros_domain():
    """A domain of its own for each test run, on this machine only."""
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ["ROS_DOMAIN_ID"] = str(os.getpid() % 100 + 1)
    return os.environ["ROS_DOMAIN_ID"]


@pytest.fixture(scope="session")
def box_mesh(tmp_path_factory):
    """A box of 10 x 6 x 3 cm as an STL file."""
    trimesh = pytest.importorskip("trimesh")
    path = tmp_path_factory.mktemp("mesh") / "box.stl"
    trimesh.creation.box((0.10, 0.06, 0.03)).export(path)
    return str(path)


@pytest.fixture(scope="session")
def client(ros_domain):
    """The test's own node, spinning in a thread."""
    pytest.importorskip("rclpy")
    client = Client()
    yield client
    client.close()


@pytest.fixture(scope="session")
def stand_in(client, box_mesh):
    """The node with the stand-in solver; left unconfigured between tests."""
    node = NodeProcess(client, [str(HERE / "tracker_process.py")], "/stand_in", {"autostart": False, "mesh": box_mesh})
    yield node
    assert node.stop() == 0, node.output()


@pytest.fixture
def tracker(stand_in, box_mesh):
    """The node with the stand-in solver, active, with default parameters."""
    stand_in.unconfigure()
    stand_in.set_parameters(mesh=box_mesh, **DEFAULTS)
    assert stand_in.change("configure") and stand_in.change("activate")
    stand_in.handshake()
    yield stand_in
    stand_in.unconfigure()


DEFAULTS = {
    "mask_mode": "binary",
    "label_value": 1,
    "distortion": "rectify",
    "publish_tf": True,
    "publish_markers": True,
    "lost_iou": 0.6,
    "lost_frames": 3,
    "init_iou": 0.8,
    "min_mask_pixels": 64,
    "diagnostics_period": 0.1,
    "camera_info_timeout": 0.5,
    "mesh_scale": 1.0,
    "object_name": "",
}


class Client:
    """Publishes masks and camera_info, keeps what the node publishes, calls its services."""

    def __init__(self):
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("test_client", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.received = {}
        self._service_clients = {}
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self):
        from rclpy.executors import ExternalShutdownException

        try:
            self.executor.spin()
        except ExternalShutdownException:
            pass

    def close(self):
        self.context.try_shutdown()
        self._thread.join(5.0)

    def listen(self, name, message_type, topic, qos=10):
        messages = self.received.setdefault(name, [])
        return self.node.create_subscription(message_type, topic, messages.append, qos)

    def forget(self):
        for messages in self.received.values():
            messages.clear()

    def call(self, service_type, name, request, timeout=START, resend=True):
        """The answer; None when it did not come and the request must not be sent twice.

        A server that has not yet discovered this side's reader of answers drops its answer ("client will not receive
        response"). So clients are kept, and what may be asked twice is asked again.
        """
        client = self._service_clients.get((service_type, name))
        if client is None:
            client = self._service_clients[service_type, name] = self.node.create_client(service_type, name)
        assert client.wait_for_service(START), f"service {name} is not there"
        done, end, futures = threading.Event(), time.monotonic() + timeout, []
        while not done.is_set() and time.monotonic() < end:
            futures.append(client.call_async(request))
            futures[-1].add_done_callback(lambda _: done.set())
            done.wait(min(LOST, timeout) if resend else timeout)
        answers = [future.result() for future in futures if future.done()]
        assert answers or not resend, f"service {name} does not answer"
        return answers[0] if answers else None

    def wait(self, condition, what, timeout=WAIT):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            value = condition()
            if value:
                return value
            time.sleep(0.005)
        raise AssertionError(f"waited {timeout} s in vain: {what}")


REACHED = {"configure": "inactive", "activate": "active", "deactivate": "inactive", "cleanup": "unconfigured"}


class LifecycleProcess:
    """A lifecycle node in a process of its own.

    Args:
        client: the test's own node.
        command: Python script or module, and its arguments.
        name: of the node, with its namespace.
        parameters: of the node.
        topics: what the client listens to: name -> (message type, topic, quality of service).
        extra: more ROS arguments.
    """

    def __init__(self, client, command, name, parameters, topics, extra=()):
        self.client, self.name = client, name
        client.forget()
        self.subscriptions = [client.listen(key, *given) for key, given in topics.items()]
        self._log = tempfile.TemporaryFile()
        arguments = ["--ros-args", "-r", f"__ns:={name.rsplit('/', 1)[0] or '/'}", *extra]
        for key, value in parameters.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            arguments += ["-p", f"{key}:={text}"]
        # -P: the source tree must not hide the installed package with its messages
        self.process = subprocess.Popen(
            [sys.executable, *(["-P"] if sys.version_info >= (3, 11) else []), *command, *arguments],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONFAULTHANDLER": "1"},  # where it was, should it crash
        )

    def output(self):
        return os.pread(self._log.fileno(), 1 << 24, 0).decode(errors="replace")

    def stop(self, with_signal=signal.SIGINT):
        self.process.send_signal(with_signal)
        try:
            return self.process.wait(15.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            for subscription in self.subscriptions:
                self.client.node.destroy_subscription(subscription)

    # --- lifecycle and parameters

    def change(self, label):
        """Whether the transition succeeded; when the answer is lost, the state tells."""
        from lifecycle_msgs.srv import ChangeState

        request = ChangeState.Request()
        request.transition.label = label
        answer = self.client.call(ChangeState, f"{self.name}/change_state", request, LOST, resend=False)
        return answer.success if answer is not None else self.state() == REACHED[label]

    def state(self):
        """The node answers one after another: this waits for a transition that is under way."""
        from lifecycle_msgs.srv import GetState

        name = f"{self.name}/get_state"
        return self.client.call(GetState, name, GetState.Request(), COMPILE).current_state.label

    def unconfigure(self):
        state = self.state()
        if state == "active":
            assert self.change("deactivate")
        if state in ("active", "inactive"):
            assert self.change("cleanup")

    def set_parameters(self, **values):
        """Returns the reasons of those that were refused."""
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        request = SetParameters.Request()
        request.parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        name = f"{self.name}/set_parameters"
        results = self.client.call(SetParameters, name, request).results
        return [result.reason for result in results if not result.successful]

    def connect(self, publisher, count=1):
        what = f"subscription of {publisher.topic_name}"
        self.client.wait(lambda: publisher.get_subscription_count() >= count, what, START)
        for subscription in self.subscriptions:
            what = f"publisher of {subscription.topic_name}"
            self.client.wait(lambda s=subscription: s.get_publisher_count() > 0, what, START)
        time.sleep(0.2)  # the other side discovers in its own time; what must arrive is sent again

    def status(self, condition, what):
        """Wait for a diagnostic status of this node that fulfils a condition."""

        def find():
            for array in reversed(list(self.client.received["diagnostics"])):
                for status in array.status:
                    if status.name == self.name and condition(status):
                        return status
            return None

        return self.client.wait(find, f"diagnostic: {what}", START)


class NodeProcess(LifecycleProcess):
    """A pose_tracker in a process of its own."""

    def __init__(self, client, command, namespace, parameters, extra=()):
        from diagnostic_msgs.msg import DiagnosticArray
        from geometry_msgs.msg import PoseWithCovarianceStamped
        from rclpy.qos import QoSProfile
        from sensor_msgs.msg import CameraInfo, Image
        from tf2_msgs.msg import TFMessage

        from dfips_ros.msg import TrackedObject

        name, node = f"{namespace}/pose_tracker", client.node
        topics = {
            "pose": (PoseWithCovarianceStamped, f"{name}/pose"),
            "object": (TrackedObject, f"{name}/tracked_object"),
            "tf": (TFMessage, "/tf", 100),
            "diagnostics": (DiagnosticArray, "/diagnostics"),
        }
        self.stamp = 100.0
        self.mask_publisher = node.create_publisher(Image, f"{name}/mask", QoSProfile(depth=1))
        self.image_publisher = node.create_publisher(Image, f"{name}/image", QoSProfile(depth=1))
        self.info_publisher = node.create_publisher(CameraInfo, f"{name}/camera_info", QoSProfile(depth=1))
        super().__init__(client, command, name, parameters, topics, extra)

    # --- messages

    def camera_info(self, **fields):
        from sensor_msgs.msg import CameraInfo

        height, width = SIZE
        message = CameraInfo(width=width, height=height, distortion_model="plumb_bob", d=[0.0] * 5)
        message.k = [150.0, 0.0, width / 2, 0.0, 150.0, height / 2, 0.0, 0.0, 1.0]
        message.p = [150.0, 0.0, width / 2, 0.0, 0.0, 150.0, height / 2, 0.0, 0.0, 0.0, 1.0, 0.0]
        message.header.frame_id = FRAME
        for name, value in fields.items():
            setattr(message, name, value)
        return message

    def mask(self, centre=(80, 60), half=20, encoding="mono8", value=255, size=SIZE, frame=FRAME, stamp=None):
        """A square mask with the next stamp."""
        from builtin_interfaces.msg import Time
        from sensor_msgs.msg import Image

        kind = {
            "mono8": np.uint8,
            "8UC1": np.uint8,
            "mono16": np.uint16,
            "16UC1": np.uint16,
            "32SC1": np.int32,
        }[encoding]
        pixels = np.zeros(size, dtype=kind)
        if half:
            x, y = centre
            pixels[y - half : y + half, x - half : x + half] = value
        if stamp is None:
            self.stamp += 1.0 / 30.0
            stamp = self.stamp
        message = Image(height=size[0], width=size[1], encoding=encoding, step=size[1] * pixels.itemsize)
        message.header.frame_id = frame
        message.header.stamp = Time(sec=int(stamp), nanosec=int((stamp % 1.0) * 1e9))
        message.data = pixels.tobytes()
        return message

    def handshake(self, info=True):
        """Exchange messages until they arrive in both directions; the tracker sees empty masks only."""
        objects = self.client.received["object"]
        for subscription in self.subscriptions:
            what = f"publisher of {subscription.topic_name}"
            self.client.wait(lambda s=subscription: s.get_publisher_count() > 0, what, START)
        for publisher in (self.mask_publisher, self.info_publisher):
            self.connect(publisher)

        def answered():
            if info:
                self.info_publisher.publish(self.camera_info())
                time.sleep(0.02)
            self.mask_publisher.publish(self.mask(half=0))
            time.sleep(0.03)
            return any(not info or "camera_info" not in each.reason for each in list(objects))

        self.client.wait(answered, f"the first answer of {self.name}", START)
        time.sleep(0.05)
        self.client.forget()

    def send(self, mask=None, info=None, timeout=WAIT):
        """Publish camera_info (unless ``info`` is False) and a mask; wait for the answer to that mask."""
        mask = self.mask() if mask is None else mask
        if info is not False:
            self.info_publisher.publish(self.camera_info() if info is None else info)
            time.sleep(0.02)
        objects = self.client.received["object"]
        stamp = (mask.header.stamp.sec, mask.header.stamp.nanosec)
        self.mask_publisher.publish(mask)

        def answer():
            found = [o for o in list(objects) if (o.header.stamp.sec, o.header.stamp.nanosec) == stamp]
            return found[-1] if found else None

        return self.client.wait(answer, f"tracked_object for the mask of stamp {stamp}", timeout)


class ArmProcess(LifecycleProcess):
    """An ik_solver in a process of its own; this side plays the arm."""

    def __init__(self, client, command, namespace, parameters, extra=()):
        from diagnostic_msgs.msg import DiagnosticArray
        from geometry_msgs.msg import PoseStamped
        from sensor_msgs.msg import JointState
        from std_msgs.msg import Float64MultiArray
        from trajectory_msgs.msg import JointTrajectory
        from visualization_msgs.msg import InteractiveMarkerFeedback

        from dfips_ros.msg import JointSolution

        name, node = f"{namespace}/ik_solver", client.node
        topics = {
            "solution": (JointSolution, f"{name}/solution"),
            "command": (JointState, f"{name}/joint_command", 100),
            "trajectory": (JointTrajectory, f"{name}/joint_trajectory"),
            "array": (Float64MultiArray, f"{name}/commands"),
            "diagnostics": (DiagnosticArray, "/diagnostics"),
        }
        self.targets = node.create_publisher(PoseStamped, f"{name}/target_pose", 10)
        self.markers = node.create_publisher(InteractiveMarkerFeedback, f"{name}/marker_feedback", 10)
        self.joints = node.create_publisher(JointState, f"{namespace}/joint_states", 10)
        super().__init__(client, command, name, parameters, topics, extra)

    def handshake(self):
        """Wait until publishers and subscriptions of both sides know each other."""
        for subscription in self.subscriptions:
            what = f"publisher of {subscription.topic_name}"
            self.client.wait(lambda s=subscription: s.get_publisher_count() > 0, what, START)
        for publisher in (self.targets, self.markers, self.joints):
            self.connect(publisher)
        self.client.forget()

    def be_at(self, names, positions):
        """Publish joint states until the node has them."""
        from sensor_msgs.msg import JointState

        message = JointState(name=[*names, "finger_joint"], position=[*map(float, positions), 0.01])

        def heard():
            self.joints.publish(message)
            time.sleep(0.05)
            arrays = list(self.client.received["diagnostics"])[-3:]
            own = [status.message for array in arrays for status in array.status if status.name == self.name]
            return bool(own) and "a motion cannot begin" not in own[-1]

        self.client.wait(heard, "joint states arrived", START)

    def target(self, pose, frame_id="base_link", age=0.0):
        """A PoseStamped of a matrix (4, 4) or a Pose, stamped now."""
        from geometry_msgs.msg import PoseStamped

        from dfips_ros.nodes.conversions import pose_from_matrix, stamp_from_seconds

        message = PoseStamped(pose=pose_from_matrix(pose) if isinstance(pose, np.ndarray) else pose)
        message.header.frame_id = frame_id
        message.header.stamp = stamp_from_seconds(time.time() - age)
        return message

    def send(self, message, publisher=None):
        """Publish a target, wait for its answer."""
        solutions = self.client.received["solution"]
        count = len(solutions)
        (publisher or self.targets).publish(message)
        self.client.wait(lambda: len(solutions) > count, "an answer on ~/solution")
        return solutions[-1]


def starter(kind):
    """Starts nodes; what a failed test left running ends when the tests end."""
    nodes = []

    def start(*arguments):
        nodes.append(kind(*arguments))
        return nodes[-1]

    yield start
    for node in nodes:
        if node.process.poll() is None:
            node.process.kill()


@pytest.fixture(scope="session")
def node_process():
    """Starts a pose_tracker."""
    yield from starter(NodeProcess)


@pytest.fixture(scope="session")
def arm_process():
    """Starts an ik_solver."""
    yield from starter(ArmProcess)


@pytest.fixture(scope="session")
def lifecycle_process():
    """Starts any lifecycle node."""
    yield from starter(LifecycleProcess)


@pytest.fixture(scope="session")
def arm(arm_urdf):
    """Its estimator, without weights."""
    from dfips_ros.tasks.inverse_kinematics import InverseKinematicsEstimator

    estimator = InverseKinematicsEstimator.from_urdf(arm_urdf, "tool0", "base_link")
    estimator.solve(estimator.forward(np.zeros(6)), np.full(6, 0.1), 0.1)  # compiles, for the nodes too
    return estimator


IK_DEFAULTS = {
    "max_joint_speed": 2.0,
    "max_joint_step": 0.5,
    "target_timeout": 0.5,
    "joint_states_timeout": 3600.0,
    "hold_time": 0.3,
    "timeout": 0.2,
    "publish_trajectory": False,
    "publish_array": False,
    "return_approximate": False,
    "diagnostics_period": 0.1,
}


@pytest.fixture(scope="session")
def ik_process(client, arm_file, arm):
    """The node ik_solver for the arm; left unconfigured between tests."""
    parameters = {"autostart": False, "urdf": arm_file, "tip": "tool0", "base": "base_link", "diagnostics_period": 0.1}
    node = ArmProcess(client, ["-m", "dfips_ros.nodes.ik_solver"], "/arm", parameters)
    yield node
    assert node.stop() == 0, node.output()


@pytest.fixture
def solver(ik_process, arm):
    """The node ik_solver, active, the arm at REST."""
    ik_process.unconfigure()
    ik_process.set_parameters(**IK_DEFAULTS)
    assert ik_process.change("configure") and ik_process.change("activate"), ik_process.output()
    ik_process.handshake()
    ik_process.be_at(arm.joint_names, REST)
    ik_process.client.forget()
    yield ik_process
    ik_process.unconfigure()


REST = np.array([0.3, -0.6, 1.1, 0.4, -0.7, 0.8])


@pytest.fixture
def rest():
    """Where the arm of ``solver`` is."""
    return REST
