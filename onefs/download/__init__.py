"""From which server a file is downloaded, and within which limits."""
