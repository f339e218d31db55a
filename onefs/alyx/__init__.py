"""The client of Alyx: requests, pagination, parsing of rows, tokens, and the rate limit."""
