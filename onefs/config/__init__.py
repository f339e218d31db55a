"""Settings, secrets, and the permissions of the files that hold them."""
