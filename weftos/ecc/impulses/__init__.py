"""Impulses: what one structure tells another, queued until it was worked off."""
