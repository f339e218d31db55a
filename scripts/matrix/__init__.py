"""The test suite in other environments: other releases of Python, and Debian 13."""
