"""The tree of resources: what exists, who may do what with it, and one hash that binds it. Pure logic over deltas."""
