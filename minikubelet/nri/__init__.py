"""The Node Resource Interface: plugins that watch and adjust containers, over one socket."""
