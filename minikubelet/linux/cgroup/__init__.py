"""cgroup v2: one controller a file. Each turns settings into ``{file: content}`` and reads its statistics."""
