"""Sources of bytes: what can be asked for a range of a dataset's replica.

================  ===============================================================
``interface``     :class:`Source`: the protocol, its requests, bodies and errors
``by_scheme``     :class:`SourcesByScheme`: chooses the source of a URL
``http``          :class:`HttpSource`: file servers with http and https
``http_answer``   interprets an HTTP answer to a request for bytes
================  ===============================================================

``tests/download/sources`` has the tests that each source must pass.
"""
