"""Cross-references: typed links between nodes of different structures, found from either end."""
