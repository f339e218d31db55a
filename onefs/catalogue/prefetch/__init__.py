"""Prefetch: fetches listings in batches before a program needs these listings."""
