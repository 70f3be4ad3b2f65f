"""What a kubelet counts, and Prometheus' text format."""
