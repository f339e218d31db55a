"""Prefetch: listings are fetched in batches before a walk needs them."""
