"""From the bytes of a manifest to checked pods, with errors a person can act on."""
