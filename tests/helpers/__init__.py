"""Code that several tests use. It contains no tests."""
