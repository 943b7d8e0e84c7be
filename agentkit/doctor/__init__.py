"""`agentkit doctor`: what works, what does not, and what to do about it."""

from __future__ import annotations

from agentkit.doctor.examination import examine, examine_installation, examine_model
from agentkit.doctor.probes import Finding

__all__ = ["Finding", "examine", "examine_installation", "examine_model"]
