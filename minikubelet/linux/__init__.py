"""The only ctypes: typed, policy-free wrappers over system calls and kernel files."""
