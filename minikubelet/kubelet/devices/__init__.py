"""Devices that plugins bring (v1beta1): registered over a socket, given to containers one by one."""
