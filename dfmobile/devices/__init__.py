"""Devices: what runs the models, how to reach it, and in what state it is.

Floor 2: knows files and commands of a device; knows nothing of graphs, models or latency.
"""
