"""Rebuild what dvc.lock records, and say where two builds part."""
