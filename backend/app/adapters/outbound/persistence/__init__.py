"""The stores, a folder each, behind the same ports."""
