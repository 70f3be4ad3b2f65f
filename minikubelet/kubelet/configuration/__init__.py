"""KubeletConfiguration v1beta1: file, drop-ins and flags become :class:`KubeletConfig`."""
