# SPDX-License-Identifier: Apache-2.0
"""What messages say, in numpy and without ROS: any object with a message's fields will do, from rclpy or from a bag."""
