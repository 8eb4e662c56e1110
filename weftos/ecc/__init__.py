"""The cognitive layer: semantic memory, the causal graph, and what keeps both in step. Pure: no process, no ring."""
