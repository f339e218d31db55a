"""ONE-api's own tests with ``onefs.ONE`` in the place of its class."""
