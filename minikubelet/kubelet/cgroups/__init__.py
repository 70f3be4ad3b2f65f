"""The cgroups that pods live in: by QoS class, with what a pod as a whole may use."""
