"""A fuzzer of everything that comes from outside: see ``README.md`` in this folder."""
