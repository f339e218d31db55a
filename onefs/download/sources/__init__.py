"""Sources of bytes: what can be asked for a range of a dataset's replica.

================  ===============================================================
``interface``     :class:`Source`: the protocol, its requests, bodies and errors
``by_scheme``     :class:`SourcesByScheme`: chooses the source of a URL
``http``          :class:`HttpSource`: file servers with http and https
``http_answer``   interprets an HTTP answer to a request for bytes
``s3``            :class:`S3Source`: buckets
``s3_client``     addresses, redirects and error answers of S3
``s3_signing``    signatures, with botocore
``s3_own_keys``   the keys of the user's AWS configuration
``s3_buckets``    the buckets of Alyx's repositories
``s3_listing``    :class:`S3Lister`: lists the keys of a bucket
================  ===============================================================

``tests/download/sources`` has the tests that each source must pass.
"""
