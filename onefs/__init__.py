"""onefs: the laboratory as a directory.

Importing this package is cheap: it loads no numpy, requests, mfusepy or sqlite3.
"""

__version__ = "0.1.0"
