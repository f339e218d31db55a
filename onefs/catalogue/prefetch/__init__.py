"""Listings that are fetched in batches before a walk asks for them."""
