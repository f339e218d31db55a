"""Where the bytes of datasets come from."""
