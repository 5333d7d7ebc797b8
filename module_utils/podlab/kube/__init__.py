"""Kubernetes' objects and arithmetic. Pure: no files, no kernel."""
