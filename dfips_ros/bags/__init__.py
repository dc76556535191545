# SPDX-License-Identifier: Apache-2.0
"""rosbag2 recordings (mcap and sqlite3), read and written without ROS through the PyPI package ``rosbags``."""
