"""Contract suites, fakes and replay tools; importable by tests only."""
