"""Latency: measure model files, keep the measurements in a table, predict networks from it.

Floor 5: knows graphs, architectures, exporters, runtimes and devices; knows nothing of accuracy or of searching.
"""
