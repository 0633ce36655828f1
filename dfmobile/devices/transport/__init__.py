"""Transports: how files and commands reach a device. ``base`` is the contract; one module a transport."""
