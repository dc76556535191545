"""Inverse problems solved with learned feedback, over ROS 2."""
