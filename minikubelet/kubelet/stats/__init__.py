"""What pods and the node use, in the shape of upstream's /stats/summary."""
