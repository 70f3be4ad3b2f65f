"""References, registry client, content store, unpacking."""
