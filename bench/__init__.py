"""Benchmarks: each compares the service with a baseline in the same run."""
