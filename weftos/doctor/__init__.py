"""What this machine and this instance offer, measured: what works, what is weaker than elsewhere, and what fails."""

from weftos.doctor.examine import AREAS, examine
from weftos.doctor.findings import Finding, Report

__all__ = ["AREAS", "Finding", "Report", "examine"]
