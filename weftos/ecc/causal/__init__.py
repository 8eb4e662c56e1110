"""The causal graph: typed weighted edges with their provenance, walks, spectra, prediction, and its journal on disk."""
