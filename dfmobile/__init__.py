"""Know how fast a neural network will be on your device before you train it, then find the best one."""

__version__ = "0.1.0.dev0"
