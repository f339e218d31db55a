"""The client of Alyx: its requests, pages and rows, the log-in, and the limit of its rate."""
