# SPDX-License-Identifier: Apache-2.0
"""The tests' own node, and any lifecycle node in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

WAIT = 20.0
COMPILE = 100.0  # on a machine where nothing is compiled yet, configuring takes its time
START = 90.0  # a node imports torch first; on a busy machine that takes long
AGAIN = 5.0  # a message that has not been answered by then was lost
LOST = 8.0  # an answer that has not come by then may never come, see Client.call


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

    def ask(self, send, answer, what, timeout=WAIT, patience=AGAIN):
        """Send, and again whenever ``patience`` is over, until ``answer`` gives one. -> the answer."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            send()
            again = min(time.monotonic() + patience, end)
            while time.monotonic() < again:
                value = answer()
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
            return self.process.wait(START)
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

    def discover(self, *publishers):
        """Wait until this side knows the node's subscriptions and publishers.

        The node discovers in its own time: what must arrive before it has answered once is to be sent again, see
        Client.ask.
        """
        for publisher in publishers:
            what = f"subscription of {publisher.topic_name}"
            self.wait(lambda p=publisher: p.get_subscription_count() > 0, what, COMPILE)
        for subscription in self.subscriptions:
            what = f"publisher of {subscription.topic_name}"
            self.wait(lambda s=subscription: s.get_publisher_count() > 0, what, START)

    def wait(self, condition, what, timeout):
        """As Client.wait; what the node printed is told when it is in vain."""
        try:
            return self.client.wait(condition, what, timeout)
        except AssertionError as error:
            said = self.output()[-3000:]
            raise AssertionError(f"{error}; exit code {self.process.poll()}, it said: {said}") from None

    def status(self, condition, what, send=lambda: None):
        """Wait for a diagnostic status of this node that fulfils a condition; ``send`` is called, and again."""

        def find():
            for array in reversed(list(self.client.received["diagnostics"])):
                for status in array.status:
                    if status.name == self.name and condition(status):
                        return status
            return None

        return self.client.ask(send, find, f"diagnostic: {what}", START)
