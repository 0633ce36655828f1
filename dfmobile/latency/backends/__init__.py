"""Backends: runtimes that time a model file on a device. ``base`` is the plug point."""
