"""Downloads: file servers and replicas, their circuit breakers, the quota, whole files."""
