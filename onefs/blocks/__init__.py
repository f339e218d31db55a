"""Partial files of large datasets: their blocks, read-ahead, download and verification."""
