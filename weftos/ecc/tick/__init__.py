"""The cognitive tick: when it comes (the controller), and what it does (the five phases)."""
