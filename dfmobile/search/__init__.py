"""Floor 6: spend trainings only where the latency table and the partial order say they can pay."""
