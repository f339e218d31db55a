"""Downloads from file servers: replicas, circuit breakers, the quota, and whole files."""
