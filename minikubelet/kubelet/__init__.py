"""Pod manifests in, running and probed pods out, over any CRI socket."""
