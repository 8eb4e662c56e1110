"""What ties vectors and graph together: universal ids, cross-references, impulses, the cognitive tick, calibration."""
